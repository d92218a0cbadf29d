"""The axial slices of one case that show brain, compact and ready to learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import nifti, preprocess

#: Where masks come from: the labels of a case, or the files of its raters.
KINDS = ("labels", "raters")


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """The label ids of a case by one annotator or several.

    Attributes:
        ids: (R, Z, h, w), uint8 where they fit, else int16; R is 1 for the labels.
        present: Ids that occur in the whole study, ascending.
        by_slice: For each of the Z slices, the ids that occur in it, ascending.
    """

    ids: np.ndarray
    present: list[int]
    by_slice: list[list[int]]


@dataclasses.dataclass(frozen=True, eq=False)
class CaseSlices:
    """The slices of a case, cut to the box of the brain.

    Attributes:
        case_id: Id of the case.
        modalities: C names.
        image: (Z, h, w, C) float16, background 0.
        annotations: By their kind, those of `KINDS` that were read.
    """

    case_id: str
    modalities: tuple[str, ...]
    image: np.ndarray
    annotations: Mapping[str, Annotation]


def read(
    case: case_module.Case,
    kinds: Sequence[str],
    *,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing = preprocess.DEFAULT,
) -> CaseSlices:
    """Read and prepare a case, and keep the slices that show brain.

    Args:
        case: The case.
        kinds: Which annotations to read, of `KINDS`.
        modalities: C channels; all of the case by default.
        preprocessing: Choices of `preprocess.prepare`.

    Returns:
        The slices, Z of them.

    Raises:
        DataError: When the case cannot be used or lacks an annotation.
    """
    check_annotated(case, kinds)
    study = case.load(modalities, labels="labels" in kinds)
    unlabelled = dataclasses.replace(study, labels=None)
    prepared = preprocess.prepare(unlabelled, preprocessing=preprocessing)
    shown = np.any(prepared.brain, axis=(0, 1))
    height, width, _, channels = prepared.image.shape
    image = np.empty((shown.sum(), height, width, channels), np.float16)
    for number, z in enumerate(np.flatnonzero(shown)):
        image[number] = prepared.image[:, :, z]
    found = {}
    for kind in kinds:
        own = kind == "labels"
        ids = study.check_labelled()[..., None] if own else case.load_raters()
        found[kind] = _annotation(ids, prepared.box, shown)
    return CaseSlices(
        case_id=case.id,
        modalities=study.modalities,
        image=image,
        annotations=found,
    )


def kinds_of(case: case_module.Case) -> list[str]:
    """Return the annotations that a case has files of."""
    has = {"labels": case.label_path is not None, "raters": bool(case.rater_paths)}
    return [kind for kind in KINDS if has[kind]]


def check_annotated(case: case_module.Case, kinds: Sequence[str]) -> None:
    """Raise unless the case has the files of these annotations.

    Raises:
        DataError: When it lacks some.
    """
    if "labels" in kinds:
        case.check_labelled()
    if "raters" in kinds:
        case.check_rated()


def _annotation(ids: np.ndarray, box, shown: np.ndarray) -> Annotation:
    """Cut (X, Y, Z, R) ids to the slices."""
    present = nifti.present_ids(ids)
    ids = ids[box][:, :, shown].transpose(3, 2, 0, 1)
    dtype = np.uint8 if max(present, default=0) <= 255 else np.int16
    ids = np.ascontiguousarray(ids, dtype)
    by_slice = [nifti.present_ids(ids[:, z]) for z in range(ids.shape[1])]
    return Annotation(ids, present, by_slice)
