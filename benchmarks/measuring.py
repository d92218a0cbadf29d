"""How everything here is measured: in turn, in one run, with medians and spread."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

RESULTS = pathlib.Path(__file__).parent / "results"

_PACKAGES = ("tensorflow", "tf_keras", "tensorflow-probability", "numpy", "tfp-uqseg")


@dataclasses.dataclass
class Row:
    """Measurements of one thing.

    Attributes:
        name: What was measured.
        values: One per round.
        unit: Of the values.
        note: What a reader should know, or why there is no value.
    """

    name: str
    values: list[float]
    unit: str = "s"
    note: str = ""

    def described(self) -> dict:
        """Return plain values with median and range."""
        spread = {"median": None, "low": None, "high": None}
        if self.values:
            middle = statistics.median(self.values)
            spread = {
                "median": middle,
                "low": min(self.values),
                "high": max(self.values),
            }
        return {**dataclasses.asdict(self), **spread}


@dataclasses.dataclass
class Ratio:
    """A ratio of two rows, round by round, against what it should be.

    Attributes:
        name: What is compared.
        values: One per round.
        bound: What it should be, or None.
        at_most: Whether the bound is an upper one.
        note: What a reader should know.
    """

    name: str
    values: list[float]
    bound: float | None = None
    at_most: bool = True
    note: str = ""

    def described(self) -> dict:
        """Return plain values with median, range and whether the bound is met."""
        middle, met = None, None
        if self.values:
            middle = statistics.median(self.values)
        if self.bound is not None and middle is not None:
            met = middle <= self.bound if self.at_most else middle >= self.bound
        low, high = (min(self.values), max(self.values)) if self.values else (None,) * 2
        spread = {"median": middle, "low": low, "high": high, "met": met}
        return {**dataclasses.asdict(self), **spread}


def ratio(name: str, above: Row, below: Row, bound=None, *, at_most=True, note=""):
    """Return `above` / `below`, round by round."""
    pairs = zip(above.values, below.values, strict=False)
    values = [a / b for a, b in pairs]
    return Ratio(name, values, bound, at_most, note or above.note or below.note)


def alternate(
    functions: dict[str, Callable[[], object]], rounds: int, *, warm_up: int = 2
) -> dict[str, Row]:
    """Time every function once a round, in turn, after `warm_up` rounds.

    A drift of the machine then falls on all alike. A function that returns a number has
    timed itself (in another process, say).
    """
    seconds = {name: [] for name in functions}
    for number in range(warm_up + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            own = function()
            taken = time.perf_counter() - start
            if number >= warm_up:
                seconds[name].append(own if isinstance(own, float) else taken)
    return {name: Row(name, values) for name, values in seconds.items()}


def machine() -> dict:
    """Return what the numbers depend on."""
    model, flags = platform.processor(), set()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    model = value.strip()
                if key.strip() == "flags":
                    flags = set(value.split())
    except OSError:
        pass
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "instructions": [name for name in known if name in flags],
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def read(name: str) -> dict:
    """Return what a benchmark kept when it was last run."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Return the installed versions of `packages`."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def has_fast_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware."""
    return bool({"avx512_bf16", "amx_bf16"} & set(machine()["instructions"]))


def parser(question: str, rounds: int = 7) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=question, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="counted rounds")
    made.add_argument("--out", type=pathlib.Path, help="JSON file (default: results/)")
    return made


def report(
    name: str,
    question: str,
    rows: Sequence[Row],
    ratios: Sequence[Ratio],
    *,
    out: pathlib.Path | None = None,
    settings: dict | None = None,
    more_versions: dict | None = None,
) -> dict:
    """Print a table, write the JSON file, and return what it holds."""
    result = {
        "name": name,
        "question": question,
        "command": " ".join(["python -m", f"benchmarks.{name}", *_arguments()]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {**versions(), **(more_versions or {})},
        "settings": settings or {},
        "rows": [row.described() for row in rows],
        "ratios": [one.described() for one in ratios],
    }
    _print(result)
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    return result


def _arguments() -> list[str]:
    """Return the process's arguments, with folders by their last name alone."""
    return [
        pathlib.Path(each).name.upper() if pathlib.Path(each).is_dir() else each
        for each in sys.argv[1:]
    ]


def _print(result: dict) -> None:
    print(f"\n{result['question']}\n")
    width = max(
        [len(item["name"]) for item in result["rows"] + result["ratios"]] or [1]
    )
    for row in result["rows"]:
        print(f"{row['name']:{width}}  {_number(row)} {row['unit']}  {row['note']}")
    if result["ratios"]:
        print()
    for one in result["ratios"]:
        sign = "<=" if one["at_most"] else ">="
        bound = "" if one["bound"] is None else f"  (bound {sign} {one['bound']:g}: "
        if bound:
            bound += {True: "met)", False: "MISSED)", None: "not measured)"}[one["met"]]
        print(f"{one['name']:{width}}  {_number(one)}{bound}  {one['note']}")


def _number(item: dict) -> str:
    if item["median"] is None:
        return "-"
    return f"{item['median']:.4g} [{item['low']:.4g}, {item['high']:.4g}]"


def peak_memory() -> float:
    """Return the peak memory of this process, MB."""
    try:
        # `getrusage` tells of the process that started this one, where that was larger.
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(s.split()[1]) for s in lines if s.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
