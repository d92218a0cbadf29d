"""Strokes that the figures share: images, masks, outlines, colour bars, files."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing
from collections.abc import Sequence

import numpy as np
from matplotlib import axes, colors, figure, patches, patheffects

from tfp_uqseg import _checks, _files

Figure = figure.Figure

#: Colours of Okabe and Ito, which survive colour blindness.
SKY_BLUE, ORANGE, YELLOW = "#56B4E9", "#E69F00", "#F0E442"
BLUE, VERMILION, GREEN, PURPLE, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
)
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, BLACK)
#: White letters with a dark edge, to be read on any tissue.
EDGED = [patheffects.withStroke(linewidth=1.5, foreground="k")]
#: Maps whose lightness rises all the way, so that they read in grey as well.
UNCERTAINTY_MAP = "inferno"
PROBABILITY_MAP = "viridis"


def line(number: int) -> dict[str, typing.Any]:
    """Return colour and line of a curve; dashed where the colours begin again.

    >>> line(1) == line(7)
    False
    """
    again, place = divmod(number, len(SERIES))
    return {"color": SERIES[place], "linestyle": ("-", "--", ":")[min(again, 2)]}


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A figure laid out in inches, with a box for each cell and room below.

    Attributes:
      plot: The figure.
      cells: Axes (rows, columns), without ticks and frames.
    """

    plot: figure.Figure
    cells: np.ndarray

    def below(self, cell: axes.Axes, drop: float, height: float) -> axes.Axes:
        """Add axes `drop` inches below a cell, `height` inches high."""
        box = cell.get_position()
        inches = self.plot.get_figheight()
        return self.plot.add_axes(
            (
                box.x0 + 0.08 * box.width,
                box.y0 - (drop + height) / inches,
                0.84 * box.width,
                height / inches,
            )
        )

    def colour_bar(self, cell: axes.Axes, image, label: str) -> None:
        """Draw the scale of `image` below a cell, with its unit."""
        place = self.below(cell, 0.14, 0.11)
        bar = self.plot.colorbar(image, cax=place, orientation="horizontal")
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.ax.locator_params(nbins=4)

    def key(self, cell: axes.Axes, entries: dict[str, str]) -> None:
        """Name colours below a cell, from {name: colour}."""
        handles = [patches.Patch(color=c, label=name) for name, c in entries.items()]
        cell.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.01),
            frameon=False,
            fontsize=9,
            handlelength=1.2,
            labelspacing=0.25,
        )


def canvas(
    heights: Sequence[float],
    columns: int,
    *,
    width: float,
    left: float,
    below: float,
    between: float = 0.08,
) -> Canvas:
    """Lay out rows of equally wide cells.

    Args:
      heights: Height of each row over the width of its cells.
      columns: Cells of a row.
      width: Width of the figure, inches.
      left: Margin for the rows' names, inches.
      below: Margin for colour bars and keys, inches.
      between: Space between rows, inches.

    Returns:
      A `Canvas`.
    """
    gap, top, right = 0.08, 0.32, 0.12
    cell = (width - left - right - gap * (columns - 1)) / columns
    height = top + below + sum(each * cell for each in heights)
    height += between * (len(heights) - 1)
    plot = figure.Figure(figsize=(width, height))
    cells = np.empty((len(heights), columns), dtype=object)
    upper = height - top
    for row, each in enumerate(heights):
        upper -= each * cell
        for column in range(columns):
            x = left + column * (cell + gap)
            cells[row, column] = plot.add_axes(
                (x / width, upper / height, cell / width, each * cell / height)
            )
            cells[row, column].set(xticks=[], yticks=[])
            cells[row, column].spines[:].set_visible(False)
        upper -= between
    return Canvas(plot, cells)


def show_image(axis: axes.Axes, image, aspect: float) -> None:
    """Draw a modality in grey; its zeros, the air, are black."""
    inside = image[image != 0]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 1.0)
    # After z-scoring 0 lies mid-scale: the air is drawn as the darkest tissue.
    image = np.where(image != 0, image, low)
    axis.imshow(image, "gray", aspect=aspect, vmin=low, vmax=max(high, low + 1e-6))


def show_map(axis: axes.Axes, values, brain, aspect: float, top: float, colour_map):
    """Draw a map inside the brain from 0 to `top`; return the image."""
    values = np.where(brain, values, 0.0)
    image = axis.imshow(values, colour_map, aspect=aspect, vmin=0.0, vmax=top)
    outline(axis, brain, "0.5", linewidth=0.6)
    return image


def fill(axis: axes.Axes, mask, colour, *, alpha: float) -> None:
    """Tint the voxels of a mask."""
    layer = np.zeros((*mask.shape, 4))
    layer[mask != 0] = colors.to_rgba(colour, alpha)
    axis.imshow(layer, aspect=axis.get_aspect(), interpolation="nearest")


def outline(axis: axes.Axes, mask, colour, *, linewidth: float) -> None:
    """Draw the border of a mask."""
    mask = np.asarray(mask) != 0
    # matplotlib warns when there is no border to draw.
    if mask.any() and not mask.all():
        axis.contour(mask, levels=[0.5], colors=[colour], linewidths=linewidth)


def letter_sides(axis: axes.Axes) -> None:
    """Mark the patient's right and left."""
    for place, side, letter in ((0.02, "left", "R"), (0.98, "right", "L")):
        axis.text(
            place,
            0.02,
            letter,
            color="w",
            ha=side,
            va="bottom",
            fontsize=9,
            transform=axis.transAxes,
            path_effects=EDGED,
        )


def window(mask, margin: int = 3) -> tuple[slice, ...]:
    """Return the slices that cut (X, Y) arrays to a mask with a margin of voxels."""
    if not np.any(mask):
        return (slice(None), slice(None))
    sides = []
    for axis, size in enumerate(np.shape(mask)):
        inside = np.flatnonzero(np.any(mask, axis=1 - axis))
        start = max(int(inside[0]) - margin, 0)
        sides.append(slice(start, min(int(inside[-1]) + 1 + margin, size)))
    return tuple(sides)


def shown(array, sides: tuple[slice, ...]) -> np.ndarray:
    """Cut an (X, Y, ...) array in RAS+ order and turn it to the radiologist's view."""
    return np.swapaxes(np.asarray(array)[sides], 0, 1)[::-1, ::-1]


def save(plot: figure.Figure, path: str | os.PathLike, *, dpi: int = 150) -> None:
    """Write a figure to a file, whole or not at all.

    Args:
      plot: A figure of this package.
      path: File to write; the ending chooses the format, such as `.png` or `.pdf`.
      dpi: Pixels per inch.

    Raises:
      ValueError: If the ending names no format that matplotlib writes.
    """
    path = pathlib.Path(path)
    kind = path.suffix.lstrip(".").lower()
    allowed = sorted(plot.canvas.get_supported_filetypes())
    if kind not in allowed:
        raise ValueError(
            f"`path` must end in one of {', '.join(allowed)}; got {str(path)!r}."
        )
    _checks.positive_integer("dpi", dpi)
    with _files.whole_file(path) as temporary:
        plot.savefig(temporary, dpi=dpi, format=kind)
