from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg import callbacks

pytestmark = pytest.mark.usefixtures("light_steps")


def test_linear_annealing_rises_once():
    anneal = callbacks.KLAnnealing(4, 0.2)
    found = [anneal.value(epoch) for epoch in (0, 1, 2.5, 4, 9)]
    np.testing.assert_allclose(found, [0.2, 0.4, 0.7, 1.0, 1.0])
    assert callbacks.KLAnnealing(0).value(0) == 1.0


def test_cyclical_annealing_is_that_of_fu():
    """Eq. 6 and 7 there: tau = mod(t, T / M) / (T / M); tau / R up to R, then 1."""
    epochs, cycles, ratio = 10, 4, 0.4
    anneal = callbacks.KLAnnealing(epochs, 0, "cyclical", cycles=cycles, ratio=ratio)
    for progress in np.linspace(0, 9.99, 57):
        tau = (progress % (epochs / cycles)) / (epochs / cycles)
        expected = tau / ratio if tau <= ratio else 1.0
        assert anneal.value(progress) == pytest.approx(expected, abs=1e-9)
    assert anneal.value(10) == 1.0


def test_cyclical_annealing_starts_every_cycle_where_it_is_told():
    anneal = callbacks.KLAnnealing(8, 0.25, "cyclical", cycles=2, ratio=1.0)
    found = [anneal.value(epoch) for epoch in (0, 2, 4, 6, 8)]
    np.testing.assert_allclose(found, [0.25, 0.625, 0.25, 0.625, 1.0])


def test_cyclical_annealing_moves_the_variable_of_the_model(kit):
    model = kit.segmenter("flipout")
    anneal = callbacks.KLAnnealing(4, schedule="cyclical", cycles=2)
    kit.fit(model, [anneal], 3)
    assert float(model.annealing) == pytest.approx(1.0)  # the middle of cycle two
    kit.fit(model, [anneal], 2)
    assert float(model.annealing) == 0.0  # the start of cycle two


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"epochs": -1}, "`epochs` must be finite and at least 0; got -1"),
        ({"start": -0.1}, "`start` must be finite and at least 0"),
        ({"schedule": "cosine"}, "`schedule` must be one of 'linear', 'cyclical'"),
        ({"cycles": 0}, "`cycles` must be a whole number above 0; got 0"),
        ({"ratio": 0.0}, "`ratio` must be finite and above 0; got 0.0"),
        ({"ratio": 1.5}, "`ratio` must be at most 1; got 1.5"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.KLAnnealing(**arguments)
