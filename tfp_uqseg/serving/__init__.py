"""Studies in, their maps and volumes out, on the studies' own grids."""

from tfp_uqseg.serving.maps import (
    MAPS,
    QU_BRATS_NAMES,
    UNCERTAINTIES,
    read_draws,
    read_summary,
)
from tfp_uqseg.serving.request import (
    Request,
    fingerprint,
    make_request,
    settings,
    versions,
)
from tfp_uqseg.serving.study import Outcome, continues, predict_case, predict_cases

__all__ = [
    "MAPS",
    "QU_BRATS_NAMES",
    "UNCERTAINTIES",
    "Outcome",
    "Request",
    "continues",
    "fingerprint",
    "make_request",
    "predict_case",
    "predict_cases",
    "read_draws",
    "read_summary",
    "settings",
    "versions",
]
