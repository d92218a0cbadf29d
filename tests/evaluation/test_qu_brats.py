"""QU-BraTS by hand, against a threshold-by-threshold restatement and the reference."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from tfp_uqseg import labels
from tfp_uqseg.data import nifti
from tfp_uqseg.evaluation import qu_brats

EPSILON = np.finfo(np.float32).eps


def restated(mask, predicted, uncertainty, brain, thresholds=qu_brats.THRESHOLDS):
    """The published definition, one threshold after the other."""
    mask, predicted, brain = (np.asarray(x, bool) for x in (mask, predicted, brain))
    rows = []
    for threshold in thresholds:
        left = ~(np.asarray(uncertainty) > threshold)
        total = (mask & left).sum() + (predicted & left).sum()
        dice = 2 * (mask & predicted & left).sum() / total if total else 1.0
        row = [dice]
        for kind in (mask & predicted & brain, ~mask & ~predicted & brain):
            row.append((kind.sum() - (kind & left).sum()) / (kind.sum() + EPSILON))
        rows.append(row)
    return integrate.trapezoid(np.array(rows), thresholds, axis=0) / 100.0


@st.composite
def volumes(draw):
    """Masks and uncertainties, many of which lie on a threshold exactly."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = draw(st.sampled_from([(60,), (4, 5, 6)]))
    density = draw(st.sampled_from([0.0, 0.1, 0.6, 1.0]))
    mask, predicted, brain = (rng.random(shape) < p for p in (density, 0.4, 0.7))
    levels = rng.choice([0.0, 2.5, 2.4999998, 50.0, 97.5, 99.9, 100.0], shape)
    return mask, predicted, levels.astype(np.float32), brain


@settings(deadline=None)
@given(volumes())
def test_the_curves_are_those_of_the_definition(arrays):
    expected = restated(*arrays)
    np.testing.assert_allclose(qu_brats.region_auc(*arrays), expected, atol=1e-12)
    fortran = [np.asfortranarray(array) for array in arrays]
    np.testing.assert_allclose(qu_brats.region_auc(*fortran), expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(volumes(), st.integers(1, 30))
def test_any_thresholds_will_do(arrays, number):
    steps = np.random.default_rng(number).random(number) + 0.1
    thresholds = np.concatenate([[0.0], np.cumsum(steps) / steps.sum() * 100.0])
    thresholds[-1] = 100.0
    found = qu_brats.region_auc(*arrays, thresholds)
    np.testing.assert_allclose(found, restated(*arrays, thresholds), atol=1e-12)


def test_an_error_that_is_taken_out_raises_dice_alone():
    # A miss at uncertainty 100: kept by the last threshold only, where Dice is 2/3.
    mask, predicted, brain = [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]
    found = qu_brats.region_auc(mask, predicted, [0, 100, 0, 0], brain)
    assert found.dice == pytest.approx((39 * 2.5 + 2.5 * (1 + 2 / 3) / 2) / 100)
    assert (found.ftp, found.ftn) == (0.0, 0.0)
    assert found.score > qu_brats.baseline(mask, predicted).score


def test_uncertain_hits_cost_true_positives_and_background_true_negatives():
    mask, predicted, brain = [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]
    found = qu_brats.region_auc(mask, predicted, [50, 0, 0, 0, 0], brain)
    assert found.ftp == pytest.approx((19 * 2.5 + 1.25) / 100 / 2, abs=1e-6)
    found = qu_brats.region_auc(mask, predicted, [0, 0, 100, 0, 100], brain)
    assert found.ftn == pytest.approx((39 * 2.5 + 1.25) / 100 / 2, abs=1e-6)
    assert found.dice == 1.0


def test_no_uncertainty_scores_a_third_of_dice_and_two_thirds():
    rng = np.random.default_rng(0)
    mask, predicted = rng.random(500) < 0.3, rng.random(500) < 0.3
    dice = 2 * (mask & predicted).sum() / (mask.sum() + predicted.sum())
    assert qu_brats.baseline(mask, predicted) == pytest.approx((dice, 0.0, 0.0))
    assert qu_brats.baseline(mask, predicted).score == pytest.approx((dice + 2) / 3)


def test_perfect_answers_constant_maps_and_one_voxel():
    mask = np.array([1, 1, 0, 0, 0])
    perfect = qu_brats.region_auc(mask, mask, np.zeros(5), np.ones(5))
    assert perfect == (1.0, 0.0, 0.0)
    # A constant of 50 takes all out at the twenty thresholds below it.
    constant = qu_brats.region_auc(mask, mask, np.full(5, 50.0), np.ones(5))
    assert constant.dice == 1.0  # nothing is left, and nothing left is right
    share = (19 * 2.5 + 1.25) / 100
    assert constant.ftp == pytest.approx(share, abs=1e-6)
    assert constant.ftn == pytest.approx(share, abs=1e-6)
    assert qu_brats.region_auc([1], [1], [0.0], [1]) == (1.0, 0.0, 0.0)
    assert qu_brats.region_auc([1], [0], [0.0], [1]).dice == 0.0
    assert qu_brats.region_auc([0], [0], [0.0], [1]) == (1.0, 0.0, 0.0)


def test_a_permuted_map_keeps_its_values_and_loses_its_places():
    rng = np.random.default_rng(0)
    mask, predicted = rng.random(4000) < 0.3, rng.random(4000) < 0.3
    brain = np.arange(4000) < 3000
    errors = np.where(mask != predicted, 90.0, 5.0)
    good = qu_brats.region_auc(mask, predicted, errors, brain)
    bad = qu_brats.permuted(mask, predicted, errors, brain, seed=1)
    assert good.dice > bad.dice + 0.3
    assert bad == qu_brats.permuted(mask, predicted, errors, brain, seed=1)
    assert bad.ftn == pytest.approx(0.42 * 0.875 + 0.05 * 0.58, abs=0.05)


def test_the_score_of_a_study_is_the_mean_of_its_regions():
    regions = [qu_brats.RegionAUC(0.9, 0.1, 0.2), qu_brats.RegionAUC(0.3, 0.0, 0.0)]
    assert regions[0].score == pytest.approx((0.9 + 0.9 + 0.8) / 3)
    expected = (regions[0].score + regions[1].score) / 2
    assert qu_brats.mean_score(regions) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"uncertainty": [0.0, 101.0]},
            r"must lie in 0\.\.100; got 0\.\.101",
        ),
        ({"uncertainty": [0.0, np.nan]}, r"`uncertainty` must lie in 0\.\.100"),
        ({"uncertainty": [0.0]}, r"`uncertainty` must have the shape of `mask`"),
        ({"mask": [0, 2]}, "`mask` must hold 0 and 1 only; found 2"),
        ({"brain_mask": [1, 1, 1]}, "`brain_mask` must have the shape of `mask`"),
        ({"thresholds": [0, 50]}, "`thresholds` must ascend from 0 to 100"),
        ({"thresholds": [0, 60, 50, 100]}, "`thresholds` must ascend from 0 to 100"),
    ],
)
def test_bad_input_is_named(changed, message):
    arguments = {
        "mask": [0, 1],
        "predicted_mask": [0, 1],
        "uncertainty": [0.0, 1.0],
        "brain_mask": [1, 1],
        **changed,
    }
    with pytest.raises(ValueError, match=message):
        qu_brats.region_auc(**arguments)


@pytest.mark.real
@pytest.mark.slow
def test_values_are_those_of_the_public_script(real_data):
    path = real_data.parent / "reference" / "qu_brats.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert rows
    for case in {row["case"] for row in rows}:
        found = dict(zip(("WT", "TC", "ET"), scored(real_data, case), strict=True))
        for row in (row for row in rows if row["case"] == case):
            names = ("DICE_AUC", "FTP_RATIO_AUC", "FTN_RATIO_AUC")
            expected = [float(row[name]) for name in names]
            np.testing.assert_allclose(
                found[row["TUMOR_TYPE"]], expected, atol=2e-7, err_msg=str(row)
            )


def scored(real_data: pathlib.Path, case: str):
    folder = real_data / "brats" / case
    read = lambda path: nifti.read(path, case)[0]  # noqa: E731
    truth = read(folder / f"{case}_seg.nii.gz").astype(np.int16)
    brain = read(folder / f"{case}_t1.nii.gz") > 0
    path = real_data / "segpairs" / f"{case}_prediction.nii.gz"
    predicted = read(path).astype(np.int16)
    predicted[predicted == 3] = 4
    rng = np.random.default_rng(0)
    scheme = labels.get("brats2018")
    masks = labels.region_masks(truth, scheme, ("WT", "TC", "ET"))
    others = labels.region_masks(predicted, scheme, ("WT", "TC", "ET"))
    for k in range(3):
        u = np.round(rng.random(truth.shape, dtype=np.float32) ** 3 * 100, 1)
        u = u.astype(np.float32)
        # The maps were drawn in the stored axes of the files.
        u = stored_to_ras(u, folder / f"{case}_seg.nii.gz", case)
        yield qu_brats.region_auc(masks[..., k], others[..., k], u, brain)


def stored_to_ras(array, path, case):
    grid = nifti.read_grid(path, case)
    return nifti.orientations.apply_orientation(array, grid.orientation)


def test_ranks_share_ties_and_refuse_what_is_not_paired():
    found = qu_brats.ranks({"a": [1.0, 1.0], "b": [1.0, 0.5], "c": [0.0, 0.0]})
    assert found == {"a": 1.25, "b": 1.75, "c": 3.0}
    with pytest.raises(ValueError, match="same number of scores"):
        qu_brats.ranks({"a": [1.0], "b": [1.0, 0.5]})
