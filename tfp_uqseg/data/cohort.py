"""Every axial slice of a cohort, held compactly: what `pipeline` draws from."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from tfp_uqseg import _checks, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import preprocess

RATERS = ("label", "random", "mean")
_READERS = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """The slices of one case that show brain.

    Attributes:
        case_id: Id of the case.
        image: (Z, h, w, C) float16, in memory or mapped from a file.
        ids: (R, Z, h, w) uint8 label ids, one volume per rater (one for the labels).
        table: (256, K) uint8, id to regions.
        has_tumour: (Z,) bool: some region occurs in the slice.
    """

    case_id: str
    image: np.ndarray
    ids: np.ndarray
    table: np.ndarray
    has_tumour: np.ndarray


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

    volumes: tuple[Volume, ...]
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    label_schemes: tuple[str, ...]
    size: tuple[int, int]
    raters: str

    @property
    def has_tumour(self) -> np.ndarray:
        """(N,) bool over all slices, case by case."""
        return np.concatenate([volume.has_tumour for volume in self.volumes])

    @property
    def num_slices(self) -> int:
        """Slices of all cases."""
        return sum(len(volume.has_tumour) for volume in self.volumes)

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
            (H, W, C) float16 image; (H, W, K) uint8 mask, or float32 for the mean of
            the raters.
        """
        for volume in self.volumes:
            if index < len(volume.has_tumour):
                break
            index -= len(volume.has_tumour)
        image = volume.image[index]
        ids = volume.ids[:, index]
        if self.raters == "mean":
            mask = volume.table[ids].mean(axis=0, dtype=np.float32)
        else:
            mask = volume.table[ids[int(rater * len(ids))]]
        return _pad(image, self.size), _pad(mask, self.size)


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
    """A case as read, before the cohort's label schemes and size are known."""

    study: case_module.Study
    image: np.ndarray
    ids: np.ndarray
    present: list[int]


def gather(
    cases: Sequence[case_module.Case],
    *,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing = preprocess.DEFAULT,
    label_scheme: str | None = None,
    size: tuple[int, int] | None = None,
    divisor: int = 16,
    raters: str = "label",
    cache: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> Cohort:
    """Read, prepare and keep every case once.

    Args:
        cases: With labels.
        regions: K regions; all of the label scheme by default.
        modalities: Channels, all of the cases by default.
        preprocessing: Choices of `preprocess.prepare`.
        label_scheme: Overrules what the cases know.
        size: (H, W); by default the largest box of all cases.
        divisor: H and W are multiples of this.
        raters: "label" takes the labels, "random" and "mean" the files of raters.
        cache: Whether to keep the images in memory, about 28 MB for a study of BraTS,
            or else in temporary files, deleted with the cohorts that share them, at
            the latest when the process ends.
        progress: Called with the number of cases read, and of all.

    Returns:
        The cohort.

    Raises:
        DataError: When a case cannot be used, or the label scheme is not clear.
        ValueError: When an argument is out of range, or `size` too small.
    """
    _checks.one_of("raters", raters, RATERS)
    divisor = _checks.positive_integer("divisor", divisor)
    cases = list(cases)
    if not cases:
        raise ValueError("`cases` must hold at least one case; got none.")
    wanted = tuple(modalities or cases[0].modalities)
    folder = None if cache else Path(tempfile.mkdtemp(prefix="uqseg-slices-"))
    try:
        read = _read_all(
            cases,
            lambda case: _read(case, wanted, preprocessing, raters, folder),
            progress,
        )
        schemes = _schemes(read, regions, label_scheme)
        names = _common_regions(regions, schemes, read)
        size = _common_size(read, size, divisor)
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    volumes = tuple(
        _volume(one, scheme, names) for one, scheme in zip(read, schemes, strict=True)
    )
    if folder is not None:
        # With the volumes, since cohorts that share them may be made of this one.
        for volume in volumes:
            weakref.finalize(volume, _forget, folder / f"{volume.case_id}.npy")
    return Cohort(
        volumes=volumes,
        regions=names,
        modalities=read[0].study.modalities,
        label_schemes=tuple(scheme.name for scheme in schemes),
        size=size,
        raters=raters,
    )


def _forget(path: Path) -> None:
    """Delete the file of a volume, and the folder after the last one."""
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _read_all(cases, read_one, progress) -> list[_Read]:
    """Two cases at a time: unpacking and array arithmetic leave Python's lock free."""
    pool = futures.ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))
    try:
        out = []
        for result in pool.map(read_one, cases):
            out.append(result)
            if progress is not None:
                progress(len(out), len(cases))
        return out
    finally:
        pool.shutdown(cancel_futures=True)


def _read(case, modalities, preprocessing, raters, folder) -> _Read:
    study = case.load(modalities)
    if raters == "label":
        study.check_labelled()
    unlabelled = dataclasses.replace(study, labels=None)
    prepared = preprocess.prepare(unlabelled, preprocessing=preprocessing)
    shown = prepared.brain.any(axis=(0, 1))
    image = np.ascontiguousarray(
        np.moveaxis(prepared.image[:, :, shown], 2, 0).astype(np.float16)
    )
    if folder is not None:
        path = folder / f"{case.id}.npy"
        np.save(path, image)
        image = np.load(path, mmap_mode="r")
    if raters == "label":
        ids = study.labels[..., None]
    else:
        ids = case.load_raters()
        study = dataclasses.replace(study, label_path=case.rater_paths[0])
    present = case_module.present_ids(ids)
    ids = np.ascontiguousarray(ids[prepared.box][:, :, shown].transpose(3, 2, 0, 1))
    # The full-size arrays end here.
    small = dataclasses.replace(study, image=np.empty((0, 0, 0, 0)), labels=None)
    return _Read(small, image, ids, present)


def _schemes(read, regions, label_scheme) -> list[labels.LabelScheme]:
    """A scheme per case, decided by the ids of all cases named in the same way."""
    groups: dict[tuple, set[int]] = {}
    for one in read:
        groups.setdefault(_group(one), set()).update(one.present)
    found = {}
    for one in read:
        key = _group(one)
        if key not in found:
            _check_not_binary(one, groups[key], regions, label_scheme)
            alike = [other for other in read if _group(other) == key]
            found[key] = _scheme_of(alike, groups[key], regions, label_scheme)
    return [found[_group(one)] for one in read]


def _scheme_of(alike, ids, regions, label_scheme) -> labels.LabelScheme:
    """The scheme of cases named in the same way; an error names the odd one out."""
    study = alike[0].study
    try:
        scheme = study.resolve_scheme(regions, label_scheme, ids=sorted(ids))
    except _checks.DataError:
        for one in alike:
            one.study.resolve_scheme(regions, label_scheme, ids=one.present)
        raise
    if scheme.name != (study.label_scheme or scheme.name):
        # A name overruled by the ids of all: none may contradict it alone.
        for one in alike:
            one.study.resolve_scheme(regions, label_scheme, ids=one.present)
    return scheme


def _group(one: _Read) -> tuple:
    study = one.study
    return study.label_scheme, study.scheme_given, study.label_candidates


def _check_not_binary(one, ids, regions, label_scheme) -> None:
    """Raise for a cohort of 0 and 1 alone, a binary mask whatever the files' names."""
    given = label_scheme is not None or one.study.scheme_given
    binary = regions is not None and tuple(regions) == (labels.BINARY_REGION,)
    if given or binary or set(ids) - {0} != {1}:
        return
    raise _checks.DataError(
        f"Case {one.study.case_id}, file {one.study.label_path}: `label_scheme` must "
        "be given; in all cases named like this one the labels are 0 and 1 alone, as "
        f'in a binary mask. Pass `regions=("{labels.BINARY_REGION}",)` for one, or '
        '`label_scheme="brats2018"` if 1 is the necrotic core.'
    )


def _common_regions(regions, schemes, read) -> tuple[str, ...]:
    if regions is not None:
        return tuple(regions)
    names = {scheme.regions for scheme in schemes}
    if len(names) > 1:
        raise _checks.DataError(
            f"Case {read[0].study.case_id}: `regions` must be given; the cases have "
            f"label schemes with different regions, {sorted(names)}."
        )
    return names.pop()


def _common_size(read, size, divisor) -> tuple[int, int]:
    need = [max(one.image.shape[axis] for one in read) for axis in (1, 2)]
    if size is None:
        return tuple(-(-n // divisor) * divisor for n in need)
    size = tuple(_checks.positive_integer("size", n) for n in size)
    if len(size) != 2 or any(n % divisor for n in size):
        raise ValueError(
            f"`size` must be (H, W) in multiples of `divisor`, {divisor}; got {size}."
        )
    for one in read:
        if one.image.shape[1] > size[0] or one.image.shape[2] > size[1]:
            raise ValueError(
                f"`size` must hold every slice; case {one.study.case_id} needs "
                f"{one.image.shape[1:3]}, all cases {tuple(need)}; got {size}. Leave "
                "`size` out to take the smallest that does."
            )
    return size


def _volume(one: _Read, scheme: labels.LabelScheme, regions) -> Volume:
    ids = (one.ids > 0) if scheme.known is None else one.ids
    ids = ids.astype(np.uint8)
    table = labels.lookup_table(scheme, regions)
    has_tumour = table.any(axis=1)[ids].any(axis=(0, 2, 3))
    return Volume(one.study.case_id, one.image, ids, table, has_tumour)


def _pad(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    out = np.zeros((*size, array.shape[-1]), array.dtype)
    out[: array.shape[0], : array.shape[1]] = array
    return out
