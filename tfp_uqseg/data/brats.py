"""Cases from folders of NIfTI files: every BraTS year, the Decathlon, or a pattern."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfp_uqseg import _checks, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import decathlon, naming

_LAYOUT = (
    "Expected {case}/{case}_{flair,t1,t1ce,t2,seg}.nii.gz (BraTS 2018-2021), "
    "{case}/{case}-{t2f,t1n,t1c,t2w,seg}.nii.gz (2023 on), imagesTr/ and labelsTr/ "
    '(Decathlon), or pass `pattern`, such as "{case}/{case}_{modality}.nii.gz".'
)
_SHOWN = 5


def find_cases(
    folder: str | os.PathLike,
    *,
    modalities: Sequence[str] | None = None,
    pattern: str | None = None,
    label_pattern: str | None = None,
    label_scheme: str | None = None,
    complete: bool = True,
) -> list[case_module.Case]:
    """Find every case below a folder; no image is read.

    File names may be those of BraTS 2018 to 2024 in any letter case, with `.nii` or
    `.nii.gz`, one folder per case (at any depth: HGG and LGG too) or all in one; or the
    Decathlon's folders; or whatever `pattern` describes. Hidden files are passed over.

    Args:
        folder: Where to look. For the Decathlon its training images are taken; give
            the path of imagesTs for the test images.
        modalities: Names in the order of the channels, any spelling of flair, t1, t1ce
            and t2 (others with `pattern`). By default those the cases have, and all
            must have the same.
        pattern: Path below `folder` with `{case}` and `{modality}`, `*` and `**/`. One
            without `{modality}` names 4-D files whose volumes are `modalities`.
        label_pattern: Path below `folder` with `{case}`, of the labels.
        label_scheme: What the label ids mean, a name in `labels.SCHEMES`. By default
            the names tell: BraTS up to 2021, from 2023 on, Decathlon; where they do
            not, the ids decide once they are read.
        complete: Whether a case that lacks a modality is an error here. Otherwise cases
            keep all they have, and it is one when they are loaded.

    Returns:
        Cases sorted by id.

    Raises:
        DataError: When the folder is missing or holds no case, an id or a modality is
            there twice, or a case lacks a modality.
        ValueError: When `pattern` or `label_scheme` cannot be used.
    """
    folder = Path(folder)
    names = None if modalities is None else _check_modalities(modalities)
    if label_scheme is not None:
        label_scheme = labels.get(label_scheme).name
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise _checks.DataError(
            f"`folder` must be a folder of studies; {folder} is {kind}. {_LAYOUT}"
        )
    images = decathlon.image_folder(folder)
    if pattern is not None:
        cases = _by_pattern(folder, pattern, names, label_pattern)
    elif images is not None:
        cases = list(decathlon.find(images))
    else:
        cases = _by_name(folder)
    if label_pattern is not None:
        cases = _with_labels(folder, label_pattern, cases)
    _check_found(cases, folder, pattern)
    cases = _choose_modalities(cases, names, complete)
    if label_scheme is not None:
        cases = [
            dataclasses.replace(case, label_scheme=label_scheme, scheme_given=True)
            for case in cases
        ]
    return sorted(cases, key=lambda case: case.id)


def _check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    if isinstance(modalities, str):
        raise ValueError(f"`modalities` must be a tuple of names; got {modalities!r}.")
    names = tuple(case_module.canonical_modality(name) for name in modalities)
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "`modalities` must name at least one modality and none twice; got "
            f"{tuple(modalities)}."
        )
    return names


def _by_name(folder: Path) -> list[case_module.Case]:
    parts = [naming.parse(path) for path in naming.nifti_files(folder)]
    groups: dict[tuple[Path, str], list[naming.Part]] = {}
    for part in parts:
        if part is not None:
            key = (part.place, part.case_id.lower())
            groups.setdefault(key, []).append(part)
    _adopt_labels(groups)
    return [
        _assemble(group)
        for group in groups.values()
        if any(part.kind not in ("rater", "truth") for part in group)
    ]


def _adopt_labels(groups: dict[tuple[Path, str], list[naming.Part]]) -> None:
    """Give labels of a strange name to the case whose own folder they lie in.

    BraTS 2020 ships case 355 with its labels in `W39_1998.09.19_Segm.nii`.
    """
    for key in list(groups):
        owner = (key[0], key[0].name.lower())
        if owner == key or {part.kind for part in groups[key]} != {naming.LABEL}:
            continue
        if owner in groups and naming.LABEL not in {p.kind for p in groups[owner]}:
            groups[owner] += groups.pop(key)


def _assemble(parts: Sequence[naming.Part]) -> case_module.Case:
    spelt = {part.case_id for part in parts if part.kind != naming.LABEL}
    spelt = spelt or {part.case_id for part in parts}
    place = parts[0].place.name
    case_id = place if place in spelt else min(spelt)
    by_kind: dict[str, Path] = {}
    for part in parts:
        if part.kind in ("rater", "truth"):
            continue
        if part.kind in by_kind:
            raise _checks.DataError(
                f"Case {case_id}: {part.kind} must be one file; got "
                f"{by_kind[part.kind]} and {part.path}. Remove one of them."
            )
        by_kind[part.kind] = part.path
    scheme, candidates = naming.label_scheme(case_id, {part.token for part in parts})
    return case_module.Case(
        id=case_id,
        image_paths=_in_order(by_kind),
        label_path=by_kind.get(naming.LABEL),
        label_scheme=scheme,
        rater_paths=_raters(parts),
        truth_paths=_truths(parts),
        label_candidates=candidates if scheme is None else tuple(labels.SCHEMES),
    )


def _in_order(by_kind: dict[str, Path]) -> dict[str, Path]:
    names = [name for name in by_kind if name != naming.LABEL]
    known = [name for name in case_module.MODALITIES if name in names]
    others = sorted(set(names) - set(known))
    return {name: by_kind[name] for name in [*known, *others]}


def _raters(parts: Iterable[naming.Part]) -> tuple[Path, ...]:
    raters = [part for part in parts if part.kind == "rater"]
    raters.sort(key=lambda part: int(re.sub(r"\D", "", part.token) or 0))
    return tuple(part.path for part in raters)


def _truths(parts: Iterable[naming.Part]) -> dict[str, Path]:
    regions = (*labels.BRATS_REGIONS, labels.BINARY_REGION)
    spelling = {region.lower(): region for region in regions}
    found = {}
    for part in parts:
        if part.kind == "truth":
            region = re.sub(r"^truth[_-]?", "", part.token)
            found[spelling.get(region, region or labels.BINARY_REGION)] = part.path
    order = [region for region in regions if region in found]
    return {region: found[region] for region in [*order, *(set(found) - set(order))]}


def _by_pattern(
    folder: Path,
    pattern: str,
    names: tuple[str, ...] | None,
    label_pattern: str | None,
) -> list[case_module.Case]:
    files = naming.nifti_files(folder)
    if label_pattern is not None:
        # "{case}.nii.gz" fits "A_seg.nii.gz" too.
        labelled = naming.pattern_parts(folder, label_pattern, files, "label_pattern")
        taken = {path for _, _, path in labelled}
        files = [path for path in files if path not in taken]
    if "{modality}" not in pattern:
        return _by_volume(folder, pattern, files, names)
    groups: dict[str, list[naming.Part]] = {}
    for case_id, found, path in naming.pattern_parts(folder, pattern, files):
        token = found or ""
        kind = naming.kind_of(token)
        if kind is None and names is not None:
            kind = case_module.canonical_modality(token)
            kind = kind if kind in names else None
        if kind is not None:
            part = naming.Part(case_id, kind, token.lower(), path, path.parent)
            groups.setdefault(case_id.lower(), []).append(part)
    return [_assemble(parts) for parts in groups.values()]


def _by_volume(
    folder: Path, pattern: str, files: list[Path], names: tuple[str, ...] | None
) -> list[case_module.Case]:
    naming.compile_pattern(pattern)
    if names is None:
        raise ValueError(
            "`modalities` must be given with a `pattern` that has no {modality}: they "
            f"name the volumes of each file, in order; got pattern {pattern!r}."
        )
    indices = {name: index for index, name in enumerate(names)}
    indices = indices if len(names) > 1 else {}
    return [
        case_module.Case(
            id=case_id,
            image_paths=dict.fromkeys(names, path),
            volume_indices=indices,
        )
        for case_id, _, path in naming.pattern_parts(folder, pattern, files)
    ]


def _with_labels(
    folder: Path, label_pattern: str, cases: Sequence[case_module.Case]
) -> list[case_module.Case]:
    found: dict[str, Path] = {}
    files = naming.nifti_files(folder)
    for case_id, _, path in naming.pattern_parts(
        folder, label_pattern, files, "label_pattern"
    ):
        key = case_id.lower()
        if key in found:
            raise _checks.DataError(
                f"Case {case_id}: labels must be one file; got {found[key]} and "
                f"{path}. Narrow `label_pattern`."
            )
        found[key] = path
    if not set(found) & {case.id.lower() for case in cases}:
        raise _checks.DataError(
            f"`label_pattern` must fit the labels of some case; {label_pattern!r} fits "
            f"{_some(found) or 'no file'} in {folder}, the cases are "
            f"{_some(case.id for case in cases)}."
        )
    return [
        dataclasses.replace(case, label_path=found.get(case.id.lower()))
        for case in cases
    ]


def _check_found(
    cases: Sequence[case_module.Case], folder: Path, pattern: str | None
) -> None:
    if not cases:
        files = naming.nifti_files(folder)
        seen = [path.relative_to(folder).as_posix() for path in files]
        seen = seen or sorted(path.name for path in folder.iterdir())
        wanted = f"files like {pattern!r}" if pattern else "NIfTI studies"
        raise _checks.DataError(
            f"`folder` must hold {wanted}; {folder} holds "
            f"{_some(seen) or 'nothing'}. {_LAYOUT}"
        )
    counts = Counter(case.id.lower() for case in cases)
    for case in cases:
        if counts[case.id.lower()] > 1:
            twins = [other for other in cases if other.id.lower() == case.id.lower()]
            places = " and ".join(str(_place(twin)) for twin in twins)
            raise _checks.DataError(
                f"Case {case.id}: ids must be unique; found in {places}. Move one out "
                "of the folder, or find the cases of each folder apart; if one holds "
                "the labels of the other, pass `pattern` and `label_pattern`."
            )


def _choose_modalities(
    cases: list[case_module.Case], names: tuple[str, ...] | None, complete: bool
) -> list[case_module.Case]:
    wanted = names or ()
    if names is None:
        everything = {name for case in cases for name in case.modalities}
        wanted = tuple(_in_order(dict.fromkeys(everything, Path())))
    for case in cases:
        missing = [name for name in wanted if name not in case.image_paths]
        if not missing or (case.image_paths and not complete):
            continue
        have = [other.id for other in cases if missing[0] in other.image_paths]
        advice = " Add" if names else " Name those to use with `modalities`, or add"
        raise _checks.DataError(
            f"Case {case.id}: modality {missing[0]!r} is missing in {_place(case)}, "
            f"which has {case.modalities or 'labels alone'}; {len(have)} of "
            f"{len(cases)} cases have it.{advice} the file, or move the case out of "
            "the folder."
        )
    if not complete:
        return cases
    return [
        dataclasses.replace(
            case,
            image_paths={name: case.image_paths[name] for name in wanted},
        )
        for case in cases
    ]


def _place(case: case_module.Case) -> Path:
    paths = [*case.image_paths.values(), *filter(None, [case.label_path])]
    return paths[0].parent if paths else Path()


def _some(items: Iterable[str]) -> str:
    items = list(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
