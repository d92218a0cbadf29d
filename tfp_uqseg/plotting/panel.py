"""The paper's Figure 4: input, ground truth, prediction and the two uncertainties."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib import figure

from tfp_uqseg import _checks
from tfp_uqseg.plotting import drawing

#: From the outer region to the inner.
REGION_COLOURS = {
    "WT": drawing.SKY_BLUE,
    "TC": drawing.ORANGE,
    "ET": drawing.YELLOW,
    "tumour": drawing.SKY_BLUE,
}
REGION_NAMES = {
    "WT": "whole tumour",
    "TC": "tumour core",
    "ET": "enhancing tumour",
    "tumour": "tumour",
}
TITLES = ("Input", "Ground truth", "Prediction", "Aleatoric", "Epistemic")
TRUTH_OUTLINE = drawing.GREEN


@dataclasses.dataclass(frozen=True)
class PanelRow:
    """One patient's axial image in `uncertainty_panel`, every array in RAS+ order.

    Attributes:
      title: Written beside the row, such as the case's id.
      image: One modality (X, Y), 0 outside the brain.
      mask: Reference masks (X, Y, K), or None where there are no labels.
      predicted_mask: Predicted masks (X, Y, K).
      aleatoric: Expected entropy of one region (X, Y), nats.
      epistemic: Mutual information of the same region (X, Y), nats.
      spacing: Voxel size along x and y, mm.
    """

    title: str
    image: np.ndarray
    mask: np.ndarray | None
    predicted_mask: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
    spacing: tuple[float, float] = (1.0, 1.0)

    @property
    def brain(self) -> np.ndarray:
        """Where the image is not 0, bool (X, Y)."""
        return self.image != 0


def panel_row(
    title: str,
    image,
    *,
    predicted_mask,
    aleatoric,
    epistemic,
    mask=None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    index: int | None = None,
) -> PanelRow:
    """Cut one axial image out of a patient's volumes, all in RAS+ order.

    Args:
      title: Written beside the row, such as the case's id.
      image: One modality (X, Y, Z), 0 outside the brain.
      predicted_mask: Predicted masks (X, Y, Z, K).
      aleatoric: Expected entropy of one region (X, Y, Z), nats.
      epistemic: Mutual information of the same region (X, Y, Z), nats.
      mask: Reference masks (X, Y, Z, K); None where there are no labels.
      spacing: Voxel size, mm.
      index: Position along z; None takes the image with the largest tumour, the
        reference's if there is one, else the predicted one, else the most brain.

    Returns:
      A `PanelRow`.

    Raises:
      ValueError: If the shapes do not fit together.
    """
    image = np.asarray(image)
    volumes = {"aleatoric": np.asarray(aleatoric), "epistemic": np.asarray(epistemic)}
    for name, volume in volumes.items():
        _checks.same_shape(name, volume, "image", image)
    masks = {"predicted_mask": np.asarray(predicted_mask)}
    if mask is not None:
        masks["mask"] = np.asarray(mask)
    for name, volume in masks.items():
        _checks.same_shape(f"{name}[..., 0]", volume[..., 0], "image", image)
    if index is None:
        index = largest_image(masks.get("mask"), masks["predicted_mask"], image)
    return PanelRow(
        title=title,
        image=image[:, :, index],
        mask=None if mask is None else masks["mask"][:, :, index],
        predicted_mask=masks["predicted_mask"][:, :, index],
        aleatoric=volumes["aleatoric"][:, :, index],
        epistemic=volumes["epistemic"][:, :, index],
        spacing=(float(spacing[0]), float(spacing[1])),
    )


def largest_image(*volumes) -> int:
    """Position along z of the image with most voxels, in the first volume with any.

    Args:
      *volumes: Arrays (X, Y, Z) or (X, Y, Z, K), or None, in order of preference.

    Returns:
      The index; 0 where every volume is empty.

    >>> largest_image(None, [[[0, 0, 0]]], [[[0, 2, 0]]])
    1
    """
    for volume in volumes:
        if volume is None or not np.any(volume):
            continue
        volume = np.asarray(volume)
        kept = tuple(axis for axis in range(volume.ndim) if axis != 2)
        return int(np.argmax(np.count_nonzero(volume, axis=kept)))
    return 0


def uncertainty_panel(
    rows: Sequence[PanelRow],
    *,
    regions: Sequence[str] = ("WT", "TC", "ET"),
    region: str | None = None,
) -> figure.Figure:
    """Input, ground truth, prediction, aleatoric and epistemic maps (Figure 4).

    Dark means sure, bright unsure. Each of the two maps has its own scale, shared by
    all rows. The line over the maps is the ground truth of their region.

    Args:
      rows: Patients, from `panel_row`.
      regions: Names of the masks along their last axis, outer region first.
      region: The region whose maps are shown; None for the first.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If there are no rows, or the region or the masks do not fit.
    """
    rows, regions = list(rows), tuple(regions)
    region = regions[0] if region is None else region
    _checks.one_of("region", region, regions)
    _check_rows(rows, regions)
    windows = [drawing.window(row.brain) for row in rows]
    heights = [_height(row, sides) for row, sides in zip(rows, windows, strict=True)]
    canvas = drawing.canvas(heights, len(TITLES), width=12.0, left=0.3, below=0.85)
    for cell, title in zip(canvas.cells[0], TITLES, strict=True):
        cell.set_title(title, fontsize=12)
    tops = [_scale_top(rows, name) for name in ("aleatoric", "epistemic")]
    chosen = regions.index(region)
    for cells, row, sides in zip(canvas.cells, rows, windows, strict=True):
        _draw_anatomy(cells, row, sides, regions)
        maps = _draw_maps(cells[3:], row, sides, chosen, tops)
    last = canvas.cells[-1]
    canvas.colour_bar(last[3], maps[0], f"{region}: expected entropy (nats)")
    canvas.colour_bar(last[4], maps[1], f"{region}: mutual information (nats)")
    canvas.key(last[1], region_key(regions))
    if any(row.mask is not None for row in rows):
        canvas.key(last[2], {f"ground truth {region} on the maps": TRUTH_OUTLINE})
    return canvas.plot


def _check_rows(rows, regions) -> None:
    if not rows:
        raise ValueError("`rows` must hold at least one patient; it is empty.")
    for row in rows:
        for mask in (row.predicted_mask, row.mask):
            if mask is not None and mask.shape[-1] != len(regions):
                raise ValueError(
                    f"`regions` must name each mask of {row.title!r}, "
                    f"{mask.shape[-1]}; got {list(regions)}."
                )


def _draw_anatomy(cells, row: PanelRow, sides, regions) -> None:
    aspect = row.spacing[1] / row.spacing[0]
    for cell in cells[:3]:
        drawing.show_image(cell, drawing.shown(row.image, sides), aspect)
    cells[0].set_ylabel(row.title, fontsize=10)
    drawing.letter_sides(cells[0])
    for cell, masks in ((cells[1], row.mask), (cells[2], row.predicted_mask)):
        if masks is None:
            style = {"ha": "center", "color": "w", "path_effects": drawing.EDGED}
            cell.text(0.5, 0.03, "no labels", transform=cell.transAxes, **style)
            continue
        masks = drawing.shown(masks, sides)
        for number, colour in enumerate(region_key(regions).values()):
            drawing.fill(cell, masks[..., number], colour, alpha=0.35)
            drawing.outline(cell, masks[..., number], colour, linewidth=1.2)


def _draw_maps(cells, row: PanelRow, sides, chosen: int, tops) -> list:
    aspect = row.spacing[1] / row.spacing[0]
    brain = drawing.shown(row.brain, sides)
    maps = []
    for cell, values, top in zip(
        cells, (row.aleatoric, row.epistemic), tops, strict=True
    ):
        values = drawing.shown(values, sides)
        maps.append(
            drawing.show_map(cell, values, brain, aspect, top, drawing.UNCERTAINTY_MAP)
        )
        if row.mask is not None:
            truth = drawing.shown(row.mask, sides)[..., chosen]
            drawing.outline(cell, truth, TRUTH_OUTLINE, linewidth=0.9)
    return maps


def region_key(regions: Sequence[str]) -> dict[str, str]:
    """Return the colours of regions by their names in words."""
    return {
        REGION_NAMES.get(name, name): REGION_COLOURS.get(
            name, drawing.SERIES[number % len(drawing.SERIES)]
        )
        for number, name in enumerate(regions)
    }


def _height(row: PanelRow, sides) -> float:
    """Return the height of the shown image over its width."""
    width, height = row.image[sides].shape
    return height * row.spacing[1] / (width * row.spacing[0])


def _scale_top(rows, name: str) -> float:
    """Return the top of the scale that rows share, near their largest brain value."""
    values = np.concatenate([getattr(row, name)[row.brain] for row in rows])
    top = float(np.quantile(values, 0.999)) if values.size else 0.0
    return max(top, 1e-6)
