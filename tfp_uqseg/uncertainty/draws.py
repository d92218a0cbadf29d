"""Monte Carlo prediction: draws of the network, not of the batch.

One network draw is one sample of every weight, determined by ``(seed, draw, layer)``,
and is run over all images. The latents of a draw are inner draws, over which its
probabilities are averaged, since they stand for what the data leave open. Moments
stream over the draws, so that memory does not grow with their number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, _rulings
from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.layers import noise
from tfp_uqseg.uncertainty import measures, network

#: Inner draws of a draw where a model has latents: two mirrored pairs.
DEFAULT_LATENT_DRAWS = 4
_BATCHES_PER_CHUNK = 4


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """What the draws say, per voxel and region. Maps are float32 (N, ..., K).

    Attributes:
        mean_probabilities: Mean over draws of p_s.
        predictive_entropy: H[mean_s p_s], nats.
        expected_entropy: mean_s H[p_s], nats: aleatoric.
        mutual_information: Their difference, nats: epistemic.
        aleatoric_variance: mean_s p_s (1 - p_s), probability^2.
        epistemic_variance: var_s p_s, probability^2.
        logit_aleatoric_variance: Eq. 11, first term, logit^2; None without a Gaussian
            head.
        logit_epistemic_variance: Eq. 11, second term, logit^2; None likewise.
        voxel_counts: int64 (num_draws, K), voxels with p_s > 0.5 over all images, in
            the region or in one that it contains.
        num_draws: Number of network draws, those of all members of an ensemble.
        num_latent_draws: Number of inner draws of each.
        seed: Seed of the draws.
    """

    mean_probabilities: np.ndarray
    predictive_entropy: np.ndarray
    expected_entropy: np.ndarray
    mutual_information: np.ndarray
    aleatoric_variance: np.ndarray
    epistemic_variance: np.ndarray
    logit_aleatoric_variance: np.ndarray | None
    logit_epistemic_variance: np.ndarray | None
    voxel_counts: np.ndarray
    num_draws: int
    num_latent_draws: int
    seed: int

    def __repr__(self):
        return (
            f"Prediction(shape={self.mean_probabilities.shape}, "
            f"num_draws={self.num_draws}, num_latent_draws={self.num_latent_draws}, "
            f"seed={self.seed})"
        )


def predict(
    model: tf_keras.Model,
    images,
    num_draws: int = 20,
    seed: int = 0,
    *,
    batch_size: int = 8,
    num_latent_draws: int | None = None,
    contained=None,
    progress: Callable[[int, int], object] | None = None,
) -> Prediction:
    """Return the moments of `num_draws` network draws over `images`.

    Their mean estimates the integral of Eq. 12, which stands for that of Eq. 2.

    The result does not depend on `batch_size` or on the order of the images, up to
    float rounding. Images whose extents the model cannot divide are padded with zeros
    at the far edges, and the padding is cut off again.

    With n inner draws the epistemic variance is too large by (variance between inner
    draws) / n in expectation; mirrored pairs remove most of that.

    Args:
        model: A `tf_keras` model whose output is a distribution over logits or a tensor
            of logits, (N, ..., K); or an ensemble, whose `members` are such models.
        images: (N, H, W, C) or (N, D, H, W, C), preprocessed as in training.
        num_draws: Number of network draws, numbered from 0; with an ensemble, of each
            of its members.
        seed: Determines the draws together with their number.
        batch_size: Images per call of the network.
        num_latent_draws: Inner draws per draw; None: 4 for a model with latents, else
            1.
        contained: (K, K) bool: row k marks the regions whose voxels count for region k
            too (`labels.contained`); None counts each region alone.
        progress: Called with the number of (image, draw) pairs done, and of all.

    Returns:
        A `Prediction`.

    Raises:
        ValueError: Images of another rank or number of channels, or not finite.
    """
    images = _check_images(model, images)
    num_draws = _checks.positive_integer("num_draws", num_draws)
    batch_size = _checks.positive_integer("batch_size", batch_size)
    members = getattr(model, "members", [model])
    inner = _latent_draws(network.of(members[0]), num_latent_draws)
    # Draws of a model without stochastic layers are equal: one is enough.
    repeats = num_draws if network.of(members[0]).layers else 1
    chunk = batch_size * _BATCHES_PER_CHUNK
    parts, counts = [], 0
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        shared = (batch_size, repeats, inner, seed, contained)
        moments, count = _run_chunk(members, part, *shared)
        parts.extend(moments)
        counts = counts + count
        if progress is not None:
            done = min(start + chunk, len(images))
            progress(done * num_draws, len(images) * num_draws)
    total = repeats * len(members)
    reported = max(total, num_draws) if len(members) == 1 else total
    counts = np.repeat(counts, reported // total, axis=0)
    return _finish(parts, counts, total, reported, inner, seed)


def probabilities(
    model: tf_keras.Model,
    images,
    draw: int,
    seed: int = 0,
    *,
    batch_size: int = 8,
    num_latent_draws: int | None = None,
) -> np.ndarray:
    """Return p_s of one network draw, float32 (N, ..., K).

    Args:
        model: See `predict`.
        images: See `predict`.
        draw: Number of the draw; draw 3 here is draw 3 of `predict`.
        seed: See `predict`.
        batch_size: See `predict`.
        num_latent_draws: See `predict`.
    """
    images = _check_images(model, images)
    members = getattr(model, "members", [model])
    draw, number = divmod(draw, len(members))
    net = network.of(members[number])
    inner = tf.constant(_latent_draws(net, num_latent_draws))
    key = noise.draw_key(seed, draw)
    weights = net.draw_weights(key)
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        drawn = (net.prefix(_pad(model, batch)), key, weights, inner)
        run = _compiled(net, "probabilities", _make_probabilities, drawn)
        parts.append(_crop(run(*drawn).numpy(), batch))
    return np.concatenate(parts)


def _latent_draws(net: network.DrawnNetwork, requested: int | None) -> int:
    if requested is not None:
        requested = _checks.positive_integer("num_latent_draws", requested)
    if not net.has_latents:
        return 1
    return requested or DEFAULT_LATENT_DRAWS


def _run_chunk(members, images, batch_size, num_draws, inner, seed, contained):
    """Return the moments of every batch of a chunk, and its counts per draw (S, K)."""
    batches = [
        images[start : start + batch_size]
        for start in range(0, len(images), batch_size)
    ]
    valid = [_valid(members[0], batch) for batch in batches]
    moments, counts, done = [None] * len(batches), {}, 0
    for place, member in enumerate(members):
        net = network.of(member)
        features = [net.prefix(_pad(member, batch)) for batch in batches]
        for draw in range(num_draws):
            key = noise.draw_key(seed, draw)
            weights, done, count = net.draw_weights(key), done + 1, 0
            number = tf.constant(float(done))
            for i in range(len(batches)):
                drawn = (features[i], key, weights, tf.constant(inner))
                state = _empty(net, drawn) if moments[i] is None else moments[i]
                nested = _nested(contained, state)
                arguments = (*drawn, number, valid[i], nested, state)
                step = _compiled(net, "step", _make_step, arguments)
                *moments[i], voxels = step(*arguments)
                count = count + voxels.numpy()
            counts[draw * len(members) + place] = count
    cropped = [
        [_crop(moment.numpy(), batch) for moment in state]
        for state, batch in zip(moments, batches, strict=True)
    ]
    ordered = [counts[number] for number in sorted(counts)]
    return cropped, np.stack(ordered).astype(np.int64)


def _compiled(net: network.DrawnNetwork, name: str, make: Callable, arguments):
    """Return the traced function `name` of `net`, traced once for all extents."""
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


def _empty(net, drawn) -> list[tf.Tensor]:
    """Return zero moments of the right shape: six with a Gaussian head, else three."""
    return _compiled(net, "zeros", _make_zeros, drawn)(*drawn)


def _make_zeros(net):
    def zeros(features, key, weights, inner):
        p, _, variance = _inner_mean(net, features, key, weights, inner)
        return [tf.zeros_like(p) for _ in range(3 if variance is None else 6)]

    return zeros


def _make_probabilities(net):
    return lambda *drawn: _inner_mean(net, *drawn)[0]


def _make_step(net):
    def step(features, key, weights, inner, number, valid, contained, state):
        """Update the running moments (Welford) with draw `number`, counted from 1."""
        p, logit_mean, logit_variance = _inner_mean(net, features, key, weights, inner)
        entropy = -tf.math.xlogy(p, p) - tf.math.xlogy(1 - p, 1 - p)
        values = [*_welford(state[0], state[1], p, number)]
        values.append(state[2] + (entropy - state[2]) / number)
        if logit_variance is not None:
            values += _welford(state[3], state[4], logit_mean, number)
            values.append(state[5] + (logit_variance - state[5]) / number)
        inside = tf.cast(p > _rulings.PROBABILITY_THRESHOLD, tf.float32) * valid
        inside = tf.minimum(tf.tensordot(inside, contained, [[-1], [1]]), 1.0)
        counts = tf.reduce_sum(inside, axis=list(range(p.shape.rank - 1)))
        return [*values, counts]

    return step


def _welford(mean, squares, value, number):
    """Return mean and sum of squared deviations after one more value."""
    deviation = value - mean
    mean = mean + deviation / number
    return mean, squares + deviation * (value - mean)


def _inner_mean(net, features, key, weights, inner):
    """Return p_s, the mean logit and the logit variance within one draw."""

    def one(latent_draw):
        logits = net.logits(features, key, weights, latent_draw)
        loc, stddev = logits_module.moments(logits)
        loc = tf.cast(loc, tf.float32)
        return logits_module.mean_probabilities(logits), loc, stddev

    p, loc, stddev = one(tf.constant(0))
    if not net.has_latents:
        return p, loc, None if stddev is None else tf.square(stddev)
    spread = tf.zeros_like(loc) if stddev is None else tf.square(stddev)

    def body(latent_draw, p_sum, loc_mean, squares, spread_sum):
        p, loc, stddev = one(latent_draw)
        number = tf.cast(latent_draw + 1, tf.float32)
        loc_mean, squares = _welford(loc_mean, squares, loc, number)
        if stddev is not None:
            spread_sum += tf.square(stddev)
        return latent_draw + 1, p_sum + p, loc_mean, squares, spread_sum

    _, p, loc, squares, spread = tf.while_loop(
        lambda latent_draw, *_: latent_draw < inner,
        body,
        (tf.constant(1), p, loc, tf.zeros_like(loc), spread),
        parallel_iterations=1,
    )
    count = tf.cast(inner, tf.float32)
    return p / count, loc, (spread + squares) / count


def _nested(contained, state: list[tf.Tensor]) -> tf.Tensor:
    """Return which regions count for which, float32 (K, K)."""
    count = state[0].shape[-1]
    contained = np.eye(count) if contained is None else np.asarray(contained)
    if contained.shape != (count, count):
        raise ValueError(
            f"`contained` must have shape {(count, count)}, a row and a column per "
            f"region; got {contained.shape}."
        )
    return tf.constant(contained, tf.float32)


def _check_images(model: tf_keras.Model, images) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype.kind not in "fiu":
        raise ValueError(f"`images` must be numbers; got dtype {images.dtype}.")
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and (
        images.ndim != len(expected) or expected[-1] not in (None, images.shape[-1])
    ):
        raise ValueError(
            f"`images` must have shape {('N', *expected[1:])} (the model's input); got "
            f"{images.shape}."
        )
    if len(images) == 0:
        raise ValueError("`images` must hold at least one image; got none.")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError("`images` must be finite; found NaN or infinite values.")
    return images


def _padded_extents(model: tf_keras.Model, extents: tuple) -> list[int]:
    """Return the extents at which the network runs images of `extents`."""
    divisor = getattr(model, "size_divisor", 1)
    expected = getattr(model, "input_shape", None)
    fixed = expected[1:-1] if isinstance(expected, tuple) else [None] * len(extents)
    padded = []
    for extent, wanted in zip(extents, fixed, strict=True):
        if wanted is not None and extent > wanted:
            raise ValueError(
                f"`images` must not be larger than the model's input {tuple(fixed)}; "
                f"got extents {extents}. Build the model with None for any size."
            )
        padded.append(wanted or -(-extent // divisor) * divisor)
    return padded


def _pad(model: tf_keras.Model, batch: np.ndarray) -> tf.Tensor:
    """Return the batch as float32, padded with zeros at the far edges."""
    extents = _padded_extents(model, batch.shape[1:-1])
    widths = [
        (0, target - now)
        for target, now in zip(extents, batch.shape[1:-1], strict=True)
    ]
    return tf.constant(
        np.pad(batch.astype(np.float32, copy=False), [(0, 0), *widths, (0, 0)])
    )


def _valid(model: tf_keras.Model, batch: np.ndarray) -> tf.Tensor:
    """Return one where the padded batch holds an image's voxel, (1, ..., 1)."""
    ones = np.ones((1, *batch.shape[1:-1], 1), np.float32)
    return _pad(model, ones)


def _crop(array: np.ndarray, batch: np.ndarray) -> np.ndarray:
    return array[(slice(None), *(slice(0, extent) for extent in batch.shape[1:-1]))]


def _finish(parts, counts, repeats, num_draws, inner, seed) -> Prediction:
    """Turn the moments of all batches into the maps."""
    moments = [np.concatenate(maps) for maps in zip(*parts, strict=True)]
    mean, squares, expected_entropy = moments[:3]
    mean = np.clip(mean, 0.0, 1.0)
    predictive_entropy = measures.binary_entropy(mean)
    epistemic_variance = squares / repeats
    logit = {"aleatoric": None, "epistemic": None}
    if len(moments) > 3:
        logit = {"aleatoric": moments[5], "epistemic": moments[4] / repeats}
    return Prediction(
        mean_probabilities=mean,
        predictive_entropy=predictive_entropy,
        expected_entropy=expected_entropy,
        mutual_information=np.maximum(predictive_entropy - expected_entropy, 0.0),
        # mean p - mean p^2: the total variance less the part between draws.
        aleatoric_variance=np.maximum(mean * (1.0 - mean) - epistemic_variance, 0.0),
        epistemic_variance=epistemic_variance,
        logit_aleatoric_variance=logit["aleatoric"],
        logit_epistemic_variance=logit["epistemic"],
        voxel_counts=counts,
        num_draws=num_draws,
        num_latent_draws=inner,
        seed=seed,
    )
