"""Figures of a reproduction of the paper: slices, retained data, train sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure, ticker

from tfp_uqseg.evaluation import retention
from tfp_uqseg.plotting import drawing, panel

_MARKERS = "osD^v*PX"
_COLOURS = (*drawing.SERIES, drawing.SKY_BLUE, "0.55")


@dataclasses.dataclass(frozen=True)
class Series:
    """Points with the ends of their intervals; nan where there is none.

    Attributes:
      x: Where they stand, such as the train size.
      mean: Their values.
      low: Lower ends.
      high: Upper ends.
    """

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def truth_slices(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    regions: Sequence[str] = ("WT", "TC", "ET"),
) -> figure.Figure:
    """Slices above, the same with their ground truth below (the paper's Figure 1).

    Args:
      images: One modality (X, Y) of each patient, of one shape, 0 outside the brain.
      masks: Reference masks (X, Y, K) of each.
      titles: Written above each, such as the case's id.
      regions: Names of the masks along their last axis, outer region first.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there is no patient, or the lists differ in length.
    """
    if not images or not len(images) == len(masks) == len(titles):
        raise ValueError(
            "`images`, `masks` and `titles` must be of equal length, at least one; got "
            f"{len(images)}, {len(masks)} and {len(titles)}."
        )
    # One window for all, so that the brains stand in line at one scale.
    side = drawing.window(np.any([image != 0 for image in images], axis=0))
    width, height = images[0][side].shape
    canvas = drawing.canvas(
        [height / width] * 2,
        len(images),
        width=2.4 * len(images) + 0.4,
        left=0.3,
        below=0.45,
    )
    for name, cell in zip(("Input", "Ground truth"), canvas.cells[:, 0], strict=True):
        cell.set_ylabel(name, fontsize=11)
    colours = panel.region_key(regions)
    for cells, image, mask, title in zip(
        canvas.cells.T, images, masks, titles, strict=True
    ):
        for cell in cells:
            drawing.show_image(cell, drawing.shown(image, side), 1.0)
        cells[0].set_title(title, fontsize=9)
        shown = drawing.shown(mask, side)
        for number, colour in enumerate(colours.values()):
            drawing.fill(cells[1], shown[..., number], colour, alpha=0.35)
            drawing.outline(cells[1], shown[..., number], colour, linewidth=1.2)
    drawing.letter_sides(canvas.cells[0, 0])
    canvas.key(canvas.cells[1, 0], colours)
    return canvas.plot


def retention_curves(
    curves: Mapping[str, Mapping[str, Mapping[str, retention.Retention]]],
) -> figure.Figure:
    """Score of the retained data against their fraction (the paper's Figure 3).

    Args:
      curves: From `evaluation.retention.curve`, by set (a row of panels), score (a
        column) and method (a line).

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there are no curves.
    """
    if not curves or not all(curves.values()):
        raise ValueError("`curves` must hold at least one set and score; it is empty.")
    columns = list(dict.fromkeys(name for row in curves.values() for name in row))
    plot = figure.Figure(
        figsize=(4.4 * len(columns), 3.1 * len(curves) + 0.5), layout="constrained"
    )
    axes = plot.subplots(len(curves), len(columns), squeeze=False, sharex=True)
    for cells, (part, by_score) in zip(axes, curves.items(), strict=True):
        for cell, name in zip(cells, columns, strict=True):
            for number, (method, found) in enumerate(by_score.get(name, {}).items()):
                style = {"label": method, "linewidth": 1.6, **drawing.line(number)}
                cell.plot(found.fraction, found.score, **style)
            cell.set_title(f"{part}: {name}", fontsize=11)
            cell.grid(alpha=0.3)
            cell.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    for cell in axes[-1]:
        cell.set(xlabel="data retained, surest first", xlim=(0.1, 1.0))
    for cell in axes[:, 0]:
        cell.set_ylabel("mean over retained slices")
    for cell in axes.flat:
        _fit_height(cell, 0.1)
    _legend_below(plot, axes[0, 0])
    return plot


def against_train_size(
    panels: Mapping[str, Mapping[str, Series]], *, sizes: Sequence[int]
) -> figure.Figure:
    """Scores against the number of training patients, with intervals.

    Args:
      panels: Series by panel (the name is its axis' label) and by line; the line
        `paper`, if there is one, is drawn dashed.
      sizes: The train sizes.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there are no panels.
    """
    if not panels:
        raise ValueError("`panels` must hold at least one panel; it is empty.")
    plot = figure.Figure(figsize=(3.9 * len(panels), 3.7), layout="constrained")
    axes = plot.subplots(1, len(panels), squeeze=False)[0]
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        # Beside each other, so that intervals do not hide one another.
        shift = 0.25 * np.arange(len(lines)) - 0.125 * (len(lines) - 1)
        number = 0
        for place, (name, line) in zip(shift, lines.items(), strict=True):
            mean = np.asarray(line.mean, float)
            x = np.asarray(line.x, float) + place
            if name == "paper":
                style = {"color": "0.35", "linestyle": "--", "marker": "x"}
                axis.plot(x - place, mean, label=name, **style)
                continue
            colour, marker = _COLOURS[number % 8], _MARKERS[number % 8]
            ends = np.stack([mean - line.low, line.high - mean])
            ends = np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)
            style = {"color": colour, "marker": marker, "label": name}
            axis.errorbar(x, mean, ends, markersize=5, capsize=3, **style)
            number += 1
        axis.set(xlabel="training patients", ylabel=label, xticks=list(sizes))
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
        axis.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    _legend_below(plot, axes[0])
    return plot


def uncertainties_together(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> figure.Figure:
    """Epistemic against aleatoric uncertainty, one point per patient, by method.

    Args:
      points: Means over the brain by method, nats: (aleatoric, epistemic). Methods
        whose epistemic uncertainty is zero cannot be shown on a logarithmic axis and
        are left out.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If no method has epistemic uncertainty.
    """
    shown = {
        name: np.asarray(pair, float)
        for name, pair in points.items()
        if np.all(np.asarray(pair, float) > 0)
    }
    if not shown:
        raise ValueError("`points` must hold a method with epistemic uncertainty.")
    plot = figure.Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = plot.subplots()
    for number, (name, (aleatoric, epistemic)) in enumerate(shown.items()):
        axis.scatter(
            aleatoric,
            epistemic,
            s=30,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            alpha=0.85,
            label=name,
            linewidths=0,
        )
    axis.set(
        xlabel="aleatoric: expected entropy, mean over the brain (nats)",
        ylabel="epistemic: mutual information (nats)",
    )
    for number, side in enumerate((axis.xaxis, axis.yaxis)):
        _scale(side, np.concatenate([pair[number] for pair in shown.values()]))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return plot


def _scale(side, values) -> None:
    """Make an axis logarithmic where its values span more than a factor of five."""
    if values.max() > 5 * values.min():
        side.axes.set(**{f"{side.axis_name}scale": "log"})
        ratio = values.max() / values.min()
        subs = (1, 2, 5) if ratio < 30 else (1, 3) if ratio < 300 else (1,)
        side.set_major_locator(ticker.LogLocator(subs=subs))
        side.set_major_formatter(ticker.FormatStrFormatter("%g"))
        side.set_minor_formatter(ticker.NullFormatter())
    else:
        side.set_major_locator(ticker.MaxNLocator(5))


def _fit_height(axis, start: float) -> None:
    """Scale an axis to what its lines show from `start` on."""
    lines = [y[x >= start] for x, y in (line.get_data() for line in axis.lines)]
    values = np.concatenate([np.asarray(each) for each in [[], *lines]])
    if len(values):
        low, high = float(np.min(values)), float(np.max(values))
        margin = max(0.08 * (high - low), 1e-3)
        axis.set_ylim(low - margin, high + margin)


def _legend_below(plot: figure.Figure, axis) -> None:
    """Name the lines of all panels once, below them."""
    handles, names = axis.get_legend_handles_labels()
    plot.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(len(names), 4),
        frameon=False,
        fontsize=10,
    )
