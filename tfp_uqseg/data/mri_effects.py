"""A slice as another MRI scan would show it: brightness, contrast, coil, motion, noise.

Where a modality is exactly 0 there is no brain, in z-scores as in intensities rescaled
to 0..1 (see `preprocess`), and it stays exactly 0 here: real ghosts and noise reach
into the air, but the skull is stripped from a scan after it was made.

A scanner multiplies what it measures from black upwards, whereas 0 in z-scores is the
brain's mean. Black is therefore taken for the lowest value of a modality in the slice,
or 0 where it has none below. And since the z-scores of another scan would have the same
mean and standard deviation again, `gamma` and `bias_field` put those of the slice back
where there are values below 0.
"""

from __future__ import annotations

import math

import tensorflow as tf

#: Bumps along each axis of a bias field.
_BUMPS = 4


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply by `factor`, counted from black.

    For intensities from 0 upwards as Keras's `apply_brightness_shift`, for others as
    Keras's on a single modality without background. Keras also rounds to 256 levels and
    clips at white; neither is done here. A modality's black is its own.

    Args:
        image: (H, W, C).
        factor: Scalar, 1 changes nothing.

    Returns:
        Image of the same shape.
    """
    dark = _black(image)
    return tf.where(image != 0, dark + factor * (image - dark), 0.0)


def gamma(image: tf.Tensor, exponents: tf.Tensor) -> tf.Tensor:
    """Raise what lies between black (0) and the brightest voxel (1) to a power.

    Args:
        image: (H, W, C).
        exponents: (C,), above 0; below 1 brightens what is dark.

    Returns:
        Image of the same shape.
    """
    dark = _black(image)
    span = tf.reduce_max(image, axis=[0, 1]) - dark
    share = tf.clip_by_value(tf.math.divide_no_nan(image - dark, span), 0.0, 1.0)
    return _as_preprocessed(dark + span * tf.pow(share, exponents), image)


def bias_field(image: tf.Tensor, log_gain: tf.Tensor) -> tf.Tensor:
    """Multiply by a coil's sensitivity, counted from black.

    Args:
        image: (H, W, C).
        log_gain: (H, W, C), its natural logarithm; see `smooth_fields`. Its mean over
            the brain is taken off.

    Returns:
        Image of the same shape.
    """
    dark = _black(image)
    inside = tf.cast(image != 0, image.dtype)
    gain = tf.exp(log_gain - _moments(log_gain, inside)[0])
    return _as_preprocessed(dark + gain * (image - dark), image)


def smooth_fields(seed: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Draw smooth Gaussian fields, standard normal at every voxel.

    Half of the variance is common to all channels: modalities are scanned one after the
    other by the same coil.

    Args:
        seed: (2,) integers.
        shape: (H, W, C).

    Returns:
        (H, W, C) float32, with about four bumps along each axis.
    """
    height, width, channels = shape
    bumps = tf.random.stateless_normal(
        (_BUMPS, _BUMPS, channels + 1), seed, alg="philox"
    )
    bumps = (bumps[..., :1] + bumps[..., 1:]) / 2.0**0.5
    rows, columns = _bump_weights(height), _bump_weights(width)
    return tf.einsum("hi,wj,ijc->hwc", rows, columns, bumps)


def ghosting(
    image: tf.Tensor, strength: tf.Tensor, period: tf.Tensor, along_rows: tf.Tensor
) -> tf.Tensor:
    """Weaken every `period`-th line of k-space, as a head that moves in rhythm does.

    What results is the image with ``period - 1`` ghosts of it, spread evenly along one
    axis, each `strength` / `period` strong. The line through the middle of k-space,
    hence the mean, is kept.

    Args:
        image: (H, W, C).
        strength: Share that the lines lose, 0 to 1.
        period: Whole number, at least 2.
        along_rows: Whether the ghosts lie along the second axis, else the first.

    Returns:
        Image of the same shape.
    """
    dark = _black(image)
    signal = tf.where(image != 0, image - dark, 0.0)

    def along(order):
        lines = tf.transpose(signal, order)
        weakened = _weaken_lines(lines, strength, period)
        return tf.transpose(weakened, [order.index(axis) for axis in range(3)])

    ghosted = tf.cond(along_rows, lambda: along([2, 0, 1]), lambda: along([2, 1, 0]))
    ghosted = tf.ensure_shape(ghosted, image.shape)
    # Scanners store magnitudes.
    return tf.where(image != 0, dark + tf.abs(ghosted), 0.0)


def noise(image: tf.Tensor, seed: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Add Gaussian noise.

    The magnitude of a scan has Rician noise, which is Gaussian where the signal is more
    than about three times as strong as it: in the brain, and nothing else is left here.

    Args:
        image: (H, W, C).
        seed: (2,) integers.
        strengths: (C,), its standard deviation in units of the modality's own in the
            slice.

    Returns:
        Image of the same shape.
    """
    inside = tf.cast(image != 0, image.dtype)
    scale = strengths * _moments(image, inside)[1]
    drawn = tf.random.stateless_normal(image.shape, seed, alg="philox")
    return image + inside * scale * drawn


def drop_modality(image: tf.Tensor, channel: tf.Tensor) -> tf.Tensor:
    """Set one modality to 0, as background is.

    Args:
        image: (H, W, C).
        channel: Its number.

    Returns:
        Image of the same shape.
    """
    kept = tf.range(image.shape[-1]) != channel
    return tf.where(kept, image, 0.0)


def random_gamma(
    image: tf.Tensor, seed: tf.Tensor, limits: tuple[float, float]
) -> tf.Tensor:
    """`gamma` with exponents log-uniform between `limits`, one for each modality."""
    low, high = (math.log(end) for end in limits)
    drawn = _uniform(seed, 1, image.shape[-1])
    return gamma(image, tf.exp(low + (high - low) * drawn))


def random_bias_field(image: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """`bias_field` of a standard deviation uniform in 0..`largest`."""
    stddev = largest * _uniform(seed, 1, 1)
    return bias_field(image, stddev * smooth_fields(_key(seed, 2), image.shape))


def random_ghosts(image: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """`ghosting` of a strength uniform in 0..`largest`, 1 to 4 ghosts, either axis."""
    drawn = _uniform(seed, 1, 3)
    period = tf.cast(2 + 4 * drawn[1], tf.int32)
    return ghosting(image, largest * drawn[0], period, drawn[2] < 0.5)


def random_noise(image: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """`noise` of strengths uniform in 0..`largest`, one for each modality."""
    strengths = largest * _uniform(seed, 1, image.shape[-1])
    return noise(image, _key(seed, 2), strengths)


def random_loss(image: tf.Tensor, seed: tf.Tensor, _: object = None) -> tf.Tensor:
    """`drop_modality` of any modality, unless it is the only one."""
    channels = image.shape[-1]
    if channels == 1:
        return image
    channel = tf.cast(channels * _uniform(seed, 1, 1)[0], tf.int32)
    return drop_modality(image, tf.minimum(channel, channels - 1))


def _key(seed: tf.Tensor, purpose: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, purpose, alg="philox")


def _uniform(seed: tf.Tensor, purpose: int, count: int) -> tf.Tensor:
    return tf.random.stateless_uniform((count,), _key(seed, purpose), alg="philox")


def _black(image: tf.Tensor) -> tf.Tensor:
    """(C,): what a scanner would show as black."""
    return tf.minimum(tf.reduce_min(image, axis=[0, 1]), 0.0)


def _moments(values: tf.Tensor, inside: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation in the brain, (C,) each; 0 where there is none."""
    count = tf.reduce_sum(inside, axis=[0, 1])
    mean = tf.math.divide_no_nan(tf.reduce_sum(values * inside, axis=[0, 1]), count)
    squares = tf.reduce_sum(tf.square(values - mean) * inside, axis=[0, 1])
    return mean, tf.sqrt(tf.math.divide_no_nan(squares, count))


def _as_preprocessed(changed: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Give z-scores the moments they had, and background its 0."""
    inside = tf.cast(image != 0, image.dtype)
    mean, stddev = _moments(image, inside)
    new_mean, new_stddev = _moments(changed, inside)
    scale = tf.math.divide_no_nan(stddev, new_stddev)
    put_back = (changed - new_mean) * scale + mean
    return tf.where(_black(image) < 0, put_back, changed) * inside


def _bump_weights(size: int) -> tf.Tensor:
    """Weight of each bump (columns) at each voxel (rows); rows have norm 1."""
    places = tf.range(size, dtype=tf.float32) / max(size - 1, 1)
    bumps = tf.range(_BUMPS, dtype=tf.float32) / (_BUMPS - 1)
    distance = (places[:, None] - bumps) * (_BUMPS - 1)
    return tf.math.l2_normalize(tf.exp(-0.5 * tf.square(distance)), axis=1)


def _weaken_lines(lines: tf.Tensor, strength, period) -> tf.Tensor:
    """Weaken frequencies of the last axis."""
    spectrum = tf.signal.rfft(lines)
    number = tf.range(lines.shape[-1] // 2 + 1)
    weak = (number > 0) & (tf.math.floormod(number, period) == 0)
    weights = tf.where(weak, 1.0 - strength, 1.0)
    return tf.signal.irfft(spectrum * tf.cast(weights, tf.complex64), [lines.shape[-1]])
