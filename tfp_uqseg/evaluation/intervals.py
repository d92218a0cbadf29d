"""Means over patients, with intervals that resample patients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

NUM_RESAMPLES = 9999


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
    values = _finite("values", values)
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
    values = _finite("values", values)
    other_values = _finite("other_values", other_values)
    if values.size != other_values.size:
        raise ValueError(
            "`other_values` must hold the same patients as `values`, "
            f"{values.size}; got {other_values.size}."
        )
    return mean_interval(values - other_values, level=level, seed=seed)


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
    hits = _finite("hits", hits)
    check_level(level)
    if not np.isin(hits, (0, 1)).all():
        raise ValueError(f"`hits` must hold 0 and 1 only; got {hits.tolist()}.")
    count = int(hits.sum())
    ends = stats.binomtest(count, hits.size).proportion_ci(level, method="wilson")
    return Interval(count / hits.size, float(ends.low), float(ends.high))


def _finite(name: str, values) -> np.ndarray:
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


def check_level(level: float) -> None:
    """Raise unless `level` lies between 0 and 1.

    Raises:
      ValueError: If it does not.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"`level` must lie between 0 and 1; got {level!r}.")
