"""The network that the settings of a run describe, new or from its folder."""

from __future__ import annotations

import dataclasses
import json

import tf_keras

from tfp_uqseg import losses, models, optimizers, serving
from tfp_uqseg.evaluation import scaling
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import runs
from tfp_uqseg.models import ensemble

LOSSES = {
    "dice_cross_entropy": losses.DiceCrossEntropy,
    "cross_entropy": losses.CrossEntropy,
}


def build(
    settings: config_module.TrainConfig, num_train_examples: int
) -> models.Segmenter | models.Ensemble:
    """Return the compiled network of a run, before its first step.

    Args:
        settings: Of the run, regions and modalities filled in.
        num_train_examples: Training slices.

    Raises:
        ValueError: The network of `warm_start` is of another kind.
        FileNotFoundError: `warm_start` or `kernel_prior` is not there.
    """
    prior = settings.kernel_prior
    model = models.build(
        settings.method,
        backbone=settings.backbone,
        input_shape=(None, None, len(settings.modalities or ())),
        num_regions=len(settings.regions or ()),
        num_train_examples=num_train_examples,
        base_filters=settings.base_filters,
        dropout_rate=settings.dropout_rate,
        initial_stddev_ratio=settings.initial_stddev_ratio,
        kl_weight=settings.kl_weight,
        centred_prior=settings.centred_prior,
        kernel_prior=None if prior is None else models.deep_weight.load(prior),
        beta=settings.beta,
        map_share=settings.map_share,
        seed=settings.seed,
    )
    if settings.warm_start is not None:
        source = load(runs.open_run(settings.warm_start))
        models.warm_start(model, source, freeze=settings.freeze_backbone)
    model.compile(
        optimizer=optimizers.make(
            settings.optimizer,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
        ),
        loss=LOSSES[settings.loss](),
    )
    return model


def member_settings(
    settings: config_module.TrainConfig, index: int
) -> config_module.TrainConfig:
    """Return the settings of one member of an ensemble.

    A member differs in its seed, which decides its first weights and the order of its
    slices; its share of the time is the same for all.
    """
    minutes = settings.max_minutes
    return dataclasses.replace(
        settings,
        method=models.ENSEMBLES[settings.method],
        seed=ensemble.member_seed(settings.seed, index),
        max_minutes=None if minutes is None else minutes / settings.num_members,
    )


def load(
    run: runs.Run, precision: str | None = None, *, calibrated: bool = True
) -> tf_keras.Model | models.Ensemble:
    """Return the network of a run, or the ensemble of its members.

    Args:
        run: The run.
        precision: In which its draws are to compute (`models.precision.for_draws`);
            ``"auto"``: bfloat16 where the machine is fast in it, else float32; None: as
            it was trained.
        calibrated: Whether to scale its logits as `calibration.json` says, where it is.

    Raises:
        FileNotFoundError: If no epoch was finished.
        ValueError: If a file is damaged, or the calibration is that of other weights.
    """
    settings = config_module.load(run.config)
    if settings.method not in models.ENSEMBLES:
        model = _load_one(run)
    else:
        members = [_load_one(run.member(i)) for i in range(settings.num_members)]
        model = models.Ensemble(members, method=settings.method, seed=settings.seed)
    if calibrated and run.calibration.is_file():
        model = models.scaling.scaled(model, _scalings(run, model))
    if precision is None:
        return model
    precision = models.precision.fast() if precision == "auto" else precision
    return models.precision.for_draws(model, precision)


def _scalings(run: runs.Run, model) -> list[scaling.Scaling]:
    """Return what `calibrate` found for a network with these weights."""
    path = run.calibration
    try:
        found = json.loads(path.read_text("utf-8"))
        each = [
            scaling.Scaling(float(region["slope"]), float(region["shift"]))
            for region in found["regions"].values()
        ]
        weights = found["model"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} must hold what `uqseg calibrate` wrote; it cannot be read "
            f"({error!r}). Run it again, or remove the file."
        ) from error
    if weights != serving.fingerprint(model):
        raise ValueError(
            f"{path} must be of the network in {run.folder}; it was found for other "
            "weights, before the run was resumed. Run `uqseg calibrate` again, or "
            "remove the file."
        )
    return each


def _load_one(run: runs.Run) -> tf_keras.Model:
    if not run.model.is_file():
        raise FileNotFoundError(
            f"{run.model} must exist; the run has not finished an epoch. Continue it "
            "with `--resume`."
        )
    try:
        return tf_keras.models.load_model(run.model, compile=False)
    except Exception as error:
        # Keras raises many kinds for a damaged file, and all mean the same here.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{run.model} must be a saved network; it cannot be read ({reason})."
        ) from error
