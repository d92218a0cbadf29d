"""Who is trained on, who is held out: by patient, by seed, kept as a file."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfp_uqseg import _files
from tfp_uqseg.data import case as case_module

PARTS = ("train", "validation", "test")

#: Endings that number a patient's scans: time points of BraTS 2018 and earlier, of
#: BraTS 2023 on, dates of TCGA, time points of UPENN-GBM, and BIDS.
_SCAN = re.compile(
    r"(?P<a>brats1\d_.+)_\d+|(?P<b>brats-[a-z]+-\d+)-\d+|(?P<c>tcga_.+)_\d{8}"
    r"|(?P<d>upenn-gbm-\d+)_\d+|(?P<e>sub-[a-z0-9]+)_.+",
    re.IGNORECASE,
)


def patient_of(case_id: str) -> str:
    """The patient a case id belongs to, where its naming tells scans apart.

    >>> patient_of("BraTS-GLI-00005-001"), patient_of("anything_1")
    ('BraTS-GLI-00005', 'anything_1')
    """
    match = _SCAN.fullmatch(case_id)
    return next(filter(None, match.groups())) if match else case_id


#: Where the naming of BraTS 2018 and of TCGA puts the institution.
_INSTITUTION = re.compile(
    r"brats1\d_(?P<a>[a-z0-9]+)_.+|tcga_(?P<b>[a-z0-9]{2})_.+", re.I
)


def group_of(case_id: str) -> str | None:
    """The institution of a case id, where its naming has one, in capitals.

    >>> group_of("TCGA_HT_7473_19970826"), group_of("Brats18_TCIA01_378_1")
    ('HT', 'TCIA01')
    >>> group_of("phantom_train_001") is None
    True
    """
    match = _INSTITUTION.fullmatch(case_id)
    return next(filter(None, match.groups())).upper() if match else None


@dataclass(frozen=True)
class Split:
    """Case ids of the three parts; no patient is in two.

    Attributes:
        train: Ids to fit to.
        validation: Ids to choose by.
        test: Ids to report on.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the parts.

        Raises:
            ValueError: When an id is no text, or an id or a patient is there twice.
        """
        seen: dict[str, tuple[str, str]] = {}
        for part in PARTS:
            ids = getattr(self, part)
            if isinstance(ids, str) or not all(isinstance(i, str) for i in ids):
                raise ValueError(f"`{part}` must be a list of case ids; got {ids!r}.")
            object.__setattr__(self, part, tuple(ids))
            if len(set(ids)) != len(ids):
                raise ValueError(f"`{part}` must name each case once; got {ids}.")
            for case_id in ids:
                before = seen.setdefault(patient_of(case_id), (part, case_id))
                if before[0] != part:
                    raise ValueError(
                        f"`{part}` must share no patient with `{before[0]}`; got "
                        f"{case_id!r} here and {before[1]!r} there."
                    )

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as JSON, whole or not at all."""
        _files.write_json(path, {part: list(getattr(self, part)) for part in PARTS})


def make(
    case_ids: Iterable[str],
    *,
    fractions: Sequence[float] | None = None,
    counts: Sequence[int] | None = None,
    seed: int = 0,
    patient: Callable[[str], str] = patient_of,
) -> Split:
    """Split cases by patient.

    A patient's place in line depends on the seed and the patient alone, so the same ids
    in another order, or a library's new random numbers, give the same split.

    Args:
        case_ids: Ids of all cases.
        fractions: Of patients in train, validation, test, summing to 1; the default is
            (0.7, 0.1, 0.2).
        counts: Patients in train, validation, test, instead of fractions; those beyond
            the sum are left out.
        seed: Whole number.
        patient: Function from case id to patient.

    Returns:
        The split; ids sorted within each part.

    Raises:
        ValueError: When fractions or counts do not fit the cases.

    >>> split = make(["a", "b", "c", "d", "e"], counts=(3, 1, 1), seed=1)
    >>> len(split.train), len(split.validation), len(split.test)
    (3, 1, 1)
    """
    ids = sorted(case_ids)
    if len(set(ids)) != len(ids):
        raise ValueError("`case_ids` must name each case once; some are repeated.")
    groups: dict[str, list[str]] = {}
    for case_id in ids:
        groups.setdefault(patient(case_id), []).append(case_id)
    line = sorted(groups, key=lambda name: _place(name, seed))
    sizes = _sizes(len(line), fractions, counts)
    parts, start = [], 0
    for size in sizes:
        chosen = line[start : start + size]
        parts.append(tuple(sorted(i for name in chosen for i in groups[name])))
        start += size
    return Split(*parts)


def order(
    case_ids: Iterable[str],
    *,
    seed: int = 0,
    patient: Callable[[str], str] = patient_of,
) -> tuple[str, ...]:
    """Cases in the order in which `make` takes their patients.

    The first n of them are nested training sets: those of a small n lie in those of a
    larger one.

    Args:
        case_ids: Ids.
        seed: Whole number.
        patient: Function from case id to patient.

    Returns:
        The ids; scans of one patient stand together, sorted.

    >>> order(["a", "b", "c"], seed=1) == order(["c", "a", "b"], seed=1)
    True
    """
    return tuple(sorted(case_ids, key=lambda each: (_place(patient(each), seed), each)))


def hold_out(
    case_ids: Iterable[str],
    name: str,
    *,
    group: Callable[[str], str | None] = group_of,
) -> tuple[list[str], list[str]]:
    """Keep one group apart: an institution that training never sees.

    Args:
        case_ids: Ids.
        name: The group to keep apart, in any letter case.
        group: Function from case id to its group, None where it has none.

    Returns:
        The other cases, and those of the group, each in the order given.

    Raises:
        ValueError: When no case is of the group.

    >>> hold_out(["TCGA_HT_7473_1", "TCGA_CS_4941_1"], "HT")
    (['TCGA_CS_4941_1'], ['TCGA_HT_7473_1'])
    """
    ids = list(case_ids)
    groups = [(group(case_id) or "").upper() for case_id in ids]
    held = [i for i, own in zip(ids, groups, strict=True) if own == name.upper()]
    if not held:
        known = sorted(set(groups) - {""}) or "none; the names tell no group"
        raise ValueError(
            f"`name` must be a group of the {len(ids)} cases; got {name!r}. Their "
            f"groups are {known}."
        )
    apart = set(held)
    return [case_id for case_id in ids if case_id not in apart], held


def load(path: str | os.PathLike) -> Split:
    """Read a split that `Split.save` or a person wrote.

    Raises:
        ValueError: When the file is missing, no JSON, or no split.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"`path` must be a split file; {path} does not exist.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold JSON: {error}.") from error
    if not isinstance(content, dict) or not set(content) <= set(PARTS) or not content:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} must be a JSON object of lists of case ids under {PARTS}; got "
            f"{found}."
        )
    try:
        return Split(**{part: content.get(part) or () for part in PARTS})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def select(
    cases: Sequence[case_module.Case], ids: Iterable[str]
) -> list[case_module.Case]:
    """The cases of these ids, in the order of `ids`.

    Raises:
        ValueError: When an id belongs to no case.
    """
    by_id = {case.id: case for case in cases}
    chosen = []
    for case_id in ids:
        if case_id not in by_id:
            near = (
                difflib.get_close_matches(str(case_id), by_id, n=3) or list(by_id)[:3]
            )
            raise ValueError(
                f"`ids` must be among the {len(by_id)} cases found; got {case_id!r}. "
                f"The nearest are {near}. Check the split file and the data folder."
            )
        chosen.append(by_id[case_id])
    return chosen


def _place(patient: str, seed: int) -> str:
    """A patient's place in line."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()


def _sizes(total, fractions, counts) -> tuple[int, int, int]:
    if fractions is not None and counts is not None:
        raise ValueError("`fractions` or `counts` may be given, not both.")
    if counts is not None:
        counts = tuple(counts)
        whole = all(hasattr(n, "__index__") and n >= 0 for n in counts)
        if len(counts) != len(PARTS) or not whole or sum(counts) > total:
            raise ValueError(
                f"`counts` must be three whole numbers for {PARTS} of at most {total} "
                f"patients in all; got {counts}."
            )
        return counts
    fractions = (0.7, 0.1, 0.2) if fractions is None else tuple(fractions)
    right = len(fractions) == len(PARTS) and all(0 <= f <= 1 for f in fractions)
    if not right or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"`fractions` must be three numbers for {PARTS} that sum to 1; got "
            f"{fractions}."
        )
    # Rounded from the small parts up: a part that is asked for is not left empty.
    held = [max(round(f * total), 1) if f > 0 else 0 for f in fractions[1:]]
    train = total - sum(held)
    if train < (1 if fractions[0] > 0 else 0):
        raise ValueError(
            f"`case_ids` must hold enough patients for fractions {fractions}; got "
            f"{total}. Pass `counts`."
        )
    if fractions[0] == 0 and train:
        held[-1 if fractions[2] else 0] += train
        train = 0
    return (train, *held)
