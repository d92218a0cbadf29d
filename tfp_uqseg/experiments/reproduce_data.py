"""The patients of a reproduction: who is in which set, and their slices in memory."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import cohort as cohort_module
from tfp_uqseg.data import phantom, preprocess, splits
from tfp_uqseg.experiments import reproduce_plan

#: The shifted set of a phantom: a contrast that no training case has.
PHANTOM_SHIFT = "unseen_contrast"
#: Sets that are predicted and scored.
SCORED = ("validation", "test", "shifted")


@dataclasses.dataclass(frozen=True)
class Sets:
    """Case ids of the five sets; no patient is in two.

    Attributes:
        pool: Those from which the train sizes are taken.
        validation: Held out, for Table 2.
        test: Held out, for every score.
        sources: Of the networks that the deep weight prior learns from.
        shifted: Held out, of the group that training never sees; may be empty.
    """

    pool: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    sources: tuple[str, ...]
    shifted: tuple[str, ...] = ()

    def train(self, size: int, seed: int) -> tuple[str, ...]:
        """Return the first `size` patients of the order that `seed` puts the pool in.

        So that of one seed every smaller training set lies in every larger one.
        """
        return splits.order(self.pool, seed=seed)[:size]


@dataclasses.dataclass(frozen=True, eq=False)
class Patient:
    """The axial slices of one patient, as images and masks.

    Attributes:
        case_id: Id of the case.
        images: (Z, H, W, C) float16, background 0.
        masks: (Z, H, W, K) uint8.
        brain: (Z, H, W) bool.
        label_scheme: Name of the scheme the labels were read by.
    """

    case_id: str
    images: np.ndarray
    masks: np.ndarray
    brain: np.ndarray
    label_scheme: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """All patients of a reproduction.

    Attributes:
        sets: Who is in which set.
        patients: By case id.
        regions: K names; the first is the one that the tables are about.
        modalities: C names.
        source: What to call the data on the page.
        shifted: What to call the shifted set; empty without one.
        remarks: Ids of the cases that preparing warned of (`preprocess.prepare`).
    """

    sets: Sets
    patients: Mapping[str, Patient]
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    source: str
    shifted: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def region(self) -> str:
        """The region that the tables are about."""
        return self.regions[0]

    def select(self, ids: Iterable[str]) -> list[Patient]:
        """Return the patients of these ids, in their order."""
        return [self.patients[case_id] for case_id in ids]

    def cohort(self, ids: Iterable[str], divisor: int = 1) -> cohort_module.Cohort:
        """Return what `data.pipeline.slices` draws from, of these patients.

        Args:
            ids: Of the patients.
            divisor: Height and width are padded to multiples of this.
        """
        chosen = self.select(ids)
        height, width = chosen[0].brain.shape[1:]
        return cohort_module.Cohort(
            volumes=tuple(_volume(patient) for patient in chosen),
            regions=self.regions,
            modalities=self.modalities,
            label_schemes=tuple(patient.label_scheme or "" for patient in chosen),
            size=(-(-height // divisor) * divisor, -(-width // divisor) * divisor),
            raters="label",
        )


def divide(
    case_ids: Iterable[str],
    budget: reproduce_plan.Budget,
    *,
    seed: int = 0,
    shifted_group: str | None = None,
    group: Callable[[str], str | None] = splits.group_of,
) -> Sets:
    """Divide labelled cases into the five sets, by patient and seed.

    Args:
        case_ids: Of all labelled cases.
        budget: Gives the sizes; patients beyond them enlarge the test set.
        seed: Whole number.
        shifted_group: Group whose patients are all held out as the shifted set.
        group: Function from case id to the group of its patient.

    Returns:
        The sets.

    Raises:
        ValueError: If there are too few patients, or none in the group.
    """
    ids: Sequence[str] = list(case_ids)
    shifted: Sequence[str] = ()
    if shifted_group is not None:
        ids, shifted = splits.hold_out(ids, shifted_group, group=group)
        shifted = splits.order(shifted, seed=seed)[: budget.most_shifted]
    patients = len({splits.patient_of(case_id) for case_id in ids})
    if patients < budget.num_patients:
        rest = "" if shifted_group is None else f" outside of {shifted_group!r}"
        raise ValueError(
            f"`data` must hold {budget.num_patients} labelled patients{rest} for the "
            f"scale {budget.name!r} ({budget.train_size} to train on, "
            f"{budget.num_validation} to validate, {budget.num_test} to test, "
            f"{budget.num_sources} as sources); it holds {patients}. Add studies, or "
            "leave the folder out to use a phantom."
        )
    known = budget.train_size + budget.num_sources
    counts = (known, budget.num_validation, patients - known - budget.num_validation)
    parts = splits.make(ids, counts=counts, seed=seed)
    order = splits.order(parts.train, seed=seed)
    firsts = list(dict.fromkeys(splits.patient_of(each) for each in order))
    pool = set(firsts[: budget.train_size])
    return Sets(
        pool=tuple(each for each in parts.train if splits.patient_of(each) in pool),
        validation=parts.validation,
        test=parts.test,
        sources=tuple(
            each for each in parts.train if splits.patient_of(each) not in pool
        ),
        shifted=tuple(sorted(shifted)),
    )


def make_phantom(
    folder: str | os.PathLike,
    budget: reproduce_plan.Budget,
    *,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> phantom.Cohort:
    """Write the phantom that a budget needs, or open the one that is there.

    Args:
        folder: Where it lives.
        budget: Gives the number of patients, their slices and size.
        seed: Of the phantom.
        progress: See `data.phantom.make_cohort`.
    """
    folder = pathlib.Path(folder)
    known = budget.train_size + budget.num_sources + budget.num_validation
    counts = {"train": known, "test": budget.num_test, PHANTOM_SHIFT: budget.num_test}
    cohort = phantom.Cohort(
        folder,
        {
            part: tuple(f"phantom_{part}_{index:03d}" for index in range(count))
            for part, count in counts.items()
        },
    )
    if (folder / phantom.DESCRIPTION_FILE).is_file():
        return cohort
    return phantom.make_cohort(
        folder,
        num_cases=known,
        num_test_cases=budget.num_test,
        shape=(budget.size, budget.size, budget.slices or 155),
        seed=seed,
        num_raters=0,
        shifts=(PHANTOM_SHIFT,),
        progress=progress,
    )


def phantom_sets(
    cohort: phantom.Cohort, budget: reproduce_plan.Budget, *, seed: int = 0
) -> Sets:
    """Return the sets of a phantom: its own test and shifted cases are kept."""
    known = splits.order(cohort.cases["train"], seed=seed)
    first, second = budget.train_size, budget.train_size + budget.num_validation
    return Sets(
        pool=tuple(sorted(known[:first])),
        validation=tuple(sorted(known[first:second])),
        test=cohort.cases["test"],
        sources=tuple(sorted(known[second:])),
        shifted=cohort.cases[PHANTOM_SHIFT],
    )


def load(
    cases: Sequence[case_module.Case],
    sets: Sets,
    budget: reproduce_plan.Budget,
    *,
    source: str,
    shifted: str = "",
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Study:
    """Read the slices of every patient of the sets.

    Args:
        cases: Studies with labels.
        sets: Who is needed.
        budget: Gives size, slices and intensities.
        source: What to call the data.
        shifted: What to call the shifted set.
        regions: Regions to learn; None for those of the label scheme.
        modalities: Channels; None for those of the first case.
        progress: Called with (cases read, cases in all).

    Returns:
        The study; one factor shrinks the slices of all.

    Raises:
        DataError: If a case cannot be used.
    """
    ids = [
        each for name in dataclasses.fields(Sets) for each in getattr(sets, name.name)
    ]
    chosen = splits.select(cases, ids)
    names = tuple(modalities or chosen[0].modalities)
    preprocessing = preprocess.Preprocessing(
        intensity=budget.intensity, crop=budget.crop
    )
    read, remarks = [], []
    for done, case in enumerate(chosen, start=1):
        study = case.load(names)
        study.check_labelled()
        with warnings.catch_warnings(record=True) as caught:
            # One line on the page instead of one warning for each of dozens.
            warnings.simplefilter("always")
            prepared = preprocess.prepare(
                study, preprocessing=preprocessing, regions=regions
            )
        remarks += [case.id] if caught else []
        read.append(_take_slices(prepared, budget.slices))
        if progress is not None:
            progress(done, len(chosen))
    extent = max(max(each.brain.shape[1:]) for each in read)
    factor = -(-extent // budget.size)
    patients = {each.case_id: _shrink(each, factor, budget.size) for each in read}
    return Study(
        sets, patients, prepared.regions or (), names, source, shifted, tuple(remarks)
    )


def _take_slices(prepared: preprocess.Prepared, most: int | None) -> Patient:
    """Return the chosen slices of a prepared study, slices first."""
    shown = np.flatnonzero(prepared.brain.any(axis=(0, 1)))
    if most is not None and len(shown) > most:
        # The middles of `most` equal parts, so that the ends do not count double.
        places = (np.arange(most) + 0.5) * len(shown) / most
        shown = shown[places.astype(int)]
    images, masks, brain = (
        np.ascontiguousarray(np.moveaxis(np.asarray(array)[:, :, shown], 2, 0))
        for array in (prepared.image, prepared.mask, prepared.brain)
    )
    return Patient(
        case_id=prepared.case_id,
        images=images.astype(np.float16),
        masks=masks,
        brain=brain,
        label_scheme=prepared.label_scheme,
    )


def _shrink(patient: Patient, factor: int, size: int) -> Patient:
    """Average blocks of voxels, and centre the slices in a square."""
    images = _centred(_blocks(patient.images.astype(np.float32), factor), size)
    masks = _centred(_blocks(patient.masks.astype(np.float32), factor), size) >= 0.5
    brain = _centred(_blocks(patient.brain.astype(np.float32), factor), size) >= 0.5
    images = np.where(brain[..., None], images, 0.0).astype(np.float16)
    return dataclasses.replace(
        patient, images=images, masks=masks.astype(np.uint8), brain=brain
    )


def _blocks(array: np.ndarray, factor: int) -> np.ndarray:
    """Return the means of blocks of the second and third axis."""
    if factor == 1:
        return array
    height, width = (-(-extent // factor) for extent in array.shape[1:3])
    rest = [(0, 0)] * (array.ndim - 3)
    array = np.pad(
        array,
        [
            (0, 0),
            (0, height * factor - array.shape[1]),
            (0, width * factor - array.shape[2]),
            *rest,
        ],
    )
    shape = (len(array), height, factor, width, factor, *array.shape[3:])
    return array.reshape(shape).mean(axis=(2, 4))


def _centred(array: np.ndarray, size: int) -> np.ndarray:
    """Return the array with zeros around its second and third axis."""
    before = [(size - extent) // 2 for extent in array.shape[1:3]]
    widths = [
        (first, size - extent - first)
        for first, extent in zip(before, array.shape[1:3], strict=True)
    ]
    return np.pad(array, [(0, 0), *widths, *[(0, 0)] * (array.ndim - 3)])


def _volume(patient: Patient) -> cohort_module.Volume:
    """Return the slices with the regions of each voxel as the bits of one id."""
    count = patient.masks.shape[-1]
    bits = (1 << np.arange(count)).astype(np.uint8)
    table = (np.arange(256)[:, None] & bits) > 0
    return cohort_module.Volume(
        case_id=patient.case_id,
        image=patient.images,
        ids=(patient.masks * bits).sum(axis=-1, dtype=np.uint8)[None],
        table=table.astype(np.uint8),
        has_tumour=np.any(patient.masks, axis=(1, 2, 3)),
    )
