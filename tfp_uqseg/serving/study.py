"""Studies through a network: one, or many with reading and writing beside it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, _files, labels
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import nifti, pipeline, preprocess
from tfp_uqseg.serving import maps
from tfp_uqseg.serving import request as request_module
from tfp_uqseg.uncertainty import draws, prediction

#: What makes one case fail without stopping the others.
_FAILURES = (_checks.DataError, tf.errors.ResourceExhaustedError)

Progress = Callable[[int, int], object]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: The case.
        folder: Where its maps are, or would be.
        error: Why it has none, or None.
    """

    case: case_module.Case
    folder: pathlib.Path
    error: Exception | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """One case to predict; `summary` is that of maps to go on from, or None."""

    case: case_module.Case
    request: request_module.Request
    place: pathlib.Path
    summary: dict | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Study:
    """A study in memory, ready for the network, with what was predicted before."""

    settings: dict
    grid: nifti.Grid
    prepared: preprocess.Prepared
    images: np.ndarray
    brain: np.ndarray
    earlier: prediction.Prediction | None


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
    keep_draws: bool = False,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: Progress | None = None,
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
        {case}_draws.npz                            with `keep_draws`; see `read_draws`

    The folder appears whole or not at all. Only slices that hold brain are run, outside
    the brain every map is 0, and memory does not grow with `num_draws`. Where the maps
    of fewer draws are there already, with everything else the same, only the further
    draws are run: the result is that of all of them, to the last digit.

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
        keep_draws: Whether to keep the masks of every draw too, a bit per voxel; such
            maps cannot be gone on from.
        batch_size: Slices at a time; does not change the result beyond rounding.
        overwrite: Whether to replace the maps of an earlier prediction.
        progress: Called with the number of (slice, draw) pairs done, and of all.

    Returns:
        The case's folder.

    Raises:
        DataError: If the study cannot be used.
        FileExistsError: If the case has maps already, not of fewer draws of the same
            prediction, and `overwrite` is off.
        ValueError: If an argument does not fit the network.
    """
    request = request_module.make_request(
        model,
        case,
        num_draws,
        seed=seed,
        regions=regions,
        modalities=modalities,
        preprocessing=preprocessing,
        label_scheme=label_scheme,
        num_latent_draws=num_latent_draws,
        keep_draws=keep_draws,
    )
    job = _job(model, case, request, pathlib.Path(folder), overwrite)
    study = _load(model, job)
    found = _run(model, study, request, batch_size, progress)
    _write(job, study, found, request_module.method_of(model))
    return job.place


def predict_cases(
    model: tf_keras.Model,
    cases: Sequence[case_module.Case],
    requests: Sequence[request_module.Request],
    folder: str | os.PathLike,
    *,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: Callable[[case_module.Case], Progress | None] | None = None,
) -> Iterator[Outcome]:
    """Predict many studies as `predict_case` does, one by one.

    While the network runs, the next study is read and the last one written: at most
    three are in memory. A study that cannot be used does not stop the others.

    Args:
        model: See `predict_case`.
        cases: The studies.
        requests: What `make_request` returned for each of them.
        folder: See `predict_case`.
        batch_size: See there.
        overwrite: See there.
        progress: Called with a case before it is run; returns what is told of its
            progress, or None.

    Yields:
        The outcome of every case, in their order.

    Raises:
        FileExistsError: See `predict_case`.
    """
    folder, method = pathlib.Path(folder), request_module.method_of(model)
    waiting = iter(zip(cases, requests, strict=True))
    one = concurrent.futures.ThreadPoolExecutor

    with one(1) as reader, one(1) as writer:

        def read_next():
            for case, request in waiting:
                job = _job(model, case, request, folder, overwrite)
                return job, reader.submit(_load, model, job)
            return None

        ahead = read_next()
        last: tuple | None = None
        while ahead is not None:
            (job, loading), error = ahead, None
            try:
                study = loading.result()
            except _FAILURES as problem:
                study, error = None, problem
            ahead = read_next()
            if error is None:
                shown = None if progress is None else progress(job.case)
                try:
                    found = _run(model, study, job.request, batch_size, shown)
                except _FAILURES as problem:
                    error = problem
            if last is not None:
                yield _outcome(*last)
            last = job, error, None
            if error is None:
                last = job, None, writer.submit(_write, job, study, found, method)
            study = found = None
        if last is not None:
            yield _outcome(*last)


def _outcome(job: _Job, error, writing) -> Outcome:
    """Return what became of a case, once it is written."""
    if writing is not None:
        try:
            writing.result()
        except _FAILURES as problem:
            error = problem
    return Outcome(job.case, job.place, error)


def continues(summary: dict | None, wanted: dict) -> bool:
    """Return whether maps with this summary are those of fewer of the wanted draws.

    Args:
        summary: What `maps.read_summary` returned.
        wanted: What `request.settings` returned.
    """
    if not isinstance(summary, dict) or "num_latent_draws" not in summary:
        return False
    settings = summary.get("settings")
    if not isinstance(settings, dict) or set(settings) != set(wanted):
        return False
    if wanted["keep_draws"]:
        return False  # the maps do not hold the masks of the draws before
    other = [name for name in wanted if settings[name] != wanted[name]]
    return other == ["num_draws"] and settings["num_draws"] < wanted["num_draws"]


def _job(model, case, request, folder: pathlib.Path, overwrite: bool) -> _Job:
    """Return what is to be done; raise where maps are in the way."""
    place, summary = folder / case.id, None
    if place.exists() and not overwrite:
        settings = request_module.settings(model, case, request)
        summary = maps.read_summary(folder, case.id)
        if not continues(summary, settings):
            raise FileExistsError(
                f"{place} already holds maps; pass `overwrite=True`, or choose another "
                "folder."
            )
    return _Job(case, request, place, summary)


def _load(model, job: _Job) -> _Study:
    """Read a study, and the maps that are to be gone on from."""
    study = job.case.load(job.request.modalities, labels=False)
    prepared = preprocess.prepare(study, preprocessing=job.request.preprocessing)
    earlier = None
    if job.summary is not None:
        earlier = maps.read_means(
            job.place.parent,
            job.case.id,
            job.summary,
            job.request.regions,
            prepared,
            study.grid,
        )
    images = pipeline.volume_slices(prepared)  # (z, H, W, C)
    held = maps.holds_brain(prepared)
    images, brain = images[held], np.moveaxis(prepared.brain, 2, 0)[held]
    settings = request_module.settings(model, job.case, job.request)
    return _Study(settings, study.grid, prepared, images, brain, earlier)


def _run(model, study: _Study, request, batch_size: int, progress):
    """Return the prediction of the slices with brain."""
    return draws.predict(
        model,
        study.images,
        request.num_draws,
        request.seed,
        batch_size=batch_size,
        num_latent_draws=request.num_latent_draws,
        where=study.brain,
        contained=labels.contained(request.label_scheme, request.regions),
        variances=False,
        masks=request.keep_draws,
        earlier=study.earlier,
        progress=progress,
    )


def _write(job: _Job, study: _Study, found, method: str) -> None:
    """Write everything of a case, whole or not at all."""
    request, case_id, prepared = job.request, job.case.id, study.prepared
    volumes = maps.volumes_of(found, prepared, case_id)
    mean = volumes["mean_probabilities"]
    ids, masks = maps.label_map(mean, request.label_scheme, request.regions)
    voxel = study.grid.voxel_volume_ml
    with _files.whole_folder(job.place) as temporary:
        maps.write(
            temporary, case_id, volumes, ids, request.regions, prepared, study.grid
        )
        if request.keep_draws:
            maps.write_draws(temporary, case_id, found, request.regions, prepared)
        summary = {
            "case": case_id,
            "method": method,
            "num_draws": found.num_draws,
            "num_latent_draws": found.num_latent_draws,
            "seed": request.seed,
            "settings": study.settings,
            "versions": request_module.versions(),
            "voxel_volume_ml": voxel,
            "regions": maps.region_values(
                found, volumes, masks, prepared.brain, voxel, request.regions
            ),
        }
        _files.write_json(temporary / f"{case_id}_summary.json", summary)
