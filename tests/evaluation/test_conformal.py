from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg.evaluation import conformal

GRID = np.linspace(1.0, 0.0, 101)


def shares_of(patients, rng):
    """Shares missed by every threshold in patients of very different kinds."""
    shares = []
    for _ in range(patients):
        sharpness = rng.gamma(2.0, 2.0) + 0.3
        found = rng.beta(sharpness, 1.0, size=60)
        shares.append(conformal.missed_shares(np.ones(60), found, GRID))
    return np.array(shares)


def test_missed_shares_by_hand():
    found = conformal.missed_shares(
        [[1, 1], [1, 0]], [[0.9, 0.5], [0.1, 1.0]], [1.0, 0.5, 0.2, 0.0]
    )
    np.testing.assert_allclose(found, [1.0, 1 / 3, 1 / 3, 0.0])
    assert not conformal.missed_shares([0, 0], [0.5, 0.5]).any()


@pytest.mark.parametrize("patients", [4, 9, 25])
def test_the_expected_share_missed_is_bounded_over_many_cohorts(patients):
    rng, alpha, missed = np.random.default_rng(patients), 0.2, []
    for _ in range(1500):
        shares = shares_of(patients + 1, rng)
        found = conformal.expected_risk(shares[:-1], alpha, GRID)
        missed.append(shares[-1, np.flatnonzero(GRID == found.value)[0]])
    error = np.std(missed) / np.sqrt(len(missed))
    assert np.mean(missed) <= alpha + 2 * error
    # Not by missing nothing at all: the bound is slack by less than 1 / (n + 1).
    if patients > 4:
        assert np.mean(missed) > alpha - 1.0 / (patients + 1) - 0.03


def test_the_mean_share_missed_is_bounded_in_most_cohorts():
    rng, alpha, delta = np.random.default_rng(1), 0.1, 0.2
    truth = shares_of(20000, rng).mean(axis=0)
    broken, missed = 0, []
    for _ in range(600):
        found = conformal.confident_risk(shares_of(40, rng), alpha, delta, GRID)
        missed.append(truth[np.flatnonzero(GRID == found.value)[0]])
        broken += missed[-1] > alpha
    assert broken / 600 <= delta
    assert np.mean(missed) > 0.2 * alpha


def test_the_p_value_of_one_miss_in_forty_is_that_of_the_formula():
    """min(exp(-n h(m, alpha)), e P(Bin(n, alpha) <= ceil(n m))) = 0.176."""
    one_missed = [[1.0, 0.0, 0.0]] + [[0.0, 0.0, 0.0]] * 39
    thresholds = [1.0, 0.5, 0.0]
    for delta, value in ((0.17, 0.5), (0.18, 1.0)):
        found = conformal.confident_risk(one_missed, 0.1, delta, thresholds)
        assert found.value == value


def test_the_confident_threshold_is_the_more_generous():
    shares = shares_of(60, np.random.default_rng(3))
    expected = conformal.expected_risk(shares, 0.1, GRID)
    confident = conformal.confident_risk(shares, 0.1, 0.05, GRID)
    assert confident.value < expected.value
    assert (expected.delta, confident.delta) == (None, 0.05)
    assert expected.patients == 60
    assert expected.missed <= 0.1


def test_too_few_patients_are_refused():
    nothing_missed = np.zeros((30, GRID.size))
    for alpha, least in ((0.1, 9), (0.05, 19), (0.3, 3)):
        assert conformal.fewest_patients(alpha) == least
        conformal.expected_risk(nothing_missed[:least], alpha, GRID)
        with pytest.raises(ValueError, match=f"at least {least} patients"):
            conformal.expected_risk(nothing_missed[: least - 1], alpha, GRID)
    assert conformal.fewest_patients(0.1, 0.1) == 22
    conformal.confident_risk(nothing_missed[:22], 0.1, 0.1, GRID)
    with pytest.raises(ValueError, match="at least 22 patients"):
        conformal.confident_risk(nothing_missed[:21], 0.1, 0.1, GRID)


def test_with_as_many_as_needed_and_nothing_missed_the_strictest_threshold_is_found():
    nothing_missed = np.zeros((9, GRID.size))
    assert conformal.expected_risk(nothing_missed, 0.1, GRID).value == 1.0


def test_shares_must_fall():
    rising = np.tile(np.linspace(0.0, 1.0, GRID.size), (30, 1))
    with pytest.raises(ValueError, match="`shares` must fall"):
        conformal.expected_risk(rising, 0.1, GRID)
    with pytest.raises(ValueError, match="`thresholds` must descend"):
        conformal.missed_shares([1], [0.5], [0.0, 1.0])
    with pytest.raises(ValueError, match="one row per patient"):
        conformal.confident_risk(np.zeros((30, 3)), 0.1, 0.1, GRID)
