"""Bayesian segmentation of brain tumours, with uncertainty in voxels and millilitres.

Importing the package registers every layer, loss and metric with `tf_keras`, so that
`tf_keras.models.load_model` reads a saved network without further arguments.
"""

from __future__ import annotations

import importlib as _importlib
import importlib.util as _util

from tfp_uqseg import _startup

__version__ = "0.1.0"

for _name in (
    "labels layers losses metrics callbacks uncertainty data models evaluation "
    "plotting experiments serving"
).split():
    if _util.find_spec(f"tfp_uqseg.{_name}"):
        try:
            _importlib.import_module(f"tfp_uqseg.{_name}")
        except ImportError:  # transitional
            pass
