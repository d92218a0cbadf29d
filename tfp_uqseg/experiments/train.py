"""Training: from cases to a run folder that holds a network, and resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _files, callbacks, models, plotting
from tfp_uqseg.data import augment, pipeline, preprocess, splits
from tfp_uqseg.data import case as case_module
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import keeping, networks, progress, runs, schedule

#: Slices with tumour that are looked at when the training is over, for `latent.json`
#: and for regions that are never found.
_SLICES_SEEN = 16


def train(
    cases: Sequence[case_module.Case],
    out: str | os.PathLike,
    config: config_module.TrainConfig | None = None,
    *,
    split: splits.Split | None = None,
    resume: bool = False,
    verbose: bool = True,
) -> runs.Run:
    """Train a network and keep it, with all that made it, in a run folder.

    The folder holds ``model.keras``, ``config.json``, ``split.json``,
    ``history.csv``, ``losses.png``, with the method ``latent`` also ``latent.json``
    (what the code carries, and whether the answers heed it), TensorBoard ``logs/`` and
    ``backup/``, from which a run that was stopped at any moment resumes at its last
    whole epoch: weights, optimiser, annealing, schedule, elapsed time and the order of
    the slices go on. Time after the last whole epoch is lost and not counted. An
    ensemble's folder holds such a folder for every member, ``members/member_0`` and so
    on, in place of the network; it resumes at the member that was running.

    The weights kept are those of the last epoch: the learning rate has then come down
    and the KL has had its full weight, and a handful of validation patients is too few
    to choose by. ``keep="best"`` chooses by validation Dice nevertheless.

    Args:
        cases: Studies; those of training and validation need labels.
        out: The run folder, new or empty unless `resume`.
        config: Settings; the defaults if None. With `resume` they must be those of the
            run, but for `epochs`, `max_minutes` and `early_stopping`; None keeps all.
        split: Who is trained on; None splits labelled patients 7 : 1 : 2 by the seed.
        resume: Whether to go on with the run in `out`.
        verbose: Whether to report on standard error.

    Returns:
        The run.

    Raises:
        DataError: If a study cannot be used.
        FileExistsError: If `out` holds something and `resume` is off.
        FileNotFoundError: If `resume` finds no run.
        ValueError: If settings, split and studies do not fit together.
    """
    if resume:
        run = runs.open_run(out)
        settings = runs.extended(config_module.load(run.config), config)
        split = _same_split(splits.load(run.split), split)
    else:
        run = runs.create(out)
        settings = config or config_module.TrainConfig()
        settings = dataclasses.replace(
            settings, label_scheme_given=settings.label_scheme is not None
        )
        split = _make_split(cases, settings.seed) if split is None else split
    if verbose:
        _say_unlabelled(cases)
    if settings.method in models.ENSEMBLES:
        return _train_members(cases, run, settings, split, resume, verbose)
    learn, validate = _gather(cases, split, settings, verbose)
    settings = _resolved(settings, learn)
    if resume:
        settings.save(run.config)
    else:
        runs.write_start(run, settings, split)
    with _precision(settings.precision):
        model = networks.build(settings, pipeline.count_slices(learn))
        _fit(run, model, settings, learn, validate, verbose)
    history = runs.read_history(run)
    if history:
        plotting.save(plotting.loss_curves(history), run.losses)
        seen = _slices_with_tumour(validate or learn)
        if settings.method == "latent" and seen is not None:
            _report_latent(run, model, seen[0], history[-1], verbose)
        if verbose and seen is not None:
            _say_missed(model, *seen, settings.regions)
    return run


def _train_members(cases, run, settings, split, resume: bool, verbose: bool):
    """Train the members of an ensemble as runs of their own, one after the other."""
    if resume:
        settings.save(run.config)
    else:
        runs.write_start(run, settings, split)
    for index in range(settings.num_members):
        place = run.member(index)
        own = networks.member_settings(settings, index)
        started = place.config.exists()
        if started:
            lengths = {name: getattr(own, name) for name in runs.EXTENDABLE}
            own = dataclasses.replace(config_module.load(place.config), **lengths)
        if verbose:
            progress.say(f"member {index + 1} of {settings.num_members}")
        train(cases, place.folder, own, split=split, resume=started, verbose=verbose)
    # What reading the studies decided is the same for all members.
    first = config_module.load(run.member(0).config)
    known = ("regions", "modalities", "label_scheme", "size", "precision")
    found = {name: getattr(first, name) for name in known}
    dataclasses.replace(settings, **found).save(run.config)
    return run


def preprocessing_of(settings: config_module.TrainConfig) -> preprocess.Preprocessing:
    """Return how a run prepares a study."""
    return preprocess.Preprocessing(intensity=settings.intensity, clip=settings.clip)


def _make_split(cases: Sequence[case_module.Case], seed: int) -> splits.Split:
    labelled = [case.id for case in cases if case.label_path is not None]
    if not labelled:
        raise ValueError(
            f"`cases` must have labels to train on; none of the {len(cases)} has. "
            "Check the folder, or name the label files with `label_pattern`."
        )
    patients = {splits.patient_of(case_id) for case_id in labelled}
    if len(patients) < 3:
        # Too few to hold any back: one or two patients are all for training.
        return splits.Split(train=tuple(labelled))
    return splits.make(labelled, seed=seed)


def _say_unlabelled(cases: Sequence[case_module.Case]) -> None:
    without = [case.id for case in cases if case.label_path is None]
    if without:
        more = ", ..." if len(without) > 3 else ""
        progress.say(
            f"{len(without)} of {len(cases)} cases have no labels "
            f"({', '.join(without[:3])}{more})"
        )


def _same_split(stored: splits.Split, asked: splits.Split | None) -> splits.Split:
    if asked is not None and asked != stored:
        raise ValueError(
            "`split` must stay that of the run when it resumes; it differs from "
            "split.json there. Leave it out, or start a new run in another folder."
        )
    return stored


def _gather(cases, split: splits.Split, settings, verbose: bool):
    """Return the cohorts of training and validation, the latter None if empty."""
    augment.resolve(settings.augment)  # wrong settings must not wait for the reading
    if not split.train:
        raise ValueError("`split` must have cases in `train`; it has none.")
    needing = _needs_validation(settings)
    if needing and not split.validation:
        raise ValueError(
            f"{needing[0]} needs cases in `validation` of the split; it has none."
        )
    chosen = splits.select(cases, [*split.train, *split.validation])
    cohort = pipeline.gather(
        chosen,
        regions=settings.regions,
        modalities=settings.modalities,
        preprocessing=preprocessing_of(settings),
        label_scheme=settings.label_scheme,
        size=settings.size,
        divisor=max(16, models.size_divisor(settings.backbone)),
        raters=settings.raters,
        cache=settings.cache,
        progress=progress.CountBar("reading", unit="case", shown=verbose),
    )
    count = len(split.train)
    if count == len(chosen):
        return cohort, None
    return tuple(
        dataclasses.replace(cohort, volumes=volumes)
        for volumes in (cohort.volumes[:count], cohort.volumes[count:])
    )


def _needs_validation(settings) -> list[str]:
    needing = ['`keep="best"`'] if settings.keep == "best" else []
    if settings.schedule.endswith("plateau"):
        needing.append(f'`schedule="{settings.schedule}"`')
    if settings.early_stopping is not None:
        needing.append("`early_stopping`")
    return needing


def _resolved(settings, cohort) -> config_module.TrainConfig:
    """Return the settings with what the studies and the machine decided."""
    schemes = set(cohort.label_schemes)
    precision = settings.precision
    return dataclasses.replace(
        settings,
        regions=cohort.regions,
        modalities=cohort.modalities,
        label_scheme=schemes.pop() if len(schemes) == 1 else settings.label_scheme,
        size=cohort.size,
        precision=models.precision.fast() if precision == "auto" else precision,
    )


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """Build layers in this precision, and leave the global policy as it was."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(models.precision.POLICIES[name])
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def _slices_with_tumour(cohort) -> tuple[np.ndarray, np.ndarray] | None:
    """Return images and masks of some slices, None where none has tumour."""
    slices = np.flatnonzero(cohort.has_tumour)
    if not len(slices):
        return None
    chosen = slices[np.linspace(0, len(slices) - 1, _SLICES_SEEN).astype(int)]
    pairs = [cohort.example(int(index)) for index in np.unique(chosen)]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return images, masks


def _say_missed(model, images, masks, regions) -> None:
    """Name the regions of which the network finds nothing where they are."""
    logits = model(images).mean().numpy()
    missed = [
        region
        for k, region in enumerate(regions)
        if (masks[..., k] > 0.5).any() and not (logits[..., k] > 0.0).any()
    ]
    if missed:
        progress.say(
            f"note: in {len(images)} slices with tumour the network finds nothing of "
            f"{' and '.join(missed)}. Train longer, or with `--loss cross_entropy`: "
            "the Dice loss is apt to be content with an empty answer for small regions."
        )


def _report_latent(run, model, images, last: dict, verbose: bool) -> None:
    """Write what the code carries, and how much the answers heed it."""
    values = {
        "code_kl_nats": last["code_kl"],
        "code_effect": models.bottleneck.code_effect(model, images),
    }
    _files.write_json(run.latent, values)
    if verbose:
        progress.say(
            f"The latent code carries {values['code_kl_nats']:.1f} nats a slice; drawn "
            "from its prior instead, it moves probabilities by "
            f"{values['code_effect']:.3f} in tumour slices (0 if it were ignored)."
        )


def _say_complete(run, keeper, *, stopped: bool) -> None:
    more = "A larger `--early-stopping` continues it."
    if not stopped:
        more = "Larger `--epochs` or `--max-minutes` continue it."
    progress.say(
        f"{run.folder} is complete: {keeper.epoch} epochs, "
        f"{keeper.elapsed / 60:.1f} minutes. {more}"
    )


def _fit(run, model, settings, learn, validate, verbose: bool) -> None:
    """Train from where the run stands to its end."""
    keeper = keeping.Keeper(run, model, settings)
    clock = schedule.Clock(
        settings.most_epochs,
        max_minutes=settings.max_minutes,
        elapsed=keeper.elapsed,
        reserve=keeper.reserve,
    )
    patience = settings.early_stopping
    stopped = patience is not None and callbacks.has_stopped(model, patience)
    if keeper.epoch >= settings.most_epochs or clock.out_of_time or stopped:
        if verbose:
            _say_complete(run, keeper, stopped=stopped)
        return
    batch = min(settings.batch_size, pipeline.count_slices(learn))
    steps = pipeline.count_slices(learn) // batch
    keeper.clock = clock
    validation = None
    if validate is not None:
        validation = pipeline.slices(
            validate,
            batch_size=batch,
            seed=settings.seed,
            initial_epoch=keeper.epoch,
        )
    with pipeline.data_errors():
        model.fit(
            _stream(settings, learn, batch, clock, first_epoch=keeper.epoch),
            epochs=settings.most_epochs,
            initial_epoch=keeper.epoch,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=[*_callbacks(run, settings, clock, steps, verbose), keeper],
            verbose=0,
        )


def _stream(settings, learn, batch, clock, *, first_epoch: int) -> tf.data.Dataset:
    """Return the training slices, epoch after epoch.

    In whole batches only, so that the compiled step knows every shape; the slices that
    an epoch leaves out are others in the next.
    """

    def empty_share(epoch: int) -> float:
        return schedule.empty_share(
            clock.progress(float(epoch)),
            most=settings.empty_share,
            fraction=settings.curriculum,
        )

    return pipeline.slices(
        learn,
        shuffle=True,
        augment=settings.augment,
        repeat=True,
        drop_remainder=True,
        initial_epoch=first_epoch,
        empty_share=empty_share,
        batch_size=batch,
        seed=settings.seed,
    )


def _callbacks(run, settings, clock, steps: int, verbose: bool) -> list:
    """Return what watches the run, without its keeper, which comes last."""
    watching = [schedule.ProgressSchedule(clock, settings, steps_per_epoch=steps)]
    watching += schedule.rate_callbacks(settings, steps_per_epoch=steps)
    watching.append(keeping.EventWriter(run))
    if verbose:
        most = settings.most_epochs if settings.max_minutes is None else settings.epochs
        watching.append(
            progress.TrainingBar(clock, steps_per_epoch=steps, most_epochs=most)
        )
    return watching
