"""The figures of a reproduction, drawn from its records and its patients."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from tfp_uqseg import plotting
from tfp_uqseg.experiments import (
    paper,
    reproduce_data,
    reproduce_plan,
    reproduce_results,
    reproduce_tables,
    reproduce_unit,
)

#: Lines of Figure 3.
RETENTION_METHODS = (
    "latent",
    "mc_dropout",
    "deep_ensemble",
    "ensemble_mc_dropout",
)
_FILES = (".png", ".svg")
_NUM_EXAMPLES = 5


def draw(
    folder: pathlib.Path,
    study: reproduce_data.Study,
    results: reproduce_results.Results,
    place: reproduce_unit.Place,
    curves: Mapping,
) -> list[str]:
    """Write every figure that the records suffice for, as PNG and SVG.

    Args:
        folder: ``figures`` of the reproduction.
        study: The patients.
        results: The records.
        place: Where their maps are.
        curves: From `reproduce_tables.retention_of`.

    Returns:
        The names of the figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"figure_1": _examples(study)}
    if curves:
        plots["figure_3"] = plotting.retention_curves(curves)
    panels = place.panels(results.unit(reproduce_plan.PAPER_METHOD))
    if panels.is_file():
        plots["figure_4"] = _panels(panels, study)
    sizes = _by_size(results)
    if sizes:
        plots["train_size"] = plotting.against_train_size(
            sizes, sizes=results.budget.train_sizes
        )
    points = _points(results)
    if points:
        plots["claim_correlation"] = plotting.uncertainties_together(points)
    for name, plot in plots.items():
        for ending in _FILES:
            plotting.save(plot, folder / f"{name}{ending}")
    return list(plots)


def _examples(study):
    """Return Figure 1: the slice with the largest tumour of some training patients."""
    chosen = study.select(study.sets.pool[:_NUM_EXAMPLES])
    slices = [
        int(np.argmax(np.count_nonzero(patient.masks[..., 0], axis=(1, 2))))
        for patient in chosen
    ]
    return plotting.truth_slices(
        [
            p.images[z, ..., 0].astype(float)
            for p, z in zip(chosen, slices, strict=True)
        ],
        [p.masks[z] for p, z in zip(chosen, slices, strict=True)],
        [patient.case_id for patient in chosen],
        regions=study.regions,
    )


def _panels(path: pathlib.Path, study):
    """Return Figure 4 from the maps that a unit left."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len({name.partition("/")[0] for name in arrays})
    rows = []
    for number in range(count):
        own = {
            name.partition("/")[2]: value
            for name, value in arrays.items()
            if name.startswith(f"{number}/")
        }
        rows.append(plotting.PanelRow(title=str(own.pop("case")), **own))
    return plotting.uncertainty_panel(rows, regions=study.regions, region=study.region)


def _by_size(results) -> dict:
    """Return the lines of Dice, IoU and epistemic uncertainty against train size."""
    sizes = results.budget.train_sizes
    panels: dict = {}
    for label, name, printed in (
        ("patient Dice", "dice", paper.TABLE_3),
        ("patient IoU", "iou", paper.TABLE_4),
        ("epistemic uncertainty (nats)", "mutual_information", None),
    ):
        lines = {}
        for backbone in reproduce_plan.BACKBONES:
            found = {
                size: results.over_seeds(
                    reproduce_tables.of_size(results, backbone, size), name
                )
                for size in sizes
            }
            found = {
                size: each for size, each in found.items() if each.value is not None
            }
            if found:
                lines[backbone] = _series(found)
        if not lines:
            continue
        known = {
            size: reproduce_results.Number(value / 100)
            for size, value in (printed or {}).items()
            if size in sizes
        }
        if known:
            lines["paper"] = _series(known)
        panels[label] = lines
    return panels


def _series(found: Mapping[int, reproduce_results.Number]):
    ends = {
        name: [
            np.nan if getattr(each, name) is None else getattr(each, name)
            for each in found.values()
        ]
        for name in ("value", "low", "high")
    }
    return plotting.Series(list(found), ends["value"], ends["low"], ends["high"])


def _points(results) -> dict:
    """Return (aleatoric, epistemic) of the test patients by method."""
    points = {}
    paper_first = sorted(
        results.methods(), key=lambda method: method != reproduce_plan.PAPER_METHOD
    )
    for method in paper_first:
        pairs = reproduce_tables.paired_means(results, results.unit(method))
        if pairs and all(epistemic > 1e-7 for _, epistemic in pairs):
            points[reproduce_tables.NAMES[method]] = tuple(zip(*pairs, strict=True))
    return points
