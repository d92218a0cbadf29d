"""Prediction of many studies with the network of a run."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Sequence

from tfp_uqseg import _checks, serving
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import networks, progress, runs, train

_SHOWN = 5


def predict(
    run: str | os.PathLike,
    cases: Sequence[case_module.Case],
    maps: str | os.PathLike,
    num_draws: int = 20,
    *,
    seed: int = 0,
    label_scheme: str | None = None,
    num_latent_draws: int | None = None,
    keep_draws: bool = False,
    batch_size: int = 8,
    precision: str = "auto",
    overwrite: bool = False,
    calibrated: bool = True,
    verbose: bool = True,
) -> list[pathlib.Path]:
    """Write the maps of every case; see `serving.predict_case` for the files.

    Cases whose maps are there already, from the same network, files and settings, are
    left as they are; maps of fewer draws are gone on from. A case that cannot be used
    does not stop the others.

    Args:
        run: Folder of a training run.
        cases: Studies with the run's modalities.
        maps: Folder that gets one folder per case.
        num_draws: Network draws.
        seed: Of the draws.
        label_scheme: Whose ids the label maps use; None for the cases' own, or the
            run's where a case has none.
        num_latent_draws: Inner draws of each network draw; None for the default.
        keep_draws: Whether to keep the masks of every draw too.
        batch_size: Slices at a time.
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the
            machine is fast in it.
        overwrite: Whether to replace maps made with other settings.
        calibrated: Whether to use what `calibrate` found, where the run has it.
        verbose: Whether to report on standard error.

    Returns:
        The folder of every case.

    Raises:
        DataError: If a study cannot be used; the others are predicted first.
        FileExistsError: If `maps` holds a case with other settings; before any work.
        FileNotFoundError: If `run` holds no trained network.
    """
    folder = runs.open_run(run)
    settings = config_module.load(folder.config)
    model = networks.load(folder, precision, calibrated=calibrated)
    requests = [
        serving.make_request(
            model,
            case,
            num_draws,
            seed=seed,
            regions=settings.regions,
            modalities=settings.modalities,
            preprocessing=train.preprocessing_of(settings),
            label_scheme=label_scheme or _scheme_for(case, settings),
            num_latent_draws=num_latent_draws,
            keep_draws=keep_draws,
        )
        for case in cases
    ]
    maps = pathlib.Path(maps)
    waiting = [
        (case, request)
        for case, request in zip(cases, requests, strict=True)
        if overwrite or not _is_done(model, case, maps, request)
    ]
    if verbose and len(waiting) < len(cases):
        progress.say(
            f"{len(cases) - len(waiting)} of {len(cases)} cases are in {maps} already, "
            "with the same network and settings; left as they are"
        )
    maps.mkdir(parents=True, exist_ok=True)
    options = {"batch_size": batch_size, "overwrite": overwrite}
    _predict_all(model, waiting, maps, options, verbose)
    return [maps / case.id for case in cases]


def _scheme_for(case, settings) -> str | None:
    """Return the run's scheme where it was given or the case's names tell none."""
    if settings.label_scheme_given or case.label_scheme is None:
        return settings.label_scheme
    return None


def choose(
    cases: Sequence[case_module.Case],
    run: str | os.PathLike,
    *,
    case_ids: Iterable[str] | None = None,
    split: splits.Split | None = None,
    part: str | None = None,
    verbose: bool = True,
) -> list[case_module.Case]:
    """Return the cases to predict.

    Args:
        cases: All that were found.
        run: Folder of a training run.
        case_ids: Exactly these.
        split: Those of `part` of this split.
        part: ``"train"``, ``"validation"`` or ``"test"``; with `split` or the run's own
            split. The default is the test part of `split`, and of the run's own all
            that is neither trained on nor validated with; where that is nothing, all.
        verbose: Whether to say on standard error what was chosen.

    Raises:
        ValueError: If a case that was asked for is not there.
    """
    if case_ids is not None:
        if split is not None or part is not None:
            raise ValueError("`case_ids` cannot go with `split` or `part`; choose one.")
        return splits.select(cases, dict.fromkeys(case_ids))
    if split is None and part is None:
        own = splits.load(runs.open_run(run).split)
        known = {*own.train, *own.validation}
        chosen = [case for case in cases if case.id not in known]
        words = f"the {len(chosen)} cases that the run has not seen"
        if not chosen:
            chosen = list(cases)
            words = f"all {len(cases)} cases, which the run was trained or chosen with"
        if verbose:
            progress.say(f"predicting {words}")
        return chosen
    part = part or "test"
    _checks.one_of("part", part, splits.PARTS)
    split = splits.load(runs.open_run(run).split) if split is None else split
    ids = getattr(split, part)
    if not ids:
        raise ValueError(f"`part` {part!r} of the split must have cases; it is empty.")
    return splits.select(cases, ids)


def _is_done(model, case, maps, request) -> bool:
    """Whether the case's maps are there; raise if they were made otherwise."""
    summary = serving.read_summary(maps, case.id)
    if summary is None:
        if (maps / case.id).exists():
            raise FileExistsError(
                f"{maps / case.id} is there already but holds no prediction. Choose "
                "another folder, or pass `--overwrite`."
            )
        return False
    wanted = serving.settings(model, case, request)
    if serving.continues(summary, wanted):
        return False
    found = summary.get("settings", {}) if isinstance(summary, dict) else {}
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if names:
        raise FileExistsError(
            f"{maps / case.id} already holds maps made with other settings "
            f"({', '.join(names)} differ). Choose another folder, or pass "
            "`--overwrite`."
        )
    return True


def _predict_all(model, waiting, maps, options, verbose: bool) -> None:
    """Predict case by case; raise at the end if some could not be."""
    numbers = {case.id: i for i, (case, _) in enumerate(waiting, start=1)}

    def title(case) -> str:
        return f"case {numbers[case.id]}/{len(waiting)} {case.id}"

    def bar(case):
        return progress.CountBar(title(case), unit="slice", shown=verbose)

    failed = {}
    cases, requests = [list(each) for each in zip(*waiting, strict=True)] or ([], [])
    for outcome in serving.predict_cases(
        model, cases, requests, maps, progress=bar, **options
    ):
        said = "done"
        if outcome.error is not None:
            failed[outcome.case.id] = outcome.error
            said = str(outcome.error).splitlines()[0]
        if verbose:
            progress.say(f"{title(outcome.case)}: {said}")
    if failed:
        ids = list(failed)
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        raise _checks.DataError(
            f"{len(ids)} of {len(waiting)} cases could not be predicted "
            f"({', '.join(ids[:_SHOWN])}{more}); the others are in {maps}. "
            f"{next(iter(failed.values()))}"
        )
