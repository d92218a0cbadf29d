from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from tfp_uqseg import _checks, models, serving
from tfp_uqseg.data import brats, nifti
from tfp_uqseg.evaluation import (
    calibration,
    discrimination,
    lesions,
    overlap,
    qu_brats,
    surface,
    truth,
)
from tfp_uqseg.experiments import evaluate, tables
from tfp_uqseg.uncertainty import measures

REGIONS = ("WT", "TC", "ET")


def record(evaluation, case, region):
    (found,) = (
        row
        for row in evaluation.records
        if (row["case"], row["region"]) == (case.id, region)
    )
    return found


def prediction_file(maps, case, ending):
    return maps / case.id / f"{case.id}{ending}"


def change_summary(maps, case, **changes):
    path = prediction_file(maps, case, "_summary.json")
    summary = json.loads(path.read_text())
    summary.update(changes)
    path.write_text(json.dumps(summary))


def test_every_score_of_a_patient_is_that_of_its_definition(phantom_cases, poor_maps):
    case = phantom_cases[1]
    found = record(evaluate.evaluate(poor_maps, phantom_cases), case, "TC")
    study = case.load()
    brain = np.any(study.image != 0, axis=-1)
    mask = study.masks(REGIONS)[..., 1].astype(bool)

    def read(name):
        return nifti.read(prediction_file(poor_maps, case, name), case.id)[0]

    predicted = np.isin(read(".nii.gz"), (1, 4))
    probabilities = read("_mean_probabilities_TC.nii.gz")
    aleatoric = read("_expected_entropy_TC.nii.gz")
    true_probability = case.load_truth("TC")
    images = overlap.per_image(mask, predicted, brain=brain)
    entropy = read("_predictive_entropy_TC.nii.gz")
    wrong, spacing = (mask != predicted)[brain], study.spacing
    challenge = qu_brats.region_auc(
        mask, predicted, measures.scaled_uncertainty(entropy), brain
    )
    lesion = lesions.lesion_wise(mask, predicted, spacing)
    expected = {
        "sensitivity": (mask & predicted).sum() / mask.sum(),
        "precision": (mask & predicted).sum() / predicted.sum(),
        **surface.summary(mask, predicted, spacing),
        "lesion_dice": lesion.dice,
        "lesion_hd95": lesion.hd95,
        "lesions_missed": lesion.missed,
        "volume_error_ml": (predicted.sum() - mask.sum()) * study.grid.voxel_volume_ml,
        "ace": calibration.ace(mask, probabilities, brain),
        "ace_equal_mass": calibration.ace(mask, probabilities, brain, equal_mass=True),
        "mce": calibration.mce(mask, probabilities, brain),
        "brier_resolution": calibration.brier_parts(
            mask, probabilities, brain
        ).resolution,
        "region_entropy": entropy[predicted].mean(),
        "error_auroc": discrimination.auroc(wrong, entropy[brain]),
        "error_aupr": discrimination.aupr(wrong, entropy[brain]),
        "error_share": wrong.mean(),
        "error_overlap": discrimination.best_error_overlap(
            mask[brain], predicted[brain], entropy[brain]
        )[0],
        "qu_brats": challenge.score,
        "qu_brats_ftp": challenge.ftp,
        "qu_brats_zero": (overlap.dice(mask, predicted) + 2) / 3,
        "dice": overlap.dice(mask, predicted),
        "iou": overlap.iou(mask, predicted),
        "both_empty": False,
        "image_dice": images.dice,
        "image_iou": images.iou,
        "images": images.images,
        "images_both_empty": images.both_empty,
        "volume_truth_ml": mask.sum() * study.grid.voxel_volume_ml,
        "volume_predicted_ml": predicted.sum() * study.grid.voxel_volume_ml,
        "volume_median_ml": 2.0,
        "volume_low_ml": 0.0,
        "volume_high_ml": 500.0,
        "volume_interval_level": 0.8,
        "volume_covered": True,
        "nll": calibration.nll(mask, probabilities, brain),
        "brier": calibration.brier(mask, probabilities, brain),
        "ece": calibration.ece(mask, probabilities, brain),
        "predictive_entropy": read("_predictive_entropy_TC.nii.gz")[brain].mean(),
        "expected_entropy": aleatoric[brain].mean(),
        "mutual_information": read("_mutual_information_TC.nii.gz")[brain].mean(),
        "spearman_expected_entropy": truth.spearman_of_aleatoric(
            aleatoric, true_probability, brain
        ),
        "truth_absolute_error": truth.mean_absolute_error(
            probabilities, true_probability, brain
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert found["method"] == "deterministic"
    assert list(found) == list(tables.COLUMNS)


def test_maps_that_know_the_truth_score_best(phantom_cases, true_maps, tmp_path):
    found = evaluate.evaluate(true_maps, phantom_cases)
    for row in found.records:
        assert row["spearman_expected_entropy"] == pytest.approx(1.0, abs=1e-3)
        assert row["spearman_total_variance"] == pytest.approx(1.0, abs=1e-3)
        assert row["truth_absolute_error"] < 1e-6
    # The reference is the majority of the raters: probability above one half.
    assert record(found, phantom_cases[0], "WT")["dice"] == 1.0


def test_the_tables_are_written_and_agree(phantom_cases, true_maps, tmp_path):
    steps = []
    found = evaluate.evaluate(
        true_maps,
        phantom_cases,
        tmp_path / "new" / "report",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    out = tmp_path / "new" / "report"
    assert sorted(path.name for path in out.iterdir()) == [
        "patients.csv",
        "reliability.png",
        "summary.json",
        "summary.md",
    ]
    with open(out / "patients.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["region"]) for row in rows] == [
        (case.id, region) for case in phantom_cases for region in REGIONS
    ]
    for row, expected in zip(rows, found.records, strict=True):
        for name, value in expected.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value)
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(found.summary))
    dice = [row["dice"] for row in found.records if row["region"] == "ET"]
    assert summary["regions"]["ET"]["metrics"]["dice"]["mean"] == pytest.approx(
        np.mean(dice)
    )
    assert summary["regions"]["ET"]["patients"] == 3
    text = (out / "summary.md").read_text()
    assert "| case_1 | ET |" in text
    assert "`image_dice`" in text


def test_the_means_have_intervals_that_hold_them(phantom_cases, poor_maps):
    metrics = evaluate.evaluate(poor_maps, phantom_cases).summary["regions"]["WT"][
        "metrics"
    ]
    for ends in metrics.values():
        assert ends["low"] <= ends["mean"] <= ends["high"]
        assert ends["patients"] == 3
    assert metrics["dice"]["low"] < metrics["dice"]["high"]
    # Wilson's interval of three hits in three.
    assert metrics["volume_covered"]["low"] == pytest.approx(0.4385, abs=1e-3)


def test_an_interval_that_misses_the_volume_is_not_covered(phantom_cases, true_maps):
    case = phantom_cases[0]
    regions = {
        region: {"volume_interval_ml": [0.0, 1e-4], "interval_level": 0.8}
        for region in REGIONS
    }
    change_summary(true_maps, case, regions=regions)
    found = evaluate.evaluate(true_maps, phantom_cases)
    assert record(found, case, "WT")["volume_covered"] is False
    covered = found.summary["regions"]["WT"]["metrics"]["volume_covered"]
    assert covered["mean"] == pytest.approx(2 / 3)
    assert "miss" in evaluate.format_table(found)


def test_a_single_draw_has_no_volume_interval(phantom_cases, true_maps, tmp_path):
    for case in phantom_cases:
        values = {"volume_interval_ml": None, "interval_level": None}
        change_summary(true_maps, case, regions=dict.fromkeys(REGIONS, values))
    found = evaluate.evaluate(true_maps, phantom_cases, tmp_path / "report")
    row = record(found, phantom_cases[0], "WT")
    assert row["volume_low_ml"] is None
    assert row["volume_covered"] is None
    assert "% ml" not in evaluate.format_table(found)


def test_one_patient_has_means_without_an_interval(phantom_cases, true_maps, tmp_path):
    found = evaluate.evaluate(true_maps, phantom_cases[:1], tmp_path / "report")
    dice = found.summary["regions"]["WT"]["metrics"]["dice"]
    assert dice == {"mean": 1.0, "low": None, "high": None, "patients": 1}
    assert "One patient gives no interval." in evaluate.format_table(found)


def test_parts_of_scores_add_up_in_the_table(phantom_cases, poor_maps):
    found = evaluate.evaluate(poor_maps, phantom_cases)
    for row in found.records:
        parts = row["brier_reliability"] - row["brier_resolution"]
        parts += row["brier_uncertainty"] + row["brier_within"]
        assert row["brier"] == pytest.approx(parts, abs=1e-9)
        brain = row["total_entropy"] / row["predictive_entropy"]  # voxels
        assert brain == pytest.approx(round(brain))
        # These maps are sure where they are wrong: no error is an uncertain voxel.
        assert row["pavpu"] == pytest.approx(1.0 - row["error_share"])


def test_cases_without_labels_keep_what_needs_none(phantom_cases, true_maps, tmp_path):
    bare = dataclasses.replace(phantom_cases[2], label_path=None, truth_paths={})
    cases = [*phantom_cases[:2], bare]
    found = evaluate.evaluate(true_maps, cases, tmp_path / "report")
    row = record(found, bare, "WT")
    filled = {name for name, value in row.items() if value is not None}
    assert filled == {
        "case",
        "region",
        "method",
        "volume_predicted_ml",
        "volume_median_ml",
        "volume_low_ml",
        "volume_high_ml",
        "volume_interval_level",
        "total_entropy",
        "region_entropy",
        "patch_entropy",
        *serving.UNCERTAINTIES,
    }
    metrics = found.summary["regions"]["WT"]["metrics"]
    assert metrics["dice"]["patients"] == 2
    assert metrics["mutual_information"]["patients"] == 3
    note = "1 of 3 cases have no labels; their scores are empty: case_2."
    assert note in evaluate.format_table(found)
    assert note in (tmp_path / "report" / "summary.md").read_text()


def test_a_cohort_without_any_label_is_evaluated_all_the_same(phantom_cases, true_maps):
    cases = [
        dataclasses.replace(case, label_path=None, truth_paths={})
        for case in phantom_cases
    ]
    found = evaluate.evaluate(true_maps, cases)
    assert set(found.summary["regions"]["WT"]["metrics"]) == {
        "volume_predicted_ml",
        "region_entropy",
        "patch_entropy",
        *serving.UNCERTAINTIES,
    }
    assert "3 of 3 cases have no labels" in evaluate.format_table(found)


def test_an_absent_region_counts_one_and_is_counted(
    phantom_cases, write_maps, tmp_path
):
    study = phantom_cases[0].load()
    absent = np.where(study.labels == 4, 1, study.labels)
    path = tmp_path / "labels.nii.gz"
    nifti.write(path, absent, study.grid, np.uint8)
    case = dataclasses.replace(phantom_cases[0], label_path=path)
    truth_maps = [case.load_truth("WT"), case.load_truth("TC"), 0 * case.load_truth()]
    maps = write_maps(tmp_path / "maps", case, np.stack(truth_maps, -1))
    found = evaluate.evaluate(maps, [case])
    row = record(found, case, "ET")
    assert (row["dice"], row["iou"], row["both_empty"]) == (1.0, 1.0, True)
    assert row["images_both_empty"] == row["images"]
    assert found.summary["regions"]["ET"]["both_empty"] == 1
    assert "Both masks are empty in 1 of 3 rows" in "".join(found.summary["notes"])


@pytest.mark.real
def test_a_real_patient_without_enhancing_tumour(real_data, write_maps, tmp_path):
    (case,) = brats.find_cases(real_data / "naming" / "BraTS2021_01477")
    masks = case.load(case.modalities[:1]).masks(REGIONS)
    maps = write_maps(tmp_path / "maps", case, 0.02 + 0.96 * masks)
    found = evaluate.evaluate(maps, [case])
    assert [row["dice"] for row in found.records] == [1.0, 1.0, 1.0]
    assert [row["both_empty"] for row in found.records] == [False, False, True]
    assert record(found, case, "WT")["volume_truth_ml"] == masks[..., 0].sum() / 1000
    assert record(found, case, "WT")["nll"] == pytest.approx(-np.log(0.98), rel=1e-3)
    assert record(found, case, "ET")["spearman_expected_entropy"] is None


def test_differences_are_paired_by_patient(
    phantom_cases, true_maps, poor_maps, tmp_path
):
    out = tmp_path / "report"
    found = evaluate.evaluate(true_maps, phantom_cases, out, against=poor_maps)
    other = evaluate.evaluate(poor_maps, phantom_cases)
    assert found.others == {str(poor_maps): other.records}
    against = found.summary["against"][str(poor_maps)]
    gaps = [
        row["dice"] - second["dice"]
        for row, second in zip(found.records, other.records, strict=True)
        if row["region"] == "ET"
    ]
    difference = against["differences"]["ET"]["dice"]
    assert difference["mean"] == pytest.approx(np.mean(gaps))
    assert 0 < difference["low"] < difference["mean"] < difference["high"]
    assert difference["patients"] == 3
    assert against["regions"] == other.summary["regions"]
    assert "volume_truth_ml" not in against["differences"]["ET"]
    assert difference["p"] == 0.25  # three patients: never below 2 / 8
    ranks = found.summary["qu_brats_ranks"]
    assert ranks[str(true_maps)] < ranks[str(poor_maps)]
    assert (out / "patients_against.csv").is_file()
    assert "Paired differences" in evaluate.format_table(found)
    assert f"{difference['mean']:+.3f} [" in (out / "summary.md").read_text()


def test_maps_without_a_region_in_common_are_noted(
    phantom_cases, true_maps, write_maps, tmp_path
):
    for case in phantom_cases:
        probabilities = case.load_truth("WT")[..., None]
        write_maps(
            tmp_path / "binary",
            case,
            probabilities,
            region_names=("tumour",),
            label_scheme="binary",
        )
    cases = [
        dataclasses.replace(case, label_scheme="binary", scheme_given=True)
        for case in phantom_cases
    ]
    found = evaluate.evaluate(tmp_path / "binary", cases)
    assert record(found, cases[0], "tumour")["dice"] == 1.0
    assert record(found, cases[0], "tumour")["spearman_expected_entropy"] > 0.99
    unlabelled = [dataclasses.replace(case, label_path=None) for case in cases]
    found = evaluate.evaluate(true_maps, unlabelled, against=tmp_path / "binary")
    (compared,) = found.summary["against"].values()
    assert compared["differences"] == {}
    assert "no region in common" in evaluate.format_table(found)


def test_a_subset_of_regions_can_be_scored(phantom_cases, true_maps):
    found = evaluate.evaluate(true_maps, phantom_cases, regions=("ET",))
    assert {row["region"] for row in found.records} == {"ET"}
    with pytest.raises(ValueError, match=r"`regions` must be among \['WT'.*case_0"):
        evaluate.evaluate(true_maps, phantom_cases, regions=("tumour",))


def test_a_case_that_was_not_predicted_is_an_error(phantom_cases, true_maps):
    shutil.rmtree(true_maps / "case_1")
    with pytest.raises(
        _checks.DataError, match=r"Case case_1: .*no file .*case_1_summary.json"
    ):
        evaluate.evaluate(true_maps, phantom_cases)


def test_cases_that_were_not_predicted_can_be_left_out(
    phantom_cases, true_maps, poor_maps
):
    shutil.rmtree(true_maps / "case_1")
    shutil.rmtree(poor_maps / "case_2")
    found = evaluate.evaluate(
        true_maps, phantom_cases, against=poor_maps, skip_missing=True
    )
    assert {row["case"] for row in found.records} == {"case_0"}
    assert "2 cases were not predicted and are left out: case_1, case_2." in (
        evaluate.format_table(found)
    )
    shutil.rmtree(true_maps / "case_0")
    with pytest.raises(
        _checks.DataError, match=r"`maps` must hold predictions .*case_"
    ):
        evaluate.evaluate(
            true_maps, phantom_cases, against=poor_maps, skip_missing=True
        )


@pytest.mark.parametrize(
    "ending",
    [
        ".nii.gz",
        "_mean_probabilities_TC.nii.gz",
        "_mutual_information_ET.nii.gz",
        "_predictive_entropy_WT.nii.gz",
    ],
)
def test_a_missing_file_names_case_and_file(phantom_cases, true_maps, ending):
    prediction_file(true_maps, phantom_cases[1], ending).unlink()
    with pytest.raises(_checks.DataError, match=rf"Case case_1: file .*case_1{ending}"):
        evaluate.evaluate(true_maps, phantom_cases)


def test_a_truncated_map_names_case_and_file(phantom_cases, true_maps):
    path = prediction_file(true_maps, phantom_cases[1], "_expected_entropy_WT.nii.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        _checks.DataError, match=r"Case case_1, file .*expected_entropy"
    ):
        evaluate.evaluate(true_maps, phantom_cases)


def test_a_map_of_another_shape_names_case_and_file(phantom_cases, true_maps):
    path = prediction_file(true_maps, phantom_cases[2], "_mean_probabilities_WT.nii.gz")
    grid = nifti.Grid.from_affine((5, 6, 7), np.eye(4))
    nifti.write(path, np.zeros((5, 6, 7)), grid, np.float32)
    with pytest.raises(_checks.DataError, match=r"case_2.*WT.*shape \(5, 6, 7\)"):
        evaluate.evaluate(true_maps, phantom_cases)


def test_a_map_on_a_shifted_grid_names_case_and_file(phantom_cases, true_maps):
    case = phantom_cases[0]
    grid = case.load().grid
    affine = grid.affine.copy()
    affine[0, 3] += 5.0
    shifted = nifti.Grid.from_affine(grid.shape, affine)
    path = prediction_file(true_maps, case, ".nii.gz")
    nifti.write(path, np.zeros(grid.canonical_shape), shifted, np.uint8)
    with pytest.raises(_checks.DataError, match=r"Case case_0, file .*affine"):
        evaluate.evaluate(true_maps, phantom_cases)


@pytest.mark.parametrize(
    ("name", "value", "top"),
    [("mean_probabilities", 1.5, "1"), ("expected_entropy", 0.9, "0.6931")],
)
def test_values_out_of_range_name_case_and_file(
    phantom_cases, true_maps, name, value, top
):
    case = phantom_cases[0]
    grid = case.load().grid
    path = prediction_file(true_maps, case, f"_{name}_WT.nii.gz")
    nifti.write(path, np.full(grid.canonical_shape, value), grid, np.float32)
    with pytest.raises(_checks.DataError, match=rf"case_0.*must lie in 0..{top}; got"):
        evaluate.evaluate(true_maps, phantom_cases)


def test_unknown_labels_in_the_label_map_name_case_and_file(phantom_cases, true_maps):
    case = phantom_cases[0]
    grid = case.load().grid
    path = prediction_file(true_maps, case, ".nii.gz")
    nifti.write(path, np.full(grid.canonical_shape, 3), grid, np.uint8)
    with pytest.raises(_checks.DataError, match=r"Case case_0, file .*case_0.nii.gz"):
        evaluate.evaluate(true_maps, phantom_cases)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", r"case_0.*must hold JSON"),
        ("[1]", r"case_0.*must hold a JSON object; got list"),
        ('{"regions": {}}', r"case_0.*`regions` must hold an object per region"),
        ('{"regions": {"WT": 3}}', r"case_0.*`regions` must hold an object per"),
    ],
)
def test_a_damaged_summary_names_case_and_file(phantom_cases, true_maps, text, match):
    prediction_file(true_maps, phantom_cases[0], "_summary.json").write_text(text)
    with pytest.raises(_checks.DataError, match=match):
        evaluate.evaluate(true_maps, phantom_cases)


def test_without_a_label_scheme_anywhere_the_error_says_so(phantom_cases, true_maps):
    cases = [dataclasses.replace(case, label_scheme=None) for case in phantom_cases]
    change_summary(true_maps, cases[0], settings={})
    with pytest.raises(
        _checks.DataError, match=r"case_0.*must name the `label_scheme`"
    ):
        evaluate.evaluate(true_maps, cases)


def test_arguments_are_checked_before_any_work(phantom_cases, true_maps, tmp_path):
    with pytest.raises(ValueError, match=r"`cases` must hold at least one case"):
        evaluate.evaluate(true_maps, [])
    with pytest.raises(
        _checks.DataError, match=r"`maps` must be a folder .* is missing"
    ):
        evaluate.evaluate(tmp_path / "nowhere", phantom_cases)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        _checks.DataError, match=r"`against` must be a folder .* a file"
    ):
        evaluate.evaluate(true_maps, phantom_cases, against=file)
    with pytest.raises(ValueError, match=r"`out` must be a folder; .* is a file"):
        evaluate.evaluate(true_maps, phantom_cases, file)
    with pytest.raises(ValueError, match=r"`level` must lie between 0 and 1"):
        evaluate.evaluate(true_maps, phantom_cases, level=95)


def test_nothing_is_written_when_a_case_fails(phantom_cases, true_maps, tmp_path):
    shutil.rmtree(true_maps / "case_2")
    with pytest.raises(_checks.DataError):
        evaluate.evaluate(true_maps, phantom_cases, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_what_serving_writes_is_what_evaluation_reads(phantom_cases, tmp_path):
    model = models.build(
        "flipout",
        input_shape=(None, None, 4),
        num_regions=3,
        num_train_examples=10,
        base_filters=2,
    )
    case = phantom_cases[0]
    place = serving.predict_case(model, case, tmp_path, num_draws=3)
    found = evaluate.evaluate(tmp_path, [case])
    summary = json.loads((place / f"{case.id}_summary.json").read_text())
    for region in REGIONS:
        row, values = record(found, case, region), summary["regions"][region]
        assert row["method"] == "flipout"
        assert row["volume_predicted_ml"] == pytest.approx(values["volume_ml"])
        assert row["volume_median_ml"] == pytest.approx(values["volume_median_ml"])
        assert row["volume_interval_level"] == values["interval_level"] == 0.5
        for name in serving.UNCERTAINTIES:
            assert row[name] == pytest.approx(values[f"mean_{name}"], rel=1e-4)
        assert row["predictive_entropy"] == pytest.approx(
            row["expected_entropy"] + row["mutual_information"], rel=1e-4
        )


def test_modalities_that_were_not_used_are_not_read(
    phantom_cases, tmp_path, write_maps
):
    case = phantom_cases[0]
    truth = np.stack([case.load_truth(region) for region in REGIONS], axis=-1)
    settings = {"label_scheme": "brats2018", "modalities": ["flair", "t1"]}
    write_maps(tmp_path / "maps", case, truth, settings=settings)
    paths = {**case.image_paths, "t2": tmp_path / "no_such_file.nii.gz"}
    damaged = dataclasses.replace(case, image_paths=paths)
    found = evaluate.evaluate(tmp_path / "maps", [damaged])
    assert record(found, case, "WT")["dice"] > 0.9


def test_several_maps_are_compared_and_ranked(
    phantom_cases, true_maps, poor_maps, write_maps, tmp_path
):
    third = tmp_path / "third"
    for case in phantom_cases:
        write_maps(third, case, np.zeros((40, 48, 6, 3)))
    out = tmp_path / "report"
    found = evaluate.evaluate(
        true_maps, phantom_cases, out, against=[poor_maps, third], regions=("WT",)
    )
    assert list(found.summary["against"]) == [str(poor_maps), str(third)]
    assert (out / "patients_against_2.csv").is_file()
    ranks = found.summary["qu_brats_ranks"]
    assert sum(ranks.values()) == pytest.approx(6.0)
    assert min(ranks, key=ranks.get) == str(true_maps)
    assert "mean rank by QU-BraTS" in evaluate.format_table(found)
    with pytest.raises(ValueError, match="other folders than `maps`"):
        evaluate.evaluate(true_maps, phantom_cases, against=[true_maps])


def test_draws_that_were_kept_are_compared_with_raters(
    phantom_cases, true_maps, tmp_path
):
    case = phantom_cases[0]
    raters = case.load_raters()
    masks = np.stack([raters > 0, raters > 1], axis=-1)  # (X, Y, Z, R, 2)
    bits = np.packbits(np.moveaxis(masks, (3, 4), (1, 0)), axis=1)
    assert bits.shape[:2] == (2, 1)
    np.savez_compressed(
        true_maps / case.id / f"{case.id}_draws.npz",
        masks=np.packbits(np.moveaxis(masks, (4, 3), (0, 1)), axis=1),
        num_draws=masks.shape[3],
        regions=np.array(["WT", "TC"]),
    )
    found = evaluate.evaluate(true_maps, phantom_cases[:1], regions=("WT",))
    row = record(found, case, "WT")
    assert row["ged"] == 0.0  # the draws are the raters
    assert row["draw_diversity"] == pytest.approx(row["rater_diversity"])
    one, other = np.moveaxis(raters > 0, -1, 0)
    dice = 2 * (one & other).sum() / (one.sum() + other.sum())
    assert row["draw_disagreement"] == pytest.approx(1.0 - dice)
    (true_maps / case.id / f"{case.id}_draws.npz").write_bytes(b"no zip")
    with pytest.raises(_checks.DataError, match=r"case_0_draws.npz: must hold"):
        evaluate.evaluate(true_maps, phantom_cases[:1], regions=("WT",))
