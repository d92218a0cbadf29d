"""Methods that learn from the same patients for the same minutes.

A network of every method is trained, one after the other, and predicts the patients
held out. What is done is left as it is, so that a study that was stopped goes on; a
training that was stopped begins anew. Nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from benchmarks import measuring, out_of_fold
from tfp_uqseg import _files
from tfp_uqseg.experiments import runs

QUESTION = "What does each method reach in the same time?"
ROOT = pathlib.Path(__file__).parents[1]
#: Below this number every patient has a row, and means have no interval.
FEW = 6


@dataclasses.dataclass(frozen=True)
class Study:
    """Who is learned from and predicted, and what is looked for."""

    split: str
    parts: tuple[str, ...]
    regions: tuple[str, ...]


STUDIES = {
    "lgg": Study("lgg_40_8_12", ("validation", "test"), ("tumour",)),
    "brats": Study("brats2018_8_2", ("test",), ("WT", "TC", "ET")),
}


def main() -> None:
    """Run what is left of the study, then print and write what it found."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument(
        "--also", type=pathlib.Path, help="other studies to predict, unseen as well"
    )
    parser.add_argument(
        "--methods", nargs="+", default=["deterministic", "latent", "flipout"]
    )
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    rows, epochs = {}, {}
    for method in options.methods:
        rows[method] = _run(options, method)
        run = runs.open_run(options.work / method)
        epochs[method] = len(runs.read_history(run))
    result = {
        "name": name_of(options.study),
        "question": QUESTION,
        "machine": measuring.machine(),
        "settings": {"minutes": options.minutes, "draws": options.draws},
        "epochs": epochs,
        **summarise(rows),
    }
    _files.write_json(measuring.RESULTS / f"{name_of(options.study)}.json", result)
    path = page_path(options.study)
    path.parent.mkdir(exist_ok=True)
    path.write_text(page(result), encoding="utf-8")
    print(page(result))


def name_of(study: str) -> str:
    """Return the name of a study's files."""
    return f"same_time_{study}"


def page_path(study: str) -> pathlib.Path:
    """Return where the tables of a study stand."""
    return ROOT / "docs" / "_generated" / f"{name_of(study)}.md"


def summarise(records: Mapping[str, Sequence[Mapping]]) -> dict:
    """Return what every patient got, means, and paired differences.

    Args:
        records: For every method a row per patient and region.

    Returns:
        ``patients``: Dice by patient, region, method; ``methods``: mean and interval
        by method, region, column; ``differences``: of every two methods, by region.
    """
    first = next(iter(records.values()))
    regions = list(dict.fromkeys(row["region"] for row in first))
    patients: dict = {}
    for method, rows in records.items():
        for row in rows:
            of = patients.setdefault(row["case"], {}).setdefault(row["region"], {})
            of[method] = row["dice"]
    methods = {
        method: {region: out_of_fold.means(_of(rows, region)) for region in regions}
        for method, rows in records.items()
    }
    differences = {
        f"{one} - {other}": {
            region: _difference(_of(records[one], region), _of(records[other], region))
            for region in regions
        }
        for other, one in itertools.combinations(records, 2)
    }
    return {"patients": patients, "methods": methods, "differences": differences}


def _of(rows, region: str) -> list:
    return sorted(
        (row for row in rows if row["region"] == region), key=lambda row: row["case"]
    )


def _difference(rows, others) -> dict:
    if [row["case"] for row in rows] != [row["case"] for row in others]:
        raise ValueError("The methods were not scored on the same patients.")
    return out_of_fold.paired(rows, others)


def page(result: Mapping) -> str:
    """Return the tables of a study in Markdown."""
    words = [f"{value:g} {name}" for name, value in result["settings"].items()]
    epochs = ", ".join(f"`{name}` {count}" for name, count in result["epochs"].items())
    lines = [f"{', '.join(words)}; {result['machine']['processor']}."]
    lines += [f"Epochs: {epochs}.", ""]
    table = _by_patient if len(result["patients"]) < FEW else _by_method
    return "\n".join(lines + table(result)) + "\n"


def _by_patient(result) -> list[str]:
    methods = list(result["methods"])
    regions = list(next(iter(result["methods"].values())))
    pairs = list(itertools.product(regions, methods))
    heads = [f"{region}, {method}" for region, method in pairs]
    lines = [f"| patient | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for patient, found in result["patients"].items():
        cells = [f"{found[region][method]:.3f}" for region, method in pairs]
        lines.append(f"| {patient} | {' | '.join(cells)} |")
    means = [result["methods"][m][region]["dice"]["mean"] for region, m in pairs]
    cells = [f"{mean:.3f}" for mean in means]
    return [*lines, f"| mean | {' | '.join(cells)} |"]


def _by_method(result) -> list[str]:
    heads = [head for _, head, _ in out_of_fold.COLUMNS]
    lines = [f"| method | median Dice | {' | '.join(heads)} |"]
    lines += ["|---" * (len(heads) + 2) + "|"]
    for method, regions in result["methods"].items():
        for found in regions.values():
            middle = f"{found['median_dice']:.3f}"
            lines.append(f"| {method} | {middle} | {_cells(found, '')} |")
    lines += ["", "Paired differences over the patients:", ""]
    lines += [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for pair, regions in result["differences"].items():
        lines += [f"| {pair} | {_cells(each, '+')} |" for each in regions.values()]
    return lines


def _cells(found, sign: str) -> str:
    return " | ".join(
        out_of_fold.text_of(found.get(name), places, sign)
        for name, _, places in out_of_fold.COLUMNS
    )


def _run(options, method: str) -> list[dict]:
    """Train, predict and score a method, what is not done yet; return its scores."""
    study, work, data = STUDIES[options.study], options.work, str(options.data)
    run, split = work / method, str(ROOT / "data" / "splits" / f"{study.split}.json")
    if not run.exists():
        # A run has a network from its first epoch on: its name says that it is whole.
        unfinished = work / f"{method}_unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        words = ["--method", method, "--max-minutes", str(options.minutes)]
        words += ["--split", split, "--regions", *study.regions]
        out_of_fold.command("train", data, "--out", str(unfinished), *words)
        unfinished.rename(run)
    rows = []
    for part in study.parts:
        words = ["--split", split, "--part", part]
        rows += _scores(options, method, part, data, words)
    if options.also is not None:
        rows += _scores(options, method, "also", str(options.also), [])
    return rows


def _scores(options, method: str, part: str, data: str, words: list) -> list[dict]:
    maps, scores = (
        options.work / folder / f"{method}_{part}" for folder in ("maps", "scores")
    )
    if not (scores / "patients.csv").exists():
        draws = ["--draws", str(options.draws)]
        run = str(options.work / method)
        out_of_fold.command("predict", run, data, "--out", str(maps), *draws, *words)
        out_of_fold.command("evaluate", str(maps), data, "--out", str(scores), *words)
    return out_of_fold.read_scores(scores)


def read(study: str) -> dict:
    """Return what a study found when it was last run."""
    return measuring.read(name_of(study))


if __name__ == "__main__":
    main()
