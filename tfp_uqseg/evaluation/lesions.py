"""Scores lesion by lesion, as BraTS 2023 counts them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.ndimage

from tfp_uqseg import _rulings
from tfp_uqseg.evaluation import overlap, surface

#: Dilations of the reference by which lesions close to each other become one.
DILATIONS = 3
#: Lesions of the reference that are no larger are left out, voxels of 1 mm^3.
SMALLEST_MM3 = 50.0
_WITH_EDGES = scipy.ndimage.generate_binary_structure(3, 2)
_WITH_CORNERS = scipy.ndimage.generate_binary_structure(3, 3)


@dataclasses.dataclass(frozen=True)
class LesionScores:
    """Scores of a region's lesions in one patient.

    Attributes:
      dice: Mean Dice over the lesions, 0 to 1; a lesion that was missed counts 0, and
        so does every predicted component that touches none.
      hd95: Mean Hausdorff distance at the 95th percentile, mm; 373.13 for those.
      lesions: Lesions of the reference that count.
      missed: Those of them that no predicted component touches.
      false_alarms: Predicted components that touch no lesion.
    """

    dice: float
    hd95: float
    lesions: int
    missed: int
    false_alarms: int


def lesion_wise(
    mask,
    predicted_mask,
    spacing: Sequence[float],
    *,
    dilations: int = DILATIONS,
    smallest_mm3: float = SMALLEST_MM3,
) -> LesionScores:
    """Score a region lesion by lesion.

    The reference is dilated `dilations` times (18 neighbours); what is then connected
    (26 neighbours) is one lesion. A predicted component belongs to every lesion whose
    dilated voxels it touches, and a lesion is scored against all components that
    belong to it. No lesion and no component score 1 and 0 mm.

    The challenge's script differs in two points: its distance is the larger of two
    percentiles, one for each direction, where `surface.hd95` pools both directions, and
    what is missed counts 374 mm there and 373.13 mm here.

    Args:
      mask: Reference mask (X, Y, Z), holding 0 and 1.
      predicted_mask: Mask of the same shape.
      spacing: Extent of a voxel along each axis, mm.
      dilations: How often the reference is dilated.
      smallest_mm3: Lesions of at most this volume are left out of the means; what
        touches them is no false alarm.

    Returns:
      `LesionScores`.

    Raises:
      ValueError: If the arrays are not (X, Y, Z), or see `surface.distances`.
    """
    mask = np.asarray(mask)
    if mask.ndim != 3:
        raise ValueError(
            f"`mask` must be a volume of shape (X, Y, Z); got shape {mask.shape}."
        )
    overlap.both_empty(mask, predicted_mask)  # raises for anything but two masks
    mask, predicted_mask = (
        np.asarray(each).astype(bool)[_box(mask, predicted_mask, dilations)]
        for each in (mask, predicted_mask)
    )
    lesions = _lesions(mask, dilations)
    components, _ = scipy.ndimage.label(predicted_mask, _WITH_CORNERS)
    touching: set[int] = set()
    dices, distances, missed = [], [], 0
    for number in range(1, int(lesions.max(initial=0)) + 1):
        lesion = lesions == number
        near = _dilated(lesion, dilations)
        belonging = np.setdiff1d(np.unique(components[near]), [0])
        touching.update(belonging.tolist())
        if lesion.sum() * float(np.prod(spacing)) <= smallest_mm3:
            continue
        found = np.isin(components, belonging) & predicted_mask
        missed += not belonging.size
        dices.append(overlap.dice(lesion, found))
        distances.append(surface.hd95(lesion, found, spacing))
    false_alarms = int(components.max(initial=0)) - len(touching)
    return _means(dices, distances, missed, false_alarms)


def _means(dices, distances, missed: int, false_alarms: int) -> LesionScores:
    count = len(dices) + false_alarms
    alarm = false_alarms * _rulings.HD95_ONE_EMPTY_MM
    return LesionScores(
        dice=sum(dices) / count if count else _rulings.DICE_BOTH_EMPTY,
        hd95=(sum(distances) + alarm) / count if count else _rulings.HD95_BOTH_EMPTY_MM,
        lesions=len(dices),
        missed=missed,
        false_alarms=false_alarms,
    )


def _box(mask, predicted_mask, margin: int) -> tuple[slice, ...]:
    """Return a box around both masks, within which every dilation stays."""
    held = np.asarray(mask).astype(bool) | np.asarray(predicted_mask).astype(bool)
    found = scipy.ndimage.find_objects(held.astype(np.uint8))
    if not found:
        return (slice(None),) * held.ndim
    return tuple(slice(max(0, s.start - margin), s.stop + margin) for s in found[0])


def _dilated(mask: np.ndarray, dilations: int) -> np.ndarray:
    # Zero iterations would mean: until nothing changes.
    if not dilations:
        return mask
    return scipy.ndimage.binary_dilation(mask, _WITH_EDGES, iterations=dilations)


def _lesions(mask: np.ndarray, dilations: int) -> np.ndarray:
    """Return the number of the lesion that each voxel of the mask belongs to."""
    numbers, _ = scipy.ndimage.label(_dilated(mask, dilations), _WITH_CORNERS)
    return np.where(mask, numbers, 0)
