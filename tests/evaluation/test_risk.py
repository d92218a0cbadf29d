from __future__ import annotations

import itertools

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg.evaluation import discrimination, risk

CASES = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        hnp.arrays(np.float64, size, elements=st.sampled_from([0.0, 0.2, 0.7, 1.0])),
        hnp.arrays(np.float64, size, elements=st.floats(0.0, 1.0)),
    )
)


def test_areas_by_hand():
    found = risk.risk([0.3, 0.1, 0.2], [0.2, 1.0, 0.6])
    kept = [0.0, 0.2, 0.4]  # mean of 1 - score, the surest first
    assert found.aurc == pytest.approx(np.mean(kept))
    assert found.e_aurc == 0.0
    joint = [0.0, 0.0, 0.4 / 3, 1.2 / 3]
    assert found.augrc == pytest.approx(np.trapezoid(joint, [0.0, 1 / 3, 2 / 3, 1.0]))


def test_ties_are_the_mean_over_their_orders():
    scores = np.array([0.1, 0.9, 0.5])
    every = [
        risk.risk([0.0, 1.0, 2.0], scores[list(order)])
        for order in itertools.permutations(range(3))
    ]
    found = risk.risk([0.4, 0.4, 0.4], scores)
    np.testing.assert_allclose(found, np.mean(every, axis=0))


@given(CASES)
def test_the_excess_is_never_negative(case):
    found = risk.risk(*case)
    assert found.e_aurc >= 0.0
    assert 0.0 <= found.augrc <= found.aurc + 1e-12
    best = risk.risk(1.0 - case[1], case[1])
    assert best.e_aurc == pytest.approx(0.0, abs=1e-12)
    assert found.aurc == pytest.approx(best.aurc + found.e_aurc)


@given(CASES)
def test_augrc_of_right_and_wrong_has_a_closed_form(case):
    uncertainty, scores = case
    wrong = scores < 0.5
    if wrong.all() or not wrong.any():
        return
    share = wrong.mean()
    area = discrimination.auroc(wrong, uncertainty)
    expected = (1.0 - area) * share * (1.0 - share) + share**2 / 2
    assert risk.risk(uncertainty, ~wrong).augrc == pytest.approx(expected)


def test_referral_takes_the_least_sure():
    scores = np.array([0.9, 0.8, 0.1, 0.8, 0.9])
    assert risk.referral_gain([0, 0, 1, 0, 0], scores) == pytest.approx(0.85 - 0.7)
    assert risk.referral_gain([1, 0, 0, 0, 0], scores) == pytest.approx(0.65 - 0.7)
    assert risk.referral_gain(np.zeros(5), scores) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="must leave a case"):
        risk.referral_gain([0.5], [0.9])
