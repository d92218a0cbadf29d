"""Training callbacks that know about Bayesian layers."""

from __future__ import annotations

import tf_keras

from tfp_uqseg import _checks


class KLAnnealing(tf_keras.callbacks.Callback):
    """Raise the weight of KL linearly from `start` to one during `epochs` epochs.

    The value is a function of the epoch (and of the batch, where the number of steps is
    known), so that a resumed run continues where it was. In a `models.Segmenter` it is
    written to ``model.annealing``; in a plain ``tf_keras`` model every Bayesian layer's
    ``kl_weight`` becomes its initial value times the factor. Both are variables which
    the compiled graph reads at every step.

    Args:
        epochs: Length of the warm-up, at least 0 (0 keeps the factor at one).
        start: First value of the factor.
    """

    #: Tells `models.Segmenter.fit` that it need not add a warm-up.
    anneals_kl = True

    def __init__(self, epochs=5, start=0.0):
        super().__init__()
        self.epochs = _checks.non_negative("epochs", epochs)
        self.start = _checks.non_negative("start", start)
        self._epoch = 0

    def value(self, progress: float) -> float:
        """Return the factor after `progress` epochs (a fraction counts)."""
        if self.epochs == 0.0:
            return 1.0
        share = min(1.0, progress / self.epochs)
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
