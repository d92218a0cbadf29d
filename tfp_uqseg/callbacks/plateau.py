"""Lowering the learning rate where nothing improves."""

from __future__ import annotations

from tfp_uqseg import _checks
from tfp_uqseg.callbacks import memory, monitoring


class ReduceLROnPlateau(monitoring.Monitor):
    """Lower the learning rate when a number without KL stops to improve.

    As that of Keras, but for four things: it does not watch a number that contains KL
    unless asked, its ``"auto"`` knows that Dice should rise, epochs of the KL warm-up
    do not count, and best value, patience and cooldown are remembered with the model,
    so that a resumed run goes on exactly. With a `CyclicalLearningRate` it lowers the
    cycle's ceiling and floor.

    Adds ``learning_rate``, that of the epoch's last step, to the logs.

    Args:
        monitor: Name in the logs, such as ``"val_data_loss"`` or ``"val_dice"``.
        factor: What the rate is multiplied by, between 0 and 1.
        patience: Epochs without improvement before that, above 0.
        verbose: 1 to say what is done, 0 for silence.
        mode: ``"min"``, ``"max"`` or ``"auto"``; see `Monitor`.
        min_delta: Least change that counts as improvement, at least 0.
        cooldown: Epochs after a reduction in which none are counted, at least 0.
        min_lr: Lowest rate that a reduction may set, at least 0.
        allow_kl: Whether `monitor` may contain KL.

    Raises:
        ValueError: If an argument is out of its range, `monitor` contains KL or is not
            among the logs, or the optimiser's rate is a schedule.
    """

    kind = "plateau"

    def __init__(
        self,
        monitor="val_data_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
        allow_kl=False,
    ):
        super().__init__(monitor, patience, verbose, mode, min_delta, allow_kl)
        self.factor = _checks.probability("factor", factor)
        self.cooldown = int(_checks.non_negative("cooldown", cooldown))
        self.min_lr = _checks.non_negative("min_lr", min_lr)

    def on_train_begin(self, logs=None):
        """Check that the rate can be set."""
        super().on_train_begin(logs)
        memory.check_rate_is_number("ReduceLROnPlateau", self.model.optimizer)

    def on_epoch_end(self, epoch, logs=None):
        """Lower the rate if the patience is used up."""
        self._log_rate(logs)
        cooldown = max(0.0, self._get("cooldown") - 1)
        wait = self._observe(logs)
        if wait is None:
            return
        self._put(cooldown=cooldown)
        if cooldown > 0:
            self._put(wait=0)
        elif wait >= self.patience:
            self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        rate = self._read_rate()
        lower = max(rate * self.factor, self.min_lr)
        if lower >= rate:
            return
        self.model.optimizer.learning_rate = lower
        self._put(wait=0, cooldown=self.cooldown)
        self._say(epoch, f"ReduceLROnPlateau lowers the learning rate to {lower:.4g}.")
