"""Schedules that follow a run's progress, whether epochs or minutes limit it.

With a time budget nobody knows the number of epochs beforehand. KL annealing and, with
the cosine, the learning rate therefore follow the *progress*, the larger of the
fraction of the epochs and the fraction of the minutes used: 0 at the first step, 1 at
the last. Cycles and plateaus count epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import tf_keras

from tfp_uqseg import callbacks
from tfp_uqseg.experiments import config as config_module

#: The floor of a cycle; the paper of the schedule advises a third or a quarter.
CYCLE_FLOOR = 0.25


def learning_rate(progress: float, *, peak: float, warm_up: float = 0.03) -> float:
    """Return the learning rate at `progress`: a linear rise, then half a cosine.

    Args:
        progress: Fraction of the run that is done, from 0 to 1.
        peak: Largest rate.
        warm_up: Fraction of the run in which the rate rises to `peak`.

    Returns:
        The rate; a hundredth of `peak` at the two ends.

    >>> learning_rate(0.1, peak=1.0, warm_up=0.1)
    1.0
    >>> round(learning_rate(0.55, peak=1.0, warm_up=0.1), 4)
    0.505
    """
    floor = 0.01
    if progress < warm_up:
        share = progress / warm_up
    else:
        share = 0.5 * (
            1 + math.cos(math.pi * (progress - warm_up) / max(1 - warm_up, 1e-9))
        )
    return peak * (floor + (1 - floor) * share)


def annealing(progress: float, *, fraction: float = 0.3) -> float:
    """Return the weight of the KL terms at `progress`: a linear rise to 1.

    Args:
        progress: Fraction of the run that is done, from 0 to 1.
        fraction: Part of the run in which the weight rises; 0 for none.

    >>> annealing(0.15, fraction=0.3)
    0.5
    """
    return 1.0 if progress >= fraction else progress / fraction


def empty_share(progress: float, *, most: float, fraction: float = 0.3) -> float:
    """Return the share of slices without tumour at `progress`: a linear rise to `most`.

    Args:
        progress: Fraction of the run that is done, from 0 to 1.
        most: The share at the end of the rise.
        fraction: Part of the run in which the share rises from 0; 0 for none.

    >>> empty_share(0.15, most=0.4, fraction=0.3)
    0.2
    """
    return most if progress >= fraction else most * progress / fraction


def rate_callbacks(
    settings: config_module.TrainConfig, *, steps_per_epoch: int
) -> list[tf_keras.callbacks.Callback]:
    """Return the callbacks of the settings' schedule and early stopping.

    Both watch the data loss of the validation. The cosine needs none of them.

    Args:
        settings: Gives `schedule`, `early_stopping` and what belongs to them.
        steps_per_epoch: Optimisation steps of an epoch.
    """
    found = []
    if settings.schedule.startswith("cyclical"):
        peak, half = settings.learning_rate, settings.cycle_epochs / 2
        found.append(
            callbacks.CyclicalLearningRate(
                CYCLE_FLOOR * peak, peak, max(1, round(half * steps_per_epoch))
            )
        )
    if settings.schedule.endswith("plateau"):
        found.append(callbacks.ReduceLROnPlateau(patience=settings.plateau_patience))
    if settings.early_stopping is not None:
        found.append(callbacks.EarlyStopping(patience=settings.early_stopping))
    return found


class Clock:
    """Elapsed training time and epochs of a run, over all its resumed parts.

    Args:
        most_epochs: Epochs after which the run ends.
        max_minutes: Minutes after which the run ends; None for no limit.
        elapsed: Seconds that earlier parts of the run took.
        reserve: Seconds at the end that belong to the closing validation.
        now: A monotonic clock in seconds.
    """

    def __init__(
        self,
        most_epochs: int,
        *,
        max_minutes: float | None = None,
        elapsed: float = 0.0,
        reserve: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ):
        self.most_epochs = most_epochs
        self.max_seconds = math.inf if max_minutes is None else 60.0 * max_minutes
        self.reserve = reserve
        self._earlier, self._now = elapsed, now
        self._start: float | None = None
        self._mark: tuple[float, float] | None = None

    def start(self) -> None:
        """Start counting; calls after the first change nothing."""
        if self._start is None:
            self._start = self._now()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier parts included."""
        part = 0.0 if self._start is None else self._now() - self._start
        return self._earlier + part

    @property
    def out_of_time(self) -> bool:
        """Whether only the `reserve` is left, which the closing validation needs."""
        return self.elapsed >= self.max_seconds - self.reserve

    def progress(self, epochs: float) -> float:
        """Return the fraction of the run that is done after `epochs` epochs."""
        budget = max(self.max_seconds - self.reserve, 1e-9)
        return min(1.0, max(self.elapsed / budget, epochs / self.most_epochs))

    def minutes_left(self, epochs: float) -> float:
        """Return the minutes left after `epochs` epochs, NaN if not yet known.

        The first call sets the mark from which the pace is told: what lies before it,
        tracing the network above all, does not come again.
        """
        if self._mark is None:
            self._mark = self.elapsed, epochs
        (since, first), budget = self._mark, self.max_seconds - self.reserve
        if epochs > first:
            pace = (self.elapsed - since) / (epochs - first)
            seconds = pace * (self.most_epochs - epochs)
        elif math.isinf(budget):
            return math.nan
        else:
            seconds = math.inf
        return max(0.0, min(seconds, budget - self.elapsed)) / 60.0


class ProgressSchedule(tf_keras.callbacks.Callback):
    """Set learning rate and KL annealing at every step, and stop when time is up.

    The learning rate is left to others unless the schedule is the cosine.

    Adds ``progress``, ``learning_rate``, ``kl_annealing`` and ``minutes`` to the logs
    of an epoch.

    Args:
        clock: The run's clock.
        settings: Gives `schedule`, `learning_rate`, `warm_up` and `kl_annealing`.
        steps_per_epoch: Optimisation steps of an epoch.
    """

    anneals_kl = True

    def __init__(
        self,
        clock: Clock,
        settings: config_module.TrainConfig,
        *,
        steps_per_epoch: int,
    ):
        super().__init__()
        self.clock, self.settings = clock, settings
        self.steps_per_epoch = steps_per_epoch
        self.epochs_done = 0.0
        self._epoch = 0
        self._validation_start = None

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.clock.start()

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch, from which progress is counted."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rates of the coming step."""
        self.epochs_done = self._epoch + batch / self.steps_per_epoch
        progress = self.clock.progress(self.epochs_done)
        if self.settings.schedule == "cosine":
            self.model.optimizer.learning_rate = learning_rate(
                progress,
                peak=self.settings.learning_rate,
                warm_up=self.settings.warm_up,
            )
        self.model.annealing.assign(
            annealing(progress, fraction=self.settings.kl_annealing)
        )

    def on_train_batch_end(self, batch, logs=None):
        """Stop in the middle of an epoch when the time is up."""
        self.epochs_done = self._epoch + (batch + 1) / self.steps_per_epoch
        if self.clock.out_of_time:
            self.model.stop_training = True

    def on_test_begin(self, logs=None):
        """Time the validation."""
        self._validation_start = self.clock.elapsed

    def on_test_end(self, logs=None):
        """Reserve the time of one validation at the end of the budget."""
        if self.model.stop_training:
            return  # a quicker validation than the last must not reopen the run
        seconds = self.clock.elapsed - self._validation_start
        self.clock.reserve = min(1.1 * seconds, 0.5 * self.clock.max_seconds)

    def on_epoch_end(self, epoch, logs=None):
        """Add where the run stands to the logs."""
        if logs is None:
            return
        logs["progress"] = self.clock.progress(self.epochs_done)
        logs["minutes"] = self.clock.elapsed / 60.0
        # A plateau has logged it already, and lowered it since.
        rate = float(self.model.optimizer.learning_rate)
        logs.setdefault("learning_rate", rate)
        logs["kl_annealing"] = float(self.model.annealing)
        if self.clock.out_of_time:
            self.model.stop_training = True
