"""Keyed noise: which random numbers a stochastic layer sees, and when.

A stochastic layer meets one of three situations. While *training* it draws fresh
noise, keyed by the optimiser's iteration so that a resumed run repeats an
uninterrupted one. During a *network draw* every weight, dropout mask and latent is a
function of ``(seed, draw, layer)`` alone, so that all slices of a volume see the same
network, in any order and any batch size. Otherwise it returns its mean.

The situation is held in a scope that a caller opens around a model's call. It is read
while the graph is traced and carries tensors, so a traced function stays a pure
function of its key. All generators are Philox: TensorFlow's automatic choice differs
under XLA.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

# TensorFlow's own functions spend some twenty operations of the graph on each of these
# numbers; a network asks for hundreds. The values are equal to theirs, `alg="philox"`.
_PHILOX = 1
_SCRAMBLER = 0x02461E293EC8F720

# Latent noise is laid out on a grid as wide as one of these, so that padding an image
# at its right or bottom edge does not move the noise of the voxels it had.
_EXTENTS = np.array([256, 512, 1024, 2048, 4096, 8192, 16384], np.int32)

_STREAMS = {"kernel": 0, "signs_in": 1, "signs_out": 2, "latent": 3, "initial": 4}

_local = threading.local()


class TrainingScope:
    """Fresh noise for one optimisation step.

    Attributes:
        key: int32 (2,), unique to the step and the replica.
        records: Tensors that layers hand to the training step, by name.
        early_logits: An answer from before the network's end, or None.
    """

    def __init__(self, key: tf.Tensor):
        self.key = key
        self.records: dict[str, tf.Tensor] = {}
        self.early_logits = None


class DrawScope:
    """One network draw.

    Attributes:
        key: int32 (2,), unique to ``(seed, draw)``.
        latent_draw: Index of the inner draw of the latents; a tensor or an int.
        weights: Already drawn weights by layer identity; drawn from `key` if absent.
        from_prior: Names of latents that are drawn from N(0, 1), whatever the input.
        given: Values of latents by name, in place of a draw.
    """

    def __init__(
        self, key: tf.Tensor, latent_draw=0, weights=None, from_prior=(), given=None
    ):
        self.key = key
        self.latent_draw = latent_draw
        self.weights = {} if weights is None else weights
        self.from_prior = frozenset(from_prior)
        self.given = {} if given is None else given

    def weights_of(self, layer: tf_keras.layers.Layer) -> tuple[tf.Tensor, ...]:
        """Return the drawn weights of `layer`, drawing them at the first request."""
        if id(layer) not in self.weights:
            self.weights[id(layer)] = layer.draw_weights(self.key)
        return self.weights[id(layer)]


def current() -> TrainingScope | DrawScope | None:
    """Return the innermost open scope of this thread, or None."""
    stack = getattr(_local, "stack", None)
    return stack[-1] if stack else None


@contextlib.contextmanager
def use(scope: TrainingScope | DrawScope) -> Iterator[TrainingScope | DrawScope]:
    """Open `scope` for the model calls inside the ``with`` block."""
    if not hasattr(_local, "stack"):
        _local.stack = []
    _local.stack.append(scope)
    try:
        yield scope
    finally:
        _local.stack.pop()


def fold_in(key: tf.Tensor, *values) -> tf.Tensor:
    """Derive a new key from `key` and whole numbers, one after the other."""
    for value in values:
        key = tf.stack([_whole_numbers(key, []), tf.cast(value, tf.int32)])
    return key


def draw_key(seed: int | tf.Tensor, draw: int | tf.Tensor) -> tf.Tensor:
    """Return the int32 (2,) key of network draw number `draw` under `seed`."""
    root = tf.stack([tf.cast(seed, tf.int32), tf.constant(0x5EED, tf.int32)])
    return fold_in(root, draw)


def step_key(seed: int, step: tf.Tensor) -> tf.Tensor:
    """Return the key of optimisation step `step`, one per replica."""
    replica = tf.distribute.get_replica_context()
    number = replica.replica_id_in_sync_group if replica is not None else 0
    root = tf.stack([tf.cast(seed, tf.int32), tf.constant(0x57E9, tf.int32)])
    return fold_in(root, step, number)


def layer_key(key: tf.Tensor, layer_seed: int, stream: str) -> tf.Tensor:
    """Return the key of one stream of random numbers of one layer."""
    return fold_in(key, layer_seed, _STREAMS[stream])


def training_key() -> tf.Tensor:
    """Return the key of the running step, or a fresh one outside a training step.

    Outside `models.Segmenter` (a plain ``tf_keras`` model, a custom loop) the key
    comes from TensorFlow's global generator, which `tf.random.set_seed` controls.
    """
    scope = current()
    if isinstance(scope, TrainingScope):
        return scope.key
    return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)


def initial_key(seed: int) -> tf.Tensor:
    """Return the key from which a layer with `seed` draws its initial values."""
    return layer_key(tf.constant([0, 0x1417], tf.int32), seed, "initial")


def normal(key: tf.Tensor, shape, dtype=tf.float32) -> tf.Tensor:
    """Return standard normal noise of `shape`, drawn in float32, as `dtype`."""
    draw = tf.raw_ops.StatelessRandomNormalV2
    return tf.cast(draw(shape=shape, **_generator(key), dtype=tf.float32), dtype)


def uniform(key: tf.Tensor, shape) -> tf.Tensor:
    """Return float32 numbers from 0 to below 1."""
    draw = tf.raw_ops.StatelessRandomUniformV2
    return draw(shape=shape, **_generator(key), dtype=tf.float32)


def rademacher(key: tf.Tensor, shape, dtype=tf.float32) -> tf.Tensor:
    """Return independent signs, -1 or 1 with equal probability."""
    bits = tf.bitwise.bitwise_and(_whole_numbers(key, shape), 1)
    return tf.cast(1 - 2 * bits, dtype)


def anchored_normal(key: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return normal noise for ``(batch, *spatial, channels)``, shared by the batch.

    The value at a voxel depends on its indices alone, not on the extent of the image
    (up to 256, then up to the next power of two) and not on the batch.

    Args:
        key: int32 (2,).
        shape: int32 vector ``(batch, *spatial, channels)``.

    Returns:
        float32 of shape ``(1, *spatial, channels)``.
    """
    spatial, channels = shape[1:-1], shape[-1:]
    longest = tf.reduce_max(tf.concat([spatial, [1]], 0))
    extent = tf.reduce_min(tf.where(_EXTENTS >= longest, _EXTENTS, _EXTENTS[-1]))
    # The leading axis may be cut short: later rows do not change earlier ones.
    padded = tf.concat([spatial[:1], tf.fill([tf.size(spatial[1:])], extent)], 0)
    noise = normal(key, tf.concat([padded, channels], 0))
    cut = tf.slice(noise, tf.zeros_like(tf.shape(noise)), shape[1:])
    return cut[tf.newaxis]


def _whole_numbers(key: tf.Tensor, shape) -> tf.Tensor:
    """Return int32 numbers of `shape`, each of them as likely as any other."""
    draw = tf.raw_ops.StatelessRandomUniformFullIntV2
    return draw(shape=shape, **_generator(key), dtype=tf.int32)


def _generator(key: tf.Tensor) -> dict:
    """Return the arguments of a raw operation that make it draw under `key`."""
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[2],
        key=tf.constant([_SCRAMBLER], tf.uint64),
        counter=tf.cast(key, tf.uint64),
        dtype=tf.uint64,
        alg=_PHILOX,
    )
    scrambled, counter = tf.split(words, 2)
    counter = tf.concat([tf.zeros([1], tf.uint64), counter], 0)
    return {"key": scrambled, "counter": counter, "alg": _PHILOX}


def fresh_seed() -> int:
    """Return a seed from Python's generator, which Keras's `set_random_seed` sets."""
    return random.randrange(2**31)
