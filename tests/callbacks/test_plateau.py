from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfp_uqseg import callbacks

pytestmark = pytest.mark.usefixtures("light_steps")


@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_rates_are_those_of_keras(kit, cooldown):
    rng = np.random.default_rng(1)
    values = list(rng.choice([0.3, 0.4, 0.5, 0.50005], size=24))
    settings = {"factor": 0.5, "patience": 2, "cooldown": cooldown, "min_lr": 0.05}
    stock = tf_keras.callbacks.ReduceLROnPlateau("val_data_loss", **settings)
    ours = callbacks.ReduceLROnPlateau(**settings)
    found, expected = (
        kit.fit(kit.plain(1.0), [kit.Script(values), one], 24) for one in (ours, stock)
    )
    np.testing.assert_array_equal(found, expected)
    assert min(found) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("monitor", "mode", "values", "lowered"),
    [
        ("val_dice", "auto", [0.1, 0.2, 0.3], False),
        ("val_dice", "auto", [0.3, 0.2, 0.1], True),
        ("val_dice", "min", [0.3, 0.2, 0.1], False),
        ("val_data_loss", "auto", [0.3, 0.2, 0.1], False),
        ("val_data_loss", "max", [0.3, 0.2, 0.1], True),
        ("val_data_loss", "auto", [0.3, 0.29999, 0.29998], True),
        ("val_data_loss", "auto", [0.3, float("nan"), float("nan")], True),
    ],
)
def test_direction_follows_mode_and_name(kit, monitor, mode, values, lowered):
    plateau = callbacks.ReduceLROnPlateau(monitor, 0.5, patience=2, mode=mode)
    model = kit.plain(1.0)
    kit.fit(model, [kit.Script(values, monitor), plateau], 3)
    assert float(model.optimizer.learning_rate) == (0.5 if lowered else 1.0)


def test_logged_is_the_rate_of_the_epoch_not_the_lowered_one(kit, capsys):
    model = kit.plain(1.0)
    plateau = callbacks.ReduceLROnPlateau(factor=0.5, patience=1, verbose=1)
    kit.fit(model, [kit.Script([1.0] * 3), plateau], 3)
    assert model.history.history["learning_rate"] == [1.0, 1.0, 0.5]
    shown = capsys.readouterr().out
    assert "Epoch 2: ReduceLROnPlateau lowers the learning rate to 0.5." in shown


def test_epochs_of_the_warm_up_do_not_count(kit):
    model = kit.segmenter("flipout")
    plateau = callbacks.ReduceLROnPlateau(patience=1)
    anneal = callbacks.KLAnnealing(2)
    kit.fit(model, [anneal, kit.Script([1.0] * 3), plateau], 3)
    assert model.callback_memory.get("plateau_best") == 1.0
    assert model.callback_memory.get("plateau_wait") == 0
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_another_number_to_watch_starts_afresh(kit):
    model = kit.segmenter()
    first = callbacks.ReduceLROnPlateau("val_data_loss", patience=3)
    kit.fit(model, [kit.Script([0.1, 0.2]), first], 2)
    second = callbacks.ReduceLROnPlateau("val_dice", patience=3)
    kit.fit(model, [kit.Script([0.05, 0.04], "val_dice"), second], 2)
    assert model.callback_memory.get("plateau_best") == pytest.approx(0.05)
    assert model.callback_memory.get("plateau_wait") == 1


def test_validation_of_a_segmenter_is_watched(kit):
    model = kit.segmenter()
    for monitor in ("val_data_loss", "val_loss", "val_dice"):
        plateau = callbacks.ReduceLROnPlateau(monitor)
        kit.fit(model, [plateau], 1, validation_data=kit.data)
        expected = model.history.history[monitor][0]
        assert model.callback_memory.get("plateau_best") == pytest.approx(expected)


@pytest.mark.parametrize("kind", [callbacks.ReduceLROnPlateau, callbacks.EarlyStopping])
@pytest.mark.parametrize(
    "monitor",
    [
        "loss",
        "kl",
        "val_kl",
        "code_kl",
        "val_latent_bound",
        "kl_divergence",
        "neg_elbo",
    ],
)
def test_a_number_with_kl_is_refused_unless_asked_for(kind, monitor):
    with pytest.raises(ValueError, match="`monitor` must be a number without KL.*got"):
        kind(monitor)
    assert kind(monitor, allow_kl=True).monitor == monitor


@pytest.mark.parametrize(
    "monitor", ["data_loss", "map_loss", "val_loss", "val_dice", "dice", "tackle_rate"]
)
def test_a_number_without_kl_is_accepted(monitor):
    assert callbacks.ReduceLROnPlateau(monitor).monitor == monitor


def test_validation_loss_of_a_bayesian_keras_model_is_refused(kit):
    inner = kit.segmenter("flipout").bayesian_layers[0]
    layer = type(inner).from_config(inner.get_config())
    model = tf_keras.Sequential([layer])
    model.build((None, 4, 4, 1))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="without KL.*got 'val_loss'"):
        kit.fit(model, [callbacks.EarlyStopping("val_loss")], 1)


@pytest.mark.parametrize("kind", [callbacks.ReduceLROnPlateau, callbacks.EarlyStopping])
def test_a_number_that_is_not_logged_is_named(kit, kind):
    model = kit.plain()
    with pytest.raises(ValueError, match=r"must be in the logs.*got 'dise'.*'loss'"):
        kit.fit(model, [kind("dise")], 1)
    with pytest.raises(ValueError, match=r"got 'val_dise'.*'val_loss'"):
        kit.fit(model, [kind("val_dise")], 1, validation_data=kit.data)
    with pytest.warns(UserWarning, match="Pass `validation_data`") as warned:
        kit.fit(model, [kind("val_dice")], 2)
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"factor": 1.0}, "`factor` must lie between 0 and 1; got 1.0"),
        ({"patience": 0}, "`patience` must be a whole number above 0; got 0"),
        ({"verbose": 2}, "`verbose` must be one of 0, 1; got 2"),
        ({"mode": "up"}, "`mode` must be one of 'auto', 'min', 'max'; got 'up'"),
        ({"min_delta": -1}, "`min_delta` must be finite and at least 0; got -1"),
        ({"cooldown": -1}, "`cooldown` must be finite and at least 0; got -1"),
        ({"min_lr": -1}, "`min_lr` must be finite and at least 0; got -1"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.ReduceLROnPlateau(**arguments)
