"""The interval of a volume covers as many new draws as it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfp_uqseg.uncertainty import volumes


def test_nine_draws_by_hand():
    found = volumes.volume_statistics(np.arange(1.0, 10.0))
    assert found["volume_median_ml"] == 5.0
    assert found["volume_interval_ml"] == pytest.approx([1.0, 9.0])
    assert found["interval_level"] == 0.8
    spread = np.sqrt(60 / 9) / 5
    assert found["coefficient_of_variation"] == pytest.approx(spread)


@pytest.mark.parametrize("num_draws", [2, 5, 9, 20, 100])
def test_a_new_draw_falls_inside_as_often_as_the_level_says(num_draws):
    rng, inside, level = np.random.default_rng(0), [], None
    for _ in range(4000):
        found = volumes.volume_statistics(rng.normal(50, 5, num_draws))
        (low, high), level = found["volume_interval_ml"], found["interval_level"]
        inside.append(low <= rng.normal(50, 5) <= high)
    assert np.mean(inside) == pytest.approx(level, abs=0.02)


def test_a_hundred_draws_give_the_wider_level():
    found = volumes.volume_statistics(np.arange(1.0, 100.0))
    assert found["interval_level"] == 0.8
    found = volumes.volume_statistics(np.arange(1.0, 120.0))
    assert found["interval_level"] == 0.95
    assert found["volume_interval_ml"] == pytest.approx([3.0, 117.0])


def test_one_draw_has_no_interval():
    found = volumes.volume_statistics(np.array([3.0]))
    assert found["volume_interval_ml"] is found["interval_level"] is None


def test_an_absent_region_has_no_coefficient_of_variation():
    found = volumes.volume_statistics(np.zeros(5))
    assert found["coefficient_of_variation"] is None
    assert found["volume_interval_ml"] == [0.0, 0.0]
    assert json.dumps(found, allow_nan=False)
