from __future__ import annotations

import pytest

from tfp_uqseg.experiments import tables, triage


def record(case, region=0.1, patch=0.2, variation=0.1, **changes):
    row = dict.fromkeys(tables.COLUMNS)
    row.update(case=case, region_entropy=region, patch_entropy=patch)
    row.update(volume_variation=variation, volume_predicted_ml=30.0)
    row.update(volume_median_ml=30.0, volume_low_ml=28.0, volume_high_ml=32.0)
    return {**row, **changes}


def test_the_least_sure_come_first_with_their_reasons():
    rows = [record(f"p{n}", 0.1 * n, 0.01 * n, 0.02 * n) for n in range(1, 11)]
    rows[2]["patch_entropy"] = 0.9
    found = triage.triage(rows)
    assert [each.case for each in found[:2]] == ["p10", "p9"]
    assert [each.place for each in found] == list(range(1, 11))
    assert found[0].reasons == (
        "uncertainty of what was found: 1 nats, the highest of 10",
        "most uncertain spot: 0.1 nats, number 2 of 10",
        "spread of the volume over the draws: 0.2 of its mean, the highest of 10",
    )
    (spotted,) = (each for each in found if each.case == "p3")
    assert spotted.reasons == ("most uncertain spot: 0.9 nats, the highest of 10",)
    (quiet,) = (each for each in found if each.case == "p5")
    assert quiet.reasons == ()
    assert found[0].score == pytest.approx((1 + 8 / 9 + 1) / 3)


def test_what_stands_out_by_itself_is_said():
    rows = [
        record("none", volume_predicted_ml=0.0, volume_median_ml=0.0),
        record("wide", volume_low_ml=10.0, volume_high_ml=40.0),
        record("plain"),
    ]
    reasons = {each.case: each.reasons for each in triage.triage(rows)}
    assert reasons["none"] == ("nothing was found",)
    assert reasons["wide"] == (
        "the draws' volumes reach from 10.0 to 40.0 ml, 100% of their median",
    )
    assert reasons["plain"] == ()


def test_equal_patients_share_a_place_and_measures_that_are_missing_do_not_count():
    rows = [record("b", variation=None), record("a", variation=None)]
    found = triage.triage(rows)
    assert [(each.case, each.place, each.score) for each in found] == [
        ("a", 1, 0.0),
        ("b", 1, 0.0),
    ]
    deterministic = [
        record("x", 0.3, 0.1, None, volume_low_ml=None, volume_high_ml=None),
        record("y", 0.1, 0.05, None, volume_low_ml=None, volume_high_ml=None),
    ]
    assert [each.case for each in triage.triage(deterministic)] == ["x", "y"]


def test_one_patient_has_a_place():
    (only,) = triage.triage([record("only")])
    assert (only.case, only.place) == ("only", 1)
