"""What is gained by leaving out what is least sure (the paper's Figure 3)."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Retention:
    """Mean score of what is kept, from everything down to the surest item.

    Attributes:
      fraction: Fraction of the items that is kept, ascending to 1, shape (items,).
      score: Mean score of those kept, shape (items,).
      best: Mean score if the lowest scores had been removed first, shape (items,).
    """

    fraction: np.ndarray
    score: np.ndarray
    best: np.ndarray


def curve(uncertainty, scores) -> Retention:
    """Mean score of the items that are kept when the most uncertain are removed first.

    Items of equal uncertainty count as their mean, so that their order is of no effect.
    An uncertainty that says nothing gives, on average, the mean score throughout.

    Args:
      uncertainty: One finite number per item (image, patient, voxel), shape (items,).
      scores: Score of each item, larger is better, same shape.

    Returns:
      A `Retention`.

    Raises:
      ValueError: If there is no item, shapes differ, or a value is not finite.

    >>> found = curve([0.1, 0.9], [1.0, 0.5])
    >>> found.fraction, found.score
    (array([0.5, 1. ]), array([1.  , 0.75]))
    """
    uncertainty = np.asarray(uncertainty, dtype=np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    if uncertainty.ndim != 1 or uncertainty.size == 0:
        raise ValueError(
            "`uncertainty` must hold one number per item, at least one; got shape "
            f"{uncertainty.shape}."
        )
    if uncertainty.shape != scores.shape:
        raise ValueError(
            f"`scores` must have the shape of `uncertainty`, {uncertainty.shape}; got "
            f"{scores.shape}."
        )
    for name, values in (("uncertainty", uncertainty), ("scores", scores)):
        if not np.isfinite(values).all():
            raise ValueError(f"`{name}` must be finite; found NaN or infinite values.")
    _, group = np.unique(uncertainty, return_inverse=True)
    means = np.bincount(group, scores) / np.bincount(group)
    counts = np.arange(1, scores.size + 1)
    order = np.argsort(uncertainty, kind="stable")
    return Retention(
        fraction=counts / scores.size,
        score=np.cumsum(means[group][order]) / counts,
        best=np.cumsum(np.sort(scores)[::-1]) / counts,
    )
