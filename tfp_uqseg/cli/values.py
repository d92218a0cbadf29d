"""What arguments may be: numbers in a range, names, lists of names."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from tfp_uqseg import labels

REGIONS = (*labels.BRATS_REGIONS, labels.BINARY_REGION)


class Names(argparse.Action):
    """Takes names apart by commas as well as by spaces."""

    def __call__(self, parser, namespace, values, option_string=None):
        flat = []
        for value in values:
            flat += value if isinstance(value, list) else value.split(",")
        setattr(namespace, self.dest, [name for name in flat if name])


def region(text: str) -> list[str]:
    """Return the region names that `text` lists, in any letter case."""
    known = {name.lower(): name for name in REGIONS} | {"tumor": "tumour"}
    words = [word for word in text.split(",") if word]
    for word in words:
        if word.lower() not in known:
            raise argparse.ArgumentTypeError(
                f"{word!r} is no region; choose among {', '.join(REGIONS)}"
            )
    return [known[word.lower()] for word in words]


def _number(text: str, kind: Callable, accept: Callable, expected: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not accept(value):
        raise argparse.ArgumentTypeError(f"must be {expected}; got {text!r}")
    return value


def count(text: str) -> int:
    """Return `text` as a whole number above 0."""
    return _number(text, int, lambda n: n > 0, "a whole number above 0")


def whole(text: str) -> int:
    """Return `text` as a whole number, 0 or more."""
    return _number(text, int, lambda n: n >= 0, "a whole number, 0 or more")


def seed(text: str) -> int:
    """Return `text` as a seed."""
    return _number(
        text, int, lambda n: 0 <= n < 2**31, "a whole number from 0 to 2147483647"
    )


def above_zero(text: str) -> float:
    """Return `text` as a number above 0."""
    return _number(
        text, float, lambda x: x > 0 and math.isfinite(x), "a number above 0"
    )


def not_below_zero(text: str) -> float:
    """Return `text` as a number, 0 or more."""
    return _number(
        text, float, lambda x: x >= 0 and math.isfinite(x), "a number, 0 or more"
    )


def share(text: str) -> float:
    """Return `text` as a number from 0 to 1."""
    return _number(text, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
