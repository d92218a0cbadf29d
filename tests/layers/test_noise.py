from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg import layers
from tfp_uqseg.layers import latent, logits, noise


def test_noise_at_a_voxel_does_not_depend_on_the_extent():
    key = noise.draw_key(0, 0)
    small = noise.anchored_normal(key, tf.constant([2, 40, 48, 3]))
    large = noise.anchored_normal(key, tf.constant([5, 64, 250, 3]))
    np.testing.assert_array_equal(small, large[:, :40, :48])


@pytest.mark.parametrize("extent", [255, 256, 257, 512])
def test_noise_covers_any_extent(extent):
    shape = tf.constant([1, 3, extent, 2])
    assert noise.anchored_normal(noise.draw_key(0, 0), shape).shape == (1, 3, extent, 2)


def test_signs_are_fair_and_nothing_but_signs():
    signs = noise.rademacher(noise.draw_key(0, 0), [10000]).numpy()
    assert set(signs) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.03


def test_keys_differ_by_seed_draw_layer_and_stream():
    keys = {
        tuple(noise.layer_key(noise.draw_key(seed, draw), layer, stream).numpy())
        for seed in (0, 1)
        for draw in (0, 1)
        for layer in (5, 6)
        for stream in ("kernel", "latent")
    }
    values = {float(noise.normal(tf.constant(key), [])) for key in keys}
    assert len(values) == 16


def test_a_draw_is_the_same_compiled_by_xla():
    def draw():
        return noise.normal(noise.draw_key(3, 4), [50])

    compiled = tf.function(draw, jit_compile=True)()
    np.testing.assert_allclose(draw(), compiled, atol=1e-6)


KEYS = ([0, 0], [5, -7], [2**31 - 1, -(2**31)], [123, 456])


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_noise_is_that_of_tensorflows_philox(key):
    key, shape = tf.constant(key, tf.int32), [3, 5]
    philox = {"seed": key, "alg": "philox"}
    bits = tf.random.stateless_uniform(
        shape, minval=None, maxval=None, dtype=tf.int32, **philox
    )
    folded = tf.random.experimental.stateless_fold_in(key, 9, alg="philox")
    pairs = (
        (noise.normal(key, shape), tf.random.stateless_normal(shape, **philox)),
        (noise.uniform(key, shape), tf.random.stateless_uniform(shape, **philox)),
        (noise.rademacher(key, shape), 1 - 2 * (bits.numpy() & 1)),
        (noise.fold_in(key, 9), folded),
    )
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


def test_noise_takes_few_operations():
    graph = tf.function(lambda key: noise.normal(noise.fold_in(key, 3), [4]))
    concrete = graph.get_concrete_function(tf.TensorSpec([2], tf.int32))
    theirs = tf.function(
        lambda key: tf.random.stateless_normal(
            [4],
            tf.random.experimental.stateless_fold_in(key, 3, alg="philox"),
            alg="philox",
        )
    ).get_concrete_function(tf.TensorSpec([2], tf.int32))
    ours, stock = (len(each.graph.get_operations()) for each in (concrete, theirs))
    assert ours < 0.5 * stock


def test_latent_turns_into_its_mean_outside_training_and_draws():
    parameters = tf.random.normal([2, 8, 8, 4])
    tensor = tf.convert_to_tensor(layers.GaussianLatent()(parameters))
    np.testing.assert_array_equal(tensor, parameters[..., :2])


@pytest.mark.parametrize("kind", [layers.GaussianLatent, layers.GaussianLogits])
def test_moments_ahead_of_a_latent_are_those_it_makes_itself(kind):
    parameters = tf.random.stateless_normal([2, 8, 8, 4], [1, 2])
    start = logits.INITIAL_STDDEV if kind is layers.GaussianLogits else 1.0
    alone, ahead = kind(), kind()
    given = latent.Moments(start)(parameters)
    for name in ("mean", "stddev"):
        expected = getattr(alone(parameters), name)()
        np.testing.assert_array_equal(getattr(ahead(given), name)(), expected)
    assert alone.compute_output_shape((2, 8, 8, 4)) == (2, 8, 8, 2)
    pair = [(2, 8, 8, 2), (2, 8, 8, 2)]
    assert ahead.compute_output_shape(pair) == (2, 8, 8, 2)


def test_latent_sample_has_the_stated_moments():
    raw = np.zeros((4000, 2), np.float32)
    layer = layers.GaussianLatent(initial_stddev=0.7)
    sample = tf.convert_to_tensor(layer(raw, training=True)).numpy()
    assert sample.std() == pytest.approx(0.7, rel=0.05)
    assert sample.mean() == pytest.approx(0.0, abs=0.05)


def test_second_inner_draw_mirrors_the_first():
    layer = layers.GaussianLatent(seed=1)
    parameters = tf.zeros([2, 8, 8, 4])
    values = []
    for inner in range(3):
        with noise.use(noise.DrawScope(noise.draw_key(0, 0), tf.constant(inner))):
            values.append(tf.convert_to_tensor(layer(parameters)).numpy())
    np.testing.assert_allclose(values[0], -values[1], atol=1e-6)
    assert np.abs(values[2] - values[0]).max() > 0.1
