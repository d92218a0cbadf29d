from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg.evaluation import discrimination, overlap

# Few different values, so that there are ties.
CASES = st.integers(2, 30).flatmap(
    lambda size: st.tuples(
        hnp.arrays(bool, size),
        hnp.arrays(np.float64, size, elements=st.sampled_from([0.0, 0.1, 0.5, 0.9])),
    )
)


@given(CASES)
def test_areas_are_those_of_scikit_learn(case):
    metrics = pytest.importorskip("sklearn.metrics")
    wrong, uncertainty = case
    if wrong.all() or not wrong.any():
        assert np.isnan(discrimination.auroc(wrong, uncertainty))
    else:
        assert discrimination.auroc(wrong, uncertainty) == pytest.approx(
            metrics.roc_auc_score(wrong, uncertainty)
        )
    if wrong.any():
        assert discrimination.aupr(wrong, uncertainty) == pytest.approx(
            metrics.average_precision_score(wrong, uncertainty)
        )
    else:
        assert np.isnan(discrimination.aupr(wrong, uncertainty))


def test_shifted_cases_are_told_from_plain_ones_with_an_interval():
    shifted, plain = [3.0, 1.0, 5.0], [0.0, 2.0]
    found = discrimination.shift_auroc(shifted, plain)
    assert found.mean == pytest.approx(5 / 6)  # of six pairs only (1, 2) is wrong
    which, values = [1, 1, 1, 0, 0], shifted + plain
    assert found.mean == pytest.approx(discrimination.auroc(which, values))
    assert 0.0 < found.low < found.mean < found.high == 1.0
    assert discrimination.shift_auroc(shifted, plain) == found
    alike = discrimination.shift_auroc([0.5] * 4, [0.5] * 9)
    assert alike == (0.5, 0.5, 0.5)


def test_the_interval_of_an_alarm_covers_its_true_chance():
    rng, covered = np.random.default_rng(0), 0
    truth = 0.7602499389065233  # P(N(1, 1) > N(0, 1))
    for seed in range(60):
        found = discrimination.shift_auroc(
            rng.normal(1, 1, 30), rng.normal(0, 1, 30), seed=seed
        )
        covered += found.low <= truth <= found.high
    assert covered >= 52


@pytest.mark.parametrize(
    ("shifted", "plain", "message"),
    [
        ([], [1.0], "`shifted` must hold one number per patient"),
        ([1.0], [np.nan], "`plain` must be finite"),
    ],
)
def test_an_alarm_needs_numbers_of_both_groups(shifted, plain, message):
    with pytest.raises(ValueError, match=message):
        discrimination.shift_auroc(shifted, plain)


def test_constant_uncertainty_says_nothing():
    wrong = np.array([1, 0, 0, 0])
    assert discrimination.auroc(wrong, np.ones(4)) == 0.5
    assert discrimination.aupr(wrong, np.ones(4)) == 0.25


def test_error_overlap_by_hand():
    mask, predicted = [[1, 1, 0, 0]], [[0, 1, 1, 0]]
    uncertainty = [[0.9, 0.8, 0.2, 0.1]]
    assert discrimination.error_overlap(mask, predicted, uncertainty, 0.5) == 0.5
    assert discrimination.error_overlap(mask, mask, uncertainty, 0.95) == 1.0
    assert discrimination.error_overlap(mask, mask, uncertainty, 0.5) == 0.0


@given(CASES, st.integers(2, 7))
def test_the_best_threshold_is_the_best_of_all_tried(case, count):
    wrong, uncertainty = case
    nothing = np.zeros(wrong.shape)
    found, threshold = discrimination.best_error_overlap(
        wrong, nothing, uncertainty, count
    )
    tried = np.linspace(uncertainty.min(), uncertainty.max(), count)
    expected = [overlap.dice(wrong, uncertainty > t) for t in tried]
    assert found == pytest.approx(max(expected))
    assert threshold == tried[int(np.argmax(expected))]


def test_pavpu_counts_right_and_sure_with_wrong_and_unsure():
    mask, predicted = np.array([1, 0, 0, 0]), np.array([0, 0, 0, 0])
    assert discrimination.pavpu(mask, predicted, [1, 0, 0, 0], 0.5) == 1.0
    assert discrimination.pavpu(mask, predicted, [0, 1, 1, 1], 0.5) == 0.0


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="`uncertainty` must have the shape"):
        discrimination.auroc([1, 0], [0.5])
    with pytest.raises(ValueError, match="`uncertainty` must be finite"):
        discrimination.auroc([1, 0], [0.5, np.nan])
    with pytest.raises(ValueError, match="at least one"):
        discrimination.pavpu([], [], [], 0.5)
