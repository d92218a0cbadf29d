"""What callbacks remember survives every way a training may be taken up again."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import callbacks
from tfp_uqseg.callbacks import memory

pytestmark = pytest.mark.usefixtures("light_steps")

#: Improves, stalls (the plateau lowers after epochs 3 and 5), improves, stalls.
VALUES = [1.0, 0.9, 0.95, 0.92, 0.91, 0.93, 0.5, 0.6, 0.6, 0.6]
EPOCHS = 9


def watching(kit, plateau=callbacks.ReduceLROnPlateau):
    return [
        kit.Script(VALUES),
        callbacks.CyclicalLearningRate(0.01, 0.05, 3),
        plateau("val_data_loss", factor=0.5, patience=2),
        callbacks.EarlyStopping(patience=5),
    ]


@pytest.fixture
def whole(kit, light_steps):
    """The rates of a training without interruption."""
    model = kit.segmenter()
    return kit.fit(model, watching(kit), EPOCHS), model.callback_memory.values()


def check(whole, found, model):
    rates, numbers = whole
    assert len(rates) == 2 * EPOCHS
    np.testing.assert_array_equal(found, rates)
    np.testing.assert_array_equal(model.callback_memory.values(), numbers)


def test_the_uninterrupted_rates_are_lowered_thrice(whole):
    rates, numbers = whole
    cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 3)
    scale = np.repeat([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25], 2)
    expected = scale * [cycle.rate(step) for step in range(18)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    found = dict(zip(memory.FIELDS, numbers, strict=True))
    assert found["plateau_best"] == found["stopping_best"] == 0.5
    assert found["stopping_wait"] == 2
    assert found["cycle_scale"] == pytest.approx(0.125)


@pytest.mark.parametrize("epoch", [4, 5])
@pytest.mark.parametrize("backup_first", [True, False])
def test_backup_and_restore_goes_on_exactly(kit, whole, tmp_path, epoch, backup_first):
    def callbacks_of(kit):
        backup = tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        ours = watching(kit)
        return [backup, *ours] if backup_first else [*ours, backup]

    rates = kit.Rates()
    with pytest.raises(KeyboardInterrupt):
        kit.fit(
            kit.segmenter(), [*callbacks_of(kit), rates, kit.Interrupt(epoch)], EPOCHS
        )
    model = kit.segmenter()
    found = rates.seen + kit.fit(model, callbacks_of(kit), EPOCHS)
    check(whole, found, model)


@pytest.mark.parametrize("saved_by", ["save", "checkpoint"])
def test_a_keras_file_goes_on_exactly(kit, whole, tmp_path, saved_by):
    path, model = str(tmp_path / "m.keras"), kit.segmenter()
    extra = [tf_keras.callbacks.ModelCheckpoint(path)]
    extra = extra if saved_by == "checkpoint" else []
    first = kit.fit(model, [*extra, *watching(kit)], 4)
    if saved_by == "save":
        model.save(path)
    loaded = tf_keras.models.load_model(path)
    found = first + kit.fit(loaded, watching(kit), EPOCHS, initial_epoch=4)
    check(whole, found, loaded)


def test_a_checkpoint_goes_on_exactly(kit, whole, tmp_path):
    model = kit.segmenter()
    first = kit.fit(model, watching(kit), 5)
    state = {"model": model, "optimizer": model.optimizer}
    path = tf.train.Checkpoint(**state).save(str(tmp_path / "state"))
    other = kit.segmenter()
    other.optimizer.build(other.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
    checkpoint.restore(path).assert_existing_objects_matched()
    found = first + kit.fit(other, watching(kit), EPOCHS, initial_epoch=5)
    check(whole, found, other)


def test_the_cycle_goes_on_where_keras_lowered_it(kit, tmp_path):
    """The stock plateau forgets its patience on a resume, the rate is not lost."""

    def pair():
        stock = tf_keras.callbacks.ReduceLROnPlateau("val_data_loss", 0.5, patience=2)
        cycle = callbacks.CyclicalLearningRate(0.01, 0.05, 3)
        return [kit.Script([1.0] * 9), cycle, stock]

    expected = kit.fit(kit.segmenter(), pair(), 4)
    backup = [tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))]
    rates = kit.Rates()
    with pytest.raises(KeyboardInterrupt):
        kit.fit(kit.segmenter(), [*pair(), *backup, rates, kit.Interrupt(3)], 4)
    found = rates.seen + kit.fit(kit.segmenter(), [*pair(), *backup], 4)
    np.testing.assert_array_equal(found, expected)
    assert expected[6] == pytest.approx(0.5 * pair()[1].rate(6))


def test_memory_is_no_weight_and_files_without_it_load(kit, tmp_path):
    model = kit.segmenter()
    names = [variable.name for variable in model.weights]
    assert not [name for name in names if "memory" in name]
    model.callback_memory.put(plateau_best=0.25)

    class Older(type(model)):
        def save_own_variables(self, store):
            tf_keras.Model.save_own_variables(self, store)

    model.__class__, kind = Older, type(model)
    model.save_weights(tmp_path / "older.weights.h5")
    model.__class__ = kind
    other = kit.segmenter()
    other.load_weights(tmp_path / "older.weights.h5")
    assert np.isnan(other.callback_memory.get("plateau_best"))
    model.save_weights(tmp_path / "newer.weights.h5")
    other.load_weights(tmp_path / "newer.weights.h5")
    assert other.callback_memory.get("plateau_best") == 0.25


def test_a_plain_model_forgets_when_training_begins(kit):
    model = kit.plain(1.0)
    plateau = callbacks.ReduceLROnPlateau(factor=0.5, patience=2)
    script = kit.Script([1.0] * 9)
    assert kit.fit(model, [script, plateau], 3)[-1] == 1.0
    assert kit.fit(model, [script, plateau], 2) == [0.5] * 4
    assert plateau.memory.get("plateau_wait") == 1


def test_two_of_a_kind_are_an_error(kit):
    two = [callbacks.EarlyStopping(), callbacks.EarlyStopping("val_dice")]
    with pytest.raises(ValueError, match="at most one EarlyStopping; got 2, which"):
        kit.segmenter().fit(kit.data, callbacks=two, verbose=0)


def test_those_that_remember_come_first_and_others_keep_their_order():
    stop, anneal = callbacks.EarlyStopping(), callbacks.KLAnnealing()
    other = tf_keras.callbacks.Callback()
    assert callbacks.in_order((anneal, other, stop)) == [stop, anneal, other]
    assert callbacks.in_order(None) is None
    assert callbacks.in_order(other) is other
