"""Whether uncertainty tells what is wrong from what is right."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tfp_uqseg import _checks
from tfp_uqseg.evaluation import intervals, overlap


def auroc(wrong, uncertainty) -> float:
    """Area under the ROC curve of uncertainty as a sign of what is wrong.

    The probability that something wrong is more uncertain than something right, ties
    counting half. It serves voxels and cases; see `shift_auroc` for shifted cases.

    Args:
      wrong: Mask of any shape, holding 0 and 1.
      uncertainty: Finite numbers of the same shape.

    Returns:
      A float from 0 to 1; 0.5 says nothing. nan where all or none is wrong.

    Raises:
      ValueError: If shapes differ, there is nothing, or a value is not allowed.

    >>> auroc([1, 0, 0], [0.9, 0.1, 0.9])
    0.75
    """
    wrong, uncertainty = _flat(wrong, uncertainty)
    positives = int(wrong.sum())
    negatives = wrong.size - positives
    if not positives or not negatives:
        return float("nan")
    pair = (uncertainty[np.newaxis, which] for which in (wrong, ~wrong))
    return float(_chances(*pair)[0])


def shift_auroc(
    shifted, plain, *, level: float = 0.95, seed: int = 0
) -> intervals.Interval:
    """Chance that a shifted case is more uncertain than a plain one, with its interval.

    The `auroc` of cases' uncertainty as an alarm for what the network does not know:
    another scanner, another institution. Patients of both groups are resampled.

    Args:
      shifted: One finite number per shifted case, shape (cases,).
      plain: One per plain case, shape (other cases,).
      level: Coverage of the interval, between 0 and 1.
      seed: Seed of the resampling.

    Returns:
      An `intervals.Interval` from 0 to 1; 0.5 says nothing.

    Raises:
      ValueError: If a group is empty, or a number is not finite.

    >>> shift_auroc([0.8, 0.9], [0.1, 0.2, 0.3])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    named = {"shifted": shifted, "plain": plain}
    groups = [intervals.finite(name, group) for name, group in named.items()]
    intervals.check_level(level)
    rng = np.random.default_rng(seed)
    drawn = _chances(
        *(rng.choice(group, (intervals.NUM_RESAMPLES, group.size)) for group in groups)
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    middle = _chances(*(group[np.newaxis] for group in groups))[0]
    return intervals.Interval(float(middle), float(low), float(high))


def _chances(shifted: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return the area of every row of two groups, (rows, cases) each."""
    count = shifted.shape[1]
    ranks = stats.rankdata(np.concatenate([shifted, plain], axis=1), axis=1)
    above = ranks[:, :count].sum(axis=1) - count * (count + 1) / 2
    return above / (count * plain.shape[1])


def aupr(wrong, uncertainty) -> float:
    """Average precision of uncertainty as a sign of what is wrong.

    `sum_n (R_n - R_(n-1)) P_n` over the thresholds; ties are taken together. A sign
    that says nothing has the share of what is wrong.

    Args:
      wrong: Mask of any shape, holding 0 and 1.
      uncertainty: Finite numbers of the same shape.

    Returns:
      A float from 0 to 1; nan where nothing is wrong.

    Raises:
      ValueError: If shapes differ, there is nothing, or a value is not allowed.

    >>> aupr([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.7])
    0.8333333333333333
    """
    wrong, uncertainty = _flat(wrong, uncertainty)
    if not wrong.any():
        return float("nan")
    order = np.argsort(-uncertainty, kind="stable")
    found, ordered = np.cumsum(wrong[order]), uncertainty[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # of the ties
    precision = found[last] / (np.flatnonzero(last) + 1)
    gained = np.diff(found[last], prepend=0) / found[-1]
    return float(np.sum(gained * precision))


def error_overlap(mask, predicted_mask, uncertainty, threshold: float) -> float:
    """Uncertainty-error overlap :cite:p:`jungo2019`.

    Dice between the voxels that are wrong and those whose uncertainty exceeds
    `threshold`; no error and no uncertain voxel score 1.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      uncertainty: Finite numbers of the same shape.
      threshold: In the unit of the uncertainty.

    Returns:
      A float from 0 to 1.

    Raises:
      ValueError: If shapes differ or a value is not allowed.

    >>> error_overlap([1, 0, 0], [0, 0, 0], [0.9, 0.8, 0.1], threshold=0.5)
    0.6666666666666666
    """
    wrong, uncertainty = _errors(mask, predicted_mask, uncertainty)
    return overlap.dice(wrong, uncertainty > float(threshold))


def best_error_overlap(
    mask, predicted_mask, uncertainty, num_thresholds: int = 100
) -> tuple[float, float]:
    """The largest `error_overlap`, and the threshold that gives it.

    A threshold chosen on the patient that is scored flatters every map; compare
    methods by it, or choose the threshold on other patients.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      uncertainty: Finite numbers of the same shape.
      num_thresholds: Equally spaced from the smallest uncertainty to the largest.

    Returns:
      The overlap, 0 to 1, and the smallest such threshold.

    Raises:
      ValueError: If shapes differ or a value is not allowed.

    >>> best_error_overlap([1, 0, 0], [0, 0, 0], [0.9, 0.2, 0.1], num_thresholds=9)
    (1.0, 0.2)
    """
    num_thresholds = _checks.positive_integer("num_thresholds", num_thresholds)
    wrong, uncertainty = _errors(mask, predicted_mask, uncertainty)
    thresholds = np.linspace(uncertainty.min(), uncertainty.max(), num_thresholds)
    uncertain = _above(uncertainty, thresholds)
    both, errors = _above(uncertainty[wrong], thresholds), int(wrong.sum())
    overlaps = np.where(
        uncertain + errors > 0, 2 * both / np.maximum(uncertain + errors, 1), 1.0
    )
    best = int(np.argmax(overlaps))
    return float(overlaps[best]), float(thresholds[best])


def pavpu(mask, predicted_mask, uncertainty, threshold: float) -> float:
    """Patch accuracy versus patch uncertainty :cite:p:`mukhoti2018`, of voxels.

    Share of voxels that are right and certain, or wrong and uncertain. Most of a brain
    is right and certain, so the number is large for every map.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      uncertainty: Finite numbers of the same shape.
      threshold: Above it a voxel is uncertain.

    Returns:
      A float from 0 to 1.

    Raises:
      ValueError: If shapes differ, there is nothing, or a value is not allowed.

    >>> pavpu([1, 0, 0, 0], [0, 0, 0, 0], [0.9, 0.8, 0.1, 0.0], threshold=0.5)
    0.75
    """
    wrong, uncertainty = _errors(mask, predicted_mask, uncertainty)
    return float((wrong == (uncertainty > float(threshold))).mean())


def _above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return how many values exceed each of the thresholds."""
    return values.size - np.searchsorted(np.sort(values), thresholds, side="right")


def _errors(mask, predicted_mask, uncertainty):
    mask = _checks.binary_mask("mask", mask)
    predicted_mask = _checks.binary_mask("predicted_mask", predicted_mask)
    _checks.same_shape("predicted_mask", predicted_mask, "mask", mask)
    return _flat(mask != predicted_mask, uncertainty)


def _flat(wrong, uncertainty) -> tuple[np.ndarray, np.ndarray]:
    wrong = _checks.binary_mask("wrong", wrong)
    uncertainty = np.asarray(uncertainty, dtype=np.float64)
    _checks.same_shape("uncertainty", uncertainty, "wrong", wrong)
    if wrong.size == 0:
        raise ValueError("`uncertainty` must hold at least one number; got none.")
    if not np.isfinite(uncertainty).all():
        raise ValueError("`uncertainty` must be finite; found NaN or infinite values.")
    return wrong.ravel(), uncertainty.ravel()
