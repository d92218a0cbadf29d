"""What is gained when the least sure patients are left to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfp_uqseg.evaluation import intervals, risk

#: Measures of a patient's uncertainty, by the column that holds them.
MEASURES = {
    "predictive_entropy": "mean entropy of the brain",
    "region_entropy": "mean entropy of the predicted region",
    "patch_entropy": "largest mean entropy of a box",
    "volume_variation": "coefficient of variation of the volume",
    "draw_disagreement": "disagreement of the draws' masks",
    "mutual_information": "mean mutual information of the brain",
}
#: Share of the patients that is referred.
SHARE = 0.2
#: Fewer patients tell nothing about an order.
FEWEST = 5
_RESAMPLES = 1999


def referral(records: Sequence[Mapping], *, level: float, seed: int) -> dict:
    """Return risk against coverage, by region and measure of uncertainty.

    Args:
        records: Rows with the names of `tables.COLUMNS`.
        level: Coverage of the intervals, which resample patients.
        seed: Seed of the resampling.

    Returns:
        For each region with five patients that have Dice, for each measure that all of
        them have: ``aurc``, ``e_aurc``, ``augrc`` and ``referral_gain`` (mean Dice of
        what is kept when the least sure fifth is referred, less that of all), each
        with mean, low and high; and ``patients``.
    """
    found: dict[str, dict] = {}
    for region in dict.fromkeys(row["region"] for row in records):
        rows = [
            row
            for row in records
            if row["region"] == region and row["dice"] is not None
        ]
        if len(rows) < FEWEST:
            continue
        scores = np.array([row["dice"] for row in rows], float)
        for name in MEASURES:
            if any(row[name] is None for row in rows):
                continue
            uncertainty = np.array([row[name] for row in rows], float)
            if np.ptp(uncertainty) == 0.0:
                continue  # a deterministic network knows no such uncertainty
            found.setdefault(region, {})[name] = _areas(
                uncertainty, scores, level, seed
            )
    return found


def rows(found: Mapping[str, Mapping]) -> list[list[str]]:
    """Return the table of `referral` as text cells, headings first."""
    gained = f"Dice gained by referring {SHARE:.0%}"
    table = [["least sure by", "region", "E-AURC", "AURC", "AUGRC", gained]]
    for region, by_measure in found.items():
        for name, areas in by_measure.items():
            cells = [_text(areas[key]) for key in ("e_aurc", "aurc", "augrc")]
            cells.append(_text(areas["referral_gain"], signed=True))
            table.append([MEASURES[name], region, *cells])
    return table


def _areas(uncertainty, scores, level: float, seed: int) -> dict:
    """Return the areas and their intervals."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(scores.size, size=(_RESAMPLES, scores.size))
    resampled = np.array([_values(uncertainty[each], scores[each]) for each in chosen])
    low, high = np.quantile(
        resampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0
    )
    names = (*risk.Risk._fields, "referral_gain")
    result = {
        name: intervals.Interval(*map(float, ends))._asdict()
        for name, *ends in zip(
            names, _values(uncertainty, scores), low, high, strict=True
        )
    }
    return {**result, "patients": scores.size}


def _values(uncertainty, scores) -> tuple[float, ...]:
    gain = risk.referral_gain(uncertainty, scores, SHARE)
    return (*risk.risk(uncertainty, scores), gain)


def _text(ends: Mapping, *, signed: bool = False) -> str:
    style = f"{'+' if signed else ''}.3f"
    return f"{ends['mean']:{style}} [{ends['low']:{style}}, {ends['high']:{style}}]"
