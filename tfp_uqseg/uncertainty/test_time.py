"""Test-time augmentation: a network looks at an image from all sides.

Flips and quarter turns of the image, undone exactly in the answer, as a baseline for
aleatoric uncertainty :cite:p:`wang2019`: how an image lies before the scanner says
nothing about the network, hence what the answers differ by belongs to the data. A
transform is an inner draw, as latents are (see `draws`): the probability p_s of a
network averages over the transforms, and only networks get compared,

    p_s = mean_t p_st
    H[mean_s p_s] = mean_s H[p_s] + mutual information
    mean_s H[p_s] = mean_st H[p_st] + mean_s (H[p_s] - mean_t H[p_st])

so that the spread between transforms, the last term, is part of the expected entropy,
and a deterministic network has a mutual information of 0. In the variances it is part
of mean_s p_s (1 - p_s) = mean_st p_st (1 - p_st) + mean_s var_t p_st. Unlike random
inner draws, all transforms of a square or oblong are averaged exactly: they leave
nothing behind in the epistemic part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tf_keras

from tfp_uqseg import _checks, _rulings
from tfp_uqseg.uncertainty import draws, measures, network, prediction

#: Networks of a Bayesian model unless their number is given, as in `draws.predict`.
DEFAULT_NETWORKS = 20


def predict(
    model: tf_keras.Model,
    images,
    num_draws: int = 8,
    seed: int = 0,
    *,
    num_networks: int | None = None,
    batch_size: int = 8,
    num_latent_draws: int | None = None,
    contained=None,
    progress: Callable[[int, int], object] | None = None,
) -> draws.Prediction:
    """Return the moments of `num_draws` transforms for each of `num_networks` networks.

    Transforms are drawn without repeating any before all have come: 8 of them where the
    slices are square, else 4. More of them than there are cost nothing.

    Args:
        model: See `draws.predict`.
        images: (N, H, W, C) or (N, D, H, W, C); H and W are flipped and turned.
        num_draws: Number of transforms.
        seed: Determines the transforms and, as in `draws.predict`, the networks.
        num_networks: Network draws, of each member with an ensemble; None: 20 for a
            model with stochastic layers, else 1, all a deterministic model has.
        batch_size: Images per call of the network.
        num_latent_draws: See `draws.predict`.
        contained: See `draws.predict`.
        progress: Called with the number of (image, draw) pairs done, and of all.

    Returns:
        A `draws.Prediction`. A draw is a network under a transform: `num_draws` of it
        is the product of both numbers, and row ``s * num_draws + t`` of `voxel_counts`
        holds the voxels that network s finds under transform t, so that the volume has
        an interval even for a deterministic network. The variances of logits are None.

    Raises:
        ValueError: Images of another rank or number of channels, or not finite.
    """
    images = _check(images)
    num_draws = _checks.positive_integer("num_draws", num_draws)
    networks = _number_of_networks(model, num_networks)
    chosen = _transforms(seed, num_draws, square=images.shape[-3] == images.shape[-2])
    settings = {"batch_size": batch_size, "num_latent_draws": num_latent_draws}
    moments, counts = _Moments(), []
    for draw in range(networks):
        p: np.ndarray | float = 0.0
        found = {}
        for done, transform in enumerate(sorted(set(chosen)), 1):
            looked = _look(model, images, transform, draw, seed, settings)
            p = p + np.float32(chosen.count(transform)) * looked
            found[transform] = _count(looked, contained)
            if progress is not None:
                part = num_draws * done // len(set(chosen))
                pairs = len(images) * (draw * num_draws + part)
                progress(pairs, len(images) * networks * num_draws)
        moments.add(np.asarray(p) / np.float32(num_draws))
        counts += [found[transform] for transform in chosen]
    inner = 1
    if network.of(_members(model)[0]).has_latents:
        inner = num_latent_draws or draws.DEFAULT_LATENT_DRAWS
    return moments.finished(np.stack(counts), inner, seed)


def probabilities(
    model: tf_keras.Model,
    images,
    draw: int,
    seed: int = 0,
    *,
    network_draw: int = 0,
    batch_size: int = 8,
    num_latent_draws: int | None = None,
) -> np.ndarray:
    """Return p_st of one network under one transform, float32 (N, ..., K).

    Args:
        model: See `predict`.
        images: See `predict`.
        draw: Number t of the transform; transform 3 here is transform 3 of `predict`.
        seed: See `predict`.
        network_draw: Number s of the network.
        batch_size: See `predict`.
        num_latent_draws: See `predict`.
    """
    images = _check(images)
    square = images.shape[-3] == images.shape[-2]
    transform = _transforms(seed, draw + 1, square=square)[draw]
    settings = {"batch_size": batch_size, "num_latent_draws": num_latent_draws}
    return _look(model, images, transform, network_draw, seed, settings)


class _Moments:
    """Running moments of p_s over networks."""

    def __init__(self):
        self.number, self.mean, self.squares, self.entropy = 0, 0.0, 0.0, 0.0

    def add(self, p: np.ndarray) -> None:
        self.number += 1
        deviation = p - self.mean
        self.mean = self.mean + deviation / self.number
        self.squares = self.squares + deviation * (p - self.mean)
        entropy = measures.binary_entropy(np.clip(p, 0.0, 1.0))
        self.entropy = self.entropy + (entropy - self.entropy) / self.number

    def finished(
        self, counts: np.ndarray, inner: int, seed: int
    ) -> prediction.Prediction:
        return prediction.of_means(
            [self.mean, self.entropy, self.squares / self.number],
            counts,
            num_draws=len(counts),
            num_latent_draws=inner,
            seed=seed,
        )


def _check(images) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim not in (4, 5):
        raise ValueError(
            "`images` must have shape (N, H, W, C) or (N, D, H, W, C); got "
            f"{images.shape}."
        )
    return images


def _number_of_networks(model: tf_keras.Model, requested: int | None) -> int:
    if requested is not None:
        requested = _checks.positive_integer("num_networks", requested)
    members = _members(model)
    if not network.of(members[0]).layers:
        return len(members)
    return len(members) * (requested or DEFAULT_NETWORKS)


def _members(model: tf_keras.Model) -> list[tf_keras.Model]:
    """The networks of an ensemble, or the one there is."""
    return getattr(model, "members", [model])


def _transforms(seed: int, count: int, *, square: bool) -> list[int]:
    """Numbers 0..7 of transforms: flip + 2 * quarter turns; an oblong takes no odd."""
    group = np.arange(8) if square else np.array([0, 1, 4, 5])
    rng = np.random.default_rng((seed, 0x77A))
    rounds = [rng.permutation(group) for _ in range(-(-count // len(group)))]
    return np.concatenate(rounds)[:count].tolist()


def _transform(array: np.ndarray, transform: int) -> np.ndarray:
    if transform % 2:
        array = np.flip(array, -3)
    return np.rot90(array, transform // 2, axes=(-3, -2))


def _undo(array: np.ndarray, transform: int) -> np.ndarray:
    array = np.rot90(array, -(transform // 2), axes=(-3, -2))
    return np.flip(array, -3) if transform % 2 else array


def _look(model, images, transform, draw, seed, settings) -> np.ndarray:
    """The probabilities of one network for images seen under a transform, put back."""
    seen = np.ascontiguousarray(_transform(images, transform))
    return _undo(draws.probabilities(model, seen, draw, seed, **settings), transform)


def _count(p: np.ndarray, contained) -> np.ndarray:
    """Voxels of each region, or of one that it contains, int64 (K,)."""
    count = p.shape[-1]
    contained = np.eye(count) if contained is None else np.asarray(contained)
    if contained.shape != (count, count):
        raise ValueError(
            f"`contained` must have shape {(count, count)}, a row and a column per "
            f"region; got {contained.shape}."
        )
    inside = (p > _rulings.PROBABILITY_THRESHOLD).astype(np.float32)
    either = inside @ contained.T.astype(np.float32) > 0
    return either.sum(axis=tuple(range(p.ndim - 1)), dtype=np.int64)
