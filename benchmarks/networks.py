"""The U-Net of every comparison: 4 levels, 16 base filters, 8 x 128 x 128 x 4."""

from __future__ import annotations

import warnings

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import losses, models

SHAPE = (8, 128, 128, 4)
REGIONS = 3
FILTERS = 16
DEPTH = 4
EXAMPLES = 1000


def batch(shape=SHAPE, seed=0) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images and masks that no layer can take a short cut on."""
    generator = np.random.default_rng(seed)
    images = generator.normal(size=shape).astype(np.float32)
    masks = generator.random((*shape[:-1], REGIONS)) < 0.1
    return tf.constant(images), tf.constant(masks.astype(np.float32))


def described() -> dict:
    """Return what the network and its input are, for a reader."""
    return {
        "input": list(SHAPE),
        "regions": REGIONS,
        "base_filters": FILTERS,
        "levels": DEPTH,
        "backbone": "U-Net, two 3 x 3 convolutions a level, 2 x 2 transposed ones up",
    }


def ours(
    method: str,
    precision: str = "float32",
    *,
    shape: tuple = (None, None, SHAPE[-1]),
    **options,
) -> tf_keras.Model:
    """Return a network of the package, compiled for the exact ELBO.

    Without normalisation, which the other packages' networks have not either.
    """
    name = "float32" if precision == "float32" else f"mixed_{precision}"
    tf_keras.mixed_precision.set_global_policy(name)
    try:
        model = models.build(
            method,
            backbone="unet",
            input_shape=shape,
            num_regions=REGIONS,
            num_train_examples=EXAMPLES,
            base_filters=FILTERS,
            seed=0,
            normalization=None,
            **options,
        )
        model.compile(loss=losses.CrossEntropy(), metrics=[])
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    return model


def stock() -> tf_keras.Model:
    """Return a U-Net of stock layers; see `_stock`."""
    with warnings.catch_warnings():
        # TensorFlow Probability calls what Keras has renamed.
        warnings.simplefilter("ignore")
        return _stock()


def _stock() -> tf_keras.Model:
    """Return the same U-Net of stock `tfp.layers.Convolution2DFlipout`.

    There is no transposed Flipout convolution in stock TFP. One of 2 x 2 with stride 2
    is the same map as a 1 x 1 convolution to four times the channels whose output is
    rearranged, with as many parameters and operations.
    """

    def kl(q, p, _):
        return tfp.distributions.kl_divergence(q, p) / EXAMPLES

    def convolution(filters, size, activation="relu"):
        return tfp.layers.Convolution2DFlipout(
            filters,
            size,
            padding="same",
            activation=activation,
            kernel_divergence_fn=kl,
        )

    def double(tensor, filters):
        return convolution(filters, 3)(convolution(filters, 3)(tensor))

    inputs = tf_keras.Input(SHAPE[1:])
    tensor, skips = inputs, []
    for level in range(DEPTH - 1):
        skips.append(double(tensor, FILTERS * 2**level))
        tensor = tf_keras.layers.MaxPooling2D()(skips[-1])
    tensor = double(tensor, FILTERS * 2 ** (DEPTH - 1))
    for level in reversed(range(DEPTH - 1)):
        tensor = convolution(4 * FILTERS * 2**level, 1, None)(tensor)
        tensor = tf_keras.layers.Lambda(lambda x: tf.nn.depth_to_space(x, 2))(tensor)
        tensor = tf_keras.layers.Concatenate()([skips[level], tensor])
        tensor = double(tensor, FILTERS * 2**level)
    outputs = convolution(REGIONS, 1, None)(tensor)
    model = tf_keras.Model(inputs, outputs)
    loss = tf_keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=tf_keras.optimizers.Adam(1e-3), loss=loss)
    return model


def operations(model: tf_keras.Model) -> dict[str, float]:
    """Return the multiplications and additions of one image's forward pass, by layer.

    Convolutions alone, which are all but a few per cent. The extents must be known.
    """
    counted = {}
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        kernel = getattr(layer, "kernel_loc", kernel)
        if kernel is None or len(kernel.shape) != 4:
            continue
        transposed = "Transpose" in type(layer).__name__
        spatial = (layer.input if transposed else layer.output).shape[1:3]
        counted[layer.name] = 2.0 * float(np.prod(kernel.shape) * np.prod(spatial))
    return counted


def matrix_product(precision: str, size: int = 1536) -> tuple:
    """Return a function that multiplies two square matrices, and its operations."""
    dtype = tf.bfloat16 if precision == "bfloat16" else tf.float32
    one = tf.cast(tf.random.stateless_normal([size, size], [0, 1]), dtype)
    run = tf.function(lambda a: tf.linalg.matmul(a, a))
    return lambda: run(one)[0, 0].numpy(), 2.0 * size**3


def train_step(model: tf_keras.Model, images, masks, *, xla: bool = False):
    """Return a function that takes one optimisation step, as `fit` would."""
    model.optimizer.build(model.trainable_variables)
    run = tf.function(lambda x, y: model.train_step((x, y)), jit_compile=xla)
    return lambda: {name: value.numpy() for name, value in run(images, masks).items()}
