"""One wording for every argument error."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class DataError(ValueError):
    """A file or study that cannot be used; the message names case and file."""


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(repr(item) for item in allowed)
        raise ValueError(f"`{name}` must be one of {listed}; got {value!r}.")


def positive_integer(name: str, value: object) -> int:
    """Return `value` as an int, or raise unless it is a whole number above zero."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"`{name}` must be a whole number above 0; got {value!r}.")
    number = value.__index__()
    if number < 1:
        raise ValueError(f"`{name}` must be a whole number above 0; got {number}.")
    return number


def positive(name: str, value: float) -> float:
    """Return `value` as a float, or raise unless it is finite and above zero."""
    number = float(value)
    if not 0.0 < number < float("inf"):
        raise ValueError(f"`{name}` must be finite and above 0; got {value!r}.")
    return number


def non_negative(name: str, value: float) -> float:
    """Return `value` as a float, or raise unless it is finite and at least zero."""
    number = float(value)
    if not 0.0 <= number < float("inf"):
        raise ValueError(f"`{name}` must be finite and at least 0; got {value!r}.")
    return number


def probability(name: str, value: float) -> float:
    """Return `value` as a float, or raise unless it lies strictly between 0 and 1."""
    number = float(value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"`{name}` must lie between 0 and 1; got {value!r}.")
    return number


def fraction(name: str, value: float) -> float:
    """Return `value` as a float if it is from 0 to 1, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{name}` must be a number from 0 to 1; got {value!r}.")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"`{name}` must be from 0 to 1; got {value!r}.")
    return float(value)


def keras2(name: str, given) -> None:
    """Raise if something is of Keras 3, with which these layers cannot work.

    Args:
        name: The argument's name.
        given: An object, a list of them, or anything else.

    Raises:
        ValueError: If it, or one of the list, is of the package `keras` 3.
    """
    for each in given if isinstance(given, (list, tuple)) else [given]:
        kinds = type(each).__mro__ if not isinstance(each, type) else each.__mro__
        if any(kind.__module__.partition(".")[0] == "keras" for kind in kinds):
            raise ValueError(
                f"`{name}` must be of Keras 2, the package `tf_keras`; got "
                f"{type(each).__module__}.{type(each).__name__}, of Keras 3 (`keras`, "
                "`tf.keras`). Write `tf_keras` in its place."
            )


def same_shape(name: str, array, other_name: str, other) -> None:
    """Raise unless the two arrays have one shape."""
    if tuple(array.shape) != tuple(other.shape):
        raise ValueError(
            f"`{name}` must have the shape of `{other_name}`, "
            f"{tuple(other.shape)}; got {tuple(array.shape)}."
        )


def binary_mask(name: str, mask) -> np.ndarray:
    """Return `mask` as a bool array, or raise unless it holds 0 and 1 only."""
    mask = np.asarray(mask)
    if mask.dtype == bool:
        return mask
    as_bool = mask.astype(bool)
    wrong = mask != as_bool
    if wrong.any():
        raise ValueError(
            f"`{name}` must hold 0 and 1 only; found {mask[wrong].flat[0]}. "
            "Turn labels into region masks, or threshold probabilities, first."
        )
    return as_bool
