"""Probabilities mended after training: temperature and Platt scaling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import scipy.optimize
import scipy.special

from tfp_uqseg import _checks
from tfp_uqseg.evaluation import calibration

#: Temperatures are looked for between these.
TEMPERATURES = (0.05, 20.0)
KINDS = ("temperature", "platt")

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The map p -> sigmoid(slope * logit(p) + shift) of a region's probability.

    Attributes:
      slope: One over the temperature; 1 changes nothing, below 1 is less sure.
      shift: 0 for temperature scaling.
    """

    slope: float = 1.0
    shift: float = 0.0

    @property
    def temperature(self) -> float:
        """One over the slope."""
        return 1.0 / self.slope

    def __call__(self, probabilities) -> np.ndarray:
        """Return the mended probabilities, float64, of the same shape.

        Args:
          probabilities: 0..1, any shape.

        Raises:
          ValueError: If one is out of range.
        """
        return scipy.special.expit(self.slope * _logits(probabilities) + self.shift)


def fit_temperature(patients: Iterable[tuple]) -> Scaling:
    """Find the temperature with the smallest NLL :cite:p:`guo2017`.

    The NLL of every patient counts alike, so that a large brain does not decide. One
    temperature keeps the order of the voxels, and at a threshold of one half the mask.

    Args:
      patients: Pairs ``(mask, probabilities)``, or triples with the brain's mask, of
        patients on whom nothing was trained; as in `evaluation.calibration.nll`.

    Returns:
      A `Scaling` whose shift is 0.

    Raises:
      ValueError: If there is no patient, or an array is not allowed.
    """
    cases = _cases(patients)
    found = scipy.optimize.minimize_scalar(
        lambda log_slope: _mean_nll(cases, math.exp(log_slope), 0.0)[0],
        bounds=tuple(-math.log(t) for t in reversed(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return Scaling(float(math.exp(found.x)))


def fit_platt(patients: Iterable[tuple]) -> Scaling:
    """Find slope and shift with the smallest NLL.

    Args:
      patients: See `fit_temperature`.

    Returns:
      A `Scaling`; its slope is not below 0.05.

    Raises:
      ValueError: See `fit_temperature`.
    """
    cases = _cases(patients)
    bounds = [tuple(1.0 / t for t in reversed(TEMPERATURES)), (-10.0, 10.0)]
    found = scipy.optimize.minimize(
        lambda both: _mean_nll(cases, *both),
        x0=[fit_temperature(patients=cases).slope, 0.0],
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
    )
    return Scaling(*(float(value) for value in found.x))


def fit_draws(patients: Iterable[tuple], *, kind: str = "temperature") -> Scaling:
    """Find the scaling of every draw's logits with the smallest NLL of their mean.

    What is scaled is the logit of a draw, not that of the mean: the mean of scaled
    draws is again a prediction with draws, whose uncertainty splits as before. Minimal
    is, in the mean over patients, the NLL of the mean over draws of
    E[sigmoid(slope * logit + shift)].

    Args:
      patients: Triples ``(mask, loc, stddev)`` of patients on whom nothing was trained:
        the mask (V,) of V voxels, and of S draws mean and standard deviation of their
        logits, (S, V) each; `stddev` is None where logits have no spread.
      kind: ``"temperature"`` or ``"platt"``.

    Returns:
      A `Scaling`; its shift is 0 for a temperature.

    Raises:
      ValueError: If there is no patient, shapes do not fit, or a value is not finite.
    """
    _checks.one_of("kind", kind, KINDS)
    cases = [_drawn(*given) for given in patients]
    if not cases:
        raise ValueError("`patients` must hold at least one patient; got none.")
    low, high = (-math.log(t) for t in reversed(TEMPERATURES))
    found = scipy.optimize.minimize_scalar(
        lambda log_slope: _nll_of_draws(cases, math.exp(log_slope), 0.0),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-4},
    )
    if kind == "temperature":
        return Scaling(float(math.exp(found.x)))
    both = scipy.optimize.minimize(
        lambda given: _nll_of_draws(cases, math.exp(given[0]), given[1]),
        x0=[found.x, 0.0],
        bounds=[(low, high), (-10.0, 10.0)],
        method="L-BFGS-B",
    )
    return Scaling(float(math.exp(both.x[0])), float(both.x[1]))


def _drawn(mask, loc, stddev):
    """Return mask, means and standard deviations of one patient, checked."""
    mask, loc = np.asarray(mask, bool), np.asarray(loc, np.float64)
    if loc.ndim != 2 or mask.shape != loc.shape[1:] or not loc.size:
        raise ValueError(
            "`patients` must hold masks (V,) with logits (S, V); got "
            f"{mask.shape} and {loc.shape}."
        )
    stddev = None if stddev is None else np.asarray(stddev, np.float64)
    if stddev is not None and (stddev.shape != loc.shape or (stddev < 0.0).any()):
        raise ValueError(
            "`patients` must hold standard deviations of the shape of the logits, "
            f"{loc.shape}, none below 0; got {stddev.shape}."
        )
    if not np.isfinite(loc).all():
        raise ValueError("`patients` must hold finite logits; found NaN or infinity.")
    if stddev is not None and not stddev.any():
        stddev = None
    return mask, loc, stddev


def _nll_of_draws(cases, slope: float, shift: float) -> float:
    """Return the mean NLL over the patients of the mean of scaled draws."""
    small, total = calibration.SMALLEST_PROBABILITY, 0.0
    for mask, loc, stddev in cases:
        scaled = slope * loc + shift
        if stddev is None:
            drawn = scipy.special.expit(scaled)
        else:
            spread = slope * stddev
            drawn = sum(
                weight * scipy.special.expit(scaled + node * spread)
                for node, weight in zip(_NODES, _WEIGHTS, strict=True)
            )
        mean = np.clip(drawn.mean(axis=0), small, 1.0 - small)
        total -= np.log(np.where(mask, mean, 1.0 - mean)).mean()
    return total / len(cases)


def _cases(patients) -> list[tuple[np.ndarray, np.ndarray]]:
    cases = []
    for given in patients:
        mask, probabilities, *brain = given
        calibration.nll(mask, probabilities, *brain)  # raises for what is not allowed
        mask, probabilities = np.asarray(mask, bool), np.asarray(probabilities)
        inside = np.asarray(brain[0], bool) if brain and brain[0] is not None else ...
        cases.append((mask[inside].ravel(), probabilities[inside].ravel()))
    if not cases:
        raise ValueError("`patients` must hold at least one patient; got none.")
    return cases


def _mean_nll(cases, slope: float, shift: float):
    """Return the mean NLL over the patients, and its gradient."""
    value, gradient = 0.0, np.zeros(2)
    for mask, probabilities in cases:
        logits = _logits(probabilities)
        scaled = slope * logits + shift
        # log(1 + exp(s)) - y s
        value += (np.logaddexp(0.0, scaled) - mask * scaled).mean()
        error = scipy.special.expit(scaled) - mask
        gradient += [(error * logits).mean(), error.mean()]
    return value / len(cases), gradient / len(cases)


def _logits(probabilities) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    small = calibration.SMALLEST_PROBABILITY
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise ValueError(
            "`probabilities` must lie in 0..1; got values from "
            f"{probabilities.min()} to {probabilities.max()}."
        )
    return scipy.special.logit(np.clip(probabilities, small, 1.0 - small))
