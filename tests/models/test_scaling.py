"""Scaled logits: saved with the network, coherent over draws, found again."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tf_keras

from tfp_uqseg import models
from tfp_uqseg.evaluation import calibration, scaling
from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.uncertainty import draws

IMAGES = np.random.default_rng(0).normal(size=(3, 16, 16, 2)).astype(np.float32)
SCALINGS = [scaling.Scaling(0.5, 0.0), scaling.Scaling(2.0, -1.0)]
METHODS = ["deterministic", "flipout", "latent", "deep_ensemble"]


def build(method):
    return models.build(
        method,
        input_shape=(None, None, 2),
        num_regions=2,
        num_train_examples=5,
        base_filters=2,
        depth=2,
        num_members=2,
        initial_probability=0.3,
        seed=3,
    )


def by_hand(model, scalings, num_draws, inner):
    """Mean over draws of E[sigmoid(slope * logit + shift)], node by node."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    slope = np.array([each.slope for each in scalings])
    shift = np.array([each.shift for each in scalings])
    found = []
    for draw in range(num_draws):
        for i in range(inner):
            loc, stddev = draws.logits(model, IMAGES, draw, latent_draw=i)
            spread = np.multiply.outer(nodes, slope * stddev)
            p = scipy.special.expit(slope * loc + shift + spread)
            found.append(np.tensordot(weights, p, 1))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_draw_is_scaled_and_their_mean_with_them(method):
    model = build(method)
    other = models.scaling.scaled(model, SCALINGS)
    number = 2 if method == "deep_ensemble" else 3
    expected = by_hand(model, SCALINGS, number, 4 if method == "latent" else 1)
    asked = 1 if method == "deep_ensemble" else 3  # of each member
    found = draws.predict(other, IMAGES, asked).mean_probabilities
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert models.scaling.of(model) is None
    assert models.scaling.of(other) == [[0.5, 0.0], [2.0, -1.0]]


def test_a_saved_network_keeps_its_scaling(tmp_path):
    model = models.scaling.scaled(build("flipout"), SCALINGS)
    model.save(tmp_path / "m.keras")
    again = tf_keras.models.load_model(tmp_path / "m.keras")
    assert models.scaling.of(again) == models.scaling.of(model)
    one, other = (
        draws.predict(m, IMAGES, 2).mean_probabilities for m in (model, again)
    )
    np.testing.assert_array_equal(one, other)
    plain = models.scaling.scaled(again, None)
    assert models.scaling.of(plain) is None
    there = models.in_precision(again, "bfloat16")
    assert models.scaling.of(there) == models.scaling.of(model)


@pytest.mark.parametrize("method", ["flipout", "latent"])
def test_a_fit_undoes_a_wrong_temperature(method):
    model = build(method)
    rng = np.random.default_rng(1)
    truth = models.scaling.scaled(model, [scaling.Scaling(1.0, 0.5)] * 2)
    patients = []
    for _ in range(3):
        images = rng.normal(size=(8, 32, 32, 2)).astype(np.float32)
        p = draws.predict(truth, images, 4).mean_probabilities
        patients.append((images, rng.random(p.shape) < p, None))
    wrong = models.scaling.scaled(model, [scaling.Scaling(3.0, 1.0)] * 2)
    found = models.scaling.fit(wrong, patients, kind="platt", num_draws=4)
    for each in found:
        assert each.shift == pytest.approx(0.5 + (each.slope - 1.0) * -0.85, abs=0.15)
    mended = models.scaling.scaled(model, found)
    losses = [
        np.mean(
            [
                calibration.nll(
                    m[..., 0], draws.predict(net, x, 4).mean_probabilities[..., 0]
                )
                for x, m, _ in patients
            ]
        )
        for net in (wrong, truth, mended)
    ]
    assert losses[2] < losses[1] + 2e-3 < losses[0]


def test_a_temperature_keeps_the_mask_of_every_draw():
    model = build("flipout")
    other = models.scaling.scaled(model, [scaling.Scaling(0.4)] * 2)
    for draw in range(2):
        one, two = (draws.probabilities(m, IMAGES, draw) for m in (model, other))
        np.testing.assert_array_equal(one > 0.5, two > 0.5)
        assert np.abs(one - two).max() > 0.01


def test_logits_of_a_draw_give_its_probabilities():
    model = build("flipout")
    loc, stddev = draws.logits(model, IMAGES, 1)
    p = logits_module.mean_probabilities(
        logits_module.gaussian(*map(tf.constant, (loc, stddev + 1e-6)))
    )
    np.testing.assert_allclose(p, draws.probabilities(model, IMAGES, 1), atol=1e-5)


def test_what_does_not_fit_is_named():
    model = build("deterministic")
    with pytest.raises(ValueError, match=r"`scalings`.*of 2 regions; got 1"):
        models.scaling.scaled(model, SCALINGS[:1])
    masks = np.zeros((3, 16, 16, 2))
    with pytest.raises(ValueError, match=r"`kind`.*'platt'.*got 'isotonic'"):
        models.scaling.fit(model, [(IMAGES, masks, None)], kind="isotonic")
    with pytest.raises(ValueError, match=r"brain of the shape"):
        models.scaling.fit(model, [(IMAGES, masks, masks[..., 0, 0])])
    with pytest.raises(ValueError, match=r"at least one patient"):
        models.scaling.fit(model, [])
