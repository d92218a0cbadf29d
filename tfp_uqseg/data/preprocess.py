"""Studies made ready for a network: cropped, rescaled, and back again exactly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfp_uqseg import _checks, labels
from tfp_uqseg.data import case as case_module

_TOP_PERCENTILE = 99.9
#: Below this fraction of the 99th percentile a voxel is as dark as air. Of a brain
#: without skull at most a twentieth is; with skull and air, a fifth to three quarters.
_DARK, _MOST_DARK = 0.1, 0.1
#: Voxels up to which an image may be a patch of brain rather than a study.
_SMALL = 50_000


@dataclass(frozen=True)
class Preprocessing:
    """Choices of `prepare`.

    Attributes:
        intensity: "zscore": (v - mean) / stddev per modality over its own voxels above
            background, clipped. Background is what is 0. Where air is not (more than a
            tenth of the other voxels is darker than a tenth of their 99th percentile),
            mean and stddev are those of the brighter voxels, and air keeps its score:
            how much of the picture is air then has no say in how bright a brain is.
            "rescale": the paper's 8-bit range times 1/255: lowest
            value to 0, 99.9th percentile to 255 (clipped there), over 255. Grey levels
            are not rounded to 256 steps, so that the way back is exact.
        crop: Whether to cut the study to the box around the brain.
        clip: Largest absolute z-score.
    """

    intensity: str = "zscore"
    crop: bool = True
    clip: float = 5.0

    def __post_init__(self):
        """Check the choices.

        Raises:
            ValueError: When one is not allowed.
        """
        _checks.one_of("intensity", self.intensity, ("zscore", "rescale"))
        if not isinstance(self.crop, (bool, np.bool_)):
            raise ValueError(f"`crop` must be True or False; got {self.crop!r}.")
        if not 0 < float(self.clip) < float("inf"):
            raise ValueError(f"`clip` must be finite and above 0; got {self.clip!r}.")


#: The choices of `prepare` unless others are made.
DEFAULT = Preprocessing()


@dataclass(frozen=True, eq=False)
class Intensity:
    """How one modality was scaled, and what clipping took away.

    Attributes:
        offset: Value that became 0.
        scale: Difference that became 1.
        clipped_at: Flat positions (order F) of clipped voxels in the box.
        clipped_values: Their values before.
    """

    offset: float
    scale: float
    clipped_at: np.ndarray
    clipped_values: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study ready for a network, and what is needed to undo it.

    Attributes:
        case_id: Id of the case.
        image: (x, y, z, C) float32, background 0 (see `Preprocessing`).
        mask: (x, y, z, K) uint8, or None without labels.
        brain: (x, y, z) bool: some modality is not 0.
        box: Three slices of the full grid: where (x, y, z) was cut out.
        shape: (X, Y, Z) of the full grid.
        modalities: C names.
        regions: K names, or None without labels.
        label_scheme: Name of the scheme the labels were read by, or None.
        intensities: One per modality.
        foreground: (x, y, z, C) bool: voxels that were not 0.
        labels: (x, y, z) int16 ids, or None.
    """

    case_id: str
    image: np.ndarray
    mask: np.ndarray | None
    brain: np.ndarray
    box: tuple[slice, ...]
    shape: tuple[int, int, int]
    modalities: tuple[str, ...]
    regions: tuple[str, ...] | None
    label_scheme: str | None
    intensities: tuple[Intensity, ...]
    foreground: np.ndarray
    labels: np.ndarray | None = None

    def __repr__(self):
        shape = "x".join(str(size) for size in self.brain.shape)
        whole = "x".join(str(size) for size in self.shape)
        regions = " ".join(self.regions) if self.regions else "no labels"
        return (
            f"<Prepared {self.case_id!r}: {' '.join(self.modalities)}, {regions}, box "
            f"{shape} of {whole} voxels>"
        )


def prepare(
    study: case_module.Study,
    *,
    preprocessing: Preprocessing = DEFAULT,
    regions: Sequence[str] | None = None,
    label_scheme: str | None = None,
) -> Prepared:
    """Cut a study to the brain, scale its intensities, split its labels into regions.

    Neither box nor scaling looks at the labels, so that a study to be predicted is
    prepared as one to learn from. Labels outside the brain stay, inside the box.

    Args:
        study: As `Case.load` returns it.
        preprocessing: Choices.
        regions: K regions of the mask; all of the label scheme by default.
        label_scheme: Overrules what the study knows.

    Returns:
        The prepared study.

    Raises:
        DataError: When a modality has no contrast, or the label scheme is not clear.
    """
    mask = names = scheme = None
    shape = study.image.shape[:3]
    box = tuple(slice(0, n) for n in shape)
    if preprocessing.crop:
        box = _box(study.image)
    ids = None
    if study.labels is not None:
        ids = study.labels[box]
        scheme = study.resolve_scheme(regions, label_scheme)
        names = tuple(regions or scheme.regions)
        mask = labels.region_masks(ids, scheme, names)
    raw = study.image[box]
    foreground = np.empty(raw.shape, bool, order="F")
    np.not_equal(raw, 0, out=foreground)
    image = np.empty(raw.shape, np.float32, order="F")
    intensities = tuple(
        _scale(raw[..., c], foreground[..., c], image[..., c], preprocessing, study, c)
        for c in range(raw.shape[-1])
    )
    brain = _any_channel(foreground)
    _check_background(brain, study)
    return Prepared(
        case_id=study.case_id,
        image=image,
        mask=mask,
        brain=brain,
        box=box,
        shape=shape,
        modalities=study.modalities,
        regions=names,
        label_scheme=None if scheme is None else scheme.name,
        intensities=intensities,
        foreground=foreground,
        labels=ids,
    )


def _check_background(brain: np.ndarray, study: case_module.Study) -> None:
    """Warn where hardly any voxel is 0: air then counts as brain in every number."""
    if brain.size > _SMALL and brain.mean() > 0.99:
        warnings.warn(
            f"Case {study.case_id}, file {study.grid.path}: {brain.mean():.1%} of the "
            "voxels are not 0, so that all of the image counts as brain. Strip the "
            "skull and set what is outside to 0.",
            stacklevel=3,
        )


def restore(array: np.ndarray, prepared: Prepared, fill: float = 0) -> np.ndarray:
    """Put an array of the box back into the study's full grid.

    Args:
        array: (x, y, z, ...) of the prepared study.
        prepared: What `prepare` returned.
        fill: Value outside the box.

    Returns:
        (X, Y, Z, ...) of the same type.

    Raises:
        ValueError: When the array does not have the shape of the box.
    """
    array = np.asarray(array)
    if array.shape[:3] != prepared.brain.shape:
        raise ValueError(
            f"`array` must have the shape {prepared.brain.shape} of the prepared study "
            f"first; got {array.shape}."
        )
    shape = (*prepared.shape, *array.shape[3:])
    full = np.full(shape, fill, array.dtype, order="F")
    full[prepared.box] = array
    return full


def undo_intensity(prepared: Prepared) -> np.ndarray:
    """The image of a prepared study in the intensities of its files.

    Returns:
        (x, y, z, C) float32: equal to the files' values within float32 rounding (whole
        numbers below 2^20 come back exactly once rounded), clipped ones included.
    """
    out = np.empty_like(prepared.image, order="F")
    for channel, kept in enumerate(prepared.intensities):
        values = prepared.image[..., channel] * np.float32(kept.scale)
        values += np.float32(kept.offset)
        values *= prepared.foreground[..., channel]
        flat = values.reshape(-1, order="F")
        flat[kept.clipped_at] = kept.clipped_values
        out[..., channel] = flat.reshape(values.shape, order="F")
    return out


def _any_channel(foreground: np.ndarray) -> np.ndarray:
    brain = foreground[..., 0].copy(order="F")
    for channel in range(1, foreground.shape[-1]):
        brain |= foreground[..., channel]
    return brain


def _box(image: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around every voxel where some modality is not 0."""
    ends = []
    for channel in range(image.shape[-1]):
        inside = image[..., channel] != 0
        flat = inside.any(axis=2)
        ends.append((flat.any(axis=1), flat.any(axis=0), inside.any(axis=(0, 1))))
    box = []
    for axis in range(3):
        occupied = np.logical_or.reduce([end[axis] for end in ends])
        # A study of zeros keeps its grid, for `_scale` to name the modality.
        where = np.flatnonzero(occupied) if occupied.any() else (0, len(occupied) - 1)
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(box)


def _scale(raw, foreground, out, preprocessing, study, channel) -> Intensity:
    """Write the scaled modality to `out`; return how to undo it."""
    values = raw[foreground]
    if values.size == 0 or values.min() == values.max():
        raise _checks.DataError(
            f"Case {study.case_id}, modality {study.modalities[channel]!r}: must have "
            f"contrast; its {values.size} voxels above background all have one value. "
            "Leave the case or the modality out."
        )
    air = False
    if preprocessing.intensity == "zscore":
        lit, air = _without_air(values)
        offset, scale = lit.mean(dtype=np.float64), lit.std(dtype=np.float64)
        low, high = -preprocessing.clip, preprocessing.clip
    else:
        offset = min(0.0, float(values.min()))
        scale = float(np.percentile(values, _TOP_PERCENTILE)) - offset
        scale = scale or float(values.max()) - offset
        low, high = 0.0, 1.0
    np.subtract(raw, np.float32(offset), out=out)
    out /= np.float32(scale)
    if not air:
        out *= foreground
    flat_out, flat_raw = out.reshape(-1, order="F"), raw.ravel(order="F")
    clipped_at = np.flatnonzero((flat_out < low) | (flat_out > high)).astype(np.int32)
    np.clip(out, low, high, out=out)
    return Intensity(float(offset), float(scale), clipped_at, flat_raw[clipped_at])


def _without_air(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the values that are no air, and whether others were among them."""
    if values.min() < 0:  # somebody's scores: dark means nothing
        return values, False
    bright = values >= _DARK * np.percentile(values, 99)
    lit = values[bright]
    air = np.mean(bright) < 1 - _MOST_DARK and lit.min() < lit.max()
    return (lit, True) if air else (values, False)
