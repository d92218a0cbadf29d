"""Bayesian layers trained with Flipout (Wen et al. 2018); one drawn kernel else."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg.layers import linear, noise

_PACKAGE = "tfp_uqseg"
_ESTIMATOR = "Flipout :cite:p:`wen2018flipout`"
_SHARED = linear.ARGUMENTS.format(estimator=_ESTIMATOR, size=linear.CONVOLUTION_SIZE)


#: Largest batch, where it is known, whose examples get an operation each.
_UNROLLED = 32


class Flipout:
    """Draws a kernel a step, and decorrelates its effect between examples by signs.

    The response of an example with input signs r and output signs s is (Wen et al.
    2018, Eq. 4)

        x * mean + ((x r) * spread) s = x * (mean + spread r s^T)

    where * is the linear map. The left side takes two maps of the whole batch, the
    right side one map an example, each with a kernel of its own: half the operations,
    and what runs on processors, for convolutions. Devices that need large batches to
    be fast (GPUs) get the left side.
    """

    def _respond(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the response to a batch, with signs that differ between examples."""
        key = noise.training_key()
        kernel_key = noise.layer_key(key, self.seed, "kernel")
        mean = tf.convert_to_tensor(self.kernel_loc)
        spread = self.kernel_stddev * noise.normal(kernel_key, self._kernel_shape)
        count = inputs.shape[0] or tf.shape(inputs)[0]
        signs_in = self._signs(key, "signs_in", count, inputs.shape[-1])
        signs_out = self._signs(key, "signs_out", count, self._outputs)
        parts = (inputs, mean, spread, signs_in, signs_out)
        if _runs_by_example() and hasattr(self, "kernel_size"):
            return self._by_example(*parts)
        return self._by_batch(*parts)

    def _signs(self, key, stream: str, count, channels: int) -> tf.Tensor:
        """Return one sign per example and channel, float32 (B, channels)."""
        key = noise.layer_key(key, self.seed, stream)
        return noise.rademacher(key, [count, channels])

    @property
    def _outputs(self) -> int:
        return self._kernel_shape[self._output_axis]

    def _by_batch(self, inputs, mean, spread, signs_in, signs_out) -> tf.Tensor:
        """Return the mean response plus a perturbation: two maps of the batch."""
        dtype = inputs.dtype
        spatial = [1] * (inputs.shape.rank - 2)
        signs_in, signs_out = (
            tf.reshape(tf.cast(signs, dtype), [-1, *spatial, signs.shape[-1]])
            for signs in (signs_in, signs_out)
        )
        perturbation = self._linear(inputs * signs_in, tf.cast(spread, dtype))
        return self._linear(inputs, tf.cast(mean, dtype)) + perturbation * signs_out

    def _by_example(self, inputs, mean, spread, signs_in, signs_out) -> tf.Tensor:
        """Return the responses of the examples to kernels of their own."""

        def one(parts):
            image, r, s = parts
            rows, columns = (r, s) if self._output_axis == -1 else (s, r)
            kernel = mean + spread * (rows[:, tf.newaxis] * columns)
            return self._linear(image, tf.cast(kernel, inputs.dtype))

        count = inputs.shape[0]
        if count is not None and count <= _UNROLLED:
            parts = zip(
                tf.split(inputs, count),
                tf.unstack(signs_in),
                tf.unstack(signs_out),
                strict=True,
            )
            return tf.concat([one(part) for part in parts], axis=0)
        shape = self.compute_output_shape(inputs.shape)
        outputs = tf.map_fn(
            lambda parts: one((parts[0][tf.newaxis], *parts[1:]))[0],
            (inputs, signs_in, signs_out),
            fn_output_signature=tf.TensorSpec(shape[1:], inputs.dtype),
            # TensorFlow warns of more than one where it cannot run them so.
            parallel_iterations=1 if tf.executing_eagerly() else _UNROLLED,
        )
        return tf.ensure_shape(outputs, shape)


def _runs_by_example() -> bool:
    """Return whether single examples keep the devices busy: processors alone."""
    return not tf.config.get_visible_devices("GPU")


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
