"""The QU-BraTS score of each method's maps, on patients new to the networks.

Ten patients of BraTS in two folds; each network learns from four of the other fold, and
a temperature is found by the fifth. Beside the score stand those of a map of zeros, of
the same map shuffled, and, at an equal Dice, of the deterministic network's map laid on
the same mask.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

from benchmarks import measuring, out_of_fold
from tfp_uqseg import _files
from tfp_uqseg.data import brats
from tfp_uqseg.evaluation import intervals, qu_brats
from tfp_uqseg.experiments import predicted
from tfp_uqseg.uncertainty import measures

QUESTION = "What does the QU-BraTS score say of each method's maps?"
NAME = "brats_folds"
PAGE = out_of_fold.PAGE.with_name(f"{NAME}.md")
REGIONS = ("WT", "TC", "ET")
LAID = "deterministic, temperature"
#: Column of a row, heading.
COLUMNS = (
    ("dice", "Dice"),
    ("qu_brats", "score"),
    ("qu_brats_dice", "Dice AUC"),
    ("qu_brats_ftp", "FTP AUC"),
    ("qu_brats_ftn", "FTN AUC"),
    ("qu_brats_zero", "map of zeros"),
    ("qu_brats_permuted", "map shuffled"),
    ("laid", "deterministic map on this mask"),
)


def main() -> None:
    """Run what is left of the study, then print and write what it found."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--methods", nargs="+", default=["deterministic", "flipout"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    options.folds, options.validation, options.regions = 2, 1, REGIONS
    records = out_of_fold.predicted(options)
    for name, rows in records.items():
        _lay(options, name, rows)
    result = {
        "name": NAME,
        "question": QUESTION,
        "machine": measuring.machine(),
        "settings": {"epochs": options.epochs, "draws": options.draws},
        **summarise(records),
    }
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGE.write_text(page(result), encoding="utf-8")
    print(page(result))


def summarise(records: dict[str, list[dict]]) -> dict:
    """Return means over patients, and what each map has over the others, paired.

    Args:
        records: By method a row per patient and region, with the names of `COLUMNS`.

    Returns:
        ``methods``: mean and interval by method, region and column; ``gains``: the
        score less that of zeros, shuffled and laid, of the mean over regions.
    """
    methods: dict = {}
    gains: dict = {}
    for name, rows in records.items():
        regions = {
            region: [row for row in rows if row["region"] == region]
            for region in dict.fromkeys(row["region"] for row in rows)
        }
        methods[name] = {
            region: {
                column: intervals.mean_interval(_column(each, column))._asdict()
                for column, _ in COLUMNS
            }
            for region, each in regions.items()
        }
        score = _by_patient(rows, "qu_brats")
        gains[name] = {
            column: intervals.paired_difference(
                score, _by_patient(rows, column)
            )._asdict()
            for column in ("qu_brats_zero", "qu_brats_permuted", "laid")
        }
    patients = len({row["case"] for rows in records.values() for row in rows})
    return {"patients": patients, "methods": methods, "gains": gains}


def _column(rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], float)


def _by_patient(rows, name: str) -> np.ndarray:
    """Return the mean over regions, patient by patient."""
    cases = sorted({row["case"] for row in rows})
    return np.array(
        [np.mean([row[name] for row in rows if row["case"] == case]) for case in cases]
    )


def _lay(options, name: str, rows) -> None:
    """Add what the deterministic network's map scores on the masks of `name`."""
    cases = {case.id: case for case in brats.find_cases(options.data)}
    folders = {
        case: options.work / "maps" / f"{_folder(name)}{fold}"
        for fold in range(options.folds)
        for case in _held_out(options, fold)
    }
    for row in rows:
        case, maps = cases[row["case"]], folders[row["case"]]
        other = maps.with_name(maps.name.replace(_folder(name), _folder(LAID)))
        row["laid"] = _laid_score(case, maps, other, row["region"])


def _folder(name: str) -> str:
    return name.replace(", temperature", "_scaled")


def _held_out(options, fold: int) -> list[str]:
    split = json.loads((options.work / f"fold{fold}.json").read_text("utf-8"))
    return split["test"]


def _laid_score(case, maps, other, region: str) -> float:
    study = case.load()
    ours, theirs = (
        predicted.open_case(each, case, study.grid) for each in (maps, other)
    )
    entropy = theirs.read("predictive_entropy", region)
    mask = study.masks([region])[..., 0]
    brain = (study.image != 0).any(axis=-1)
    uncertainty = measures.scaled_uncertainty(entropy)
    return qu_brats.region_auc(mask, ours.mask(region), uncertainty, brain).score


def page(result: dict) -> str:
    """Return the tables of the study in Markdown."""
    said = ", ".join(f"{k}: {v}" for k, v in result["settings"].items())
    heads = [head for _, head in COLUMNS]
    lines = [
        f"{result['patients']} patients, each by a network that learned from four of "
        f"the other five; {said}; {result['machine']['processor']}.",
        "",
        f"| network | region | {' | '.join(heads)} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for name, regions in result["methods"].items():
        for region, found in regions.items():
            cells = [f"{found[column]['mean']:.3f}" for column, _ in COLUMNS]
            lines.append(f"| {name} | {region} | {' | '.join(cells)} |")
    lines += ["", "Score, mean of the three regions, less that of another map:", ""]
    lines += ["| network | less zeros | less shuffled | less deterministic map |"]
    lines += ["|---|---|---|---|"]
    for name, found in result["gains"].items():
        cells = [out_of_fold.text_of(each, 3, "+") for each in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read() -> dict:
    """Return what the study found when it was last run."""
    return measuring.read(NAME)


if __name__ == "__main__":
    main()
