"""Priors over the weights, chosen by a plain value that a saved model can carry."""

from __future__ import annotations

import math

import numpy as np
import tensorflow_probability as tfp

from tfp_uqseg import _checks

tfd = tfp.distributions

PRIORS = ("he_normal", "standard_normal", "scale_mixture", "deep_weight")
#: The scale mixture in units of the He scale: weight of the wide part, and the two
#: standard deviations (:cite:t:`blundell2015` search 1/4 to 3/4, exp(0) to exp(-2) and
#: exp(-6) to exp(-8), in units of the weights).
MIXTURE = (0.5, 1.0, math.exp(-3.0))


def he_stddev(fan_in: float) -> float:
    """Return sqrt(2 / fan_in), which keeps the variance of ReLU activations.

    >>> round(he_stddev(2), 3)
    1.0
    """
    return math.sqrt(2.0 / max(1.0, fan_in))


def check(prior: str | float | tuple) -> str | float | tuple:
    """Return `prior` as a plain value, or raise unless it describes a prior.

    Args:
        prior: A name of PRIORS; a positive standard deviation; or ``("scale_mixture",
            share, wide, narrow)`` with the weight of the wide normal and the two
            standard deviations.

    >>> check(["scale_mixture", 0.25, 1, 0.01])
    ('scale_mixture', 0.25, 1.0, 0.01)
    """
    if isinstance(prior, str):
        _checks.one_of("prior", prior, PRIORS)
        return prior
    if isinstance(prior, (list, tuple)):
        return _checked_mixture(prior)
    if isinstance(prior, bool) or not 0.0 < float(prior) < math.inf:
        raise ValueError(
            f"`prior` must be one of {PRIORS} or a positive standard deviation; "
            f"got {prior!r}."
        )
    return float(prior)


def _checked_mixture(prior) -> tuple:
    name, *numbers = prior
    if name != "scale_mixture" or len(numbers) != 3:
        raise ValueError(
            "`prior` must be ('scale_mixture', share, wide, narrow) where it is a "
            f"tuple; got {tuple(prior)!r}."
        )
    share, wide, narrow = (float(number) for number in numbers)
    if not (0.0 < share < 1.0 and 0.0 < narrow <= wide < math.inf):
        raise ValueError(
            "`prior` must be ('scale_mixture', share, wide, narrow) with 0 < share < 1 "
            f"and 0 < narrow <= wide; got {tuple(prior)!r}."
        )
    return (name, share, wide, narrow)


def has_closed_form(prior: str | float | tuple) -> bool:
    """Return whether KL from a normal posterior is a formula."""
    return not isinstance(prior, tuple) and prior != "scale_mixture"


def stddev(prior: str | float | tuple, fan_in: float) -> float:
    """Return the standard deviation of a normal prior for a kernel with `fan_in`.

    A kernel of a shape that the deep weight prior does not know has the He prior.
    """
    if prior in ("he_normal", "deep_weight"):
        return he_stddev(fan_in)
    if isinstance(prior, tuple):
        raise TypeError(f"A mixture has no single standard deviation; got {prior!r}.")
    return 1.0 if prior == "standard_normal" else float(prior)


def _mixture(prior, fan_in: float) -> tfd.Distribution:
    if prior == "scale_mixture":
        share, *relative = MIXTURE
        scales = [he_stddev(fan_in) * scale for scale in relative]
    else:
        _, share, *scales = prior
    return tfd.MixtureSameFamily(
        tfd.Categorical(probs=np.array([share, 1.0 - share], np.float32)),
        tfd.Normal(np.zeros(2, np.float32), np.array(scales, np.float32)),
    )


def distribution(
    prior: str | float | tuple, shape, fan_in: float, loc=None
) -> tfd.Distribution:
    """Return the prior of a kernel as one event of `shape`.

    Args:
        prior: See `check`.
        shape: Of the kernel.
        fan_in: Inputs of one output.
        loc: Mean of a normal prior, of `shape`; None for zero.
    """
    if not has_closed_form(prior):
        return tfd.Sample(_mixture(prior, fan_in), sample_shape=shape)
    scale = np.full(shape, stddev(prior, fan_in), np.float32)
    loc = np.zeros(shape, np.float32) if loc is None else loc
    return tfd.Independent(tfd.Normal(loc, scale), reinterpreted_batch_ndims=len(shape))
