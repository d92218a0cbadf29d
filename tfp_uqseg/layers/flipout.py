"""Bayesian layers trained with Flipout (Wen et al. 2018); one drawn kernel else."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg.layers import linear, noise

_PACKAGE = "tfp_uqseg"
_ESTIMATOR = "Flipout :cite:p:`wen2018flipout`"
_SHARED = linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.CONVOLUTION_SIZE)


class Flipout:
    """Draws a kernel a step, and decorrelates its effect between examples by signs."""

    def _respond(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return mean response plus a perturbation that differs between examples.

        The perturbation kernel is shared by the batch; random signs on the input and
        output channels of each example decorrelate it (Wen et al. 2018, Eq. 4).
        """
        key, dtype = noise.training_key(), self.compute_dtype
        mean = self._linear(inputs, tf.cast(self.kernel_loc, dtype))
        kernel_key = noise.layer_key(key, self.seed, "kernel")
        spread = self.kernel_stddev * noise.normal(kernel_key, self._kernel_shape)
        signs_in = self._signs(key, "signs_in", inputs)
        signs_out = self._signs(key, "signs_out", mean)
        perturbation = self._linear(inputs * signs_in, tf.cast(spread, dtype))
        return mean + perturbation * signs_out

    def _signs(self, key, stream: str, tensor: tf.Tensor) -> tf.Tensor:
        """Return one sign per example and channel, shape (B, 1, ..., 1, channels)."""
        shape = tf.shape(tensor)
        spatial = tf.ones([tensor.shape.rank - 2], tf.int32)
        shape = tf.concat([shape[:1], spatial, shape[-1:]], axis=0)
        key = noise.layer_key(key, self.seed, stream)
        return noise.rademacher(key, shape, tensor.dtype)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DFlipout(
    Flipout, linear.Convolution, tfp.layers.Convolution2DFlipout
):
    __doc__ = "Bayesian convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DFlipout(
    Flipout, linear.Convolution, tfp.layers.Convolution3DFlipout
):
    __doc__ = "Bayesian convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DTransposeFlipout(
    Flipout, linear.ConvolutionTranspose, tfp.layers.Convolution2DFlipout
):
    __doc__ = "Bayesian transposed convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DTransposeFlipout(
    Flipout, linear.ConvolutionTranspose, tfp.layers.Convolution3DFlipout
):
    __doc__ = "Bayesian transposed convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class DenseFlipout(Flipout, linear.Dense, tfp.layers.DenseFlipout):
    __doc__ = "Bayesian dense layer over (B, ..., C) inputs." + (
        linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.DENSE_SIZE)
    )
