"""Scores of masks, probabilities and uncertainty maps, in NumPy and SciPy."""

from tfp_uqseg.evaluation import (
    calibration,
    intervals,
    overlap,
    qu_brats,
    retention,
    truth,
)

__all__ = ["calibration", "intervals", "overlap", "qu_brats", "retention", "truth"]
