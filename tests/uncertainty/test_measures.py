from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate, special
from scipy import stats as scipy_stats

from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.uncertainty import measures

STACKS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
    elements=st.floats(0.0, 1.0),
)


@given(STACKS)
def test_variances_add_up_to_the_total_variance(p):
    mean = measures.mean_probabilities(p)
    total = measures.aleatoric_variance(p) + measures.epistemic_variance(p)
    np.testing.assert_allclose(total, mean * (1 - mean), atol=1e-12)


@given(STACKS)
def test_entropies_add_up_and_stay_in_range(p):
    total, expected = measures.predictive_entropy(p), measures.expected_entropy(p)
    information = measures.mutual_information(p)
    np.testing.assert_allclose(expected + information, total, atol=1e-9)
    assert np.all(information >= 0.0)
    assert np.all(total <= measures.MAX_ENTROPY + 1e-12)


def test_entropy_agrees_with_scipy():
    p = np.linspace(0, 1, 21)
    expected = [scipy_stats.entropy([q, 1 - q]) for q in p]
    np.testing.assert_allclose(measures.binary_entropy(p), expected, atol=1e-12)


def test_variance_between_draws_agrees_with_tfp_stats():
    p = np.random.default_rng(0).random((6, 4, 3))
    np.testing.assert_allclose(
        measures.epistemic_variance(p), tfp.stats.variance(tf.constant(p)), atol=1e-12
    )


def test_draws_that_agree_have_no_epistemic_part():
    p = np.full((4, 3), 0.3)
    np.testing.assert_allclose(measures.mutual_information(p), 0.0, atol=1e-12)
    np.testing.assert_allclose(measures.epistemic_variance(p), 0.0, atol=1e-12)


def test_sure_draws_that_disagree_have_no_aleatoric_part():
    p = np.array([[0.0], [1.0]])
    assert measures.expected_entropy(p) == 0.0
    assert measures.mutual_information(p) == pytest.approx(np.log(2))
    assert measures.scaled_uncertainty(measures.predictive_entropy(p)) == 100.0


@pytest.mark.parametrize("stddev", [0.1, 0.5, 1.0, 2.0, 3.0, 6.0])
def test_expected_sigmoid_is_the_integral(stddev):
    means = np.linspace(-8, 8, 33)
    exact = [
        integrate.quad(
            lambda x, m=m: special.expit(m + stddev * x) * scipy_stats.norm.pdf(x),
            -12,
            12,
        )[0]
        for m in means
    ]
    tolerance = 1e-3 if stddev <= 2 else 0.02
    found = measures.expected_sigmoid(means, np.full_like(means, stddev))
    np.testing.assert_allclose(found, exact, atol=tolerance)
    loc = tf.constant(means, tf.float32)
    spread = tf.fill(loc.shape, stddev)
    normal = tfp.distributions.Normal(loc, spread)
    p, log_p, log_not_p = logits_module.probabilities_and_logs(normal)
    np.testing.assert_allclose(p, found, atol=1e-5)
    np.testing.assert_allclose(tf.exp(log_p), found, atol=1e-5)
    np.testing.assert_allclose(tf.exp(log_p) + tf.exp(log_not_p), 1.0, atol=1e-5)


@pytest.mark.parametrize("stddev", [0.05, 0.5, 1.5])
def test_logarithms_are_continuous_where_the_tail_begins(stddev):
    loc = tf.constant([11.99, 12.01, -11.99, -12.01])
    normal = tfp.distributions.Normal(loc, tf.fill([4], stddev))
    for log in logits_module.probabilities_and_logs(normal)[1:]:
        assert log[0].numpy() == pytest.approx(log[1].numpy(), rel=0.02, abs=1e-4)
        assert log[2].numpy() == pytest.approx(log[3].numpy(), rel=0.02, abs=1e-4)


def test_far_logits_keep_a_gradient():
    loc = tf.Variable([-200.0, 200.0, 0.0])
    with tf.GradientTape() as tape:
        normal = tfp.distributions.Normal(loc, tf.fill([3], 0.5))
        total = tf.reduce_sum(logits_module.probabilities_and_logs(normal)[1])
    gradient = tape.gradient(total, loc).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0] > 0.5
