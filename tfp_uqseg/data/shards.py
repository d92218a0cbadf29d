"""Cohorts prepared once, a file of slices per study: for more than memory holds.

`prepare` makes a folder of shards, and `open_shards` returns its cases. They take the
place of the studies in `pipeline.slices`, bit for bit, while a slice is read from its
file when its turn comes. The files hold label ids, so that regions, label scheme and
raters are chosen when training.

=====================  =========================================================
`{case}.tfrecord`      the slices of a study, see `data.records`
`index.json`           how they were prepared, sizes and checksums, the source
                       files, and the label ids of each slice
`index.partial.jsonl`  the same of the studies done so far, while preparing
=====================  =========================================================
"""

from __future__ import annotations

import dataclasses
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

from tfp_uqseg import _checks, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import gathering, preprocess, records, shard_index, slicing

is_shards = shard_index.is_shards


def prepare(
    cases: Sequence[case_module.Case],
    folder: str | os.PathLike,
    *,
    modalities: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing = preprocess.DEFAULT,
    workers: int = 2,
    check: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> list[records.StoredCase]:
    """Prepare every case, and go on where an earlier call was stopped.

    Cases that were prepared before from the same files are left as they are. A file
    that is missing or cut short is made anew.

    Args:
        cases: With labels, or files of raters.
        folder: Of the shards: new, empty, or made by `prepare` with the same settings.
        modalities: C channels; those of the first case by default.
        regions: Regions to learn unless others are named when training.
        preprocessing: Choices of `preprocess.prepare`.
        workers: Cases at a time, each in a thread of about 0.5 GB for a BraTS study.
        check: Whether to compare all earlier files with their checksums, and to make
            anew those that differ.
        progress: Called with the number of cases done, and of all.

    Returns:
        What `open_shards` returns.

    Raises:
        DataError: When cases cannot be used (the others are finished first), or a
            source changed since it was prepared.
        ValueError: When the folder holds other things, other cases, or shards of other
            settings.
    """
    folder = Path(folder)
    workers = _checks.positive_integer("workers", workers)
    cases = _check_cases(cases)
    names = tuple(modalities or cases[0].modalities)
    settings = shard_index.settings_of(names, regions, preprocessing)
    index = _go_on(folder, settings, cases, check)
    todo = [case for case in cases if case.id not in index.entries]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
        index.write_partial()
        _prepare_all(todo, index, preprocessing, workers, progress)
    ordered = {case.id: index.entries[case.id] for case in cases}
    dataclasses.replace(index, entries=ordered).write()
    stored = open_shards(folder)
    _check_regions(stored, regions)
    return stored


def open_shards(
    folder: str | os.PathLike, *, label_scheme: str | None = None
) -> list[records.StoredCase]:
    """Return the cases of a folder of shards; no slice is read.

    Args:
        folder: That `prepare` made.
        label_scheme: What the label ids mean, a name in `labels.SCHEMES`, where the
            names of the source files do not tell.

    Returns:
        Cases, in the order in which `prepare` was given them.

    Raises:
        DataError: When the folder is incomplete, or a file missing or cut short.
        ValueError: When the folder holds no shards, or `label_scheme` contradicts
            the one they were prepared with.
    """
    folder = Path(folder)
    if not is_shards(folder):
        raise ValueError(
            f"`folder` must be one that `uqseg prepare` made; {folder} is not."
        )
    index = shard_index.read(folder)
    if not shard_index.is_complete(folder):
        raise _checks.DataError(
            f"{folder} must hold all prepared studies; it holds {len(index.entries)} "
            "so far. The same `uqseg prepare` goes on with the others."
        )
    cases = [index.stored(case_id) for case_id in index.entries]
    for case in cases:
        case.shard.check_size()
    return cases if label_scheme is None else _read_by(cases, label_scheme)


def _read_by(cases, label_scheme: str) -> list[records.StoredCase]:
    """Return the cases with a label scheme that the user chose."""
    label_scheme = labels.get(label_scheme).name
    for case in cases:
        if case.scheme_given and case.label_scheme != label_scheme:
            raise ValueError(
                "`label_scheme` must be that of the prepared studies in "
                f"{case.shard.path.parent}, {case.label_scheme!r}; got "
                f"{label_scheme!r}. Leave it out, or run `uqseg prepare` again with "
                "it: finished studies are not read anew."
            )
    return [
        dataclasses.replace(case, label_scheme=label_scheme, scheme_given=True)
        for case in cases
    ]


def _check_cases(cases) -> list[case_module.Case]:
    cases = list(cases)
    if not cases:
        raise ValueError("`cases` must hold at least one case; got none.")
    for case in cases:
        if isinstance(case, records.StoredCase):
            raise ValueError(
                f"`cases` must be studies; {case.id} is prepared already, in "
                f"{case.shard.path}."
            )
        if not case.rater_paths:
            case.check_labelled()
    return cases


def _go_on(folder: Path, settings: dict, cases, check: bool) -> shard_index.Index:
    """Return the index of what was prepared before and stays."""
    if not is_shards(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                "`out` must be a new or empty folder, or one that `uqseg prepare` "
                f"made; {folder} holds other things."
            )
        return shard_index.Index(folder, settings, {})
    before = shard_index.read(folder)
    _check_settings(before, settings)
    _check_no_others(before, {case.id for case in cases})
    index = shard_index.Index(folder, settings, {})
    for case in cases:
        if case.id in before.entries and _may_stay(before.shard(case.id), check):
            index.entries[case.id] = before.entries[case.id]
            index.renew(case)
    return index


def _check_settings(before: shard_index.Index, settings: dict) -> None:
    found, asked = (
        {"modalities": one["modalities"], **one["preprocessing"]}
        for one in (before.settings, settings)
    )
    for name, value in asked.items():
        if value != found[name]:
            raise ValueError(
                f"`{name}` must be that of the studies prepared in {before.folder} "
                f"before, {found[name]!r}; got {value!r}. Choose another folder for it."
            )


def _check_no_others(before: shard_index.Index, given: set[str]) -> None:
    for case_id, entry in before.entries.items():
        path = before.folder / entry["file"]
        if case_id not in given and path.exists():
            raise ValueError(
                f"`cases` must hold all that were prepared in {before.folder} before; "
                f"{case_id!r} is missing. Choose another folder, or delete {path} to "
                "leave the case out."
            )


def _may_stay(shard: records.Shard, check: bool) -> bool:
    """Return whether a file that was written before is as it was."""
    if check:
        return shard.is_whole()
    try:
        shard.check_size()
    except _checks.DataError:
        return False
    return True


def _prepare_all(todo, index, preprocessing, workers: int, progress) -> None:
    """Write the files of the cases, several at a time."""
    failed = {}
    done = len(index.entries)
    count = done + len(todo)
    noting = threading.Lock()

    def prepare_one(case) -> None:
        entry = _prepare(case, index, preprocessing)
        # At once, so that a later call finds it wherever this one is stopped.
        with noting:
            index.entries[case.id] = entry
            index.append_partial(case.id)

    pool = futures.ThreadPoolExecutor(workers)
    try:
        waiting = {pool.submit(prepare_one, case): case.id for case in todo}
        for future in futures.as_completed(waiting):
            try:
                future.result()
            except _checks.DataError as error:
                failed[waiting[future]] = error
                continue
            done += 1
            if progress is not None:
                progress(done, count)
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        first = min(failed)
        others = len(failed) - 1
        more = f" (So it is with {others} more of the cases.)" if others else ""
        raise _checks.DataError(f"{failed[first]}{more}") from failed[first]


def _prepare(case, index: shard_index.Index, preprocessing) -> dict:
    """Write the file of one case; return its entry in the index."""
    slices = slicing.read(
        case,
        slicing.kinds_of(case),
        modalities=index.settings["modalities"],
        preprocessing=preprocessing,
    )
    shard = records.write(index.folder / f"{case.id}.tfrecord", slices)
    return shard_index.entry_of(case, shard)


def _check_regions(stored, regions) -> None:
    """Raise where the regions do not fit the labels; say so where none were named."""
    rated = all(case.rater_paths for case in stored)
    try:
        gathering.gather(stored, raters="label" if not rated else "random")
    except ValueError as error:
        if regions is not None:
            raise
        warnings.warn(f"Training will have to be told more. {error}", stacklevel=3)
