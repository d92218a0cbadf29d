from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from tfp_uqseg.evaluation import calibration, scaling


def cohort(slope, shift, patients=6, voxels=20000, seed=0):
    """Patients whose true logit is slope * logit + shift of what is predicted."""
    rng = np.random.default_rng(seed)
    for _ in range(patients):
        logits = rng.normal(-1.0, 2.0, voxels)
        true = scipy.special.expit(slope * logits + shift)
        yield rng.random(voxels) < true, scipy.special.expit(logits)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_temperature_is_recovered(temperature):
    cases = list(cohort(1.0 / temperature, 0.0))
    found = scaling.fit_temperature(cases)
    assert found.temperature == pytest.approx(temperature, rel=0.02)
    assert found.shift == 0.0
    before, after = (
        np.mean([calibration.nll(m, change(p)) for m, p in cases])
        for change in (np.asarray, found)
    )
    assert after <= before + 1e-9


def test_platt_is_recovered_and_beats_temperature_where_there_is_a_shift():
    cases = list(cohort(0.5, 0.8))
    platt, temperature = scaling.fit_platt(cases), scaling.fit_temperature(cases)
    assert platt.slope == pytest.approx(0.5, abs=0.02)
    assert platt.shift == pytest.approx(0.8, abs=0.03)
    losses = [
        np.mean([calibration.nll(m, change(p)) for m, p in cases])
        for change in (platt, temperature)
    ]
    assert losses[0] < losses[1]


def test_platt_is_logistic_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    mask, p = next(cohort(0.7, -0.4, patients=1))
    found = scaling.fit_platt([(mask, p)])
    fitted = linear.LogisticRegression(C=np.inf).fit(
        scipy.special.logit(p)[:, None], mask
    )
    assert found.slope == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
    assert found.shift == pytest.approx(fitted.intercept_[0], rel=1e-3)


def test_temperature_keeps_the_mask_and_the_order():
    p = np.random.default_rng(0).random(1000)
    mended = scaling.Scaling(slope=0.4)(p)
    np.testing.assert_array_equal(mended > 0.5, p > 0.5)
    np.testing.assert_array_equal(np.argsort(mended), np.argsort(p))
    np.testing.assert_allclose(scaling.Scaling()(p), p)


def test_only_the_brain_is_looked_at_and_every_patient_counts_the_same():
    (mask, p), (other, q) = cohort(0.5, 0.0, patients=2)
    brain = np.arange(mask.size) < 15000
    spoilt = np.where(brain, p, 1.0 - mask)  # wrong and sure outside
    inside = scaling.fit_temperature([(mask, spoilt, brain)])
    assert inside.temperature == pytest.approx(2.0, rel=0.06)
    many = [(np.tile(mask, 4), np.tile(p, 4)), (other, q)]
    assert scaling.fit_temperature(many).slope == pytest.approx(
        scaling.fit_temperature([(mask, p), (other, q)]).slope, abs=1e-4
    )


def test_sure_probabilities_stay_finite():
    assert np.isfinite(scaling.Scaling(0.5)([0.0, 1.0])).all()
    found = scaling.fit_temperature([([1, 0, 1], [1.0, 0.0, 1.0])])
    assert found.temperature == pytest.approx(0.05, rel=0.01)


def test_there_must_be_a_patient_and_probabilities():
    with pytest.raises(ValueError, match="at least one patient"):
        scaling.fit_temperature([])
    with pytest.raises(ValueError, match="`probabilities` must lie in 0..1"):
        scaling.fit_platt([([1, 0], [1.5, 0.0])])
    with pytest.raises(ValueError, match="`probabilities` must lie in 0..1"):
        scaling.Scaling()([np.nan])


def test_draws_without_spread_are_scaled_as_their_logits_are():
    mask, p = next(cohort(0.5, 0.8, patients=1))
    logits = scipy.special.logit(p)[None]
    for kind, fit in (
        ("temperature", scaling.fit_temperature),
        ("platt", scaling.fit_platt),
    ):
        found = scaling.fit_draws([(mask, logits, None)], kind=kind)
        expected = fit([(mask, p)])
        assert found.slope == pytest.approx(expected.slope, rel=2e-3)
        assert found.shift == pytest.approx(expected.shift, abs=5e-3)


def test_draws_are_fitted_by_the_loss_of_their_mean():
    rng = np.random.default_rng(0)
    true = rng.normal(-1.0, 2.0, 40000)
    draws = (true + rng.normal(0.0, 1.0, (8, true.size))) / 0.5
    spread = np.full(draws.shape, 0.4)
    nodes = rng.normal(size=(200, 1, 1))
    mean = scipy.special.expit(0.5 * (draws + spread * nodes)).mean((0, 1))
    mask = rng.random(true.size) < mean
    found = scaling.fit_draws([(mask, draws, spread)])
    assert found.slope == pytest.approx(0.5, rel=0.03)


def test_draws_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"masks \(V,\) with logits \(S, V\)"):
        scaling.fit_draws([([True], [0.5], None)])
    with pytest.raises(ValueError, match="standard deviations of the shape"):
        scaling.fit_draws([([True], [[0.5]], [[-1.0]])])
    with pytest.raises(ValueError, match="finite logits"):
        scaling.fit_draws([([True], [[np.nan]], None)])
    with pytest.raises(ValueError, match="at least one patient"):
        scaling.fit_draws([])
