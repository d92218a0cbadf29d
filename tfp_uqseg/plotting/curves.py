"""Curves: losses over epochs, reliability of probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib import figure, ticker

from tfp_uqseg.evaluation import calibration, retention
from tfp_uqseg.plotting import drawing

#: Title, unit and columns of each panel of `loss_curves`.
PANELS = (
    ("Data loss", "per voxel", ("data_loss", "val_data_loss")),
    ("Data loss of the maps alone", "per voxel", ("map_loss",)),
    ("Objective with KL terms", "per voxel", ("loss",)),
    ("KL of the weights", "nats", ("kl",)),
    ("Bound on the latent KL", "nats", ("latent_bound", "val_latent_bound")),
    ("KL of the latent code", "nats", ("code_kl", "val_code_kl")),
    ("Dice", "0 to 1", ("dice", "val_dice")),
)


def loss_curves(history) -> figure.Figure:
    """Training and validation curves: data loss, KL terms, Dice; one panel each.

    Args:
      history: Logs of the epochs, as rows (dicts of numbers or their text) or as a
        dict of columns such as Keras' `History.history`. Panels whose columns are
        absent, or never differ from zero, are left out, and the objective where it
        is the data loss alone.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If no known column holds a number.
    """
    columns = _columns(history)
    if np.array_equal(columns.get("loss", ()), columns.get("data_loss", 0)):
        del columns["loss"]  # nothing was added to what the data say
    panels = []
    for title, unit, names in PANELS:
        series = {name: columns[name] for name in names if _tells(columns.get(name))}
        if series:
            panels.append((title, unit, series))
    if not panels:
        raise ValueError(
            "`history` must hold numbers other than zero in one of the columns loss, "
            "data_loss, map_loss, kl, latent_bound, code_kl, dice; its columns are "
            f"{sorted(columns)}."
        )
    columns_across = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns_across)
    plot = figure.Figure(
        figsize=(3.6 * columns_across, 2.9 * rows), layout="constrained"
    )
    axes = list(plot.subplots(rows, columns_across, squeeze=False).flat)
    for spare in axes[len(panels) :]:
        spare.remove()
    for axis, (title, unit, series) in zip(axes[: len(panels)], panels, strict=True):
        _draw_curves(axis, series, columns.get("epoch"))
        axis.set_title(title, fontsize=11)
        axis.set(xlabel="epoch", ylabel=unit)
    return plot


def reliability(curves: Mapping[str, calibration.Reliability]) -> figure.Figure:
    """Observed frequency against predicted probability, with the voxels per bin.

    Args:
      curves: Bins from `calibration.reliability`, by the name of a method or region.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there are no curves.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve; it is empty.")
    plot = figure.Figure(figsize=(4.6, 5.6), layout="constrained")
    upper, lower = plot.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
    for number, (name, bins) in enumerate(curves.items()):
        colour = drawing.SERIES[number % len(drawing.SERIES)]
        filled = bins.count > 0
        upper.plot(
            bins.mean_probability[filled],
            bins.frequency[filled],
            color=colour,
            marker="osD^v*"[number % 6],
            markersize=4,
            label=name,
        )
        share = np.where(filled, bins.count / max(bins.count.sum(), 1), np.nan)
        lower.stairs(share, bins.edges, color=colour, baseline=None)
    upper.set(ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, loc="upper left")
    lower.set(xlabel="predicted probability", ylabel="share of voxels", yscale="log")
    lower.yaxis.set_minor_formatter(ticker.NullFormatter())
    return plot


def referral(curves: Mapping[str, retention.Retention], title: str) -> figure.Figure:
    """Mean score of the patients kept when the least sure are referred.

    Args:
      curves: From `evaluation.retention.curve`, of one region's Dice, by measure of
        uncertainty.
      title: Of the panel, such as the region.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there are no curves.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve; it is empty.")
    plot = figure.Figure(figsize=(5.2, 5.6), layout="constrained")
    axis = plot.subplots()
    some = next(iter(curves.values()))
    axis.plot(some.fraction, some.best, color="0.6", linestyle="--", label="best order")
    axis.axhline(some.score[-1], color="0.6", linewidth=0.8, label="no referral")
    for number, (name, found) in enumerate(curves.items()):
        axis.plot(
            found.fraction,
            found.score,
            **drawing.line(number),
            marker="osD^v*"[number % 6],
            markersize=4,
            label=name,
        )
    axis.set(xlabel="patients kept, the surest first", ylabel="their mean Dice")
    axis.set_title(title, fontsize=11)
    axis.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    plot.legend(loc="outside lower center", frameon=False, fontsize=9)
    return plot


def _draw_curves(axis, series, epochs) -> None:
    for name, values in series.items():
        held_out = name.startswith("val_")
        axis.plot(
            np.arange(1, len(values) + 1) if epochs is None else epochs,
            values,
            color=drawing.SERIES[1 if held_out else 0],
            linestyle="--" if held_out else "-",
            marker="o" if len(values) < 3 else None,
            label="validation" if held_out else "training",
        )
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axis.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)


def _columns(history) -> dict[str, np.ndarray]:
    if isinstance(history, Mapping):
        columns = {name: list(values) for name, values in history.items()}
    else:
        rows = list(history) if isinstance(history, Iterable) else []
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: np.array([_number(value) for value in values])
        for name, values in columns.items()
    }


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _tells(values) -> bool:
    """Return whether a column holds a number other than zero."""
    return values is not None and bool(np.any(np.isfinite(values) & (values != 0)))
