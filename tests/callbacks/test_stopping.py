from __future__ import annotations

import pytest
import tf_keras

from tfp_uqseg import callbacks

pytestmark = pytest.mark.usefixtures("light_steps")

VALUES = [1.0, 0.8, 0.9, 0.7, 0.75, 0.71, 0.8, 0.1, 0.1]


def epochs_of(kit, model, callback, values=VALUES, **arguments):
    rates = kit.fit(model, [kit.Script(values), callback], len(values), **arguments)
    return len(rates) // kit.STEPS


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 1},
        {"patience": 2},
        {"patience": 3},
        {"patience": 2, "min_delta": 0.15},
        {"patience": 2, "baseline": 0.75},
        {"patience": 1, "start_from_epoch": 4},
    ],
)
def test_training_ends_where_that_of_keras_does(kit, arguments):
    ours = callbacks.EarlyStopping(**arguments)
    stock = tf_keras.callbacks.EarlyStopping("val_data_loss", **arguments)
    found = epochs_of(kit, kit.plain(), ours)
    assert found == epochs_of(kit, kit.plain(), stock)
    assert ours.stopped_epoch == (found - 1 if found < len(VALUES) else None)


def test_a_later_fit_has_new_patience_and_the_best_value(kit, capsys):
    model = kit.segmenter()
    stop = callbacks.EarlyStopping(patience=2, verbose=1)
    assert epochs_of(kit, model, stop, [0.5, 0.6, 0.6, 0.6]) == 3
    assert "Epoch 3: EarlyStopping after 2 without" in capsys.readouterr().out
    assert callbacks.has_stopped(model, 2)
    assert not callbacks.has_stopped(model, 3)
    assert epochs_of(kit, model, stop, [0.6, 0.6, 0.4]) == 2
    assert epochs_of(kit, model, stop, [0.4, 0.3, 0.2]) == 3
    assert not callbacks.has_stopped(model, 2)
    assert not callbacks.has_stopped(kit.plain(), 2)


def test_a_resumed_training_stops_where_a_whole_one_does(kit, tmp_path):
    values = [0.5, 0.6, 0.6, 0.6, 0.6, 0.6]

    def both():
        backup = tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        return [kit.Script(values), callbacks.EarlyStopping(patience=3), backup]

    with pytest.raises(KeyboardInterrupt):
        kit.fit(kit.segmenter(), [*both(), kit.Interrupt(3)], 6)
    assert len(kit.fit(kit.segmenter(), both(), 6)) == kit.STEPS  # epoch 4 alone


def test_epochs_of_the_warm_up_do_not_end_a_training(kit):
    model = kit.segmenter("flipout")
    anneal = callbacks.KLAnnealing(3)
    stop = callbacks.EarlyStopping(patience=1)
    callback = [anneal, kit.Script([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), stop]
    assert len(kit.fit(model, callback, 6)) // kit.STEPS == 5


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"patience": 0}, "`patience` must be a whole number above 0; got 0"),
        ({"min_delta": -1}, "`min_delta` must be finite and at least 0; got -1"),
        ({"start_from_epoch": -1}, "`start_from_epoch` must be finite and at least 0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.EarlyStopping(**arguments)
