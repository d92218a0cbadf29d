"""The U-Net of :cite:t:`ronneberger2015`, with same padding and any width."""

from __future__ import annotations

import tf_keras

from tfp_uqseg.models import blocks

#: Width and number of resolutions in the publication.
PUBLISHED = {"base_filters": 64, "depth": 5}


def size_divisor(depth: int) -> int:
    """Return what every spatial extent must be a multiple of."""
    return 2 ** (depth - 1)


def features(
    factory: blocks.Factory, images, *, base_filters: int, depth: int, channels=None
):
    """Return the features of every voxel, or the scores made of them.

    Args:
        factory: Makes the layers. Its dropout follows the coarsest block and every
            block of the decoder.
        images: Keras tensor (B, ..., C); extents multiples of `size_divisor`.
        base_filters: Channels at full resolution; they double at each level.
        depth: Number of resolutions (the publication has five).
        channels: Number of scores of a 1-wide convolution at the end; None for none.

    Returns:
        Keras tensor (B, ..., base_filters), or (B, ..., channels).
    """
    skips, tensor = [], images
    for level in range(depth - 1):
        block = blocks.double_convolution(
            factory, base_filters * 2**level, f"down{level}"
        )
        skips.append(block(tensor))
        tensor = factory.pool(f"down{level}_pool")(skips[-1])
    bottom = base_filters * 2 ** (depth - 1)
    tensor = blocks.double_convolution(factory, bottom, "bottom")(tensor)
    tensor = factory.dropout("bottom_dropout")(tensor)
    for level in reversed(range(depth - 1)):
        filters = base_filters * 2**level
        tensor = factory.up_convolution(filters, name=f"up{level}_conv0")(tensor)
        tensor = tf_keras.layers.Concatenate(name=f"up{level}_skip")(
            [skips[level], tensor]
        )
        tensor = blocks.double_convolution(factory, filters, f"up{level}")(tensor)
        tensor = factory.dropout(f"up{level}_dropout")(tensor)
    return blocks.head(factory, tensor, channels)
