"""Draws against several raters: does the network disagree as people do?"""

from __future__ import annotations

import numpy as np

from tfp_uqseg import _checks

_SMALLEST = 1e-7


def ged(masks, rater_masks) -> float:
    """Squared generalised energy distance between draws and raters.

    `GED^2 = 2 E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')]` with d = 1 - IoU, over all
    ordered pairs, each mask with itself among them :cite:p:`kohl2018`; the IoU of two
    empty masks is one. Zero for two sets of masks that are equally distributed.

    Args:
      masks: Masks of the draws (draws, ...), holding 0 and 1.
      rater_masks: Those of the raters (raters, ...).

    Returns:
      A float from 0 to 2.

    Raises:
      ValueError: If there is no mask, shapes differ, or a value is neither 0 nor 1.

    >>> ged([[1, 0], [0, 1]], [[1, 0], [0, 1]])
    0.0
    >>> ged([[1, 0]], [[0, 1]])
    2.0
    """
    drawn, rated = _flat("masks", masks), _flat("rater_masks", rater_masks)
    if drawn.shape[1:] != rated.shape[1:]:
        raise ValueError(
            "`rater_masks` must have the shape of `masks` after the first axis; got "
            f"{np.shape(rater_masks)} and {np.shape(masks)}."
        )
    between = _distances(drawn, rated).mean()
    within = _distances(drawn, drawn).mean() + _distances(rated, rated).mean()
    # A squared distance; rounding alone makes it negative.
    return max(float(2.0 * between - within), 0.0)


def diversity(masks) -> float:
    """Mean of 1 - IoU over all ordered pairs of masks, each with itself among them.

    Args:
      masks: Masks (draws, ...), holding 0 and 1.

    Returns:
      A float from 0, all masks are equal, to below 1.

    Raises:
      ValueError: If there is no mask, or a value is neither 0 nor 1.

    >>> diversity([[1, 0], [0, 1]])
    0.5
    """
    drawn = _flat("masks", masks)
    return float(_distances(drawn, drawn).mean())


def ncc(probabilities, rater_masks, brain=None) -> float:
    """Correlation of the network's own spread with its error against each rater.

    The normalised cross correlation of PHiSeg :cite:p:`baumgartner2019`: over the
    voxels, of the draws' mean cross-entropy with their mean probability and of their
    mean cross-entropy with a rater's mask; averaged over the raters.

    Args:
      probabilities: Of the draws (draws, ...), 0 to 1.
      rater_masks: Masks of the raters (raters, ...).
      brain: Mask of the voxels that count; None for all.

    Returns:
      A float from -1 to 1; nan where one of the maps does not vary.

    Raises:
      ValueError: If there is nothing to compare, shapes differ, or a value is not
        allowed.

    >>> draws = [[0.9, 0.5, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1]]
    >>> ncc(draws, [[1, 1, 0, 0]]) > 0.9
    True
    """
    rated = _checks.binary_mask("rater_masks", rater_masks)
    drawn = np.asarray(probabilities, dtype=np.float64)
    if not (drawn.size and rated.size) or drawn.shape[1:] != rated.shape[1:]:
        raise ValueError(
            "`rater_masks` must have the shape of `probabilities` after the first "
            f"axis; got {rated.shape} and {drawn.shape}."
        )
    if not (drawn.min() >= 0.0 and drawn.max() <= 1.0):
        raise ValueError(
            f"`probabilities` must lie in 0..1; got {drawn.min()} to {drawn.max()}."
        )
    if brain is not None:
        brain = _checks.binary_mask("brain", brain)
        drawn, rated = drawn[:, brain], rated[:, brain]
    drawn = np.clip(drawn.reshape(len(drawn), -1), _SMALLEST, 1.0 - _SMALLEST)
    log_p, log_not_p = np.log(drawn).mean(0), np.log1p(-drawn).mean(0)
    mean = drawn.mean(0)
    own = -mean * log_p - (1.0 - mean) * log_not_p
    found = [
        _correlation(own, -np.where(mask, log_p, log_not_p))
        for mask in rated.reshape(len(rated), -1)
    ]
    return float(np.mean(found))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = np.sqrt(np.square(one).sum() * np.square(other).sum())
    return float((one * other).sum() / spread) if spread > 0.0 else float("nan")


def _flat(name: str, masks) -> np.ndarray:
    masks = _checks.binary_mask(name, masks)
    if masks.ndim < 2 or masks.size == 0:
        raise ValueError(
            f"`{name}` must hold at least one mask along its first axis; got shape "
            f"{masks.shape}."
        )
    return masks.reshape(len(masks), -1)


def _distances(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return 1 - IoU of every pair, (masks, others)."""
    held = masks.any(axis=0) | others.any(axis=0)  # the air around counts for none
    masks, others = masks[:, held], others[:, held]
    both = masks.astype(np.float64) @ others.astype(np.float64).T
    either = masks.sum(1)[:, None] + others.sum(1)[None] - both
    return np.where(either > 0, 1.0 - both / np.maximum(either, 1.0), 0.0)
