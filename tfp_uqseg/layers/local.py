"""Bayesian layers trained with local reparameterisation (Kingma et al. 2015).

They share all but the training response with `layers.flipout`.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg.layers import linear, noise

_PACKAGE = "tfp_uqseg"
_ESTIMATOR = "local reparameterisation :cite:p:`kingma2015`"
_SHARED = linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.CONVOLUTION_SIZE)
# Keeps the gradient of the root finite where the inputs are all zero.
_LEAST_VARIANCE = 1e-12


class LocalReparameterization:
    """Draws the response of every output instead of the kernel.

    For a factorised normal posterior the response before the activation is normal,
    with the mean kernel's response as mean and, as variance, the response of the
    squared inputs to the kernel's variances. It is exact for every output alone;
    correlations between the voxels of an image, which a kernel would bring, are left
    out.
    """

    def _respond(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return a draw of the response, independent for every example and voxel."""
        dtype = self.compute_dtype
        mean = self._linear(inputs, tf.cast(self.kernel_loc, dtype))
        spread = tf.cast(tf.square(self.kernel_stddev), dtype)
        variance = tf.cast(self._linear(tf.square(inputs), spread), tf.float32)
        stddev = tf.sqrt(tf.maximum(variance, _LEAST_VARIANCE))
        key = noise.layer_key(noise.training_key(), self.seed, "kernel")
        response = tf.cast(mean, tf.float32) + stddev * noise.normal(
            key, tf.shape(mean)
        )
        return tf.cast(response, dtype)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DLocalReparameterization(
    LocalReparameterization,
    linear.Convolution,
    tfp.layers.Convolution2DReparameterization,
):
    __doc__ = "Bayesian convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DTransposeLocalReparameterization(
    LocalReparameterization,
    linear.ConvolutionTranspose,
    tfp.layers.Convolution2DReparameterization,
):
    __doc__ = "Bayesian transposed convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DLocalReparameterization(
    LocalReparameterization,
    linear.Convolution,
    tfp.layers.Convolution3DReparameterization,
):
    __doc__ = "Bayesian convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DTransposeLocalReparameterization(
    LocalReparameterization,
    linear.ConvolutionTranspose,
    tfp.layers.Convolution3DReparameterization,
):
    __doc__ = "Bayesian transposed convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class DenseLocalReparameterization(
    LocalReparameterization, linear.Dense, tfp.layers.DenseLocalReparameterization
):
    __doc__ = "Bayesian dense layer over (B, ..., C) inputs." + (
        linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.DENSE_SIZE)
    )
