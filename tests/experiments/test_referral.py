from __future__ import annotations

import numpy as np
import pytest

from tfp_uqseg.evaluation import risk
from tfp_uqseg.experiments import referral, tables


def records(dice, entropy, region="WT"):
    empty = dict.fromkeys(tables.COLUMNS)
    return [
        {**empty, "case": i, "region": region, "dice": d, "region_entropy": e}
        for i, (d, e) in enumerate(zip(dice, entropy, strict=True))
    ]


def test_areas_are_those_of_their_definition_with_intervals_around_them():
    dice, entropy = [0.9, 0.8, 0.85, 0.2, 0.7], [0.1, 0.3, 0.2, 0.6, 0.4]
    found = referral.referral(records(dice, entropy), level=0.95, seed=0)
    areas = found["WT"]["region_entropy"]
    expected = risk.risk(entropy, dice)
    for name in risk.Risk._fields:
        assert areas[name]["mean"] == pytest.approx(getattr(expected, name))
        assert areas[name]["low"] <= areas[name]["mean"] <= areas[name]["high"]
    gain = areas["referral_gain"]["mean"]
    assert gain == pytest.approx(np.mean([0.9, 0.8, 0.85, 0.7]) - np.mean(dice))
    assert areas["patients"] == 5
    assert list(found["WT"]) == ["region_entropy"]
    (_, row) = referral.rows(found)
    assert row[:2] == ["mean entropy of the predicted region", "WT"]
    assert row[2].startswith("0.000 [")
    assert row[-1].startswith(f"{gain:+.3f} [")


def test_a_measure_that_some_lack_or_that_never_varies_is_left_out():
    lacking = records([0.9] * 4 + [0.5], [0.1, 0.2, 0.3, None, 0.5])
    constant = records([0.9] * 4 + [0.5], [0.0] * 5, region="ET")
    few = records([0.9] * 4, [0.1, 0.2, 0.3, 0.4], region="TC")
    assert referral.referral(lacking + constant + few, level=0.95, seed=0) == {}


def test_patients_without_labels_do_not_count():
    rows = records([0.9, 0.8, 0.7, 0.6, 0.5, None], [0.1, 0.2, 0.3, 0.4, 0.5, 0.0])
    found = referral.referral(rows, level=0.9, seed=0)
    assert found["WT"]["region_entropy"]["patients"] == 5


def test_two_sets_of_maps_are_compared_patient_by_patient():
    dice = np.random.default_rng(0).uniform(0.2, 0.9, 30)
    good = records(dice, 1.0 - dice)
    poor = records(dice, np.random.default_rng(1).random(30))
    options = {"level": 0.95, "seed": 0}
    found = referral.differences(good, poor[::-1], **options)["WT"]["region_entropy"]
    one, other = (
        referral.referral(rows, **options)["WT"]["region_entropy"]
        for rows in (good, poor)
    )
    for name in ("e_aurc", "referral_gain"):
        expected = one[name]["mean"] - other[name]["mean"]
        assert found[name]["mean"] == pytest.approx(expected)
    assert found["e_aurc"]["high"] < 0.0 < found["referral_gain"]["low"]
    same = referral.differences(good, good, **options)["WT"]["region_entropy"]
    assert same["aurc"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    (_, row) = referral.rows({"WT": {"region_entropy": found}}, signed=True)
    assert row[2].startswith("-0.")
    # Patients whom only one has are left out; too few of them give no order.
    assert referral.differences(good, poor[:4], **options) == {}
    part = referral.differences(good, poor[:9], **options)["WT"]["region_entropy"]
    assert part["patients"] == 9
