"""What is gained when the least sure patients are left to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfp_uqseg.evaluation import intervals, risk

#: Measures of a patient's uncertainty, by the column that holds them.
MEASURES = {
    "predictive_entropy": "mean entropy of the brain",
    "total_entropy": "summed entropy of the brain",
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
    for region, rows in _by_region(records).items():
        for name in MEASURES:
            pair = _pair(rows, name)
            if pair is not None:
                areas = _areas([pair], level, seed)
                found.setdefault(region, {})[name] = areas
    return found


def differences(
    records: Sequence[Mapping],
    other_records: Sequence[Mapping],
    *,
    level: float,
    seed: int,
) -> dict:
    """Return the areas of `referral` less those of other maps, patients paired.

    Args:
        records: Rows with the names of `tables.COLUMNS`.
        other_records: Rows of the same patients, from other maps.
        level: Coverage of the intervals, which resample patients.
        seed: Seed of the resampling.

    Returns:
        As `referral`, of the patients that both have; below zero is good for the areas,
        above zero for the gain.
    """
    others, found = _by_region(other_records), {}
    for region, rows in _by_region(records).items():
        known = {row["case"]: row for row in others.get(region, [])}
        rows = [row for row in rows if row["case"] in known]
        beside = [known[row["case"]] for row in rows]
        for name in MEASURES:
            pairs = _pair(rows, name), _pair(beside, name)
            if None not in pairs:
                areas = _areas(pairs, level, seed)
                found.setdefault(region, {})[name] = areas
    return found


def rows(found: Mapping[str, Mapping], *, signed: bool = False) -> list[list[str]]:
    """Return the table of `referral` as text cells, headings first.

    Args:
        found: What `referral` or `differences` returned.
        signed: Whether every number shows its sign.
    """
    gained = f"Dice gained by referring {SHARE:.0%}"
    table = [["least sure by", "region", "E-AURC", "AURC", "AUGRC", gained]]
    for region, by_measure in found.items():
        for name, areas in by_measure.items():
            keys = ("e_aurc", "aurc", "augrc")
            cells = [_text(areas[key], signed=signed) for key in keys]
            cells.append(_text(areas["referral_gain"], signed=True))
            table.append([MEASURES[name], region, *cells])
    return table


def _by_region(records) -> dict[str, list]:
    """Return the rows with Dice of every region."""
    found: dict[str, list] = {}
    for row in records:
        if row["dice"] is not None:
            found.setdefault(row["region"], []).append(row)
    return found


def _pair(rows, name: str):
    """Return uncertainty and Dice of enough patients, None where there is no order."""
    if len(rows) < FEWEST or any(row[name] is None for row in rows):
        return None
    uncertainty, scores = (
        np.array([row[key] for row in rows], float) for key in (name, "dice")
    )
    if np.ptp(uncertainty) == 0.0:
        return None  # a deterministic network knows no such uncertainty
    return uncertainty, scores


def _areas(pairs, level: float, seed: int) -> dict:
    """Return the areas of one pair, or those of the first less those of the second."""
    count = pairs[0][1].size
    rng = np.random.default_rng(seed)
    chosen = rng.integers(count, size=(_RESAMPLES, count))
    resampled = [_values(pairs, each) for each in chosen]
    low, high = np.quantile(
        resampled, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0
    )
    names = (*risk.Risk._fields, "referral_gain")
    result = {
        name: intervals.Interval(*map(float, ends))._asdict()
        for name, *ends in zip(
            names, _values(pairs, slice(None)), low, high, strict=True
        )
    }
    return {**result, "patients": count}


def _values(pairs, chosen) -> np.ndarray:
    """Return the areas of the chosen patients, less those of a second pair."""
    found = []
    for uncertainty, scores in pairs:
        uncertainty, scores = uncertainty[chosen], scores[chosen]
        gain = risk.referral_gain(uncertainty, scores, SHARE)
        found.append([*risk.risk(uncertainty, scores), gain])
    first, *rest = np.array(found)
    return first - sum(rest)


def _text(ends: Mapping, *, signed: bool = False) -> str:
    style = f"{'+' if signed else ''}.3f"
    return f"{ends['mean']:{style}} [{ends['low']:{style}}, {ends['high']:{style}}]"
