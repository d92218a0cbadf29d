"""A synthetic glioma cohort whose truth is known, written as BraTS-layout NIfTI.

Every case has four modalities, the labels of several raters, and for each voxel the
probability that a rater marks it (`phantom_raters` states the model): the aleatoric
truth. Shifted test sets hold new cases of the same anatomy and the same raters in an
appearance no training case has (`phantom_shifts`): the epistemic test. The reference
segmentation `seg` is the majority of infinitely many raters, probability above 1/2::

    folder/phantom.json                                   settings and case ids
    folder/train/{case}/{case}_{flair,t1,t1ce,t2}.nii.gz  int16 scans
                        {case}_seg.nii.gz                 uint8 ids 0, 1, 2, 4
                        {case}_rater{0,1,..}.nii.gz       uint8 ids 0, 1, 2, 4
                        {case}_truth_{WT,TC,ET}.nii.gz    float32 probability
    folder/test/..., folder/missing_modality/..., ...     the same
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from tfp_uqseg import _checks, _files
from tfp_uqseg.data import (
    nifti,
    phantom_anatomy,
    phantom_contrast,
    phantom_fields,
    phantom_raters,
    phantom_shifts,
    phantom_tumour,
)

MODALITIES = phantom_contrast.MODALITIES
REGIONS = ("WT", "TC", "ET")
SHIFTS = phantom_shifts.SHIFTS
#: Parts of a cohort; the place in this tuple keys a part's random numbers.
PARTS = ("train", "test", *SHIFTS)
DESCRIPTION_FILE = "phantom.json"


@dataclasses.dataclass(frozen=True)
class PhantomCase:
    """One synthetic study with its truth, arrays in RAS+ order.

    Attributes:
        image: float32 (X, Y, Z, 4), modalities of MODALITIES, 0 outside the brain.
        labels: uint8 (X, Y, Z), majority label ids 0, 1, 2, 4.
        raters: uint8 (X, Y, Z, R), label ids of each rater.
        truth: float32 (X, Y, Z, 3), probability that a rater marks WT, TC, ET.
        brain: bool (X, Y, Z).
        spacing: voxel size, mm.
    """

    image: np.ndarray
    labels: np.ndarray
    raters: np.ndarray
    truth: np.ndarray
    brain: np.ndarray
    spacing: tuple[float, float, float]

    def __repr__(self):
        shape = "x".join(str(size) for size in self.brain.shape)
        mm = " x ".join(f"{size:g}" for size in self.spacing)
        raters = self.raters.shape[-1]
        return f"<PhantomCase: {shape} voxels of {mm} mm, {raters} raters>"


@dataclasses.dataclass(frozen=True)
class Cohort:
    """What `make_cohort` wrote: the folder, and the case ids of each part."""

    folder: Path
    cases: Mapping[str, tuple[str, ...]]

    @property
    def folders(self) -> dict[str, Path]:
        """Folder of each part, in the order written."""
        return {part: self.folder / part for part in self.cases}


def make_case(
    seed: int | Iterable[int] = 0,
    *,
    shape: tuple[int, int, int] = (128, 128, 24),
    num_raters: int = 4,
    difficulty: float = 1.0,
    shift: str | None = None,
    severity: float = 1.0,
) -> PhantomCase:
    """Return one synthetic study as arrays.

    Anatomy, tumour and raters depend on `seed`, `shape` and `difficulty` alone: the
    same seed with another `shift` is the same patient in another scanner.

    Args:
        seed: whole number, or several, that key all random numbers.
        shape: voxels to the right, to the front, to the top; 32 x 32 x 1 at least.
        num_raters: independent raters, 0 or more.
        difficulty: 1 is the default; larger means softer borders, fainter oedema and
            more noise, 0 crisp borders without noise.
        shift: None for the appearance of training cases, or a name of SHIFTS.
        severity: of the shift; 0 none, 1 the default.

    Returns:
        The case.

    Raises:
        ValueError: an argument out of range.

    >>> case = make_case(seed=1, shape=(32, 32, 4), num_raters=2)
    >>> case.image.shape, case.raters.shape, case.truth.shape
    ((32, 32, 4, 4), (32, 32, 4, 2), (32, 32, 4, 3))
    """
    shape = _check_shape(shape)
    num_raters = _check_count("num_raters", num_raters, smallest=0)
    difficulty = _checks.non_negative("difficulty", difficulty)
    strength = phantom_shifts.check(shift, severity)
    streams = [
        np.random.default_rng(child)
        for child in np.random.SeedSequence(_check_seed(seed)).spawn(7)
    ]
    grid = phantom_fields.fit_grid(shape)
    mass = phantom_tumour.choose_mass(streams[0], grid)
    anatomy = phantom_anatomy.build(streams[1], grid, mass)
    tumour = phantom_tumour.build(
        streams[2], grid, mass, anatomy, difficulty=difficulty
    )
    unseen = strength if shift == "unseen_contrast" else 0.0
    signal = phantom_contrast.paint(
        streams[3], grid, anatomy, tumour, difficulty=difficulty, unseen=unseen
    )
    signal = phantom_shifts.apply(
        shift, signal, anatomy.brain, grid, streams[4], strength
    )
    image = phantom_contrast.acquire(
        streams[5], signal, anatomy.brain, difficulty=difficulty
    )
    truth = phantom_raters.true_probability(tumour)
    raters = phantom_raters.draw(tumour, grid.spacing, num_raters, streams[6])
    labels = phantom_raters.consensus(truth)
    return PhantomCase(
        image=grid.embed(image),
        labels=grid.embed(labels),
        raters=grid.embed(raters),
        truth=grid.embed(truth),
        brain=grid.embed(anatomy.brain),
        spacing=grid.spacing,
    )


def make_cohort(
    folder: str | os.PathLike,
    *,
    num_cases: int = 12,
    num_test_cases: int = 4,
    shape: tuple[int, int, int] = (128, 128, 24),
    seed: int = 0,
    num_raters: int = 4,
    difficulty: float = 1.0,
    shifts: Iterable[str] = SHIFTS,
    severities: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Cohort:
    """Write a cohort: training cases, test cases, and shifted test cases.

    The same arguments give the same bytes, and a case does not depend on how many
    others are asked for. The folder appears whole or not at all.

    Args:
        folder: the new folder; it may exist if empty.
        num_cases: training cases, at least 1.
        num_test_cases: cases of the test set and of each shifted set, 0 or more.
        shape: voxels of each study, to the right, to the front, to the top.
        seed: whole number, 0 or more.
        num_raters: independent raters per case.
        difficulty: see `make_case`.
        shifts: names of SHIFTS.
        severities: severity by shift, where it is not 1.
        overwrite: replace a cohort that is there; any other folder is refused.
        progress: called with (cases written, cases in all) after each case.

    Returns:
        The cohort's folder and case ids.

    Raises:
        ValueError: an argument out of range.
        FileExistsError: the folder holds something.
    """
    shifts = _check_shifts(shifts, severities)
    severities = {shift: float((severities or {}).get(shift, 1.0)) for shift in shifts}
    counts = {"train": _check_count("num_cases", num_cases, smallest=1)}
    others = _check_count("num_test_cases", num_test_cases, smallest=0)
    counts.update(dict.fromkeys(("test", *shifts), others))
    folder = Path(folder)
    _check_folder(folder, overwrite)
    seed = _check_count("seed", seed, smallest=0)
    settings = {
        "shape": list(_check_shape(shape)),
        "num_raters": _check_count("num_raters", num_raters, smallest=0),
        "difficulty": _checks.non_negative("difficulty", difficulty),
    }
    cases = {
        part: tuple(f"phantom_{part}_{index:03d}" for index in range(count))
        for part, count in counts.items()
    }
    description = {"seed": seed, **settings, "severities": severities, "cases": cases}
    with _files.whole_folder(folder) as unfinished:
        _write_parts(unfinished, cases, seed, settings, severities, progress)
        _files.write_json(unfinished / DESCRIPTION_FILE, description)
    return Cohort(folder, cases)


def write_case(case: PhantomCase, folder: Path, case_id: str) -> None:
    """Write one case as `folder/case_id/case_id_*.nii.gz`.

    The files are stored like BraTS, with axes to the left, the back and the top.
    """
    place = Path(folder) / case_id
    place.mkdir(parents=True)
    shape = case.labels.shape
    affine = np.diag([-case.spacing[0], -case.spacing[1], case.spacing[2], 1.0])
    affine[1, 3] = (shape[1] - 1) * case.spacing[1]
    grid = nifti.Grid.from_affine(shape, affine)

    def write(name: str, array: np.ndarray, dtype: type) -> None:
        nifti.write(place / f"{case_id}_{name}.nii.gz", array, grid, dtype)

    for index, modality in enumerate(MODALITIES):
        write(modality, case.image[..., index], np.int16)
    write("seg", case.labels, np.uint8)
    for index in range(case.raters.shape[-1]):
        write(f"rater{index}", case.raters[..., index], np.uint8)
    for index, region in enumerate(REGIONS):
        write(f"truth_{region}", case.truth[..., index], np.float32)


def _write_parts(folder, cases, seed, settings, severities, progress) -> None:
    total, done = sum(len(ids) for ids in cases.values()), 0
    for part, ids in cases.items():
        shift = part if part in SHIFTS else None
        (folder / part).mkdir()
        for index, case_id in enumerate(ids):
            case = make_case(
                (seed, PARTS.index(part), index),
                shape=settings["shape"],
                num_raters=settings["num_raters"],
                difficulty=settings["difficulty"],
                shift=shift,
                severity=severities.get(part, 1.0),
            )
            write_case(case, folder / part, case_id)
            done += 1
            if progress is not None:
                progress(done, total)


def _check_folder(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(
            f"`folder` must be a new or empty folder; {folder} is a file."
        )
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"`folder` must be new or empty; {folder} holds files. Choose another, "
            "or pass overwrite=True to replace a phantom cohort."
        )
    if not (folder / DESCRIPTION_FILE).is_file():
        raise FileExistsError(
            f"`overwrite` replaces phantom cohorts only; {folder} holds other files "
            f"(no {DESCRIPTION_FILE}). Choose another folder."
        )


def _check_shape(shape) -> tuple[int, int, int]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if len(sizes) != 3:
        raise ValueError(
            f"`shape` must be three numbers of voxels, such as (128, 128, 24); "
            f"got {shape!r}."
        )
    sizes = tuple(_checks.positive_integer("shape", size) for size in sizes)
    if min(sizes[:2]) < 32:
        raise ValueError(
            f"`shape` must have at least 32 x 32 voxels in a slice; got {sizes}."
        )
    return sizes


def _check_count(name: str, value, *, smallest: int) -> int:
    if smallest == 1:
        return _checks.positive_integer(name, value)
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or value.__index__() < 0:
        raise ValueError(f"`{name}` must be a whole number, 0 or more; got {value!r}.")
    return value.__index__()


def _check_seed(seed) -> int | tuple[int, ...]:
    parts = tuple(seed) if _several(seed) else (seed,)
    for part in parts:
        if not hasattr(part, "__index__") or part.__index__() < 0:
            raise ValueError(f"`seed` must be a whole number, 0 or more; got {seed!r}.")
    parts = tuple(part.__index__() for part in parts)
    return parts if _several(seed) else parts[0]


def _several(seed) -> bool:
    return isinstance(seed, Iterable) and not isinstance(seed, str)


def _check_shifts(shifts, severities) -> tuple[str, ...]:
    shifts = (shifts,) if isinstance(shifts, str) else tuple(shifts)
    for shift in shifts:
        _checks.one_of("shifts", shift, SHIFTS)
    for shift, severity in (severities or {}).items():
        _checks.one_of("severities", shift, shifts)
        _checks.non_negative("severities", severity)
    return tuple(dict.fromkeys(shifts))
