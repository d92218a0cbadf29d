"""Bayesian layers trained with one drawn kernel a step (Blundell et al. 2015).

They share all but the training response with `layers.flipout`.
"""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg.layers import linear, noise

_PACKAGE = "tfp_uqseg"
_ESTIMATOR = "one kernel for the whole batch :cite:p:`blundell2015`"
_SHARED = linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.CONVOLUTION_SIZE)


class Reparameterization:
    """Draws one kernel ``loc + stddev * noise`` a step and shares it in the batch.

    Bayes by Backprop. The gradients of the examples are then correlated, which Flipout
    and local reparameterisation avoid.
    """

    def _respond(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the response to the step's kernel."""
        kernel = self.sample_kernel(noise.training_key())
        return self._linear(inputs, tf.cast(kernel, self.compute_dtype))


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DReparameterization(
    Reparameterization,
    linear.Convolution,
    tfp.layers.Convolution2DReparameterization,
):
    __doc__ = "Bayesian convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DTransposeReparameterization(
    Reparameterization,
    linear.ConvolutionTranspose,
    tfp.layers.Convolution2DReparameterization,
):
    __doc__ = "Bayesian transposed convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DReparameterization(
    Reparameterization,
    linear.Convolution,
    tfp.layers.Convolution3DReparameterization,
):
    __doc__ = "Bayesian convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DTransposeReparameterization(
    Reparameterization,
    linear.ConvolutionTranspose,
    tfp.layers.Convolution3DReparameterization,
):
    __doc__ = "Bayesian transposed convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class DenseReparameterization(
    Reparameterization, linear.Dense, tfp.layers.DenseReparameterization
):
    __doc__ = "Bayesian dense layer over (B, ..., C) inputs." + (
        linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.DENSE_SIZE)
    )
