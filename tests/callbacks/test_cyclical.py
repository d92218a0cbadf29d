from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfp_uqseg import callbacks

pytestmark = pytest.mark.usefixtures("light_steps")

FLAT = [1.0] * 9


def smith(iteration, base, most, step, factor):
    """The listing of the paper, and its authors' scaling of the height."""
    cycle = np.floor(1 + iteration / (2 * step))
    x = np.abs(iteration / step - 2 * cycle + 1)
    return base + (most - base) * np.maximum(0, 1 - x) * factor(cycle, iteration)


@pytest.mark.parametrize(
    ("mode", "factor"),
    [
        ("triangular", lambda cycle, iteration: 1.0),
        ("triangular2", lambda cycle, iteration: 1 / 2 ** (cycle - 1)),
        ("exp_range", lambda cycle, iteration: 0.99**iteration),
    ],
)
def test_rates_are_those_of_the_papers_listing(mode, factor):
    cycle = callbacks.CyclicalLearningRate(0.1, 0.7, 5, mode=mode, gamma=0.99)
    for iteration in range(40):
        expected = smith(iteration, 0.1, 0.7, 5, factor)
        assert cycle.rate(iteration) == pytest.approx(expected, rel=1e-12)


def test_rate_follows_the_iteration_of_the_optimiser(kit):
    model = kit.segmenter()
    cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 4)
    first, second = kit.fit(model, [cycle], 2), kit.fit(model, [cycle], 1)
    np.testing.assert_allclose(first, [0.01, 0.02, 0.03, 0.04], rtol=1e-6)
    np.testing.assert_allclose(second, [0.05, 0.04], rtol=1e-6)


def test_the_rate_of_the_last_step_is_logged(kit):
    model = kit.segmenter()
    cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 4)
    rates = kit.fit(model, [cycle], 2)
    assert model.history.history["learning_rate"] == pytest.approx(rates[1::2])


def expected_rates(epochs, scale):
    cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 2)
    steps = range(2 * epochs)
    return [scale[step // 2] * cycle.rate(step) for step in steps]


def stock():
    return tf_keras.callbacks.ReduceLROnPlateau("val_data_loss", 0.5, patience=2)


def ours():
    return callbacks.ReduceLROnPlateau("val_data_loss", 0.5, patience=2)


@pytest.mark.parametrize("kind", ["segmenter", "plain"])
@pytest.mark.parametrize("plateau", [stock, ours])
@pytest.mark.parametrize("plateau_first", [True, False])
def test_cycle_and_plateau_keep_working_together(kit, kind, plateau, plateau_first):
    """Flat from the first epoch on: the plateau halves after epochs 3, 5 and 7."""
    model = getattr(kit, kind)()
    pair = [callbacks.CyclicalLearningRate(0.01, 0.05, 2), plateau()]
    pair = pair[::-1] if plateau_first else pair
    found = kit.fit(model, [kit.Script(FLAT), *pair], 8)
    scale = [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    np.testing.assert_allclose(found, expected_rates(8, scale), rtol=1e-5)
    assert found[10] == pytest.approx(0.25 * 0.05, rel=1e-5)  # a lower ceiling
    assert found[12] == pytest.approx(0.25 * 0.01, rel=1e-5)  # and a lower floor


def test_what_lowered_the_last_epoch_lowers_a_later_fit(kit):
    model = kit.segmenter()
    pair = [callbacks.CyclicalLearningRate(0.01, 0.05, 2), stock()]
    kit.fit(model, [kit.Script(FLAT), *pair], 3)
    found = kit.fit(model, pair[:1], 1)
    np.testing.assert_allclose(found, [0.5 * 0.05, 0.5 * 0.03], rtol=1e-5)


def test_a_rate_set_between_two_trainings_is_no_scaling_and_compile_forgets(kit):
    model = kit.segmenter()
    pair = [callbacks.CyclicalLearningRate(0.01, 0.05, 2), ours()]
    kit.fit(model, [kit.Script(FLAT), *pair], 3)
    model.optimizer.learning_rate = 123.0
    assert kit.fit(model, pair[:1], 1)[0] == pytest.approx(0.5 * pair[0].rate(6))
    assert model.callback_memory.get("cycle_scale") == pytest.approx(0.5)
    model.compile(tf_keras.optimizers.SGD(1.0))
    assert kit.fit(model, pair[:1], 1)[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0.0, 1.0, 5), "`base_rate` must be finite and above 0; got 0.0"),
        ((0.1, float("inf"), 5), "`max_rate` must be finite and above 0"),
        ((0.1, 0.1, 5), "`max_rate` must be above `base_rate`, 0.1; got 0.1"),
        ((0.1, 1.0, 0), "`step_size` must be a whole number above 0; got 0"),
        ((0.1, 1.0, 5, "sine"), "`mode` must be one of 'triangular', 'triangular2'"),
        ((0.1, 1.0, 5, "exp_range", 0.0), "`gamma` must be finite and above 0"),
        ((0.1, 1.0, 5, "exp_range", 1.1), "`gamma` must be at most 1; got 1.1"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.CyclicalLearningRate(*arguments)


def test_a_schedule_in_the_optimiser_is_an_error(kit):
    decay = tf_keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = kit.segmenter(optimizer=tf_keras.optimizers.SGD(decay))
    cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 2)
    match = "the optimiser's `learning_rate` is a schedule, ExponentialDecay"
    with pytest.raises(ValueError, match=match):
        kit.fit(model, [cycle], 1)
    with pytest.raises(ValueError, match=match):
        kit.fit(model, [ours()], 1)
