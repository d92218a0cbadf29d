"""The pictures of a case in the report: slices of image, outlines and maps."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_uqseg.data import case as case_module
from tfp_uqseg.experiments import predicted
from tfp_uqseg.plotting import drawing, embedding, panel


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Pictures of one case; each is a data URI of slices below each other.

    Attributes:
        case: Id of the case.
        slices: Position of every slice along z, from 1.
        start: Number of the slice that is shown first.
        height: Of a slice over its width, both in mm.
        image: The modality, grey.
        outlines: Predicted regions over clear ground.
        reference: Those of the labels; None without labels.
        aleatoric: Expected entropy of the first region.
        epistemic: Its mutual information.
        tops: Largest value of the two scales, nats.
        modality: Name of the modality.
    """

    case: str
    slices: tuple[int, ...]
    start: int
    height: float
    image: str
    outlines: str
    reference: str | None
    aleatoric: str
    epistemic: str
    tops: tuple[float, float]
    modality: str


def view(
    prediction: predicted.Predicted,
    study: case_module.Study,
    *,
    region: str,
    masks,
    most_slices: int,
) -> View:
    """Return the pictures of one case.

    Args:
        prediction: Its maps.
        study: The study, with the modality to show as its first channel.
        region: Whose maps are shown.
        masks: Reference masks (X, Y, Z, K) of the predicted regions, or None.
        most_slices: Of the slices with brain, at most so many are shown.
    """
    image, found = study.image[..., 0], prediction.masks
    brain = image != 0
    maps = [
        np.where(brain, prediction.read(name, region), 0.0)
        for name in ("expected_entropy", "mutual_information")
    ]
    start = panel.largest_image(found, masks, maps[0])
    kept = chosen_slices(brain, start, most_slices)
    sides = drawing.window(brain.any(axis=2))

    def stack(volume):
        return np.stack([drawing.shown(volume[:, :, z], sides) for z in kept])

    colours = tuple(panel.region_key(prediction.regions).values())
    inside = brain if brain.any() else np.ones_like(brain)
    low, high = np.percentile(image[inside], (0.5, 99.5))
    tops = [max(float(np.quantile(each[inside], 0.999)), 1e-4) for each in maps]
    shown = stack(np.where(brain, image, low))
    reference = None
    if masks is not None:
        reference = embedding.mask_stack(stack(masks), colours)
    spacing = study.spacing
    return View(
        case=prediction.case_id,
        slices=tuple(int(z) + 1 for z in kept),
        start=kept.index(start),
        height=shown.shape[1] * spacing[1] / (shown.shape[2] * spacing[0]),
        image=embedding.grey_stack(shown, float(low), float(high)),
        outlines=embedding.mask_stack(stack(found), colours),
        reference=reference,
        aleatoric=embedding.map_stack(stack(maps[0]), tops[0]),
        epistemic=embedding.map_stack(stack(maps[1]), tops[1]),
        tops=(tops[0], tops[1]),
        modality=study.modalities[0],
    )


def chosen_slices(brain, start: int, most: int) -> list[int]:
    """Return the positions of the slices that are shown, ascending.

    Args:
        brain: Mask (X, Y, Z).
        start: A slice that is always among them.
        most: At most so many, equally spaced among those with brain.

    >>> chosen_slices(np.ones((1, 1, 9)), 4, 3)
    [0, 4, 8]
    """
    inside = np.flatnonzero(np.any(brain, axis=(0, 1)))
    if not inside.size:
        return [start]
    places = np.linspace(0, inside.size - 1, min(most, inside.size))
    kept = inside[np.unique(np.rint(places).astype(int))]
    if start not in kept:
        nearest = int(np.argmin(np.abs(kept - start)))
        kept[nearest] = start
    return sorted(int(z) for z in kept)
