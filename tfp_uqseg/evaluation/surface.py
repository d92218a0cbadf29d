"""Distances between the surfaces of two masks, in mm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from tfp_uqseg import _checks, _rulings


@dataclasses.dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance of every surface voxel to the other mask's surface, mm.

    A surface voxel is one of the mask that has a neighbour outside along an axis; what
    lies beyond the array is outside. Both arrays are empty where either mask is.

    Attributes:
      to_predicted: Of the reference mask's surface voxels, shape (S,).
      to_reference: Of the predicted mask's surface voxels, shape (T,).
      both_empty: Whether neither mask holds a voxel.
    """

    to_predicted: np.ndarray
    to_reference: np.ndarray
    both_empty: bool

    @property
    def all(self) -> np.ndarray:
        """The distances in both directions, shape (S + T,)."""
        return np.concatenate([self.to_predicted, self.to_reference])


def distances(mask, predicted_mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Args:
      mask: Reference mask of any rank, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.

    Returns:
      `SurfaceDistances`.

    Raises:
      ValueError: If shapes differ, a value is neither 0 nor 1, or `spacing` does not
        hold one length above zero per axis.

    >>> distances([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0)).all
    array([6., 6.])
    """
    mask = _checks.binary_mask("mask", mask)
    predicted_mask = _checks.binary_mask("predicted_mask", predicted_mask)
    _checks.same_shape("predicted_mask", predicted_mask, "mask", mask)
    spacing = _checked_spacing(spacing, mask.ndim)
    if not (mask.any() and predicted_mask.any()):
        empty = np.zeros(0)
        return SurfaceDistances(empty, empty, not (mask.any() or predicted_mask.any()))
    box = _bounding_box(mask | predicted_mask)
    surfaces = [_surface(each[box]) for each in (mask, predicted_mask)]
    from_surface = [
        scipy.ndimage.distance_transform_edt(~each, sampling=spacing)
        for each in surfaces
    ]
    return SurfaceDistances(
        to_predicted=from_surface[1][surfaces[0]],
        to_reference=from_surface[0][surfaces[1]],
        both_empty=False,
    )


def hd95(mask, predicted_mask, spacing: Sequence[float]) -> float:
    """Hausdorff distance at the 95th percentile, mm.

    The 95th percentile of the distances in both directions together. Two empty masks
    are 0 mm apart and one empty mask 373.13 mm, as BraTS rules.

    Args:
      mask: Reference mask of any rank, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.

    Raises:
      ValueError: See `distances`.

    >>> hd95([[1, 1, 0]], [[1, 1, 0]], (1.0, 1.0))
    0.0
    >>> hd95([[1, 0]], [[0, 0]], (1.0, 1.0))
    373.13
    """
    return _ruled(distances(mask, predicted_mask, spacing), _percentile_95)


def average_distance(mask, predicted_mask, spacing: Sequence[float]) -> float:
    """Average symmetric surface distance, mm.

    The mean of the distances in both directions together. Empty masks as in `hd95`.

    Args:
      mask: Reference mask of any rank, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.

    Raises:
      ValueError: See `distances`.

    >>> average_distance([[1, 0, 0, 0]], [[0, 0, 0, 1]], (1.0, 2.0))
    6.0
    """
    return _ruled(distances(mask, predicted_mask, spacing), _symmetric_mean)


def surface_dice(
    mask, predicted_mask, spacing: Sequence[float], tolerance: float
) -> float:
    """Share of the surfaces that lies within `tolerance` of the other one, 0 to 1.

    Two empty masks score 1, one empty mask 0.

    Args:
      mask: Reference mask of any rank, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.
      tolerance: How far apart surfaces may lie and still agree, mm.

    Raises:
      ValueError: See `distances`, or `tolerance` is negative.

    >>> surface_dice([[1, 0, 0]], [[0, 1, 0]], (1.0, 2.0), tolerance=2.0)
    1.0
    >>> surface_dice([[1, 0, 0]], [[0, 1, 0]], (1.0, 2.0), tolerance=1.0)
    0.0
    """
    tolerance = _checks.non_negative("tolerance", tolerance)
    found = distances(mask, predicted_mask, spacing)
    return agreement(found, tolerance)


def agreement(found: SurfaceDistances, tolerance: float) -> float:
    """Return `surface_dice` of distances that are known already.

    Args:
      found: What `distances` returned.
      tolerance: See `surface_dice`, mm.
    """
    if found.both_empty:
        return _rulings.DICE_BOTH_EMPTY
    if not found.all.size:
        return _rulings.DICE_ONE_EMPTY
    return float((found.all <= tolerance).mean())


def summary(mask, predicted_mask, spacing: Sequence[float]) -> dict[str, float]:
    """All surface scores of a region from one pair of distance maps.

    Args:
      mask: Reference mask of any rank, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.

    Returns:
      ``hd95`` and ``average_distance`` in mm, ``surface_dice_1mm`` and
      ``surface_dice_2mm`` from 0 to 1.

    Raises:
      ValueError: See `distances`.
    """
    found = distances(mask, predicted_mask, spacing)
    return {
        "hd95": _ruled(found, _percentile_95),
        "average_distance": _ruled(found, _symmetric_mean),
        "surface_dice_1mm": agreement(found, 1.0),
        "surface_dice_2mm": agreement(found, 2.0),
    }


def _ruled(found: SurfaceDistances, score) -> float:
    if found.both_empty:
        return _rulings.HD95_BOTH_EMPTY_MM
    return float(score(found)) if found.all.size else _rulings.HD95_ONE_EMPTY_MM


def _percentile_95(found: SurfaceDistances) -> float:
    return np.percentile(found.all, 95)


def _symmetric_mean(found: SurfaceDistances) -> float:
    return found.all.mean()


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~scipy.ndimage.binary_erosion(mask)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around the mask: no nearest surface lies beyond it."""
    (box,) = scipy.ndimage.find_objects(mask.astype(np.uint8))
    return box


def _checked_spacing(spacing, rank: int) -> tuple[float, ...]:
    spacing = tuple(float(extent) for extent in spacing)
    if len(spacing) != rank or not all(0.0 < extent < np.inf for extent in spacing):
        raise ValueError(
            f"`spacing` must hold {rank} lengths in mm above 0, one per axis; got "
            f"{spacing}."
        )
    return spacing
