"""Figures of studies, uncertainty maps and training; the only matplotlib room.

Every function returns a `matplotlib.figure.Figure` that belongs to no window, so none
needs a display; `SliceViewer` alone wants a live canvas. Axial images are shown as
radiologists see them: front up, the patient's right on the left. Colours and colour
maps survive colour blindness.
"""

from tfp_uqseg.plotting.curves import loss_curves, referral, reliability
from tfp_uqseg.plotting.drawing import Figure, save
from tfp_uqseg.plotting.overview import phantom_overview
from tfp_uqseg.plotting.panel import (
    PanelRow,
    largest_image,
    panel_row,
    uncertainty_panel,
)
from tfp_uqseg.plotting.rates import rate_sweep
from tfp_uqseg.plotting.reproduction import (
    Series,
    against_train_size,
    retention_curves,
    truth_slices,
    uncertainties_together,
)
from tfp_uqseg.plotting.viewer import SliceViewer

__all__ = [
    "Figure",
    "PanelRow",
    "Series",
    "SliceViewer",
    "against_train_size",
    "largest_image",
    "loss_curves",
    "panel_row",
    "phantom_overview",
    "rate_sweep",
    "referral",
    "reliability",
    "retention_curves",
    "save",
    "truth_slices",
    "uncertainties_together",
    "uncertainty_panel",
]
