"""Rotate, shift, shear, zoom and flip a slice as Keras's `ImageDataGenerator` does.

The transform is one map from where a voxel goes to where it comes from, so that it is
interpolated once, and one for image and mask. Coordinates and what lies beyond the
edges follow SciPy, with which Keras interpolates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf

from tfp_uqseg.data import turns

FILL_MODES = ("nearest", "constant", "reflect", "wrap")
#: What leaves a slice as it is, by Keras's names.
IDENTITY = {
    "theta": 0.0,
    "tx": 0.0,
    "ty": 0.0,
    "shear": 0.0,
    "zx": 1.0,
    "zy": 1.0,
    "flip_horizontal": False,
    "flip_vertical": False,
}


def warp(
    image: tf.Tensor,
    mask: tf.Tensor,
    parameters: Mapping[str, object],
    *,
    fill_mode: str = "constant",
    cval: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Move a slice and its mask alike.

    Equal to ``ImageDataGenerator.apply_transform`` with the same parameters, up to
    float rounding, but for the centre of a slice that is not square: Keras swaps the
    centre's two coordinates, so that half a turn carries an oblong out of its frame.
    Here every slice turns about its own middle.

    Args:
        image: (H, W, C), interpolated linearly.
        mask: (H, W, K), takes the nearest voxel.
        parameters: By Keras's names; x runs along the columns, y along the rows.
            `theta` and `shear` in degrees, `tx` and `ty` in voxels (content moves
            towards smaller indices for positive ones), `zx` and `zy` (content shrinks
            above 1), `flip_horizontal` and `flip_vertical`, which come last. Absent
            ones do nothing; see `IDENTITY`.
        fill_mode: What lies beyond the edges abcd: "nearest" aaaa|abcd|dddd,
            "constant" kkkk|abcd|kkkk, "reflect" dcba|abcd|dcba, "wrap" abcd|abcd|abcd
            (as in SciPy, d and the next a fall together at the seam).
        cval: Value k of the image; that of the mask is 0.

    Returns:
        Image, float32, and mask, of its own type.
    """
    image = tf.cast(image, tf.float32)
    mask = tf.convert_to_tensor(mask)
    height, width = turns.extents(image)
    rows, columns = _sources({**IDENTITY, **parameters}, height, width)
    inside = None
    if fill_mode == "constant":
        inside = (rows >= 0) & (rows <= height - 1)
        inside = (inside & (columns >= 0) & (columns <= width - 1))[..., None]
    rows, columns = _fold(rows, height, fill_mode), _fold(columns, width, fill_mode)
    moved, moved_mask = _linear(image, rows, columns), _nearest(mask, rows, columns)
    if inside is not None:
        moved = tf.where(inside, moved, tf.constant(cval, moved.dtype))
        moved_mask = tf.where(inside, moved_mask, tf.zeros((), moved_mask.dtype))
    return tf.ensure_shape(moved, image.shape), tf.ensure_shape(moved_mask, mask.shape)


def _sources(parameters, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where every voxel of the result comes from: rows and columns, (H, W) float64."""
    number = {
        name: _float64(value)
        for name, value in parameters.items()
        if not name.startswith("flip")
    }
    theta, shear = (number[name] * (math.pi / 180) for name in ("theta", "shear"))
    cos, sin = tf.cos(theta), tf.sin(theta)
    # Rotation @ shift @ shear @ zoom, on (x, y) about the middle.
    along_x = (cos * number["zx"], sin * number["zx"])
    lean, rise = -tf.sin(shear) * number["zy"], tf.cos(shear) * number["zy"]
    along_y = (cos * lean - sin * rise, sin * lean + cos * rise)
    shift_x = cos * number["tx"] - sin * number["ty"]
    shift_y = sin * number["tx"] + cos * number["ty"]
    x = _from_middle(width, parameters["flip_horizontal"])[None, :]
    y = _from_middle(height, parameters["flip_vertical"])[:, None]
    columns = along_x[0] * x + along_y[0] * y + (shift_x + (width - 1) / 2)
    rows = along_x[1] * x + along_y[1] * y + (shift_y + (height - 1) / 2)
    return rows, columns


def _float64(value) -> tf.Tensor:
    """A tensor of it; `tf.cast` would round a Python number to float32 first."""
    if tf.is_tensor(value):
        return tf.cast(value, tf.float64)
    return tf.constant(float(value), tf.float64)


def _from_middle(size: int, flip) -> tf.Tensor:
    places = tf.range(size, dtype=tf.float64) - (size - 1) / 2
    return tf.where(tf.cast(flip, tf.bool), -places, places)


def _fold(places: tf.Tensor, size: int, fill_mode: str) -> tf.Tensor:
    """Take places beyond the edges to those in 0..size - 1 whose value they have."""
    last = float(size - 1)
    if fill_mode == "reflect":
        period = 2.0 * size
        phase = tf.math.floormod(places + 0.5, period)
        places = tf.minimum(phase, period - phase) - 0.5
    elif fill_mode == "wrap":
        period = max(last, 1.0)
        below = places + period * (tf.floor(-places / period) + 1)
        above = places - period * tf.floor(places / period)
        places = tf.where(places < 0, below, tf.where(places > last, above, places))
    return tf.clip_by_value(places, 0.0, last)


def _gather(array: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    height, width, channels = array.shape
    flat = tf.reshape(array, (height * width, channels))
    return tf.gather(flat, rows * width + columns)


def _linear(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    top, left = tf.floor(rows), tf.floor(columns)
    down = tf.cast(rows - top, image.dtype)[..., None]
    right = tf.cast(columns - left, image.dtype)[..., None]
    top, left = tf.cast(top, tf.int32), tf.cast(left, tf.int32)
    below = tf.minimum(top + 1, image.shape[0] - 1)
    beside = tf.minimum(left + 1, image.shape[1] - 1)

    def along_row(row):
        one, other = _gather(image, row, left), _gather(image, row, beside)
        return one + right * (other - one)

    upper, lower = along_row(top), along_row(below)
    return upper + down * (lower - upper)


def _nearest(mask: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    rows, columns = tf.floor(rows + 0.5), tf.floor(columns + 0.5)
    return _gather(mask, tf.cast(rows, tf.int32), tf.cast(columns, tf.int32))
