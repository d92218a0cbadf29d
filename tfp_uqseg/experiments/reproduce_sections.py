"""What the page of a reproduction says beside its tables and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfp_uqseg.experiments import (
    paper,
    reproduce_data,
    reproduce_page,
    reproduce_plan,
    reproduce_results,
    reproduce_tables,
)

TITLE = "Reproduction of arXiv 2008.07588"
_INTERVALS = (
    "`±` is the standard deviation over seeds; brackets are 95 % bootstrap intervals "
    "over patients, too narrow with few of them."
)


def lead(
    study: reproduce_data.Study,
    results: reproduce_results.Results,
    units: Sequence[reproduce_plan.Unit],
) -> list[str]:
    """Return the paragraphs below the title: data, budget, what is missing."""
    sets, budget = study.sets, results.budget
    lines = [
        f"Data: {study.source}. Every table is about the region {study.region}; "
        f"the networks learn {', '.join(study.regions)} from "
        f"{', '.join(study.modalities)}.",
        f"- {len(sets.pool)} patients to train on, of whom a seed's order gives the "
        "first 5, 10, ... as nested training sets\n"
        f"- {len(sets.validation)} to validate\n- {len(sets.test)} to test\n"
        f"- {len(sets.sources)} whose networks the deep weight prior learns from\n"
        f"- {len(sets.shifted)} of a group that training never sees"
        + (f": {study.shifted}" if study.shifted else ""),
        f"Scale `{budget.name}`: {budget_text(units, budget)}",
        _values(dataclasses.asdict(budget)),
    ]
    if study.remarks:
        lines.append(
            f"In {len(study.remarks)} studies hardly any voxel is 0: air counts as "
            "brain there, and means over the brain are smaller than they should be."
        )
    missing = [unit.key for unit in units if unit not in results.records]
    if missing:
        lines.append(
            f"{len(missing)} of {len(units)} networks are not trained yet; their cells "
            "are empty."
        )
    seconds = sum(record["training"]["seconds"] for record in results.records.values())
    lines.append(f"Training took {seconds / 60:.0f} minutes in all. {_INTERVALS}")
    return lines


def budget_text(
    units: Sequence[reproduce_plan.Unit], budget: reproduce_plan.Budget
) -> str:
    """Return a sentence on what the units cost."""
    count = sum(reproduce_plan.networks(unit, budget) for unit in units)
    minutes = reproduce_plan.estimate_minutes(units, budget)
    if minutes is None:
        return (
            f"{count} networks of at most {budget.epochs} epochs each, for a machine "
            "with a GPU."
        )
    steps = reproduce_plan.count_steps(units, budget)
    return (
        f"{count} networks, {steps:,} optimisation steps, about {minutes:.0f} minutes "
        "on two slow cores."
    )


def sections(
    study: reproduce_data.Study,
    results: reproduce_results.Results,
    curves: dict,
    figures: Sequence[str],
) -> list[reproduce_page.Section]:
    """Return the sections of the page, each with the reasons for what differs.

    Args:
        study: The patients.
        results: The records.
        curves: From `reproduce_tables.retention_of`.
        figures: Names of the figures that were drawn.
    """
    found = [
        *_of_its_tables(study, results),
        *_of_its_pictures(results, curves),
        *_beyond_the_paper(study, results),
    ]
    return [
        dataclasses.replace(
            each, figure=each.figure if each.figure in figures else None
        )
        for each in found
        if each.table is None or len(each.table.rows) > 1
    ]


def _of_its_tables(study, results) -> list[reproduce_page.Section]:
    section, budget = reproduce_page.Section, results.budget
    return [
        section(
            "Table 1, settings",
            table=reproduce_tables.settings(budget),
            notes=[_settings_reason(budget)],
        ),
        section(
            "Figure 1, slices and ground truth",
            [f"Largest tumour slices of training patients of {study.source}."],
            figure="figure_1",
        ),
        section(
            "Table 2, mean uncertainty",
            table=reproduce_tables.uncertainty(results),
            notes=_uncertainty_reasons(budget),
        ),
        section(
            "Table 3, Dice by train size",
            table=reproduce_tables.by_train_size(results, "dice"),
            notes=_size_reasons(study, budget),
        ),
        section(
            "Table 4, IoU by train size",
            table=reproduce_tables.by_train_size(results, "iou"),
            notes=[_iou_reason()],
        ),
    ]


def _of_its_pictures(results, curves) -> list[reproduce_page.Section]:
    section = reproduce_page.Section
    return [
        section(
            "Figure 3, accuracy against the data that are retained",
            ["Slices are removed by their mean total entropy, the least sure first."],
            table=reproduce_tables.retained(curves),
            figure="figure_3",
            notes=[
                "The paper prints a picture without numbers and does not say what is "
                "removed. Here it is slices, and accuracy is the share of brain voxels "
                "labelled rightly, which is near 1 wherever a tumour is small. Dice of "
                "slices with tumour (in truth or prediction) says more, and may fall: "
                "the mean entropy grows with the length of the outline, so that the "
                "slices kept longest are those with the smallest tumours, which are "
                "the hardest."
            ],
        ),
        section(
            "Figure 4, prediction and uncertainties",
            ["Test patients. Bright means unsure, as in the paper."],
            figure="figure_4",
        ),
        section(
            "Do aleatoric and epistemic uncertainty move together?",
            [f'The paper: "{paper.CLAIM}".'],
            table=reproduce_tables.together(results),
            figure="claim_correlation",
            notes=[
                "The paper's sentence contradicts itself and gives no number. Voxels: "
                "mean over patients of the correlation over a patient's brain. "
                "Patients: correlation of their means over the brain. Both are maps of "
                "the same probabilities and large at the same outlines, so that a high "
                "correlation over voxels is expected of any method and is no evidence "
                "that both measure one thing. Methods without epistemic uncertainty "
                "are left out."
            ],
        ),
    ]


def _beyond_the_paper(study, results) -> list[reproduce_page.Section]:
    section = reproduce_page.Section
    return [
        section(
            "Every method on the same split",
            ["The paper has no such table: same patients, same steps, same backbone."],
            table=reproduce_tables.methods(results),
            notes=[
                "One seed. An ensemble costs its members' steps. Seconds per case are "
                "measured on this machine, without tracing."
            ],
        ),
        section(
            "Uncertainty against train size",
            ["Epistemic uncertainty should fall as patients are added."],
            table=reproduce_tables.epistemic_by_size(results),
            figure="train_size",
            notes=[_length_of(results.budget)],
        ),
        section(
            "An unseen group",
            [
                "Epistemic uncertainty should be larger where training never was: "
                f"{study.shifted}."
            ],
            table=reproduce_tables.shifted(results),
            notes=["The groups are other patients: the difference is not paired."],
        ),
        section(
            "Deep weight prior or normal prior",
            ["Algorithm 1 read literally: a prior learned from kernels."],
            table=reproduce_tables.priors(results),
            notes=[
                "Same Flipout network, same patients, same seeds; the prior was fitted "
                "to networks of other patients. The difference is deep weight minus "
                "normal, paired by seed and patient."
            ],
        ),
    ]


def _length_of(budget) -> str:
    if budget.steps:
        return (
            "The networks of all train sizes take the same number of steps, so that "
            "what changes is the data."
        )
    return "The networks of all train sizes train until they stop improving."


def _settings_reason(budget) -> str:
    if budget.name == reproduce_plan.PAPER.name:
        return (
            "The paper gives settings of Adam and of gradient descent side by side; "
            "Table 1 names Adam. Validation, test and stopping are not in the paper: "
            "training stops after 30 epochs without progress."
        )
    return (
        "Where the columns differ the reason is time: this scale is made for two slow "
        "cores. `--scale paper` keeps the paper's column."
    )


def _uncertainty_reasons(budget) -> list[str]:
    return [
        "The paper's column mixes two kinds of number. Eq. 21 is an expected entropy "
        "(the entropy of each draw, averaged: aleatoric), and ensemble MC dropout the "
        "mean of that over the members; the deep ensembles' value is a total entropy "
        "(of the members' mean: aleatoric and epistemic). They cannot be ranked "
        "against each other, so both kinds stand here for every method.",
        "Why the numbers differ: the paper names neither region, unit, classes nor the "
        "voxels averaged. Here it is the binary entropy of one region in nats (at most "
        "0.6931), averaged over the brain, where most voxels are sure: smaller than an "
        f"average over uncertain regions. Draws: {budget.num_draws} of each network.",
    ]


def _size_reasons(study, budget) -> list[str]:
    short = (
        f" Each network took {budget.steps} steps on {budget.size} x {budget.size} "
        "voxels, which is far from convergence."
        if budget.steps
        else ""
    )
    return [
        f"Why the numbers differ: other data ({study.source}).{short} The paper does "
        "not say whether train size counts patients or per cent (here patients), what "
        "region is scored, or how images without tumour count (here Dice and IoU are 1 "
        "where both masks are empty). It prints one column, though its text announces "
        "several backbones. Its backbones are pre-trained; here q(w|x) learns as the "
        "answer itself during the warm-up."
    ]


def _iou_reason() -> str:
    pairs = [
        f"{paper.iou_of_equal_images(dice / 100):.3f} at {size}"
        for size, dice in paper.TABLE_3.items()
    ]
    return (
        "The paper's Dice and IoU tell of its images: were they all alike, its Dice "
        f"would go with an IoU of {', '.join(pairs)}. The printed ones are far higher, "
        "so that many images score near 0 and many near 1, as a mean over images with "
        "and without tumour does. Compare the last column with it."
    )


def _values(values: dict) -> str:
    """Return the numbers of the budget as one line."""
    shown = (f"{name} {_plain(value)}" for name, value in values.items())
    return "Budget: " + "; ".join(shown) + "."


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return "all" if value is None else str(value)
