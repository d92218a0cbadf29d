"""What callbacks remember of a training, in a variable that every checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

#: Each number that a callback keeps, and its value before training; NaN for none yet.
FIELDS = {
    "cycle_scale": 1.0,
    "cycle_rate": math.nan,
    "plateau_monitor": math.nan,
    "plateau_best": math.nan,
    "plateau_wait": 0.0,
    "plateau_cooldown": 0.0,
    "stopping_monitor": math.nan,
    "stopping_best": math.nan,
    "stopping_wait": 0.0,
    "stopping_stopped": 0.0,
}
PLACES = {name: place for place, name in enumerate(FIELDS)}


class Memory(tf.train.Checkpoint):
    """The numbers of `FIELDS`, in one float64 variable that is no weight.

    `models.Segmenter` has one as ``callback_memory``: its ``.keras`` file and every
    checkpoint of it hold the numbers, `get_weights` and the count of parameters leave
    them out.
    """

    def __init__(self):
        initial = np.array(list(FIELDS.values()))
        super().__init__(numbers=tf.Variable(initial, trainable=False, name="memory"))

    def values(self) -> np.ndarray:
        """Return all numbers in the order of `FIELDS`: (10,)."""
        return np.asarray(tf_keras.backend.get_value(self.numbers))

    def get(self, name: str) -> float:
        """Return the number called `name`."""
        return float(self.values()[PLACES[name]])

    def put(self, **changes: float) -> None:
        """Set the numbers of these names."""
        values = self.values().copy()
        for name, value in changes.items():
            values[PLACES[name]] = value
        self.numbers.assign(values)

    def reset(self) -> None:
        """Forget everything."""
        self.put(**FIELDS)


class Remembering(tf_keras.callbacks.Callback):
    """Abstract: a callback whose numbers live in the memory of its model.

    They belong to the model as the state of its optimiser does: a later `fit` goes on
    with them, whatever restored the model, and `compile` clears them. A plain
    ``tf_keras`` model has no memory; there the callback has one of its own, cleared
    whenever training begins, as Keras's callbacks do.
    """

    #: Tells `in_order` that this callback goes before those that save the model.
    remembers = True

    def set_model(self, model):
        """Take the memory of the model, or one of our own."""
        super().set_model(model)
        self._borrowed = hasattr(model, "callback_memory")
        self.memory = model.callback_memory if self._borrowed else Memory()

    def on_train_begin(self, logs=None):
        """Clear a memory of our own."""
        if not self._borrowed:
            self.memory.reset()

    def _read_rate(self) -> float:
        return float(tf_keras.backend.get_value(self.model.optimizer.learning_rate))

    def _log_rate(self, logs) -> None:
        """Add the rate of the epoch's last step, unless another callback has."""
        if logs is not None:
            logs.setdefault("learning_rate", self._read_rate())


def in_order(callbacks):
    """Return the callbacks with those that remember first.

    A callback that saves the model at the end of an epoch, such as
    ``BackupAndRestore``, must find in its memory what the others saw in that epoch,
    wherever it stands in the list.

    Args:
        callbacks: List or tuple of callbacks; anything else is returned as it is.

    Raises:
        ValueError: If two of one kind would share one memory.
    """
    if not isinstance(callbacks, Sequence):
        return callbacks
    kinds = [type(one).__name__ for one in callbacks if _remembers(one)]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(
            f"`callbacks` must hold at most one {twice[0]}; got "
            f"{kinds.count(twice[0])}, which would share one memory."
        )
    return sorted(callbacks, key=lambda one: not _remembers(one))


def check_rate_is_number(callback: str, optimizer) -> None:
    """Raise unless the learning rate of `optimizer` can be set."""
    # Mixed precision wraps the optimiser.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config().get("learning_rate")
    if isinstance(rate, dict):
        raise ValueError(
            f"{callback} must set the rate; the optimiser's `learning_rate` is a "
            f"schedule, {rate.get('class_name')}. Compile with a number."
        )


def _remembers(callback) -> bool:
    return getattr(callback, "remembers", False)
