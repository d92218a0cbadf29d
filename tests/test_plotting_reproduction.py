"""Figures of a reproduction: what they draw and what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfp_uqseg import plotting
from tfp_uqseg.evaluation import retention


def texts(plot):
    found = [axis.get_title() for axis in plot.axes]
    found += [axis.get_ylabel() for axis in plot.axes]
    legends = [*plot.legends, *(axis.get_legend() for axis in plot.axes)]
    found += [text.get_text() for each in legends if each for text in each.get_texts()]
    return found


def test_figure_1_has_a_column_per_patient():
    image = np.ones((8, 10))
    mask = np.zeros((8, 10, 1))
    mask[2:5, 3:6] = 1
    plot = plotting.truth_slices(
        [image] * 2, [mask] * 2, ["a", "b"], regions=["tumour"]
    )
    assert len(plot.axes) == 4
    assert {"a", "b", "Input", "Ground truth", "tumour"} <= set(texts(plot))


def test_figure_3_has_a_row_per_set_and_a_column_per_score(tmp_path):
    found = retention.curve([0.1, 0.2, 0.3], [1.0, 0.9, 0.5])
    curves = {
        part: {name: {"latent": found} for name in ("accuracy", "Dice")}
        for part in ("validation", "test")
    }
    plot = plotting.retention_curves(curves)
    assert len(plot.axes) == 4
    assert {"validation: accuracy", "test: Dice", "latent"} <= set(texts(plot))
    (line,) = plot.axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1.0, 0.95, 0.8])
    plotting.save(plot, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_the_papers_line_is_dashed_and_a_missing_interval_is_none():
    line = plotting.Series([5, 20], [0.4, 0.6], [0.3, np.nan], [0.5, np.nan])
    plot = plotting.against_train_size(
        {"Dice": {"unet": line, "paper": line}}, sizes=(5, 20)
    )
    (axis,) = plot.axes
    assert [each.get_linestyle() for each in axis.lines if len(each.get_xdata()) == 2][
        -1
    ] == "--"
    assert {"unet", "paper"} <= set(texts(plot))


@pytest.mark.parametrize(("top", "scale"), [(3.0, "linear"), (30.0, "log")])
def test_a_wide_range_of_uncertainties_is_drawn_on_logarithmic_axes(top, scale):
    plot = plotting.uncertainties_together(
        {"latent": ([1.0, top], [1.0, 2.0]), "deterministic": ([1.0, 2.0], [0.0, 0.0])}
    )
    assert plot.axes[0].get_xscale() == scale
    assert plot.axes[0].get_yscale() == "linear"
    assert "deterministic" not in texts(plot)


@pytest.mark.parametrize(
    ("low", "top"), [(3e-4, 0.05), (0.02, 0.7), (3e-4, 0.08), (3e-4, 1.0), (3e-4, 40.0)]
)
def test_the_numbers_of_the_axes_do_not_overlap(low, top):
    values = np.geomspace(low, top, 8)
    plot = plotting.uncertainties_together({"one": (values, values)})
    plot.canvas.draw()
    (axis,) = plot.axes
    low, high = axis.get_xlim()
    boxes = [
        label.get_window_extent()
        for place, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert len(boxes) >= 2
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plotting.truth_slices([], [], []),
            "must be of equal length, at least",
        ),
        (lambda: plotting.truth_slices([1], [], ["a"]), "got 1, 0 and 1"),
        (lambda: plotting.retention_curves({}), "`curves` must hold at least one set"),
        (lambda: plotting.retention_curves({"test": {}}), "`curves` must hold"),
        (
            lambda: plotting.against_train_size({}, sizes=(5,)),
            "`panels` must hold at least one panel",
        ),
        (
            lambda: plotting.uncertainties_together({"a": ([1.0], [0.0])}),
            "`points` must hold a method with epistemic",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
