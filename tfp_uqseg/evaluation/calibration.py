"""How far probabilities can be trusted: NLL, Brier score, calibration error."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import stats

from tfp_uqseg import _checks

#: Probabilities are kept this far from 0 and 1 in a logarithm: float32 sigmoids
#: reach both, and one voxel would otherwise make the NLL infinite.
SMALLEST_PROBABILITY = 1e-7


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram; nan where a bin is empty.

    Attributes:
      edges: Bin edges over 0..1, shape (bins + 1,).
      mean_probability: Mean predicted probability of each bin, shape (bins,).
      frequency: Share of each bin's voxels that belong to the region, shape (bins,).
      count: Voxels of each bin, shape (bins,).
    """

    edges: np.ndarray
    mean_probability: np.ndarray
    frequency: np.ndarray
    count: np.ndarray


def pooled(one: Reliability, other: Reliability) -> Reliability:
    """Return the bins of the voxels of both, which must have the same edges.

    Args:
      one: Bins.
      other: More bins.

    Raises:
      ValueError: If the edges differ.

    >>> parts = [reliability([m], [p]) for m, p in ((1, 0.95), (0, 0.99))]
    >>> float(pooled(*parts).frequency[-1])
    0.5
    """
    if not np.array_equal(one.edges, other.edges):
        raise ValueError("`other` must have the edges of `one`; they differ.")
    count = one.count + other.count
    divisor = np.where(count > 0, count, np.nan)

    def mean(name: str) -> np.ndarray:
        parts = [
            np.nan_to_num(getattr(each, name)) * each.count for each in (one, other)
        ]
        return sum(parts) / divisor

    return Reliability(one.edges, mean("mean_probability"), mean("frequency"), count)


def nll(mask, probabilities, brain=None) -> float:
    """Mean negative log-likelihood of the voxels, in nats.

    `mean(-y log p - (1 - y) log(1 - p))`, with p kept 1e-7 away from 0 and 1.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.

    Returns:
      A float in nats per voxel: 0 is perfect, log 2 is a coin's.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> round(nll([1, 0], [0.5, 0.5]), 4)
    0.6931
    """
    mask, probabilities = _selected(mask, probabilities, brain)
    likelihood = np.where(mask, probabilities, 1.0 - probabilities)
    return float(-np.log(np.clip(likelihood, SMALLEST_PROBABILITY, 1.0)).mean())


def brier(mask, probabilities, brain=None) -> float:
    """Mean squared error of the probabilities.

    `mean((p - y)^2)`.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.

    Returns:
      A float: 0 is perfect, 0.25 is a coin's, 1 is always wrong.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> brier([1, 0], [0.5, 0.0])
    0.125
    """
    mask, probabilities = _selected(mask, probabilities, brain)
    return float(np.square(probabilities - mask).mean())


def ece(mask, probabilities, brain=None, *, num_bins: int = 15) -> float:
    """Expected calibration error of the region's probability.

    `sum_b (n_b / n) |mean p in b - share of the region in b|` over bins of equal
    width. Most brain voxels are far from any tumour and sure of it, so the number is
    small: compare methods by it, do not read it alone.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.
      num_bins: Number of bins over 0..1.

    Returns:
      A float: 0 is calibrated, 1 is sure and always wrong.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> ece([1, 0, 0, 0], [0.5, 0.5, 0.0, 0.0])
    0.0
    >>> ece([1, 1], [0.75, 0.75])
    0.25
    """
    gaps, count = _gaps(mask, probabilities, brain, num_bins, equal_mass=False)
    return float(np.sum(gaps * count) / count.sum())


def ace(
    mask, probabilities, brain=None, *, num_bins: int = 15, equal_mass: bool = False
) -> float:
    """Average calibration error: the mean gap over the bins that hold a voxel.

    Every bin weighs the same, so that the sure voxels of a whole brain do not drown
    the others. Bins of equal mass :cite:p:`nixon2019` hold as many voxels each.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.
      num_bins: Number of bins.
      equal_mass: Whether the bins hold equally many voxels; else they are equally wide.

    Returns:
      A float: 0 is calibrated, 1 is sure and always wrong.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> ace([1, 0, 0, 0], [0.75, 0.0, 0.0, 0.0])
    0.125
    """
    return float(_gaps(mask, probabilities, brain, num_bins, equal_mass)[0].mean())


def mce(
    mask, probabilities, brain=None, *, num_bins: int = 15, equal_mass: bool = False
) -> float:
    """Maximum calibration error: the largest gap of a bin that holds a voxel.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.
      num_bins: Number of bins.
      equal_mass: See `ace`.

    Returns:
      A float: 0 is calibrated, 1 is sure and always wrong.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> mce([1, 0, 0, 0], [0.75, 0.0, 0.0, 0.0])
    0.25
    """
    return float(_gaps(mask, probabilities, brain, num_bins, equal_mass)[0].max())


class BrierParts(NamedTuple):
    """The Brier score of binned probabilities, in parts.

    ``reliability - resolution + uncertainty`` is the Brier score of probabilities that
    are replaced by the mean of their bin :cite:p:`murphy1973`; what is left of the
    score of the probabilities themselves is `within`.

    Attributes:
      reliability: Mean squared gap of the bins; 0 is calibrated.
      resolution: Variance of the bins' frequencies; large is good.
      uncertainty: Variance of the mask; no forecast changes it.
      within: Brier score less the three others.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(mask, probabilities, brain=None, *, num_bins: int = 15) -> BrierParts:
    """Decompose the Brier score over bins of equal width.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.
      num_bins: Number of bins.

    Returns:
      `BrierParts`; ``reliability - resolution + uncertainty + within`` is `brier`.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> brier_parts([1, 0, 0, 0], [0.5, 0.5, 0.0, 0.0]).resolution
    0.0625
    """
    bins = reliability(mask, probabilities, brain, num_bins=num_bins)
    filled = bins.count > 0
    share = bins.count[filled] / bins.count.sum()
    frequency = bins.frequency[filled]
    base = min(1.0, float(np.sum(share * frequency)))  # shares round to above 1
    gaps = np.square(bins.mean_probability[filled] - frequency)
    calibrated = float(np.sum(share * gaps))
    resolved = float(np.sum(share * np.square(frequency - base)))
    given = base * (1.0 - base)
    whole = brier(mask, probabilities, brain)
    within = whole - (calibrated - resolved + given)
    return BrierParts(calibrated, resolved, given, within)


def reliability(mask, probabilities, brain=None, *, num_bins: int = 15) -> Reliability:
    """Predicted probability against observed frequency, in bins of equal width.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      probabilities: Probabilities 0..1 of the same shape.
      brain: Mask of the voxels to score, same shape; None for all.
      num_bins: Number of bins over 0..1; a bin holds its lower edge, the last both.

    Returns:
      A `Reliability`; its counts add up to the scored voxels.

    Raises:
      ValueError: If shapes differ, `brain` is empty, or a value is out of range.

    >>> reliability([1, 0, 0], [0.9, 0.9, 0.1], num_bins=2).frequency
    array([0. , 0.5])
    """
    num_bins = _checks.positive_integer("num_bins", num_bins)
    mask, probabilities = _selected(mask, probabilities, brain)
    index = np.minimum((probabilities * num_bins).astype(np.intp), num_bins - 1)
    count = np.bincount(index, minlength=num_bins)
    divisor = np.where(count > 0, count, np.nan)
    return Reliability(
        edges=np.linspace(0.0, 1.0, num_bins + 1),
        mean_probability=np.bincount(index, probabilities, num_bins) / divisor,
        frequency=np.bincount(index, mask, num_bins) / divisor,
        count=count,
    )


def _gaps(mask, probabilities, brain, num_bins: int, equal_mass: bool):
    """Return the gap of every bin that holds a voxel, and how many it holds."""
    if equal_mass:
        num_bins = _checks.positive_integer("num_bins", num_bins)
        mask, probabilities = _selected(mask, probabilities, brain)
        # Ties stay together: a value lies in one bin, whatever the voxels' order.
        order = stats.rankdata(probabilities, method="min") - 1
        index = (order * num_bins // order.size).astype(np.intp)
        count = np.bincount(index, minlength=num_bins)
        filled = count > 0
        sums = np.bincount(index, probabilities - mask, num_bins)
        return np.abs(sums[filled] / count[filled]), count[filled]
    bins = reliability(mask, probabilities, brain, num_bins=num_bins)
    filled = bins.count > 0
    gaps = np.abs(bins.mean_probability[filled] - bins.frequency[filled])
    return gaps, bins.count[filled]


def _selected(mask, probabilities, brain):
    mask = _checks.binary_mask("mask", mask)
    probabilities = np.asarray(probabilities)
    _checks.same_shape("probabilities", probabilities, "mask", mask)
    if brain is not None:
        brain = _checks.binary_mask("brain", brain)
        _checks.same_shape("brain", brain, "mask", mask)
        mask, probabilities = mask[brain], probabilities[brain]
    if mask.size == 0:
        raise ValueError(
            "`brain` must hold at least one voxel; there is none to score."
        )
    probabilities = probabilities.astype(np.float64)
    if not (probabilities.min() >= 0.0 and probabilities.max() <= 1.0):
        raise ValueError(
            "`probabilities` must lie in 0..1; got values from "
            f"{probabilities.min()} to {probabilities.max()}."
        )
    return mask, probabilities
