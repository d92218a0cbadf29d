"""Trying learning rates out before training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import random
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.callbacks import memory


@dataclasses.dataclass(frozen=True)
class FoundRates:
    """What a sweep over learning rates showed, for `plotting.rate_sweep`.

    Attributes:
        rates: The learning rate of each step, rising: (S,), S at most `steps`.
        losses: The loss of each step's batch: (S,).
        smoothed: The same without the batches' noise: (S,).
        suggestion: The rate at which the smoothed loss falls fastest per decade, a
            ceiling for a cycle or a rate for training; None where it never falls.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None


def find_learning_rate(
    model: tf_keras.Model,
    data: tf.data.Dataset,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    *,
    monitor: str | None = None,
    smoothing: float = 0.9,
    divergence: float = 4.0,
) -> FoundRates:
    """Raise the learning rate step by step and watch the loss, as Smith advises.

    The range test of :cite:t:`smith2017`, with rates of equal ratio. The sweep ends
    early where the smoothed loss exceeds `divergence` times its least value, or is not
    finite. The smoothed loss is the running mean with factor `smoothing`, corrected for
    its start.

    Weights, optimiser, learning rate, the memory of callbacks and the random numbers of
    Python, NumPy and TensorFlow are left as they were; only a data set that shuffles
    anew in each pass has made one pass more. `annealing` stays where it is during the
    sweep: 1 in a new network, which says that the KL terms count in full.

    Args:
        model: A compiled model.
        data: Batches as for `fit`, begun again where they end.
        lowest: First rate, above 0.
        highest: Last rate, above `lowest`.
        steps: Number of rates, at least 2.
        monitor: Name in the logs of a step; None takes ``data_loss``, which is free of
            KL, or ``loss`` where the model has no such number.
        smoothing: Weight of the past in the running mean, between 0 and 1.
        divergence: Multiple of the least smoothed loss that ends the sweep, above 1.

    Returns:
        Rates, losses and a suggestion.

    Raises:
        ValueError: If an argument is out of its range, the model is not compiled, its
            rate is a schedule, the data are empty, or the loss is not finite from the
            first steps on.
    """
    _check(model, data, lowest, highest, steps, divergence)
    smoothing = _checks.probability("smoothing", smoothing)
    tried = np.geomspace(lowest, highest, steps)
    rates, losses, smoothed = [], [], []
    mean, least = 0.0, math.inf
    with _as_it_was(model):
        for step, (rate, loss) in enumerate(_sweep(model, data, tried, monitor), 1):
            mean = smoothing * mean + (1.0 - smoothing) * loss
            now = mean / (1.0 - smoothing**step)
            if not math.isfinite(now):
                break
            rates.append(rate)
            losses.append(loss)
            smoothed.append(now)
            least = min(least, now)
            if now > divergence * least:
                break
    if len(rates) < 2:
        raise ValueError(
            f"The loss must be finite at the `lowest` rate, {lowest!r}; it is not. Try "
            "a lower one, or look at the data."
        )
    return FoundRates(
        np.array(rates),
        np.array(losses),
        np.array(smoothed),
        _suggest(np.array(rates), np.array(smoothed)),
    )


def _check(model, data, lowest, highest, steps, divergence) -> None:
    if getattr(model, "optimizer", None) is None:
        raise ValueError("`model` must be compiled; call `model.compile()` first.")
    memory.check_rate_is_number("find_learning_rate", model.optimizer)
    if not isinstance(data, tf.data.Dataset):
        raise ValueError(
            f"`data` must be a tf.data.Dataset of batches; got {type(data).__name__}. "
            "Make one with `tf.data.Dataset.from_tensor_slices`."
        )
    if _checks.positive("highest", highest) <= _checks.positive("lowest", lowest):
        raise ValueError(
            f"`highest` must be above `lowest`, {lowest!r}; got {highest!r}."
        )
    if _checks.positive_integer("steps", steps) < 2:
        raise ValueError(f"`steps` must be at least 2; got {steps!r}.")
    if not divergence > 1.0:
        raise ValueError(f"`divergence` must be above 1; got {divergence!r}.")


def _sweep(model, data, rates, monitor) -> Iterator[tuple[float, float]]:
    """Yield each rate with the loss of its step, which is taken before the update."""
    train = model.make_train_function(force=True)
    batches = iter(model.distribute_strategy.experimental_distribute_dataset(data))
    taken = 0
    for rate in rates:
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        try:
            logs = train(batches)
        except (StopIteration, tf.errors.OutOfRangeError):
            if not taken:
                raise ValueError("`data` must hold a batch; it is empty.") from None
            batches = iter(
                model.distribute_strategy.experimental_distribute_dataset(data)
            )
            taken, logs = 0, train(batches)
        taken += 1
        yield float(rate), _loss(logs, monitor)


def _loss(logs: dict, monitor: str | None) -> float:
    if monitor is None:
        monitor = "data_loss" if "data_loss" in logs else "loss"
    if monitor not in logs:
        raise ValueError(
            f"`monitor` must be in the logs of a step; got {monitor!r}, they hold "
            f"{sorted(logs)}."
        )
    return float(logs[monitor])


def _suggest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Return the rate of the steepest fall on the way to the least loss."""
    end = int(np.argmin(smoothed)) + 1
    if end < 2:
        return None
    slopes = np.diff(smoothed[:end]) / np.diff(np.log(rates[:end]))
    return float(rates[np.argmin(slopes)])


@contextlib.contextmanager
def _as_it_was(model) -> Iterator[None]:
    """Give the model and the random numbers back as they were."""
    model.optimizer.build(model.trainable_variables)
    functions = model.train_function, getattr(model, "train_tf_function", None)
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 (readers of data may use it)
    generator = tf.random.get_global_generator()
    generator_state = generator.state.numpy()
    checkpoint = tf.train.Checkpoint(
        model=model,
        optimizer=model.optimizer,
        counter=model._train_counter,
        metrics=list(model.metrics),
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = checkpoint.write(str(pathlib.Path(folder) / "before"))
        try:
            yield
        finally:
            # Metrics that the sweep has made are in no file.
            checkpoint.read(saved).expect_partial()
            model.train_function, model.train_tf_function = functions
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
            generator.state.assign(generator_state)
