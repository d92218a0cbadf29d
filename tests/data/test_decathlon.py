from __future__ import annotations

import json

import numpy as np
import pytest

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats

DESCRIPTION = {
    "name": "BRATS",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {
        "0": "background",
        "1": "edema",
        "2": "non-enhancing tumor",
        "3": "enhancing tumour",
    },
}
#: BraTS 2018 id to the Decathlon's.
TO_DECATHLON = np.array([0, 2, 1, 0, 3], np.uint8)


@pytest.fixture
def write(make, tmp_path):
    """Write a Decathlon task with one case; return its folder."""

    def write(images, ids, affine=make.affine, description=DESCRIPTION):
        task = tmp_path / "Task01_BrainTumour"
        make.save(task / "imagesTr" / "BRATS_001.nii.gz", images, affine)
        make.save(task / "imagesTr" / "._BRATS_001.nii.gz", images, affine)
        make.save(task / "labelsTr" / "BRATS_001.nii.gz", ids, affine, np.uint8)
        make.save(task / "imagesTs" / "BRATS_485.nii.gz", images, affine)
        if description is not None:
            (task / "dataset.json").write_text(json.dumps(description))
        return task

    return write


@pytest.fixture
def images(make):
    return np.stack([make.image(channel) for channel in range(4)], axis=-1)


def test_volumes_and_labels_are_those_of_the_description(write, images, make):
    task = write(images, make.labels((1, 2, 3)))
    (case,) = brats.find_cases(task)
    assert case.id == "BRATS_001"
    assert case.modalities == ("flair", "t1", "t1ce", "t2")
    assert case.label_scheme == "decathlon"
    study = case.load()
    assert np.array_equal(study.image, images[::-1, ::-1])
    masks = study.masks(("WT", "TC", "ET"))
    assert masks.sum(axis=(0, 1, 2)).tolist() == [12, 8, 4]


def test_the_order_of_the_description_counts(write, images, make):
    other = {**DESCRIPTION, "modality": {"1": "FLAIR", "0": "T2w", "2": "t1gd"}}
    task = write(images[..., :3], make.labels((1,)), description=other)
    (case,) = brats.find_cases(task)
    assert case.modalities == ("flair", "t1ce", "t2")
    assert np.array_equal(case.load().image[..., 0], images[::-1, ::-1, :, 1])


def test_without_a_description_the_order_is_that_of_task_1(write, images, make):
    task = write(images, make.labels((1,)), description=None)
    (case,) = brats.find_cases(task, modalities=("t2",))
    assert np.array_equal(case.load().image[..., 0], images[::-1, ::-1, :, 3])
    assert case.label_scheme == "decathlon"


def test_the_folder_above_and_the_folder_of_images_will_do(write, images, make):
    task = write(images, make.labels((1,)))
    for folder in (task.parent, task, task / "imagesTr"):
        (case,) = brats.find_cases(folder)
        assert (case.id, case.label_path is None) == ("BRATS_001", False)


def test_test_images_are_found_by_their_folder_and_have_no_labels(write, images, make):
    task = write(images, make.labels((1,)))
    (case,) = brats.find_cases(task / "imagesTs")
    assert case.id == "BRATS_485"
    assert case.load().labels is None


def test_labels_of_another_task_are_not_taken_for_brats(write, images, make):
    other = {**DESCRIPTION, "labels": {"0": "background", "1": "liver"}}
    task = write(images, make.labels((1,)), description=other)
    (case,) = brats.find_cases(task)
    assert case.label_scheme is None
    assert case.load().masks(("tumour",)).sum() == 4


def test_a_file_with_too_few_volumes_is_an_error(write, images, make):
    task = write(images[..., :2], make.labels((1,)))
    with pytest.raises(DataError, match=r"modality 't1ce' is volume 2; .* has 2"):
        brats.find_cases(task)[0].load()


def test_a_three_dimensional_file_is_an_error(write, images, make):
    task = write(images[..., 0], make.labels((1,)))
    with pytest.raises(DataError, match="must be 4-D; got 3-D"):
        brats.find_cases(task)[0].load()


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_description_is_an_error(text, write, images, make):
    task = write(images, make.labels((1,)))
    (task / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json: must hold"):
        brats.find_cases(task)


@pytest.mark.parametrize(
    "modality",
    [{"0": "T1", "1": "T1w", "2": "t1gd", "3": "T2w"}, ["FLAIR", "T1w"], {"a": "T1"}],
)
def test_modalities_that_name_no_volumes_are_an_error(modality, write, images, make):
    task = write(images, make.labels((1,)), description={"modality": modality})
    with pytest.raises(DataError, match=r'dataset\.json: "modality" must name each'):
        brats.find_cases(task)


def test_what_macos_leaves_beside_a_task_is_passed_over(write, images, make, tmp_path):
    write(images, make.labels((1,)))
    (tmp_path / "__MACOSX").mkdir()
    (case,) = brats.find_cases(tmp_path)
    assert case.modalities == ("flair", "t1", "t1ce", "t2")


@pytest.mark.real
def test_a_real_study_in_the_decathlons_layout_is_the_same_study(real_data, write):
    case = brats.find_cases(real_data / "brats")[0]
    study = case.load()
    stored = study.image[::-1, ::-1].astype(np.int16)
    ids = TO_DECATHLON[study.labels[::-1, ::-1]]
    task = write(stored, ids, study.grid.affine)
    (other,) = brats.find_cases(task)
    again = other.load()
    assert np.array_equal(again.image, study.image)
    assert np.array_equal(again.masks(), study.masks())
    assert np.array_equal(again.grid.canonical_affine, study.grid.canonical_affine)
