"""What a run tells its user while it works: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys

import tf_keras
import tqdm

from tfp_uqseg.experiments import schedule


def say(text: str) -> None:
    """Write a line to standard error, above any bar."""
    tqdm.tqdm.write(text, file=sys.stderr)


def bar(total: int, title: str, *, unit: str, shown: bool = True) -> tqdm.tqdm:
    """Return a bar on standard error; silent where that is no terminal."""
    return tqdm.tqdm(
        total=total,
        desc=title,
        unit=unit,
        file=sys.stderr,
        disable=None if shown else True,
        leave=False,
        dynamic_ncols=True,
    )


class CountBar:
    """A bar for functions that report (done, in all).

    Args:
        title: Text before the bar.
        unit: What is counted.
        shown: Whether to draw anything.
    """

    def __init__(self, title: str, *, unit: str, shown: bool = True):
        self._title, self._unit, self._shown = title, unit, shown
        self._bar: tqdm.tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        """Move the bar; it disappears when all is done."""
        if self._bar is None:
            self._bar = bar(total, self._title, unit=self._unit, shown=self._shown)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()


class TrainingBar(tf_keras.callbacks.Callback):
    """A bar per epoch with loss, Dice and minutes left, and a line after each epoch.

    Args:
        clock: The run's clock.
        steps_per_epoch: Optimisation steps of an epoch.
        most_epochs: Epochs of the run, or None where time alone ends it.
    """

    def __init__(
        self, clock: schedule.Clock, *, steps_per_epoch: int, most_epochs: int | None
    ):
        super().__init__()
        self._clock, self._steps, self._most = clock, steps_per_epoch, most_epochs
        self._epoch, self._bar = 0, None

    def on_epoch_begin(self, epoch, logs=None):
        """Open the epoch's bar."""
        self._epoch = epoch
        self._bar = bar(self._steps, self._title(), unit="step")

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar."""
        self._bar.update(batch + 1 - self._bar.n)
        left = self._clock.minutes_left(self._epoch + (batch + 1) / self._steps)
        values = _shown(logs, ("loss", "dice"))
        self._bar.set_postfix_str(values + _minutes(left), refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        """Replace the bar by a line."""
        self._bar.close()
        left = self._clock.minutes_left(epoch + 1)
        values = _shown(logs, ("loss", "dice", "val_loss", "val_dice"))
        say(f"{self._title()}: {values}{_minutes(left)}")

    def on_train_end(self, logs=None):
        """Close what an early end left open."""
        if self._bar is not None:
            self._bar.close()

    def _title(self) -> str:
        return f"epoch {self._epoch + 1}" + (f"/{self._most}" if self._most else "")


def _shown(logs: dict | None, names: tuple[str, ...]) -> str:
    logs = logs or {}
    words = {"loss": "loss", "dice": "Dice", "val_loss": "validation loss"}
    words["val_dice"] = "validation Dice"
    return ", ".join(f"{words[n]} {float(logs[n]):.3f}" for n in names if n in logs)


def _minutes(left: float) -> str:
    return "" if math.isnan(left) else f", {left:.1f} min left"
