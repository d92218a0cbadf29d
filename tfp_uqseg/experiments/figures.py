"""The figures of an evaluation: reliability, and Dice against referral."""

from __future__ import annotations

from tfp_uqseg import plotting
from tfp_uqseg.evaluation import retention
from tfp_uqseg.experiments import referral


def of(records, bins: dict, referred: dict) -> dict[str, tuple[str, plotting.Figure]]:
    """Return figures with their titles, by a name for a file.

    Args:
        records: Rows with the names of `tables.COLUMNS`.
        bins: `calibration.Reliability` of all patients, by region; may be empty.
        referred: What `referral.referral` returned for the records.
    """
    found = {}
    if bins:
        title = "Of the voxels with some probability, how many belong to the region"
        found["reliability"] = (title, plotting.reliability(bins))
    for region, by_measure in referred.items():
        rows = [row for row in records if row["region"] == region]
        rows = [row for row in rows if row["dice"] is not None]
        curves = {
            referral.MEASURES[name]: retention.curve(
                [row[name] for row in rows], [row["dice"] for row in rows]
            )
            for name in by_measure
        }
        title = f"Dice of the patients kept when the least sure are referred: {region}"
        found[f"referral_{region}"] = (title, plotting.referral(curves, region))
    return found
