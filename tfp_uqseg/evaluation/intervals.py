"""Means over patients, with intervals that resample patients."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy import stats

from tfp_uqseg import _checks

NUM_RESAMPLES = 9999
#: Patients of whom a permutation test tries every change of signs.
_EXACT = 13


class Interval(NamedTuple):
    """A mean and the ends of its interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def mean_interval(values, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Mean over patients with a percentile bootstrap interval.

    Patients are drawn with replacement 9999 times. On few patients the interval is
    too narrow: for Dice-like values a 95 % interval was seen to cover the true mean
    in 75 % of cohorts of 4 patients, 85 % of 12 and 90 % of 30 (BCa was no better).

    Args:
      values: One finite number per patient, shape (patients,).
      level: Coverage of the interval, between 0 and 1.
      seed: Seed of the resampling.

    Returns:
      An `Interval`. One patient gives no interval: both ends are nan. Equal values
      give an interval of width zero.

    Raises:
      ValueError: If `values` is empty, not one-dimensional or not finite, or `level`
        is not between 0 and 1.

    >>> mean_interval([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    values = finite("values", values)
    check_level(level)
    if values.size == 1:
        return Interval(float(values[0]), float("nan"), float("nan"))
    # scipy warns on constant values, where every resample has the same mean.
    if np.ptp(values) == 0:
        return Interval(*[float(values[0])] * 3)
    ends = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=level,
        method="percentile",
        vectorized=True,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(values.mean()), float(ends.low), float(ends.high))


def paired_difference(
    values, other_values, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of `values - other_values` over the same patients, with its interval.

    The patients' differences are resampled, so that what is hard for both methods
    cancels. An interval without zero means that the methods differ at `level`.

    Args:
      values: One finite number per patient, shape (patients,).
      other_values: The other method's numbers for the same patients, same order.
      level: Coverage of the interval, between 0 and 1.
      seed: Seed of the resampling.

    Returns:
      An `Interval`; above zero where `values` are the larger.

    Raises:
      ValueError: As `mean_interval`, or if the lengths differ.

    >>> paired_difference([0.75, 0.5], [0.5, 0.25])
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    values = finite("values", values)
    other_values = finite("other_values", other_values)
    if values.size != other_values.size:
        raise ValueError(
            "`other_values` must hold the same patients as `values`, "
            f"{values.size}; got {other_values.size}."
        )
    return mean_interval(values - other_values, level=level, seed=seed)


def paired_test(values, other_values, *, seed: int = 0) -> float:
    """p-value of the paired permutation test that two methods are alike.

    Were they, every patient's difference could as well have the other sign. The value
    is the share of sign changes whose mean difference is at least as far from zero:
    exact up to 13 patients, of 9999 random ones beyond.

    Args:
      values: One finite number per patient, shape (patients,).
      other_values: The other method's, same order.
      seed: Of the random changes.

    Returns:
      0 to 1; with n patients never below 2 / 2^n.

    Raises:
      ValueError: See `paired_difference`.

    >>> paired_test([0.9, 0.8, 0.7, 0.9], [0.5, 0.4, 0.5, 0.6])
    0.125
    """
    values, others = (
        finite(name, each)
        for name, each in (("values", values), ("other_values", other_values))
    )
    _checks.same_shape("values", values, "other_values", others)
    gaps = values - others
    if gaps.size <= _EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=gaps.size)))
        counted = 0
    else:
        rng = np.random.default_rng(seed)
        signs = rng.choice([1.0, -1.0], size=(NUM_RESAMPLES, gaps.size))
        counted = 1  # the differences as they are
    far = np.abs(signs @ gaps) >= abs(gaps.sum()) * (1.0 - 1e-12)
    return float((far.sum() + counted) / (len(signs) + counted))


def unpaired_difference(
    values, other_values, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of `values` minus that of `other_values`, of different patients.

    Each group is resampled by itself.

    Args:
      values: One finite number per patient, shape (patients,), at least two.
      other_values: Those of the other group, shape (other patients,), at least two.
      level: Coverage of the interval, between 0 and 1.
      seed: Seed of the resampling.

    Returns:
      An `Interval`; above zero where `values` are the larger.

    Raises:
      ValueError: As `mean_interval`, or if a group has one patient.

    >>> unpaired_difference([0.75, 0.75], [0.5, 0.5, 0.5])
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    groups = {"values": values, "other_values": other_values}
    groups = {name: _several(name, group, 2) for name, group in groups.items()}
    check_level(level)
    rng = np.random.default_rng(seed)
    means = [
        group[rng.integers(group.size, size=(NUM_RESAMPLES, group.size))].mean(axis=1)
        for group in groups.values()
    ]
    first, second = (float(group.mean()) for group in groups.values())
    low, high = _ends(means[0] - means[1], level)
    return Interval(first - second, low, high)


def correlation(
    values,
    other_values,
    *,
    ranks: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Correlation of two numbers over patients, with its interval.

    Patients are resampled with both of their numbers. Resamples in which a number
    does not vary have no correlation and are left out.

    Args:
      values: One finite number per patient, shape (patients,), at least three.
      other_values: The other number of the same patients, same order.
      ranks: Whether to correlate ranks (Spearman) instead of values (Pearson).
      level: Coverage of the interval, between 0 and 1.
      seed: Seed of the resampling.

    Returns:
      An `Interval` from -1 to 1 whose `mean` is the correlation; nan where one of the
      numbers does not vary.

    Raises:
      ValueError: If there are fewer than three patients, lengths differ, a value is not
        finite, or `level` is not between 0 and 1.

    >>> correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).mean
    1.0
    >>> correlation([1.0, 2.0, 3.0], [3.0, 2.9, 0.0], ranks=True).mean
    -1.0
    """
    values = _several("values", values, 3)
    other_values = finite("other_values", other_values)
    if values.size != other_values.size:
        raise ValueError(
            "`other_values` must hold the same patients as `values`, "
            f"{values.size}; got {other_values.size}."
        )
    check_level(level)
    found = float(_correlation(values[None], other_values[None], ranks)[0])
    if np.isnan(found):
        return Interval(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(values.size, size=(NUM_RESAMPLES, values.size))
    resampled = _correlation(values[chosen], other_values[chosen], ranks)
    return Interval(found, *_ends(resampled[np.isfinite(resampled)], level))


def proportion_interval(hits, *, level: float = 0.95) -> Interval:
    """Share of patients for whom something holds, with Wilson's interval.

    A bootstrap of 12 hits in 12 would claim certainty; Wilson's interval does not.

    Args:
      hits: One bool per patient, shape (patients,).
      level: Coverage of the interval, between 0 and 1.

    Returns:
      An `Interval` of the share, 0..1.

    Raises:
      ValueError: If `hits` is empty or not one-dimensional, holds anything but 0 and
        1, or `level` is not between 0 and 1.

    >>> share = proportion_interval([True, True, True, False])
    >>> share.mean, round(share.low, 2), round(share.high, 2)
    (0.75, 0.3, 0.95)
    """
    hits = finite("hits", hits)
    check_level(level)
    if not np.isin(hits, (0, 1)).all():
        raise ValueError(f"`hits` must hold 0 and 1 only; got {hits.tolist()}.")
    count = int(hits.sum())
    ends = stats.binomtest(count, hits.size).proportion_ci(level, method="wilson")
    return Interval(count / hits.size, float(ends.low), float(ends.high))


def finite(name: str, values) -> np.ndarray:
    """Return one finite number per patient, float64 (patients,).

    Args:
      name: What to call them in an error.
      values: The numbers.

    Raises:
      ValueError: If they have another shape, are none, or one is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"`{name}` must hold one number per patient, at least one, in one "
            f"dimension; got shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` must be finite; found {values[~np.isfinite(values)][0]}. "
            "Leave out the patients without a value first."
        )
    return values


def _several(name: str, values, least: int) -> np.ndarray:
    values = finite(name, values)
    if values.size < least:
        raise ValueError(
            f"`{name}` must hold at least {least} patients; got {values.size}."
        )
    return values


def _ends(resampled: np.ndarray, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval."""
    low, high = np.quantile(resampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _correlation(values, other_values, ranks: bool) -> np.ndarray:
    """Return the correlation of each row; nan where one does not vary."""
    if ranks:
        values, other_values = (
            stats.rankdata(each, axis=1) for each in (values, other_values)
        )
    # Of equal values the mean may differ in the last digit.
    constant = (np.ptp(values, axis=1) == 0) | (np.ptp(other_values, axis=1) == 0)
    values, other_values = (
        each - each.mean(axis=1, keepdims=True) for each in (values, other_values)
    )
    spread = np.sqrt((values**2).sum(axis=1) * (other_values**2).sum(axis=1))
    spread = np.where(constant, np.nan, spread)
    return np.clip((values * other_values).sum(axis=1) / spread, -1.0, 1.0)


def check_level(level: float) -> None:
    """Raise unless `level` lies between 0 and 1.

    Raises:
      ValueError: If it does not.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"`level` must lie between 0 and 1; got {level!r}.")
