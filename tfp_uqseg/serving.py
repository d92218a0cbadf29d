"""One study in, its maps and volumes out, on the study's own grid."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import platform
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import tfp_uqseg
from tfp_uqseg import _checks, _files, _rulings, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import nifti, pipeline, preprocess
from tfp_uqseg.uncertainty import draws
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


@dataclasses.dataclass(frozen=True)
class Request:
    """What `predict_case` was asked for, with every default filled in.

    Attributes:
        num_draws: Network draws.
        seed: Of the draws.
        num_latent_draws: Inner draws of each network draw; None for the default.
        regions: Names of the network's K regions.
        modalities: Names of the network's input channels.
        label_scheme: Whose ids the label map uses.
        preprocessing: As in training.
    """

    num_draws: int
    seed: int
    num_latent_draws: int | None
    regions: tuple[str, ...]
    modalities: tuple[str, ...]
    label_scheme: str
    preprocessing: preprocess.Preprocessing


def predict_case(
    model: tf_keras.Model,
    case: case_module.Case,
    folder: str | os.PathLike,
    num_draws: int = 20,
    *,
    seed: int = 0,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing | None = None,
    label_scheme: str | None = None,
    num_latent_draws: int | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> pathlib.Path:
    """Predict one study and write its maps, label map and summary.

    Files of ``folder/<case id>/``, all on the study's own grid::

        {case}.nii.gz                               label ids, uint8
        {case}_unc_whole|core|enhance.nii.gz        0 to 100, as in QU-BraTS
        {case}_mean_probabilities_{region}.nii.gz   float32
        {case}_predictive_entropy_{region}.nii.gz   nats, total uncertainty
        {case}_expected_entropy_{region}.nii.gz     nats, aleatoric
        {case}_mutual_information_{region}.nii.gz   nats, epistemic
        {case}_summary.json                         volumes in ml, means, settings

    The folder appears whole or not at all. Only slices that hold brain are run, and
    memory does not grow with `num_draws`.

    Args:
        model: Network of `models.build`, with K regions.
        case: The study; its labels, if any, are not read.
        folder: Where the case's folder is made.
        num_draws: Network draws; a deterministic network is run once.
        seed: Of the draws.
        regions: Names of the K regions; None for ``("tumour",)`` where K is 1 and
            ``("WT", "TC", "ET")`` where it is 3.
        modalities: Names of the input channels in training order; None for those of
            the case.
        preprocessing: As in training; None for the default.
        label_scheme: Whose ids the label map uses; None for the case's own.
        num_latent_draws: Inner draws of each network draw; None for the default.
        batch_size: Slices at a time; does not change the result.
        overwrite: Whether to replace the maps of an earlier prediction.
        progress: Called with the number of (slice, draw) pairs done, and of all.

    Returns:
        The case's folder.

    Raises:
        DataError: If the study cannot be used.
        FileExistsError: If the case has maps already and `overwrite` is off.
        ValueError: If an argument does not fit the network.
    """
    request = make_request(
        model,
        case,
        num_draws,
        seed=seed,
        regions=regions,
        modalities=modalities,
        preprocessing=preprocessing,
        label_scheme=label_scheme,
        num_latent_draws=num_latent_draws,
    )
    place = pathlib.Path(folder) / case.id
    if place.exists() and not overwrite:
        raise FileExistsError(
            f"{place} already holds maps; pass `overwrite=True`, or choose another "
            "folder."
        )
    study = case.load(request.modalities, labels=False)
    prepared = preprocess.prepare(study, preprocessing=request.preprocessing)
    with _files.whole_folder(place) as temporary:
        prediction, maps = _run(model, prepared, request, batch_size, progress)
        _check_finite(maps, case.id)
        label_map, masks = _label_map(maps["mean_probabilities"], request)
        _write_maps(temporary, case.id, study.grid, prepared, maps, label_map, request)
        summary = {
            "case": case.id,
            "method": _method(model),
            "num_draws": prediction.num_draws,
            "seed": request.seed,
            "settings": settings(model, case, request),
            "versions": versions(),
            "voxel_volume_ml": study.grid.voxel_volume_ml,
            "regions": _regions(
                prediction, maps, masks, prepared.brain, study, request
            ),
        }
        _files.write_json(temporary / f"{case.id}_summary.json", summary)
    return place


def make_request(
    model: tf_keras.Model,
    case: case_module.Case,
    num_draws: int = 20,
    *,
    seed: int = 0,
    regions: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    preprocessing: preprocess.Preprocessing | None = None,
    label_scheme: str | None = None,
    num_latent_draws: int | None = None,
) -> Request:
    """Return what `predict_case` will do; see there for the arguments.

    Raises:
        ValueError: If an argument does not fit the network.
    """
    num_draws = _checks.positive_integer("num_draws", num_draws)
    if num_latent_draws is not None:
        _checks.positive_integer("num_latent_draws", num_latent_draws)
    regions = _region_names(model, regions)
    channels = model.input_shape[-1]
    modalities = case.modalities if modalities is None else modalities
    modalities = tuple(case_module.canonical_modality(name) for name in modalities)
    if len(modalities) != channels:
        raise ValueError(
            f"`modalities` must name the {channels} input channels of the network; got "
            f"{list(modalities)} for case {case.id}. Pass the names of the training."
        )
    scheme = _scheme(case, regions, label_scheme)
    return Request(
        num_draws=1 if _method(model) == "deterministic" else num_draws,
        seed=seed,
        num_latent_draws=num_latent_draws,
        regions=regions,
        modalities=modalities,
        label_scheme=scheme,
        preprocessing=preprocessing or preprocess.Preprocessing(),
    )


def settings(
    model: tf_keras.Model, case: case_module.Case, request: Request
) -> dict[str, object]:
    """Return what the maps depend on, as plain values; equal means equal maps.

    Beside the request: fingerprints of the weights and of every image file.
    """
    files = {
        name: [case.image_paths[name].name, _files.fingerprint(case.image_paths[name])]
        for name in request.modalities
        if name in case.image_paths
    }
    values = dataclasses.asdict(request)
    values["threshold"] = _rulings.PROBABILITY_THRESHOLD
    values["model"] = fingerprint(model)
    values["files"] = files
    return json.loads(json.dumps(values))


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


def fingerprint(model: tf_keras.Model) -> str:
    """Return 16 hexadecimal digits that change with any weight of the network."""
    digest = hashlib.sha256()
    for weight in model.weights:
        if weight.shape.rank:  # scalars are annealing factors, not the network
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions that produced a result."""
    return {
        "tfp_uqseg": tfp_uqseg.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tf_keras": tf_keras.__version__,
        "tensorflow_probability": tfp.__version__,
        "numpy": np.__version__,
    }


def _method(model: tf_keras.Model) -> str:
    return getattr(model, "method", type(model).__name__)


def _region_names(model, regions: Sequence[str] | None) -> tuple[str, ...]:
    count = model.num_regions
    if regions is None:
        known = {1: (labels.BINARY_REGION,), 3: labels.BRATS_REGIONS}
        if count not in known:
            raise ValueError(
                f"`regions` must name the {count} regions of the network; got None."
            )
        return known[count]
    if len(regions) != count:
        raise ValueError(
            f"`regions` must name the {count} regions of the network; got "
            f"{list(regions)}."
        )
    return tuple(regions)


def _scheme(case, regions: tuple[str, ...], label_scheme: str | None) -> str:
    """Return the name of the scheme whose ids the label map uses."""
    if label_scheme is None and regions == (labels.BINARY_REGION,):
        label_scheme = "binary"
    if label_scheme is None:
        label_scheme = case.label_scheme or _only_candidate(case, regions)
    labels.check_regions(regions, label_scheme)
    return labels.get(label_scheme).name


def _only_candidate(case, regions: tuple[str, ...]) -> str:
    """Return the one scheme that the case's names allow and that has the regions."""
    names = [
        name
        for name in case.label_candidates
        if set(regions) <= set(labels.get(name).regions)
    ]
    if not names and case.label_candidates:
        return case.label_candidates[0]  # which says what its regions are
    if len(names) != 1:
        raise ValueError(
            f"`label_scheme` must be given: the names of case {case.id} do not tell "
            "whose ids its label map should use. Pass one of "
            f"{', '.join(names or labels.SCHEMES)}."
        )
    return names[0]


def _check_finite(maps: dict[str, np.ndarray], case_id: str) -> None:
    for name, values in maps.items():
        if not np.isfinite(values).all():
            raise _checks.DataError(
                f"Case {case_id}: `{name}` must be finite; the network answered NaN or "
                "infinity. Look at the case's intensities, or predict in float32."
            )


def _run(model, prepared, request: Request, batch_size: int, progress):
    """Return the prediction of the slices with brain, and its maps (x, y, z, K)."""
    images = pipeline.volume_slices(prepared)  # (z, H, W, C)
    holds_brain = np.any(prepared.brain, axis=(0, 1))
    prediction = draws.predict(
        model,
        images[holds_brain],
        request.num_draws,
        request.seed,
        batch_size=batch_size,
        num_latent_draws=request.num_latent_draws,
        progress=progress,
        contained=labels.contained(request.label_scheme, request.regions),
    )
    maps = {}
    for name in MAPS:
        predicted = getattr(prediction, name)
        slices = np.zeros((len(images), *predicted.shape[1:]), np.float32)
        slices[holds_brain] = predicted
        maps[name] = pipeline.from_slices(slices, prepared)
    return prediction, maps


def _label_map(mean_probabilities: np.ndarray, request: Request):
    """Return label ids (x, y, z), and the nested masks they stand for, with K."""
    masks = mean_probabilities > _rulings.PROBABILITY_THRESHOLD
    ids = labels.label_map(masks, request.label_scheme, request.regions)
    return ids, labels.region_masks(ids, request.label_scheme, request.regions) > 0


def _write_maps(folder, case_id, grid, prepared, maps, label_map, request) -> None:
    def write(name: str, array: np.ndarray, dtype) -> None:
        whole = preprocess.restore(array, prepared)
        nifti.write(folder / f"{case_id}{name}.nii.gz", whole, grid, dtype)

    write("", label_map, np.uint8)
    for k, region in enumerate(request.regions):
        for name in MAPS:
            write(f"_{name}_{region}", maps[name][..., k], np.float32)
        entropy = maps["predictive_entropy"][..., k]
        scaled = np.clip(100.0 * entropy / np.log(2.0), 0.0, 100.0)
        write(f"_unc_{QU_BRATS_NAMES[region]}", scaled, np.float32)


def _regions(prediction, maps, masks, brain, study, request) -> dict[str, dict]:
    """Return volumes and mean uncertainties of every region."""
    voxel = study.grid.voxel_volume_ml
    result = {}
    for k, region in enumerate(request.regions):
        volumes = prediction.voxel_counts[:, k] * voxel
        inside = masks[..., k]
        values = {"volume_ml": float(inside.sum() * voxel)}
        values.update(volumes_module.volume_statistics(volumes))
        values["volumes_ml"] = [float(volume) for volume in volumes]
        for name in UNCERTAINTIES:
            values[f"mean_{name}"] = _mean(maps[name][..., k], brain)
            values[f"mean_{name}_in_region"] = _mean(maps[name][..., k], inside)
        result[region] = values
    return result


def _mean(values: np.ndarray, where: np.ndarray) -> float | None:
    return float(values[where].mean(dtype=np.float64)) if where.any() else None
