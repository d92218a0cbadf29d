from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats, nifti, preprocess
from tfp_uqseg.data import case as case_module

RESCALE = preprocess.Preprocessing("rescale")


def study_of(image, labels=None, scheme="brats2018"):
    image = np.asarray(image, np.float32)
    grid = nifti.Grid.from_affine(image.shape[:3], np.eye(4))
    names = ("flair", "t1", "t1ce", "t2")[: image.shape[-1]]
    if labels is not None:
        labels = np.asarray(labels, np.int16)
    return case_module.Study("X", image, labels, names, grid, scheme)


@pytest.fixture
def study(make):
    image = np.stack([make.image(channel) for channel in range(4)], -1)
    return study_of(image, make.labels((1, 2, 4)))


def test_the_box_is_the_smallest_around_the_brain(study):
    prepared = preprocess.prepare(study)
    assert prepared.box == (slice(2, 10), slice(2, 8), slice(1, 5))
    assert prepared.image.shape == (8, 6, 4, 4)
    assert prepared.mask.shape == (8, 6, 4, 3)
    assert prepared.brain.all()
    assert prepared.shape == (12, 10, 6)


def test_brain_is_where_any_modality_is_not_zero():
    image = np.zeros((6, 6, 6, 2))
    image[1:3, 1:3, 1:3, 0] = np.arange(1, 9).reshape(2, 2, 2)
    image[3:5, 1:3, 1:3, 1] = np.arange(1, 9).reshape(2, 2, 2)
    prepared = preprocess.prepare(study_of(image))
    assert prepared.box[0] == slice(1, 5)
    assert prepared.brain.sum() == 16
    assert prepared.mask is None
    assert prepared.regions is None


def test_without_cropping_the_box_is_the_grid(study):
    prepared = preprocess.prepare(
        study, preprocessing=preprocess.Preprocessing(crop=False)
    )
    assert prepared.image.shape == study.image.shape
    assert np.array_equal(preprocess.restore(prepared.labels, prepared), study.labels)


def test_z_scores_have_mean_0_and_deviation_1_over_the_modalitys_own_voxels(study):
    study.image[2:4, ..., 0] = 0  # a field of view that ends inside the brain
    prepared = preprocess.prepare(study)
    for channel in range(4):
        raw = study.image[prepared.box][..., channel]
        values = raw[raw != 0].astype(float)
        expected = (values - values.mean()) / values.std()
        assert np.allclose(prepared.image[..., channel][raw != 0], expected, atol=1e-5)
    assert not prepared.image[:2, ..., 0].any()


def head_in_air(margin):
    """A bright cube whose surroundings hold noise, zeros among it."""
    rng = np.random.default_rng(3)
    side = 12 + 2 * margin
    image = rng.integers(0, 4, (side, side, side, 1)).astype(float)
    inside = slice(margin, margin + 12)
    head = np.random.default_rng(4).integers(60, 140, (12, 12, 12))
    image[inside, inside, inside, 0] = head
    return image, inside


def test_how_much_air_is_in_the_picture_does_not_change_the_scores_of_the_head():
    scores = []
    for margin in (3, 8):
        image, inside = head_in_air(margin)
        prepared = preprocess.prepare(study_of(image))
        head = prepared.image[inside, inside, inside, 0]
        assert abs(head.mean()) < 1e-5
        assert abs(head.std() - 1) < 1e-5
        scores.append(head)
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_air_that_is_not_zero_has_no_speckles_of_zeros():
    image, inside = head_in_air(4)
    prepared = preprocess.prepare(study_of(image))
    outside = np.ones(image.shape[:3], bool)
    outside[inside, inside, inside] = False
    air = prepared.image[outside]
    assert air.max() - air.min() < 0.2
    assert air.max() < prepared.image[inside, inside, inside].min()
    assert not prepared.brain[image[..., 0] == 0].any()
    assert np.array_equal(np.rint(preprocess.undo_intensity(prepared)), image)


def test_scores_of_someone_else_have_no_air():
    image = np.random.default_rng(0).normal(size=(8, 8, 8, 1))
    prepared = preprocess.prepare(study_of(image))
    assert abs(prepared.image.mean()) < 1e-6
    assert abs(prepared.image.std() - 1) < 1e-6


def test_z_scores_are_clipped(study):
    study.image[5, 5, 3, 1] = 1e6
    prepared = preprocess.prepare(study)
    assert prepared.image.max() == 5
    narrow = preprocess.prepare(study, preprocessing=preprocess.Preprocessing(clip=1.0))
    assert (narrow.image.min(), narrow.image.max()) == (-1, 1)


def test_rescaling_maps_to_zero_and_one(study):
    image = preprocess.prepare(study, preprocessing=RESCALE).image
    raw = study.image[2:10, 2:8, 1:5, 0]
    assert image.min() >= 0
    assert image.max() == 1
    top = np.percentile(raw[raw != 0], 99.9)
    assert np.allclose(image[..., 0], np.minimum(raw / top, 1), atol=1e-6)


def test_a_modality_with_values_below_zero_keeps_its_background_at_zero():
    image = np.zeros((4, 4, 4, 1))
    image[1:3, 1:3, 1:3, 0] = np.array([-2, -1, 1, 2, 3, 4, 5, 6]).reshape(2, 2, 2)
    no_crop = preprocess.Preprocessing("rescale", crop=False)
    prepared = preprocess.prepare(study_of(image), preprocessing=no_crop)
    assert prepared.image[0].max() == 0
    assert np.allclose(preprocess.undo_intensity(prepared), image, atol=1e-5)


@pytest.mark.parametrize("preprocessing", [preprocess.DEFAULT, RESCALE])
def test_intensities_come_back_exactly_clipped_ones_too(preprocessing, study):
    study.image[5, 5, 3, 1] = 30000
    study.image[2:4, ..., 0] = 0
    prepared = preprocess.prepare(study, preprocessing=preprocessing)
    again = np.rint(preprocess.undo_intensity(prepared))
    assert np.array_equal(preprocess.restore(again, prepared), study.image)


def test_an_image_without_background_is_told():
    rng = np.random.default_rng(0)
    air = study_of(rng.integers(1, 9, (40, 40, 40, 1)).astype(np.float32))
    with pytest.warns(UserWarning, match=r"Case .*100\.0% of the voxels are not 0"):
        preprocess.prepare(air)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_restoring_is_the_exact_inverse_of_the_crop(data):
    shape = data.draw(st.tuples(*[st.integers(2, 7)] * 3))
    seed = data.draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    image = np.zeros((*shape, 1))
    inside = tuple(
        slice(a := rng.integers(0, n - 1), rng.integers(a + 2, n + 1)) for n in shape
    )
    image[inside] = rng.random(image[inside].shape) + 0.5
    prepared = preprocess.prepare(study_of(image))
    assert prepared.box == inside
    for extra in ((), (3,), (2, 4)):
        array = rng.random((*prepared.brain.shape, *extra))
        full = preprocess.restore(array, prepared, fill=-1)
        assert full.shape == (*shape, *extra)
        assert np.array_equal(full[prepared.box], array)
        full[prepared.box] = -1
        assert np.all(full == -1)


def test_restoring_keeps_the_type_and_needs_the_box(study):
    prepared = preprocess.prepare(study)
    assert preprocess.restore(prepared.mask, prepared).dtype == np.uint8
    with pytest.raises(ValueError, match=r"`array` must have the shape \(8, 6, 4\)"):
        preprocess.restore(study.labels, prepared)


def test_labels_do_not_change_the_image_or_the_box(study):
    without = preprocess.prepare(dataclasses.replace(study, labels=None))
    study.labels[0, 0, 0] = 4
    prepared = preprocess.prepare(study)
    assert prepared.box == without.box
    assert np.array_equal(prepared.image, without.image)


def test_labels_outside_the_brain_but_in_the_box_stay(study):
    study.image[5, 5, 3] = 0
    study.labels[5, 5, 3] = 4
    prepared = preprocess.prepare(study)
    assert not prepared.brain[3, 3, 2]
    assert prepared.mask[3, 3, 2].all()


def test_masks_follow_the_regions_asked_for(study):
    prepared = preprocess.prepare(study, regions=("ET",))
    assert prepared.regions == ("ET",)
    assert prepared.label_scheme == "brats2018"
    assert prepared.mask.sum() == 4


def test_the_study_is_left_as_it_was(study):
    before = study.image.copy()
    preprocess.prepare(study)
    assert np.array_equal(study.image, before)


def test_binary_masks_need_their_region():
    image = np.arange(1, 28).reshape(3, 3, 3, 1)
    labels = np.zeros((3, 3, 3), int)
    labels[1, 1, 1] = 1
    study = study_of(image, labels, scheme=None)
    assert preprocess.prepare(study, regions=("tumour",)).label_scheme == "binary"
    with pytest.raises(DataError, match=r'Case X.*regions=\("tumour",\)'):
        preprocess.prepare(study, regions=("WT", "TC", "ET"))
    with pytest.raises(DataError, match=r"label_scheme="):
        preprocess.prepare(study)


def test_a_modality_without_contrast_is_an_error(study):
    study.image[..., 2] = (study.image[..., 2] != 0) * 7
    with pytest.raises(DataError, match=r"Case X, modality 't1ce': must have contrast"):
        preprocess.prepare(study)
    study.image[..., 2] = 0
    with pytest.raises(DataError, match="its 0 voxels above background"):
        preprocess.prepare(study)


def test_a_study_of_zeros_is_an_error():
    with pytest.raises(DataError, match=r"Case X.*must have contrast"):
        preprocess.prepare(study_of(np.zeros((3, 3, 3, 1))))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"intensity": "log"}, "`intensity` must be one of 'zscore', 'rescale'"),
        ({"clip": 0}, "`clip` must be finite and above 0; got 0"),
        ({"clip": float("inf")}, "`clip` must be finite"),
        ({"crop": "yes"}, "`crop` must be True or False; got 'yes'"),
    ],
)
def test_choices_are_checked(choice, message):
    with pytest.raises(ValueError, match=message):
        preprocess.Preprocessing(**choice)


@pytest.mark.real
@pytest.mark.parametrize("preprocessing", [preprocess.DEFAULT, RESCALE])
def test_a_real_study_comes_back_exactly(preprocessing, real_data):
    # In this study the field of view of FLAIR ends inside the brain.
    cases = {case.id: case for case in brats.find_cases(real_data / "brats")}
    study = cases["Brats18_2013_20_1"].load()
    prepared = preprocess.prepare(study, preprocessing=preprocessing)
    again = np.rint(preprocess.undo_intensity(prepared))
    assert np.array_equal(preprocess.restore(again, prepared), study.image)
    assert np.array_equal(preprocess.restore(prepared.labels, prepared), study.labels)
    outside = prepared.foreground[..., 0] == 0
    assert not prepared.image[..., 0][outside].any()
    assert prepared.mask[..., 0][outside].sum() >= 481
