"""Every patient predicted by a network that has not seen them: methods compared.

The cohort is dealt into folds, institution by institution. For each fold a network of
every method learns from the other patients but a few, by whom its temperature is found;
the patients of the fold are predicted with and without it. Folds that are done are left
as they are, so that a study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import random
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np

from benchmarks import measuring
from tfp_uqseg import _files
from tfp_uqseg.data import splits
from tfp_uqseg.evaluation import intervals, risk
from tfp_uqseg.experiments import runs

QUESTION = "What does each method reach on patients that its network has not seen?"
NAME = "out_of_fold"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "_generated" / f"{NAME}.md"
BASE = "deterministic, temperature"
#: Means over patients: column of `patients.csv`, heading, digits.
COLUMNS = (
    ("dice", "Dice", 3),
    ("image_dice", "image Dice", 3),
    ("nll", "NLL", 4),
    ("ece", "ECE", 4),
    ("volume_covered", "volume in interval", 2),
)
#: Of all patients together: name, heading.
ORDERS = (("e_aurc", "E-AURC"), ("referral_gain", "Dice gained by referring 20 %"))
SURE_BY = "region_entropy"
_RESAMPLES = 4999


def main() -> None:
    """Run what is left of the study, then print and write what it found."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--methods", nargs="+", default=["deterministic", "flipout"])
    parser.add_argument("--regions", nargs=1, default=["tumour"])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--validation", type=int, default=6)
    options = parser.parse_args()
    records = predicted(options)
    result = summarise(records, base=BASE)
    result.update(
        name=NAME,
        question=QUESTION,
        machine=measuring.machine(),
        settings={
            "folds": options.folds,
            "epochs": options.epochs,
            "draws": options.draws,
            "least sure by": SURE_BY,
        },
    )
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(result), encoding="utf-8")
    print(page(result))


def predicted(options: argparse.Namespace) -> dict[str, list[dict]]:
    """Do what is left of the study; return a row per patient and region by method.

    Args:
        options: ``data``, ``work``, ``methods``, ``regions``, ``folds``, ``epochs``,
            ``draws``, and by how many patients a temperature is found, ``validation``.
    """
    options.work.mkdir(parents=True, exist_ok=True)
    for fold in range(options.folds):
        _write_fold(options, fold)
        for method in options.methods:
            _run(options, fold, method)
    return {
        name: [
            row
            for fold in range(options.folds)
            for row in read_scores(options.work / "scores" / f"{folder}{fold}")
        ]
        for method in options.methods
        for name, folder in (
            (method, method),
            (f"{method}, temperature", f"{method}_scaled"),
        )
    }


def deal(ids: Sequence[str], folds: int, seed: int = 0) -> list[list[str]]:
    """Return `folds` lists of ids; each institution is spread over all of them."""
    groups: dict = {}
    for each in sorted(ids):
        groups.setdefault(splits.group_of(each) or "", []).append(each)
    dealt, place, rng = [[] for _ in range(folds)], 0, random.Random(seed)
    for name in sorted(groups):
        rng.shuffle(groups[name])
        for each in groups[name]:
            dealt[place % folds].append(each)
            place += 1
    return [sorted(fold) for fold in dealt]


def summarise(records: dict[str, list[dict]], *, base: str) -> dict:
    """Return means, orders and paired differences from `base`, with intervals.

    Args:
        records: For every method a row per patient, of the same patients in one order.
        base: The method that the others are compared with.
    """
    methods = {name: _described(rows) for name, rows in records.items()}
    differences = {
        name: _differences(rows, records[base])
        for name, rows in records.items()
        if name != base
    }
    count = len(records[base])
    return {"patients": count, "base": base, "methods": methods, "minus": differences}


def means(rows) -> dict:
    """Return mean and interval of every column that the rows have, and median Dice."""
    found = {
        name: intervals.mean_interval(column(rows, name))._asdict()
        for name, _, _ in COLUMNS
        if column(rows, name).size
    }
    found["median_dice"] = float(np.median(column(rows, "dice")))
    return found


def paired(rows, others) -> dict:
    """Return the mean difference of every column, rows less others, with interval."""
    return {
        name: intervals.paired_difference(
            column(rows, name), column(others, name)
        )._asdict()
        for name, _, _ in COLUMNS
        if column(rows, name).size == column(others, name).size > 0
    }


def _described(rows) -> dict:
    found = means(rows)
    middle, drawn = _orders(rows), _resampled(rows, [])
    for name, _ in ORDERS:
        low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
        found[name] = {"mean": middle[name], "low": float(low), "high": float(high)}
    return found


def _differences(rows, others) -> dict:
    found = paired(rows, others)
    one, other = _orders(rows), _orders(others)
    pairs = _resampled(rows, others)
    for name, _ in ORDERS:
        low, high = np.quantile([each[name] for each in pairs], [0.025, 0.975])
        middle = one[name] - other[name]
        found[name] = {"mean": middle, "low": float(low), "high": float(high)}
    return found


def column(rows, name: str) -> np.ndarray:
    """Return the values of a column, without the rows that have none."""
    return np.array([row[name] for row in rows if row[name] is not None], float)


def _orders(rows) -> dict[str, float]:
    uncertainty, dice = column(rows, SURE_BY), column(rows, "dice")
    return {
        "e_aurc": risk.risk(uncertainty, dice).e_aurc,
        "referral_gain": risk.referral_gain(uncertainty, dice, 0.2),
    }


def _resampled(rows, others) -> list[dict[str, float]]:
    """Return the orders of patients drawn anew, less those of `others` if given."""
    rng, found = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(len(rows), size=len(rows))
        values = _orders([rows[i] for i in chosen])
        if others:
            less = _orders([others[i] for i in chosen])
            values = {name: value - less[name] for name, value in values.items()}
        found.append(values)
    return found


def page(result: dict) -> str:
    """Return the tables of a study in Markdown."""
    digits = {name: places for name, _, places in COLUMNS}
    names = [name for name, _, _ in COLUMNS] + [name for name, _ in ORDERS]
    heads = [head for _, head, _ in COLUMNS] + [head for _, head in ORDERS]

    def cells(found: dict, sign: str) -> str:
        return " | ".join(
            text_of(found.get(name), digits.get(name, 3), sign) for name in names
        )

    said = ", ".join(f"{k}: {v}" for k, v in result["settings"].items())
    lines = [
        f"{result['patients']} patients; {said}; {result['machine']['processor']}."
    ]
    lines += ["", f"| method | median Dice | {' | '.join(heads)} |"]
    lines += ["|---" * (len(heads) + 2) + "|"]
    for name, found in result["methods"].items():
        middle = f"{found['median_dice']:.3f}"
        lines.append(f"| {name} | {middle} | {cells(found, '')} |")
    lines += ["", f"Paired differences, each minus `{result['base']}`:", ""]
    lines += [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, found in result["minus"].items():
        lines.append(f"| {name} | {cells(found, '+')} |")
    return "\n".join(lines) + "\n"


def text_of(found: dict | None, places: int, sign: str) -> str:
    """Return mean and interval as text."""
    if found is None:
        return ""
    middle, *ends = (f"{found[k]:{sign}.{places}f}" for k in ("mean", "low", "high"))
    return f"{middle} [{', '.join(ends)}]"


def _write_fold(options, fold: int) -> None:
    path = options.work / f"fold{fold}.json"
    if path.exists():
        return
    ids = sorted(each.name for each in options.data.iterdir() if each.is_dir())
    test = deal(ids, options.folds)[fold]
    rest = [each for each in ids if each not in test]
    random.Random(fold).shuffle(rest)
    validation = options.validation
    parts = {"train": rest[validation:], "validation": rest[:validation], "test": test}
    _files.write_json(path, {name: sorted(part) for name, part in parts.items()})


def _run(options, fold: int, method: str) -> None:
    """Train, predict, calibrate and score a method on a fold, what is not done yet."""
    work, data = options.work, str(options.data)
    run, split = work / f"{method}{fold}", str(work / f"fold{fold}.json")
    started = (run / "config.json").exists()
    if not started:
        words = ["--method", method, "--epochs", str(options.epochs)]
        words += ["--seed", str(fold), "--split", split, "--regions", *options.regions]
        command("train", data, "--out", str(run), *words)
    elif len(runs.read_history(runs.open_run(run))) < options.epochs:
        command("train", data, "--out", str(run), "--resume")
    draws = ["--draws", str(options.draws)]
    if not (run / "calibration.json").exists():
        command("calibrate", str(run), data, *draws)
    for folder, words in ((method, ["--uncalibrated"]), (f"{method}_scaled", [])):
        maps, scores = (
            work / "maps" / f"{folder}{fold}",
            work / "scores" / f"{folder}{fold}",
        )
        if not (scores / "patients.csv").exists():
            words = [*words, "--split", split]
            command("predict", str(run), data, "--out", str(maps), *draws, *words)
            command("evaluate", str(maps), data, "--out", str(scores), "--split", split)


def command(*words: str) -> None:
    """Run a command of `uqseg`."""
    subprocess.run([shutil.which("uqseg") or "uqseg", *words], check=True)


def read_scores(folder: pathlib.Path) -> list[dict]:
    """Return the rows of a `patients.csv`, numbers where there are some."""
    with open(folder / "patients.csv", newline="", encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _number(text: str):
    truths = {"": None, "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}
    if text in truths:
        return truths[text]
    try:
        return float(text)
    except ValueError:
        return text


def read() -> dict:
    """Return what the study found when it was last run."""
    return measuring.read(NAME)


if __name__ == "__main__":
    main()
