"""Cases read once, or found ready in their files, as one cohort."""

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
from tfp_uqseg.data import cohort as cohort_module
from tfp_uqseg.data import preprocess, records, slicing

RATERS = ("label", "random", "mean")
_READERS = 2


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
    """A case as read, before the cohort's label schemes and size are known.

    Attributes:
        case: The case; `label_path` is the file that the ids are from.
        modalities: C names.
        shape: (Z, h, w, C).
        present: Ids that occur in the study.
        by_slice: For each slice the ids that occur in it.
        slices: The slices, or the file that they are in.
    """

    case: case_module.Case
    modalities: tuple[str, ...]
    shape: tuple[int, int, int, int]
    present: list[int]
    by_slice: list[list[int]]
    slices: slicing.CaseSlices | records.Shard


def gather(
    cases: Sequence[case_module.Case],
    *,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing | None = None,
    label_scheme: str | None = None,
    size: tuple[int, int] | None = None,
    divisor: int = 16,
    raters: str = "label",
    cache: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> cohort_module.Cohort:
    """Read, prepare and keep every case once.

    Cases that `shards.open_shards` returns are prepared already: their slices stay in
    their files, and none is read here.

    Args:
        cases: With labels.
        regions: K regions; all of the label scheme by default.
        modalities: Channels, all of the cases by default.
        preprocessing: Choices of `preprocess.prepare`; None for its defaults, or for
            those that the cases were prepared with.
        label_scheme: Overrules what the cases know.
        size: (H, W); by default the largest box of all cases.
        divisor: H and W are multiples of this.
        raters: "label" takes the labels, "random" and "mean" the files of raters.
        cache: Whether to keep the slices in memory, about 30 MB for a study of BraTS,
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
    kind = "labels" if raters == "label" else "raters"
    regions = regions or _stored_regions(cases)
    folder = None if cache else Path(tempfile.mkdtemp(prefix="uqseg-slices-"))
    try:
        read = _read_all(
            cases,
            lambda case: _read(case, wanted, preprocessing, kind, folder),
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
        _volume(one, scheme, names, kind)
        for one, scheme in zip(read, schemes, strict=True)
    )
    if folder is not None:
        _forget_with(volumes, folder)
    return cohort_module.Cohort(
        volumes=volumes,
        regions=names,
        modalities=read[0].modalities,
        label_schemes=tuple(scheme.name for scheme in schemes),
        size=size,
        raters=raters,
    )


def _stored_regions(cases) -> tuple[str, ...] | None:
    """Regions that the cases were prepared for, or None."""
    stored = (case for case in cases if isinstance(case, records.StoredCase))
    return next((case.regions for case in stored), None)


def _forget_with(volumes, folder: Path) -> None:
    """Delete each temporary file with its volume, and the folder after the last one.

    With the volumes, since cohorts that share them may be made of this one.
    """
    temporary = [one for one in volumes if one.shard.path.parent == folder]
    for volume in temporary:
        weakref.finalize(volume, _forget, volume.shard.path)
    if not temporary:
        folder.rmdir()


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


def _read(case, modalities, preprocessing, kind: str, folder: Path | None) -> _Read:
    if isinstance(case, records.StoredCase):
        names = tuple(case_module.canonical_modality(name) for name in modalities)
        case.check_settings(names, preprocessing)
        slicing.check_annotated(case, [kind])
        return _as_read(case, case.shard, kind)
    slices = slicing.read(
        case,
        [kind],
        modalities=modalities,
        preprocessing=preprocessing or preprocess.DEFAULT,
    )
    if folder is not None:
        shard = records.write(folder / f"{case.id}.tfrecord", slices)
        return _as_read(case, shard, kind)
    annotation = slices.annotations[kind]
    return _Read(
        case=_annotated(case, kind),
        modalities=slices.modalities,
        shape=slices.image.shape,
        present=annotation.present,
        by_slice=annotation.by_slice,
        slices=slices,
    )


def _as_read(case, shard: records.Shard, kind: str) -> _Read:
    return _Read(
        case=_annotated(case, kind),
        modalities=shard.modalities,
        shape=shard.shape,
        present=shard.present[kind],
        by_slice=shard.by_slice[kind],
        slices=shard,
    )


def _annotated(case: case_module.Case, kind: str) -> case_module.Case:
    """The case with the first file of its annotation as `label_path`, for errors."""
    if kind == "labels":
        return case
    return dataclasses.replace(case, label_path=case.rater_paths[0])


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
    case = alike[0].case
    try:
        scheme = case.resolve_scheme(sorted(ids), regions, label_scheme)
    except _checks.DataError:
        for one in alike:
            one.case.resolve_scheme(one.present, regions, label_scheme)
        raise
    if scheme.name != (case.label_scheme or scheme.name):
        # A name overruled by the ids of all: none may contradict it alone.
        for one in alike:
            one.case.resolve_scheme(one.present, regions, label_scheme)
    return scheme


def _group(one: _Read) -> tuple:
    case = one.case
    return case.label_scheme, case.scheme_given, case.label_candidates


def _check_not_binary(one, ids, regions, label_scheme) -> None:
    """Raise for a cohort of 0 and 1 alone, a binary mask whatever the files' names."""
    given = label_scheme is not None or one.case.scheme_given
    binary = regions is not None and tuple(regions) == (labels.BINARY_REGION,)
    if given or binary or set(ids) - {0} != {1}:
        return
    raise _checks.DataError(
        f"Case {one.case.id}, file {one.case.label_path}: `label_scheme` must "
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
            f"Case {read[0].case.id}: `regions` must be given; the cases have "
            f"label schemes with different regions, {sorted(names)}."
        )
    return names.pop()


def _common_size(read, size, divisor) -> tuple[int, int]:
    need = [max(one.shape[axis] for one in read) for axis in (1, 2)]
    if size is None:
        return tuple(-(-n // divisor) * divisor for n in need)
    size = tuple(_checks.positive_integer("size", n) for n in size)
    if len(size) != 2 or any(n % divisor for n in size):
        raise ValueError(
            f"`size` must be (H, W) in multiples of `divisor`, {divisor}; got {size}."
        )
    for one in read:
        if one.shape[1] > size[0] or one.shape[2] > size[1]:
            raise ValueError(
                f"`size` must hold every slice; case {one.case.id} needs "
                f"{one.shape[1:3]}, all cases {tuple(need)}; got {size}. Leave "
                "`size` out to take the smallest that does."
            )
    return size


def _volume(
    one: _Read, scheme: labels.LabelScheme, regions, kind: str
) -> cohort_module.Volume | cohort_module.StoredVolume:
    table = labels.lookup_table(scheme, regions)
    if one.present and one.present[-1] >= len(table):
        # Of a binary mask alone, where every id above 0 means the same.
        more = one.present[-1] + 1 - len(table)
        table = np.concatenate([table, np.repeat(table[-1:], more, axis=0)])
    in_regions = np.any(table, axis=1)
    has_tumour = np.array([in_regions[ids].any() for ids in one.by_slice])
    if isinstance(one.slices, records.Shard):
        return cohort_module.StoredVolume(
            one.case.id, one.slices, kind, table, has_tumour
        )
    ids = one.slices.annotations[kind].ids
    image = one.slices.image
    return cohort_module.Volume(one.case.id, image, ids, table, has_tumour)
