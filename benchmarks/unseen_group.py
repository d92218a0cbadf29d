"""An institution that no network has seen: does the uncertainty of its patients tell?

Networks learn from the patients of the other institutions but some, who are predicted
beside those of the one left out. What is done is left as it is, so that a study that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import pathlib

from benchmarks import measuring, out_of_fold, phantom_truth
from tfp_uqseg import _files
from tfp_uqseg.data import splits
from tfp_uqseg.evaluation import intervals
from tfp_uqseg.experiments import runs

QUESTION = "Are patients of an unseen institution less sure than others?"
NAME = "unseen_group"
PAGE = out_of_fold.PAGE.with_name(f"{NAME}.md")
#: A case's uncertainty: column of `patients.csv`, heading.
MEASURES = (
    ("predictive_entropy", "total of the brain"),
    ("mutual_information", "epistemic of the brain"),
    ("region_entropy", "total of the predicted region"),
    ("patch_entropy", "total of the least sure patch"),
    ("volume_variation", "variation of the volume"),
)


def main() -> None:
    """Run what is left of the study, then print and write what it found."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--group", default="HT", help="the institution left out")
    parser.add_argument("--held-out", type=int, default=14, help="patients of others")
    parser.add_argument("--methods", nargs="+", default=["deterministic", "flipout"])
    parser.add_argument("--regions", nargs=1, default=["tumour"])
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    ids = sorted(each.name for each in options.data.iterdir() if each.is_dir())
    train, seen, unseen = parts(ids, options.group, options.held_out)
    split = splits.Split(train, test=[*seen, *unseen])
    split.save(options.work / "split.json")
    methods = {}
    for name in options.methods:
        rows = _run(options, name)
        groups = [
            [row for row in rows if row["case"] in chosen] for chosen in (seen, unseen)
        ]
        methods[name] = described(*groups)
    result = {
        "name": NAME,
        "question": QUESTION,
        "machine": measuring.machine(),
        "settings": {"epochs": options.epochs, "draws": options.draws},
        "group": options.group,
        "patients": {"train": len(train), "seen": len(seen), "unseen": len(unseen)},
        "methods": methods,
    }
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGE.write_text(page(result), encoding="utf-8")
    print(page(result))


def parts(ids, group: str, held_out: int) -> tuple[list[str], list[str], list[str]]:
    """Return who is learned from, others of their institutions, those of the group.

    The others are spread over the institutions.

    Raises:
        ValueError: If no patient is of the group.
    """
    rest, unseen = splits.hold_out(ids, group)
    seen = out_of_fold.deal(rest, max(2, round(len(rest) / held_out)))[0]
    return [each for each in rest if each not in seen], seen, unseen


def described(seen: list[dict], unseen: list[dict]) -> dict:
    """Return Dice of both groups, the difference, and the AUROC of every measure.

    Args:
        seen: Rows of the patients of institutions that were learned from.
        unseen: Rows of the patients of the one left out.
    """
    dice = [out_of_fold.column(rows, "dice") for rows in (unseen, seen)]
    found = {
        "seen": intervals.mean_interval(dice[1])._asdict(),
        "unseen": intervals.mean_interval(dice[0])._asdict(),
        "difference": intervals.unpaired_difference(*dice)._asdict(),
    }
    alarms = {}
    for name, _ in MEASURES:
        pair = [out_of_fold.column(rows, name) for rows in (unseen, seen)]
        if all(values.size for values in pair):
            alarms[name] = phantom_truth.auroc(*pair)
    return {"dice": found, "auroc": alarms}


def _run(options, method: str) -> list[dict]:
    """Return the scores of a method, after what is not done yet."""
    work, data = options.work, str(options.data)
    run, split = work / method, ["--split", str(work / "split.json")]
    maps, scores = (work / folder / method for folder in ("maps", "scores"))
    command = out_of_fold.command
    if not (run / "config.json").exists():
        words = ["--method", method, "--epochs", str(options.epochs)]
        words += [*split, "--regions", *options.regions]
        command("train", data, "--out", str(run), *words)
    elif len(runs.read_history(runs.open_run(run))) < options.epochs:
        command("train", data, "--out", str(run), "--resume")
    if not (scores / "patients.csv").exists():
        draws = ["--draws", str(options.draws)]
        command("predict", str(run), data, "--out", str(maps), *draws, *split)
        command("evaluate", str(maps), data, "--out", str(scores), *split)
    return out_of_fold.read_scores(scores)


def page(result: dict) -> str:
    """Return the table of the study in Markdown."""
    said = ", ".join(f"{k}: {v}" for k, v in result["settings"].items())
    count, group = result["patients"], result["group"]
    methods = result["methods"]
    lines = [
        f"{count['train']} patients to learn from, {count['seen']} others of their "
        f"institutions, {count['unseen']} of {group}; {said}; "
        f"{result['machine']['processor']}.",
        "",
        f"| | {' | '.join(methods)} |",
        "|---" * (len(methods) + 1) + "|",
    ]
    heads = {
        "seen": "Dice, seen institutions",
        "unseen": f"Dice, {group}",
        "difference": f"Dice, {group} less seen",
    }
    for name, head in heads.items():
        sign = "+" if name == "difference" else ""
        cells = [
            out_of_fold.text_of(found["dice"][name], 3, sign)
            for found in methods.values()
        ]
        lines.append(f"| {head} | {' | '.join(cells)} |")
    for name, head in MEASURES:
        cells = [
            out_of_fold.text_of(found["auroc"].get(name), 2, "")
            for found in methods.values()
        ]
        lines.append(f"| AUROC, {head} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read() -> dict:
    """Return what the study found when it was last run."""
    return measuring.read(NAME)


if __name__ == "__main__":
    main()
