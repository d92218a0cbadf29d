"""Maps against a truth that is known: objectives, shifts and numbers of patients.

Networks learn from a synthetic cohort, one rater drawn anew for every slice. Their maps
of new patients are compared with the true probability that a rater marks a voxel; maps
of shifted patients with those of plain ones. What is done is left as it is, so that a
study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

from benchmarks import measuring, out_of_fold
from tfp_uqseg import _files
from tfp_uqseg.evaluation import discrimination, intervals
from tfp_uqseg.experiments import runs

QUESTION = "Are the maps true, where the truth is known?"
NAME = "phantom_truth"
PAGE = out_of_fold.PAGE.with_name(f"{NAME}.md")
SHIFTS = ("missing_modality", "bias_field", "unseen_contrast", "motion")
MOST = 32
_EXACT = ("--loss", "cross_entropy")
#: Name of the row: method, training patients, what else `uqseg train` is told.
NETWORKS = {
    "flipout, exact ELBO": ("flipout", MOST, _EXACT),
    **{
        f"flipout, {weight} x KL": (
            "flipout",
            MOST,
            (*_EXACT, "--kl-weight", str(weight)),
        )
        for weight in (10, 100)
    },
    "flipout, Eq. 18": ("flipout", MOST, ()),
    "latent, exact ELBO": (
        "latent",
        MOST,
        (*_EXACT, "--beta", "1", "--map-share", "0"),
    ),
    "latent, Eq. 18": ("latent", MOST, ()),
    "deterministic, cross-entropy": ("deterministic", MOST, _EXACT),
    "deterministic, Eq. 18": ("deterministic", MOST, ()),
    **{
        f"flipout, exact ELBO, {count} patients": ("flipout", count, _EXACT)
        for count in (16, 8, 4)
    },
}
#: Column of `patients.csv`, heading, digits.
COLUMNS = (
    ("dice", "Dice", 2),
    ("truth_absolute_error", "error of p", 3),
    ("spearman_expected_entropy", "rank corr. of aleatoric", 2),
    ("spearman_total_variance", "rank corr. of p(1-p)", 2),
    ("expected_entropy", "aleatoric, nats", 4),
    ("mutual_information", "epistemic, nats", 5),
    ("volume_covered", "volume in interval", 2),
)
#: Mean mutual information, nats, that is no more than rounding.
_ROUNDING = 1e-6


def main() -> None:
    """Run what is left of the study, then print and write what it found."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--epochs", type=int, default=24, help="with 32 patients")
    parser.add_argument("--test-patients", type=int, default=12)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(NETWORKS),
        metavar="ROW",
        help="rows to make; others of the same settings stay as they were kept",
    )
    options = parser.parse_args()
    cohort = options.work / "phantom"
    if not cohort.exists():
        words = ["--patients", str(MOST), "--test-patients", str(options.test_patients)]
        words += ["--shape", "96", "96", "16", "--seed", "7"]
        out_of_fold.command("phantom", str(cohort), *words)
    settings = {
        "training patients": MOST,
        "epochs": f"{options.epochs} (of fewer patients as many steps)",
        "test patients of each set": options.test_patients,
        "draws": options.draws,
        "shape": "96 x 96 x 16",
    }
    rows = _earlier(settings) if options.only else {}
    for name in options.only or NETWORKS:
        rows[name] = described(_run(options, cohort, name))
    result = {
        "name": NAME,
        "question": QUESTION,
        "machine": measuring.machine(),
        "settings": settings,
        "networks": {name: rows[name] for name in NETWORKS if name in rows},
    }
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(result), encoding="utf-8")
    print(page(result))


def described(records: dict[str, list[dict]]) -> dict:
    """Return what one network's maps are worth.

    Args:
        records: Rows of the plain test patients, ``"test"``, and of every shift.

    Returns:
        ``plain``: mean and interval by column; ``shifts``: for each the difference of
        Dice from plain patients, the mean epistemic map, its difference from that of
        plain patients, and the AUROC of it.
    """
    plain = records["test"]
    found = {}
    for name, _, _ in COLUMNS:
        values = out_of_fold.column(plain, name)
        if values.size and name == "volume_covered":
            found[name] = intervals.proportion_interval(values > 0.5)._asdict()
        elif values.size:
            found[name] = intervals.mean_interval(values)._asdict()
    shifts = {shift: _shifted(records[shift], plain) for shift in records}
    del shifts["test"]
    return {"plain": found, "shifts": shifts}


def _shifted(rows, plain) -> dict:
    dice, epistemic = (
        (out_of_fold.column(rows, name), out_of_fold.column(plain, name))
        for name in ("dice", "mutual_information")
    )
    return {
        "dice": intervals.unpaired_difference(*dice)._asdict(),
        "epistemic": intervals.mean_interval(epistemic[0])._asdict(),
        "rise": intervals.unpaired_difference(*epistemic)._asdict(),
        "auroc": auroc(*epistemic),
    }


def auroc(shifted: np.ndarray, plain: np.ndarray) -> dict | None:
    """Return `discrimination.shift_auroc`; None where no case has any uncertainty."""
    if max(shifted.max(), plain.max()) < _ROUNDING:
        return None
    return discrimination.shift_auroc(shifted, plain)._asdict()


def _place(options, name: str) -> pathlib.Path:
    return options.work / name.replace(" ", "_").replace(",", "").replace(".", "")


def _earlier(settings: dict) -> dict:
    """Return the rows that an earlier call with these settings kept on a like machine.

    Not those of another processor, whose rounding trains another network.
    """
    if not (measuring.RESULTS / f"{NAME}.json").exists():
        return {}
    kept, own = read(), measuring.machine()
    alike = kept["machine"]["processor"] == own["processor"]
    return kept["networks"] if alike and kept["settings"] == settings else {}


def _run(options, cohort: pathlib.Path, name: str) -> dict[str, list[dict]]:
    """Return the scores of a network by set, after what is not done yet."""
    method, count, words = NETWORKS[name]
    place = _place(options, name)
    run, split = place / "run", options.work / f"first_{count}.json"
    if not split.exists():
        ids = sorted(
            each.name for each in (cohort / "train").iterdir() if each.is_dir()
        )
        _files.write_json(split, {"train": ids[:count]})
    epochs = options.epochs * MOST // count
    if not (run / "config.json").exists():
        words = ["--method", method, "--epochs", str(epochs), "--regions", "WT", *words]
        words += ["--raters", "random", "--split", str(split), "--out", str(run)]
        out_of_fold.command("train", str(cohort / "train"), *words)
    elif len(runs.read_history(runs.open_run(run))) < epochs:
        out_of_fold.command(
            "train", str(cohort / "train"), "--out", str(run), "--resume"
        )
    found = {}
    for part in ("test", *SHIFTS):
        scores, maps = place / "scores" / part, str(place / "maps" / part)
        data = str(cohort / part)
        if not (scores / "patients.csv").exists():
            words = ["--out", maps, "--draws", str(options.draws)]
            out_of_fold.command("predict", str(run), data, *words)
            out_of_fold.command("evaluate", maps, data, "--out", str(scores))
        found[part] = out_of_fold.read_scores(scores)
    return found


def page(result: dict) -> str:
    """Return the tables of the study in Markdown."""
    said = "; ".join(f"{k}: {v}" for k, v in result["settings"].items())
    heads = [head for _, head, _ in COLUMNS]
    lines = [f"{said[0].upper()}{said[1:]}; {result['machine']['processor']}.", ""]
    lines += [f"| network | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, network in result["networks"].items():
        cells = [
            out_of_fold.text_of(network["plain"].get(column), digits, "")
            for column, _, digits in COLUMNS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Shifted patients: Dice less that of plain patients, and AUROC:", ""]
    titles = [shift.replace("_", " ") for shift in SHIFTS]
    lines += [f"| network | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name, network in result["networks"].items():
        cells = []
        for shift in SHIFTS:
            found = network["shifts"][shift]
            cost = out_of_fold.text_of(found["dice"], 2, "+")
            alarm = out_of_fold.text_of(found["auroc"], 2, "") or "-"
            pair = (each.replace(" ", "\N{NO-BREAK SPACE}") for each in (cost, alarm))
            cells.append("; ".join(pair))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Mean epistemic map of the brain, nats:", ""]
    heads = ["plain patients", *titles]
    lines += [f"| network | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, network in result["networks"].items():
        first = network["shifts"][SHIFTS[0]]
        if first["auroc"] is None or "epistemic" not in first:
            continue  # a network without draws has none, an older row was not asked
        means = [network["plain"]["mutual_information"]]
        means += [network["shifts"][shift]["epistemic"] for shift in SHIFTS]
        cells = [out_of_fold.text_of(each, 5, "") for each in means]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read() -> dict:
    """Return what the study found when it was last run."""
    return measuring.read(NAME)


if __name__ == "__main__":
    main()
