"""`build`: from the name of a method to a network that is ready to compile."""

from __future__ import annotations

import math

import tf_keras

from tfp_uqseg import _checks, layers
from tfp_uqseg.layers import priors
from tfp_uqseg.models import blocks, bottleneck, segmenter, unet

METHODS = ("deterministic", "flipout", "latent")
BACKBONES = ("unet",)


def build(
    method: str,
    *,
    backbone: str = "unet",
    input_shape: tuple,
    num_regions: int,
    num_train_examples: int,
    base_filters: int = 16,
    depth: int = 4,
    seed: int = 0,
    normalization: str | None = "batch",
    prior: str | float = "he_normal",
    initial_stddev_ratio: float = 0.1,
    gaussian_logits: bool | None = None,
    initial_probability: float = 0.01,
    beta: float = 0.01,
    latent_size: int = 10,
    latent_filters: int = 16,
    decoder_skips: bool = True,
    backbone_skip: bool = False,
) -> segmenter.Segmenter:
    """Return an uncompiled network; the methods differ in nothing but the method.

    Args:
        method: ``"deterministic"``; ``"flipout"``, every convolution Bayesian; or
            ``"latent"``, a deterministic backbone and the Bayesian latent bottleneck
            (`models.bottleneck`).
        backbone: ``"unet"``.
        input_shape: (H, W, C) or (D, H, W, C). Extents may be None; given ones must be
            multiples of 2^(depth - 1).
        num_regions: Number K of (overlapping) regions.
        num_train_examples: Number N of training slices; the weights' KL is shared by
            them.
        base_filters: Channels at full resolution.
        depth: Number of resolutions of the backbone.
        seed: Sets the initial weights and the training noise.
        normalization: None, ``"batch"`` or ``"group"``, in front of every ReLU.
        prior: Prior of the Bayesian kernels, see `layers.Convolution2DFlipout`.
        initial_stddev_ratio: Initial posterior scale, see there.
        gaussian_logits: Whether the last layer gives a spread of the logits beside
            their mean. None: only for ``"latent"``.
        initial_probability: What an untrained network answers everywhere, about the
            share of voxels that the regions fill. From 0.5 the Dice loss first drives
            every logit down, and often so far that the answer stays empty.
        beta: Factor of the latent bound. At 1 the objective is that of the exact ELBO,
            but with the Dice loss the maps then collapsed to a constant on glioma
            slices (an empty answer everywhere) under every annealing tried.
        latent_size: Length of the latent code z (Table 1 has ten).
        latent_filters: Channels of the bottleneck at half resolution.
        decoder_skips: See `models.bottleneck.attach`.
        backbone_skip: See there.

    Returns:
        A `Segmenter`.

    Raises:
        ValueError: An argument is out of range; the message names it.
    """
    settings = {**locals(), "input_shape": _checked_shape(input_shape, depth)}
    _check(settings)
    factory = blocks.Factory(
        len(settings["input_shape"]) - 1,
        seed,
        bayesian=method == "flipout",
        normalization=normalization,
        options={
            "prior": priors.check(prior),
            "initial_stddev_ratio": initial_stddev_ratio,
        },
    )
    if gaussian_logits is None:
        settings["gaussian_logits"] = method == "latent"
    images = tf_keras.Input(settings["input_shape"], name="images")
    outputs = _logits(factory, images, settings)
    model = segmenter.Segmenter(images, outputs, name=method)
    model.configure({**settings, "size_divisor": _divisor(settings)})
    segmenter.check_kl_terms(model)
    return model


def _logits(factory: blocks.Factory, images, settings: dict):
    """Return the network's distribution over logits."""
    tensor = unet.features(
        factory,
        images,
        base_filters=settings["base_filters"],
        depth=settings["depth"],
    )
    start = settings["initial_probability"]
    names = ("num_regions", "latent_size", "latent_filters")
    names += ("decoder_skips", "backbone_skip")
    if settings["method"] == "latent":
        tensor = bottleneck.attach(
            factory,
            tensor,
            initial_logit=math.log(start / (1.0 - start)),
            **{name: settings[name] for name in names},
        )
        # With skips the maps, which start there, are the centre of the logits.
        start = 0.5 if settings["decoder_skips"] else start
        return layers.GaussianLogits(start, name="logits")(tensor)
    channels = settings["num_regions"] * (2 if settings["gaussian_logits"] else 1)
    tensor = factory.convolution(channels, 1, activation=None, name="head")(tensor)
    if settings["gaussian_logits"]:
        return layers.GaussianLogits(start, name="logits")(tensor)
    return layers.PointLogits(start, name="logits")(tensor)


def _divisor(settings: dict) -> int:
    divisor = unet.size_divisor(settings["depth"])
    return max(divisor, 8) if settings["method"] == "latent" else divisor


def _checked_shape(input_shape, depth) -> tuple:
    depth = _checks.positive_integer("depth", depth)
    shape = tuple(input_shape)
    if len(shape) not in (3, 4) or shape[-1] is None:
        raise ValueError(
            "`input_shape` must be (H, W, C) or (D, H, W, C) with a known number of "
            f"channels; got {input_shape!r}."
        )
    divisor = unet.size_divisor(depth)
    for extent in shape[:-1]:
        if extent is not None and (extent < divisor or extent % divisor):
            raise ValueError(
                f"`input_shape` must have extents that are multiples of {divisor} for "
                f"`depth`={depth}, or None for any size; got {input_shape!r}."
            )
    return tuple(None if extent is None else int(extent) for extent in shape)


def _check(settings: dict) -> None:
    _checks.one_of("method", settings["method"], METHODS)
    _checks.one_of("backbone", settings["backbone"], BACKBONES)
    for name in ("num_regions", "num_train_examples", "base_filters", "latent_size"):
        _checks.positive_integer(name, settings[name])
    _checks.positive_integer("latent_filters", settings["latent_filters"])
    _checks.non_negative("beta", settings["beta"])
    _checks.probability("initial_probability", settings["initial_probability"])
    if settings["gaussian_logits"] is False and settings["method"] == "latent":
        raise ValueError(
            "`gaussian_logits` must be True or None for the method 'latent', whose "
            "predictive head is a normal distribution; got False."
        )
