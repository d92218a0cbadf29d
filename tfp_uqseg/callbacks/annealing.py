"""Phasing the KL terms in."""

from __future__ import annotations

import tf_keras

from tfp_uqseg import _checks

SCHEDULES = ("linear", "cyclical")


class KLAnnealing(tf_keras.callbacks.Callback):
    """Raise the weight of KL from `start` to one, once or again and again.

    With ``"linear"`` it rises during `epochs` epochs. With ``"cyclical"``, after
    :cite:t:`fu2019`, `epochs` are parted into `cycles` equal cycles; in each the factor
    rises linearly from `start` to one during the share `ratio` of the cycle and stays
    there for the rest. After `epochs` it is one either way.

    The value is a function of the epoch (and of the batch, where the number of steps is
    known), so that a resumed run continues where it was. In a `models.Segmenter` it is
    written to ``model.annealing``; in a plain ``tf_keras`` model every Bayesian layer's
    ``kl_weight`` becomes its initial value times the factor. Both are variables which
    the compiled graph reads at every step.

    Args:
        epochs: Length of the warm-up, at least 0 (0 keeps the factor at one).
        start: First value of the factor.
        schedule: ``"linear"`` or ``"cyclical"``.
        cycles: Number of cycles; of no effect on ``"linear"``.
        ratio: Share of a cycle in which the factor rises, above 0 and at most 1; of no
            effect on ``"linear"``.

    >>> anneal = KLAnnealing(8, schedule="cyclical", cycles=2)
    >>> [anneal.value(epoch) for epoch in (0, 1, 2, 3, 4, 5, 8)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]
    """

    #: Tells `models.Segmenter.fit` that it need not add a warm-up.
    anneals_kl = True

    def __init__(self, epochs=5, start=0.0, schedule="linear", cycles=4, ratio=0.5):
        super().__init__()
        self.epochs = _checks.non_negative("epochs", epochs)
        self.start = _checks.non_negative("start", start)
        _checks.one_of("schedule", schedule, SCHEDULES)
        self.schedule = schedule
        self.cycles = _checks.positive_integer("cycles", cycles)
        self.ratio = _checks.positive("ratio", ratio)
        if self.ratio > 1.0:
            raise ValueError(f"`ratio` must be at most 1; got {ratio!r}.")
        self._epoch = 0

    def value(self, progress: float) -> float:
        """Return the factor after `progress` epochs (a fraction counts)."""
        if progress >= self.epochs:
            return 1.0
        share = progress / self.epochs
        if self.schedule == "cyclical":
            share = min(1.0, (share * self.cycles) % 1.0 / self.ratio)
        return self.start + (1.0 - self.start) * share

    def on_epoch_begin(self, epoch, logs=None):
        """Set the factor of the epoch."""
        self._epoch = epoch
        steps = (self.params or {}).get("steps")
        # Without a number of steps the factor of the epoch's middle stands for all.
        self._assign(self.value(epoch if steps else epoch + 0.5))

    def on_train_batch_begin(self, batch, logs=None):
        """Set the factor of the batch, where the number of steps is known."""
        steps = (self.params or {}).get("steps")
        if steps and self._epoch < self.epochs:
            self._assign(self.value(self._epoch + batch / steps))

    def on_epoch_end(self, epoch, logs=None):
        """Leave the factor that the next epoch starts with."""
        self._assign(self.value(epoch + 1))

    def _assign(self, factor: float) -> None:
        if hasattr(self.model, "annealing"):
            self.model.annealing.assign(factor)
            return
        for layer in self.model.submodules:
            if hasattr(layer, "kl_divergence"):
                layer.kl_weight.assign(factor * layer.initial_kl_weight)
