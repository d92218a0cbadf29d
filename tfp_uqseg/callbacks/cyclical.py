"""A learning rate that rises and falls again and again."""

from __future__ import annotations

import math

import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.callbacks import memory

MODES = ("triangular", "triangular2", "exp_range")


class CyclicalLearningRate(memory.Remembering):
    """Move the learning rate between two bounds, after :cite:t:`smith2017`.

    At the optimiser's iteration t, counted from 0, with c = floor(t / (2 step_size)):

        x = abs(t / step_size - 2 c - 1)
        rate = scale * (base_rate + (max_rate - base_rate) * (1 - x) * height)

    and height = 1 for ``"triangular"``, 2^-c for ``"triangular2"``, gamma^t for
    ``"exp_range"``. As in the common implementations the height shrinks the range above
    `base_rate`, which stays; the paper's text lets both bounds of ``"exp_range"`` fall.

    The cycle multiplies: whatever else sets the optimiser's rate between two steps, our
    `ReduceLROnPlateau` or that of Keras, before or after this callback in the list,
    thereby changes `scale`, which lowers ceiling and floor alike. `scale` and the rate
    set last are remembered with the model, so that a resumed run goes on exactly.

    Adds ``learning_rate``, that of the last step, to the logs of an epoch.

    Args:
        base_rate: The floor, above 0.
        max_rate: The ceiling, above `base_rate`.
        step_size: Steps from floor to ceiling, half a cycle; the paper advises 2 to 10
            epochs.
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``.
        gamma: Factor of the height at every step, above 0 and at most 1; of effect on
            ``"exp_range"`` alone. The default is the paper's.

    Raises:
        ValueError: If an argument is out of its range, or the optimiser's rate is a
            schedule.

    >>> cycle = CyclicalLearningRate(1.0, 5.0, 4, mode="triangular2")
    >>> [cycle.rate(iteration) for iteration in (0, 2, 4, 6, 8, 12)]
    [1.0, 3.0, 5.0, 3.0, 1.0, 3.0]
    """

    def __init__(
        self, base_rate, max_rate, step_size, mode="triangular", gamma=0.99994
    ):
        super().__init__()
        self.base_rate = _checks.positive("base_rate", base_rate)
        self.max_rate = _checks.positive("max_rate", max_rate)
        if self.max_rate <= self.base_rate:
            raise ValueError(
                f"`max_rate` must be above `base_rate`, {base_rate!r}; got "
                f"{max_rate!r}."
            )
        self.step_size = _checks.positive_integer("step_size", step_size)
        _checks.one_of("mode", mode, MODES)
        self.mode = mode
        self.gamma = _checks.positive("gamma", gamma)
        if self.gamma > 1.0:
            raise ValueError(f"`gamma` must be at most 1; got {gamma!r}.")

    def rate(self, iteration: int) -> float:
        """Return the rate at an iteration while nothing has lowered the cycle."""
        cycle = iteration // (2 * self.step_size)
        share = 1.0 - abs(iteration / self.step_size - 2 * cycle - 1)
        height = {
            "triangular": 1.0,
            "triangular2": 0.5**cycle,
            "exp_range": self.gamma**iteration,
        }[self.mode]
        return self.base_rate + (self.max_rate - self.base_rate) * share * height

    def on_train_begin(self, logs=None):
        """Check that the rate can be set."""
        super().on_train_begin(logs)
        memory.check_rate_is_number("CyclicalLearningRate", self.model.optimizer)

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rate of the coming step."""
        scale = self._scale()
        iteration = int(tf_keras.backend.get_value(self.model.optimizer.iterations))
        # As the optimiser will hold it, to be recognised at the next step.
        rate = float(tf_keras.backend.cast_to_floatx(scale * self.rate(iteration)))
        self.model.optimizer.learning_rate = rate
        self.memory.put(cycle_scale=scale, cycle_rate=rate)

    def on_epoch_end(self, epoch, logs=None):
        """Log the rate of the last step."""
        self._log_rate(logs)

    def on_train_end(self, logs=None):
        """Take what lowered the rate last; a rate set from now on is no scaling."""
        self.memory.put(cycle_scale=self._scale(), cycle_rate=math.nan)

    def _scale(self) -> float:
        """Return the scale, changed as others changed the rate since our last step."""
        numbers = self.memory.values()
        scale, ours = (numbers[memory.PLACES[f"cycle_{n}"]] for n in ("scale", "rate"))
        found = self._read_rate()
        if math.isnan(ours) or found == ours:
            return scale
        return scale * found / ours
