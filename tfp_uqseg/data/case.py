"""The one type every source of data yields: a case, and the study it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfp_uqseg import _checks
from tfp_uqseg import labels as labels_module
from tfp_uqseg.data import nifti

#: Canonical names, in the order channels have unless another is asked for.
MODALITIES = ("flair", "t1", "t1ce", "t2")

#: Other spellings, lower case.
ALIASES = {
    "t2f": "flair",
    "t2flair": "flair",
    "t2_flair": "flair",
    "t2-flair": "flair",
    "t1n": "t1",
    "t1w": "t1",
    "t1c": "t1ce",
    "t1gd": "t1ce",
    "t2w": "t2",
}


def canonical_modality(name: str) -> str:
    """The canonical spelling of a modality; an unknown name in lower case.

    >>> canonical_modality("T2f"), canonical_modality("t1Gd")
    ('flair', 't1ce')
    """
    return ALIASES.get(name.lower(), name.lower())


@dataclass(frozen=True, eq=False)
class Study:
    """One case in memory, in RAS+ axes.

    Attributes:
        case_id: Id of the case.
        image: (X, Y, Z, C) float32, one channel per modality.
        labels: (X, Y, Z) int16 ids, or None.
        modalities: C canonical names.
        grid: The grid of the first modality's file; maps are written on it.
        label_scheme: Scheme given or told by the file names, or None.
        label_candidates: Schemes to detect among when there is none.
        label_path: File of the labels, for errors.
        scheme_given: Whether the user chose `label_scheme`.
    """

    case_id: str
    image: np.ndarray
    labels: np.ndarray | None
    modalities: tuple[str, ...]
    grid: nifti.Grid
    label_scheme: str | None = None
    label_candidates: tuple[str, ...] = tuple(labels_module.SCHEMES)
    label_path: Path | None = None
    scheme_given: bool = False

    def __repr__(self):
        shape = "x".join(str(size) for size in self.image.shape[:3])
        mm = " x ".join(f"{size:g}" for size in self.spacing)
        given = "without" if self.labels is None else "with"
        return (
            f"<Study {self.case_id!r}: {' '.join(self.modalities)}, {shape} voxels of "
            f"{mm} mm, {given} labels>"
        )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the RAS+ axes, mm."""
        return self.grid.spacing

    def resolve_scheme(
        self,
        regions: Sequence[str] | None = None,
        label_scheme: str | None = None,
        *,
        ids: Sequence[int] | None = None,
    ) -> labels_module.LabelScheme:
        """The scheme to read this study's labels by; see `labels.resolve`.

        Args:
            regions: Regions asked for.
            label_scheme: Overrules the study's own.
            ids: Ids to decide by, those of a cohort say; the study's own by default.

        Raises:
            DataError: When there are no labels, or the choice is not clear.
        """
        if ids is None:
            ids = nifti.present_ids(self.check_labelled())
        return _resolve(self, self.case_id, ids, regions, label_scheme)

    def check_labelled(self) -> np.ndarray:
        """(X, Y, Z) label ids of a study that must have some.

        Raises:
            DataError: When it has none.
        """
        if self.labels is None:
            raise _unlabelled(self.case_id, self.grid.path)
        return self.labels

    def masks(
        self, regions: Sequence[str] | None = None, label_scheme: str | None = None
    ) -> np.ndarray:
        """(X, Y, Z, K) uint8 region masks of the labels on the whole grid.

        Args:
            regions: K region names; all of the scheme by default.
            label_scheme: Overrules the study's own.

        Raises:
            DataError: When there are no labels, or the scheme is not clear.
        """
        scheme = self.resolve_scheme(regions, label_scheme)
        ids = self.check_labelled()
        return labels_module.region_masks(ids, scheme, regions or scheme.regions)


@dataclass(frozen=True, eq=False)
class Case:
    """Where the files of one patient study are. Nothing is read before `load`.

    Attributes:
        id: Unique in a cohort.
        image_paths: Canonical modality name to file.
        label_path: File of label ids, or None.
        label_scheme: Name in `labels.SCHEMES`, given or told by the file names; None
            leaves it to the ids.
        rater_paths: Label files of several raters (phantom).
        truth_paths: Region to the file of its true probability (phantom).
        volume_indices: Modality to volume of a 4-D file, None for a 3-D file.
        label_candidates: Schemes to detect among when `label_scheme` is None; none
            where it has to be given.
        scheme_given: Whether the user chose `label_scheme`.
    """

    id: str
    image_paths: Mapping[str, Path]
    label_path: Path | None = None
    label_scheme: str | None = None
    rater_paths: tuple[Path, ...] = ()
    truth_paths: Mapping[str, Path] = field(default_factory=dict)
    volume_indices: Mapping[str, int | None] = field(default_factory=dict)
    label_candidates: tuple[str, ...] = tuple(labels_module.SCHEMES)
    scheme_given: bool = False

    def __repr__(self):
        beside = ["no labels" if self.label_path is None else "labels"]
        if self.rater_paths:
            beside.append(f"{len(self.rater_paths)} raters")
        if self.truth_paths:
            beside.append("truth")
        known = " ".join(self.modalities)
        return f"<Case {self.id!r}: {known}, {', '.join(beside)}>"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Canonical names, in the order of the channels."""
        return tuple(self.image_paths)

    @property
    def truth_path(self) -> Path | None:
        """File of the true probability of the first region (WT), or None."""
        return next(iter(self.truth_paths.values()), None)

    def load(
        self, modalities: Sequence[str] | None = None, *, labels: bool = True
    ) -> Study:
        """Read the images, and the labels where there are any.

        Args:
            modalities: Subset and order of channels; all by default.
            labels: Whether to read the labels.

        Returns:
            The study, (X, Y, Z, C) in RAS+ axes.

        Raises:
            DataError: When a file cannot be used, an image is zero throughout, or the
                files do not share one grid.
        """
        names = self._names(modalities)
        image, grid = self._read_images(names)
        ids = None
        if labels and self.label_path is not None:
            ids = self._read_labels(self.label_path, grid)
        return Study(
            case_id=self.id,
            image=image,
            labels=ids,
            modalities=names,
            grid=grid,
            label_scheme=self.label_scheme,
            label_candidates=self.label_candidates,
            label_path=self.label_path,
            scheme_given=self.scheme_given,
        )

    def load_raters(self) -> np.ndarray:
        """(X, Y, Z, R) uint8 label ids, one volume per rater, in RAS+ axes.

        Raises:
            DataError: When the case has no rater files, or one cannot be used.
        """
        self.check_rated()
        grid = nifti.read_grid(self._first_path(), self.id)
        read = [self._read_labels(path, grid) for path in self.rater_paths]
        return np.stack([_as_uint8(ids, self.id) for ids in read], axis=-1)

    def load_truth(self, region: str | None = None) -> np.ndarray:
        """(X, Y, Z) float32 true probability of one region, 0..1, in RAS+ axes.

        Args:
            region: One of `truth_paths`; the first, WT in a phantom, by default.

        Raises:
            DataError: When the case has no such truth file, or it cannot be used.
        """
        if region is None:
            region = next(iter(self.truth_paths), None)
        if region is None or region not in self.truth_paths:
            raise _checks.DataError(
                f"Case {self.id}: a true probability of {region or 'some region'} is "
                f"needed; beside {self._first_path()} lie those of "
                f"{tuple(self.truth_paths) or 'none'}. Only phantoms have them."
            )
        path = self.truth_paths[region]
        array, grid = nifti.read(path, self.id)
        nifti.check_same_grid(
            grid, nifti.read_grid(self._first_path(), self.id), self.id
        )
        if array.min() < 0 or array.max() > 1:
            raise _checks.DataError(
                f"Case {self.id}, file {path}: probabilities must lie in 0..1; got "
                f"{array.min():g}..{array.max():g}."
            )
        return array.astype(np.float32, order="F")

    def resolve_scheme(
        self,
        ids: Sequence[int],
        regions: Sequence[str] | None = None,
        label_scheme: str | None = None,
    ) -> labels_module.LabelScheme:
        """The scheme to read these ids of the case's labels by; see `labels.resolve`.

        Args:
            ids: Ids to decide by.
            regions: Regions asked for.
            label_scheme: Overrules the case's own.

        Raises:
            DataError: When the choice is not clear.
        """
        return _resolve(self, self.id, ids, regions, label_scheme)

    def check_labelled(self) -> None:
        """Raise unless the case has a file of labels.

        Raises:
            DataError: When it has none.
        """
        if self.label_path is None:
            raise _unlabelled(self.id, self._first_path())

    def check_rated(self) -> None:
        """Raise unless the case has files of raters.

        Raises:
            DataError: When it has none.
        """
        if not self.rater_paths:
            raise _checks.DataError(
                f"Case {self.id}: files of several raters are needed; none lie beside "
                f"{self._first_path()}. Use the labels instead."
            )

    def _first_path(self) -> Path:
        return next(iter(self.image_paths.values()))

    def _names(self, modalities: Sequence[str] | None) -> tuple[str, ...]:
        if modalities is None:
            return self.modalities
        names = tuple(canonical_modality(name) for name in modalities)
        if not names or len(set(names)) != len(names):
            raise ValueError(
                "`modalities` must name at least one modality and none twice; got "
                f"{tuple(modalities)}."
            )
        missing = [name for name in names if name not in self.image_paths]
        if missing:
            raise _checks.DataError(
                f"Case {self.id}: modality {missing[0]!r} is needed; the case has "
                f"{self.modalities}. Ask for fewer modalities, or add the file beside "
                f"{self._first_path()}."
            )
        return names

    def _read_images(self, names: tuple[str, ...]) -> tuple[np.ndarray, nifti.Grid]:
        image: np.ndarray
        grid: nifti.Grid
        read: dict[Path, tuple[np.ndarray, nifti.Grid]] = {}
        for channel, name in enumerate(names):
            path, volume = self.image_paths[name], self.volume_indices.get(name)
            if path not in read:
                # One 4-D file at a time may be kept, and no 3-D one.
                read = {path: nifti.read(path, self.id, channels=volume is not None)}
            array, own = read[path]
            if volume is not None:
                array = _one_volume(array, volume, name, path, self.id)
            if channel == 0:
                # Modalities outermost in memory: each is one block, as it is on disk.
                grid = own
                image = np.empty((*array.shape, len(names)), np.float32, order="F")
            nifti.check_same_grid(own, grid, self.id)
            with np.errstate(over="ignore"):
                image[..., channel] = array
            _check_image(image[..., channel], name, path, self.id)
        return image, grid

    def _read_labels(self, path: Path, grid: nifti.Grid) -> np.ndarray:
        array, own = nifti.read(path, self.id)
        nifti.check_same_grid(own, grid, self.id)
        return nifti.as_labels(array, path, self.id)


def _resolve(
    named: Study | Case,
    case_id: str,
    ids: Sequence[int],
    regions: Sequence[str] | None,
    label_scheme: str | None,
) -> labels_module.LabelScheme:
    if label_scheme is None and named.scheme_given:
        label_scheme = named.label_scheme
    try:
        return labels_module.resolve(
            ids,
            regions=regions,
            label_scheme=label_scheme,
            named=named.label_scheme,
            candidates=named.label_candidates,
        )
    except ValueError as error:
        raise _checks.DataError(
            f"Case {case_id}, file {named.label_path}: {error}"
        ) from error


def _unlabelled(case_id: str, image_path: Path) -> _checks.DataError:
    return _checks.DataError(
        f"Case {case_id}: labels are needed; no label file was found for "
        f"{image_path}. Leave the case out, or name its labels with `label_pattern`."
    )


def _one_volume(
    array: np.ndarray, volume: int, name: str, path: Path, case_id: str
) -> np.ndarray:
    if not 0 <= volume < array.shape[3]:
        raise _checks.DataError(
            f"Case {case_id}, file {path}: modality {name!r} is volume {volume}; the "
            f"file has {array.shape[3]} volumes. Check `modalities` or dataset.json."
        )
    return array[..., volume]


def _check_image(array: np.ndarray, name: str, path: Path, case_id: str) -> None:
    low, high = float(array.min()), float(array.max())
    if low == high:
        kind = "zero" if low == 0 else f"{low:g}"
        raise _checks.DataError(
            f"Case {case_id}, file {path}: modality {name!r} must hold an image; it is "
            f"{kind} in every voxel. Leave the case or the modality out."
        )
    if not np.isfinite(low) or not np.isfinite(high):
        raise _checks.DataError(
            f"Case {case_id}, file {path}: voxels must fit in float32; got values "
            "beyond 3.4e38."
        )


def _as_uint8(ids: np.ndarray, case_id: str) -> np.ndarray:
    if ids.max() > 255:
        raise _checks.DataError(
            f"Case {case_id}: rater labels must lie in 0..255; got {ids.max()}."
        )
    return ids.astype(np.uint8)
