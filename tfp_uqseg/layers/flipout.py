"""Bayesian convolutions and dense layers: Flipout in training, one drawn kernel else.

Each layer holds a factorised normal posterior over its kernel and a point estimate of
its bias. The layers subclass `tfp.layers`, whose argument names they keep where both
have the argument, and replace its drawing, initialisation and serialisation.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.layers import noise, priors

tfd = tfp.distributions

_PACKAGE = "tfp_uqseg"
# Named in full: the eager gradient of a 3-D convolution fails without it.
_DATA_FORMATS = {2: "NHWC", 3: "NDHWC"}
_SCALE_FLOOR = float(np.finfo(np.float32).eps)


class BayesianKernel:
    """What every layer with a posterior over its kernel shares.

    Subclasses give `_linear` (the map that is linear in the kernel), the kernel's shape
    and its fan-in; this class gives the posterior, the prior, KL, draws and Flipout.
    """

    is_stochastic = True

    def _settle(self, prior, initial_stddev_ratio, kl_weight, use_bias, seed):
        """Check and keep the arguments that `tfp.layers` does not know."""
        self.prior = priors.check(prior)
        self.initial_stddev_ratio = _checks.positive(
            "initial_stddev_ratio", initial_stddev_ratio
        )
        self.initial_kl_weight = _checks.non_negative("kl_weight", kl_weight)
        self.use_bias = bool(use_bias)
        self.seed = noise.fresh_seed() if seed is None else int(seed)

    def _add_posterior(self, shape: tuple[int, ...], fan_in: float) -> None:
        """Create the variables: kernel mean and scale in float32, bias, KL weight."""
        self._kernel_shape, self._fan_in = tuple(shape), float(fan_in)
        he = priors.he_stddev(fan_in)
        raw_scale = math.log(math.expm1(self.initial_stddev_ratio * he))
        key = noise.initial_key(self.seed)
        options = {"dtype": tf.float32, "experimental_autocast": False}
        self.kernel_loc = self.add_weight(
            name="kernel_posterior_loc",
            shape=shape,
            initializer=lambda shape, dtype=None, **_: he * noise.normal(key, shape),
            **options,
        )
        self.kernel_untransformed_scale = self.add_weight(
            name="kernel_posterior_untransformed_scale",
            shape=shape,
            initializer=tf_keras.initializers.Constant(raw_scale),
            **options,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(shape[self._output_axis],),
                initializer="zeros",
                **options,
            )
        self.kl_weight = self.add_weight(
            name="kl_weight",
            shape=(),
            initializer=tf_keras.initializers.Constant(self.initial_kl_weight),
            trainable=False,
            **options,
        )

    _output_axis = -1

    @property
    def kernel_stddev(self) -> tf.Tensor:
        """Posterior standard deviation of every kernel entry, float32."""
        return _SCALE_FLOOR + tf.nn.softplus(self.kernel_untransformed_scale)

    @property
    def kernel_posterior(self) -> tfd.Distribution:
        """The factorised normal posterior q(w) of the kernel, one event."""
        normal = tfd.Normal(tf.convert_to_tensor(self.kernel_loc), self.kernel_stddev)
        return tfd.Independent(
            normal, reinterpreted_batch_ndims=len(self._kernel_shape)
        )

    @property
    def kernel_prior(self) -> tfd.Distribution:
        """The normal prior p(w) of the kernel, one event."""
        return priors.distribution(self.prior, self._kernel_shape, self._fan_in)

    def kl_divergence(self) -> tf.Tensor:
        """Return KL(q(w) || p(w)) of the kernel: float32 scalar, nats."""
        return tfd.kl_divergence(self.kernel_posterior, self.kernel_prior)

    def draw_weights(self, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the kernel of the network draw `key`, in the compute dtype."""
        key = noise.layer_key(key, self.seed, "kernel")
        kernel = self.kernel_loc + self.kernel_stddev * noise.normal(
            key, self._kernel_shape
        )
        return (tf.cast(kernel, self.compute_dtype),)

    def call(self, inputs, training=None):
        """Apply the layer; see the module's text for which kernel is used."""
        inputs = tf.cast(inputs, self.compute_dtype)
        scope = noise.current()
        if isinstance(scope, noise.DrawScope):
            outputs = self._linear(inputs, *scope.weights_of(self))
        elif training:
            outputs = self._respond(inputs)
            if scope is None:
                self.add_loss(self.kl_weight * self.kl_divergence())
        else:
            mean_kernel = tf.cast(self.kernel_loc, self.compute_dtype)
            outputs = self._linear(inputs, mean_kernel)
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, self.compute_dtype))
        return outputs if self.activation is None else self.activation(outputs)

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

    def _shared_config(self) -> dict:
        """Return the plain values of the arguments that all Bayesian layers share."""
        return {
            **tf_keras.layers.Layer.get_config(self),
            "activation": tf_keras.activations.serialize(self.activation)
            if self.activation is not None
            else None,
            "use_bias": self.use_bias,
            "prior": self.prior,
            "initial_stddev_ratio": self.initial_stddev_ratio,
            "kl_weight": self.initial_kl_weight,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict):
        """Build the layer from the plain values of `get_config`; runs no byte code."""
        return cls(**config)


class Convolution(BayesianKernel):
    """One implementation for two and three spatial dimensions, channels last."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        dilation_rate=1,
        activation=None,
        *,
        use_bias=True,
        prior="he_normal",
        initial_stddev_ratio=0.1,
        kl_weight=1.0,
        seed=None,
        **kwargs,
    ):
        _checks.one_of("padding", padding, ("same", "valid"))
        super().__init__(
            _checks.positive_integer("filters", filters),
            kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            activation=activation,
            **kwargs,
        )
        self._settle(prior, initial_stddev_ratio, kl_weight, use_bias, seed)

    def build(self, input_shape):
        """Create the kernel for the channels of `input_shape`."""
        channels = self._input_channels(input_shape)
        shape = (*self.kernel_size, channels, self.filters)
        self._add_posterior(shape, math.prod(self.kernel_size) * channels)
        self.built = True

    def _input_channels(self, input_shape) -> int:
        channels = tf.TensorShape(input_shape)[-1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs a known number of input channels (last "
                f"axis); got input shape {input_shape}."
            )
        return int(channels)

    def _linear(self, inputs, kernel):
        return tf.nn.convolution(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding.upper(),
            dilations=self.dilation_rate,
            data_format=_DATA_FORMATS[len(self.kernel_size)],
        )

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {
            **self._shared_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
        }


class _ConvolutionTranspose(Convolution):
    """The transpose of a convolution: strides enlarge the image."""

    _output_axis = -2

    def build(self, input_shape):
        """Create the kernel, laid out (*kernel_size, filters, input channels)."""
        channels = self._input_channels(input_shape)
        shape = (*self.kernel_size, self.filters, channels)
        # Each output voxel is reached by only kernel/strides of the kernel's entries.
        reach = math.prod(self.kernel_size) / math.prod(self.strides)
        self._add_posterior(shape, max(1.0, reach) * channels)
        self.built = True

    def _linear(self, inputs, kernel):
        extents = tf.shape(inputs)[1:-1]
        grown = [
            self._grown(extents[axis], axis) for axis in range(len(self.kernel_size))
        ]
        shape = tf.stack([tf.shape(inputs)[0], *grown, self.filters])
        outputs = tf.nn.conv_transpose(
            inputs,
            kernel,
            shape,
            self.strides,
            self.padding.upper(),
            data_format=_DATA_FORMATS[len(self.kernel_size)],
        )
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def _grown(self, extent, axis: int):
        """Return the output extent along one spatial axis (None stays None)."""
        if extent is None:
            return None
        stride, size = self.strides[axis], self.kernel_size[axis]
        overhang = max(size - stride, 0) if self.padding == "valid" else 0
        return extent * stride + overhang

    def compute_output_shape(self, input_shape):
        """Return the output shape for `input_shape`."""
        shape = tf.TensorShape(input_shape).as_list()
        grown = [self._grown(extent, i) for i, extent in enumerate(shape[1:-1])]
        return tf.TensorShape([shape[0], *grown, self.filters])


ARGUMENTS = """

    While training (``training=True``) the layer uses {estimator};
    inside a network draw (`tfp_uqseg.uncertainty.draws`) it uses the one kernel that
    ``(seed, draw, layer)`` determines; otherwise it uses the posterior mean.

    In a plain ``tf_keras`` model the layer adds ``kl_weight * KL`` to the loss while
    training and nothing while evaluating; `models.Segmenter` weights KL itself.

    Args:
        {size}
        activation: Name of, or, a registered Keras activation.
        use_bias: Whether to add a bias (a point estimate, without KL).
        prior: ``"he_normal"`` (standard deviation sqrt(2 / fan_in)),
            ``"standard_normal"``, or a positive standard deviation.
        initial_stddev_ratio: Initial posterior standard deviation over sqrt(2 /
            fan_in).
        kl_weight: Initial factor of KL in a plain Keras model; a checkpointed variable
            afterwards (``layer.kl_weight.assign``), so that it may anneal.
        seed: Identifies the layer's random numbers and sets its initial kernel. None
            takes one from Python's generator (``tf_keras.utils.set_random_seed``).
        **kwargs: ``name``, ``dtype`` (a policy), ``trainable``.
"""
_ESTIMATOR = "Flipout :cite:p:`wen2018flipout`"
DENSE_SIZE = "units: Number of output channels."
CONVOLUTION_SIZE = """filters: Number of output channels.
        kernel_size: Extent of the kernel, a number or one per axis.
        strides: Stride, a number or one per axis.
        padding: ``"valid"`` or ``"same"``.
        dilation_rate: Dilation, a number or one per axis."""
_SHARED = ARGUMENTS.format(estimator=_ESTIMATOR, size=CONVOLUTION_SIZE)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DFlipout(Convolution, tfp.layers.Convolution2DFlipout):
    __doc__ = "Bayesian convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DFlipout(Convolution, tfp.layers.Convolution3DFlipout):
    __doc__ = "Bayesian convolution over (B, D, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution2DTransposeFlipout(
    _ConvolutionTranspose, tfp.layers.Convolution2DFlipout
):
    __doc__ = "Bayesian transposed convolution over (B, H, W, C) inputs." + _SHARED


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Convolution3DTransposeFlipout(
    _ConvolutionTranspose, tfp.layers.Convolution3DFlipout
):
    __doc__ = "Bayesian transposed convolution over (B, D, H, W, C) inputs." + _SHARED


class Dense(BayesianKernel):
    """One implementation for dense layers."""

    def __init__(
        self,
        units,
        activation=None,
        *,
        use_bias=True,
        prior="he_normal",
        initial_stddev_ratio=0.1,
        kl_weight=1.0,
        seed=None,
        **kwargs,
    ):
        units = _checks.positive_integer("units", units)
        super().__init__(units, activation=activation, **kwargs)
        self._settle(prior, initial_stddev_ratio, kl_weight, use_bias, seed)

    def build(self, input_shape):
        """Create the kernel for the channels of `input_shape`."""
        channels = tf.TensorShape(input_shape)[-1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs a known number of input channels (last "
                f"axis); got input shape {input_shape}."
            )
        self._add_posterior((int(channels), self.units), int(channels))
        self.built = True

    def _linear(self, inputs, kernel):
        return tf.tensordot(inputs, kernel, axes=[[-1], [0]])

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {**self._shared_config(), "units": self.units}


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class DenseFlipout(Dense, tfp.layers.DenseFlipout):
    __doc__ = "Bayesian dense layer over (B, ..., C) inputs." + ARGUMENTS.format(
        estimator=_ESTIMATOR, size=DENSE_SIZE
    )
