"""Draws the picture on the first page: `python docs/draw_phantom.py`."""

from __future__ import annotations

import pathlib

from tfp_uqseg import labels, plotting
from tfp_uqseg.data import phantom

TARGET = pathlib.Path(__file__).resolve().parent / "_static" / "phantom.png"
SEED = 3


def main() -> None:
    """Paint a patient and write the overview of its largest slice."""
    case = phantom.make_case(SEED)
    raters = labels.region_masks(case.raters, "brats2018", ("WT",))
    figure = plotting.phantom_overview(
        case.image,
        modalities=phantom.MODALITIES,
        labels=case.labels,
        raters=raters[..., 0],
        true_probability=case.truth[..., phantom.REGIONS.index("WT")],
        spacing=case.spacing,
    )
    plotting.save(figure, TARGET, dpi=110)


if __name__ == "__main__":
    main()
