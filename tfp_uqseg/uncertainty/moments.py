"""The graph that one more draw runs through: probabilities, then running means."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfp_uqseg import _rulings
from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.uncertainty import network


def compiled(net: network.DrawnNetwork, name: str, make: Callable, arguments):
    """Return the traced function `name` of `net`, traced once for all extents.

    Args:
        net: Whose function it is.
        name: Its name among those of `net`.
        make: Makes it from `net`.
        arguments: Features, key and weights of a draw, then what else it takes.
    """
    if name not in net.compiled:
        features, key, weights, *rest = arguments
        exact = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), [key, weights]
        )
        features, *rest = tf.nest.map_structure(_of_any_extent, [features, *rest])
        specs = [features, *exact, *rest]
        net.compiled[name] = tf.function(make(net)).get_concrete_function(*specs)
    return net.compiled[name]


def _of_any_extent(tensor: tf.Tensor) -> tf.TensorSpec:
    """Return a spec that leaves batch and space of an image open."""
    shape = tensor.shape.as_list()
    if len(shape) >= 4:
        shape = [None] * (len(shape) - 1) + shape[-1:]
    return tf.TensorSpec(shape, tensor.dtype)


def zeros(net: network.DrawnNetwork, drawn, *, variances: bool) -> list[tf.Tensor]:
    """Return running means of no draw yet, for the arguments of a draw."""

    def make(net):
        def start(*drawn):
            p, _, variance = of_draw(net, *drawn)
            count = 2 if not variances else 3 if variance is None else 6
            return [tf.zeros_like(p) for _ in range(count)]

        return start

    return compiled(net, f"zeros {variances}", make, drawn)(*drawn)


def probabilities(net: network.DrawnNetwork, drawn) -> tf.Tensor:
    """Return p_s of a draw, float32 (B, ..., K)."""

    def make(net):
        return lambda *drawn: of_draw(net, *drawn)[0]

    return compiled(net, "probabilities", make, drawn)(*drawn)


def logits(net: network.DrawnNetwork, drawn) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and standard deviation of the logits of one inner draw.

    Args:
        net: The network.
        drawn: Features, key, weights and the number of the inner draw.

    Returns:
        Float32 (B, ..., K) each; the standard deviation is 0 without a Gaussian head.
    """

    def make(net):
        def run(*drawn):
            loc, stddev = logits_module.moments(net.logits(*drawn))
            loc = tf.cast(loc, tf.float32)
            return loc, tf.zeros_like(loc) if stddev is None else stddev

        return run

    return compiled(net, "logits", make, drawn)(*drawn)


def update(
    net: network.DrawnNetwork, drawn, number, valid, contained, state: list[tf.Tensor]
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Return the running means after one more draw, its voxels in regions, its masks.

    Args:
        net: The network.
        drawn: Features, key, weights and number of inner draws.
        number: Of the draw, counted from 1, float32 scalar.
        valid: One where a voxel may belong to a region, else zero, as in the padding;
            float32 (B, ..., 1). Where it is zero, so is p.
        contained: float32 (K, K), which regions count for which.
        state: As `zeros` returns it.

    Returns:
        The state, float32 (K,), and bool (B, ..., K).
    """
    arguments = (*drawn, number, valid, contained, state)
    # Means of variances are told by how many there are.
    step = compiled(net, f"step {len(state)}", _make_step, arguments)
    *state, voxels, masks = step(*arguments)
    return state, voxels, masks


def _make_step(net):
    def step(features, key, weights, inner, number, valid, contained, state):
        p, logit_mean, logit_variance = of_draw(net, features, key, weights, inner)
        p = p * valid
        share, not_p = 1.0 / number, 1.0 - p
        entropy = -tf.math.xlogy(p, p) - tf.math.xlogy(not_p, not_p)
        mean, variance = _moments(state[0], state[2:3], p, share)
        values = [mean, state[1] + (entropy - state[1]) * share, *variance]
        if len(state) == 6:
            mean, variance = _moments(state[3], state[4:5], logit_mean, share)
            within = state[5] + (logit_variance - state[5]) * share
            values += [mean, *variance, within]
        inside = tf.cast(p > _rulings.PROBABILITY_THRESHOLD, tf.float32)
        inside = tf.minimum(tf.tensordot(inside, contained, [[-1], [1]]), 1.0)
        counts = tf.reduce_sum(inside, axis=list(range(p.shape.rank - 1)))
        return [*values, counts, inside > 0.0]

    return step


def _moments(mean, variance: list, value, share):
    """Return mean, and the variance if there is one, after one more value (Welford).

    Args:
        mean: Of the values before.
        variance: Nothing, or theirs.
        value: The new one.
        share: One over the number of values, the new one among them.
    """
    deviation = value - mean
    mean = mean + deviation * share
    product = deviation * (value - mean)
    return mean, [old + (product - old) * share for old in variance]


def of_draw(net, features, key, weights, inner):
    """Return p_s, the mean logit and the logit variance within one draw, traceable.

    Args:
        net: The network.
        features: What its `prefix` returned.
        key: The draw's key.
        weights: What its `draw_weights` returned.
        inner: Number of inner draws, int32 scalar.

    Returns:
        Float32 (B, ..., K) each; the variance is None without a Gaussian head.
    """

    def one(latent_draw):
        logits = net.logits(features, key, weights, latent_draw)
        loc, stddev = logits_module.moments(logits)
        loc = tf.cast(loc, tf.float32)
        return logits_module.mean_probabilities(logits), loc, stddev

    p, loc, stddev = one(tf.constant(0))
    if not net.has_latents:
        return p, loc, None if stddev is None else tf.square(stddev)
    spread = tf.zeros_like(loc) if stddev is None else tf.square(stddev)

    def body(latent_draw, p_sum, loc_mean, between, spread_sum):
        p, loc, stddev = one(latent_draw)
        share = 1.0 / tf.cast(latent_draw + 1, tf.float32)
        loc_mean, (between,) = _moments(loc_mean, [between], loc, share)
        if stddev is not None:
            spread_sum += tf.square(stddev)
        return latent_draw + 1, p_sum + p, loc_mean, between, spread_sum

    _, p, loc, between, spread = tf.while_loop(
        lambda latent_draw, *_: latent_draw < inner,
        body,
        (tf.constant(1), p, loc, tf.zeros_like(loc), spread),
        parallel_iterations=1,
    )
    count = tf.cast(inner, tf.float32)
    return p / count, loc, spread / count + between
