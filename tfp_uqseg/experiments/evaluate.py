"""Maps on disk against the reference: a row per patient and region, and their means."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfp_uqseg import _checks, _files, plotting
from tfp_uqseg.data import case as case_module
from tfp_uqseg.evaluation import calibration, intervals, qu_brats
from tfp_uqseg.experiments import figures, predicted, referral, scoring, tables


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        records: A dict per patient and region, with the names of `tables.COLUMNS`;
            None where there is no value.
        others: Likewise for every folder of maps that was compared, by its name.
        bins: Reliability of `records` by region; empty without labels.
        summary: Means with intervals, differences and notes, as in `summary.json`.
    """

    records: tuple[dict, ...]
    others: dict[str, tuple[dict, ...]]
    bins: dict[str, calibration.Reliability]
    summary: dict

    def figures(self) -> dict[str, tuple[str, plotting.Figure]]:
        """Figures with their titles, by a name for a file: see `figures.of`."""
        return figures.of(self.records, self.bins, self.summary["referral"])


def evaluate(
    maps: str | os.PathLike,
    cases: Iterable[case_module.Case],
    out: str | os.PathLike | None = None,
    *,
    against: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    regions: Sequence[str] | None = None,
    label_scheme: str | None = None,
    skip_missing: bool = False,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Score the maps of `serving.predict_case` patient by patient.

    Overlap and volumes come from the label map; NLL, Brier score, calibration error
    and mean uncertainties from the voxels where any modality is not zero. A case
    without labels keeps its volumes and uncertainties, its scores stay empty. A
    phantom's known probability is scored where a case has it.

    Where the masks of every draw were kept they are compared with each other, and with
    those of several raters where a case has them.

    Writes ``patients.csv``, ``summary.json``, ``summary.md`` and figures to `out`, each
    whole or not at all, and ``patients_against.csv`` with `against`
    (``patients_against_2.csv`` for a second one, and so on).

    Args:
        maps: The folder that was given to `serving.predict_case`.
        cases: The studies that were predicted.
        out: Folder of the tables; None writes nothing.
        against: Maps of another method for the same cases, or several. Differences are
            `maps` minus each, over the patients that both have a value for; by
            QU-BraTS all of them are ranked.
        regions: Regions to score; None for all that were predicted.
        label_scheme: Meaning of the references' label ids; None for the cases' own.
        skip_missing: Leave out cases that `maps` or `against` has no folder for,
            and name them in the notes, instead of raising an error.
        level: Coverage of the intervals over patients.
        seed: Seed of the bootstrap.
        progress: Called with (cases done, cases in all).

    Returns:
        An `Evaluation`.

    Raises:
        DataError: If a case was not predicted, or a file is missing, damaged or on
            another grid than the study.
        ValueError: If an argument does not fit.
    """
    folders = [predicted.check_folder("maps", maps)]
    others = [against] if isinstance(against, (str, os.PathLike)) else against or ()
    folders += [predicted.check_folder("against", each) for each in others]
    if len(set(folders)) < len(folders):
        raise ValueError(
            f"`against` must name other folders than `maps`; got {others}."
        )
    intervals.check_level(level)
    _check_out(out)
    chosen, left_out = _choose(folders, list(cases), skip_missing)
    records: list[list[dict]] = [[] for _ in folders]
    bins: dict[str, calibration.Reliability] = {}
    for done, case in enumerate(chosen, start=1):
        study = case.load(predicted.modalities(folders[0], case))
        scan = scoring.Scan(case, study, np.any(study.image != 0, axis=-1))
        for rows, folder in zip(records, folders, strict=True):
            prediction = predicted.open_case(folder, case, study.grid)
            own = bins if folder == folders[0] else None
            rows += scoring.records_of(scan, prediction, regions, label_scheme, own)
        if progress is not None:
            progress(done, len(chosen))
    names = [str(folder) for folder in folders[1:]]
    compared = dict(zip(names, map(tuple, records[1:]), strict=True))
    evaluation = Evaluation(
        records=tuple(records[0]),
        others=compared,
        bins=bins,
        summary=_summarise(records[0], compared, folders, left_out, level, seed),
    )
    if out is not None:
        _write(pathlib.Path(out), evaluation)
    return evaluation


def format_table(evaluation: Evaluation) -> str:
    """Tables for a terminal: patients, means, differences, and the notes.

    Args:
        evaluation: What `evaluate` returned.

    Returns:
        Text of several lines.
    """
    notes = "\n".join(evaluation.summary["notes"])
    return "\n\n".join([*_sections(evaluation, tables.plain), notes])


def _choose(folders, cases, skip_missing: bool):
    """Return the cases to score and the ids of those left out."""
    if not cases:
        raise ValueError("`cases` must hold at least one case; it is empty.")
    if not skip_missing:
        return cases, []
    missing = set().union(*(predicted.without_maps(each, cases) for each in folders))
    kept = [case for case in cases if case.id not in missing]
    if not kept:
        where = " and ".join(str(folder) for folder in folders)
        shown = ", ".join(case.id for case in cases[:3])
        raise _checks.DataError(
            f"`maps` must hold predictions of the cases; {where} has none of the "
            f"{len(cases)} ({shown}{', ...' if len(cases) > 3 else ''}). Predict them "
            "first, or pass the folder of the cases that were predicted."
        )
    return kept, [case.id for case in cases if case.id in missing]


def _summarise(records, others, folders, left_out, level, seed) -> dict:
    options = {"level": level, "seed": seed}
    return {
        "maps": str(folders[0]),
        "methods": list(dict.fromkeys(row["method"] for row in records)),
        "cases": len({row["case"] for row in records}),
        "interval": {
            "level": level,
            "over": "patients",
            "method": "percentile bootstrap; Wilson's interval for shares",
            "resamples": intervals.NUM_RESAMPLES,
            "seed": seed,
        },
        "regions": tables.means(records, **options),
        "referral": referral.referral(records, **options),
        "against": {
            name: {
                "methods": list(dict.fromkeys(row["method"] for row in rows)),
                "regions": tables.means(rows, **options),
                "differences": tables.differences(records, rows, **options),
                "referral": referral.referral(rows, **options),
                "referral_differences": referral.differences(records, rows, **options),
            }
            for name, rows in others.items()
        },
        "qu_brats_ranks": _ranks({str(folders[0]): records, **others}),
        "columns": {name: each.meaning for name, each in tables.COLUMNS.items()},
        "notes": _notes(records, others, left_out, level),
    }


def _ranks(by_maps: dict) -> dict[str, float]:
    """Return the mean rank of every set of maps by QU-BraTS; empty for one alone."""
    scores = {
        name: {(row["case"], row["region"]): row["qu_brats"] for row in rows}
        for name, rows in by_maps.items()
    }
    first, *rest = scores.values()
    shared = [
        key
        for key in first
        if all(each.get(key) is not None for each in (first, *rest))
    ]
    if not rest or not shared:
        return {}
    return qu_brats.ranks(
        {name: [each[key] for key in shared] for name, each in scores.items()}
    )


def _notes(records, others, left_out, level: float) -> list[str]:
    notes = []
    unlabelled = [row["case"] for row in records if row["dice"] is None]
    unlabelled = list(dict.fromkeys(unlabelled))
    patients = len({row["case"] for row in records})
    if unlabelled:
        notes.append(
            f"{len(unlabelled)} of {patients} cases have no labels; their scores are "
            f"empty: {_listed(unlabelled)}."
        )
    if left_out:
        notes.append(
            f"{len(left_out)} cases were not predicted and are left out: "
            f"{_listed(left_out)}."
        )
    if patients == 1:
        notes.append("One patient gives no interval.")
    else:
        notes.append(
            f"Brackets: {100 * level:g} % interval of the mean, patients resampled; "
            "with few patients it is too narrow."
        )
    empty = sum(row["both_empty"] or False for row in records)
    if empty:
        notes.append(
            f"Both masks are empty in {empty} of {len(records)} rows; Dice and IoU "
            "are 1 there."
        )
    images = sum(row["images"] or 0 for row in records)
    empty = sum(row["images_both_empty"] or 0 for row in records)
    if empty:
        notes.append(
            f"In {empty} of {images} axial images both masks are empty; they count 1 "
            "in the means over images."
        )
    for name, rows in others.items():
        if not {row["region"] for row in records} & {row["region"] for row in rows}:
            notes.append(f"The maps in {name} have no region in common with these.")
    return notes


def _sections(evaluation: Evaluation, draw) -> list[str]:
    summary = evaluation.summary
    means = {name: each["metrics"] for name, each in summary["regions"].items()}
    sections = [
        draw(tables.patient_rows(evaluation.records)),
        draw(tables.mean_rows(means)),
    ]
    if summary["referral"]:
        sections.append(draw(referral.rows(summary["referral"])))
    for folder, found in summary["against"].items():
        other = found["regions"].items()
        sections += [
            f"Against {folder}:",
            draw(tables.mean_rows({name: each["metrics"] for name, each in other})),
        ]
        if found["differences"]:
            sections += [
                "Paired differences, maps minus these; p of a permutation test:",
                draw(tables.mean_rows(found["differences"], signed=True)),
            ]
        if found["referral_differences"]:
            sections += [
                "Paired differences of referring the least sure patients:",
                draw(referral.rows(found["referral_differences"], signed=True)),
            ]
    if summary["qu_brats_ranks"]:
        rows = [["maps", "mean rank by QU-BraTS"]]
        ranked = sorted(summary["qu_brats_ranks"].items(), key=lambda pair: pair[1])
        rows += [[name, f"{rank:.2f}"] for name, rank in ranked]
        sections.append(draw(rows))
    return sections


def _write(out: pathlib.Path, evaluation: Evaluation) -> None:
    out.mkdir(parents=True, exist_ok=True)
    shown = "\n\n".join(
        f"![{title}]({name}.png)" for name, (title, _) in evaluation.figures().items()
    )
    legend = [
        f"- `{name}`: {column.meaning}." for name, column in tables.COLUMNS.items()
    ]
    text = "\n\n".join(
        [
            f"# Evaluation of {evaluation.summary['maps']}",
            *_sections(evaluation, tables.markdown),
            "\n".join(f"- {note}" for note in evaluation.summary["notes"]),
            *([shown] if shown else []),
            "Columns of `patients.csv`:",
            "\n".join(legend),
        ]
    )
    _files.write_text(out / "patients.csv", tables.as_csv(evaluation.records))
    for number, rows in enumerate(evaluation.others.values(), start=1):
        name = f"patients_against{f'_{number}' if number > 1 else ''}.csv"
        _files.write_text(out / name, tables.as_csv(rows))
    for name, (_, plot) in evaluation.figures().items():
        plotting.save(plot, out / f"{name}.png")
    _files.write_text(out / "summary.md", text + "\n")
    _files.write_json(out / "summary.json", evaluation.summary)


def _check_out(out) -> None:
    if (
        out is not None
        and pathlib.Path(out).exists()
        and not pathlib.Path(out).is_dir()
    ):
        raise ValueError(f"`out` must be a folder; {out} is a file. Choose another.")


def _listed(ids: Sequence[str], most: int = 5) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more
