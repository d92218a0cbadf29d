"""The scores of one patient: a record per region."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfp_uqseg import labels, serving
from tfp_uqseg.data import case as case_module
from tfp_uqseg.evaluation import (
    calibration,
    confidence,
    discrimination,
    diversity,
    lesions,
    overlap,
    qu_brats,
    surface,
    truth,
)
from tfp_uqseg.experiments import predicted, tables
from tfp_uqseg.uncertainty import measures

#: Half of the largest entropy, nats: above it a voxel counts as uncertain.
PAVPU_THRESHOLD = float(np.log(2.0)) / 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """What the maps of a patient are scored against.

    Attributes:
        case: The case.
        study: What was read of it, with its labels if it has some.
        brain: Mask of the voxels where any modality is not zero, bool (X, Y, Z).
    """

    case: case_module.Case
    study: case_module.Study
    brain: np.ndarray

    def inside(self, array) -> np.ndarray:
        """Return the voxels of the brain, in the order in which volumes lie."""
        return array.T[self.brain.T]


def records_of(
    scan: Scan, prediction: predicted.Predicted, regions, label_scheme, bins=None
):
    """Return the records of one case, one per region.

    Args:
        scan: The patient.
        prediction: The maps.
        regions: Regions to score; None for all that were predicted.
        label_scheme: Meaning of the reference's label ids; None for the case's own.
        bins: Bins of the reliability by region, to which the case's are added.

    Returns:
        Dicts with the names of `tables.COLUMNS`; None where there is no value.

    Raises:
        ValueError: If a region was not predicted.
    """
    regions = _regions(regions, prediction)
    scheme = None
    if scan.study.labels is not None:
        scheme = scan.study.resolve_scheme(regions, label_scheme)
    records = []
    for region in regions:
        mask = None
        if scheme is not None:
            ids = scan.study.check_labelled()
            mask = predicted.region_mask(ids, scheme, region)
        record = dict.fromkeys(tables.COLUMNS)
        record.update(case=scan.case.id, region=region, method=prediction.method)
        record.update(_record(scan, prediction, region, mask, bins))
        records.append(record)
    return records


def _record(scan: Scan, prediction, region: str, mask, bins) -> dict:
    grid, predicted_mask = scan.study.grid, prediction.mask(region)
    record = _volumes(grid, mask, predicted_mask, prediction, region)
    volumes = {name: prediction.read(name, region) for name in serving.MAPS}
    maps = {
        name: scan.inside(array).astype(np.float64) for name, array in volumes.items()
    }
    record.update({name: float(maps[name].mean()) for name in serving.UNCERTAINTIES})
    entropy = maps["predictive_entropy"]
    record["total_entropy"] = confidence.total(entropy)
    record["region_entropy"] = confidence.mean_over_region(
        entropy, scan.inside(predicted_mask)
    )
    record["patch_entropy"] = confidence.patch_maximum(
        np.where(scan.brain, volumes["predictive_entropy"], 0.0)
    )
    if mask is not None:
        record.update(_overlaps(mask, predicted_mask, scan.brain))
        record.update(_surfaces(mask, predicted_mask, scan.study.spacing))
        pair = scan.inside(mask), scan.inside(predicted_mask)
        record.update(_probability_scores(pair[0], maps["mean_probabilities"]))
        if bins is not None:
            own = calibration.reliability(pair[0], maps["mean_probabilities"])
            known = bins.get(region)
            bins[region] = own if known is None else calibration.pooled(known, own)
        record.update(_error_scores(*pair, entropy))
        record.update(
            _challenge(mask, predicted_mask, volumes["predictive_entropy"], scan.brain)
        )
    drawn = prediction.draw_masks(region)
    if drawn is not None:
        record.update(_between_draws(drawn, _rater_masks(scan, prediction, region)))
    true_probability = _true_probability(scan.case, region)
    if true_probability is not None:
        record.update(_against_truth(scan.inside(true_probability), maps))
    return record


def _regions(regions, prediction) -> tuple[str, ...]:
    if regions is None:
        return prediction.regions
    for region in regions:
        if region not in prediction.regions:
            raise ValueError(
                f"`regions` must be among {list(prediction.regions)}, which were "
                f"predicted for case {prediction.case_id} in {prediction.folder}; got "
                f"{region!r}."
            )
    return tuple(regions)


def _surfaces(mask, predicted_mask, spacing) -> dict:
    by_lesion = lesions.lesion_wise(mask, predicted_mask, spacing)
    return {
        **surface.summary(mask, predicted_mask, spacing),
        "lesion_dice": by_lesion.dice,
        "lesion_hd95": by_lesion.hd95,
        "lesions": by_lesion.lesions,
        "lesions_missed": by_lesion.missed,
        "false_alarms": by_lesion.false_alarms,
    }


def _error_scores(mask, predicted_mask, entropy) -> dict:
    """Return whether the entropy tells wrong voxels of the brain from right ones."""
    wrong = mask != predicted_mask
    return {
        "error_auroc": _number(discrimination.auroc(wrong, entropy)),
        "error_aupr": _number(discrimination.aupr(wrong, entropy)),
        "error_share": float(wrong.mean()),
        "pavpu": discrimination.pavpu(mask, predicted_mask, entropy, PAVPU_THRESHOLD),
        "error_overlap": discrimination.best_error_overlap(
            mask, predicted_mask, entropy
        )[0],
    }


def _challenge(mask, predicted_mask, entropy, brain) -> dict:
    """Return the QU-BraTS score of one region, beside what it is compared with."""
    uncertainty = measures.scaled_uncertainty(entropy)
    found = qu_brats.region_auc(mask, predicted_mask, uncertainty, brain)
    shuffled = qu_brats.permuted(mask, predicted_mask, uncertainty, brain)
    return {
        "qu_brats": found.score,
        "qu_brats_dice": found.dice,
        "qu_brats_ftp": found.ftp,
        "qu_brats_ftn": found.ftn,
        "qu_brats_zero": qu_brats.baseline(mask, predicted_mask).score,
        "qu_brats_permuted": shuffled.score,
    }


def _overlaps(mask, predicted_mask, brain) -> dict:
    per_image = overlap.per_image(mask, predicted_mask, brain=brain)
    return {
        "dice": overlap.dice(mask, predicted_mask),
        "iou": overlap.iou(mask, predicted_mask),
        "sensitivity": overlap.sensitivity(mask, predicted_mask),
        "precision": overlap.precision(mask, predicted_mask),
        "both_empty": overlap.both_empty(mask, predicted_mask),
        "image_dice": per_image.dice,
        "image_iou": per_image.iou,
        "images": per_image.images,
        "images_both_empty": per_image.both_empty,
    }


def _volumes(grid, mask, predicted_mask, prediction, region: str) -> dict:
    voxel = grid.voxel_volume_ml
    values = prediction.summary["regions"][region]
    low, high = _pair(values.get("volume_interval_ml"))
    true = None if mask is None else float(np.count_nonzero(mask) * voxel)
    covered = None
    if true is not None and low is not None:
        # The summary's numbers are rounded sums of voxels: allow half a voxel.
        covered = low - 0.5 * voxel <= true <= high + 0.5 * voxel
    return {
        "volume_truth_ml": true,
        "volume_predicted_ml": float(np.count_nonzero(predicted_mask) * voxel),
        "volume_error_ml": (
            None
            if mask is None
            else overlap.volume_error(mask, predicted_mask, float(voxel))
        ),
        "volume_median_ml": _number(values.get("volume_median_ml")),
        "volume_low_ml": low,
        "volume_high_ml": high,
        "volume_interval_level": (
            None if low is None else _number(values.get("interval_level"))
        ),
        "volume_variation": _number(values.get("coefficient_of_variation")),
        "volume_covered": covered,
    }


def _probability_scores(mask, probabilities) -> dict:
    parts = calibration.brier_parts(mask, probabilities)
    return {
        "nll": calibration.nll(mask, probabilities),
        "brier": calibration.brier(mask, probabilities),
        "brier_reliability": parts.reliability,
        "brier_resolution": parts.resolution,
        "brier_uncertainty": parts.uncertainty,
        "brier_within": parts.within,
        "ece": calibration.ece(mask, probabilities),
        "ace": calibration.ace(mask, probabilities),
        "ace_equal_mass": calibration.ace(mask, probabilities, equal_mass=True),
        "mce": calibration.mce(mask, probabilities),
    }


def _rater_masks(scan: Scan, prediction, region: str) -> np.ndarray | None:
    """Return the masks of every rater of a case (raters, X, Y, Z), or None."""
    if not scan.case.rater_paths:
        return None
    ids = scan.case.load_raters()
    masks = [
        predicted.region_mask(each, prediction.label_scheme, region)
        for each in np.moveaxis(ids, -1, 0)
    ]
    return np.stack(masks)


def _between_draws(drawn: np.ndarray, raters: np.ndarray | None) -> dict:
    """Return how draws differ among themselves, and from raters."""
    held = drawn.any(axis=0)
    if raters is not None:
        held |= raters.any(axis=0)
    held.flat[0] = True  # of an empty region, a voxel is left to compare
    drawn = drawn[:, held]
    found = {"draw_diversity": diversity.diversity(drawn)}
    if len(drawn) > 1:
        found["draw_disagreement"] = confidence.disagreement(drawn)
    if raters is not None:
        raters = raters[:, held]
        found["ged"] = diversity.ged(drawn, raters)
        found["rater_diversity"] = diversity.diversity(raters)
    return found


def _against_truth(true_probability, maps) -> dict:
    probabilities = maps["mean_probabilities"]
    compared = {
        "spearman_expected_entropy": maps["expected_entropy"],
        "spearman_total_variance": probabilities * (1.0 - probabilities),
        "spearman_mutual_information": maps["mutual_information"],
    }
    scores = {
        name: truth.spearman_of_aleatoric(values, true_probability)
        for name, values in compared.items()
    }
    scores["truth_absolute_error"] = truth.mean_absolute_error(
        probabilities, true_probability
    )
    return {name: _number(value) for name, value in scores.items()}


def _true_probability(case, region: str):
    if region in case.truth_paths:
        return case.load_truth(region)
    # The one region of a binary mask is the whole tumour.
    if region == labels.BINARY_REGION and "WT" in case.truth_paths:
        return case.load_truth("WT")
    return None


def _number(value) -> float | None:
    """Return a finite number as a float, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _pair(value) -> tuple[float | None, float | None]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None, None
    low, high = _number(value[0]), _number(value[1])
    return (None, None) if low is None or high is None else (low, high)
