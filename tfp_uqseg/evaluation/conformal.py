"""Thresholds with a guarantee on how much of a region they miss.

A region is answered by all voxels whose probability is at least a threshold. The lower
the threshold, the less is missed. From patients with labels, on whom nothing was
trained or chosen, a threshold is found with one of two guarantees, both for patients
exchangeable with those (same scanners, same disease, same labelling), neither for any
single patient:

* `expected_risk`: the *expected* share that is missed in a new patient, over the choice
  of the calibration patients too, is at most alpha :cite:p:`angelopoulos2024`.
* `confident_risk`: with confidence 1 - delta over that choice, the mean share missed in
  new patients is at most alpha :cite:p:`bates2021`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from tfp_uqseg import _checks

#: Where the share missed is looked at, descending from a strict to a generous answer.
THRESHOLDS = np.linspace(1.0, 0.0, 1001)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A threshold and what it promises.

    Attributes:
      value: Voxels with at least this probability belong to the answer, 0 to 1.
      alpha: Bound on the share of the region that is missed.
      delta: Chance that the bound on the mean does not hold; None where the bound is
        one on the expectation.
      patients: Patients it was found from.
      missed: Mean share that it misses in them.
    """

    value: float
    alpha: float
    delta: float | None
    patients: int
    missed: float


def missed_shares(mask, probabilities, thresholds=THRESHOLDS) -> np.ndarray:
    """Share of one patient's region that each threshold misses.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      thresholds: Descending from 1 to 0, shape (T,).

    Returns:
      Shape (T,), descending to 0; all 0 where the patient has no such region.

    Raises:
      ValueError: If shapes differ or a value is out of range.

    >>> missed_shares([1, 1, 0], [0.9, 0.4, 0.2], thresholds=[1.0, 0.5, 0.0])
    array([1. , 0.5, 0. ])
    """
    mask = _checks.binary_mask("mask", mask)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    _checks.same_shape("probabilities", probabilities, "mask", mask)
    thresholds = _checked_thresholds(thresholds)
    inside = np.sort(probabilities[mask])
    if not inside.size:
        return np.zeros(thresholds.size)
    if not (inside[0] >= 0.0 and inside[-1] <= 1.0):
        raise ValueError(
            f"`probabilities` must lie in 0..1; got {inside[0]} to {inside[-1]}."
        )
    return np.searchsorted(inside, thresholds, side="left") / inside.size


def fewest_patients(alpha: float, delta: float | None = None) -> int:
    """Return how many patients a guarantee needs, even where nothing is missed.

    Args:
      alpha: Bound on the share missed, between 0 and 1.
      delta: None for `expected_risk`, else that of `confident_risk`.

    Raises:
      ValueError: If a value does not lie between 0 and 1.

    >>> fewest_patients(0.1), fewest_patients(0.1, 0.1)
    (9, 22)
    """
    alpha = _checks.probability("alpha", alpha)
    if delta is None:
        return max(1, math.ceil(round(1.0 / alpha - 1.0, 9)))
    delta = _checks.probability("delta", delta)
    return math.ceil(round(math.log(delta) / math.log1p(-alpha), 9))


def expected_risk(
    shares: Iterable[Sequence[float]], alpha: float, thresholds=THRESHOLDS
) -> Threshold:
    """Return the largest threshold whose expected share missed is at most `alpha`.

    With n patients, their mean share R(t) and losses of at most 1, the threshold is
    the largest with ``(n R(t) + 1) / (n + 1) <= alpha``.

    Args:
      shares: What `missed_shares` returned for every patient, (n, T).
      alpha: Bound on the expected share, between 0 and 1.
      thresholds: Those of the shares.

    Returns:
      A `Threshold`.

    Raises:
      ValueError: If there are fewer patients than `fewest_patients`, or a value is not
        allowed.

    >>> expected_risk([[1.0, 0.0, 0.0]] * 9, 0.1, [1.0, 0.5, 0.0]).value
    0.5
    """
    shares, thresholds = _checked_shares(shares, thresholds)
    _check_patients(len(shares), alpha, None)
    bound = (shares.sum(axis=0) + 1.0) / (len(shares) + 1.0)
    return _first(shares, thresholds, bound <= alpha + 1e-12, alpha, None)


def confident_risk(
    shares: Iterable[Sequence[float]],
    alpha: float,
    delta: float,
    thresholds=THRESHOLDS,
) -> Threshold:
    """Return a threshold whose mean share missed is at most `alpha`, confidently.

    From the generous end on, thresholds are taken as long as the Hoeffding-Bentkus
    p-value of "the mean share exceeds alpha" is at most `delta`.

    Args:
      shares: What `missed_shares` returned for every patient, (n, T).
      alpha: Bound on the mean share, between 0 and 1.
      delta: Chance that the bound does not hold, between 0 and 1.
      thresholds: Those of the shares.

    Returns:
      A `Threshold`.

    Raises:
      ValueError: If there are fewer patients than `fewest_patients`, or a value is not
        allowed.

    >>> confident_risk([[1.0, 0.0, 0.0]] * 22, 0.1, 0.1, [1.0, 0.5, 0.0]).value
    0.5
    """
    shares, thresholds = _checked_shares(shares, thresholds)
    _check_patients(len(shares), alpha, delta)
    allowed = _p_values(shares.mean(axis=0), len(shares), alpha) <= delta + 1e-12
    # The last threshold misses nothing; one that fails stops the walk from there.
    return _first(
        shares,
        thresholds,
        np.logical_and.accumulate(allowed[::-1])[::-1],
        alpha,
        delta,
    )


def _p_values(means: np.ndarray, count: int, alpha: float) -> np.ndarray:
    """Return the Hoeffding-Bentkus p-values of means of losses in 0..1."""
    low = np.minimum(means, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(low > 0.0, low * np.log(low / alpha), 0.0)
    divergence = first + (1.0 - low) * np.log((1.0 - low) / (1.0 - alpha))
    hoeffding = np.exp(-count * divergence)
    hits = np.ceil(np.round(count * means, 9))
    bentkus = math.e * stats.binom.cdf(hits, count, alpha)
    return np.minimum(hoeffding, bentkus)


def _first(shares, thresholds, allowed, alpha: float, delta: float | None) -> Threshold:
    place = int(np.argmax(allowed))
    return Threshold(
        value=float(thresholds[place]),
        alpha=float(alpha),
        delta=None if delta is None else float(delta),
        patients=len(shares),
        missed=float(shares[:, place].mean()),
    )


def _checked_thresholds(thresholds) -> np.ndarray:
    thresholds = np.asarray(thresholds, dtype=np.float64)
    ends = thresholds.ndim == 1 and thresholds.size > 1 and thresholds[-1] == 0.0
    if not ends or not (np.diff(thresholds) < 0).all() or thresholds[0] > 1.0:
        raise ValueError("`thresholds` must descend from at most 1 to 0.")
    return thresholds


def _checked_shares(shares, thresholds) -> tuple[np.ndarray, np.ndarray]:
    thresholds = _checked_thresholds(thresholds)
    shares = np.asarray([np.asarray(each, np.float64) for each in shares])
    if shares.ndim != 2 or shares.shape[1] != thresholds.size:
        raise ValueError(
            "`shares` must hold one row per patient with a share per threshold, "
            f"(n, {thresholds.size}); got shape {shares.shape}."
        )
    falling = (np.diff(shares, axis=1) <= 0.0).all() and (shares[:, -1] == 0.0).all()
    if not (falling and shares.max(initial=0.0) <= 1.0):
        raise ValueError(
            "`shares` must fall along the thresholds, from at most 1 to 0; take them "
            "from `missed_shares`."
        )
    return shares, thresholds


def _check_patients(count: int, alpha: float, delta: float | None) -> None:
    needed = fewest_patients(alpha, delta)
    if count < needed:
        said = f"`alpha`={alpha}" + ("" if delta is None else f", `delta`={delta}")
        raise ValueError(
            f"`shares` must hold at least {needed} patients for {said}; got {count}. "
            "With fewer no threshold but 0 keeps the promise."
        )
