"""Priors over the weights, chosen by a plain value that a saved model can carry."""

from __future__ import annotations

import math

import numpy as np
import tensorflow_probability as tfp

from tfp_uqseg import _checks

tfd = tfp.distributions

PRIORS = ("he_normal", "standard_normal")


def he_stddev(fan_in: float) -> float:
    """Return sqrt(2 / fan_in), which keeps the variance of ReLU activations.

    >>> round(he_stddev(2), 3)
    1.0
    """
    return math.sqrt(2.0 / max(1.0, fan_in))


def check(prior: str | float) -> str | float:
    """Return `prior`, or raise unless it names a prior or is a positive stddev."""
    if isinstance(prior, str):
        _checks.one_of("prior", prior, PRIORS)
        return prior
    if isinstance(prior, bool) or not 0.0 < float(prior) < math.inf:
        raise ValueError(
            f"`prior` must be one of {PRIORS} or a positive standard deviation; "
            f"got {prior!r}."
        )
    return float(prior)


def stddev(prior: str | float, fan_in: float) -> float:
    """Return the prior's standard deviation for a kernel with `fan_in` inputs."""
    if prior == "he_normal":
        return he_stddev(fan_in)
    return 1.0 if prior == "standard_normal" else float(prior)


def distribution(prior: str | float, shape, fan_in: float) -> tfd.Distribution:
    """Return the centred normal prior of a kernel as one event of `shape`."""
    scale = np.full(shape, stddev(prior, fan_in), np.float32)
    return tfd.Independent(
        tfd.Normal(np.zeros(shape, np.float32), scale),
        reinterpreted_batch_ndims=len(shape),
    )
