"""What each command of ``uqseg`` does, given its parsed options."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Sequence

from tfp_uqseg.data import brats, phantom, preprocess, records, shards, splits
from tfp_uqseg.data import case as case_module
from tfp_uqseg.experiments import calibrate as calibrate_module
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import demo as demo_module
from tfp_uqseg.experiments import evaluate as evaluate_module
from tfp_uqseg.experiments import predict as predict_module
from tfp_uqseg.experiments import progress, reproduce_plan, runs
from tfp_uqseg.experiments import report as report_module
from tfp_uqseg.experiments import reproduce as reproduce_module
from tfp_uqseg.experiments import train as train_module

# Settings that have an option of the same name.
_SETTINGS = [field.name for field in dataclasses.fields(config_module.TrainConfig)]


def train(options: argparse.Namespace) -> None:
    """Run ``uqseg train``."""
    asked = {
        name: getattr(options, name)
        for name in _SETTINGS
        if getattr(options, name, None) is not None
    }
    if "modalities" in asked:
        asked["modalities"] = _canonical(asked["modalities"])
    modalities = asked.get("modalities")
    split = None if options.split is None else splits.load(options.split)
    if options.resume:
        stored = config_module.load(runs.open_run(options.out).config)
        asked = {**stored.to_json(), **asked}
        modalities = stored.modalities
    else:
        runs.create(options.out)
    cases = _find(options, modalities)
    run = train_module.train(
        cases,
        options.out,
        config_module.from_json(
            {**_prepared_with(cases), **asked}, source="the options"
        ),
        split=split,
        resume=options.resume,
    )
    print(f"The network and its history are in {run.folder}. Next:")
    _say_next("predict", options, run.folder, options.data, "--out", "MAPS")


def prepare(options: argparse.Namespace) -> None:
    """Run ``uqseg prepare``."""
    cases = _find(options, options.modalities)
    labelled = [case for case in cases if case.label_path or case.rater_paths]
    if len(labelled) < len(cases):
        without = len(cases) - len(labelled)
        progress.say(f"{without} of {len(cases)} cases have no labels; left out")
    intensity = options.intensity or preprocess.DEFAULT.intensity
    stored = shards.prepare(
        labelled or cases,
        options.out,
        regions=options.regions,
        preprocessing=preprocess.Preprocessing(intensity=intensity),
        workers=options.workers,
        check=options.check,
        progress=progress.CountBar("preparing", unit="case"),
    )
    size = sum(case.shard.num_bytes for case in stored) / 1e9
    print(f"{len(stored)} prepared studies, {size:.1f} GB, are in {options.out}. Next:")
    print(f"  uqseg train {shlex.quote(str(options.out))} --out RUN")


def calibrate(options: argparse.Namespace) -> None:
    """Run ``uqseg calibrate``."""
    settings = config_module.load(runs.open_run(options.run).config)
    cases = predict_module.choose(
        _find(options, settings.modalities, complete=False),
        options.run,
        case_ids=options.cases,
        split=None if options.split is None else splits.load(options.split),
        part=options.part or (None if options.cases else "validation"),
    )
    found = calibrate_module.calibrate(
        options.run,
        cases,
        kind=options.kind,
        num_draws=options.draws,
        seed=options.seed,
        precision=options.precision,
    )
    print(calibrate_module.format_table(found))
    print(f"Predictions with {options.run} use it from now on. Next:")
    _say_next("predict", options, options.run, options.data, "--out", "MAPS")


def predict(options: argparse.Namespace) -> None:
    """Run ``uqseg predict``."""
    settings = config_module.load(runs.open_run(options.run).config)
    found = _find(options, settings.modalities, complete=False)
    cases = predict_module.choose(
        found,
        options.run,
        case_ids=options.cases,
        split=None if options.split is None else splits.load(options.split),
        part=options.part,
    )
    folders = predict_module.predict(
        options.run,
        cases,
        options.out,
        options.draws,
        seed=options.seed,
        label_scheme=options.label_scheme,
        num_latent_draws=options.latent_draws,
        keep_draws=options.keep_draws,
        batch_size=options.batch_size,
        precision=options.precision,
        overwrite=options.overwrite,
        calibrated=options.calibrated,
    )
    print(f"Maps of {len(folders)} cases are in {options.out}.")
    if any(case.label_path is not None for case in cases):
        print("They have labels. Next:")
        _say_next("evaluate", options, options.out, options.data, "--out", "REPORT")
    print("Whom to look at first, on one page:")
    _say_next("report", options, options.out, options.data, "--out", "report.html")


def evaluate(options: argparse.Namespace) -> None:
    """Run ``uqseg evaluate``."""
    cases, asked = _scored_cases(options)
    result = evaluate_module.evaluate(
        options.maps,
        cases,
        options.out,
        against=options.against,
        regions=options.regions,
        label_scheme=options.label_scheme,
        skip_missing=not asked,
        seed=options.seed,
        progress=progress.CountBar("scoring", unit="case"),
    )
    print(evaluate_module.format_table(result))
    print(f"\nThe tables are in {options.out}.")


def report(options: argparse.Namespace) -> None:
    """Run ``uqseg report``."""
    cases, asked = _scored_cases(options)
    shown = None if options.shown is None else _canonical([options.shown])[0]
    page = report_module.report(
        options.maps,
        cases,
        options.out,
        modality=shown,
        regions=options.regions,
        label_scheme=options.label_scheme,
        skip_missing=not asked,
        most_slices=options.slices,
        seed=options.seed,
        progress=progress.CountBar("drawing", unit="case"),
    )
    print(f"Open {page} in a browser; it needs no other file and no network.")


def _scored_cases(
    options: argparse.Namespace,
) -> tuple[Sequence[case_module.Case], bool]:
    """Return the cases to score, and whether they were asked for by name."""
    complete = options.modalities is not None
    cases = _find(options, options.modalities, complete=complete)
    asked = bool(options.cases or options.split or options.part)
    if options.cases is not None:
        cases = splits.select(cases, dict.fromkeys(options.cases))
    elif asked:
        if options.split is None:
            raise ValueError("`--part` needs `--split FILE`; none was given.")
        part = options.part or "test"
        cases = splits.select(cases, getattr(splits.load(options.split), part))
    return cases, asked


def phantom_cohort(options: argparse.Namespace) -> None:
    """Run ``uqseg phantom``."""
    cohort = phantom.make_cohort(
        options.out,
        num_cases=options.patients,
        num_test_cases=options.test_patients,
        shape=tuple(options.shape),
        seed=options.seed,
        num_raters=options.raters,
        difficulty=options.difficulty,
        shifts=tuple(options.shifts),
        overwrite=options.overwrite,
        progress=progress.CountBar("painting", unit="case"),
    )
    for part, folder in cohort.folders.items():
        print(f"{len(cohort.cases[part]):4d} cases in {folder}")
    raters = " --raters random" if options.raters else ""
    print("Next:")
    print(f"  uqseg train {cohort.folders['train']} --out RUN{raters}")


def demo(options: argparse.Namespace) -> None:
    """Run ``uqseg demo``."""
    print(
        demo_module.demo(
            options.out,
            method=options.method,
            backbone=options.backbone,
            max_minutes=options.max_minutes,
            num_draws=options.draws,
            seed=options.seed,
        )
    )


def reproduce(options: argparse.Namespace) -> None:
    """Run ``uqseg reproduce``."""
    cases = None
    if options.data is not None:
        cases = _find(options, options.modalities)
    page = reproduce_module.reproduce(
        cases,
        options.out,
        budget=reproduce_plan.get_budget(options.scale),
        shifted_group=options.shifted_group,
        regions=options.regions,
        source=f"the studies of {options.data}",
        seed=options.seed,
    )
    print(f"Read {page}, or open {page.with_suffix('.html')} in a browser.")


#: By the name on the command line.
COMMANDS = {
    "train": train,
    "prepare": prepare,
    "calibrate": calibrate,
    "predict": predict,
    "evaluate": evaluate,
    "report": report,
    "phantom": phantom_cohort,
    "demo": demo,
    "reproduce": reproduce,
}


def _find(
    options: argparse.Namespace,
    modalities: Sequence[str] | None,
    *,
    complete: bool = True,
) -> Sequence[case_module.Case]:
    if shards.is_shards(options.data):
        return _find_prepared(options)
    return brats.find_cases(
        options.data,
        modalities=modalities,
        pattern=options.pattern,
        label_pattern=options.label_pattern,
        label_scheme=options.label_scheme,
        complete=complete,
    )


def _find_prepared(options: argparse.Namespace) -> list[records.StoredCase]:
    for name in ("pattern", "label_pattern"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"`{name}` is for a folder of studies; {options.data} holds prepared "
                "ones. Leave it out."
            )
    return shards.open_shards(options.data, label_scheme=options.label_scheme)


def _prepared_with(cases: Sequence[case_module.Case]) -> dict:
    """Return the settings that prepared studies were made with."""
    stored = [case for case in cases if isinstance(case, records.StoredCase)]
    if not stored:
        return {}
    made = stored[0].preprocessing
    return {"intensity": made.intensity, "clip": made.clip}


def _say_next(command: str, options: argparse.Namespace, *words: object) -> None:
    """Print a command that goes on with the same folder of studies."""
    for name in ("pattern", "label_pattern"):
        if getattr(options, name) is not None:
            words = (*words, f"--{name.replace('_', '-')}", getattr(options, name))
    print(f"  uqseg {command} {shlex.join(str(word) for word in words)}")


def _canonical(names: Sequence[str]) -> list[str]:
    return [case_module.canonical_modality(name) for name in names]
