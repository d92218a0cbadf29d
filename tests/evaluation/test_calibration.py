from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg.evaluation import calibration

VOXELS = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        hnp.arrays(bool, size),
        hnp.arrays(np.float64, size, elements=st.floats(0.0, 1.0)),
    )
)


def test_scores_by_hand():
    mask = np.array([[1, 0], [1, 0]])
    probabilities = np.array([[0.8, 0.4], [0.25, 0.0]])
    expected = -(np.log(0.8) + np.log(0.6) + np.log(0.25) + np.log(1.0)) / 4
    assert calibration.nll(mask, probabilities) == pytest.approx(expected)
    assert calibration.brier(mask, probabilities) == pytest.approx(
        (0.2**2 + 0.4**2 + 0.75**2) / 4
    )


def test_ece_by_hand():
    # Two bins: [0, .5) holds .1 and .3 with one hit; [.5, 1] holds .6, .8 and 1.
    mask = np.array([0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.3, 0.6, 0.8, 1.0])
    expected = 2 / 5 * abs(0.2 - 0.5) + 3 / 5 * abs(0.8 - 2 / 3)
    assert calibration.ece(mask, probabilities, num_bins=2) == pytest.approx(expected)


@given(VOXELS)
def test_scores_agree_with_scikit_learn(voxels):
    metrics = pytest.importorskip("sklearn.metrics")
    mask, probabilities = voxels
    assert calibration.brier(mask, probabilities) == pytest.approx(
        metrics.brier_score_loss(mask, probabilities, labels=[False, True])
    )
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    assert calibration.nll(mask, probabilities) == pytest.approx(
        metrics.log_loss(mask, clipped, labels=[False, True]), abs=1e-6
    )


def test_a_sure_and_right_answer_has_no_error_and_one_voxel_is_enough():
    mask = np.array([1, 0, 0, 1])
    for p, y in ((mask.astype(float), mask), (np.array([1.0]), np.array([1]))):
        assert calibration.ece(y, p) == calibration.ace(y, p) == 0.0
        assert calibration.mce(y, p) == calibration.brier(y, p) == 0.0
        assert calibration.nll(y, p) == pytest.approx(0.0, abs=1e-6)


def test_scores_agree_with_tfp():
    tfp = pytest.importorskip("tensorflow_probability")
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, 4000).astype(np.float32)
    mask = (rng.random(4000) < p**1.5).astype(np.int32)
    logits = np.stack([np.zeros_like(p), np.log(p / (1 - p))], axis=-1)
    ece = tfp.stats.expected_calibration_error(
        15, logits=logits, labels_true=mask, labels_predicted=np.ones_like(mask)
    )
    assert calibration.ece(mask, p, num_bins=15) == pytest.approx(float(ece), abs=1e-5)
    # TFP's score of two classes is twice ours, less one; it bins at one half.
    score = (np.mean(tfp.stats.brier_score(mask, logits)) + 1) / 2
    assert calibration.brier(mask, p) == pytest.approx(score, abs=1e-5)
    # (Its resolution takes the mean of the wrong axis and is not comparable.)
    uncertainty, _, _ = tfp.stats.brier_decomposition(mask, logits)
    parts = calibration.brier_parts(mask, p, num_bins=2)
    assert parts.uncertainty == pytest.approx((float(uncertainty) + 1) / 2, abs=1e-5)


def test_reliability_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(0)
    probabilities = rng.random(5000) ** 2
    mask = rng.random(5000) < probabilities**1.5
    frequency, mean_probability = sklearn.calibration_curve(
        mask, probabilities, n_bins=10
    )
    bins = calibration.reliability(mask, probabilities, num_bins=10)
    np.testing.assert_allclose(bins.frequency, frequency)
    np.testing.assert_allclose(bins.mean_probability, mean_probability)
    np.testing.assert_allclose(bins.edges, np.linspace(0, 1, 11))


@given(VOXELS)
def test_reliability_counts_every_voxel_once(voxels):
    bins = calibration.reliability(*voxels)
    assert bins.count.sum() == voxels[0].size
    np.testing.assert_array_equal(np.isnan(bins.frequency), bins.count == 0)
    assert 0.0 <= calibration.ece(*voxels) <= 1.0


def test_drawn_labels_are_calibrated_and_sharpened_probabilities_are_not():
    rng = np.random.default_rng(1)
    probabilities = rng.random(100_000)
    mask = rng.random(100_000) < probabilities
    assert calibration.ece(mask, probabilities) < 0.01
    assert calibration.ece(mask, probabilities > 0.5) > 0.2


def test_only_the_brain_is_scored():
    mask = np.array([1, 0, 1, 0])
    probabilities = np.array([0.9, 0.2, 0.0, 1.0])
    brain = np.array([1, 1, 0, 0])
    for score in (calibration.nll, calibration.brier, calibration.ece):
        assert score(mask, probabilities, brain) == score(mask[:2], probabilities[:2])


def test_a_sure_mistake_costs_a_finite_nll():
    sure = np.array([0.0, 1.0], dtype=np.float32)
    assert calibration.nll([1, 0], sure) == pytest.approx(-np.log(1e-7))
    assert calibration.nll([0, 1], sure) == 0.0


@pytest.mark.parametrize("score", ["nll", "brier", "ece", "reliability"])
def test_bad_input_is_an_error(score):
    score = getattr(calibration, score)
    with pytest.raises(ValueError, match=r"`probabilities` must lie in 0..1; got"):
        score([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match=r"`probabilities` must lie in 0..1; got"):
        score([0, 1], [0.5, np.nan])
    with pytest.raises(ValueError, match=r"`probabilities` must have the shape of"):
        score([0, 1], [0.5])
    with pytest.raises(ValueError, match=r"`brain` must have the shape of `mask`"):
        score([0, 1], [0.5, 0.5], [1, 1, 1])
    with pytest.raises(ValueError, match=r"`brain` must hold at least one voxel"):
        score([0, 1], [0.5, 0.5], [0, 0])
    with pytest.raises(ValueError, match=r"`mask` must hold 0 and 1 only"):
        score([0, 2], [0.5, 0.5])


def test_bins_must_be_a_positive_number():
    with pytest.raises(ValueError, match=r"`num_bins` must be a whole number above 0"):
        calibration.ece([0, 1], [0.5, 0.5], num_bins=0)


def test_average_and_maximum_errors_by_hand():
    # Two bins: [0, .5) holds .1 and .3 with one hit; [.5, 1] holds .6, .8 and 1.
    mask = np.array([0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.3, 0.6, 0.8, 1.0])
    gaps = [abs(0.2 - 0.5), abs(0.8 - 2 / 3)]
    assert calibration.ace(mask, probabilities, num_bins=2) == pytest.approx(
        np.mean(gaps)
    )
    assert calibration.mce(mask, probabilities, num_bins=2) == pytest.approx(max(gaps))


def test_bins_of_equal_mass_hold_as_many_voxels_each():
    # Four voxels a bin, two bins: means .15 and .85, frequencies .25 and 1.
    probabilities = np.array([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9])
    mask = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    options = {"num_bins": 2, "equal_mass": True}
    assert calibration.ace(mask, probabilities, **options) == pytest.approx(0.125)
    assert calibration.mce(mask, probabilities, **options) == pytest.approx(0.15)
    shuffled = np.random.default_rng(0).permutation(8)
    assert calibration.ace(
        mask[shuffled], probabilities[shuffled], **options
    ) == pytest.approx(0.125)


def test_constant_confidence_has_one_bin_however_they_are_cut():
    mask, probabilities = np.array([1, 0, 0, 0]), np.full(4, 0.6)
    for equal_mass in (False, True):
        for score in (calibration.ace, calibration.mce):
            found = score(mask, probabilities, equal_mass=equal_mass)
            assert found == pytest.approx(0.35)


@given(VOXELS)
def test_parts_of_the_brier_score_add_up(voxels):
    mask, probabilities = voxels
    parts = calibration.brier_parts(mask, probabilities, num_bins=5)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(calibration.brier(mask, probabilities), abs=1e-12)
    bins = np.minimum((probabilities * 5).astype(int), 4)
    binned = np.array([probabilities[bins == b].mean() for b in bins])
    assert whole - parts.within == pytest.approx(
        np.square(binned - mask).mean(), abs=1e-9
    )
    assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0.0


def test_pooled_bins_are_those_of_all_voxels():
    rng = np.random.default_rng(0)
    p, mask = rng.random(500), rng.random(500) < 0.4
    halves = [calibration.reliability(mask[i::2], p[i::2]) for i in range(2)]
    found, expected = calibration.pooled(*halves), calibration.reliability(mask, p)
    for name in ("mean_probability", "frequency", "count"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name))
    coarse = calibration.reliability(mask, p, num_bins=3)
    with pytest.raises(ValueError, match="edges"):
        calibration.pooled(found, coarse)
