"""The tables of a reproduction, each beside what the paper prints."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from tfp_uqseg.evaluation import intervals, retention
from tfp_uqseg.experiments import (
    paper,
    reproduce_plan,
    reproduce_results,
    tables,
)

NAMES = {
    "deterministic": "deterministic",
    reproduce_plan.TEST_TIME: "test-time augmentation",
    "mc_dropout": "MC dropout",
    "deep_ensemble": "deep ensembles",
    "ensemble_mc_dropout": "ensemble MC dropout",
    "reparameterization": "reparameterization",
    "local_reparameterization": "local reparameterization",
    "flipout": "Flipout",
    "deep_weight": "deep weight prior",
    "latent": "latent (the paper's)",
}
_KINDS = {
    "expected_entropy": "aleatoric (expected entropy)",
    "predictive_entropy": "total (entropy of the mean)",
}
#: Fractions of the retained data in the table of Figure 3.
RETAINED = (1.0, 0.9, 0.8, 0.5)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: Its files' name.
        title: Its caption.
        rows: Cells, headings first: text, or `reproduce_results.Number`.
    """

    name: str
    title: str
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return tables.markdown([[str(cell) for cell in row] for row in self.rows])

    def csv(self) -> str:
        """Return the table as CSV, ends and spreads of numbers in columns of their own.

        A column is there for every number, also ``low``, ``high`` and ``spread`` where
        any row has them.
        """
        heads, *rows = self.rows
        columns = []
        for index, head in enumerate(heads):
            cells = [row[index] for row in rows]
            for name in ("value", "low", "high", "spread"):
                values = [_part(cell, name) for cell in cells]
                if name == "value" or any(value != "" for value in values):
                    title = head if name == "value" else f"{head} {name}"
                    columns.append([title, *values])
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(zip(*columns, strict=True))
        return file.getvalue()


def settings(budget: reproduce_plan.Budget) -> Table:
    """Table 1 and what the paper's text adds to it, beside the settings used."""
    plateau = budget.schedule == "plateau"
    length = f"{budget.epochs} epochs" if plateau else f"{budget.steps} steps"
    used = {
        "batch size": str(budget.batch_size),
        "optimiser": "Adam",
        "learning rate": f"{budget.learning_rate:g}",
        "learning rate scheduler patience": str(budget.patience) if plateau else "none",
        "learning rate scheduler factor": f"{budget.factor:g}" if plateau else "none",
        "latent variable size": str(budget.latent_size),
        "most epochs": length,
        "dropout, training and test": f"{budget.dropout:g}",
        "learning rate scheduler": "cyclical, and ReduceLROnPlateau"
        if plateau
        else "warm-up, then half a cosine",
        "momentum (gradient descent)": "not used: Adam",
        "weight decay (gradient descent)": "not used: Adam",
        "loss": paper.OTHER_SETTINGS["loss"],
        "members of an ensemble": str(budget.members),
        "augmentation": budget.augmentation,
        "image": f"{budget.size} x {budget.size}"
        + (f", {budget.slices} slices of a patient" if budget.slices else ""),
        "patients": f"{budget.num_patients} and those of the shifted set",
    }
    printed = {**paper.TABLE_1, **paper.OTHER_SETTINGS}
    rows = [["parameter", "paper", "here"]]
    rows += [[name, value, used[name]] for name, value in printed.items()]
    return Table("table_1", "Table 1: settings", rows)


def uncertainty(results: reproduce_results.Results) -> Table:
    """Table 2, and for every method both kinds of entropy."""
    heads = ["method", "set", "paper", "its kind", "here, same kind"]
    rows: list[list] = [[*heads, *_KINDS.values()]]
    for method, printed in paper.TABLE_2.items():
        kind, unit = paper.TABLE_2_MEASURES[method], results.unit(method)
        for part, value in printed.items():
            both = [results.mean(unit, name, part, 4) for name in _KINDS]
            same = both[list(_KINDS).index(kind)]
            cells = [NAMES[method], part, reproduce_results.Number(value, 4)]
            rows.append([*cells, _KINDS[kind], same, *both])
    return Table("table_2", "Table 2: mean uncertainty, nats", rows)


def by_train_size(results: reproduce_results.Results, name: str) -> Table:
    """Table 3 (``"dice"``) or 4 (``"iou"``), per patient and per image.

    Args:
        results: The records.
        name: What is scored.
    """
    number = {"dice": 3, "iou": 4}[name]
    printed = {"dice": paper.TABLE_3, "iou": paper.TABLE_4}[name]
    word = {"dice": "Dice", "iou": "IoU"}[name]
    heads = ["train size", "paper"]
    heads += [f"{backbone}: {word}" for backbone in reproduce_plan.BACKBONES]
    heads.append(f"unet: mean {word} of images")
    rows: list[list] = [heads]
    for size in results.budget.train_sizes:
        value = printed[size] / 100 if size in printed else None
        row = [str(size), reproduce_results.Number(value, 3)]
        for backbone in reproduce_plan.BACKBONES:
            units = of_size(results, backbone, size)
            row.append(results.over_seeds(units, name))
        units = of_size(results, reproduce_plan.BACKBONES[0], size)
        rows.append([*row, results.over_seeds(units, f"image_{name}")])
    return Table(f"table_{number}", f"Table {number}: {word} by train size", rows)


def of_size(
    results: reproduce_results.Results, backbone: str, size: int
) -> list[reproduce_plan.Unit]:
    """Return the units of the paper's method of this size, one per seed."""
    return [
        reproduce_plan.Unit(reproduce_plan.PAPER_METHOD, backbone, size, seed)
        for seed in results.budget.seeds
    ]


def retained(curves: dict) -> Table:
    """Figure 3 in numbers: scores at some fractions of the retained slices.

    Args:
        curves: From `retention_of`.
    """
    heads = ["set", "score", "method", *(f"{share:.0%} kept" for share in RETAINED)]
    rows: list[list] = [heads]
    for part, by_score in curves.items():
        for score, by_method in by_score.items():
            for method, found in by_method.items():
                cells = [at_fraction(found, share) for share in RETAINED]
                rows.append([part, score, method, *cells])
    return Table("figure_3", "Figure 3 in numbers", rows)


def at_fraction(found: retention.Retention, share: float) -> reproduce_results.Number:
    """Return the score where at least this share of the items is kept."""
    index = int(np.searchsorted(found.fraction, share - 1e-9))
    return reproduce_results.Number(float(found.score[index]))


def retention_of(results: reproduce_results.Results, methods: Sequence[str]) -> dict:
    """Return the curves of Figure 3, by set, score and method.

    Args:
        results: The records.
        methods: Whose curves to draw.
    """
    curves: dict = {}
    for part in ("validation", "test"):
        for method in methods:
            record = results.records.get(results.unit(method), {})
            rows = [row for row in record.get("images", ()) if row["part"] == part]
            shown = {
                "accuracy of voxels": [(r["uncertainty"], r["accuracy"]) for r in rows],
                "Dice of slices with tumour": [
                    (r["uncertainty"], r["dice"]) for r in rows if r["tumour"]
                ],
            }
            for name, pairs in shown.items():
                if pairs:
                    lines = curves.setdefault(part, {}).setdefault(name, {})
                    lines[NAMES[method]] = retention.curve(*zip(*pairs, strict=True))
    return curves


def together(results: reproduce_results.Results) -> Table:
    """The claim that the two kinds of uncertainty move together, measured."""
    heads = ["method", "patients", "voxels: Pearson", "voxels: Spearman"]
    heads += ["patients: Pearson", "patients: Spearman"]
    rows: list[list] = [heads]
    for method in results.methods():
        unit = results.unit(method)
        pairs = paired_means(results, unit)
        if len(pairs) < 3 or not any(epistemic > 1e-7 for _, epistemic in pairs):
            continue
        voxels = [
            results.mean(unit, f"voxel_{name}", digits=2)
            for name in ("pearson", "spearman")
        ]
        patients = [
            reproduce_results.number(
                intervals.correlation(
                    *zip(*pairs, strict=True), ranks=ranks, seed=results.seed
                ),
                2,
            )
            for ranks in (False, True)
        ]
        rows.append([NAMES[method], str(len(pairs)), *voxels, *patients])
    title = "Correlation of aleatoric with epistemic uncertainty, test patients"
    return Table("claim_correlation", title, rows)


def paired_means(results, unit) -> list[tuple[float, float]]:
    """Return (aleatoric, epistemic) of every test patient, means over the brain."""
    aleatoric = results.by_patient(unit, "expected_entropy")
    epistemic = results.by_patient(unit, "mutual_information")
    return [(aleatoric[case], epistemic[case]) for case in aleatoric]


def methods(results: reproduce_results.Results) -> Table:
    """Every method on the same split."""
    base = results.unit("deterministic")
    heads = ["method", "Dice", "Dice - deterministic", "NLL", "ECE"]
    heads += ["aleatoric", "epistemic", "draws", "seconds per case"]
    rows: list[list] = [heads]
    for method in results.methods():
        unit = results.unit(method)
        record = results.records[unit]
        difference = reproduce_results.NOTHING
        if method != "deterministic":
            difference = results.paired([(unit, base)], "dice")
        rows.append(
            [
                NAMES[method],
                results.mean(unit, "dice"),
                difference,
                results.mean(unit, "nll", digits=4),
                results.mean(unit, "ece", digits=4),
                results.mean(unit, "expected_entropy", digits=4),
                results.mean(unit, "mutual_information", digits=5),
                str(record["num_draws"]),
                reproduce_results.Number(record["seconds_per_case"], 2),
            ]
        )
    return Table("methods", "Every method on the same split", rows)


def shifted(results: reproduce_results.Results) -> Table:
    """Epistemic uncertainty on the unseen group against that on the test set."""
    heads = ["method", "epistemic, test", "epistemic, shifted", "shifted - test"]
    rows: list[list] = [[*heads, "Dice, test", "Dice, shifted"]]
    for method in results.methods():
        unit = results.unit(method)
        groups = [
            list(results.by_patient(unit, "mutual_information", part).values())
            for part in ("shifted", "test")
        ]
        if method in reproduce_plan.WITHOUT_DRAWS or min(map(len, groups)) < 2:
            continue
        difference = intervals.unpaired_difference(*groups, seed=results.seed)
        rows.append(
            [
                NAMES[method],
                results.mean(unit, "mutual_information", "test", 5),
                results.mean(unit, "mutual_information", "shifted", 5),
                reproduce_results.number(difference, 5, signed=True),
                results.mean(unit, "dice", "test"),
                results.mean(unit, "dice", "shifted"),
            ]
        )
    return Table("shifted", "Patients of a group that training never saw", rows)


def epistemic_by_size(results: reproduce_results.Results) -> Table:
    """Dice and uncertainties of the paper's method against train size."""
    rows: list[list] = [["train size", "Dice", "epistemic, nats", "aleatoric, nats"]]
    for size in results.budget.train_sizes:
        units = of_size(results, reproduce_plan.BACKBONES[0], size)
        dice = results.over_seeds(units, "dice")
        maps = [
            results.over_seeds(units, name, 5)
            for name in ("mutual_information", "expected_entropy")
        ]
        rows.append([str(size), dice, *maps])
    return Table("train_size", "Dice and uncertainty by train size", rows)


def priors(results: reproduce_results.Results) -> Table:
    """The deep weight prior against a normal prior, paired by seed and patient."""
    rows: list[list] = [["train size", "score", "normal", "deep weight", "difference"]]
    backbone = reproduce_plan.BACKBONES[0]
    for size in results.budget.prior_sizes:
        pairs = [
            (
                reproduce_plan.Unit("deep_weight", backbone, size, seed),
                reproduce_plan.Unit("flipout", backbone, size, seed),
            )
            for seed in results.budget.prior_seeds
        ]
        for name, word, digits in (("dice", "Dice", 3), ("nll", "NLL, nats", 4)):
            deep, normal = (
                results.over_seeds(units, name, digits)
                for units in zip(*pairs, strict=True)
            )
            difference = results.paired(pairs, name, digits)
            rows.append([str(size), word, normal, deep, difference])
    title = "Flipout: deep weight prior against a normal prior"
    return Table("deep_weight", title, rows)


def _part(cell: object, name: str) -> object:
    """Return one part of a cell for CSV; empty where there is none."""
    if not isinstance(cell, reproduce_results.Number):
        return cell if name == "value" else ""
    value = getattr(cell, name)
    return "" if value is None else f"{value:.9g}"
