"""The files of a predicted study: written, and read back to go on from."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import zipfile

import numpy as np

from tfp_uqseg import _checks, _rulings, labels
from tfp_uqseg.data import nifti, pipeline, preprocess
from tfp_uqseg.uncertainty import measures, prediction
from tfp_uqseg.uncertainty import volumes as volumes_module

#: Maps written for every region, by their names in `draws.Prediction`.
MAPS = (
    "mean_probabilities",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
)
UNCERTAINTIES = MAPS[1:]

#: File names of the QU-BraTS challenge (Mehta et al., MELBA 2022:026).
QU_BRATS_NAMES = {
    "WT": "whole",
    "TC": "core",
    "ET": "enhance",
    labels.BINARY_REGION: "whole",
}

_DRAWS = ("num_draws", "num_latent_draws", "seed")

#: Files written at a time: each holds three copies of a volume meanwhile.
_WRITERS = 2


def read_summary(folder: str | os.PathLike, case_id: str) -> dict | None:
    """Return the summary of a case that `predict_case` finished, or None.

    Args:
        folder: The folder that was given to `predict_case`.
        case_id: Id of the case.

    Raises:
        DataError: If the summary is damaged.
    """
    path = pathlib.Path(folder) / case_id / f"{case_id}_summary.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _checks.DataError(
            f"Case {case_id}, file {path}: must hold JSON; {error}. Predict it again."
        ) from error


def read_means(
    folder: str | os.PathLike,
    case_id: str,
    summary: dict,
    regions: tuple[str, ...],
    prepared: preprocess.Prepared,
    grid: nifti.Grid,
) -> prediction.Prediction:
    """Return what finished maps say of the slices with brain, to go on from.

    Args:
        folder: The folder that was given to `predict_case`.
        case_id: Id of the case.
        summary: Its summary.
        regions: Names of the network's K regions.
        prepared: The study, prepared as it was.
        grid: Its grid.

    Returns:
        The prediction, without variances.

    Raises:
        DataError: If a map or the summary is missing, damaged or on another grid.
    """
    try:
        voxel, settings = float(summary["voxel_volume_ml"]), _draws_of(summary)
        drawn = [summary["regions"][region]["volumes_ml"] for region in regions]
        counts = np.rint(np.transpose(drawn).astype(float) / voxel).astype(np.int64)
        if counts.shape != (settings["num_draws"], len(regions)):
            raise ValueError(f"volumes of shape {counts.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise _checks.DataError(
            f"Case {case_id}, file {case_id}_summary.json: must hold the volume "
            f"of every draw and region ({error!r}). Predict it again with `overwrite`."
        ) from error
    means = []
    for name in ("mean_probabilities", "expected_entropy"):
        volumes = []
        for region in regions:
            path = _path(pathlib.Path(folder) / case_id, case_id, name, region)
            array, own = nifti.read(path, case_id)
            nifti.check_same_grid(own, grid, case_id)
            volumes.append(array[prepared.box])
        slices = np.moveaxis(np.stack(volumes, axis=-1), 2, 0)  # (z, H, W, K)
        means.append(np.ascontiguousarray(slices[holds_brain(prepared)]))
    return prediction.of_means(
        means,
        counts,
        num_draws=settings["num_draws"],
        num_latent_draws=settings["num_latent_draws"],
        seed=settings["seed"],
    )


def _draws_of(summary: dict) -> dict[str, int]:
    """Return how the draws of finished maps were made."""
    return {name: int(summary[name]) for name in _DRAWS}


def holds_brain(prepared: preprocess.Prepared) -> np.ndarray:
    """Return which axial slices of the box hold brain, bool (z,)."""
    return np.any(prepared.brain, axis=(0, 1))


def volumes_of(
    found: prediction.Prediction, prepared: preprocess.Prepared, case_id: str
) -> dict[str, np.ndarray]:
    """Return every map in the box, float32 (x, y, z, K), by its name.

    Args:
        found: Of the slices with brain.
        prepared: The study.
        case_id: Named in errors.

    Raises:
        DataError: If a map is not finite.
    """
    where, volumes = holds_brain(prepared), {}
    for name in MAPS:
        predicted = getattr(found, name)
        slices = np.zeros((len(where), *predicted.shape[1:]), np.float32)
        slices[where] = predicted
        volumes[name] = pipeline.from_slices(slices, prepared)
    _check_finite(volumes, case_id)
    return volumes


def _path(place: pathlib.Path, case_id: str, name: str, region: str) -> pathlib.Path:
    return place / f"{case_id}_{name}_{region}.nii.gz"


def write(
    place: pathlib.Path,
    case_id: str,
    volumes: dict[str, np.ndarray],
    ids: np.ndarray,
    regions: tuple[str, ...],
    prepared: preprocess.Prepared,
    grid: nifti.Grid,
) -> None:
    """Write label map, maps and QU-BraTS maps, two files at a time.

    Args:
        place: The case's folder.
        case_id: Id of the case.
        volumes: Maps in the box, by name, as `volumes_of` returns them.
        ids: Label ids in the box, (x, y, z).
        regions: K names.
        prepared: The study.
        grid: Its grid.
    """

    def save(path: pathlib.Path, array: np.ndarray, dtype) -> None:
        nifti.write(path, preprocess.restore(array, prepared), grid, dtype)

    def save_scaled(path: pathlib.Path, entropy: np.ndarray) -> None:
        save(path, measures.scaled_uncertainty(entropy), np.float32)

    # The compressor and NumPy run without the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(_WRITERS) as pool:
        jobs = [pool.submit(save, place / f"{case_id}.nii.gz", ids, np.uint8)]
        for k, region in enumerate(regions):
            for name in MAPS:
                path = _path(place, case_id, name, region)
                jobs.append(pool.submit(save, path, volumes[name][..., k], np.float32))
            path = place / f"{case_id}_unc_{QU_BRATS_NAMES[region]}.nii.gz"
            entropy = volumes["predictive_entropy"][..., k]
            jobs.append(pool.submit(save_scaled, path, entropy))
        for job in jobs:
            job.result()


def write_draws(
    place: pathlib.Path,
    case_id: str,
    found: prediction.Prediction,
    regions: tuple[str, ...],
    prepared: preprocess.Prepared,
) -> None:
    """Write the masks of every draw, a bit each, to ``{case}_draws.npz``.

    Args:
        place: The case's folder.
        case_id: Id of the case.
        found: Of the slices with brain, with `draw_masks`.
        regions: K names.
        prepared: The study.
    """
    where, masks = holds_brain(prepared), np.asarray(found.draw_masks)
    bits = np.packbits(masks, axis=0)  # (bytes, z with brain, H, W, K)
    planes = np.zeros((len(where), *bits.shape[2:], bits.shape[0]), np.uint8)
    planes[where] = np.moveaxis(bits, 0, -1)
    box = pipeline.from_slices(planes, prepared)  # (x, y, z, K, bytes)
    full = np.moveaxis(preprocess.restore(box, prepared), (3, 4), (0, 1))
    np.savez_compressed(
        place / f"{case_id}_draws.npz",
        masks=np.ascontiguousarray(full),
        num_draws=len(masks),
        regions=np.array(regions),
    )


def read_draws(
    folder: str | os.PathLike, case_id: str, region: str
) -> np.ndarray | None:
    """Return the masks of every draw, bool (draws, X, Y, Z) in RAS+ axes, or None.

    Args:
        folder: The folder that was given to `predict_case`, with `keep_draws`.
        case_id: Id of the case.
        region: One of its regions.

    Raises:
        DataError: If the file is damaged or does not hold the region.
    """
    path = pathlib.Path(folder) / case_id / f"{case_id}_draws.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            place = stored["regions"].tolist().index(region)
            count = int(stored["num_draws"])
            masks = np.unpackbits(stored["masks"][place], axis=0, count=count)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _checks.DataError(
            f"Case {case_id}, file {path}: must hold the masks of every draw and "
            f"region ({error!r}). Predict the case again with `overwrite`."
        ) from error
    return masks.astype(bool)


def _check_finite(maps: dict[str, np.ndarray], case_id: str) -> None:
    for name, values in maps.items():
        if not np.isfinite(values).all():
            raise _checks.DataError(
                f"Case {case_id}: `{name}` must be finite; the network answered NaN or "
                "infinity. Look at the case's intensities, or predict in float32."
            )


def label_map(
    mean_probabilities: np.ndarray, label_scheme: str, regions: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return label ids (x, y, z), and the nested masks they stand for, with K."""
    masks = mean_probabilities > _rulings.PROBABILITY_THRESHOLD
    ids = labels.label_map(masks, label_scheme, regions)
    return ids, labels.region_masks(ids, label_scheme, regions) > 0


def region_values(
    found: prediction.Prediction, volumes, masks, brain, voxel: float, regions
) -> dict[str, dict]:
    """Return volumes and mean uncertainties of every region."""
    result = {}
    for k, region in enumerate(regions):
        drawn = found.voxel_counts[:, k] * voxel
        inside = masks[..., k]
        values: dict[str, object] = {"volume_ml": float(inside.sum() * voxel)}
        values.update(volumes_module.volume_statistics(drawn))
        values["volumes_ml"] = [float(volume) for volume in drawn]
        for name in UNCERTAINTIES:
            values[f"mean_{name}"] = _mean(volumes[name][..., k], brain)
            values[f"mean_{name}_in_region"] = _mean(volumes[name][..., k], inside)
        result[region] = values
    return result


def _mean(values: np.ndarray, where: np.ndarray) -> float | None:
    return float(values[where].mean(dtype=np.float64)) if where.any() else None
