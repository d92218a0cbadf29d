"""The sweep over learning rates."""

from __future__ import annotations

import numpy as np
from matplotlib import figure

from tfp_uqseg import _checks
from tfp_uqseg.plotting import drawing


def rate_sweep(
    rates, losses, *, smoothed=None, suggestion: float | None = None
) -> figure.Figure:
    """Loss against learning rate, as `callbacks.find_learning_rate` found it.

    Args:
      rates: The learning rates, above 0: (S,).
      losses: The loss at each of them: (S,).
      smoothed: The same without the batches' noise: (S,); None draws none.
      suggestion: A rate to mark; None marks none.

    Returns:
      The figure, for `save`.

    Raises:
      ValueError: If the arrays differ in shape, or a rate is not above 0.
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    _checks.same_shape("losses", losses, "rates", rates)
    if rates.ndim != 1 or not rates.size or not np.all(rates > 0):
        raise ValueError("`rates` must be a list of numbers above 0.")
    plot = figure.Figure(figsize=(4.6, 3.4), layout="constrained")
    axis = plot.subplots()
    quiet = smoothed is not None
    axis.plot(rates, losses, color="0.7" if quiet else drawing.SERIES[0], label="loss")
    if quiet:
        smoothed = np.asarray(smoothed, float)
        _checks.same_shape("smoothed", smoothed, "rates", rates)
        axis.plot(rates, smoothed, color=drawing.SERIES[0], label="smoothed")
    if suggestion is not None:
        label = f"suggestion, {suggestion:.2g}"
        axis.axvline(suggestion, color=drawing.SERIES[1], linestyle="--", label=label)
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss of a batch")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return plot
