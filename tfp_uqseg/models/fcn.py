"""FCN-8s of :cite:t:`long2015`: VGG-16, and scores fused at three strides."""

from __future__ import annotations

import numpy as np
import tf_keras

from tfp_uqseg.models import blocks

#: Width in the publication; the number of resolutions is always five poolings.
PUBLISHED = {"base_filters": 64, "depth": 5}
#: (convolutions, channels / base_filters) of the five stages of VGG-16.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
#: Channels of the two layers that were fully connected, / base_filters.
DENSE_FACTOR = 64
_UPSCORES = ("upscore2", "upscore_pool4", "upscore8")


def size_divisor(depth: int) -> int:
    """Return what every spatial extent must be a multiple of, at any `depth`."""
    del depth
    return 32


def _encoder(factory: blocks.Factory, images, base_filters: int) -> list:
    """Return the pooled features of the five stages, the finest first."""
    pooled, tensor = [], images
    for stage, (count, factor) in enumerate(STAGES, start=1):
        for index in range(1, count + 1):
            conv = factory.convolution(
                base_filters * factor, name=f"conv{stage}_{index}"
            )
            tensor = conv(tensor)
        tensor = factory.pool(f"pool{stage}")(tensor)
        pooled.append(tensor)
    return pooled


def features(
    factory: blocks.Factory, images, *, base_filters: int, depth: int, channels=None
):
    """Return the fused and enlarged scores of every voxel.

    The published network pads by 100 and crops; this one has same padding throughout.
    Its dropout (0.5, in `deterministic` too) is left out of the methods that have
    none. Transposed convolutions start as bilinear interpolation (`interpolate`).

    Args:
        factory: Makes the layers. Its dropout follows each of the two layers that were
            fully connected, as published.
        images: Keras tensor (B, ..., C); extents multiples of 32.
        base_filters: Channels of the first stage (64 published).
        depth: Has no effect: there are always five poolings.
        channels: Number of scores; None: `base_filters`, as features for what follows.

    Returns:
        Keras tensor (B, ..., channels).
    """
    del depth
    count = base_filters if channels is None else channels
    pooled = _encoder(factory, images, base_filters)
    tensor = pooled[-1]
    for name, size in (("fc6", 7), ("fc7", 1)):
        tensor = factory.convolution(base_filters * DENSE_FACTOR, size, name=name)(
            tensor
        )
        tensor = factory.dropout(f"{name}_dropout")(tensor)

    def score(tensor, name):
        return factory.convolution(count, 1, activation=None, name=name)(tensor)

    tensor = score(tensor, "score_fr")
    for name, skip, upscore in (
        ("score_pool4", pooled[3], _UPSCORES[0]),
        ("score_pool3", pooled[2], _UPSCORES[1]),
    ):
        up = factory.up_convolution(count, size=4, use_bias=False, name=upscore)
        add = tf_keras.layers.Add(name=f"{name}_fused")
        tensor = add([score(skip, name), up(tensor)])
    last = factory.up_convolution(
        count, size=16, strides=8, use_bias=False, name=_UPSCORES[2]
    )
    return last(tensor)


def interpolate(model: tf_keras.Model) -> None:
    """Set the transposed convolutions of a new `model` to linear interpolation."""
    for layer in model.layers:
        if layer.name in _UPSCORES:
            kernel = getattr(layer, "kernel_loc", None)
            kernel = layer.kernel if kernel is None else kernel
            kernel.assign(_linear_kernel(kernel.shape))


def _linear_kernel(shape) -> np.ndarray:
    """Return the kernel (*sizes, K, K) that enlarges each channel alone, linearly."""
    *sizes, count, _ = shape
    weights = np.ones(())
    for size in sizes:
        stride = size // 2
        distance = np.abs(np.arange(size) - (size - 1) / 2) / stride
        weights = np.multiply.outer(weights, 1.0 - distance)
    return weights[..., None, None] * np.eye(count)
