"""Scores of masks, probabilities and uncertainty maps, in NumPy and SciPy."""

from tfp_uqseg.evaluation import calibration, intervals, overlap, retention, truth

__all__ = ["calibration", "intervals", "overlap", "retention", "truth"]
