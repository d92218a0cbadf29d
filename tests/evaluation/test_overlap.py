from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg import _rulings
from tfp_uqseg.evaluation import overlap

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
MASK_PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def test_dice_and_iou_by_hand():
    mask = np.array([[1, 1, 1], [0, 0, 0]])
    predicted = np.array([[0, 1, 1], [1, 1, 0]])
    assert overlap.dice(mask, predicted) == pytest.approx(2 * 2 / (3 + 4))
    assert overlap.iou(mask, predicted) == pytest.approx(2 / 5)


def test_dice_of_two_empty_masks_is_one_and_of_one_empty_mask_zero():
    empty, full = np.zeros((2, 3)), np.ones((2, 3))
    for score in (overlap.dice, overlap.iou):
        assert score(empty, empty) == _rulings.DICE_BOTH_EMPTY
        assert score(empty, full) == _rulings.DICE_ONE_EMPTY
        assert score(full, empty) == _rulings.DICE_ONE_EMPTY


def test_axis_keeps_regions_apart():
    mask = np.zeros((4, 4, 2, 3), dtype=np.uint8)
    mask[:2, :, :, 0] = 1
    mask[:, :2, :, 1] = 1
    predicted = np.zeros_like(mask)
    predicted[:2, :, :, 0] = 1
    predicted[:, 1:3, :, 1] = 1
    np.testing.assert_allclose(
        overlap.dice(mask, predicted, axis=(0, 1, 2)), [1.0, 0.5, 1.0]
    )
    np.testing.assert_allclose(
        overlap.iou(mask, predicted, axis=(0, 1, 2)), [1.0, 1 / 3, 1.0]
    )
    np.testing.assert_array_equal(
        overlap.both_empty(mask, predicted, axis=(0, 1, 2)), [False, False, True]
    )


@given(MASK_PAIRS)
def test_overlap_agrees_with_scikit_learn(masks):
    metrics = pytest.importorskip("sklearn.metrics")
    mask, predicted = (each.ravel() for each in masks)
    if mask.any() or predicted.any():
        assert overlap.dice(mask, predicted) == pytest.approx(
            metrics.f1_score(mask, predicted, zero_division=0.0)
        )
        assert overlap.iou(mask, predicted) == pytest.approx(
            metrics.jaccard_score(mask, predicted, zero_division=0.0)
        )


@given(MASK_PAIRS)
def test_overlap_lies_in_the_unit_interval_and_is_symmetric(masks):
    mask, predicted = masks
    for score in (overlap.dice, overlap.iou):
        value = score(mask, predicted)
        assert 0.0 <= value <= 1.0
        assert value == score(predicted, mask)
        assert (value == 1.0) == bool(np.array_equal(mask, predicted))


@given(MASK_PAIRS)
def test_dice_follows_from_iou(masks):
    mask, predicted = masks
    iou = overlap.iou(mask, predicted)
    assert overlap.dice(mask, predicted) == pytest.approx(2 * iou / (1 + iou))


@given(MASK_PAIRS, st.randoms())
def test_overlap_does_not_depend_on_voxel_order(masks, random):
    mask, predicted = (each.ravel() for each in masks)
    order = list(range(mask.size))
    random.shuffle(order)
    assert overlap.dice(mask, predicted) == overlap.dice(mask[order], predicted[order])


@given(
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=4).flatmap(
        lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
    )
)
def test_per_image_is_the_mean_over_the_last_axis(masks):
    mask, predicted = masks
    images = range(mask.shape[2])
    score = overlap.per_image(mask, predicted)
    assert score.dice == pytest.approx(
        np.mean([overlap.dice(mask[..., i], predicted[..., i]) for i in images])
    )
    assert score.iou == pytest.approx(
        np.mean([overlap.iou(mask[..., i], predicted[..., i]) for i in images])
    )
    assert score.images == mask.shape[2]
    assert score.both_empty == sum(
        overlap.both_empty(mask[..., i], predicted[..., i]) for i in images
    )


def test_per_image_leaves_out_air_but_never_a_mask():
    mask = np.zeros((2, 2, 4), dtype=bool)
    predicted = np.zeros_like(mask)
    brain = np.zeros_like(mask)
    brain[..., 1:3] = True
    mask[0, 0, 1] = predicted[0, 0, 1] = True
    assert overlap.per_image(mask, predicted, brain=brain) == overlap.PerImage(
        dice=1.0, iou=1.0, images=2, both_empty=1
    )
    predicted[0, 0, 3] = True  # a false alarm outside the brain
    assert overlap.per_image(mask, predicted, brain=brain) == overlap.PerImage(
        dice=pytest.approx(2 / 3), iou=pytest.approx(2 / 3), images=3, both_empty=1
    )


def test_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"`predicted_mask` must have the shape of"):
        overlap.dice(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"`brain` must have the shape of `mask`"):
        overlap.per_image(
            np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), brain=np.ones((2, 2, 3))
        )


@pytest.mark.parametrize("wrong", [4, 0.5, np.nan, -1])
def test_a_value_that_is_neither_zero_nor_one_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"`mask` must hold 0 and 1 only; found"):
        overlap.iou(np.array([0, 1, wrong]), np.zeros(3))
    with pytest.raises(ValueError, match=r"`predicted_mask` must hold 0 and 1 only"):
        overlap.dice(np.zeros(3), np.array([0, 1, wrong]))


def test_per_image_wants_one_region_and_some_brain():
    with pytest.raises(ValueError, match=r"`mask` must be a volume .*\(2, 2, 2, 3\)"):
        overlap.per_image(np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 2, 3)))
    empty = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match=r"`brain` must hold at least one voxel"):
        overlap.per_image(empty, empty, brain=empty)


def test_sensitivity_precision_and_volume_by_hand():
    mask, predicted = np.array([[1, 1, 1, 0, 0]]), np.array([[1, 0, 0, 1, 0]])
    assert overlap.sensitivity(mask, predicted) == pytest.approx(1 / 3)
    assert overlap.precision(mask, predicted) == pytest.approx(1 / 2)
    assert overlap.volume_error(mask, predicted, 0.008) == pytest.approx(-0.008)
    empty = np.zeros((1, 5))
    for score in (overlap.sensitivity, overlap.precision):
        assert score(empty, empty) == 1.0
        assert score(empty, mask) == score(mask, empty) == 0.0
    with pytest.raises(ValueError, match="`voxel_volume_ml` must be finite and above"):
        overlap.volume_error(mask, mask, 0.0)
    with pytest.raises(ValueError, match="`predicted_mask` must have the shape"):
        overlap.volume_error(mask, mask[:, :2], 1.0)
