"""The data losses by hand, on images small enough for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, special, stats

from tfp_uqseg import losses
from tfp_uqseg.layers import logits as logits_module

tfd = tfp.distributions

#: Two images of two voxels and one region; the second has no tumour.
MASKS = np.array([[[[1.0], [0.0]]], [[[0.0], [0.0]]]], np.float32)
PROBABILITIES = np.array([[[[0.8], [0.4]]], [[[0.5], [0.1]]]], np.float32)
LOGITS = special.logit(PROBABILITIES)


def test_cross_entropy_is_the_mean_over_voxels():
    expected = [
        -(math.log(0.8) + math.log(0.6)) / 2,
        -(math.log(0.5) + math.log(0.9)) / 2,
    ]
    np.testing.assert_allclose(losses.cross_entropy(MASKS, LOGITS), expected, rtol=1e-5)


def test_soft_dice_is_smoothed_by_one():
    expected = [[(2 * 0.8 + 1) / (1 + 1.2 + 1)], [1 / (0.6 + 1)]]
    np.testing.assert_allclose(losses.soft_dice(MASKS, LOGITS), expected, rtol=1e-5)


def test_an_empty_mask_answered_by_nothing_scores_one():
    found = losses.soft_dice(np.zeros([1, 2, 2, 1]), np.full([1, 2, 2, 1], -40.0))
    np.testing.assert_allclose(found, [[1.0]])


def test_equation_18_weighs_the_two():
    dice, entropy = (
        losses.soft_dice(MASKS, LOGITS).numpy()[:, 0],
        losses.cross_entropy(MASKS, LOGITS).numpy(),
    )
    expected = np.mean(0.9 * (1 - dice) + 0.1 * entropy)
    assert losses.DiceCrossEntropy()(MASKS, LOGITS).numpy() == pytest.approx(expected)
    other = losses.DiceCrossEntropy(0.0, 1.0)(MASKS, LOGITS).numpy()
    assert other == pytest.approx(losses.CrossEntropy()(MASKS, LOGITS).numpy())


def test_integer_labels_are_refused_with_advice():
    with pytest.raises(ValueError, match="labels become masks with"):
        losses.cross_entropy(np.zeros([1, 2, 2]), np.zeros([1, 2, 2, 3]))


def exact(loc, stddev):
    """Return E[sigmoid] of a normal logit by adaptive quadrature."""
    density = stats.norm(loc, stddev).pdf
    width = 12 * stddev
    return integrate.quad(
        lambda x: special.expit(x) * density(x), loc - width, loc + width, limit=400
    )[0]


@pytest.mark.parametrize("stddev", [0.1, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("loc", [-15.0, -9.0, -4.6, -1.0, 0.0, 2.0, 6.0, 13.0])
def test_log_probabilities_are_those_of_the_integral(loc, stddev):
    logits = logits_module.gaussian(
        tf.fill([1, 1, 1, 1], loc), tf.fill([1] * 4, stddev)
    )
    p, log_p, log_not_p = (
        float(tf.squeeze(value))
        for value in logits_module.probabilities_and_logs(logits)
    )
    assert p == pytest.approx(exact(loc, stddev), abs=1e-3)
    assert log_p == pytest.approx(math.log(exact(loc, stddev)), abs=0.05)
    assert log_not_p == pytest.approx(math.log(exact(-loc, stddev)), abs=0.05)


@pytest.mark.parametrize("stddev", [3.0, 10.0, 20.0])
@pytest.mark.parametrize("loc", [-12.5, -11.9, 11.9, 12.5])
def test_wide_logits_keep_their_two_probabilities_complementary(loc, stddev):
    logits = tfd.Normal(tf.constant(loc), tf.constant(stddev))
    p, log_p, log_not_p = logits_module.probabilities_and_logs(logits)
    assert float(tf.exp(log_p) + tf.exp(log_not_p)) == pytest.approx(1.0, abs=1e-4)
    assert float(p) == pytest.approx(exact(loc, stddev), abs=0.02)


def test_a_networks_logits_stay_where_the_quadrature_holds():
    parameters = tf.constant([[[[0.0, 50.0]]]])
    spread = logits_module.GaussianLogits()(parameters).stddev().numpy()
    assert spread.item() == pytest.approx(2.0, abs=1e-3)
