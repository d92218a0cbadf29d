"""Figures of studies, uncertainty maps and training; the only matplotlib room.

Every function returns a `matplotlib.figure.Figure` that belongs to no window, so none
needs a display. Axial images are shown as radiologists see them: front up, the
patient's right on the left. Colours and colour maps survive colour blindness.
"""

from tfp_uqseg.plotting.curves import loss_curves, reliability
from tfp_uqseg.plotting.drawing import save
from tfp_uqseg.plotting.overview import phantom_overview
from tfp_uqseg.plotting.panel import (
    PanelRow,
    largest_image,
    panel_row,
    uncertainty_panel,
)

__all__ = [
    "PanelRow",
    "largest_image",
    "loss_curves",
    "panel_row",
    "phantom_overview",
    "reliability",
    "save",
    "uncertainty_panel",
]
