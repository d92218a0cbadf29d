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

from tfp_uqseg import _checks
from tfp_uqseg.layers import noise
from tfp_uqseg.uncertainty import inputs, moments, network, prediction

Prediction = prediction.Prediction

#: Inner draws of a draw where a model has latents: two mirrored pairs.
DEFAULT_LATENT_DRAWS = 4
_BATCHES_PER_CHUNK = 4
# Where a draw repeats a part of the network alone, that part is run over more images:
# its many small operations cost less together than batch by batch.
_BATCHES_PER_DRAW = 2


def predict(
    model: tf_keras.Model,
    images,
    num_draws: int = 20,
    seed: int = 0,
    *,
    batch_size: int = 8,
    num_latent_draws: int | None = None,
    where=None,
    contained=None,
    variances: bool = True,
    masks: bool = False,
    earlier: Prediction | None = None,
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
        where: (N, H, W) or (N, D, H, W) bool: voxels that may belong to a region, such
            as the brain. Elsewhere probabilities and their uncertainties are 0, and no
            voxel counts. None for everywhere.
        contained: (K, K) bool: row k marks the regions whose voxels count for region k
            too (`labels.contained`); None counts each region alone.
        variances: Whether to give variances beside the entropies.
        masks: Whether to keep the masks of every draw, a byte per voxel, region and
            draw: the one thing here that grows with `num_draws`.
        earlier: What fewer draws of the same model, images and arguments said. Only the
            further draws are run; the result is that of all of them, to the last digit.
        progress: Called with the number of (image, draw) pairs done, and of all.

    Returns:
        A `Prediction`.

    Raises:
        ValueError: Images of another rank or number of channels, or not finite; `where`
            of another shape; an `earlier` prediction that these draws do not go on
            from, or with `masks`.
    """
    images = inputs.check(model, images)
    where = inputs.check_where(where, images)
    num_draws = _checks.positive_integer("num_draws", num_draws)
    batch_size = _checks.positive_integer("batch_size", batch_size)
    members = getattr(model, "members", [model])
    stochastic = bool(network.of(members[0]).layers)
    plan = _Plan(
        members=members,
        first=0,
        # Draws of a model without stochastic layers are equal: one is enough.
        last=num_draws if stochastic else 1,
        inner=_latent_draws(network.of(members[0]), num_latent_draws),
        seed=seed,
        variances=bool(variances),
        masks=bool(masks),
        contained=contained,
        batch_size=batch_size,
    )
    if earlier is not None and masks:
        raise ValueError(
            "`earlier` cannot go with `masks`, which it lacks. Predict without it."
        )
    if earlier is not None and stochastic:
        plan = plan.after(earlier, len(images))
    before = earlier if plan.first else None
    return _run(plan, images, where, before, num_draws, progress)


def _run(plan: _Plan, images, where, earlier, num_draws, progress) -> Prediction:
    """Return the prediction of all chunks of the images."""
    parts, kept, members = [], [], len(plan.members)
    counts: np.ndarray | int = 0
    before = [] if earlier is None else earlier.running_means()
    chunk = plan.batch_size * max(1, _BATCHES_PER_CHUNK // members)
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        means, count, masks = _run_chunk(
            plan, images[part], where[part], [mean[part] for mean in before]
        )
        parts.extend(means)
        kept.append(masks)
        counts = counts + count
        if progress is not None:
            done = min(start + chunk, len(images))
            progress(done * num_draws, len(images) * num_draws)
    if earlier is not None:
        counts = np.concatenate([earlier.voxel_counts, np.asarray(counts)])
    total = plan.last * members
    reported = max(total, num_draws) if members == 1 else total
    return prediction.of_means(
        [np.concatenate(maps) for maps in zip(*parts, strict=True)],
        np.repeat(counts, reported // total, axis=0),
        num_draws=reported,
        num_latent_draws=plan.inner,
        seed=plan.seed,
        draw_masks=np.concatenate(kept, axis=1) if plan.masks else None,
        alone=total == 1,
    )


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
    inner = _latent_draws(_member(model, draw)[0], num_latent_draws)
    return _run_one(model, images, draw, seed, inner, batch_size, _probabilities)[0]


def logits(
    model: tf_keras.Model,
    images,
    draw: int,
    seed: int = 0,
    *,
    latent_draw: int = 0,
    batch_size: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of the logits of one inner draw of a network draw.

    The p_s of `probabilities` is the mean over the inner draws of E[sigmoid(logit)].

    Args:
        model: See `predict`.
        images: See `predict`.
        draw: Number of the draw.
        seed: See `predict`.
        latent_draw: Number of the inner draw; without meaning where there are no
            latents.
        batch_size: See `predict`.

    Returns:
        Mean and standard deviation, float32 (N, ..., K) each, logits; the latter is 0
        for a network without a Gaussian head.
    """
    both = _run_one(model, images, draw, seed, latent_draw, batch_size, moments.logits)
    return both[0], both[1]


def _probabilities(net, drawn) -> list[tf.Tensor]:
    return [moments.probabilities(net, drawn)]


def _member(model, draw: int) -> tuple[network.DrawnNetwork, int]:
    """Return the network of a draw, and the draw's number among its own."""
    members = getattr(model, "members", [model])
    draw, number = divmod(draw, len(members))
    return network.of(members[number]), draw


def _run_one(model, images, draw, seed, inner, batch_size, run) -> list[np.ndarray]:
    """Return what `run` says of all images in one draw."""
    images = inputs.check(model, images)
    net, draw = _member(model, draw)
    key = noise.draw_key(seed, draw)
    weights, inner = net.draw_weights(key), tf.constant(inner)
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        drawn = (net.prefix(inputs.pad(model, batch)), key, weights, inner)
        parts.append([inputs.crop(found.numpy(), batch) for found in run(net, drawn)])
    return [np.concatenate(maps) for maps in zip(*parts, strict=True)]


def _latent_draws(net: network.DrawnNetwork, requested: int | None) -> int:
    if requested is not None:
        requested = _checks.positive_integer("num_latent_draws", requested)
    if not net.has_latents:
        return 1
    return requested or DEFAULT_LATENT_DRAWS


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What every chunk of images is run through: draws `first` to `last` - 1."""

    members: list
    first: int
    last: int
    inner: int
    seed: int
    variances: bool
    masks: bool
    contained: np.ndarray | None
    batch_size: int

    def after(self, earlier: Prediction, count: int) -> _Plan:
        """Return the plan of what is left to do after `earlier`."""
        draws = earlier.num_draws // len(self.members)
        given = {
            "seed": (earlier.seed, self.seed),
            "num_latent_draws": (earlier.num_latent_draws, self.inner),
            "images": (len(earlier.mean_probabilities), count),
            "variances": (earlier.epistemic_variance is not None, self.variances),
        }
        for name, (found, wanted) in given.items():
            if found != wanted:
                raise ValueError(
                    f"`earlier` must have the same `{name}`, {wanted}; got {found}. "
                    "Predict without it."
                )
        if not draws < self.last:
            raise ValueError(
                f"`num_draws` must exceed the {draws} draws of `earlier`; got "
                f"{self.last}."
            )
        return dataclasses.replace(self, first=draws)

    def drawn(self):
        """Yield number (from 1), member's place and key of every draw, in order."""
        for draw in range(self.first, self.last):
            key = noise.draw_key(self.seed, draw)
            for place in range(len(self.members)):
                yield draw * len(self.members) + place + 1, place, key


def _run_chunk(plan: _Plan, images, where, earlier):
    """Return the running means of a chunk, its voxels per draw (S, K), its masks."""
    nets = [network.of(member) for member in plan.members]
    size = plan.batch_size
    if all(net.has_prefix for net in nets):
        size *= _BATCHES_PER_DRAW
    cuts = [slice(start, start + size) for start in range(0, len(images), size)]
    batches = [images[cut] for cut in cuts]
    padded = [inputs.pad(plan.members[0], batch) for batch in batches]
    features = [[_features(net, x, plan.batch_size) for x in padded] for net in nets]
    valid = [inputs.valid(plan.members[0], where[cut]) for cut in cuts]
    inner, nested = tf.constant(plan.inner), None
    before = [[inputs.pad(plan.members[0], x[cut]) for x in earlier] for cut in cuts]
    states = before if earlier else []
    counts, kept = [], []
    for number, place, key in plan.drawn():
        net, count = nets[place], 0
        weights = net.draw_weights(key)
        drawn = [(each, key, weights, inner) for each in features[place]]
        if not states:
            states = [
                moments.zeros(net, each, variances=plan.variances) for each in drawn
            ]
        nested = _nested(plan.contained, states[0]) if nested is None else nested
        step, masks = tf.constant(float(number)), []
        for i, batch in enumerate(batches):
            states[i], voxels, inside = moments.update(
                net, drawn[i], step, valid[i], nested, states[i]
            )
            count = count + voxels.numpy()
            if plan.masks:
                masks.append(inputs.crop(inside.numpy(), batch))
        counts.append(count)
        if plan.masks:
            kept.append(np.concatenate(masks))
    cropped = [
        [inputs.crop(mean.numpy(), batch) for mean in state]
        for state, batch in zip(states, batches, strict=True)
    ]
    inside = np.stack(kept) if plan.masks else None
    return cropped, np.stack(counts).astype(np.int64), inside


def _features(net: network.DrawnNetwork, images: tf.Tensor, batch_size: int) -> list:
    """Return what the network computes once per image, a batch at a time."""
    if not net.has_prefix:
        return [images]
    starts = range(0, len(images), batch_size)
    parts = [net.prefix(images[start : start + batch_size]) for start in starts]
    return [tf.concat(each, axis=0) for each in zip(*parts, strict=True)]


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
