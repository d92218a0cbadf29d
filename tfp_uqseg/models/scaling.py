"""Networks whose logits are scaled after training, so that probabilities hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.evaluation import scaling
from tfp_uqseg.models import ensemble
from tfp_uqseg.uncertainty import draws, network

#: Voxels of a patient that a fit looks at, at most, drawn at random.
MOST_VOXELS = 20_000


def of(model: tf_keras.Model | ensemble.Ensemble) -> list[list[float]] | None:
    """Return slope and shift of every region's logits, K pairs; None for none."""
    model = getattr(model, "members", [model])[0]
    heads = [layer for layer in getattr(model, "layers", []) if layer.name == "logits"]
    return getattr(heads[0], "scaling", None) if heads else None


def scaled(model, scalings: Sequence[scaling.Scaling] | None):
    """Return an uncompiled network with the same weights whose logits are scaled.

    Every draw's logit becomes slope * logit + shift, its standard deviation slope times
    as large. The scaling is part of the network: `save` keeps it, and so do exports.
    It replaces one that the network has.

    Args:
        model: Network of `build`, or an ensemble of them.
        scalings: One per region; None for none.

    Raises:
        ValueError: If their number is not that of the regions.
    """
    pairs = None
    if scalings is not None:
        pairs = [[float(each.slope), float(each.shift)] for each in scalings]
        if len(pairs) != model.num_regions:
            raise ValueError(
                f"`scalings` must hold one for each of {model.num_regions} regions; "
                f"got {len(pairs)}."
            )
    if hasattr(model, "members"):
        members = [scaled(member, scalings) for member in model.members]
        return ensemble.Ensemble(members, method=model.method, seed=model.seed)
    config = model.get_config()
    for layer in config["layers"]:
        if layer["name"] == "logits":
            layer["config"]["scaling"] = pairs
    other = type(model).from_config(config)
    other.set_weights(model.get_weights())
    return other


def fit(
    model: tf_keras.Model | ensemble.Ensemble,
    patients: Iterable[tuple],
    *,
    kind: str = "temperature",
    num_draws: int = 10,
    num_latent_draws: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
) -> list[scaling.Scaling]:
    """Find how a network's logits must be scaled, region by region.

    Fitted is what the network predicts with draws: `evaluation.scaling.fit_draws`. A
    scaling that the network has already is looked through.

    Args:
        model: Network of `build`, or an ensemble of them.
        patients: Triples ``(images, masks, brain)`` of patients on whom nothing was
            trained: (Z, H, W, C) float, (Z, H, W, K) and (Z, H, W), zeros and ones;
            `brain` None for all voxels.
        kind: ``"temperature"`` or ``"platt"``.
        num_draws: Network draws (of each member); one where draws do not differ.
        num_latent_draws: Inner draws of each; None for the default.
        seed: Of the draws and of the voxels that are looked at, at most 20,000 of a
            patient.
        batch_size: Images at a time.

    Returns:
        One `evaluation.scaling.Scaling` per region, for `scaled`.

    Raises:
        ValueError: If there is no patient or an argument does not fit.
    """
    _checks.one_of("kind", kind, scaling.KINDS)
    num_draws = _checks.positive_integer("num_draws", num_draws)
    plain = model if of(model) is None else scaled(model, None)
    net = network.of(getattr(plain, "members", [plain])[0])
    inner = num_latent_draws or draws.DEFAULT_LATENT_DRAWS if net.has_latents else 1
    total = (num_draws if net.layers else 1) * len(getattr(plain, "members", [0]))
    pairs = [(draw, i) for draw in range(total) for i in range(inner)]
    rng, cases = np.random.default_rng(seed), []
    for images, masks, brain in patients:
        where = _looked_at(np.asarray(masks), brain, rng)
        moments = [[], []]
        for draw, i in pairs:
            found = draws.logits(
                plain, images, draw, seed, latent_draw=i, batch_size=batch_size
            )
            for kept, values in zip(moments, found, strict=True):
                kept.append(values[where])  # (V, K)
        cases.append((np.asarray(masks)[where], *map(np.stack, moments)))
    return [
        scaling.fit_draws(
            [(m[:, k] > 0, loc[..., k], stddev[..., k]) for m, loc, stddev in cases],
            kind=kind,
        )
        for k in range(plain.num_regions)
    ]


def _looked_at(masks: np.ndarray, brain, rng) -> tuple[np.ndarray, ...]:
    """Return the indices of the voxels that a fit looks at."""
    inside = (
        np.ones(masks.shape[:-1], bool) if brain is None else np.asarray(brain, bool)
    )
    if inside.shape != masks.shape[:-1]:
        raise ValueError(
            f"`patients` must hold a brain of the shape of its masks, "
            f"{masks.shape[:-1]}; got {inside.shape}."
        )
    flat = np.flatnonzero(inside)
    if flat.size > MOST_VOXELS:
        flat = rng.choice(flat, MOST_VOXELS, replace=False)
    return np.unravel_index(flat, inside.shape)
