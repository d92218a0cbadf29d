"""Ending a training that no longer improves."""

from __future__ import annotations

from tfp_uqseg import _checks
from tfp_uqseg.callbacks import monitoring


class EarlyStopping(monitoring.Monitor):
    """Stop training when a number without KL stops to improve.

    As that of Keras, but for the differences that `ReduceLROnPlateau` has too: nothing
    that contains KL unless asked, Dice should rise, epochs of the KL warm-up do not
    count, and best value and patience are remembered with the model, so that a resumed
    run stops where an uninterrupted one does. A `fit` after one that was stopped goes
    on with the best value and new patience.

    There is no `restore_best_weights`: the best weights would be no part of a
    checkpoint. ``tf_keras.callbacks.ModelCheckpoint(save_best_only=True)`` keeps them.

    Args:
        monitor: Name in the logs, such as ``"val_data_loss"`` or ``"val_dice"``.
        min_delta: Least change that counts as improvement, at least 0.
        patience: Epochs without improvement after which training stops, above 0.
        verbose: 1 to say what is done, 0 for silence.
        mode: ``"min"``, ``"max"`` or ``"auto"``; see `Monitor`.
        baseline: Value that an improvement must also beat; None for none.
        start_from_epoch: Epochs before the first that counts, at least 0.
        allow_kl: Whether `monitor` may contain KL.

    Attributes:
        stopped_epoch: Index of the epoch that ended training, None while none has.

    Raises:
        ValueError: If an argument is out of its range, or `monitor` contains KL or is
            not among the logs.
    """

    kind = "stopping"

    def __init__(
        self,
        monitor="val_data_loss",
        min_delta=0.0,
        patience=10,
        verbose=0,
        mode="auto",
        baseline=None,
        start_from_epoch=0,
        allow_kl=False,
    ):
        super().__init__(monitor, patience, verbose, mode, min_delta, allow_kl)
        self.baseline = None if baseline is None else float(baseline)
        self.start_from_epoch = int(
            _checks.non_negative("start_from_epoch", start_from_epoch)
        )
        self.stopped_epoch = None

    def on_train_begin(self, logs=None):
        """Give a training that was stopped new patience."""
        super().on_train_begin(logs)
        self.stopped_epoch = None
        if has_stopped(self.model, self.patience):
            self._put(wait=0, stopped=0)

    def on_epoch_end(self, epoch, logs=None):
        """Stop if the patience is used up."""
        if epoch < self.start_from_epoch:
            return
        wait = self._observe(logs, self.baseline)
        if wait is not None and wait >= self.patience:
            self._put(stopped=1)
            self.stopped_epoch = epoch
            self.model.stop_training = True
            self._say(epoch, f"EarlyStopping after {wait} without improvement.")


def has_stopped(model, patience: int) -> bool:
    """Return whether a model's last training ended by `EarlyStopping`.

    Args:
        model: A `models.Segmenter`; of another model it is not known, so False.
        patience: That of the callback.
    """
    memory = getattr(model, "callback_memory", None)
    if memory is None or not memory.get("stopping_stopped"):
        return False
    return memory.get("stopping_wait") >= patience
