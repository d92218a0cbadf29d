"""Overlap of binary masks, under the package's ruling for empty ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_uqseg import _checks, _rulings


@dataclasses.dataclass(frozen=True)
class PerImage:
    """Mean overlap over the axial images of one volume.

    Attributes:
      dice: Mean Dice of the images, 0..1; an image empty in both masks counts one.
      iou: Mean IoU of the images, 0..1, likewise.
      images: How many images were averaged.
      both_empty: How many of them held the region in neither mask.
    """

    dice: float
    iou: float
    images: int
    both_empty: int


def dice(mask, predicted_mask, axis=None):
    """Dice overlap of two binary masks, 0 (disjoint) to 1 (equal).

    `2 |A and B| / (|A| + |B|)` (Eq. 19). Two empty masks score one and one empty
    mask zero, as BraTS rules; the same constants serve the metrics and the losses.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      axis: Axis or axes to sum over; None for all of them.

    Returns:
      A float, or an array over the axes that were kept.

    Raises:
      ValueError: If the shapes differ or a value is neither 0 nor 1.

    >>> dice([1, 1, 0, 0], [1, 0, 0, 0])
    0.6666666666666666
    >>> dice([0, 0], [0, 0])
    1.0
    """
    overlap, total = _counts(mask, predicted_mask, axis)
    return _ratio(2 * overlap, total, total)


def iou(mask, predicted_mask, axis=None):
    """Intersection over union of two binary masks, 0 (disjoint) to 1 (equal).

    `|A and B| / |A or B|` (Eq. 20). Two empty masks score one, one empty mask zero.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      axis: Axis or axes to sum over; None for all of them.

    Returns:
      A float, or an array over the axes that were kept.

    Raises:
      ValueError: If the shapes differ or a value is neither 0 nor 1.

    >>> iou([1, 1, 0, 0], [1, 0, 0, 0])
    0.5
    """
    overlap, total = _counts(mask, predicted_mask, axis)
    return _ratio(overlap, total - overlap, total)


def sensitivity(mask, predicted_mask) -> float:
    """Share of the reference mask that was found, 0 to 1.

    `|A and B| / |A|`. Two empty masks score one; an empty reference, of which
    something was found all the same, scores zero.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.

    Raises:
      ValueError: If the shapes differ or a value is neither 0 nor 1.

    >>> sensitivity([1, 1, 0, 0], [1, 0, 1, 1])
    0.5
    """
    overlap, total = _counts(mask, predicted_mask, None)
    return _ratio(overlap, np.count_nonzero(mask), total)


def precision(mask, predicted_mask) -> float:
    """Share of the predicted mask that is right, 0 to 1.

    `|A and B| / |B|`. Two empty masks score one, an empty prediction of something
    zero.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.

    Raises:
      ValueError: If the shapes differ or a value is neither 0 nor 1.

    >>> precision([1, 1, 0, 0], [1, 0, 0, 0])
    1.0
    """
    overlap, total = _counts(mask, predicted_mask, None)
    return _ratio(overlap, np.count_nonzero(predicted_mask), total)


def volume_error(mask, predicted_mask, voxel_volume_ml: float) -> float:
    """Predicted volume less that of the reference, ml; above zero for too much.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      voxel_volume_ml: Volume of one voxel, ml.

    Raises:
      ValueError: If the shapes differ, a value is neither 0 nor 1, or the volume is
        not above zero.

    >>> volume_error([1, 1, 0, 0], [1, 0, 0, 0], voxel_volume_ml=0.5)
    -0.5
    """
    voxel_volume_ml = _checks.positive("voxel_volume_ml", voxel_volume_ml)
    _counts(mask, predicted_mask, None)  # raises for anything but two masks
    more = int(np.count_nonzero(predicted_mask)) - int(np.count_nonzero(mask))
    return more * voxel_volume_ml


def per_image(mask, predicted_mask, *, brain=None) -> PerImage:
    """Overlap of each axial image of a volume, averaged over its images.

    The paper's mean over images. It leaves open what an image without tumour scores;
    here such an image counts one when the prediction is empty too, and the number of
    them is reported so that the mean can be read.

    Args:
      mask: Reference mask (X, Y, Z), holding 0 and 1; images run along the last axis.
      predicted_mask: Mask of the same shape.
      brain: Mask of the same shape. Images that hold no brain and no voxel of either
        mask are left out, so that air around the head does not raise the mean. None
        counts every image.

    Returns:
      A `PerImage`.

    Raises:
      ValueError: If an array is not (X, Y, Z), shapes differ, a value is neither 0
        nor 1, or no image is left.

    >>> score = per_image([[[1, 0]], [[1, 0]]], [[[1, 0]], [[0, 0]]])
    >>> round(score.dice, 3), score.images, score.both_empty
    (0.833, 2, 1)
    """
    mask = _checks.binary_mask("mask", mask)
    predicted_mask = _checks.binary_mask("predicted_mask", predicted_mask)
    if mask.ndim != 3:
        raise ValueError(
            "`mask` must be a volume of shape (X, Y, Z); got an array of shape "
            f"{mask.shape}. Score one region at a time."
        )
    overlap, total = _counts(mask, predicted_mask, (0, 1))
    counted = np.ones(mask.shape[2], dtype=bool)
    if brain is not None:
        brain = _checks.binary_mask("brain", brain)
        _checks.same_shape("brain", brain, "mask", mask)
        counted = brain.any(axis=(0, 1)) | (total > 0)
    if not counted.any():
        raise ValueError("`brain` must hold at least one voxel; it is empty.")
    overlap, total = overlap[counted], total[counted]
    return PerImage(
        dice=float(_ratio(2 * overlap, total, total).mean()),
        iou=float(_ratio(overlap, total - overlap, total).mean()),
        images=int(counted.sum()),
        both_empty=int((total == 0).sum()),
    )


def both_empty(mask, predicted_mask, axis=None):
    """Whether the region is in neither mask, where Dice and IoU are one by ruling.

    Args:
      mask: Reference mask of any shape, holding 0 and 1.
      predicted_mask: Mask of the same shape.
      axis: Axis or axes to sum over; None for all of them.

    Returns:
      A bool, or a bool array over the axes that were kept.

    Raises:
      ValueError: If the shapes differ or a value is neither 0 nor 1.

    >>> both_empty([0, 0], [0, 0]), both_empty([0, 1], [0, 0])
    (True, False)
    """
    _, total = _counts(mask, predicted_mask, axis)
    return bool(total == 0) if np.ndim(total) == 0 else total == 0


def _counts(mask, predicted_mask, axis):
    mask = _checks.binary_mask("mask", mask)
    predicted_mask = _checks.binary_mask("predicted_mask", predicted_mask)
    _checks.same_shape("predicted_mask", predicted_mask, "mask", mask)
    overlap = np.count_nonzero(mask & predicted_mask, axis=axis)
    total = np.count_nonzero(mask, axis=axis) + np.count_nonzero(
        predicted_mask, axis=axis
    )
    return overlap, total


def _ratio(numerator, denominator, total):
    # With one mask empty the overlap is 0, which is the ruling for that case too.
    score = np.where(
        np.equal(total, 0),
        _rulings.DICE_BOTH_EMPTY,
        np.divide(numerator, np.maximum(denominator, 1)),
    )
    return float(score) if score.ndim == 0 else score
