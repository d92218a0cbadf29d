"""The maps that are linear in a Bayesian kernel: convolutions and the dense map."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_uqseg import _checks
from tfp_uqseg.layers import kernel

# Named in full: the eager gradient of a 3-D convolution fails without it.
_DATA_FORMATS = {2: "NHWC", 3: "NDHWC"}

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
        prior: See `layers.priors.check`; ``"he_normal"`` has the standard deviation
            sqrt(2 / fan_in), and so has ``"deep_weight"`` as long as
            `models.Segmenter` holds no kernel prior for the layer's shape.
        centred_prior: Whether the normal prior's mean is a stored kernel, zero until
            `models.warm_start` sets it.
        initial_stddev_ratio: Initial posterior standard deviation over sqrt(2 /
            fan_in).
        kl_weight: Initial factor of KL in a plain Keras model; a checkpointed variable
            afterwards (``layer.kl_weight.assign``), so that it may anneal.
        seed: Identifies the layer's random numbers and sets its initial kernel. None
            takes one from Python's generator (``tf_keras.utils.set_random_seed``).
        **kwargs: ``name``, ``dtype`` (a policy), ``trainable``.
"""
DENSE_SIZE = "units: Number of output channels."
CONVOLUTION_SIZE = """filters: Number of output channels.
        kernel_size: Extent of the kernel, a number or one per axis.
        strides: Stride, a number or one per axis.
        padding: ``"valid"`` or ``"same"``.
        dilation_rate: Dilation, a number or one per axis."""


class Convolution(kernel.BayesianKernel):
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
        centred_prior=False,
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
        self._settle(
            prior, centred_prior, initial_stddev_ratio, kl_weight, use_bias, seed
        )

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


class ConvolutionTranspose(Convolution):
    """The transpose of a convolution: strides enlarge the image."""

    _output_axis = -2

    def build(self, input_shape):
        """Create the kernel, laid out ``(*kernel_size, filters, channels)``."""
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


class Dense(kernel.BayesianKernel):
    """One implementation for dense layers."""

    def __init__(
        self,
        units,
        activation=None,
        *,
        use_bias=True,
        prior="he_normal",
        centred_prior=False,
        initial_stddev_ratio=0.1,
        kl_weight=1.0,
        seed=None,
        **kwargs,
    ):
        units = _checks.positive_integer("units", units)
        super().__init__(units, activation=activation, **kwargs)
        self._settle(
            prior, centred_prior, initial_stddev_ratio, kl_weight, use_bias, seed
        )

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
