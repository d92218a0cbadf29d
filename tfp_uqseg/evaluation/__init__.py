"""Scores of masks, probabilities and uncertainty maps, in NumPy and SciPy."""

from tfp_uqseg.evaluation import (
    calibration,
    confidence,
    conformal,
    discrimination,
    diversity,
    intervals,
    lesions,
    overlap,
    qu_brats,
    retention,
    risk,
    scaling,
    surface,
    truth,
)

__all__ = [
    "calibration",
    "confidence",
    "conformal",
    "discrimination",
    "diversity",
    "intervals",
    "lesions",
    "overlap",
    "qu_brats",
    "retention",
    "risk",
    "scaling",
    "surface",
    "truth",
]
