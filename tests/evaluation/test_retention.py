from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg.evaluation import retention


def test_the_most_uncertain_are_removed_first():
    found = retention.curve([0.4, 0.1, 0.3, 0.2], [0.0, 1.0, 0.5, 0.9])
    assert found.fraction.tolist() == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(found.score, [1.0, 0.95, 0.8, 0.6])


def test_the_best_order_removes_the_lowest_scores():
    found = retention.curve([0.1, 0.2, 0.3], [0.0, 0.6, 0.9])
    np.testing.assert_allclose(found.best, [0.9, 0.75, 0.5])


def test_items_of_equal_uncertainty_count_as_their_mean():
    found = retention.curve([0.5, 0.5, 0.9], [1.0, 0.0, 0.2])
    np.testing.assert_allclose(found.score, [0.5, 0.5, 0.4])


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


@given(pairs)
def test_no_order_beats_the_best_and_all_end_at_the_mean(items):
    uncertainty, scores = np.array(items).T
    found = retention.curve(uncertainty, scores)
    assert np.all(found.score <= found.best + 1e-12)
    np.testing.assert_allclose([found.score[-1], found.best[-1]], scores.mean())


@pytest.mark.parametrize(
    ("uncertainty", "scores", "message"),
    [
        ([], [], "`uncertainty` must hold one number per item"),
        ([[1.0]], [[1.0]], "`uncertainty` must hold one number per item"),
        ([1.0, 2.0], [1.0], "`scores` must have the shape of `uncertainty`"),
        ([float("nan")], [1.0], "`uncertainty` must be finite"),
        ([1.0], [float("inf")], "`scores` must be finite"),
    ],
)
def test_wrong_arguments_are_named(uncertainty, scores, message):
    with pytest.raises(ValueError, match=message):
        retention.curve(uncertainty, scores)
