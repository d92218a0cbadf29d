"""A model cut in two: what is computed once per input, and what every draw repeats."""

from __future__ import annotations

import weakref

import tensorflow as tf
import tf_keras

from tfp_uqseg.layers import noise

_cache = weakref.WeakKeyDictionary()


def stochastic_layers(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """Return the layers of `model` (nested ones too) that differ between draws."""
    return [part for part in model.submodules if getattr(part, "is_stochastic", False)]


def _is_stochastic(layer) -> bool:
    parts = (layer, *layer.submodules)
    return any(getattr(part, "is_stochastic", False) for part in parts)


def _frontier(model: tf_keras.Model) -> list:
    """Return the tensors at which the deterministic prefix of `model` ends."""
    random, frontier = set(), {}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            inputs = node.keras_inputs
            drawn = _is_stochastic(node.layer)
            if not node.is_input and (drawn or any(id(t) in random for t in inputs)):
                random.update(id(t) for t in tf.nest.flatten(node.outputs))
                frontier.update((id(t), t) for t in inputs if id(t) not in random)
    return list(frontier.values())


def split(model: tf_keras.Model) -> tuple[tf_keras.Model | None, tf_keras.Model]:
    """Return (prefix, suffix) with ``model(x) == suffix(prefix(x))``.

    The prefix holds every layer before the first stochastic one on each path. It is
    None for a model that is stochastic from its first layer on, and for one that is not
    a functional Keras model.
    """
    if not hasattr(model, "_nodes_by_depth"):
        return None, model
    frontier = _frontier(model)
    inputs = {id(tensor) for tensor in model.inputs}
    if all(id(tensor) in inputs for tensor in frontier):
        return None, model
    prefix = tf_keras.Model(model.inputs, frontier)
    return prefix, tf_keras.Model(frontier, model.outputs)


class DrawnNetwork:
    """Runs single network draws of a model; made once per model by `of`.

    Attributes:
        layers: The stochastic layers.
        has_latents: Whether there are latents, hence inner draws.
        prefix: Returns what is computed once per image, a list of tensors.
        draw_weights: Returns the weights of a draw for its key.
        compiled: Traced functions that run the draws, by name.
    """

    def __init__(self, model: tf_keras.Model):
        self.layers = stochastic_layers(model)
        _check_seeds(self.layers)
        self.has_latents = any(getattr(x, "is_latent", False) for x in self.layers)
        # The prefix and suffix share the model's layers but hold no reference to it.
        self._prefix, self._suffix = split(model)
        if self._suffix is model:
            self._suffix = weakref.proxy(model)
        self.prefix = tf.function(
            self._run_prefix, input_signature=_signature(model), reduce_retracing=True
        )
        self.draw_weights = tf.function(self._draw_weights)
        self.compiled = {}

    @property
    def has_prefix(self) -> bool:
        """Whether a part of the model is run once per image."""
        return self._prefix is not None

    def _run_prefix(self, images):
        if self._prefix is None:
            return [images]
        return tf.nest.flatten(self._prefix(images, training=False))

    def _draw_weights(self, key):
        """Return the drawn weights of all layers: a list of tuples."""
        return [layer.draw_weights(key) for layer in self.layers]

    def logits(self, features: list, key, weights: list, latent_draw):
        """Return the distribution over logits of one draw, while tracing.

        Args:
            features: What `prefix` returned.
            key: The draw's key, int32 (2,).
            weights: What `draw_weights` returned for it.
            latent_draw: Number of the inner draw.
        """
        drawn = {id(x): w for x, w in zip(self.layers, weights, strict=True)}
        with noise.use(noise.DrawScope(key, latent_draw, drawn)):
            inputs = features[0] if len(features) == 1 else features
            return self._suffix(inputs, training=False)


def of(model: tf_keras.Model) -> DrawnNetwork:
    """Return the `DrawnNetwork` of `model`, made at the first request."""
    if model not in _cache:
        _cache[model] = DrawnNetwork(model)
    return _cache[model]


def _signature(model: tf_keras.Model) -> list[tf.TensorSpec] | None:
    """Return the shape of all images of a model, so that one trace serves them."""
    shape = getattr(model, "input_shape", None)
    return [tf.TensorSpec(shape, tf.float32)] if isinstance(shape, tuple) else None


def _check_seeds(layers) -> None:
    seen = {}
    for layer in layers:
        if layer.seed in seen:
            raise ValueError(
                f"`seed` of layers {seen[layer.seed]!r} and {layer.name!r} is the same "
                f"({layer.seed}), so their draws would be too; give each layer its own "
                "seed, or None."
            )
        seen[layer.seed] = layer.name
