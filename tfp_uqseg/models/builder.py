"""`build`: from the name of a method to a network that is ready to compile."""

from __future__ import annotations

import math
import typing

import tf_keras

from tfp_uqseg import _checks, layers
from tfp_uqseg.layers import priors
from tfp_uqseg.models import (
    blocks,
    bottleneck,
    deep_weight,
    ensemble,
    fcn,
    guard,
    segmenter,
    unet,
    vnet,
)

METHODS = (
    "deterministic",
    "mc_dropout",
    "flipout",
    "reparameterization",
    "local_reparameterization",
    "latent",
    "deep_weight",
)
#: Methods whose networks are members of a `models.Ensemble`, and what the members are.
ENSEMBLES = {"deep_ensemble": "deterministic", "ensemble_mc_dropout": "mc_dropout"}
BACKBONES = ("unet", "vnet", "fcn")

_BACKBONES = {"unet": unet, "vnet": vnet, "fcn": fcn}
#: How the convolutions of the backbone are trained; those of the others are ordinary.
_ESTIMATORS = {
    "flipout": "flipout",
    "reparameterization": "reparameterization",
    "local_reparameterization": "local_reparameterization",
    "deep_weight": "flipout",
}


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
    prior: str | float | tuple = "he_normal",
    centred_prior: bool = False,
    kernel_prior: deep_weight.KernelPrior | None = None,
    initial_stddev_ratio: float = 0.05,
    kl_weight: float = 1.0,
    dropout_rate: float = 0.3,
    num_members: int = 5,
    gaussian_logits: bool | None = None,
    initial_probability: float = 0.01,
    beta: float = 0.01,
    map_share: float = 0.5,
    latent_size: int = 10,
    latent_filters: int = 16,
    decoder_skips: bool = True,
    backbone_skip: bool = False,
) -> segmenter.Segmenter | ensemble.Ensemble:
    """Return an uncompiled network; the methods differ in nothing but the method.

    Args:
        method: One of

            - ``"deterministic"``;
            - ``"mc_dropout"``: `layers.ChannelDropout` behind the coarsest block and
              every block of the decoder, in training and in every draw;
            - ``"flipout"``, ``"reparameterization"`` (Bayes by Backprop),
              ``"local_reparameterization"``: every convolution has a posterior, and
              they differ in the estimator of its gradient;
            - ``"deep_weight"``: ``"flipout"`` with ``prior="deep_weight"``, reading B
              of the paper (`models.deep_weight`);
            - ``"latent"``: a deterministic backbone and the Bayesian latent bottleneck,
              reading A (`models.bottleneck`);
            - ``"deep_ensemble"``, ``"ensemble_mc_dropout"``: `num_members` networks
              ``"deterministic"`` or ``"mc_dropout"`` that differ in their seed
              (`models.Ensemble`).
        backbone: ``"unet"``, ``"vnet"`` or ``"fcn"``.
        input_shape: (H, W, C) or (D, H, W, C). Extents may be None; given ones must be
            multiples of 2^(depth - 1), of 32 for ``"fcn"``.
        num_regions: Number K of (overlapping) regions.
        num_train_examples: Number N of training slices; the weights' KL is shared by
            them.
        base_filters: Channels at full resolution.
        depth: Number of resolutions of the backbone; ``"fcn"`` always has six.
        seed: Sets the initial weights and the training noise.
        normalization: None, ``"batch"`` or ``"group"``, in front of every activation.
        prior: Prior of the Bayesian kernels, see `layers.priors.check`.
        centred_prior: Whether `models.warm_start` centres the priors too.
        kernel_prior: For ``prior="deep_weight"``: what `models.deep_weight.fit`
            returned. None starts with N(0, He scale) as decoder, which says no more
            than the normal prior.
        initial_stddev_ratio: Initial posterior scale, see
            `layers.Convolution2DFlipout`.
        kl_weight: Factor of the kernels' KL, at least 0. 1 is that of the bound, which
            takes voxels for independent given the weights; neighbours are not, and a
            larger factor (a warmer posterior) gives them less say.
        dropout_rate: Of the methods with dropout (Table 1 has 0.3).
        num_members: Of the ensembles.
        gaussian_logits: Whether the last layer gives a spread of the logits beside
            their mean. None: only for ``"latent"``.
        initial_probability: What an untrained network answers everywhere, about the
            share of voxels that the regions fill. From 0.5 the Dice loss first drives
            every logit down, and often so far that the answer stays empty.
        beta: Factor of the latent bound. At 1 (and `map_share` 0) the objective is that
            of the exact ELBO, but with the Dice loss the maps then collapsed to a
            constant on glioma slices (an empty answer everywhere) under every annealing
            tried.
        map_share: Share of the data loss that ``"latent"`` learns from the maps q(w|x)
            alone, 0 to 1, after the warm-up. With cross-entropy and `beta` 1 the
            objective is the mean, so weighted, of two ELBOs with one q(w|x). With 0 the
            maps forget what they showed, and outlines get lost on the way through the
            bottleneck.
        latent_size: Length of the latent code z (Table 1 has ten).
        latent_filters: Channels of the bottleneck at half resolution.
        decoder_skips: See `models.bottleneck.attach`.
        backbone_skip: See there.

    Returns:
        A `Segmenter`, or an `Ensemble` of them.

    Raises:
        ValueError: An argument is out of range; the message names it.
    """
    settings = dict(locals())
    _check(settings)
    settings["input_shape"] = _checked_shape(input_shape, backbone, depth)
    if method in ENSEMBLES:
        return _ensemble(settings)
    settings = _completed(settings)
    images = tf_keras.Input(settings["input_shape"], name="images")
    outputs = _logits(_factory(settings), images, settings)
    model = segmenter.Segmenter(images, outputs, name=method)
    if kernel_prior is not None:
        _check_extents(kernel_prior, model)
        settings["kernel_prior"] = kernel_prior.settings()
    elif settings["prior"] == "deep_weight":
        kernel_prior = deep_weight.unfitted(_extents(model), latent_size=latent_size)
        settings["kernel_prior"] = kernel_prior.settings()
    model.configure(settings)
    if kernel_prior is not None:
        model.set_kernel_prior(kernel_prior)
    if backbone == "fcn":
        fcn.interpolate(model)
    guard.check_kl_terms(model, expected=_draws_kernels(method))
    return model


def _draws_kernels(method: str) -> bool:
    return method in _ESTIMATORS or method == "latent"


def _ensemble(settings: dict) -> ensemble.Ensemble:
    """Return the members, whose seeds follow from the ensemble's."""
    settings = dict(settings)
    count = _checks.positive_integer("num_members", settings.pop("num_members"))
    name, seed = settings.pop("method"), settings.pop("seed")
    seeds = (ensemble.member_seed(seed, index) for index in range(count))
    members = [build(ENSEMBLES[name], seed=own, **settings) for own in seeds]
    # No method of ENSEMBLES is an ensemble itself.
    alone = typing.cast("list[segmenter.Segmenter]", members)
    return ensemble.Ensemble(alone, method=name, seed=seed)


def _completed(settings: dict) -> dict:
    """Return the settings with what follows from the method."""
    settings = {**settings, "prior": priors.check(settings["prior"])}
    method, backbone = settings["method"], _BACKBONES[settings["backbone"]]
    if method == "deep_weight":
        settings["prior"] = "deep_weight"
    if settings["gaussian_logits"] is None:
        settings["gaussian_logits"] = method == "latent"
    divisor = backbone.size_divisor(settings["depth"])
    settings["size_divisor"] = max(divisor, 8) if method == "latent" else divisor
    del settings["num_members"]
    return settings


def _factory(settings: dict) -> blocks.Factory:
    method = settings["method"]
    names = ("prior", "centred_prior", "initial_stddev_ratio")
    return blocks.Factory(
        len(settings["input_shape"]) - 1,
        settings["seed"],
        estimator=_ESTIMATORS.get(method),
        normalization=settings["normalization"],
        dropout_rate=settings["dropout_rate"] if method == "mc_dropout" else None,
        options={name: settings[name] for name in names},
    )


def _extents(model) -> list[tuple]:
    """Return the kernel extents above one voxel of the Bayesian layers."""
    shapes = {tuple(x.kernel_loc.shape[:-2]) for x in model.bayesian_layers}
    return sorted(shape for shape in shapes if math.prod(shape) > 1)


def _check_extents(prior: deep_weight.KernelPrior, model) -> None:
    """Raise where the prior would be of no effect: no kernel has an extent it knows."""
    wanted = ["x".join(str(size) for size in extent) for extent in _extents(model)]
    if not set(wanted) & set(prior.extents):
        raise ValueError(
            f"`kernel_prior` must know some of the network's kernels, {wanted}; it "
            f"knows {list(prior.extents)}. Fit it to networks of the same backbone and "
            "number of dimensions."
        )


def _logits(factory: blocks.Factory, images, settings: dict):
    """Return the network's distribution over logits."""
    count, start = settings["num_regions"], settings["initial_probability"]
    gaussian, latent = settings["gaussian_logits"], settings["method"] == "latent"
    channels = None if latent else count * (2 if gaussian else 1)
    tensor = _BACKBONES[settings["backbone"]].features(
        factory,
        images,
        base_filters=settings["base_filters"],
        depth=settings["depth"],
        channels=channels,
    )
    if latent:
        names = ["num_regions", "latent_size", "latent_filters"]
        names += ["decoder_skips", "backbone_skip"]
        tensor = bottleneck.attach(
            factory,
            tensor,
            initial_logit=math.log(start / (1.0 - start)),
            **{name: settings[name] for name in names},
        )
        # With skips the maps, which start there, are the centre of the logits.
        start = 0.5 if settings["decoder_skips"] else start
    kind = layers.GaussianLogits if gaussian else layers.PointLogits
    return kind(start, name="logits")(tensor)


def size_divisor(backbone: str, depth: int = 4) -> int:
    """Return what the extents of images must be multiples of, for any method.

    Args:
        backbone: One of `BACKBONES`.
        depth: As in `build`.

    Raises:
        ValueError: If there is no such backbone.

    >>> size_divisor("unet"), size_divisor("fcn")
    (8, 32)
    """
    _checks.one_of("backbone", backbone, BACKBONES)
    return max(_BACKBONES[backbone].size_divisor(depth), 8)


def _checked_shape(input_shape, backbone: str, depth: int) -> tuple:
    shape = tuple(input_shape)
    if len(shape) not in (3, 4) or shape[-1] is None:
        raise ValueError(
            "`input_shape` must be (H, W, C) or (D, H, W, C) with a known number of "
            f"channels; got {input_shape!r}."
        )
    divisor = _BACKBONES[backbone].size_divisor(depth)
    for extent in shape[:-1]:
        if extent is not None and (extent < divisor or extent % divisor):
            raise ValueError(
                f"`input_shape` must have extents that are multiples of {divisor} for "
                f"`backbone`={backbone!r} and `depth`={depth}, or None for any size; "
                f"got {input_shape!r}."
            )
    return tuple(None if extent is None else int(extent) for extent in shape)


def _check(settings: dict) -> None:
    _checks.one_of("method", settings["method"], (*METHODS, *ENSEMBLES))
    _checks.one_of("backbone", settings["backbone"], BACKBONES)
    for name in ("num_regions", "num_train_examples", "base_filters", "depth"):
        _checks.positive_integer(name, settings[name])
    for name in ("latent_size", "latent_filters", "num_members"):
        _checks.positive_integer(name, settings[name])
    _checks.non_negative("beta", settings["beta"])
    _checks.non_negative("kl_weight", settings["kl_weight"])
    _checks.fraction("map_share", settings["map_share"])
    _checks.probability("initial_probability", settings["initial_probability"])
    if settings["backbone"] == "vnet" and settings["depth"] > len(vnet.STAGES):
        raise ValueError(
            f"`depth` must be at most {len(vnet.STAGES)} for `backbone`='vnet'; got "
            f"{settings['depth']}."
        )
    if settings["kernel_prior"] is not None and not _wants_kernel_prior(settings):
        raise ValueError(
            "`kernel_prior` is for `method`='deep_weight' or `prior`='deep_weight'; "
            f"got `method`={settings['method']!r}, `prior`={settings['prior']!r}."
        )
    if settings["gaussian_logits"] is False and settings["method"] == "latent":
        raise ValueError(
            "`gaussian_logits` must be True or None for the method 'latent', whose "
            "predictive head is a normal distribution; got False."
        )


def _wants_kernel_prior(settings: dict) -> bool:
    return "deep_weight" in (settings["method"], settings["prior"])
