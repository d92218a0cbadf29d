from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import callbacks
from tfp_uqseg.callbacks import finder


def line(rate=0.1):
    """One weight, from 0; the loss of rate r at step t is known by hand."""
    layer = tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = tf_keras.Sequential([layer])
    model.build((None, 1))
    model.compile(tf_keras.optimizers.SGD(rate, momentum=0.5), loss="mse")
    return model


ONES = tf.data.Dataset.from_tensor_slices((np.ones((4, 1)), np.ones((4, 1)))).batch(2)


def test_losses_and_rates_are_those_of_the_steps_by_hand():
    found = callbacks.find_learning_rate(line(), ONES, 1e-3, 1.0, 7)
    weight, velocity, losses = 0.0, 0.0, []
    for rate in np.geomspace(1e-3, 1.0, 7):
        losses.append((1 - weight) ** 2)
        velocity = 0.5 * velocity + rate * 2 * (1 - weight)
        weight += velocity
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 1.0, 7))
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = 0.9 * mean + 0.1 * loss
        smoothed.append(mean / (1 - 0.9**step))
    np.testing.assert_allclose(found.smoothed, smoothed, rtol=1e-5)
    assert found.suggestion in found.rates


def test_the_sweep_ends_where_the_loss_diverges():
    found = callbacks.find_learning_rate(
        line(), ONES, 1e-3, 1e3, 60, smoothing=0.5, divergence=3.0
    )
    assert len(found.rates) < 60
    allowed = 3.0 * np.minimum.accumulate(found.smoothed)
    assert found.smoothed[-1] > allowed[-1]
    assert np.all(found.smoothed[:-1] <= allowed[:-1])
    assert 1e-3 < found.suggestion < found.rates[np.argmin(found.smoothed)]


def test_a_loss_that_overflows_ends_the_sweep():
    found = callbacks.find_learning_rate(
        line(), ONES, 1e-3, 1e30, 12, divergence=float("inf")
    )
    assert 2 <= len(found.rates) < 12
    assert np.isfinite(found.smoothed).all()


def test_suggestion_is_the_steepest_fall_before_the_least_loss():
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    smoothed = np.array([1.0, 0.9, 0.4, 0.3, 2.0])
    assert finder._suggest(rates, smoothed) == 1e-3
    assert finder._suggest(rates, np.arange(5.0)) is None


def state_of(model):
    variables = [*model.weights, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    return [*values, float(model.optimizer.learning_rate)]


def random_numbers():
    return (
        random.random(),
        np.random.random(),  # noqa: NPY002 (the state that is shared)
        float(tf.random.uniform([])),
        float(tf.random.get_global_generator().uniform([])),
    )


def seed():
    tf_keras.utils.set_random_seed(3)
    tf.random.get_global_generator().reset_from_seed(3)


def use_random_numbers(images, masks):
    random.random(), np.random.random()  # noqa: NPY002
    tf.random.get_global_generator().uniform([])
    return images, masks


@pytest.mark.parametrize("trained", [True, False])
def test_everything_is_left_as_it_was(kit, trained):
    model = kit.segmenter("flipout", tf_keras.optimizers.Adam(0.02))
    if trained:
        kit.fit(model, [callbacks.CyclicalLearningRate(0.01, 0.05, 2)], 1)
    before, function = state_of(model), model.train_function
    memory = model.callback_memory.values()
    seed()
    expected = random_numbers()
    seed()
    data = kit.data.map(
        lambda *pair: tf.numpy_function(use_random_numbers, pair, [tf.float32] * 2)
    ).map(lambda *pair: tuple(tf.ensure_shape(x, (2, 4, 4, 1)) for x in pair))
    found = callbacks.find_learning_rate(model, data, 1e-4, 10.0, 6)
    assert len(found.rates) > 2
    assert random_numbers() == expected
    for one, other in zip(state_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.callback_memory.values(), memory)
    assert model.train_function is function


def test_training_after_a_sweep_is_as_without_it(kit):
    ends = []
    for sweep in (True, False):
        tf_keras.utils.set_random_seed(0)
        model = kit.segmenter("flipout", tf_keras.optimizers.Adam(0.02))
        if sweep:
            callbacks.find_learning_rate(model, kit.data, steps=4)
        kit.fit(model, [], 2)
        ends.append(model.get_weights())
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_segmenter_is_judged_by_its_data_loss(kit):
    model = kit.segmenter("flipout")
    by_default = callbacks.find_learning_rate(model, kit.data, 1e-7, 1e-6, 2)
    named = callbacks.find_learning_rate(
        model, kit.data, 1e-7, 1e-6, 2, monitor="data_loss"
    )
    whole = callbacks.find_learning_rate(model, kit.data, 1e-7, 1e-6, 2, monitor="loss")
    np.testing.assert_array_equal(by_default.losses, named.losses)
    assert np.all(whole.losses > named.losses)


EMPTY = ONES.take(0)
SCHEDULE = tf_keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data": np.ones((4, 1))}, "`data` must be a tf.data.Dataset.*got ndarray"),
        ({"data": EMPTY}, "`data` must hold a batch; it is empty"),
        ({"lowest": 0.0}, "`lowest` must be finite and above 0; got 0.0"),
        ({"lowest": 2.0}, "`highest` must be above `lowest`, 2.0; got 1.0"),
        ({"steps": 1}, "`steps` must be at least 2; got 1"),
        ({"divergence": 1.0}, "`divergence` must be above 1; got 1.0"),
        ({"smoothing": 1.0}, "`smoothing` must lie between 0 and 1; got 1.0"),
        ({"monitor": "dice"}, r"`monitor` must be in the logs of a step; got 'dice'"),
        ({"model": tf_keras.Sequential()}, "`model` must be compiled"),
        ({"model": line(SCHEDULE)}, "`learning_rate` is a schedule"),
        ({"lowest": 1e25, "highest": 1e30}, "must be finite at the `lowest` rate"),
    ],
)
def test_what_cannot_be_swept_is_named(arguments, match):
    given = {"model": line(), "data": ONES, "steps": 4, **arguments}
    with pytest.raises(ValueError, match=match):
        callbacks.find_learning_rate(**given)
