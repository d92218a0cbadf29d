"""Layer factories: one description of a network for every kind of layer."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, layers

ACTIVATION = "relu"
NORMALIZATIONS = (None, "batch", "group")
_GROUPS = 4


@tf_keras.saving.register_keras_serializable(package="tfp_uqseg")
class TransposedHeNormal(tf_keras.initializers.Initializer):
    """He's initialiser for kernels (..., filters, channels) of transposed convolutions.

    Keras's own takes the filters for the fan-in; this one gives the kernels the spread
    that `layers.Convolution2DTransposeFlipout` starts with.

    Args:
        reach: Entries of the kernel that reach one output voxel.
        seed: Whole number.
    """

    def __init__(self, reach: float, seed: int):
        self.reach, self.seed = float(reach), int(seed)

    def __call__(self, shape, dtype=None, **kwargs):
        """Return a kernel of `shape`."""
        stddev = layers.priors.he_stddev(self.reach * shape[-1])
        key = layers.noise.initial_key(self.seed)
        return tf.cast(stddev * layers.noise.normal(key, shape), dtype or tf.float32)

    def get_config(self):
        """Return plain values from which the initialiser can be built again."""
        return {"reach": self.reach, "seed": self.seed}


class Factory:
    """Makes the layers of one network, each with a seed and a name of its own.

    Args:
        rank: Number of spatial dimensions, 2 or 3.
        seed: Seed of the network; every layer gets one derived from it.
        bayesian: Whether convolutions and dense layers have a posterior.
        normalization: None, ``"batch"`` or ``"group"``, between convolution and ReLU.
        options: Arguments of the Bayesian layers (``prior``, ...).
    """

    def __init__(self, rank, seed, *, bayesian=False, normalization=None, options=None):
        _checks.one_of("rank", rank, (2, 3))
        _checks.one_of("normalization", normalization, NORMALIZATIONS)
        self.rank, self.seed, self.bayesian = rank, int(seed), bayesian
        self.normalization = normalization
        self.options = dict(options or {})
        self._made = 0

    def next_seed(self) -> int:
        """Return the seed of the next layer, distinct within the network."""
        self._made += 1
        state = np.random.SeedSequence([self.seed & 0xFFFFFFFF, self._made])
        return int(state.generate_state(1)[0] & 0x7FFFFFFF)

    def bare(self, *, bayesian: bool) -> Factory:
        """Return a factory without normalisation that goes on with this one's seeds."""
        other = Factory(
            self.rank,
            self.seed,
            bayesian=bayesian,
            options=self.options,
        )
        other.next_seed = self.next_seed
        return other

    def convolution(self, filters, size=3, *, strides=1, activation=ACTIVATION, name):
        """Return a convolution with same padding, its normalisation and activation."""
        kind = ("Convolution2DFlipout", "Convolution3DFlipout"), ("Conv2D", "Conv3D")
        if self.normalization is None or activation is None:
            return self._layer(
                kind, filters, size, strides, activation=activation, name=name
            )
        linear = self._layer(kind, filters, size, strides, activation=None, name=name)
        normalise = self._normalisation(f"{name}_norm")
        activate = tf_keras.layers.Activation(activation, name=f"{name}_{activation}")
        return lambda tensor: activate(normalise(linear(tensor)))

    def _normalisation(self, name):
        if self.normalization == "batch":
            return tf_keras.layers.BatchNormalization(momentum=0.95, name=name)
        return tf_keras.layers.GroupNormalization(_GROUPS, name=name)

    def up_convolution(self, filters, *, activation=None, name):
        """Return a transposed convolution that doubles every spatial extent."""
        kind = (
            ("Convolution2DTransposeFlipout", "Convolution3DTransposeFlipout"),
            ("Conv2DTranspose", "Conv3DTranspose"),
        )
        return self._layer(kind, filters, 2, 2, activation=activation, name=name)

    def dense(self, units, *, activation=None, name):
        """Return a dense layer."""
        seed = self.next_seed()
        if self.bayesian:
            return layers.DenseFlipout(
                units, activation, seed=seed, name=name, **self.options
            )
        initializer = tf_keras.initializers.HeNormal(seed=seed)
        return tf_keras.layers.Dense(
            units, activation, kernel_initializer=initializer, name=name
        )

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

    def _layer(self, kind, filters, size, strides, *, activation, name):
        seed = self.next_seed()
        arguments = {"strides": strides, "padding": "same", "activation": activation}
        if self.bayesian:
            cls = getattr(layers, kind[0][self.rank - 2])
            arguments.update(self.options, seed=seed)
        else:
            cls = getattr(tf_keras.layers, kind[1][self.rank - 2])
            initializer = tf_keras.initializers.HeNormal(seed=seed)
            if cls.__name__.endswith("Transpose"):
                reach = max(1.0, (size / strides) ** self.rank)
                initializer = TransposedHeNormal(reach, seed)
            arguments["kernel_initializer"] = initializer
        return cls(filters, size, name=name, **arguments)


def double_convolution(factory: Factory, filters: int, name: str):
    """Return a function that applies two 3-wide convolutions with ReLU."""

    def apply(tensor):
        tensor = factory.convolution(filters, name=f"{name}_conv1")(tensor)
        return factory.convolution(filters, name=f"{name}_conv2")(tensor)

    return apply
