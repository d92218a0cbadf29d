"""One unit of a reproduction: train a network, predict, score, leave a record."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import time
from collections.abc import Callable

import numpy as np
import tf_keras
from scipy import stats

from tfp_uqseg import _files, _rulings, callbacks, labels, models
from tfp_uqseg.data import pipeline
from tfp_uqseg.evaluation import calibration, overlap
from tfp_uqseg.experiments import reproduce_data, reproduce_plan, schedule
from tfp_uqseg.uncertainty import draws, test_time

#: Rows of Figure 4.
NUM_PANELS = 4
#: Means over the brain that every record has, nats.
UNCERTAINTIES = ("predictive_entropy", "expected_entropy", "mutual_information")
#: A unit stops after so many patiences without progress, where epochs are open.
_STOP_AFTER = 3
#: Flips and quarter turns of a square slice.
_TRANSFORMS = 8
#: Steps of the kernels' autoencoders.
_PRIOR_STEPS = 2000


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the records of a reproduction are.

    Attributes:
        folder: ``records`` of the reproduction.
    """

    folder: pathlib.Path

    def record(self, unit: reproduce_plan.Unit) -> pathlib.Path:
        """The scores of a unit; it is written last."""
        return self.folder / f"{unit.key}.json"

    def panels(self, unit: reproduce_plan.Unit) -> pathlib.Path:
        """The maps of a unit that Figure 4 shows."""
        return self.folder / f"{unit.key}.npz"

    def network(self, unit: reproduce_plan.Unit) -> pathlib.Path:
        """The trained network of a source."""
        return self.folder / f"{unit.key}.keras"

    def backup(self, unit: reproduce_plan.Unit) -> pathlib.Path:
        """The folder from which the training of a unit goes on; removed at its end."""
        return self.folder / f"{unit.key}.backup"

    @property
    def kernel_prior(self) -> pathlib.Path:
        """The deep weight prior that was fitted to the sources."""
        return self.folder / "kernel_prior.npz"


def run(
    unit: reproduce_plan.Unit,
    study: reproduce_data.Study,
    budget: reproduce_plan.Budget,
    place: Place,
) -> dict:
    """Train, predict and score one network; write and return its record.

    A training that was stopped goes on at its last whole epoch.

    Args:
        unit: What to train.
        study: The patients.
        budget: What it may cost.
        place: Where records are; files beside the record are written before it.

    Returns:
        Plain values: ``unit``, ``regions``, ``training``, ``patients`` (a row per set,
        patient and region), ``images`` (a row per slice, first region) and
        ``seconds_per_case``. All but the seconds depend on the seeds alone.
    """
    tf_keras.utils.set_random_seed(unit.seed)
    model, training = _train_unit(unit, study, budget, place)
    record = {
        "unit": dataclasses.asdict(unit),
        "regions": list(study.regions),
        "training": training,
        "num_draws": 0,
        "seconds_per_case": None,
        "patients": [],
        "images": [],
    }
    if unit.method == reproduce_plan.SOURCE:
        with _files.whole_file(place.network(unit)) as temporary:
            model.save(temporary)
    else:
        record.update(_score_all(unit, model, study, budget, place))
    _files.write_json(place.record(unit), record)
    shutil.rmtree(place.backup(unit), ignore_errors=True)
    return record


def _train_unit(unit, study, budget, place):
    """Return the trained network of a unit, and how its training went."""
    if unit.method == reproduce_plan.SOURCE:
        ids = study.sets.sources
    else:
        ids = study.sets.train(unit.train_size, unit.seed)
    model = _build(unit, study, budget, study.cohort(ids).num_slices, place)
    cohort = study.cohort(ids, model.size_divisor)
    validation = None
    if budget.schedule == "plateau":
        validation = study.cohort(study.sets.validation, model.size_divisor)
    batch = min(budget.batch_size, cohort.num_slices)
    steps = math.ceil(cohort.num_slices / batch)
    if budget.steps is not None:
        steps = max(1, budget.steps // budget.epochs)
    model.compile(tf_keras.optimizers.Adam(budget.learning_rate))
    start = time.monotonic()
    _fit(
        model,
        place.backup(unit),
        lambda member, first: _stream(
            cohort, budget, batch, unit.seed + 1000 * member, first * steps
        ),
        lambda member: _callbacks(budget, steps),
        epochs=budget.epochs,
        steps_per_epoch=steps,
        validation_data=None
        if validation is None
        else pipeline.slices(validation, batch_size=batch),
        verbose=0,
    )
    networks = getattr(model, "members", [model])
    return model, {
        "steps": sum(int(network.optimizer.iterations) for network in networks),
        "seconds": time.monotonic() - start,
        "slices": cohort.num_slices,
        "cases": list(ids),
    }


def _build(unit, study, budget, num_train_examples: int, place):
    """Return the compiled network of a unit."""
    options = {}
    if unit.method == "deep_weight":
        options["kernel_prior"] = _kernel_prior(study, budget, place)
    if unit.method in reproduce_plan.ENSEMBLES:
        options["num_members"] = budget.members
    plain = (reproduce_plan.SOURCE, reproduce_plan.TEST_TIME)
    return models.build(
        "deterministic" if unit.method in plain else unit.method,
        backbone=unit.backbone,
        input_shape=(None, None, len(study.modalities)),
        num_regions=len(study.regions),
        num_train_examples=num_train_examples,
        base_filters=budget.base_filters,
        seed=unit.seed,
        dropout_rate=budget.dropout,
        latent_size=budget.latent_size,
        **options,
    )


def _kernel_prior(study, budget, place):
    """Return the prior fitted to the sources' kernels, fitting it the first time."""
    if not place.kernel_prior.is_file():
        backbone = reproduce_plan.BACKBONES[0]
        units = [
            reproduce_plan.Unit(
                reproduce_plan.SOURCE, backbone, budget.num_sources, number
            )
            for number in range(budget.source_networks)
        ]
        networks = [
            tf_keras.models.load_model(place.network(unit), compile=False)
            for unit in units
        ]
        prior = models.deep_weight.fit(
            networks, latent_size=budget.latent_size, steps=_PRIOR_STEPS
        )
        prior.save(place.kernel_prior)
    return models.deep_weight.load(place.kernel_prior)


def _fit(model, backup: pathlib.Path, stream: Callable, callbacks_of, **options):
    """Train a network or ensemble from where its backup stands."""
    if hasattr(model, "members"):
        model.fit(stream, callbacks=callbacks_of, folder=backup, **options)
        return
    first = callbacks.resumed_epoch(backup)
    keeping = [*callbacks_of(0), tf_keras.callbacks.BackupAndRestore(str(backup))]
    model.fit(stream(0, first), callbacks=keeping, **options)


def _stream(cohort, budget, batch: int, seed: int, done: int):
    """Return the training slices in whole batches, without the `done` first ones.

    An epoch of training is a part of the budget's steps, not a pass over the slices.
    """
    passes, rest = divmod(done, cohort.num_slices // batch)
    stream = pipeline.slices(
        cohort,
        batch_size=batch,
        shuffle=True,
        augment=budget.augmentation,
        repeat=True,
        drop_remainder=True,
        empty_share=lambda epoch: 1 / 3,
        initial_epoch=passes,
        seed=seed,
    )
    return stream.skip(rest)


def _callbacks(budget, steps: int) -> list:
    """Return what moves the learning rate, new for every network."""
    if budget.schedule == "cosine":

        def rate(epoch: int) -> float:
            share = (epoch + 0.5) / budget.epochs
            return schedule.learning_rate(share, peak=budget.learning_rate)

        return [tf_keras.callbacks.LearningRateScheduler(rate)]
    return [
        callbacks.CyclicalLearningRate(
            budget.learning_rate / 10, budget.learning_rate, 4 * steps
        ),
        callbacks.ReduceLROnPlateau(factor=budget.factor, patience=budget.patience),
        callbacks.EarlyStopping(patience=_STOP_AFTER * budget.patience),
    ]


def _score_all(unit, model, study, budget, place) -> dict:
    """Predict and score the patients of a unit; write the maps of Figure 4."""
    everything = reproduce_plan.compares_methods(unit, budget)
    parts = reproduce_data.SCORED if everything else ("test",)
    patients, images, seconds, panels = [], [], [], {}
    count = 0
    for part in parts:
        for patient in study.select(getattr(study.sets, part)):
            if not patients:
                # Tracing is no part of the time per case.
                _answer(unit, model, patient.images[:1], 1, budget)
            start = time.monotonic()
            found = _answer(unit, model, patient.images, budget.num_draws, budget)
            seconds.append(time.monotonic() - start)
            count = found.num_draws
            masks = _label_masks(found.mean_probabilities, patient, study.regions)
            patients += score(part, patient, found, masks, study.regions)
            images += score_images(part, patient, found, masks)
            if part == "test" and len(panels) < 6 * NUM_PANELS:
                panels.update(_panel(len(panels) // 6, patient, found, masks))
    if everything:
        with _files.whole_file(place.panels(unit)) as temporary:
            np.savez_compressed(temporary, **panels)
    return {
        "num_draws": count,
        "seconds_per_case": float(np.mean(seconds)),
        "patients": patients,
        "images": images if everything else [],
    }


def _answer(unit, model, images, num_draws: int, budget):
    """Return the prediction of a unit's method."""
    if unit.method == reproduce_plan.TEST_TIME:
        return test_time.predict(
            model,
            images.astype(np.float32),
            _TRANSFORMS,
            unit.seed,
            batch_size=budget.batch_size,
        )
    return _predict(model, images, num_draws, unit.seed, budget)


def _predict(model, images, num_draws: int, seed: int, budget):
    return draws.predict(
        model,
        images.astype(np.float32),
        num_draws,
        seed,
        batch_size=budget.batch_size,
    )


def _label_masks(probabilities, patient, regions) -> np.ndarray:
    """Return the masks of the label map; an inner region counts for outer ones."""
    inside = probabilities > _rulings.PROBABILITY_THRESHOLD
    ids = labels.label_map(inside, patient.label_scheme, regions)
    return labels.region_masks(ids, patient.label_scheme, regions)


def score(part: str, patient, found, masks, regions) -> list[dict]:
    """Return the rows of one patient, one per region.

    Args:
        part: Name of its set.
        patient: `reproduce_data.Patient`, slices first.
        found: `draws.Prediction` of its images.
        masks: (Z, H, W, K) masks of its label map.
        regions: K names.
    """
    rows, brain = [], patient.brain
    for index, region in enumerate(regions):
        truth, predicted = patient.masks[..., index] > 0, masks[..., index] > 0
        whole = [np.moveaxis(array, 0, 2) for array in (truth, predicted, brain)]
        image = overlap.per_image(whole[0], whole[1], brain=whole[2])
        probabilities = found.mean_probabilities[..., index]
        maps = {name: getattr(found, name)[..., index][brain] for name in UNCERTAINTIES}
        row = {
            "part": part,
            "case": patient.case_id,
            "region": region,
            "dice": overlap.dice(truth, predicted),
            "iou": overlap.iou(truth, predicted),
            "both_empty": overlap.both_empty(truth, predicted),
            "image_dice": image.dice,
            "image_iou": image.iou,
            "nll": calibration.nll(truth, probabilities, brain),
            "ece": calibration.ece(truth, probabilities, brain),
        }
        row.update({name: float(values.mean()) for name, values in maps.items()})
        row.update(correlations(maps["expected_entropy"], maps["mutual_information"]))
        rows.append(row)
    return rows


def correlations(aleatoric: np.ndarray, epistemic: np.ndarray) -> dict:
    """Return Pearson's and Spearman's correlation over voxels; None without spread."""
    # A network without draws leaves float rounding, which is no map.
    flat = np.ptp(aleatoric) < 1e-6 or np.ptp(epistemic) < 1e-6
    if flat:
        return {"voxel_pearson": None, "voxel_spearman": None}
    aleatoric, epistemic = aleatoric.astype(np.float64), epistemic.astype(np.float64)
    return {
        "voxel_pearson": float(stats.pearsonr(aleatoric, epistemic).statistic),
        "voxel_spearman": float(stats.spearmanr(aleatoric, epistemic).statistic),
    }


def score_images(part: str, patient, found, masks) -> list[dict]:
    """Return a row per slice for Figure 3: uncertainty, accuracy, Dice; first region.

    The uncertainty is the mean total entropy over the slice's brain.
    """
    rows = []
    for index, brain in enumerate(patient.brain):
        if not brain.any():
            continue
        truth, predicted = patient.masks[index, ..., 0] > 0, masks[index, ..., 0] > 0
        entropy = found.predictive_entropy[index, ..., 0]
        rows.append(
            {
                "part": part,
                "case": patient.case_id,
                "uncertainty": float(entropy[brain].mean()),
                "accuracy": float((truth == predicted)[brain].mean()),
                "dice": overlap.dice(truth, predicted),
                "tumour": bool(truth.any() or predicted.any()),
            }
        )
    return rows


def _panel(number: int, patient, found, masks) -> dict:
    """Return the arrays of one row of Figure 4: the slice with the largest tumour."""
    index = int(np.argmax(np.count_nonzero(patient.masks[..., 0], axis=(1, 2))))
    values = {
        "case": np.array(patient.case_id),
        "image": patient.images[index, ..., 0].astype(np.float32),
        "mask": patient.masks[index],
        "predicted_mask": masks[index],
        "aleatoric": found.expected_entropy[index, ..., 0],
        "epistemic": found.mutual_information[index, ..., 0],
    }
    return {f"{number}/{name}": value for name, value in values.items()}
