"""Flips and quarter turns: they move voxels and never interpolate them."""

from __future__ import annotations

import tensorflow as tf


def flips_and_turns(
    image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flip and turn a slice and its mask alike.

    A flip along the first axis, then quarter turns: 0 to 3 of them where the slice is
    square, else 0 or 2. All of these are equally likely.

    Args:
        image: (H, W, C).
        mask: (H, W, K).
        seed: (2,) integers; the same seed gives the same result everywhere.

    Returns:
        Image and mask, of the same shapes and types.
    """
    image, mask = tf.convert_to_tensor(image), tf.convert_to_tensor(mask)
    flip, turns = _draw(seed, _is_square(image))

    def move(array):
        flipped = tf.cond(flip, lambda: tf.reverse(array, [0]), lambda: array)
        return _turn(flipped, turns, array.shape)

    return move(image), move(mask)


def undo_flips_and_turns(array: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Put back what `flips_and_turns` did to an array with this seed.

    Args:
        array: (H, W, C), an image or a map predicted from it.
        seed: (2,) integers.

    Returns:
        The array as it lay before.
    """
    array = tf.convert_to_tensor(array)
    flip, turns = _draw(seed, _is_square(array))
    turned = _turn(array, (4 - turns) % 4, array.shape)
    return tf.cond(flip, lambda: tf.reverse(turned, [0]), lambda: turned)


def extents(image: tf.Tensor) -> tuple[int, int]:
    """Return height and width of `image`, or raise where the graph leaves them open."""
    height, width = image.shape[:2]
    if height is None or width is None:
        raise ValueError(
            f"`image` must have a known height and width; got shape {image.shape}. Set "
            "them with `tf.ensure_shape`."
        )
    return height, width


def _is_square(array: tf.Tensor) -> bool:
    height, width = extents(array)
    return height == width


def _draw(seed: tf.Tensor, square: bool) -> tuple[tf.Tensor, tf.Tensor]:
    number = tf.random.stateless_uniform(
        (), seed, 0, 8 if square else 4, tf.int32, alg="philox"
    )
    turns = number // 2
    return number % 2 == 1, turns if square else 2 * turns


def _turn(array: tf.Tensor, turns: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    if shape[0] == shape[1]:
        return tf.ensure_shape(tf.image.rot90(array, turns), shape)
    return tf.cond(turns == 2, lambda: tf.reverse(array, [0, 1]), lambda: array)
