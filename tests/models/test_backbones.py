"""The backbones against the layer tables of their publications."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models
from tfp_uqseg.models import fcn, unet, vnet


def published(backbone, shape, regions, method="deterministic", **settings):
    module = {"unet": unet, "vnet": vnet, "fcn": fcn}[backbone]
    return models.build(
        method,
        backbone=backbone,
        input_shape=shape,
        num_regions=regions,
        num_train_examples=1,
        normalization=None,
        **{**module.PUBLISHED, **settings},
    )


def unet_table(channels, scores):
    """(kernel, inputs, outputs) of Ronneberger et al. 2015, Figure 1, left to right."""
    down = [(3, channels, 64), (3, 64, 64)]
    for width in (64, 128, 256, 512):
        down += [(3, width, 2 * width), (3, 2 * width, 2 * width)]
    up = []
    for width in (512, 256, 128, 64):
        up += [(2, 2 * width, width), (3, 2 * width, width), (3, width, width)]
    return [*down, *up, (1, 64, scores)]


def vnet_table(channels, scores):
    """The same of Milletari et al. 2016, Figure 2: 1, 2, 3, 3, 3 convolutions down."""
    down = [(5, channels, 16)]
    for width, count in ((32, 2), (64, 3), (128, 3), (256, 3)):
        down += [(2, width // 2, width)] + count * [(5, width, width)]
    up = []
    # Each stage works on as many channels as the skip and the enlarged features have.
    for width, below, count in (
        (256, 256, 3),
        (128, 256, 3),
        (64, 128, 2),
        (32, 64, 1),
    ):
        up += [(2, below, width // 2)] + count * [(5, width, width)]
    return [*down, *up, (1, 32, scores)]


def fcn_table(channels, scores):
    """The same of VGG-16 and FCN-8s, Long et al. 2015; the last three have no bias."""
    convolutions, width_in = [], channels
    for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            convolutions.append((3, width_in, width))
            width_in = width
    convolutions += [(7, 512, 4096), (1, 4096, 4096), (1, 4096, scores)]
    convolutions += [(1, 512, scores), (1, 256, scores)]
    return convolutions, [
        (4, scores, scores),
        (4, scores, scores),
        (16, scores, scores),
    ]


def count(table, rank, *, bias=True, weights_per_entry=1):
    return sum(
        weights_per_entry * kernel**rank * inputs * outputs + outputs * bias
        for kernel, inputs, outputs in table
    )


def test_unet_has_the_published_number_of_parameters():
    table = unet_table(1, 2)
    assert count(table, 2) == 31_030_658
    model = published("unet", (512, 512, 1), 2)
    variables = sum(math.prod(v.shape) for v in model.trainable_variables)
    assert variables == 31_030_658


def test_vnet_has_the_published_number_of_parameters_in_three_dimensions():
    # A slope per channel follows every convolution of a stage and every change of size.
    slopes = 16 + 3 * 32 + 4 * 64 + 4 * 128 + 4 * 256
    slopes += (128 + 3 * 256) + (64 + 3 * 128) + (32 + 2 * 64) + (16 + 32)
    expected = count(vnet_table(1, 2), 3) + slopes
    model = published("vnet", (128, 128, 64, 1), 2)
    variables = sum(math.prod(v.shape) for v in model.trainable_variables)
    assert variables == expected == 65_175_314


@pytest.mark.slow
def test_fcn_8s_has_the_published_number_of_parameters():
    biased, plain = fcn_table(3, 21)
    expected = count(biased, 2) + count(plain, 2, bias=False)
    model = published("fcn", (512, 512, 3), 21)
    variables = sum(math.prod(v.shape) for v in model.trainable_variables)
    assert variables == expected == 134_489_759


@pytest.mark.parametrize("backbone", models.BACKBONES)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_bayesian_backbone_has_two_numbers_for_every_kernel_entry(backbone, rank):
    shape = (*[None] * rank, 2)
    arguments = (
        {"base_filters": 2, "depth": 3} if backbone != "fcn" else {"base_filters": 1}
    )
    plain, bayes = (
        published(backbone, shape, 2, method, **arguments)
        for method in ("deterministic", "flipout")
    )
    kernels = sum(math.prod(layer.kernel_loc.shape) for layer in bayes.bayesian_layers)
    assert len(bayes.bayesian_layers) == len(
        [layer for layer in plain.layers if hasattr(layer, "kernel")]
    )
    numbers = [
        sum(math.prod(v.shape) for v in model.trainable_variables)
        for model in (plain, bayes)
    ]
    assert numbers[1] - numbers[0] == kernels


def shapes(model):
    return {layer.name: layer.output_shape[1:] for layer in model.layers}


def test_stages_of_the_published_unet_halve_and_double():
    found = shapes(published("unet", (512, 512, 1), 2))
    for level in range(4):
        extent, width = 512 // 2**level, 64 * 2**level
        for name in (f"down{level}_conv2_relu", f"up{level}_conv2_relu"):
            assert found[name] == (extent, extent, width)
    assert found["bottom_conv2_relu"] == (32, 32, 1024)
    assert found["head"] == (512, 512, 2)


def test_stages_of_the_published_vnet_halve_and_double():
    found = shapes(published("vnet", (128, 128, 64, 1), 2))
    for level in range(5):
        space = tuple(extent // 2**level for extent in (128, 128, 64))
        assert found[f"down{level}_last_prelu"] == (*space, 16 * 2**level)
        if level < 4:
            assert found[f"up{level}_last_prelu"] == (*space, 32 * 2**level)
    assert found["head"] == (128, 128, 64, 2)


def test_stages_of_fcn_8s_pool_five_times_and_fuse_three_strides():
    found = shapes(published("fcn", (512, 512, 3), 21, base_filters=2))
    widths = (2, 4, 8, 16, 16)
    for stage, width in enumerate(widths, start=1):
        extent = 512 // 2**stage
        assert found[f"pool{stage}"] == (extent, extent, width)
    assert found["fc7_relu"] == (16, 16, 128)
    assert found["score_pool4_fused"] == (32, 32, 21)
    assert found["score_pool3_fused"] == (64, 64, 21)
    assert found["upscore8"] == (512, 512, 21)


@pytest.mark.parametrize("method", ["deterministic", "flipout"])
@pytest.mark.parametrize("rank", [2, 3])
def test_transposed_convolutions_of_fcn_start_as_interpolation(method, rank):
    model = published("fcn", (*[None] * rank, 1), 2, method, base_filters=1)
    layer = model.get_layer("upscore2")
    ramp = tf.reshape(tf.range(6.0), [1, 6, *[1] * (rank - 1), 1])
    ramp = tf.tile(ramp, [1, 1, *[4] * (rank - 1), 2])
    enlarged = layer(ramp).numpy()[(0, slice(None), *[3] * (rank - 1), 0)]
    np.testing.assert_allclose(enlarged[2:-2], np.arange(2, 10) / 2 - 0.25, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_vnet_adds_the_image_to_its_first_stage(channels):
    model = published("vnet", (16, 16, channels), 1, base_filters=4, depth=2)
    conv = model.get_layer("down0_conv1")
    conv.set_weights([np.zeros_like(weight) for weight in conv.get_weights()])
    image = np.random.default_rng(0).random((1, 16, 16, channels), np.float32)
    add = model.get_layer("down0_sum")
    part = tf_keras.Model(model.inputs, add.output)
    found = part(image).numpy()
    if channels < 3:
        np.testing.assert_allclose(found, np.tile(image, 4 // channels), rtol=1e-6)
    else:
        assert found.shape[-1] == 4
        assert np.abs(found).max() > 0.0


def test_what_a_backbone_cannot_have_is_refused():
    with pytest.raises(ValueError, match="`depth` must be at most 5"):
        published("vnet", (64, 64, 1), 1, depth=6)
    with pytest.raises(ValueError, match="multiples of 32 for `backbone`='fcn'"):
        published("fcn", (48, 48, 1), 1)
