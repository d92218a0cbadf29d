"""Layer factories: one description of a network for every kind of layer."""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, layers

ACTIVATION = "relu"
#: Suffix of the layers by the way they are trained.
ESTIMATORS = {
    "flipout": "Flipout",
    "reparameterization": "Reparameterization",
    "local_reparameterization": "LocalReparameterization",
}
NORMALIZATIONS = (None, "batch", "group")
_GROUPS = 4


@tf_keras.saving.register_keras_serializable(package="tfp_uqseg")
class HeNormal(tf_keras.initializers.Initializer):
    """The kernel with which a layer with a posterior, and this seed, starts.

    So that methods differ in nothing but the method: with one seed every network of a
    backbone begins with the same kernels.

    Args:
        fan_in: Inputs of one output.
        seed: Whole number, of the layer.
    """

    def __init__(self, fan_in: float, seed: int):
        self.fan_in, self.seed = float(fan_in), int(seed)

    def __call__(self, shape, dtype=None, **kwargs):
        """Return a kernel of `shape`."""
        stddev = layers.priors.he_stddev(self.fan_in)
        key = layers.noise.initial_key(self.seed)
        return tf.cast(stddev * layers.noise.normal(key, shape), dtype or tf.float32)

    def get_config(self):
        """Return plain values from which the initialiser can be built again."""
        return {"fan_in": self.fan_in, "seed": self.seed}


class Factory:
    """Makes the layers of one network, each with a seed and a name of its own.

    Args:
        rank: Number of spatial dimensions, 2 or 3.
        seed: Seed of the network; every layer gets one derived from it.
        estimator: None for layers without posterior; else how layers with one are
            trained, a name of ESTIMATORS.
        normalization: None, ``"batch"`` or ``"group"``, in front of every activation.
        dropout_rate: Share of the channels that `dropout` drops; None for no dropout.
        options: Arguments of the Bayesian layers (``prior``, ...).
    """

    def __init__(
        self,
        rank,
        seed,
        *,
        estimator=None,
        normalization=None,
        dropout_rate=None,
        options=None,
    ):
        _checks.one_of("rank", rank, (2, 3))
        _checks.one_of("normalization", normalization, NORMALIZATIONS)
        self.rank, self.seed = rank, int(seed)
        self.estimator, self.normalization = estimator, normalization
        self.dropout_rate = dropout_rate
        self.options = dict(options or {})
        self._numbers, self._dropouts = itertools.count(1), 0

    def next_seed(self) -> int:
        """Return the seed of the next layer, distinct within the network."""
        return self._seed_of(next(self._numbers))

    def _seed_of(self, *place: int) -> int:
        state = np.random.SeedSequence([self.seed & 0xFFFFFFFF, *place])
        return int(state.generate_state(1)[0] & 0x7FFFFFFF)

    def bare(self, *, estimator: str | None) -> Factory:
        """Return a factory without normalisation that goes on with this one's seeds."""
        other = Factory(self.rank, self.seed, estimator=estimator, options=self.options)
        other._numbers = self._numbers
        return other

    def convolution(self, filters, size=3, *, strides=1, activation=ACTIVATION, name):
        """Return a convolution with same padding, its normalisation and activation."""
        linear = self._convolution("", filters, size, strides, name)
        if activation is None:
            return linear
        activate = self.activated(activation, name)
        return lambda tensor: activate(linear(tensor))

    def up_convolution(
        self, filters, *, size=2, strides=2, activation=None, use_bias=True, name
    ):
        """Return a transposed convolution that enlarges every extent by `strides`."""
        linear = self._convolution("Transpose", filters, size, strides, name, use_bias)
        if activation is None:
            return linear
        activate = self.activated(activation, name)
        return lambda tensor: activate(linear(tensor))

    def activated(self, activation, name):
        """Return the normalisation, then the activation."""
        normalise = self._normalisation(f"{name}_norm")
        activate = self._activation(activation, f"{name}_{activation}")
        return lambda tensor: activate(normalise(tensor))

    def _activation(self, activation, name):
        """Return an activation; a PReLU has one slope per channel."""
        if activation == "prelu":
            shared = tuple(range(1, self.rank + 1))
            return tf_keras.layers.PReLU(
                alpha_initializer=tf_keras.initializers.Constant(0.25),
                shared_axes=shared,
                name=name,
            )
        return tf_keras.layers.Activation(activation, name=name)

    def _normalisation(self, name):
        if self.normalization is None:
            return lambda tensor: tensor
        if self.normalization == "batch":
            return tf_keras.layers.BatchNormalization(momentum=0.95, name=name)
        return tf_keras.layers.GroupNormalization(_GROUPS, name=name)

    def dropout(self, name):
        """Return the dropout of a method that has it; else what changes nothing."""
        if self.dropout_rate is None:
            return lambda tensor: tensor
        # Counted apart, so that the kernels are those of a network without dropout.
        self._dropouts += 1
        seed = self._seed_of(0, self._dropouts)
        return layers.ChannelDropout(self.dropout_rate, seed=seed, name=name)

    def dense(self, units, *, activation=None, name):
        """Return a dense layer."""
        seed = self.next_seed()
        if self.estimator is not None:
            cls = getattr(layers, f"Dense{ESTIMATORS[self.estimator]}")
            return cls(units, activation, seed=seed, name=name, **self.options)

        def apply(tensor):
            return tf_keras.layers.Dense(
                units,
                activation,
                kernel_initializer=HeNormal(tensor.shape[-1], seed),
                name=name,
            )(tensor)

        return apply

    def pool(self, name):
        """Return max pooling by two along every axis."""
        kind = (tf_keras.layers.MaxPooling2D, tf_keras.layers.MaxPooling3D)
        return kind[self.rank - 2](2, name=name)

    def upsample(self, name):
        """Return nearest-neighbour enlargement by two along every axis."""
        kind = (tf_keras.layers.UpSampling2D, tf_keras.layers.UpSampling3D)
        return kind[self.rank - 2](2, name=name)

    def global_mean(self, name):
        """Return the mean over all voxels."""
        kind = (
            tf_keras.layers.GlobalAveragePooling2D,
            tf_keras.layers.GlobalAveragePooling3D,
        )
        return kind[self.rank - 2](name=name)

    def _convolution(self, transpose, filters, size, strides, name, use_bias=True):
        """Return a function that applies a convolution, or its transpose."""
        seed = self.next_seed()
        arguments = {"strides": strides, "padding": "same", "name": name}
        arguments["use_bias"] = use_bias
        if self.estimator is not None:
            kind = f"Convolution{self.rank}D{transpose}{ESTIMATORS[self.estimator]}"
            cls = getattr(layers, kind)
            return cls(filters, size, seed=seed, **arguments, **self.options)
        # Each output voxel of a transpose is reached by a part of the kernel alone.
        reach = (size / strides if transpose else size) ** self.rank
        cls = getattr(tf_keras.layers, f"Conv{self.rank}D{transpose}")

        def apply(tensor):
            initializer = HeNormal(max(1.0, reach) * tensor.shape[-1], seed)
            return cls(filters, size, kernel_initializer=initializer, **arguments)(
                tensor
            )

        return apply


def double_convolution(factory: Factory, filters: int, name: str):
    """Return a function that applies two 3-wide convolutions with ReLU."""

    def apply(tensor):
        tensor = factory.convolution(filters, name=f"{name}_conv1")(tensor)
        return factory.convolution(filters, name=f"{name}_conv2")(tensor)

    return apply


def head(factory: Factory, tensor, channels: int | None):
    """Return the scores of a 1-wide convolution, or `tensor` if `channels` is None."""
    if channels is None:
        return tensor
    return factory.convolution(channels, 1, activation=None, name="head")(tensor)
