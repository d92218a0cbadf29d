"""What a file name says: which case, and what of it (a modality, labels, a rater)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfp_uqseg import labels
from tfp_uqseg.data import case as case_module

LABEL = "seg"
_LABEL_TOKENS = ("seg", "segm")
_MODERN = {"t1n", "t1c", "t2w", "t2f"}
_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_TOKENS = "|".join(
    sorted(
        {*case_module.MODALITIES, *case_module.ALIASES, *_LABEL_TOKENS}
        | {r"rater[_-]?\d+", r"truth(?:[_-][a-z]+)?"},
        key=len,
        reverse=True,
    )
)
# The shortest case id that leaves a whole token: `X_t2_flair` is flair of X.
_STEM = re.compile(rf"(?:(?P<case>.+?)[_\-. ])?(?P<token>{_TOKENS})", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One file of a case.

    Attributes:
        case_id: As written in the name, or the folder's name where the file's has none.
        kind: Canonical modality, "seg", "rater" or "truth".
        token: What stood in the name, lower case.
        path: The file.
        place: The folder the case lies in.
    """

    case_id: str
    kind: str
    token: str
    path: Path
    place: Path


def nifti_files(folder: Path) -> list[Path]:
    """Every `.nii` and `.nii.gz` file below a folder, hidden ones left out, sorted.

    Archives made on macOS carry a hidden `._X.nii.gz` beside every X.nii.gz.
    """
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        # Links may lead to one folder twice, or in a circle.
        links = {name: Path(place, name).is_symlink() for name in sorted(folders)}
        new = []
        for name in sorted(links, key=lambda name: links[name]):
            target = os.path.realpath(Path(place, name))
            if not name.startswith((".", "__MACOSX")) and target not in seen:
                new.append(name)
                seen.add(target)
        folders[:] = sorted(new)
        found += [
            Path(place, name)
            for name in sorted(files)
            if _ENDING.search(name) and not name.startswith(".")
        ]
    return found


def stem(path: Path) -> str:
    """The file's name without `.nii` or `.nii.gz`.

    >>> stem(Path("a/Brats18_X_T1.NII.GZ"))
    'Brats18_X_T1'
    """
    return _ENDING.sub("", path.name)


def kind_of(token: str) -> str | None:
    """What a token names: a canonical modality, "seg", "rater", "truth" or None.

    >>> kind_of("T2F"), kind_of("Seg"), kind_of("rater3"), kind_of("adc")
    ('flair', 'seg', 'rater', None)
    """
    token = token.lower()
    if token in _LABEL_TOKENS:
        return LABEL
    for kind in ("rater", "truth"):
        if re.fullmatch(rf"{kind}([_-]?\d+|[_-][a-z]+)?", token):
            return kind
    name = case_module.canonical_modality(token)
    return name if name in case_module.MODALITIES else None


def parse(path: Path) -> Part | None:
    """The part that a BraTS-like name tells, or None.

    >>> part = parse(Path("BraTS-GLI-00000-000-t2W.nii.gz"))
    >>> part.case_id, part.kind
    ('BraTS-GLI-00000-000', 't2')
    """
    # Kaggle unpacks BraTS into X/X_t1.nii/00000057_brain_t1.nii: the folder knows.
    named = path.parent if _ENDING.search(path.parent.name) else path
    match = _STEM.fullmatch(stem(named))
    if match is None:
        return None
    token = match["token"].lower()
    place, kind = named.parent, kind_of(token) or token
    return Part(match["case"] or place.name, kind, token, path, place)


def pattern_parts(
    folder: Path, pattern: str, files: list[Path], argument: str = "pattern"
) -> Iterator[tuple[str, str | None, Path]]:
    """Yield (case id, modality token or None, file) for every file of a pattern.

    Args:
        folder: The pattern is relative to it.
        pattern: A path with `{case}`, optionally `{modality}` and the wildcards `*`
            (within a folder) and `**/` (any folders). Letter case does not count.
        files: Candidates.
        argument: Its name, for errors.

    Raises:
        ValueError: When the pattern has no `{case}` or an unknown placeholder.
    """
    expression = compile_pattern(pattern, argument)
    for path in files:
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match is not None:
            yield match["case"], match.groupdict().get("modality"), path


def label_scheme(case_id: str, tokens: set[str]) -> tuple[str | None, tuple[str, ...]]:
    """The label scheme that names tell, and what it may be when they tell none.

    No scheme and nothing it may be: it has to be given.

    BraTS up to 2021 writes flair/t1/t1ce/t2, BraTS 2023 on writes t2f/t1n/t1c/t2w;
    post-treatment studies (2024) are numbered from 100. Paediatric studies changed
    the meaning of their ids between years, so their names tell nothing.

    >>> label_scheme("Brats18_2013_3_1", {"flair", "t1"})[0]
    'brats2018'
    >>> label_scheme("BraTS-GLI-00000-000", {"t2f", "t1n"})[0]
    'brats2023'
    """
    tokens = {token for token in tokens if kind_of(token) in case_module.MODALITIES}
    brats = re.match(r"brats", case_id, re.IGNORECASE)
    if re.match(r"brats[_-]ped", case_id, re.IGNORECASE):
        return None, ()
    if tokens and tokens <= _MODERN:
        treated = re.fullmatch(r"BraTS-[A-Z]+-\d+-[1-9]\d\d", case_id, re.IGNORECASE)
        return ("brats2024" if treated else "brats2023"), ()
    if tokens and tokens <= set(case_module.MODALITIES):
        return ("brats2018" if brats else None), ("brats2018", "binary")
    return None, tuple(labels.SCHEMES)


def compile_pattern(pattern: str, argument: str = "pattern") -> re.Pattern:
    """The regular expression of a pattern with `{case}` and `{modality}`.

    Raises:
        ValueError: When the pattern has no `{case}` or an unknown placeholder.
    """
    placeholders = set(re.findall(r"\{(.*?)\}", pattern))
    if "case" not in placeholders or placeholders - {"case", "modality"}:
        raise ValueError(
            f"`{argument}` must contain {{case}} and may contain {{modality}}, such as "
            f'"{{case}}/{{case}}_{{modality}}.nii.gz"; got {pattern!r}.'
        )
    seen: set[str] = set()
    out = ""
    for piece in re.split(r"(\{case\}|\{modality\}|\*\*/|\*)", pattern):
        if piece in ("{case}", "{modality}"):
            name = piece[1:-1]
            # The longest case id: of `A_1_t1` in "{case}_{modality}" it is `A_1`.
            new = rf"(?P<{name}>[^/]+{'' if name == 'case' else '?'})"
            out += f"(?P={name})" if name in seen else new
            seen.add(name)
        else:
            out += {"**/": r"(?:.*/)?", "*": r"[^/]*"}.get(piece, re.escape(piece))
    return re.compile(out, re.IGNORECASE)
