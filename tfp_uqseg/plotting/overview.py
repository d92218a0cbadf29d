"""A phantom patient on one page: what the network sees, and what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure

from tfp_uqseg import _checks
from tfp_uqseg.plotting import drawing, panel

MODALITY_NAMES = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1 contrast", "t2": "T2"}
LABEL_NAMES = {1: "necrotic core", 2: "oedema", 3: "enhancing", 4: "enhancing"}
LABEL_COLOURS = {
    1: drawing.ORANGE,
    2: drawing.SKY_BLUE,
    3: drawing.YELLOW,
    4: drawing.YELLOW,
}
#: Light colours, to be seen on grey tissue.
RATER_COLOURS = (
    drawing.SKY_BLUE,
    drawing.ORANGE,
    drawing.YELLOW,
    drawing.PURPLE,
    drawing.GREEN,
)


def phantom_overview(
    image,
    *,
    modalities: Sequence[str],
    labels,
    raters,
    true_probability,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    index: int | None = None,
    label_names: Mapping[int, str] = LABEL_NAMES,
) -> figure.Figure:
    """Modalities above; labels, raters' outlines and the true probability below.

    Every array is in RAS+ order. The lower row looks closer at the tumour.

    Args:
      image: Modalities (X, Y, Z, C), 0 outside the brain.
      modalities: Names of the modalities along the last axis.
      labels: Label ids (X, Y, Z), 0 is background.
      raters: The raters' masks or label ids (X, Y, Z, R), 0 is background.
      true_probability: Probability that a rater marks the voxel (X, Y, Z), 0..1.
      spacing: Voxel size, mm.
      index: Position along z; None takes the image with the largest tumour.
      label_names: What the label ids mean.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If the shapes do not fit together.
    """
    image, labels, raters, truth = (
        np.asarray(each) for each in (image, labels, raters, true_probability)
    )
    _checks.same_shape("image[..., 0]", image[..., 0], "labels", labels)
    _checks.same_shape("raters[..., 0]", raters[..., 0], "labels", labels)
    _checks.same_shape("true_probability", truth, "labels", labels)
    if len(modalities) != image.shape[-1]:
        raise ValueError(
            f"`modalities` must name each of the {image.shape[-1]} channels of "
            f"`image`; got {list(modalities)}."
        )
    if index is None:
        index = panel.largest_image(labels, truth > 0.5, image)
    image, labels, raters, truth = (
        each[:, :, index] for each in (image, labels, raters, truth)
    )
    head = drawing.window(np.any(image != 0, axis=-1))
    aspect = spacing[1] / spacing[0]
    width, height = image[head].shape[:2]
    canvas = drawing.canvas(
        [height * aspect / width] * 2,
        max(len(modalities), 4),
        width=2.4 * max(len(modalities), 4),
        left=0.12,
        below=0.75,
        between=0.36,
    )
    _draw_modalities(canvas.cells[0], drawing.shown(image, head), modalities, aspect)
    close = _close_up((labels > 0) | (truth > 0.01), head)
    volumes = (drawing.shown(each, close) for each in (image, labels, raters, truth))
    _draw_truth(canvas, *volumes, aspect=aspect, label_names=label_names)
    return canvas.plot


def _draw_modalities(cells, image, modalities, aspect) -> None:
    for channel, name in enumerate(modalities):
        drawing.show_image(cells[channel], image[..., channel], aspect)
        cells[channel].set_title(MODALITY_NAMES.get(name, name), fontsize=11)
    for cell in cells[len(modalities) :]:
        cell.set_visible(False)
    drawing.letter_sides(cells[0])


def _draw_truth(canvas, image, labels, raters, truth, *, aspect, label_names) -> None:
    cells = canvas.cells[1]
    for cell in cells[4:]:
        cell.set_visible(False)
    for cell in cells[:2]:
        drawing.show_image(cell, image[..., 0], aspect)
    key = {}
    for label in np.unique(labels[labels > 0]):
        colour = LABEL_COLOURS.get(int(label), drawing.PURPLE)
        drawing.fill(cells[0], labels == label, colour, alpha=0.7)
        key[label_names.get(int(label), f"label {label}")] = colour
    cells[0].set_title("Labels", fontsize=11)
    canvas.key(cells[0], key)
    count = raters.shape[-1]
    for rater in range(count):
        colour = RATER_COLOURS[rater % len(RATER_COLOURS)]
        drawing.outline(cells[1], raters[..., rater], colour, linewidth=1.0)
    cells[1].set_title(f"{count} rater{'s' if count != 1 else ''}", fontsize=11)
    brain = np.any(image != 0, axis=-1)
    for cell, values, top, colour_map, title, unit in (
        (
            cells[2],
            truth,
            1.0,
            drawing.PROBABILITY_MAP,
            "True probability",
            "p of a rater's mark, 0 to 1",
        ),
        (
            cells[3],
            truth * (1.0 - truth),
            0.25,
            drawing.UNCERTAINTY_MAP,
            "True label variance",
            "p (1 - p), probability squared",
        ),
    ):
        shown = drawing.show_map(cell, values, brain, aspect, top, colour_map)
        cell.set_title(title, fontsize=11)
        canvas.colour_bar(cell, shown, unit)


def _close_up(tumour, head) -> tuple[slice, ...]:
    """Return a window with the shape of `head` that just holds the tumour."""
    if not tumour.any() or head == (slice(None), slice(None)):
        return head
    inner = drawing.window(tumour, margin=6)
    sizes = [side.stop - side.start for side in head]
    share = max(
        (side.stop - side.start) / size for side, size in zip(inner, sizes, strict=True)
    )
    share = min(max(share, 0.4), 1.0)
    sides = []
    for side, outer, size in zip(inner, head, sizes, strict=True):
        length = round(share * size)
        start = (side.start + side.stop - length) // 2
        start = min(max(start, outer.start), outer.stop - length)
        sides.append(slice(start, start + length))
    return tuple(sides)
