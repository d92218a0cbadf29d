"""``uqseg reproduce``: the paper's tables, figures and claims, on one page."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import pathlib
from collections.abc import Sequence

import tf_keras

from tfp_uqseg import _checks, _files, models
from tfp_uqseg.data import brats
from tfp_uqseg.data import case as case_module
from tfp_uqseg.experiments import (
    progress,
    reproduce_data,
    reproduce_figures,
    reproduce_page,
    reproduce_plan,
    reproduce_results,
    reproduce_sections,
    reproduce_tables,
    reproduce_unit,
)

#: What tells whether a folder holds the same reproduction.
PLAN_FILE = "plan.json"


def reproduce(
    cases: Sequence[case_module.Case] | None = None,
    out: str | os.PathLike = "reproduction",
    *,
    budget: reproduce_plan.Budget = reproduce_plan.SMALL,
    shifted_group: str | None = None,
    regions: Sequence[str] | None = None,
    source: str = "the folder given",
    seed: int = 0,
    verbose: bool = True,
) -> pathlib.Path:
    """Train, predict and score what the paper's tables need, and write its page.

    Every network is one unit of work that ends in one small file, ``records/*.json``.
    A call that was stopped goes on with the units that have none when it is repeated;
    to redo a unit, delete its record.

    `out` gets ``index.md`` and ``index.html`` (self-contained), ``tables/*.csv`` and
    ``*.md``, ``figures/*.png`` and ``*.svg``, ``records/`` and ``plan.json`` (who is in
    which set).

    Args:
        cases: Labelled studies; None makes a phantom in `out`, with a shifted set.
        out: New folder, or that of an earlier call with the same arguments.
        budget: What it may cost, `reproduce_plan.SMALL` or `PAPER`.
        shifted_group: Institution that is held out as the shifted set, by
            `data.splits.group_of`; None for none.
        regions: Regions to learn, the scored one first; None for those of the labels.
        source: What to call the data on the page.
        seed: Of the sets and the phantom; seeds of networks are in the budget.
        verbose: Whether to report on standard error.

    Returns:
        The path of ``index.md``.

    Raises:
        DataError: If a study cannot be used.
        FileExistsError: If `out` holds something else.
        ValueError: If there are too few patients, or an argument does not fit.
    """
    out = pathlib.Path(out)
    _check_out(out)
    if cases is None:
        _check_phantom(budget, shifted_group)
    units = plan(budget)
    if verbose:
        progress.say(reproduce_sections.budget_text(units, budget))
    study = _study(cases, out, budget, shifted_group, regions, source, seed, verbose)
    _keep_plan(out, study, budget, seed)
    place = reproduce_unit.Place(out / "records")
    place.folder.mkdir(exist_ok=True)
    records = {}
    for number, unit in enumerate(units, start=1):
        done = read(unit, budget, place)
        if done is None:
            done = _work(unit, study, budget, place, f"{number}/{len(units)}", verbose)
        records[unit] = done
    return _write(out, study, budget, units, records, place, seed)


def plan(budget: reproduce_plan.Budget) -> list[reproduce_plan.Unit]:
    """Return the units of a budget that this version can build, in order."""
    return reproduce_plan.units(
        budget,
        methods=(*models.METHODS, *models.ENSEMBLES),
        backbones=models.BACKBONES,
    )


def read(
    unit: reproduce_plan.Unit,
    budget: reproduce_plan.Budget,
    place: reproduce_unit.Place,
) -> dict | None:
    """Return the record of a unit, or None if it is to be made.

    Raises:
        ValueError: If the file is no record.
    """
    path = place.record(unit)
    files = [path]
    if unit.method == reproduce_plan.SOURCE and not place.kernel_prior.is_file():
        files.append(place.network(unit))
    if reproduce_plan.compares_methods(unit, budget):
        files.append(place.panels(unit))
    if not all(file.is_file() for file in files):
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["unit"] != dataclasses.asdict(unit):
            raise ValueError(f"it is of {record['unit']}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must hold the record of {unit.key}; it cannot be used ({error}). "
            "Delete it to make it again."
        ) from error
    return record


def _work(unit, study, budget, place, number: str, verbose: bool) -> dict:
    """Make the record of a unit and report on it."""
    _clear_memory()
    logger = logging.getLogger("tensorflow")
    level = logger.level
    # TensorFlow warns of one network after another that it traces too often.
    logger.setLevel(logging.ERROR)
    try:
        record = reproduce_unit.run(unit, study, budget, place)
    finally:
        logger.setLevel(level)
    if verbose:
        rows = [
            row["dice"]
            for row in record["patients"]
            if row["part"] == "test" and row["region"] == study.region
        ]
        score = f", Dice {sum(rows) / len(rows):.3f}" if rows else ""
        seconds = record["training"]["seconds"]
        progress.say(f"unit {number} {unit.key}: {seconds:.0f} s of training{score}")
    return record


def _clear_memory() -> None:
    """Forget the graphs of earlier networks, which would pile up."""
    tf_keras.backend.clear_session()
    gc.collect()


def _study(cases, out, budget, shifted_group, regions, source, seed, verbose):
    """Return the patients, those of a phantom if there are no cases."""
    if cases is None:
        bar = progress.CountBar("painting a phantom", unit="case", shown=verbose)
        cohort = reproduce_data.make_phantom(
            out / "phantom", budget, seed=seed, progress=bar
        )
        folders = cohort.folders.values()
        cases = [case for folder in folders for case in brats.find_cases(folder)]
        sets = reproduce_data.phantom_sets(cohort, budget, seed=seed)
        source, shifted = "a phantom", f"`{reproduce_data.PHANTOM_SHIFT}`"
    else:
        labelled = [case for case in cases if case.label_path is not None]
        sets = reproduce_data.divide(
            [case.id for case in labelled],
            budget,
            seed=seed,
            shifted_group=shifted_group,
        )
        cases = labelled
        shifted = "" if shifted_group is None else f"institution {shifted_group}"
    return reproduce_data.load(
        cases,
        sets,
        budget,
        source=source,
        shifted=shifted,
        regions=regions,
        progress=progress.CountBar("reading", unit="case", shown=verbose),
    )


def _check_out(out: pathlib.Path) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} must be a folder; it is a file.")
    kept = {"phantom"}
    others = out.is_dir() and {path.name for path in out.iterdir()} - kept
    if others and not (out / PLAN_FILE).is_file():
        raise FileExistsError(
            f"{out} must be new, or hold an earlier reproduction; it holds other "
            "files. Choose another folder."
        )
    out.mkdir(parents=True, exist_ok=True)


def _check_phantom(budget, shifted_group) -> None:
    if budget.name == reproduce_plan.PAPER.name:
        raise ValueError(
            "`cases` must be given for the scale 'paper', which is made for BraTS; "
            "there are none. Name the folder of studies, or take the scale 'small'."
        )
    if shifted_group is not None:
        raise ValueError(
            f"`shifted_group` needs studies with institutions; got {shifted_group!r} "
            "and a phantom, which has a shifted set of its own. Leave it out."
        )


def _keep_plan(out: pathlib.Path, study, budget, seed: int) -> None:
    """Write what identifies the reproduction, or check that it is the same."""
    data = {
        "seed": seed,
        "regions": list(study.regions),
        "modalities": list(study.modalities),
        "sets": {k: list(v) for k, v in dataclasses.asdict(study.sets).items()},
    }
    found = reproduce_plan.fingerprint(budget, data)
    path = out / PLAN_FILE
    if path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8")).get("fingerprint")
        except (ValueError, AttributeError) as error:
            raise _checks.DataError(f"{path} must hold JSON: {error}.") from error
        if kept != found:
            raise FileExistsError(
                f"{out} holds a reproduction of another scale, seed or set of patients "
                f"(see {path}). Choose another folder."
            )
        return
    values = {"fingerprint": found, "budget": dataclasses.asdict(budget), **data}
    _files.write_json(path, values)


def _write(out, study, budget, units, records, place, seed: int) -> pathlib.Path:
    """Write tables, figures and page."""
    results = reproduce_results.Results(records, budget, study.region, seed)
    curves = reproduce_tables.retention_of(results, reproduce_figures.RETENTION_METHODS)
    figures = reproduce_figures.draw(out / "figures", study, results, place, curves)
    return reproduce_page.write(
        out,
        reproduce_sections.TITLE,
        reproduce_sections.lead(study, results, units),
        reproduce_sections.sections(study, results, curves, figures),
    )
