"""Dropout of whole channels, one mask per network draw."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.layers import noise

_PACKAGE = "tfp_uqseg"


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class ChannelDropout(tf_keras.layers.Layer):
    """Drops whole channels, and scales the others up, by Bernoulli masks.

    While training each example has its own mask. Inside a network draw one mask, which
    ``(seed, draw, layer)`` determines, serves all slices of a volume, whatever their
    size: dropping single voxels would tie the draw to the image. Elsewhere the inputs
    pass unchanged (weight scaling). Batch normalisation is not touched: a draw is no
    training :cite:p:`gal2016`.

    Args:
        rate: Share of the channels that is dropped, 0 to below 1.
        seed: Identifies the layer's random numbers; None takes one from Python's
            generator.
        **kwargs: ``name`` and ``dtype``.
    """

    is_stochastic = True

    def __init__(self, rate=0.3, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = _checks.non_negative("rate", rate)
        if self.rate >= 1.0:
            raise ValueError(f"`rate` must be from 0 to below 1; got {rate!r}.")
        self.seed = noise.fresh_seed() if seed is None else int(seed)

    def build(self, input_shape):
        """Note the number of channels, which a draw needs before it has an input."""
        channels = tf.TensorShape(input_shape)[-1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r} needs a known number of input channels (last "
                f"axis); got input shape {input_shape}."
            )
        self._channels = int(channels)
        self.built = True

    def _mask(self, key, shape) -> tf.Tensor:
        key = noise.layer_key(key, self.seed, "kernel")
        kept = noise.uniform(key, shape) >= self.rate
        return tf.cast(kept, self.compute_dtype) / (1.0 - self.rate)

    def draw_weights(self, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the mask of the network draw `key`, (channels,)."""
        return (self._mask(key, [self._channels]),)

    def call(self, inputs, training=None):
        """Apply the mask that the situation asks for."""
        _checks.keras2("inputs", inputs)
        scope = noise.current()
        if isinstance(scope, noise.DrawScope):
            return inputs * scope.weights_of(self)[0]
        if not training:
            return inputs
        spatial = [1] * (inputs.shape.rank - 2)
        shape = [tf.shape(inputs)[0], *spatial, self._channels]  # (B, 1, ..., 1, C)
        return inputs * self._mask(noise.training_key(), shape)

    def get_config(self):
        """Return plain values from which the layer can be built again."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
