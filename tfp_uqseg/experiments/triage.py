"""Which patients to look at first, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

#: What patients are ranked by: column, what it is called, unit.
RANKED = (
    ("region_entropy", "uncertainty of what was found", "nats"),
    ("patch_entropy", "most uncertain spot", "nats"),
    ("volume_variation", "spread of the volume over the draws", "of its mean"),
)
#: A patient among this share of the least sure has a reason.
_SHARE = 0.2
#: A volume interval this wide, as a share of the median, is a reason by itself.
_WIDE = 0.5


@dataclasses.dataclass(frozen=True)
class Priority:
    """A patient's place in the list.

    Attributes:
        case: Id of the case.
        place: 1 for the patient to look at first; equal uncertainties share one.
        score: Mean share of the patients that are surer, 0 to 1.
        reasons: Why, in words; empty where nothing stands out.
    """

    case: str
    place: int
    score: float
    reasons: tuple[str, ...]


def triage(records: Sequence[Mapping]) -> list[Priority]:
    """Return the patients in the order in which to look at them.

    Each is ranked by three measures of one region's uncertainty; the order is that of
    the mean rank. It is an order among these patients, no verdict on one of them.

    Args:
        records: Rows of one region with the names of `tables.COLUMNS`, one per case.

    Returns:
        A `Priority` per case, the least sure first.
    """
    shares, said = np.zeros(len(records)), [[] for _ in records]
    used = 0
    for name, meaning, unit in RANKED:
        values = [row[name] for row in records]
        if any(value is None for value in values) or len(set(values)) < 2:
            continue
        used += 1
        ranks = stats.rankdata(values)
        shares += (ranks - 1.0) / max(len(records) - 1, 1)
        places = stats.rankdata([-value for value in values], method="min").astype(int)
        least_sure = max(1, round(_SHARE * len(records)))
        for reasons, value, place in zip(said, values, places, strict=True):
            if place <= least_sure:
                reasons.append(
                    f"{meaning}: {value:.3g} {unit}, {_place(place, len(records))}"
                )
    shares /= max(used, 1)
    for reasons, row in zip(said, records, strict=True):
        reasons.extend(_own_reasons(row))
    places = stats.rankdata(np.round(-shares, 12), method="min").astype(int)
    found = [
        Priority(row["case"], int(place), float(share), tuple(reasons))
        for row, place, share, reasons in zip(
            records, places, shares, said, strict=True
        )
    ]
    return sorted(found, key=lambda each: (each.place, each.case))


def _place(place: int, count: int) -> str:
    return f"the highest of {count}" if place == 1 else f"number {place} of {count}"


def _own_reasons(row: Mapping) -> list[str]:
    """Return what stands out in a patient without a look at the others."""
    reasons = []
    if row["volume_predicted_ml"] == 0.0:
        reasons.append("nothing was found")
    low, high, median = (row[f"volume_{name}_ml"] for name in ("low", "high", "median"))
    if low is not None and median and (high - low) / median > _WIDE:
        reasons.append(
            f"the draws' volumes reach from {low:.1f} to {high:.1f} ml, "
            f"{(high - low) / median:.0%} of their median"
        )
    return reasons
