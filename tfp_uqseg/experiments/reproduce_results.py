"""Records of a reproduction, asked for numbers by patient and seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfp_uqseg.evaluation import intervals
from tfp_uqseg.experiments import reproduce_plan


class Number(NamedTuple):
    """A number of a table; None where there is none.

    Attributes:
        value: The number.
        digits: Digits after the point that are shown.
        low: Lower end of its interval over patients.
        high: Upper end.
        spread: Standard deviation over seeds.
        signed: Whether a plus is shown.
    """

    value: float | None
    digits: int = 3
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    signed: bool = False

    def __str__(self) -> str:
        """Return ``.812 ± .010 [.790, .830]`` with what there is of it."""
        if self.value is None:
            return ""
        style = f"{'+' if self.signed else ''}.{self.digits}f"
        text = f"{self.value:{style}}"
        if self.spread is not None:
            text += f" ± {self.spread:.{self.digits}f}"
        if self.low is not None:
            text += f" [{self.low:{style}}, {self.high:{style}}]"
        return text


NOTHING = Number(None)


def number(
    ends: intervals.Interval, digits: int = 3, *, spread=None, signed: bool = False
) -> Number:
    """Return an interval as a number of a table."""
    value, low, high = (None if math.isnan(each) else each for each in ends)
    return Number(value, digits, low, high, spread, signed)


@dataclasses.dataclass(frozen=True)
class Results:
    """The records that are there, and the budget they were made with.

    Attributes:
        records: By unit; those not made yet are absent.
        budget: What was planned.
        region: The region that the tables are about.
        seed: Of the bootstrap.
    """

    records: Mapping[reproduce_plan.Unit, dict]
    budget: reproduce_plan.Budget
    region: str
    seed: int = 0

    def unit(self, method: str) -> reproduce_plan.Unit:
        """Return the unit of a method on the split where methods are compared."""
        return reproduce_plan.Unit(
            method,
            reproduce_plan.BACKBONES[0],
            self.budget.train_size,
            self.budget.seeds[0],
        )

    def methods(self) -> list[str]:
        """Return the methods that have a record on that split, in their order."""
        return [
            name for name in reproduce_plan.METHODS if self.unit(name) in self.records
        ]

    def by_patient(
        self, unit: reproduce_plan.Unit, name: str, part: str = "test"
    ) -> dict[str, float]:
        """Return a number of every patient of a set; patients without it are absent."""
        return {
            row["case"]: float(row[name])
            for row in self.records.get(unit, {}).get("patients", ())
            if row["part"] == part
            and row["region"] == self.region
            and row[name] is not None
        }

    def mean(
        self, unit: reproduce_plan.Unit, name: str, part: str = "test", digits: int = 3
    ) -> Number:
        """Return the mean over patients of one unit, with its interval."""
        values = list(self.by_patient(unit, name, part).values())
        if not values:
            return NOTHING
        return number(intervals.mean_interval(values, seed=self.seed), digits)

    def over_seeds(
        self, units: Iterable[reproduce_plan.Unit], name: str, digits: int = 3
    ) -> Number:
        """Return the mean over seeds and patients.

        The spread is the standard deviation of the seeds' means; the interval resamples
        patients, each with the mean of its seeds.
        """
        found = [self.by_patient(unit, name) for unit in units]
        found = [values for values in found if values]
        if not found:
            return NOTHING
        ends = intervals.mean_interval(
            list(mean_of_seeds(found).values()), seed=self.seed
        )
        spread = None
        if len(found) > 1:
            means = [np.mean(list(values.values())) for values in found]
            spread = float(np.std(means, ddof=1))
        return number(ends, digits, spread=spread)

    def paired(
        self,
        pairs: Sequence[tuple[reproduce_plan.Unit, reproduce_plan.Unit]],
        name: str,
        digits: int = 3,
    ) -> Number:
        """Return the mean difference of paired units, first minus second.

        Args:
            pairs: Units of one seed each; those of which one is absent are left out.
            name: What is compared, patient by patient.
            digits: Of the result.
        """
        differences = []
        for unit, other in pairs:
            first, second = (self.by_patient(each, name) for each in (unit, other))
            both = [case for case in first if case in second]
            if both:
                differences.append({case: first[case] - second[case] for case in both})
        if not differences:
            return NOTHING
        values = list(mean_of_seeds(differences).values())
        spread = None
        if len(differences) > 1:
            means = [np.mean(list(each.values())) for each in differences]
            spread = float(np.std(means, ddof=1))
        ends = intervals.mean_interval(values, seed=self.seed)
        return number(ends, digits, spread=spread, signed=True)


def mean_of_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each patient's values over the seeds that have the patient.

    >>> mean_of_seeds([{"a": 0.5, "b": 1.0}, {"a": 1.0}])
    {'a': 0.75, 'b': 1.0}
    """
    cases = dict.fromkeys(case for values in found for case in values)
    return {
        case: float(np.mean([values[case] for values in found if case in values]))
        for case in cases
    }
