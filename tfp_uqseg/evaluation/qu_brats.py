"""The uncertainty score of the QU-BraTS challenge :cite:p:`mehta2022`.

Voxels more uncertain than a threshold are taken out of the segmentation; a good
uncertainty takes out errors (Dice rises) and little else (few true positives and true
negatives are lost). One pass sorts the voxels into the intervals between thresholds;
everything else is cumulative sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from tfp_uqseg import _checks, _rulings

#: What the challenge's script takes, 0 to 100.
THRESHOLDS = np.linspace(0.0, 100.0, 41)
_EPSILON = float(np.finfo(np.float32).eps)
_TRUE_NEGATIVE, _FALSE_POSITIVE, _FALSE_NEGATIVE, _TRUE_POSITIVE = range(4)


class RegionAUC(NamedTuple):
    """Areas under three curves over the threshold, each 0 to 1.

    Attributes:
        dice: Of Dice where the uncertain voxels are taken out; large is good.
        ftp: Of the share of true positives that are taken out; small is good.
        ftn: Of the share of true negatives that are taken out; small is good.
    """

    dice: float
    ftp: float
    ftn: float

    @property
    def score(self) -> float:
        """The challenge's score, (dice + (1 - ftp) + (1 - ftn)) / 3, 0 to 1."""
        return (self.dice + (1.0 - self.ftp) + (1.0 - self.ftn)) / 3.0


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """What happens to a region as the threshold rises, float64 (T,) each.

    Attributes:
        thresholds: Ascending, 0 to 100.
        dice: Dice of what is left, 0 to 1.
        ftp: Share of the true positives that is taken out.
        ftn: Share of the true negatives that is taken out.
    """

    thresholds: np.ndarray
    dice: np.ndarray
    ftp: np.ndarray
    ftn: np.ndarray


def region_auc(
    mask, predicted_mask, uncertainty, brain_mask, thresholds=THRESHOLDS
) -> RegionAUC:
    """Return the areas under the curves of one region.

    Trapezoids over the thresholds, divided by 100. A map of zeros has
    ``(Dice, 0, 0)`` and so the score (Dice + 2) / 3; an honest map may have less.

    Args:
        mask: Reference mask, any shape, holding 0 and 1.
        predicted_mask: Mask of the same shape.
        uncertainty: 0 (sure) to 100, of the same shape
            (`uncertainty.measures.scaled_uncertainty`).
        brain_mask: Mask of the same shape; true positives and negatives count inside.
        thresholds: Ascending, from 0 to 100.

    Raises:
        ValueError: If shapes differ, a mask holds other values, an uncertainty is not
            from 0 to 100, or the thresholds do not ascend from 0 to 100.

    >>> region_auc([1, 1, 0, 0], [1, 0, 0, 0], [0, 100, 0, 0], [1, 1, 1, 1])
    RegionAUC(dice=0.9958..., ftp=0.0, ftn=0.0)
    """
    found = curves(mask, predicted_mask, uncertainty, brain_mask, thresholds)
    widths = np.diff(found.thresholds) / 100.0
    areas = [
        float(np.sum(widths * (curve[1:] + curve[:-1]) / 2.0))
        for curve in (found.dice, found.ftp, found.ftn)
    ]
    return RegionAUC(*areas)


def curves(
    mask, predicted_mask, uncertainty, brain_mask, thresholds=THRESHOLDS
) -> Curves:
    """Return Dice and the filtered shares at every threshold; see `region_auc`.

    A voxel is taken out where its uncertainty exceeds the threshold: it then is in
    neither mask, and two empty masks score one. Dice looks at the whole volume, the
    shares are ``(count - count left) / (count + eps)`` inside the brain.
    """
    kind, inside, levels = _checked(mask, predicted_mask, uncertainty, brain_mask)
    thresholds = _check_thresholds(thresholds)
    brain = _left(kind[inside], levels[inside], thresholds)
    outside = ~inside & (kind != _TRUE_NEGATIVE)
    whole = brain + _left(kind[outside], levels[outside], thresholds)
    return Curves(
        thresholds,
        _dice(whole),
        _filtered(brain[_TRUE_POSITIVE]),
        _filtered(brain[_TRUE_NEGATIVE]),
    )


def baseline(mask, predicted_mask) -> RegionAUC:
    """Return what a map of zeros scores: nothing is taken out at any threshold.

    Args:
        mask: As in `region_auc`.
        predicted_mask: As there.

    >>> round(baseline([1, 1, 0], [1, 0, 0]).score, 4)
    0.8889
    """
    zeros = np.zeros(np.shape(mask), np.float32)
    return region_auc(mask, predicted_mask, zeros, np.ones(zeros.shape, bool))


def permuted(
    mask, predicted_mask, uncertainty, brain_mask, *, seed: int = 0
) -> RegionAUC:
    """Return what the same uncertainties score when they lie at random in the brain.

    What a map gains over this it owes to where it is uncertain, not to how often.

    Args:
        mask: As in `region_auc`.
        predicted_mask: As there.
        uncertainty: As there.
        brain_mask: As there.
        seed: Of the permutation.
    """
    shuffled = np.array(uncertainty, np.float32)
    inside = _checks.binary_mask("brain_mask", brain_mask)
    _checks.same_shape("brain_mask", inside, "uncertainty", shuffled)
    shuffled[inside] = np.random.default_rng(seed).permutation(shuffled[inside])
    return region_auc(mask, predicted_mask, shuffled, inside)


def mean_score(regions: Sequence[RegionAUC]) -> float:
    """Return the mean score of several regions, 0 to 1.

    >>> mean_score([RegionAUC(1.0, 0.0, 0.0), RegionAUC(0.4, 0.0, 0.0)])
    0.9
    """
    return float(np.mean([region.score for region in regions]))


def ranks(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean rank of every method, as the challenge orders its teams; 1 is best.

    On every patient and region the methods are ranked by their score, equal scores
    share their mean rank, and ranks are averaged.

    Args:
      scores: By method, a score for each pair of patient and region, in one order.

    Raises:
      ValueError: If there is no method or no score, or their numbers differ.

    >>> ranks({"one": [0.9, 0.5, 0.7], "other": [0.8, 0.5, 0.6]})
    {'one': 1.1666666666666667, 'other': 1.8333333333333333}
    """
    sizes = {len(each) for each in scores.values()}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(
            "`scores` must hold the same number of scores for every method, at least "
            f"one; got {[len(each) for each in scores.values()]}."
        )
    table = np.array(list(scores.values()), np.float64)
    placed = stats.rankdata(-table, axis=0).mean(axis=1)
    return {name: float(rank) for name, rank in zip(scores, placed, strict=True)}


def _checked(mask, predicted_mask, uncertainty, brain_mask):
    """Return, flat, the kind of every voxel, the brain, and the uncertainty."""
    mask = _checks.binary_mask("mask", mask)
    predicted_mask = _checks.binary_mask("predicted_mask", predicted_mask)
    inside = _checks.binary_mask("brain_mask", brain_mask)
    levels = np.asarray(uncertainty)
    given = {"predicted_mask": predicted_mask, "uncertainty": levels}
    given["brain_mask"] = inside
    for name, array in given.items():
        _checks.same_shape(name, array, "mask", mask)
    low, high = (levels.min(), levels.max()) if levels.size else (0, 0)
    if not (low >= 0.0 and high <= 100.0):  # NaN is neither
        raise ValueError(
            f"`uncertainty` must lie in 0..100; got {low:g}..{high:g}. Scale an "
            "entropy with `measures.scaled_uncertainty`."
        )
    # In one order of memory, so that nothing is copied axis by axis.
    order = "F" if mask.flags.f_contiguous else "C"
    kind = mask.ravel(order) * np.uint8(_FALSE_NEGATIVE)
    kind += predicted_mask.ravel(order) * np.uint8(_FALSE_POSITIVE)
    return kind, inside.ravel(order), levels.ravel(order)


def _check_thresholds(thresholds) -> np.ndarray:
    thresholds = np.asarray(thresholds, np.float64)
    ends = thresholds.ndim == 1 and thresholds.size > 1
    ends = ends and thresholds[0] == 0.0 and thresholds[-1] == 100.0
    if not (ends and (np.diff(thresholds) > 0.0).all()):
        raise ValueError(
            f"`thresholds` must ascend from 0 to 100; got {thresholds.tolist()}."
        )
    return thresholds


def _left(kind, levels, thresholds) -> np.ndarray:
    """Return how many voxels of each kind are left at each threshold, int64 (4, T)."""
    # The first threshold that a voxel does not exceed is the first that leaves it in.
    first = np.searchsorted(thresholds, levels, side="left")
    counts = np.bincount(first * 4 + kind, minlength=4 * len(thresholds))
    return np.cumsum(counts.reshape(-1, 4), axis=0).T


def _dice(left: np.ndarray) -> np.ndarray:
    overlap = 2 * left[_TRUE_POSITIVE]
    total = overlap + left[_FALSE_POSITIVE] + left[_FALSE_NEGATIVE]
    both_empty = np.full(total.shape, _rulings.DICE_BOTH_EMPTY)
    return np.divide(overlap, total, out=both_empty, where=total > 0)


def _filtered(left: np.ndarray) -> np.ndarray:
    """Return the share that is taken out; at the last threshold nothing is."""
    return (left[-1] - left) / (left[-1] + _EPSILON)
