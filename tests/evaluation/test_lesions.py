from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg.evaluation import lesions, overlap

SPACING = (1.0, 1.0, 1.0)


def boxes(*corners, size=5, shape=(48, 24, 24)):
    mask = np.zeros(shape, bool)
    for corner in corners:
        mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


def test_every_lesion_counts_the_same():
    mask = boxes((2, 2, 2), (30, 10, 10))
    predicted = boxes((2, 2, 2), (30, 10, 12))
    found = lesions.lesion_wise(mask, predicted, SPACING)
    second = overlap.dice(boxes((30, 10, 10)), boxes((30, 10, 12)))
    assert found.dice == pytest.approx((1.0 + second) / 2)
    assert found.hd95 == pytest.approx(1.0, abs=1.0)
    assert (found.lesions, found.missed, found.false_alarms) == (2, 0, 0)


def test_a_missed_lesion_and_a_false_alarm_count_nothing():
    mask = boxes((2, 2, 2), (30, 10, 10))
    predicted = boxes((2, 2, 2), (15, 16, 16))
    found = lesions.lesion_wise(mask, predicted, SPACING)
    assert found.dice == pytest.approx(1 / 3)
    assert found.hd95 == pytest.approx(2 * 373.13 / 3)
    assert (found.lesions, found.missed, found.false_alarms) == (2, 1, 1)


def test_pieces_close_to_each_other_are_one_lesion():
    near = boxes((2, 2, 2), (10, 2, 2))  # three voxels between them
    found = lesions.lesion_wise(near, boxes((2, 2, 2)), SPACING)
    assert (found.lesions, found.missed) == (1, 0)
    assert found.dice == pytest.approx(2 / 3)
    apart = lesions.lesion_wise(near, boxes((2, 2, 2)), SPACING, dilations=0)
    assert (apart.lesions, apart.missed) == (2, 1)


def test_components_that_touch_at_a_corner_are_one():
    mask = boxes((2, 2, 2), (7, 7, 7))
    found = lesions.lesion_wise(mask, mask, SPACING, dilations=0)
    assert (found.lesions, found.dice) == (1, 1.0)


def test_small_lesions_count_neither_as_found_nor_as_alarms():
    mask = boxes((2, 2, 2), size=3)  # 27 mm^3
    found = lesions.lesion_wise(mask, mask, SPACING)
    assert (found.lesions, found.false_alarms, found.dice) == (0, 0, 1.0)
    larger = lesions.lesion_wise(mask, mask, (2.0, 1.0, 1.0))  # 54 mm^3
    assert (larger.lesions, larger.dice) == (1, 1.0)


def test_nothing_there_and_nothing_found():
    empty = np.zeros((8, 8, 8))
    found = lesions.lesion_wise(empty, empty, SPACING)
    assert (found.dice, found.hd95, found.lesions) == (1.0, 0.0, 0)
    alarm = lesions.lesion_wise(empty, boxes((1, 1, 1), shape=(8, 8, 8)), SPACING)
    assert (alarm.dice, alarm.hd95, alarm.false_alarms) == (0.0, 373.13, 1)


def test_one_component_may_belong_to_two_lesions():
    mask = boxes((2, 2, 2), (20, 2, 2))
    bridge = mask.copy()
    bridge[2:25, 3, 3] = True
    found = lesions.lesion_wise(mask, bridge, SPACING)
    expected = overlap.dice(boxes((2, 2, 2)), bridge)
    assert found.dice == pytest.approx(expected)
    assert found.false_alarms == 0


def test_volumes_alone_have_lesions():
    with pytest.raises(ValueError, match=r"volume of shape \(X, Y, Z\)"):
        lesions.lesion_wise(np.ones((4, 4)), np.ones((4, 4)), (1.0, 1.0))
    with pytest.raises(ValueError, match="must hold 0 and 1"):
        lesions.lesion_wise(np.full((4, 4, 4), 2), np.ones((4, 4, 4)), SPACING)
