from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tfp_uqseg.evaluation import truth


def test_spearman_is_one_for_any_rising_function_of_the_true_variance():
    probability = np.random.default_rng(0).random((6, 6, 3))
    variance = probability * (1 - probability)
    assert truth.spearman_of_aleatoric(variance**3, probability) == pytest.approx(1.0)
    assert truth.spearman_of_aleatoric(-variance, probability) == pytest.approx(-1.0)


def test_entropy_of_the_truth_ranks_like_its_variance():
    probability = np.random.default_rng(0).uniform(0.02, 0.98, 500)
    entropy = -probability * np.log(probability) - (1 - probability) * np.log(
        1 - probability
    )
    assert truth.spearman_of_aleatoric(entropy, probability) == pytest.approx(1.0)


def test_spearman_ranks_only_open_voxels_of_the_brain():
    rng = np.random.default_rng(1)
    probability = rng.random(200)
    probability[:50] = 0.0
    probability[50:60] = 0.01  # the band's ends are left out
    brain = rng.random(200) < 0.7
    aleatoric = rng.random(200)
    kept = brain & (probability > 0.01) & (probability < 0.99)
    expected = stats.spearmanr(
        aleatoric[kept], probability[kept] * (1 - probability[kept])
    ).statistic
    assert truth.spearman_of_aleatoric(aleatoric, probability, brain) == pytest.approx(
        expected
    )
    np.testing.assert_array_equal(truth.uncertain_voxels(probability, brain), kept)


def test_mean_absolute_error_by_hand():
    probability = np.array([0.0, 0.2, 0.6, 1.0])
    predicted = np.array([1.0, 0.4, 0.5, 0.0])
    assert truth.mean_absolute_error(predicted, probability) == pytest.approx(0.15)
    assert truth.mean_absolute_error(
        predicted, probability, np.array([1, 0, 1, 1])
    ) == pytest.approx(0.1)


def test_nothing_to_rank_is_nan_without_a_warning():
    assert np.isnan(truth.spearman_of_aleatoric([0.1, 0.2], [0.0, 1.0]))
    assert np.isnan(truth.spearman_of_aleatoric([0.1, 0.2], [0.3, 0.4]))
    assert np.isnan(truth.spearman_of_aleatoric([0.1] * 4, [0.2, 0.3, 0.4, 0.5]))
    assert np.isnan(truth.spearman_of_aleatoric([0.1, 0.2, 0.3], [0.2] * 3))
    assert np.isnan(truth.mean_absolute_error([0.1, 0.2], [0.0, 1.0]))


def test_bad_input_is_an_error():
    probability = np.array([0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match=r"`aleatoric_map` must have the shape of"):
        truth.spearman_of_aleatoric(np.zeros(2), probability)
    with pytest.raises(ValueError, match=r"`aleatoric_map` must be finite"):
        truth.spearman_of_aleatoric([0.1, np.nan, 0.2], probability)
    with pytest.raises(ValueError, match=r"`probabilities` must be finite"):
        truth.mean_absolute_error([0.1, np.inf, 0.2], probability)
    with pytest.raises(ValueError, match=r"`true_probability` must be finite and lie"):
        truth.mean_absolute_error(probability, [0.1, 0.2, 1.2])
    with pytest.raises(ValueError, match=r"`band` must be two probabilities"):
        truth.mean_absolute_error(probability, probability, band=(0.9, 0.1))
    with pytest.raises(ValueError, match=r"`brain` must have the shape of"):
        truth.mean_absolute_error(probability, probability, np.ones(2))
