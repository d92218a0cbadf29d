"""The V-Net of :cite:t:`milletari2016`, in two or three dimensions and any width."""

from __future__ import annotations

import tf_keras

from tfp_uqseg.models import blocks

#: Width and number of resolutions in the publication.
PUBLISHED = {"base_filters": 16, "depth": 5}
#: 5-wide convolutions of the stages by resolution, the finest first (their Figure 2).
STAGES = (1, 2, 3, 3, 3)
_KERNEL = 5
_ACTIVATION = "prelu"


def size_divisor(depth: int) -> int:
    """Return what every spatial extent must be a multiple of."""
    return 2 ** (depth - 1)


def _stage(factory: blocks.Factory, tensor, shortcut, filters, count, name):
    """Return `count` convolutions of `tensor`, plus `shortcut`, then the last PReLU.

    The activation of the last convolution follows the sum.
    """
    for index in range(1, count):
        conv = factory.convolution(
            filters, _KERNEL, activation=_ACTIVATION, name=f"{name}_conv{index}"
        )
        tensor = conv(tensor)
    last = factory.convolution(
        filters, _KERNEL, activation=None, name=f"{name}_conv{count}"
    )
    tensor = tf_keras.layers.Add(name=f"{name}_sum")([last(tensor), shortcut])
    return factory.activated(_ACTIVATION, f"{name}_last")(tensor)


def _widened(factory: blocks.Factory, images, filters: int):
    """Return the images as `filters` channels, to which the first stage is added.

    One channel is repeated, as in the publication; so are several that divide
    `filters`. Else a 1-wide convolution does it.
    """
    channels = images.shape[-1]
    if filters % channels:
        return factory.convolution(filters, 1, activation=None, name="widen")(images)
    concatenate = tf_keras.layers.Concatenate(name="widen")
    copies = [images] * (filters // channels)
    return concatenate(copies) if len(copies) > 1 else images


def features(
    factory: blocks.Factory, images, *, base_filters: int, depth: int, channels=None
):
    """Return the features of every voxel, or the scores made of them.

    Residual stages of 5-wide convolutions, 2-wide strided convolutions down and
    transposed ones up, PReLU with a slope per channel. At the finest resolution the
    decoder works with twice `base_filters` channels, as published.

    Args:
        factory: Makes the layers. Its dropout follows the coarsest stage and every
            stage of the decoder.
        images: Keras tensor (B, ..., C); extents multiples of `size_divisor`.
        base_filters: Channels of the first stage; they double at each level.
        depth: Number of resolutions, five at most (as published).
        channels: Number of scores of a 1-wide convolution at the end; None for none.

    Returns:
        Keras tensor (B, ..., 2 base_filters), or (B, ..., channels).
    """
    skips, tensor = [], images
    for level in range(depth):
        filters = base_filters * 2**level
        if level == 0:
            shortcut = _widened(factory, images, filters)
        else:
            down = factory.convolution(
                filters, 2, strides=2, activation=_ACTIVATION, name=f"down{level}_conv0"
            )
            tensor = shortcut = down(tensor)
        tensor = _stage(
            factory, tensor, shortcut, filters, STAGES[level], f"down{level}"
        )
        skips.append(tensor)
    tensor = factory.dropout("bottom_dropout")(tensor)
    for level in reversed(range(depth - 1)):
        filters = base_filters * 2 ** (level + 1)
        up = factory.up_convolution(
            filters // 2, activation=_ACTIVATION, name=f"up{level}_conv0"
        )
        merge = tf_keras.layers.Concatenate(name=f"up{level}_skip")
        tensor = merge([skips[level], up(tensor)])
        tensor = _stage(factory, tensor, tensor, filters, STAGES[level], f"up{level}")
        tensor = factory.dropout(f"up{level}_dropout")(tensor)
    return blocks.head(factory, tensor, channels)
