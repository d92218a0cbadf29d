from __future__ import annotations

import nibabel
import numpy as np
import pytest

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats


@pytest.fixture
def place(make, tmp_path):
    return make.study(tmp_path, "Brats18_A_1")


def load(place, **options):
    (case,) = brats.find_cases(place, **options)
    return case.load()


def test_nothing_is_read_before_load(place):
    for path in place.iterdir():
        path.write_bytes(b"no nifti")
    (case,) = brats.find_cases(place)
    with pytest.raises(DataError, match=r"Case Brats18_A_1, file .*flair"):
        case.load()


def test_a_study_has_channels_labels_and_spacing(place, make):
    study = load(place)
    assert study.case_id == "Brats18_A_1"
    assert study.image.shape == (*make.shape, 4)
    assert study.image.dtype == np.float32
    assert study.labels.dtype == np.int16
    assert study.modalities == ("flair", "t1", "t1ce", "t2")
    assert study.spacing == (1, 1, 1)
    assert study.grid.canonical_shape == make.shape
    for channel in range(4):
        stored = make.image(channel)[::-1, ::-1]
        assert np.array_equal(study.image[..., channel], stored)


def test_channels_and_labels_may_be_left_out(place):
    (case,) = brats.find_cases(place)
    study = case.load(("t2", "T1C"), labels=False)
    assert study.modalities == ("t2", "t1ce")
    assert study.labels is None
    with pytest.raises(DataError, match="modality 'adc' is needed; the case has"):
        case.load(("adc",))
    with pytest.raises(ValueError, match="none twice"):
        case.load(("t1", "t1"))


def test_files_in_different_orders_of_axes_are_brought_together(place, make):
    path = place / "Brats18_A_1_t1.nii.gz"
    image = nibabel.load(path)
    turned = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    turned.to_filename(path)
    assert turned.shape != image.shape
    assert np.array_equal(load(place).image[..., 1], make.image(1)[::-1, ::-1])


def test_another_shape_is_an_error(place, make):
    make.save(place / "Brats18_A_1_t2.nii.gz", make.image(0, (12, 10, 7)))
    with pytest.raises(DataError, match=r"_t2.*shape \(12, 10, 7\).*_flair"):
        load(place)


@pytest.mark.parametrize("name", ["t2", "seg"])
def test_another_affine_is_an_error(name, place, make):
    affine = make.affine.copy()
    affine[2, 3] += 1
    array = make.labels((1, 2)) if name == "seg" else make.image(0)
    make.save(place / f"Brats18_A_1_{name}.nii.gz", array, affine)
    message = rf"Case Brats18_A_1, file .*_{name}.*affine must agree.*1 mm away"
    with pytest.raises(DataError, match=message):
        load(place)


@pytest.mark.parametrize(("value", "word"), [(0, "zero"), (7, "7")])
def test_an_image_without_contrast_is_an_error(value, word, place, make):
    make.save(place / "Brats18_A_1_t1ce.nii.gz", np.full(make.shape, value, np.int16))
    with pytest.raises(DataError, match=rf"modality 't1ce'.*it is {word} in every"):
        load(place)


def test_values_beyond_float32_are_an_error(place, make):
    image = make.image(0).astype(np.float64)
    image[5, 5, 3] = 1e300
    make.save(place / "Brats18_A_1_t1.nii.gz", image)
    with pytest.raises(DataError, match=r"_t1.*must fit in float32"):
        load(place)


def test_labels_that_are_no_whole_numbers_are_an_error(place, make):
    ids = make.labels((1, 2, 4)) * np.float32(0.5)
    make.save(place / "Brats18_A_1_seg.nii.gz", ids)
    with pytest.raises(DataError, match=r"_seg.*labels must be whole numbers; got 0.5"):
        load(place)


def test_an_unknown_label_is_an_error_that_names_the_file(place, make):
    make.save(place / "Brats18_A_1_seg.nii.gz", make.labels((1, 2, 3)))
    message = r"Case Brats18_A_1, file .*_seg.*got \[0, 1, 2, 3\].*label_scheme="
    with pytest.raises(DataError, match=message):
        load(place).masks()


def test_old_ids_under_new_names_are_not_guessed(make, tmp_path):
    place = make.study(
        tmp_path,
        "BraTS-GLI-00001-000",
        names=("t2f", "t1n", "t1c", "t2w"),
        separator="-",
    )
    with pytest.raises(DataError, match=r"-seg.*hold 4 but not 3.*brats2018"):
        load(place).masks()
    masks = load(place, label_scheme="brats2018").masks()
    assert masks.sum(axis=(0, 1, 2)).tolist() == [12, 8, 4]


def test_raters_lie_on_the_grid_of_the_study(place, make):
    for number, ids in enumerate([(1, 2, 4), (2,)]):
        path = place / f"Brats18_A_1_rater{number}.nii.gz"
        make.save(path, make.labels(ids))
    (case,) = brats.find_cases(place)
    raters = case.load_raters()
    assert raters.dtype == np.uint8
    assert raters.shape == (*make.shape, 2)
    assert np.array_equal(raters[..., 0], case.load().labels)


def test_truth_is_a_probability_of_one_region(place, make):
    truth = make.labels((1,)) * np.float32(0.25)
    make.save(place / "Brats18_A_1_truth_WT.nii.gz", truth)
    make.save(place / "Brats18_A_1_truth_ET.nii.gz", truth * 8)
    (case,) = brats.find_cases(place)
    assert np.array_equal(case.load_truth(), truth[::-1, ::-1])
    assert np.array_equal(case.load_truth("WT"), case.load_truth())
    with pytest.raises(DataError, match=r"truth_ET.*must lie in 0\.\.1; got 0\.\.2"):
        case.load_truth("ET")
    with pytest.raises(DataError, match=r"of TC is needed.*\('WT', 'ET'\)"):
        case.load_truth("TC")


def test_raters_and_truth_that_are_not_there_are_errors(place):
    (case,) = brats.find_cases(place)
    with pytest.raises(DataError, match="files of several raters are needed"):
        case.load_raters()
    with pytest.raises(DataError, match="Only phantoms have them"):
        case.load_truth()
