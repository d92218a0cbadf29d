"""Volumes over draws: a median, an interval that covers what it says, a spread."""

from __future__ import annotations

import numpy as np


def volume_statistics(volumes: np.ndarray) -> dict[str, object]:
    """Return median, interval and spread of the draws' volumes of one region.

    Args:
        volumes: (num_draws,), ml.

    Returns:
        ``volume_median_ml``, ``volume_interval_ml`` [low, high], ``interval_level``
        (0.8 below 100 draws, else 0.95) and ``coefficient_of_variation`` (standard
        deviation over mean; None where the mean is 0). One draw has no interval: None.
        The ends are the expected quantiles of order statistics (Weibull), so that a
        new draw falls inside with the level's probability; fewer than 9 draws can only
        give their range, whose level is lower: (n - 1) / (n + 1).

    >>> statistics = volume_statistics(np.array([1.0, 2.0, 3.0]))
    >>> statistics["volume_interval_ml"], statistics["interval_level"]
    ([1.0, 3.0], 0.5)
    """
    volumes = np.asarray(volumes, np.float64)
    result: dict[str, object] = {
        "volume_median_ml": float(np.median(volumes)),
        "volume_interval_ml": None,
        "interval_level": None,
        "coefficient_of_variation": None,
    }
    if len(volumes) > 1:
        count = len(volumes)
        level = min(0.8 if count < 100 else 0.95, (count - 1) / (count + 1))
        tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
        low, high = np.quantile(volumes, tails, method="weibull")
        result["volume_interval_ml"] = [float(low), float(high)]
        result["interval_level"] = level
        if volumes.mean() > 0.0:
            spread = volumes.std() / volumes.mean()
            result["coefficient_of_variation"] = float(spread)
    return result
