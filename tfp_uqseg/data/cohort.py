"""Every axial slice of a cohort, held compactly: what `pipeline` draws from."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from tfp_uqseg import _checks
from tfp_uqseg.data import records


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """The slices of one case that show brain, in memory.

    Attributes:
        case_id: Id of the case.
        image: (Z, h, w, C) float16.
        ids: (R, Z, h, w) label ids, one volume per rater (one for the labels).
        table: (256 or more, K) uint8, id to regions.
        has_tumour: (Z,) bool: some region occurs in the slice.
    """

    case_id: str
    image: np.ndarray
    ids: np.ndarray
    table: np.ndarray
    has_tumour: np.ndarray

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a slice, (h, w, C) float16, and its ids, (R, h, w)."""
        return self.image[index], self.ids[:, index]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredVolume:
    """The slices of one case that show brain, each read when it is asked for.

    Attributes:
        case_id: Id of the case.
        shard: The file they are in.
        kind: Which annotation to read, "labels" or "raters".
        table: (256 or more, K) uint8, id to regions.
        has_tumour: (Z,) bool: some region occurs in the slice.
    """

    case_id: str
    shard: records.Shard
    kind: str
    table: np.ndarray
    has_tumour: np.ndarray

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a slice, (h, w, C) float16, and its ids, (R, h, w).

        Raises:
            DataError: When the file is missing, cut short or damaged.
        """
        return self.shard.read(index, self.kind)


@dataclasses.dataclass(frozen=True, eq=False)
class Cohort:
    """The slices of all cases, each to be padded to one size.

    Attributes:
        volumes: One per case, in the order of the cases.
        regions: K names.
        modalities: C names.
        label_schemes: Name of the scheme of each case.
        size: (H, W), voxels.
        raters: "label", "random" or "mean".
    """

    volumes: tuple[Volume | StoredVolume, ...]
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    label_schemes: tuple[str, ...]
    size: tuple[int, int]
    raters: str

    def __repr__(self):
        height, width = self.size
        return (
            f"<Cohort: {self.num_slices} slices of {len(self.volumes)} cases, "
            f"{height}x{width}, modalities {' '.join(self.modalities)}, "
            f"regions {' '.join(self.regions)}>"
        )

    @functools.cached_property
    def has_tumour(self) -> np.ndarray:
        """(N,) bool over all slices, case by case."""
        return np.concatenate([volume.has_tumour for volume in self.volumes])

    @property
    def num_slices(self) -> int:
        """Slices of all cases."""
        return len(self.has_tumour)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """Number of each volume's first slice in the cohort."""
        counts = [len(volume.has_tumour) for volume in self.volumes]
        return np.cumsum([0, *counts[:-1]])

    def num_examples(self, keep_empty: float = 1.0) -> int:
        """Slices of an epoch when this fraction of the tumour-free ones is kept."""
        return sum(
            len(part) for part in self.kept(keep_empty, np.random.default_rng(0))
        )

    def kept(
        self, keep_empty: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of slices with tumour, and of those kept of the ones without."""
        fraction = _checks.non_negative("keep_empty", keep_empty)
        if fraction > 1:
            raise ValueError(f"`keep_empty` must lie in 0..1; got {keep_empty!r}.")
        empty = np.flatnonzero(~self.has_tumour)
        number = round(fraction * len(empty))
        if number < len(empty):
            empty = np.sort(rng.permutation(empty)[:number])
        return np.flatnonzero(self.has_tumour), empty

    def example(self, index: int, rater: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """One slice, zero padded at the bottom and the right.

        Args:
            index: Number of the slice in the cohort.
            rater: In 0..1; which of R raters to take (R * rater, rounded down).

        Returns:
            (H, W, C) float32 image; (H, W, K) uint8 mask, or float32 for the mean of
            the raters.

        Raises:
            DataError: When the slice is in a file that is missing or damaged.
        """
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        volume = self.volumes[number]
        image, ids = volume.read(int(index - self._starts[number]))
        if self.raters == "mean":
            # Three times as fast as `table[ids]`.
            masks = volume.table.take(ids, axis=0)
            mask = masks.mean(axis=0, dtype=np.float32)
        else:
            mask = volume.table.take(ids[int(rater * len(ids))], axis=0)
        return _pad(image, self.size, np.float32), _pad(mask, self.size, mask.dtype)


def _pad(array: np.ndarray, size: tuple[int, int], dtype) -> np.ndarray:
    out = np.zeros((*size, array.shape[-1]), dtype)
    out[: array.shape[0], : array.shape[1]] = array
    return out
