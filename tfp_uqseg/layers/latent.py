"""Normal latents inside a network, built on `DistributionLambda`."""

from __future__ import annotations

import math

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.layers import noise

tfd = tfp.distributions

_PACKAGE = "tfp_uqseg"


#: No standard deviation of a latent or a logit falls below this.
MIN_STDDEV = 1e-3


def split_parameters(
    parameters: tf.Tensor,
    initial_stddev: float,
    initial_loc: float = 0.0,
    min_stddev: float = MIN_STDDEV,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Split (..., 2 C) into mean and standard deviation, each float32 (..., C).

    A zero in the first half stands for `initial_loc`. The second half passes through a
    softplus, shifted so that zero stands for `initial_stddev`; none is below
    `min_stddev`.
    """
    loc, raw = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
    shift = math.log(math.expm1(initial_stddev))
    return loc + initial_loc, min_stddev + tf.nn.softplus(raw + shift)


def moments_of(
    inputs, initial_stddev: float, initial_loc: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and standard deviation for what a latent is given.

    Args:
        inputs: Parameters (..., 2 C), see `split_parameters`; or the moments
            themselves, a pair of (..., C), as `Moments` returns them.
        initial_stddev: Of the parameters.
        initial_loc: Of the parameters.

    Returns:
        Two float32 (..., C).
    """
    if isinstance(inputs, (list, tuple)):
        loc, stddev = (tf.cast(tensor, tf.float32) for tensor in inputs)
        return loc, stddev
    return split_parameters(inputs, initial_stddev, initial_loc)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Moments(tf_keras.layers.Layer):
    """Turns parameters of normals into their moments, ahead of a latent.

    Nothing here is drawn: before a `GaussianLatent` it belongs to what is computed once
    per image, so that no draw repeats it.

    Args:
        initial_stddev: Standard deviation that a zero in the input stands for.
        initial_loc: Mean that a zero in the input stands for.
        **kwargs: ``name``. The layer computes in float32.

    Call Args:
        inputs: (..., 2 C): C means, then C untransformed standard deviations.

    Returns:
        A pair of float32 (..., C): mean and standard deviation.
    """

    def __init__(self, initial_stddev=1.0, initial_loc=0.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.initial_stddev = _checks.positive("initial_stddev", initial_stddev)
        self.initial_loc = float(initial_loc)

    def call(self, inputs):
        """Return mean and standard deviation."""
        return split_parameters(inputs, self.initial_stddev, self.initial_loc)

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {
            **super().get_config(),
            "initial_stddev": self.initial_stddev,
            "initial_loc": self.initial_loc,
        }


class PlainDistributionLambda(tfp.layers.DistributionLambda):
    """A `DistributionLambda` that serialises by plain values, never by byte code."""

    def __init__(self, **kwargs):
        # Distributions are float32 whatever the policy: logits and KL need the digits.
        kwargs["dtype"] = "float32"
        super().__init__(
            lambda inputs: self._distribution(inputs),
            convert_to_tensor_fn=lambda distribution: self._concretise(distribution),
            **kwargs,
        )

    def compute_output_shape(self, input_shape):
        """Return the shape of the tensor the distribution turns into."""
        if isinstance(input_shape, (list, tuple)) and isinstance(
            input_shape[0], (list, tuple, tf.TensorShape)
        ):
            return tf.TensorShape(input_shape[0])
        shape = tf.TensorShape(input_shape).as_list()
        return tf.TensorShape([*shape[:-1], shape[-1] // 2])

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return tf_keras.layers.Layer.get_config(self)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the layer from the plain values of `get_config`; runs no byte code."""
        del custom_objects
        return cls(**{key: value for key, value in config.items() if key != "dtype"})


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class GaussianLatent(PlainDistributionLambda):
    """A normal latent whose parameters are the layer's input.

    Turns into a reparameterised sample while training (independent for every example)
    and inside a network draw (the noise is shared by the slices of a volume, and at a
    voxel it does not depend on the size of the image); into its mean otherwise.

    Args:
        initial_stddev: Standard deviation that a zero in the input stands for.
        initial_loc: Mean that a zero in the input stands for.
        seed: Identifies the layer's random numbers; None takes one from Python's
            generator.
        **kwargs: ``name``.

    Call Args:
        inputs: (..., 2 C): C means, then C untransformed standard deviations; or the
            pair that `Moments` returns.
    """

    is_stochastic = True
    is_latent = True

    def __init__(self, initial_stddev=1.0, initial_loc=0.0, *, seed=None, **kwargs):
        self._training_call = False
        super().__init__(**kwargs)
        self.initial_stddev = _checks.positive("initial_stddev", initial_stddev)
        self.initial_loc = float(initial_loc)
        self.seed = noise.fresh_seed() if seed is None else int(seed)

    def call(self, inputs, training=None):
        """Return the distribution; see the class for the tensor it turns into."""
        _checks.keras2("inputs", inputs)
        self._training_call = bool(training)
        return super().call(inputs)

    def _distribution(self, inputs):
        loc, stddev = moments_of(inputs, self.initial_stddev, self.initial_loc)
        return tfd.Independent(tfd.Normal(loc, stddev), loc.shape.rank - 1)

    def _concretise(self, distribution):
        loc, stddev = distribution.distribution.loc, distribution.distribution.scale
        scope = noise.current()
        if isinstance(scope, noise.DrawScope):
            if self.name in scope.given:
                return tf.broadcast_to(scope.given[self.name], tf.shape(loc))
            shared = self._shared_noise(scope, tf.shape(loc))
            if self.name in scope.from_prior:
                return tf.broadcast_to(shared, tf.shape(loc))
            return loc + stddev * shared
        if self._training_call:
            key = noise.layer_key(noise.training_key(), self.seed, "latent")
            return loc + stddev * noise.normal(key, tf.shape(loc))
        return loc

    def _shared_noise(self, scope, shape):
        """Return the noise of an inner draw; odd draws mirror the even one before."""
        key = noise.layer_key(scope.key, self.seed, "latent")
        key = noise.fold_in(key, scope.latent_draw // 2)
        sign = tf.cast(1 - 2 * (scope.latent_draw % 2), tf.float32)
        return sign * noise.anchored_normal(key, shape)

    def draw_weights(self, key):
        """A latent has no weights to draw ahead; its noise is keyed by the draw."""
        del key
        return ()

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {
            **super().get_config(),
            "initial_stddev": self.initial_stddev,
            "initial_loc": self.initial_loc,
            "seed": self.seed,
        }
