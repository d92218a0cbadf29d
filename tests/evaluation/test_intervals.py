from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfp_uqseg.evaluation import intervals


def test_mean_interval_is_the_percentile_bootstrap():
    values = np.random.default_rng(3).beta(6, 2, size=20)
    rng = np.random.default_rng(11)
    means = rng.choice(values, size=(40_000, 20)).mean(axis=1)
    interval = intervals.mean_interval(values)
    assert interval.mean == pytest.approx(values.mean())
    np.testing.assert_allclose(
        (interval.low, interval.high), np.quantile(means, [0.025, 0.975]), atol=0.003
    )


def test_mean_interval_of_normal_values_is_near_the_textbook_one():
    values = np.random.default_rng(0).normal(5.0, 2.0, size=200)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    interval = intervals.mean_interval(values)
    np.testing.assert_allclose(
        interval, [values.mean(), values.mean() - half, values.mean() + half], atol=0.03
    )


def test_a_seed_reproduces_the_interval_and_patients_may_come_in_any_order():
    values = np.random.default_rng(1).random(9)
    assert intervals.mean_interval(values, seed=4) == intervals.mean_interval(
        values, seed=4
    )
    assert intervals.mean_interval(values, seed=4) != intervals.mean_interval(
        values, seed=5
    )
    np.testing.assert_allclose(
        intervals.mean_interval(values),
        intervals.mean_interval(values[::-1]),
        atol=0.01,
    )


def test_a_lower_level_is_narrower():
    values = np.random.default_rng(1).random(9)
    wide = intervals.mean_interval(values, level=0.95)
    narrow = intervals.mean_interval(values, level=0.5)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_one_patient_has_a_mean_and_no_interval():
    mean, low, high = intervals.mean_interval([0.7])
    assert mean == 0.7
    assert np.isnan([low, high]).all()


def test_equal_values_have_an_interval_of_width_zero():
    assert intervals.mean_interval([0.1] * 3) == (0.1, 0.1, 0.1)
    assert intervals.paired_difference([0.3, 0.9], [0.3, 0.9]) == (0.0, 0.0, 0.0)


def test_pairing_cancels_what_is_hard_for_both():
    hard = np.random.default_rng(2).random(12)
    gain = 0.05 + 0.001 * np.arange(12)
    paired = intervals.paired_difference(hard + gain, hard)
    assert paired.mean == pytest.approx(gain.mean())
    assert 0.05 < paired.low < paired.high < 0.061


def test_paired_difference_changes_sign_with_its_arguments():
    a, b = np.random.default_rng(5).random((2, 15))
    forward, backward = (
        intervals.paired_difference(a, b),
        intervals.paired_difference(b, a),
    )
    np.testing.assert_allclose(
        forward, [-backward.mean, -backward.high, -backward.low], atol=0.02
    )


def test_proportion_interval_is_wilsons():
    # Wilson 1927 for 8 of 10 at 95 %: 0.4902 to 0.9433.
    interval = intervals.proportion_interval([True] * 8 + [False] * 2)
    np.testing.assert_allclose(interval, [0.8, 0.4902, 0.9433], atol=5e-4)


def test_all_hits_do_not_claim_certainty():
    interval = intervals.proportion_interval(np.ones(12))
    assert interval.mean == interval.high == 1.0
    assert interval.low < 0.8


@pytest.mark.parametrize("values", [[], [[0.1, 0.2]], 0.3])
def test_values_must_be_one_number_per_patient(values):
    with pytest.raises(ValueError, match=r"`values` must hold one number per patient"):
        intervals.mean_interval(values)
    with pytest.raises(ValueError, match=r"`hits` must hold one number per patient"):
        intervals.proportion_interval(values)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_must_be_finite(wrong):
    with pytest.raises(ValueError, match=r"`values` must be finite; found"):
        intervals.mean_interval([0.5, wrong])
    with pytest.raises(ValueError, match=r"`other_values` must be finite; found"):
        intervals.paired_difference([0.5, 0.5], [0.5, wrong])


def test_pairs_must_match():
    with pytest.raises(ValueError, match=r"same patients as `values`, 2; got 3"):
        intervals.paired_difference([1, 2], [1, 2, 3])


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_level_must_lie_between_zero_and_one(level):
    with pytest.raises(ValueError, match=r"`level` must lie between 0 and 1"):
        intervals.mean_interval([0.1, 0.2], level=level)
    with pytest.raises(ValueError, match=r"`level` must lie between 0 and 1"):
        intervals.proportion_interval([0, 1], level=level)


def test_hits_must_be_zero_or_one():
    with pytest.raises(ValueError, match=r"`hits` must hold 0 and 1 only"):
        intervals.proportion_interval([0.5, 1.0])


def test_an_unpaired_difference_resamples_each_group():
    ends = intervals.unpaired_difference([1.0, 2.0, 3.0, 4.0], [0.0, 0.0])
    assert ends.mean == 2.5
    assert 1.0 < ends.low < 2.5 < ends.high < 4.0
    again = intervals.unpaired_difference([1.0, 2.0, 3.0, 4.0], [0.0, 0.0])
    assert again == ends


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    values = rng.normal(size=12)
    other = values + rng.normal(size=12)
    for ranks, function in ((False, stats.pearsonr), (True, stats.spearmanr)):
        ends = intervals.correlation(values, other, ranks=ranks)
        assert ends.mean == pytest.approx(function(values, other).statistic)
        assert -1.0 <= ends.low < ends.mean < ends.high <= 1.0


def test_what_does_not_vary_has_no_correlation():
    ends = intervals.correlation([0.1, 0.1, 0.1], [1.0, 2.0, 3.0])
    assert np.isnan(ends).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.unpaired_difference([1.0], [1.0, 2.0]), "at least 2 pat"),
        (
            lambda: intervals.unpaired_difference([1.0, 2.0], [1.0]),
            "`other_values` must hold at least 2 patients; got 1",
        ),
        (lambda: intervals.correlation([1.0, 2.0], [1.0, 2.0]), "at least 3 patients"),
        (
            lambda: intervals.correlation([1.0, 2.0, 3.0], [1.0, 2.0]),
            "`other_values` must hold the same patients as `values`, 3; got 2",
        ),
    ],
)
def test_too_few_patients_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_permutation_test_is_scipys():
    rng = np.random.default_rng(0)
    for size in (5, 12, 40):
        one, other = rng.normal(0.2, 1.0, size), rng.normal(0.0, 1.0, size)
        expected = stats.permutation_test(
            (one, other),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=20000 if size > 13 else np.inf,
            rng=np.random.default_rng(1),
        ).pvalue
        found = intervals.paired_test(one, other)
        assert found == pytest.approx(expected, abs=1e-12 if size <= 13 else 0.02)


def test_equal_methods_have_a_p_value_of_one():
    assert intervals.paired_test([0.5, 0.7], [0.5, 0.7]) == 1.0
    with pytest.raises(ValueError, match=r"`values` must have the shape"):
        intervals.paired_test([0.5], [0.5, 0.7])


def test_one_patient_decides_nothing_between_two_methods():
    assert intervals.paired_test([0.9], [0.1]) == 1.0
    found = intervals.paired_difference([0.9], [0.4])
    assert found.mean == pytest.approx(0.5)
    assert np.isnan([found.low, found.high]).all()
