from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg import layers
from tfp_uqseg.layers import flipout, noise

MAPS = {
    "2-D": (layers.Convolution2DFlipout, (7, 6), {"kernel_size": 3, "padding": "same"}),
    "strided": (layers.Convolution2DFlipout, (7, 6), {"kernel_size": 3, "strides": 2}),
    "3-D": (layers.Convolution3DFlipout, (5, 4, 6), {"kernel_size": (3, 2, 1)}),
    "transposed": (
        layers.Convolution2DTransposeFlipout,
        (4, 3),
        {"kernel_size": 3, "strides": 2},
    ),
    "3-D transposed": (
        layers.Convolution3DTransposeFlipout,
        (3, 2, 4),
        {"kernel_size": 2, "strides": 2, "padding": "same"},
    ),
}


def responses(layer, images, *, batch, by_example, monkeypatch):
    """Return the response of one training step, and its gradients."""
    monkeypatch.setattr(flipout, "_runs_by_example", lambda: by_example)
    weights = [layer.kernel_loc, layer.kernel_untransformed_scale]
    signature = [tf.TensorSpec([batch, *images.shape[1:]], tf.float32)]

    @tf.function(input_signature=signature)
    def run(images):
        with tf.GradientTape() as tape, noise.use(noise.TrainingScope([3, 4])):
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(
                outputs * tf.cos(tf.cast(outputs.shape[-1], tf.float32) * outputs)
            )
        return outputs, *tape.gradient(loss, [images, *weights])

    return [value.numpy() for value in run(images)]


@pytest.mark.parametrize("batch", [5, None])
@pytest.mark.parametrize("name", MAPS)
def test_a_kernel_for_each_example_is_flipout_of_the_batch(name, batch, monkeypatch):
    kind, extents, arguments = MAPS[name]
    images = np.random.default_rng(0).normal(size=(5, *extents, 3)).astype(np.float32)
    layer = kind(4, seed=1, initial_stddev_ratio=0.4, **arguments)
    layer.build(images.shape)
    fixed = {"batch": batch, "monkeypatch": monkeypatch}
    of_batch = responses(layer, images, by_example=False, **fixed)
    of_examples = responses(layer, images, by_example=True, **fixed)
    for expected, found in zip(of_batch, of_examples, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    assert np.abs(of_batch[3]).max() > 0.1  # the scales do get a gradient


def test_a_processor_runs_one_convolution_an_example(monkeypatch):
    layer = layers.Convolution2DFlipout(4, 3, seed=1)
    images = tf.ones((3, 6, 6, 2))
    layer(images)

    def convolutions():
        run = tf.function(lambda x: layer(x, training=True))
        graph = run.get_concrete_function(images).graph
        return [
            op.inputs[0].shape[0]
            for op in graph.get_operations()
            if op.type == "Conv2D"
        ]

    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert convolutions() == [1, 1, 1]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["a card"])
    assert convolutions() == [3, 3]


def test_large_batches_do_not_blow_up_the_graph():
    layer = layers.Convolution2DFlipout(4, 3, seed=1)
    layer(tf.ones((1, 6, 6, 2)))
    run = tf.function(lambda x: layer(x, training=True))

    def size(batch):
        graph = run.get_concrete_function(tf.ones((batch, 6, 6, 2))).graph
        return len(graph.get_operations())

    assert size(100) == size(50)
