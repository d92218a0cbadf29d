"""What `draws` is given: checked, padded to what a network divides, cropped again."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks


def check(model: tf_keras.Model, images) -> np.ndarray:
    """Return the images as an array that the model can be asked about.

    Raises:
        ValueError: See `draws.predict`.
    """
    _checks.keras2("model", model)
    images = np.asarray(images)
    if images.dtype.kind not in "fiu":
        raise ValueError(f"`images` must be numbers; got dtype {images.dtype}.")
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and (
        images.ndim != len(expected) or expected[-1] not in (None, images.shape[-1])
    ):
        raise ValueError(
            f"`images` must have shape {('N', *expected[1:])} (the model's input); got "
            f"{images.shape}."
        )
    if len(images) == 0:
        raise ValueError("`images` must hold at least one image; got none.")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError("`images` must be finite; found NaN or infinite values.")
    largest = getattr(model, "largest_intensity", np.inf)
    if not -largest <= images.min() <= images.max() <= largest:
        raise ValueError(
            "`images` must be scaled as in training, as z-scores or to 0..1; got "
            f"{images.min():.4g} to {images.max():.4g}. `preprocess.prepare` does it."
        )
    return images


def _padded_extents(model: tf_keras.Model, extents: tuple) -> list[int]:
    """Return the extents at which the network runs images of `extents`."""
    divisor = getattr(model, "size_divisor", 1)
    expected = getattr(model, "input_shape", None)
    fixed = expected[1:-1] if isinstance(expected, tuple) else [None] * len(extents)
    padded = []
    for extent, wanted in zip(extents, fixed, strict=True):
        if wanted is not None and extent > wanted:
            raise ValueError(
                f"`images` must not be larger than the model's input {tuple(fixed)}; "
                f"got extents {extents}. Build the model with None for any size."
            )
        padded.append(wanted or -(-extent // divisor) * divisor)
    return padded


def pad(model: tf_keras.Model, batch: np.ndarray) -> tf.Tensor:
    """Return the batch as float32, padded with zeros at the far edges."""
    extents = _padded_extents(model, batch.shape[1:-1])
    widths = [
        (0, target - now)
        for target, now in zip(extents, batch.shape[1:-1], strict=True)
    ]
    return tf.constant(
        np.pad(batch.astype(np.float32, copy=False), [(0, 0), *widths, (0, 0)])
    )


def valid(model: tf_keras.Model, where: np.ndarray) -> tf.Tensor:
    """Return one where a voxel of a padded batch may belong to a region, else zero.

    Args:
        model: Whose input the batch is.
        where: Bool (B, ...) of the voxels that may, without the padding.

    Returns:
        float32 (B, ..., 1).
    """
    return pad(model, where[..., np.newaxis])


def crop(array: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return the part of the array that holds the images, without the padding."""
    return array[(slice(None), *(slice(0, extent) for extent in batch.shape[1:-1]))]


def check_where(where, images: np.ndarray) -> np.ndarray:
    """Return which voxels may belong to a region, bool (N, ...); all for None.

    Raises:
        ValueError: If it is not bool, or not of the images' shape.
    """
    if where is None:
        return np.broadcast_to(True, images.shape[:-1])
    where = np.asarray(where)
    if where.dtype != bool or where.shape != images.shape[:-1]:
        raise ValueError(
            f"`where` must be bool of shape {images.shape[:-1]}, a value per voxel; "
            f"got {where.dtype} of shape {where.shape}."
        )
    return where
