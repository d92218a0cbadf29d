"""Raters whose disagreement has a probability known in closed form.

A rater draws three outlines: the oedema's, the core's and the necrosis'. Outline b is
the set of voxels where

    margin_b(x) + noise_b(x) > 0,    margin_b = signed distance / local width,
    noise_b(x) = sqrt(s) * bias_b + sqrt(1 - s) * field_b(x),

with bias_b ~ N(0, 1) one number per rater (a generous or a sparing hand), field_b a
Gaussian field of variance exactly 1 (a wandering hand) and s the share of
the bias. Outlines, raters and cases are independent. noise_b(x) ~ N(0, 1) at every
voxel, so outline b covers x with probability q_b = Phi(margin_b(x)), and the rater's
regions and their marginal probabilities are

    TC = core                       p_TC = q_core
    WT = oedema or core             p_WT = 1 - (1 - q_oedema) * (1 - q_core)
    ET = core and not necrosis      p_ET = q_core * (1 - q_necrosis)

The regions are nested for every rater, and so are the probabilities. A voxel whose
q_core or q_oedema is below 1e-4 is left out of that outline by every rater, and counts
as probability 0.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tfp_uqseg.data import phantom_fields, phantom_tumour

#: Share of a rater's variance that is one bias for the whole outline.
BIAS_SHARE = 0.2
#: Correlation length of the wandering hand, mm.
HAND_MM = 5.0
#: Below this probability nobody draws.
SMALLEST_PROBABILITY = 1e-4


def true_probability(tumour: phantom_tumour.Tumour) -> np.ndarray:
    """Return the probability that a rater marks each voxel.

    Args:
        tumour: outlines on the grid (X, Y, Z).

    Returns:
        float32 (X, Y, Z, 3), regions WT, TC, ET, in 0..1.
    """
    box = _reach(tumour)
    oedema, core, necrosis = (_covered(m) for m in _margins(tumour, box))
    probability = np.zeros((*tumour.core.distance.shape, 3), np.float32)
    whole = 1 - (1 - oedema) * (1 - core)
    probability[box] = np.stack([whole, core, core * (1 - necrosis)], axis=-1)
    return probability


def draw(
    tumour: phantom_tumour.Tumour,
    spacing: tuple[float, float, float],
    num_raters: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw independent raters' label maps.

    Args:
        tumour: outlines on the grid (X, Y, Z).
        spacing: voxel size, mm.
        num_raters: number of raters R.
        rng: source of randomness.

    Returns:
        uint8 (X, Y, Z, R), BraTS 2018 ids: 2 oedema, 1 necrosis, 4 enhancing rim.
    """
    box = _reach(tumour)
    margins = _margins(tumour, box)
    labels = np.zeros((*tumour.core.distance.shape, num_raters), np.uint8)
    for rater in range(num_raters):
        fields = phantom_fields.gaussian_fields(
            rng, margins[0].shape, spacing, HAND_MM, 3
        )
        biases = rng.standard_normal(3).astype(np.float32)
        oedema, core, necrosis = (
            _outline(margin, bias, field)
            for margin, bias, field in zip(margins, biases, fields, strict=True)
        )
        drawn = np.where(core, np.where(necrosis, 1, 4), np.where(oedema, 2, 0))
        labels[..., rater][box] = drawn
    return labels


def consensus(probability: np.ndarray) -> np.ndarray:
    """Return the label map of what more than half of all raters would mark.

    Args:
        probability: (X, Y, Z, 3), regions WT, TC, ET.

    Returns:
        uint8 (X, Y, Z), ids 0, 1, 2, 4.
    """
    whole, core, enhancing = np.moveaxis(probability > 0.5, -1, 0)
    labels = np.where(core, np.where(enhancing, 4, 1), np.where(whole, 2, 0))
    return labels.astype(np.uint8)


def _outline(margin, bias, field) -> np.ndarray:
    noise = math.sqrt(BIAS_SHARE) * bias + math.sqrt(1 - BIAS_SHARE) * field
    return (margin + noise > 0) & (margin > _smallest_margin())


def _covered(margin) -> np.ndarray:
    covered = special.ndtr(margin)
    return np.where(margin > _smallest_margin(), covered, 0).astype(np.float32)


def _smallest_margin() -> float:
    return float(special.ndtri(SMALLEST_PROBABILITY))


def _margins(tumour, box) -> list[np.ndarray]:
    borders = (tumour.oedema, tumour.core, tumour.necrosis)
    return [border.margin()[box] for border in borders]


def _reach(tumour) -> tuple[slice, ...]:
    """Return the box outside which nobody draws."""
    marked = tumour.oedema.margin() > _smallest_margin()
    marked |= tumour.core.margin() > _smallest_margin()
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(marked.any(axis=others))
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 1))
    return tuple(sides)
