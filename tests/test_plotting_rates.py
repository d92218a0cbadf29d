from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg import plotting

RATES = np.geomspace(1e-4, 1.0, 5)
LOSSES = np.array([1.0, 0.8, 0.4, 0.5, 2.0])


def test_a_sweep_shows_losses_over_rates_and_the_suggestion(tmp_path):
    plot = plotting.rate_sweep(RATES, LOSSES, smoothed=LOSSES / 2, suggestion=1e-2)
    (axis,) = plot.axes
    raw, smoothed, mark = axis.get_lines()
    np.testing.assert_array_equal(raw.get_xdata(), RATES)
    np.testing.assert_array_equal(raw.get_ydata(), LOSSES)
    np.testing.assert_array_equal(smoothed.get_ydata(), LOSSES / 2)
    assert list(mark.get_xdata()) == [1e-2, 1e-2]
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "learning rate"
    plotting.save(plot, tmp_path / "rates.png", dpi=50)
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_without_more_is_one_line():
    assert len(plotting.rate_sweep(RATES, LOSSES).axes[0].get_lines()) == 1


def test_a_sweep_that_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="`losses` must have the shape of `rates`"):
        plotting.rate_sweep(RATES, LOSSES[:2])
    with pytest.raises(ValueError, match="`smoothed` must have the shape of `rates`"):
        plotting.rate_sweep(RATES, LOSSES, smoothed=LOSSES[:2])
    for rates in ([], [0.0], np.ones((1, 1))):
        with pytest.raises(ValueError, match="`rates` must be a list of numbers above"):
            plotting.rate_sweep(rates, rates)
