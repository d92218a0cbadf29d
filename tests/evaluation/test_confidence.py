from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg.evaluation import confidence

MAP = np.array([[0.1, 0.2], [0.3, 0.4]])


def test_sums_and_means_by_hand():
    assert confidence.total(MAP) == pytest.approx(1.0)
    assert confidence.total(MAP, [[1, 0], [0, 1]]) == pytest.approx(0.5)
    assert confidence.mean_over_region(MAP, [[0, 1], [0, 1]]) == pytest.approx(0.3)
    assert confidence.mean_over_region(MAP, np.zeros((2, 2))) == pytest.approx(0.25)


def test_the_worst_patch_is_found_wherever_it_lies():
    field = np.zeros((20, 30, 10))
    field[3:6, 20:23, 4:7] = 0.6
    assert confidence.patch_maximum(field, 3) == pytest.approx(0.6)
    assert confidence.patch_maximum(field, 5) == pytest.approx(0.6 * 27 / 125)
    assert confidence.patch_maximum(field, (3, 3, 1)) == pytest.approx(0.6)
    assert confidence.patch_maximum(np.zeros((4, 4)), 3) == 0.0


def test_volume_variation_by_hand():
    assert confidence.volume_variation([2.0, 4.0, 6.0]) == pytest.approx(
        np.sqrt(8 / 3) / 4
    )
    assert confidence.volume_variation([0.0, 0.0]) == 0.0
    with pytest.raises(ValueError, match="at least two"):
        confidence.volume_variation([1.0])


def test_disagreement_of_draws():
    one, other = [1, 1, 0, 0], [0, 1, 1, 0]
    assert confidence.disagreement([one, one]) == 0.0
    assert confidence.disagreement([one, other]) == pytest.approx(0.5)
    assert confidence.disagreement([one, one, other]) == pytest.approx(1 / 3)
    assert confidence.disagreement([[0, 0], [0, 0]]) == 0.0  # all find nothing
    with pytest.raises(ValueError, match="at least two"):
        confidence.disagreement([one])


@pytest.mark.parametrize("value", [np.nan, -0.1, np.inf])
def test_maps_are_finite_and_not_negative(value):
    with pytest.raises(ValueError, match="`uncertainty` must be finite"):
        confidence.total([0.1, value])
