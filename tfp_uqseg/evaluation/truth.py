"""Maps against a phantom's known label probability."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tfp_uqseg import _checks

#: Where the raters' label is open; outside it p(1-p) is nothing but ties.
UNCERTAIN_BAND = (0.01, 0.99)


def uncertain_voxels(true_probability, brain=None, *, band=UNCERTAIN_BAND):
    """Mask of the voxels whose label is open: `band[0] < p < band[1]` in the brain.

    Args:
      true_probability: True label probability 0..1, any shape.
      brain: Mask of the same shape; None for all voxels.
      band: Lower and upper probability, both excluded.

    Returns:
      A bool array of the same shape.

    Raises:
      ValueError: If shapes differ, or the band or a probability is out of range.

    >>> uncertain_voxels([0.0, 0.3, 1.0])
    array([False,  True, False])
    """
    low, high = band
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(
            f"`band` must be two probabilities in rising order; got {band!r}."
        )
    true_probability = np.asarray(true_probability)
    if not np.all((true_probability >= 0.0) & (true_probability <= 1.0)):
        raise ValueError("`true_probability` must be finite and lie in 0..1.")
    selected = (true_probability > low) & (true_probability < high)
    if brain is not None:
        brain = _checks.binary_mask("brain", brain)
        _checks.same_shape("brain", brain, "true_probability", true_probability)
        selected &= brain
    return selected


def spearman_of_aleatoric(
    aleatoric_map, true_probability, brain=None, *, band=UNCERTAIN_BAND
) -> float:
    """Rank correlation of an aleatoric map with the true label variance p(1-p).

    Ranks do not see units, so entropies and variances can be compared with it alike.

    Args:
      aleatoric_map: Map of any shape, such as `expected_entropy`.
      true_probability: True label probability 0..1 of the same shape.
      brain: Mask of the same shape; None for all voxels.
      band: Only voxels with a true probability strictly inside are ranked.

    Returns:
      A float in -1..1; nan where fewer than three voxels are left or either side is
      constant, which leaves nothing to rank.

    Raises:
      ValueError: If shapes differ, a map value is not finite, or the band or a
        probability is out of range.

    >>> round(spearman_of_aleatoric([0.1, 0.3, 0.2], [0.1, 0.5, 0.8]), 6)
    1.0
    """
    aleatoric, probability = _open_values(
        "aleatoric_map", aleatoric_map, true_probability, brain, band
    )
    variance = probability * (1.0 - probability)
    if variance.size < 3 or np.ptp(variance) == 0 or np.ptp(aleatoric) == 0:
        return float("nan")
    return float(stats.spearmanr(aleatoric, variance).statistic)


def mean_absolute_error(
    probabilities, true_probability, brain=None, *, band=UNCERTAIN_BAND
) -> float:
    """Mean `|predicted - true|` label probability where the label is open.

    Args:
      probabilities: Predicted probabilities of any shape.
      true_probability: True label probability 0..1 of the same shape.
      brain: Mask of the same shape; None for all voxels.
      band: Only voxels with a true probability strictly inside are scored.

    Returns:
      A float, 0 (the raters' own frequencies) to 1; nan where no voxel is left.

    Raises:
      ValueError: If shapes differ, a map value is not finite, or the band or a
        probability is out of range.

    >>> mean_absolute_error([0.5, 0.0, 1.0], [0.25, 0.25, 1.0])
    0.25
    """
    predicted, probability = _open_values(
        "probabilities", probabilities, true_probability, brain, band
    )
    if predicted.size == 0:
        return float("nan")
    return float(np.abs(predicted - probability).mean())


def _open_values(name, array, true_probability, brain, band):
    array = np.asarray(array)
    true_probability = np.asarray(true_probability)
    _checks.same_shape(name, array, "true_probability", true_probability)
    selected = uncertain_voxels(true_probability, brain, band=band)
    values = array[selected].astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"`{name}` must be finite where it is scored.")
    return values, true_probability[selected].astype(np.float64)
