from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 16, 16, 2)).astype(np.float32)
MASKS = (IMAGES[..., :1] > 0.7).astype(np.float32)


def build(method, **arguments):
    settings = {
        "input_shape": (None, None, 2),
        "num_regions": 1,
        "num_train_examples": 4,
        "base_filters": 4,
        "depth": 2,
    }
    return models.build(method, **{**settings, **arguments})


@pytest.fixture(scope="module")
def source():
    model = build("deterministic", seed=7)
    model.compile()
    model.fit(IMAGES, MASKS, epochs=3, batch_size=2, verbose=0)
    return model


def mean(model):
    return tf.convert_to_tensor(model(IMAGES)).numpy()


@pytest.mark.parametrize("backbone", models.BACKBONES)
@pytest.mark.parametrize(
    "method", ["flipout", "mc_dropout", "local_reparameterization"]
)
def test_a_warm_start_answers_as_its_source(method, backbone):
    arguments = {"backbone": backbone, "input_shape": (32, 32, 2), "base_filters": 2}
    origin = build("deterministic", seed=7, **arguments)
    model = build(method, **arguments)
    images = np.tile(IMAGES, (1, 2, 2, 1))
    assert np.abs(model(images).mean() - origin(images).mean()).max() > 1e-3
    taken = models.warm_start(model, origin)
    assert {"head", "score_fr"} & set(taken)
    np.testing.assert_allclose(model(images).mean(), origin(images).mean(), atol=1e-4)


def test_the_prior_can_be_centred_on_the_source(source):
    costs = {}
    for centred in (False, True):
        model = build("flipout", centred_prior=centred)
        models.warm_start(model, source)
        costs[centred] = model.kl_divergence().numpy()
    # What is left is the spread alone, the same in both.
    spread = sum(
        float(tf.reduce_sum(x.kernel_loc**2)) * x.fan_in / 4.0
        for x in model.bayesian_layers
    )
    assert costs[False] - costs[True] == pytest.approx(spread, rel=1e-3)


def test_the_latent_network_starts_with_the_sources_answer_as_its_maps(source):
    model = build("latent")
    models.warm_start(model, source)
    parameters = model.get_layer("map_parameters").output
    found = tf_keras.Model(model.inputs, parameters)(IMAGES)[..., :1]
    np.testing.assert_allclose(found + math.log(1 / 99), mean(source), atol=1e-4)


def test_a_frozen_backbone_stays_as_it_was_and_the_rest_learns(source, tmp_path):
    model = build("latent")
    taken = models.warm_start(model, source, freeze=True)
    before = {name: model.get_layer(name).get_weights() for name in taken}
    start = model.get_layer("map_parameters").get_weights()[0]
    model.compile()
    model.fit(IMAGES, MASKS, epochs=2, batch_size=2, verbose=0)
    for name, weights in before.items():
        for old, new in zip(weights, model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert np.any(model.get_layer("map_parameters").get_weights()[0] != start)
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)


def test_what_does_not_fit_is_named(source):
    with pytest.raises(ValueError, match="must have the shape of the source's"):
        models.warm_start(build("flipout", base_filters=8), source)
    with pytest.raises(ValueError, match="`source` must share layers"):
        models.warm_start(build("flipout", backbone="fcn"), source)
    with pytest.raises(ValueError, match="`freeze` must be False where layers are Bay"):
        models.warm_start(build("flipout"), source, freeze=True)


def test_a_refused_warm_start_changes_nothing(source):
    model = build("flipout")
    before = model.get_weights()
    with pytest.raises(ValueError, match="`freeze` must be False"):
        models.warm_start(model, source, freeze=True)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
