"""The phantom: known truth, faithful raters, reproducible files."""

from __future__ import annotations

import functools
import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy import special

from tfp_uqseg import models
from tfp_uqseg.data import (
    brats,
    nifti,
    phantom,
    phantom_anatomy,
    phantom_contrast,
    phantom_fields,
    phantom_raters,
    phantom_shifts,
    phantom_tumour,
)
from tfp_uqseg.evaluation import overlap

SMALL = (48, 48, 6)
#: How data/phantom was made.
STUDY_SEED, STUDY_SHAPE = 12, (96, 96, 16)
IDS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}


@pytest.fixture(scope="module")
def case():
    return phantom.make_case(seed=3, shape=(96, 96, 16), num_raters=4)


@pytest.fixture(scope="module")
def crowds():
    """Four patients with 200 raters each."""
    return [
        phantom.make_case(seed=seed, shape=(64, 64, 10), num_raters=200)
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    return phantom.make_cohort(
        folder, num_cases=2, num_test_cases=1, shape=SMALL, num_raters=2, seed=5
    )


@functools.cache
def parts(shape=(80, 80, 12), seed=3, difficulty=1.0):
    """Grid, anatomy and tumour of one patient, with noise-free signal."""
    grid = phantom_fields.fit_grid(shape)
    rng = np.random.default_rng(seed)
    mass = phantom_tumour.choose_mass(rng, grid)
    anatomy = phantom_anatomy.build(rng, grid, mass)
    tumour = phantom_tumour.build(rng, grid, mass, anatomy, difficulty=difficulty)
    image = phantom_contrast.paint(rng, grid, anatomy, tumour, difficulty=difficulty)
    return grid, anatomy, tumour, image


# The rater model.


@pytest.mark.parametrize("region", phantom.REGIONS)
def test_200_raters_mark_each_voxel_as_often_as_the_truth_says(crowds, region):
    errors, expected, biases = [], [], []
    for case in crowds:
        truth = case.truth[..., phantom.REGIONS.index(region)].astype(float)
        share = np.isin(case.raters, IDS[region]).mean(axis=-1)
        band = (truth > 0.01) & (truth < 0.99)
        errors.append(np.abs(share - truth)[band].mean())
        # Mean absolute deviation of a binomial share, by the normal approximation.
        deviation = np.sqrt(2 / np.pi * truth * (1 - truth) / 200)
        expected.append(deviation[band].mean())
        biases.append((share - truth)[band].mean())
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.15)
    # One rater's bias moves a whole outline: 200 raters leave about .01 per case.
    assert abs(np.mean(biases)) < 0.02


@pytest.mark.parametrize("region", phantom.REGIONS)
def test_the_share_of_raters_is_calibrated_at_every_probability(crowds, region):
    index = phantom.REGIONS.index(region)
    truth = np.concatenate([case.truth[..., index].ravel() for case in crowds])
    share = np.concatenate(
        [np.isin(c.raters, IDS[region]).mean(axis=-1).ravel() for c in crowds]
    )
    for low in (0.05, 0.25, 0.45, 0.65, 0.85):
        inside = (truth >= low) & (truth < low + 0.1)
        assert share[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.035)


def test_nobody_marks_where_the_probability_is_zero(crowds):
    for case in crowds:
        for index, region in enumerate(phantom.REGIONS):
            marked = np.isin(case.raters, IDS[region]).any(axis=-1)
            assert not marked[case.truth[..., index] == 0].any()


def test_the_truth_is_the_formula_of_the_rater_model():
    _, _, tumour, _ = parts()
    truth = phantom_raters.true_probability(tumour)
    oedema, core, necrosis = (
        special.ndtr(border.distance / border.width)
        for border in (tumour.oedema, tumour.core, tumour.necrosis)
    )
    whole = 1 - (1 - oedema) * (1 - core)
    expected = np.stack([whole, core, core * (1 - necrosis)], axis=-1)
    # Probabilities below 1e-4 of either outline count as none.
    np.testing.assert_allclose(truth, expected, atol=2.1e-4)


def test_regions_are_nested_in_truth_and_in_every_rater(case):
    whole, core, enhancing = np.moveaxis(case.truth, -1, 0)
    assert (enhancing <= core).all()
    assert (core <= whole + 1e-7).all()
    assert set(np.unique(case.raters)) <= {0, 1, 2, 4}


def test_the_reference_is_the_majority_of_all_raters(case):
    for index, region in enumerate(phantom.REGIONS):
        majority = case.truth[..., index] > 0.5
        np.testing.assert_array_equal(np.isin(case.labels, IDS[region]), majority)


def test_raters_disagree_and_are_not_copies(case):
    volumes = [(case.raters[..., r] > 0).sum() for r in range(4)]
    assert len(set(volumes)) == 4
    whole = case.truth[..., 0]
    assert ((whole > 0.05) & (whole < 0.95)).sum() > 0.2 * (whole > 0.5).sum()


def test_smooth_fields_have_variance_one_at_every_voxel():
    rng = np.random.default_rng(0)
    fields = phantom_fields.gaussian_fields(rng, (9, 7, 3), (1.5, 1.5, 4), 5.0, 4000)
    assert fields.shape == (4000, 9, 7, 3)
    # Standard error of a variance from 4000 draws: sqrt(2 / 4000) = .022.
    np.testing.assert_allclose(fields.var(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(fields.mean(axis=0), 0, atol=0.08)


def test_smooth_fields_correlate_as_documented():
    rng = np.random.default_rng(1)
    fields = phantom_fields.gaussian_fields(rng, (9, 1, 1), (1.0, 1.0, 1.0), 4.0, 8000)
    line = fields[:, :, 0, 0]
    measured = (line[:, :1] * line).mean(axis=0)
    expected = np.exp(-np.square(np.arange(9)) / (4 * 4.0**2))
    np.testing.assert_allclose(measured, expected, atol=0.06)


# The picture.


def test_arrays_have_their_documented_shapes_and_types(case):
    assert case.image.shape == (96, 96, 16, 4)
    assert case.image.dtype == np.float32
    assert case.labels.dtype == case.raters.dtype == np.uint8
    assert case.raters.shape == (96, 96, 16, 4)
    assert case.truth.shape == (96, 96, 16, 3)
    assert case.truth.dtype == np.float32
    assert case.brain.shape == (96, 96, 16)


def test_the_image_is_positive_in_the_brain_and_zero_outside(case):
    for modality in np.moveaxis(case.image, -1, 0):
        np.testing.assert_array_equal(modality > 0, case.brain)
    np.testing.assert_array_equal(case.image, np.rint(case.image))
    assert case.image.max() < np.iinfo(np.int16).max
    assert not case.truth[~case.brain].any()


def test_brain_and_tumour_have_the_size_of_real_ones():
    for seed in range(5):
        case = phantom.make_case(seed=seed, shape=(64, 64, 8), num_raters=0)
        voxel_ml = np.prod(case.spacing) / 1000
        assert 400 < case.brain.sum() * voxel_ml < 1400
        assert 10 < (case.labels > 0).sum() * voxel_ml < 250
        for ids in IDS.values():
            assert np.isin(case.labels, ids).sum() * voxel_ml > 0.2


def test_tissue_has_the_contrast_of_each_modality():
    _, anatomy, tumour, image = parts()
    far = tumour.oedema.margin() < -4
    white, grey, csf = (
        image[far & (share > 0.97)].mean(axis=0)
        for share in (anatomy.white, anatomy.grey, anatomy.csf)
    )
    flair, t1, t1ce, t2 = range(4)
    assert white[t1] > grey[t1] > csf[t1]
    assert white[t1ce] > grey[t1ce] > csf[t1ce]
    assert csf[t2] > grey[t2] > white[t2]
    assert grey[flair] > white[flair] > csf[flair]


def test_tumour_has_the_contrast_of_each_modality():
    _, anatomy, tumour, image = parts(difficulty=0.2)
    oedema = (tumour.oedema.margin() > 3) & (tumour.core.margin() < -3)
    dead = (tumour.core.margin() > 3) & (tumour.necrosis.margin() > 3)
    rim = (tumour.core.margin() > 2) & (tumour.necrosis.margin() < -2)
    white = anatomy.white > 0.97
    healthy = white & (tumour.oedema.margin() < -4)
    flair, t1, t1ce, t2 = range(4)

    def mean(where):
        return image[where].mean(axis=0)

    assert mean(oedema & white)[flair] > 1.2 * mean(healthy)[flair]
    assert mean(oedema & white)[t2] > 1.2 * mean(healthy)[t2]
    assert mean(oedema & white)[t1] < mean(healthy)[t1]
    assert mean(rim)[t1ce] > 1.3 * mean(oedema & white)[t1ce]
    assert mean(dead)[t1ce] < 0.7 * mean(rim)[t1ce]
    assert mean(dead)[t1ce] < mean(healthy)[t1ce]
    assert mean(dead)[t2] > 1.5 * mean(healthy)[t2]


def test_tissue_shares_sum_to_one_in_the_brain():
    _, anatomy, _, _ = parts()
    total = anatomy.white + anatomy.grey + anatomy.csf
    np.testing.assert_allclose(total, anatomy.brain, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32, 1), (40, 64, 3), (65, 33, 2)])
def test_any_shape_gives_a_tumour(shape):
    for seed in range(4):
        case = phantom.make_case(seed=seed, shape=shape, num_raters=1)
        assert case.image.shape == (*shape, 4)
        assert (case.labels > 0).any()
        assert case.brain.mean() > 0.1


# Difficulty.


def test_difficulty_widens_the_borders_raters_disagree_on():
    contested = []
    for difficulty in (0.0, 0.5, 1.0, 2.0):
        truth = phantom.make_case(
            seed=4, shape=SMALL, num_raters=0, difficulty=difficulty
        ).truth[..., 0]
        contested.append(((truth > 0.05) & (truth < 0.95)).sum() / (truth > 0).sum())
    assert contested == sorted(contested)
    assert contested[0] < 0.1 < contested[2]


# Seeds and shifts.


def test_the_same_seed_gives_the_same_case_and_another_seed_another():
    one, again, other = (
        phantom.make_case(seed=seed, shape=SMALL) for seed in (1, 1, 2)
    )
    for name in ("image", "labels", "raters", "truth", "brain"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.truth, other.truth)


def test_the_number_of_raters_changes_neither_image_nor_the_first_raters():
    few, many = (
        phantom.make_case(seed=1, shape=SMALL, num_raters=count) for count in (2, 5)
    )
    np.testing.assert_array_equal(few.image, many.image)
    np.testing.assert_array_equal(few.raters, many.raters[..., :2])


@pytest.mark.parametrize("shift", phantom.SHIFTS)
def test_a_shift_changes_the_image_and_nothing_else(shift):
    plain = phantom.make_case(seed=1, shape=SMALL)
    none = phantom.make_case(seed=1, shape=SMALL, shift=shift, severity=0)
    shifted = phantom.make_case(seed=1, shape=SMALL, shift=shift)
    np.testing.assert_array_equal(none.image, plain.image)
    assert not np.array_equal(shifted.image, plain.image)
    for name in ("labels", "raters", "truth", "brain"):
        np.testing.assert_array_equal(getattr(shifted, name), getattr(plain, name))
    np.testing.assert_array_equal(shifted.image > 0, plain.image > 0)


@pytest.mark.parametrize("shift", phantom.SHIFTS)
def test_a_larger_severity_changes_more(shift):
    plain, small, large = (
        phantom.make_case(
            seed=1, shape=SMALL, num_raters=0, shift=shift, severity=severity
        ).image
        for severity in (0, 0.4, 1.0)
    )
    assert np.abs(small - plain).mean() < np.abs(large - plain).mean()


def test_the_missing_modality_is_noise_and_the_others_stay():
    plain = phantom.make_case(seed=1, shape=SMALL, num_raters=0)
    shifted = phantom.make_case(
        seed=1, shape=SMALL, num_raters=0, shift="missing_modality"
    )
    lost = phantom.MODALITIES.index(phantom_shifts.MISSING)
    kept = [index for index in range(4) if index != lost]
    np.testing.assert_array_equal(shifted.image[..., kept], plain.image[..., kept])
    voxels = shifted.image[shifted.brain][:, lost]
    # Noise of 3 to 5.5 % of the signal's scale, and no anatomy.
    assert voxels.std() < 0.15 * voxels.mean()
    before = plain.image[plain.brain][:, lost]
    assert abs(np.corrcoef(voxels, before)[0, 1]) < 0.5


# Files.


def test_a_cohort_has_the_documented_files(cohort):
    assert list(cohort.cases) == ["train", "test", *phantom.SHIFTS]
    assert [len(ids) for ids in cohort.cases.values()] == [2, 1, 1, 1, 1, 1]
    names = [*phantom.MODALITIES, "seg", "rater0", "rater1"]
    names += [f"truth_{region}" for region in phantom.REGIONS]
    for part, ids in cohort.cases.items():
        assert cohort.folders[part] == cohort.folder / part
        assert {path.name for path in cohort.folders[part].iterdir()} == set(ids)
        for case_id in ids:
            found = {p.name for p in (cohort.folders[part] / case_id).iterdir()}
            assert found == {f"{case_id}_{name}.nii.gz" for name in names}


def test_a_cohort_describes_itself(cohort):
    text = (cohort.folder / phantom.DESCRIPTION_FILE).read_text("utf-8")
    described = json.loads(text)
    assert described["seed"] == 5
    assert described["shape"] == list(SMALL)
    assert described["severities"] == dict.fromkeys(phantom.SHIFTS, 1.0)
    assert {p: tuple(ids) for p, ids in described["cases"].items()} == cohort.cases


def test_the_brats_reader_finds_cases_raters_and_truth(cohort):
    cases = brats.find_cases(cohort.folders["train"])
    assert tuple(case.id for case in cases) == cohort.cases["train"]
    expected = phantom.make_case((5, 0, 1), shape=SMALL, num_raters=2)
    study = cases[1].load()
    assert study.modalities == phantom.MODALITIES
    np.testing.assert_array_equal(study.image, expected.image)
    np.testing.assert_array_equal(study.labels, expected.labels)
    np.testing.assert_allclose(study.spacing, expected.spacing, rtol=1e-5)
    np.testing.assert_array_equal(cases[1].load_raters(), expected.raters)
    for index, region in enumerate(phantom.REGIONS):
        truth = cases[1].load_truth(region)
        np.testing.assert_array_equal(truth, expected.truth[..., index])


def test_files_are_stored_like_brats(cohort):
    case_id = cohort.cases["test"][0]
    path = cohort.folders["test"] / case_id / f"{case_id}_flair.nii.gz"
    _, grid = nifti.read(path, case_id)
    # Left, posterior, superior; the origin at the last row, as in BraTS.
    np.testing.assert_array_equal(np.sign(np.diag(grid.affine)), [-1, -1, 1, 1])
    assert grid.affine[1, 3] == pytest.approx(47 * grid.spacing[1], rel=1e-5)


def test_the_same_seed_gives_the_same_bytes(cohort, tmp_path):
    again = phantom.make_cohort(
        tmp_path / "again", num_cases=2, num_test_cases=1, shape=SMALL, num_raters=2,
        seed=5,
    )  # fmt: skip
    for path in sorted(cohort.folder.rglob("*.*")):
        twin = again.folder / path.relative_to(cohort.folder)
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_a_case_does_not_depend_on_how_many_others_there_are(cohort, tmp_path):
    fewer = phantom.make_cohort(
        tmp_path / "fewer", num_cases=1, num_test_cases=1, shape=SMALL, num_raters=2,
        seed=5, shifts=("motion",),
    )  # fmt: skip
    assert list(fewer.cases) == ["train", "test", "motion"]
    for path in sorted(fewer.folder.rglob("*.nii.gz")):
        twin = cohort.folder / path.relative_to(fewer.folder)
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_progress_counts_the_cases(tmp_path):
    seen = []
    phantom.make_cohort(
        tmp_path / "c", num_cases=2, num_test_cases=1, shape=(32, 32, 1), shifts=(),
        num_raters=0, progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_severities_reach_the_files(tmp_path):
    mild = phantom.make_cohort(
        tmp_path / "c", num_cases=1, num_test_cases=1, shape=(32, 32, 1), num_raters=0,
        shifts=("motion",), severities={"motion": 0},
    )  # fmt: skip
    case = brats.find_cases(mild.folders["motion"])[0]
    key = (0, phantom.PARTS.index("motion"), 0)
    plain = phantom.make_case(key, shape=(32, 32, 1), num_raters=0)
    np.testing.assert_array_equal(case.load().image, plain.image)


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(nifti, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        phantom.make_cohort(tmp_path / "c", num_cases=1, shape=(32, 32, 1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"`folder` must be new or empty"):
        phantom.make_cohort(tmp_path, num_cases=1)
    with pytest.raises(FileExistsError, match=r"`overwrite` replaces phantom cohorts"):
        phantom.make_cohort(tmp_path, num_cases=1, overwrite=True)
    with pytest.raises(FileExistsError, match=r"notes.txt is a file"):
        phantom.make_cohort(tmp_path / "notes.txt", num_cases=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_cohort_replaced_on_request(tmp_path):
    small = {"num_test_cases": 0, "shape": (32, 32, 1), "num_raters": 0, "shifts": ()}
    phantom.make_cohort(tmp_path / "c", num_cases=2, **small)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        phantom.make_cohort(tmp_path / "c", num_cases=1, **small)
    (tmp_path / "empty").mkdir()
    phantom.make_cohort(tmp_path / "empty", num_cases=1, **small)
    phantom.make_cohort(tmp_path / "c", num_cases=1, overwrite=True, **small)
    assert len(list((tmp_path / "c" / "train").iterdir())) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"c", "empty"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shape": (128, 128)}, "`shape` must be three numbers"),
        ({"shape": 128}, "`shape` must be three numbers"),
        ({"shape": (128, 128, 0)}, "`shape` must be a whole number above 0"),
        ({"shape": (16, 128, 2)}, "`shape` must have at least 32 x 32"),
        ({"num_raters": -1}, "`num_raters` must be a whole number"),
        ({"num_raters": 1.5}, "`num_raters` must be a whole number"),
        ({"difficulty": -1}, "`difficulty` must be finite and at least 0"),
        ({"difficulty": float("nan")}, "`difficulty` must be finite and at least 0"),
        ({"seed": -1}, "`seed` must be a whole number, 0 or more"),
        ({"seed": "one"}, "`seed` must be a whole number, 0 or more"),
        ({"seed": 0.5}, "`seed` must be a whole number, 0 or more"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        phantom.make_case(**wrong)
    with pytest.raises(ValueError, match=message):
        phantom.make_cohort(tmp_path / "c", **wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_cases": 0}, "`num_cases` must be a whole number above 0"),
        ({"num_test_cases": -1}, "`num_test_cases` must be a whole number, 0 or more"),
        ({"shifts": ("fog",)}, "`shifts` must be one of 'missing_modality'"),
        ({"severities": {"fog": 1}}, "`severities` must be one of"),
        ({"severities": {"motion": -1}}, "`severities` must be finite"),
    ],
)
def test_wrong_cohort_arguments_are_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        phantom.make_cohort(tmp_path / "c", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_wrong_shifts_are_named():
    with pytest.raises(ValueError, match="`shift` must be one of 'missing_modality'"):
        phantom.make_case(shift="fog")
    with pytest.raises(ValueError, match="`severity` must be finite and at least 0"):
        phantom.make_case(shift="motion", severity=-1)


# The committed study.


def test_the_committed_study_has_its_checksums(root):
    folder = root / "data" / "phantom"
    lines = (folder / "SHA256SUMS").read_text("utf-8").splitlines()
    named = dict(reversed(line.split("  ", 1)) for line in lines)
    present = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*.nii.gz")
    }
    assert named.keys() == present.keys()
    for name, path in present.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == named[name], name
    assert sum(path.stat().st_size for path in present.values()) < 3e6


def test_the_committed_study_is_what_the_code_makes(root):
    (found,) = brats.find_cases(root / "data" / "phantom")
    made = phantom.make_case(seed=STUDY_SEED, shape=STUDY_SHAPE)
    study = found.load()
    # Other processors may round the last bit of a float differently.
    assert np.mean(np.abs(study.image - made.image) > 1) < 1e-3
    assert np.mean(study.labels != made.labels) < 1e-4
    np.testing.assert_allclose(found.load_truth("WT"), made.truth[..., 0], atol=1e-3)


# What a network makes of it.


def slices(case):
    """Z-scored images (Z, H, W, 4) and region masks (Z, H, W, 3) of one case."""
    brain = case.image[case.brain]
    image = (case.image - brain.mean(axis=0)) / brain.std(axis=0)
    image = np.clip(image, -5, 5) * case.brain[..., None]
    mask = np.stack([np.isin(case.labels, ids) for ids in IDS.values()], axis=-1)
    return np.moveaxis(image, 2, 0), np.moveaxis(mask, 2, 0).astype(np.float32)


@pytest.mark.slow
def test_a_deterministic_network_finds_the_tumour_but_not_every_voxel():
    shape = (64, 64, 10)
    cases = [phantom.make_case((7, i), shape=shape, num_raters=0) for i in range(30)]
    images, masks = (
        np.concatenate(arrays) for arrays in zip(*map(slices, cases), strict=True)
    )
    model = models.build(
        "deterministic",
        input_shape=(64, 64, 4),
        num_regions=3,
        num_train_examples=len(images),
        base_filters=8,
        seed=0,
    )
    rate = tf_keras.optimizers.schedules.CosineDecay(5e-3, 14 * len(images) // 8)
    model.compile(optimizer=tf_keras.optimizers.Adam(rate))
    model.fit(images, masks, batch_size=8, epochs=14, verbose=0)
    scores = []
    for index in range(12):
        image, mask = slices(phantom.make_case((8, index), shape=shape, num_raters=0))
        found = tf.convert_to_tensor(model(image.astype(np.float32))).numpy() > 0
        scores.append(overlap.dice(mask > 0, found, axis=(0, 1, 2)))
    whole, core, enhancing = np.mean(scores, axis=0)
    assert 0.65 < whole < 0.95
    assert 0.45 < core < 0.95
    assert 0.25 < enhancing < 0.95
