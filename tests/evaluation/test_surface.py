from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from medpy.metric import binary as medpy

from tfp_uqseg.evaluation import surface

SPACING = (1.0, 0.5, 2.0)


def blobs(seed, shape=(14, 16, 9)):
    rng = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    return field > np.quantile(field, 0.8)


def naive(mask, predicted_mask):
    """Every surface voxel against every other, by hand."""
    surfaces = []
    for each in (mask, predicted_mask):
        padded = np.pad(each, 1)
        inner = padded.copy()
        for axis in range(each.ndim):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)
        cut = (slice(1, -1),) * each.ndim
        surfaces.append(np.argwhere(each & ~inner[cut]) * SPACING)
    gaps = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    return gaps.min(1), gaps.min(0)


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_every_pair(seed):
    mask, other = blobs(seed), blobs(seed + 10)
    there, back = naive(mask, other)
    found = surface.distances(mask, other, SPACING)
    np.testing.assert_allclose(np.sort(found.to_predicted), np.sort(there))
    np.testing.assert_allclose(np.sort(found.to_reference), np.sort(back))
    pooled = np.concatenate([there, back])
    scores = surface.summary(mask, other, SPACING)
    assert scores["hd95"] == pytest.approx(np.percentile(pooled, 95))
    assert scores["average_distance"] == pytest.approx(pooled.mean())
    assert scores["surface_dice_1mm"] == pytest.approx((pooled <= 1.0).mean())
    assert scores["surface_dice_2mm"] == pytest.approx((pooled <= 2.0).mean())
    assert surface.hd95(mask, other, SPACING) == scores["hd95"]
    assert surface.average_distance(mask, other, SPACING) == scores["average_distance"]
    assert surface.surface_dice(mask, other, SPACING, 1.0) == scores["surface_dice_1mm"]


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_medpy(seed):
    mask, other = blobs(seed), blobs(seed + 10)
    assert surface.hd95(mask, other, SPACING) == pytest.approx(
        medpy.hd95(other, mask, voxelspacing=SPACING)
    )
    assert surface.average_distance(mask, other, SPACING) == pytest.approx(
        medpy.assd(other, mask, voxelspacing=SPACING)
    )


def test_a_far_shift_is_measured_in_mm_along_its_axis():
    mask = np.zeros((20, 20, 20), bool)
    mask[2:6, 2:6, 2:6] = True
    for axis, extent in enumerate(SPACING):
        moved = np.roll(mask, 10, axis)
        found = surface.distances(mask, moved, SPACING).all
        assert found.max() == pytest.approx(10 * extent)


def test_empty_masks_are_ruled_as_in_brats():
    empty, full = np.zeros((3, 3, 3)), np.ones((3, 3, 3))
    nothing = surface.summary(empty, empty, SPACING)
    assert nothing == {
        "hd95": 0.0,
        "average_distance": 0.0,
        "surface_dice_1mm": 1.0,
        "surface_dice_2mm": 1.0,
    }
    for pair in ((empty, full), (full, empty)):
        missed = surface.summary(*pair, SPACING)
        assert missed["hd95"] == missed["average_distance"] == 373.13
        assert missed["surface_dice_1mm"] == missed["surface_dice_2mm"] == 0.0


@given(st.integers(0, 1000))
def test_equal_masks_touch_everywhere(seed):
    mask = blobs(seed, (6, 7, 5))
    scores = surface.summary(mask, mask, SPACING)
    assert scores["hd95"] == scores["average_distance"] == 0.0
    assert scores["surface_dice_1mm"] == 1.0


def test_one_voxel_has_a_surface():
    mask, other = np.zeros((5, 5, 5)), np.zeros((5, 5, 5))
    mask[0, 0, 0] = other[0, 0, 4] = 1
    assert surface.hd95(mask, other, (1.0, 1.0, 3.0)) == 12.0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, np.inf, 1.0)])
def test_spacing_must_fit(spacing):
    with pytest.raises(ValueError, match="`spacing` must hold 3 lengths"):
        surface.distances(np.ones((2, 2, 2)), np.ones((2, 2, 2)), spacing)
