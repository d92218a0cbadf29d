"""One uncertainty per case, from its maps or its draws; larger is less sure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from tfp_uqseg import _checks
from tfp_uqseg.evaluation import overlap


def total(uncertainty, brain=None) -> float:
    """Sum of an uncertainty map, in its unit times voxels.

    It grows with the size of what was found; `mean_over_region` does not.

    Args:
      uncertainty: Map of any shape, finite and not negative.
      brain: Mask of the voxels that count, same shape; None for all.

    Raises:
      ValueError: If shapes differ or a value is not allowed.

    >>> total([0.5, 0.25, 0.25], brain=[1, 1, 0])
    0.75
    """
    return float(_inside(uncertainty, brain).sum())


def mean_over_region(uncertainty, predicted_mask) -> float:
    """Mean of an uncertainty map over the predicted region, in its unit.

    Where nothing was predicted, the mean over all voxels: an uncertain nothing then
    still counts for something.

    Args:
      uncertainty: Map of any shape, finite and not negative.
      predicted_mask: Mask of the same shape.

    Raises:
      ValueError: If shapes differ or a value is not allowed.

    >>> mean_over_region([0.5, 0.25, 0.0], [1, 1, 0])
    0.375
    """
    inside = _inside(uncertainty, predicted_mask)
    return float((inside if inside.size else _inside(uncertainty, None)).mean())


def patch_maximum(uncertainty, patch: int | Sequence[int] = 10) -> float:
    """Largest mean of an uncertainty map over a box, in its unit.

    What lies beyond the map counts as sure.

    Args:
      uncertainty: Map of any rank, finite and not negative.
      patch: Extent of the box in voxels, along every axis or along each.

    Raises:
      ValueError: If a value is not allowed.

    >>> patch_maximum([[0.0, 0.0, 0.0], [0.0, 0.9, 0.0]], patch=3)
    0.1
    """
    uncertainty = np.asarray(uncertainty, dtype=np.float64)
    _inside(uncertainty, None)  # raises for what is no map
    sizes = np.broadcast_to(patch, (uncertainty.ndim,)).tolist()
    sizes = [_checks.positive_integer("patch", size) for size in sizes]
    means = scipy.ndimage.uniform_filter(uncertainty, sizes, mode="constant")
    return float(max(means.max(), 0.0))


def volume_variation(volumes) -> float:
    """Coefficient of variation of a region's volume over the draws.

    Standard deviation over mean; 0 where no draw found the region.

    Args:
      volumes: One volume per draw, at least two, in any unit.

    Raises:
      ValueError: If there are fewer than two draws, or a volume is not finite or is
        negative.

    >>> volume_variation([1.0, 3.0])
    0.5
    """
    volumes = np.asarray(volumes, dtype=np.float64)
    if volumes.ndim != 1 or volumes.size < 2:
        raise ValueError(
            f"`volumes` must hold one per draw, at least two; got shape "
            f"{volumes.shape}."
        )
    _inside(volumes, None)
    mean = volumes.mean()
    return float(volumes.std() / mean) if mean > 0 else 0.0


def disagreement(masks) -> float:
    """One less the expected Dice between two different draws, 0 to 1.

    Args:
      masks: Masks of the draws (draws, ...), at least two.

    Raises:
      ValueError: If there are fewer than two draws, or a value is neither 0 nor 1.

    >>> disagreement([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    0.6666666666666667
    """
    masks = _checks.binary_mask("masks", masks)
    if masks.ndim < 2 or len(masks) < 2:
        raise ValueError(
            "`masks` must hold one mask per draw, at least two; got shape "
            f"{masks.shape}."
        )
    pairs = itertools.combinations(masks, 2)
    return 1.0 - float(np.mean([overlap.dice(one, other) for one, other in pairs]))


def _inside(uncertainty, mask) -> np.ndarray:
    uncertainty = np.asarray(uncertainty, dtype=np.float64)
    if uncertainty.size == 0:
        raise ValueError("`uncertainty` must hold at least one voxel; got none.")
    if not np.isfinite(uncertainty).all() or uncertainty.min() < 0.0:
        raise ValueError(
            "`uncertainty` must be finite and not negative; got values from "
            f"{uncertainty.min()} to {uncertainty.max()}."
        )
    if mask is None:
        return uncertainty.ravel()
    mask = _checks.binary_mask("mask", mask)
    _checks.same_shape("mask", mask, "uncertainty", uncertainty)
    return uncertainty[mask]
