"""The same network in another precision."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models
from tfp_uqseg.models import precision
from tfp_uqseg.uncertainty import draws, network

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype(np.float32)


def build(method, backbone="unet", policy="float32"):
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        return models.build(
            method,
            backbone=backbone,
            input_shape=(None, None, 2),
            num_regions=2,
            num_train_examples=5,
            base_filters=2,
            depth=2,
            num_members=2,
            initial_probability=0.3,
        )
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def precisions(model):
    return [layer.compute_dtype for layer in model.layers]


@pytest.mark.parametrize("backbone", models.BACKBONES)
@pytest.mark.parametrize("method", models.METHODS)
def test_layers_compute_as_in_a_network_built_so(method, backbone):
    plain = build(method, backbone)
    mixed = build(method, backbone, "mixed_bfloat16")
    assert (precision.of(plain), precision.of(mixed)) == ("float32", "bfloat16")
    there = models.in_precision(plain, "bfloat16")
    assert precisions(there) == precisions(mixed)
    back = models.in_precision(there, "float32")
    assert precisions(back) == precisions(plain)
    assert back.settings == plain.settings
    for before, after in zip(plain.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("method", ["flipout", "latent", "ensemble_mc_dropout"])
def test_answers_differ_by_rounding_alone(method):
    plain = build(method)
    other = models.in_precision(plain, "bfloat16")
    expected = draws.predict(plain, IMAGES, 3).mean_probabilities
    found = draws.predict(other, IMAGES, 3).mean_probabilities
    assert 0.0 < np.abs(found - expected).max() < 0.03
    again = models.in_precision(other, "float32")
    found = draws.predict(again, IMAGES, 3).mean_probabilities
    np.testing.assert_array_equal(found, expected)


def test_a_network_that_computes_so_already_is_left_alone():
    model = build("deterministic")
    assert models.in_precision(model, "float32") is model


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match=r"`precision`.*float32.*got 'int8'"):
        models.in_precision(build("deterministic"), "int8")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu sse avx512_bf16 x", "bfloat16"),
        ("flags : amx_bf16", "bfloat16"),
        ("flags : avx512f avx2", "float32"),
    ],
)
def test_the_fast_precision_follows_the_processor(
    tmp_path, monkeypatch, flags, expected
):
    # Where there is a GPU, it decides.
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    path = tmp_path / "cpuinfo"
    path.write_text(flags)
    assert precision.fast(path) == expected
    assert precision.fast(tmp_path / "absent") == "float32"


@pytest.mark.parametrize("backbone", models.BACKBONES)
@pytest.mark.parametrize("method", ["latent", "mc_dropout"])
def test_what_no_draw_repeats_stays_exact(method, backbone):
    plain = build(method, backbone)
    found = precision.for_draws(plain, "bfloat16")
    prefix, _ = network.split(plain)
    once = {layer.name for layer in prefix.layers}
    kinds = {layer.name: layer.compute_dtype for layer in found.layers}
    assert {kinds[name] for name in once} == {"float32"}
    drawn = {name: kind for name, kind in kinds.items() if name not in once}
    assert {kind for name, kind in drawn.items() if name not in precision.HELD} == {
        "bfloat16"
    }
    assert precision.of(found) == "bfloat16"
    given = tf.constant(np.tile(IMAGES, (1, 2, 2, 1)))  # of the size that FCN needs
    for one, other in zip(
        tf.nest.flatten(prefix(given)),
        tf.nest.flatten(network.split(found)[0](given)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    trained_so = build(method, backbone, "mixed_bfloat16")
    trained_so.set_weights(plain.get_weights())
    again = precision.for_draws(trained_so, "bfloat16")
    assert precisions(again) == precisions(found)


def test_a_network_that_draws_nothing_is_exact_and_one_that_draws_all_is_not():
    alone = precision.for_draws(build("deterministic"), "bfloat16")
    assert set(precisions(alone)) == {"float32"}
    members = precision.for_draws(build("deep_ensemble"), "bfloat16").members
    assert all(set(precisions(member)) == {"float32"} for member in members)
    drawn = precision.for_draws(build("flipout"), "bfloat16")
    assert precisions(drawn) == precisions(
        models.in_precision(build("flipout"), "bfloat16")
    )
    back = precision.for_draws(drawn, "float32")
    assert set(precisions(back)) == {"float32"}
    with pytest.raises(ValueError, match="`precision` must be one of"):
        precision.for_draws(alone, "int8")
