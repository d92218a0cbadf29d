"""A trained network's probabilities mended by patients it has not seen."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from tfp_uqseg import _checks, _files, models, serving
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import pipeline, preprocess
from tfp_uqseg.evaluation import calibration
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import networks, progress, runs, tables, train
from tfp_uqseg.uncertainty import draws


def calibrate(
    run: str | os.PathLike,
    cases: Sequence[case_module.Case],
    *,
    kind: str = "temperature",
    num_draws: int = 20,
    seed: int = 0,
    precision: str = "auto",
    verbose: bool = True,
) -> dict:
    """Fit how the logits of a run's network are scaled, and keep it in the run.

    Written is ``calibration.json``, which `networks.load` heeds, and with it
    `experiments.predict`. See `models.scaling.fit` for what is fitted.

    Args:
        run: Folder of a training run.
        cases: Labelled studies on which nothing was trained.
        kind: ``"temperature"`` or ``"platt"``.
        num_draws: Network draws.
        seed: Of the draws.
        precision: See `experiments.predict.predict`.
        verbose: Whether to report on standard error.

    Returns:
        What was written: ``kind``, ``cases``, ``model`` (fingerprint of the weights)
        and ``regions``: for each ``slope``, ``shift`` and mean NLL of the brain over
        these patients, nats per voxel, ``nll_before`` and ``nll_after``.

    Raises:
        DataError: If a study cannot be used or has no labels.
        FileNotFoundError: If `run` holds no trained network.
        ValueError: If there is no case.
    """
    folder = runs.open_run(run)
    settings = config_module.load(folder.config)
    model = networks.load(folder, precision, calibrated=False)
    patients = _Patients(cases, settings, verbose)
    found = models.scaling.fit(
        model, patients, kind=kind, num_draws=num_draws, seed=seed
    )
    after = models.scaling.scaled(model, found)
    losses = [_losses(net, patients, num_draws, seed) for net in (model, after)]
    result = {
        "kind": kind,
        "num_draws": num_draws,
        "seed": seed,
        "cases": [case.id for case in cases],
        "model": serving.fingerprint(model),
        "regions": {
            region: {
                "slope": each.slope,
                "shift": each.shift,
                "nll_before": float(before),
                "nll_after": float(then),
            }
            for region, each, before, then in zip(
                settings.regions or (), found, *losses, strict=True
            )
        },
    }
    _files.write_json(folder.calibration, result)
    return result


def format_table(found: dict) -> str:
    """Return what `calibrate` found as a table for a terminal."""
    rows = [["region", "temperature", "shift", "NLL before", "NLL after"]]
    for region, each in found["regions"].items():
        numbers = (1.0 / each["slope"], each["shift"])
        losses = (each["nll_before"], each["nll_after"])
        cells = [f"{number:.2f}" for number in numbers]
        rows.append([region, *cells, *(f"{loss:.4f}" for loss in losses)])
    return tables.plain(rows)


@dataclasses.dataclass(frozen=True)
class _Patients:
    """Slices with brain of every case: images, masks and the brain, read when asked."""

    cases: Sequence[case_module.Case]
    settings: config_module.TrainConfig
    verbose: bool

    def __iter__(self) -> Iterator[tuple]:
        bar = progress.CountBar("calibrating", unit="case", shown=self.verbose)
        for number, case in enumerate(self.cases, start=1):
            yield _slices(case, self.settings)
            bar(number, len(self.cases))


def _slices(case, settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the slices with brain of a case: images, masks and the brain."""
    study = case.load(settings.modalities)
    if study.labels is None:
        raise _checks.DataError(
            f"Case {case.id}: it must have labels to calibrate with; it has none. "
            "Leave it out, or name its file with `label_pattern`."
        )
    prepared = preprocess.prepare(
        study,
        preprocessing=train.preprocessing_of(settings),
        regions=settings.regions,
        label_scheme=settings.label_scheme if case.label_scheme is None else None,
    )
    where = np.any(prepared.brain, axis=(0, 1))
    masks, brain = (
        np.moveaxis(np.asarray(array), 2, 0)[where]
        for array in (prepared.mask, prepared.brain)
    )
    return pipeline.volume_slices(prepared)[where], masks, brain


def _losses(model, patients, num_draws: int, seed: int) -> np.ndarray:
    """Return the mean NLL over the patients, by region."""
    found = []
    for images, masks, brain in patients:
        p = draws.predict(model, images, num_draws, seed, variances=False)
        p = p.mean_probabilities[brain]
        found.append(
            [calibration.nll(masks[brain][:, k], p[:, k]) for k in range(p.shape[-1])]
        )
    return np.mean(found, axis=0)
