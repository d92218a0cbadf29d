"""Scores of masks, probabilities and uncertainty maps, in NumPy and SciPy."""

from tfp_uqseg.evaluation import calibration, intervals, overlap, truth

__all__ = ["calibration", "intervals", "overlap", "truth"]
