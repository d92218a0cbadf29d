"""Bayesian segmentation of brain tumours, with uncertainty in voxels and millilitres.

Importing the package registers every layer, loss and metric with `tf_keras`, so that
`tf_keras.models.load_model` reads a saved network without further arguments.
"""

from __future__ import annotations

from tfp_uqseg import _startup

__version__ = "0.1.0"

# `uqseg --help` must not wait for TensorFlow: the command loads what it needs itself.
if not _startup.is_command():
    _startup.load_tensorflow()
    from tfp_uqseg import (
        callbacks,
        data,
        evaluation,
        experiments,
        labels,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        plotting,
        serving,
        uncertainty,
    )

__all__ = [
    "callbacks",
    "data",
    "evaluation",
    "experiments",
    "labels",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "plotting",
    "serving",
    "uncertainty",
]
