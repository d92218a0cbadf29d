from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import augment, brats, pipeline, preprocess, splits
from tfp_uqseg.data import cohort as cohort_module

SMALL = {"regions": ("WT", "TC", "ET"), "divisor": 4}


@pytest.fixture
def cases(study_folder):
    return brats.find_cases(study_folder)


def rows(dataset):
    """All slices of one pass, one array each of images and masks."""
    images, masks = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(masks)


def test_slices_are_those_of_the_prepared_studies(cases):
    images, masks = rows(pipeline.slices(cases, **SMALL))
    assert images.shape == (12, 8, 8, 4)
    assert masks.shape == (12, 8, 8, 3)
    assert images.dtype == masks.dtype == np.float32
    for number, case in enumerate(cases):
        prepared = preprocess.prepare(case.load())
        for z in range(4):
            image, mask = images[4 * number + z], masks[4 * number + z]
            # float16 keeps three digits of a z-score.
            assert np.allclose(image[:, :6], prepared.image[:, :, z], atol=2e-3)
            assert np.array_equal(mask[:, :6], prepared.mask[:, :, z])
            assert not image[:, 6:].any()
            assert not mask[:, 6:].any()


def test_the_data_set_knows_shapes_and_number_of_batches(cases):
    dataset = pipeline.slices(cases, batch_size=5, **SMALL)
    image, mask = dataset.element_spec
    assert image.shape.as_list() == [None, 8, 8, 4]
    assert mask.shape.as_list() == [None, 8, 8, 3]
    assert dataset.cardinality() == 3
    dropped = pipeline.slices(cases, batch_size=5, drop_remainder=True, **SMALL)
    assert dropped.cardinality() == 2 == len(list(dropped))
    assert pipeline.count_slices(cases, **SMALL) == 12


def test_too_few_slices_for_a_batch_are_an_error_and_no_endless_wait(cases):
    settings = {"drop_remainder": True, "repeat": True, **SMALL}
    with pytest.raises(ValueError, match="12 slices are fewer than a `batch_size`"):
        pipeline.slices(cases, batch_size=13, **settings)
    image, _ = next(iter(pipeline.slices(cases, batch_size=12, **settings)))
    assert image.shape[0] == 12


def test_slices_without_brain_are_left_out(cases):
    whole = preprocess.Preprocessing(crop=False)
    images, _ = rows(pipeline.slices(cases, preprocessing=whole, **SMALL))
    assert images.shape == (12, 12, 12, 4)
    assert images.any(axis=(1, 2, 3)).all()


def test_studies_of_different_size_are_padded_to_one(make, tmp_path):
    make.study(tmp_path, "Brats18_A_1", shape=(12, 10, 6))
    make.study(tmp_path, "Brats18_B_1", shape=(16, 10, 5))
    # The affine of the helper fits any shape: only agreement within a case counts.
    images, _ = rows(pipeline.slices(brats.find_cases(tmp_path), **SMALL))
    assert images.shape == (4 + 3, 12, 8, 4)
    assert not images[:4, 8:].any()


def test_a_size_may_be_given_and_must_hold_the_slices(cases):
    images, _ = rows(pipeline.slices(cases, size=(12, 16), **SMALL))
    assert images.shape[1:3] == (12, 16)
    with pytest.raises(ValueError, match=r"Brats18_X_0_1 needs \(8, 6\).*got \(8, 4\)"):
        pipeline.slices(cases, size=(8, 4), **SMALL)
    with pytest.raises(ValueError, match=r"multiples of `divisor`, 4; got \(9, 8\)"):
        pipeline.slices(cases, size=(9, 8), **SMALL)


def test_shuffling_keeps_the_slices_and_is_new_each_epoch(cases):
    plain, _ = rows(pipeline.slices(cases, **SMALL))
    dataset = pipeline.slices(cases, shuffle=True, seed=1, **SMALL)
    first, second = rows(dataset)[0], rows(dataset)[0]
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert sorted(i.tobytes() for i in epoch) == sorted(i.tobytes() for i in plain)


def test_masks_stay_with_their_images(cases):
    """Voxel by voxel: an intensity meets the mask that it had before the turn."""
    plain = rows(pipeline.slices(cases, **SMALL))
    moved = rows(pipeline.slices(cases, shuffle=True, augment=True, seed=1, **SMALL))
    pairs = [
        sorted(
            np.concatenate([image, mask], axis=-1).reshape(-1, 7).tolist()
            for image, mask in zip(*part, strict=True)
        )
        for part in (plain, moved)
    ]
    voxels = [sorted(map(tuple, np.concatenate(part).tolist())) for part in pairs]
    assert voxels[0] == voxels[1]
    assert not np.array_equal(plain[1], moved[1])


@pytest.mark.parametrize("name", ["paper", "mri"])
def test_a_named_augmentation_depends_on_seed_and_epoch_alone(cases, name):
    options = {"shuffle": True, "augment": name, **SMALL}
    plain = rows(pipeline.slices(cases, shuffle=True, seed=5, **SMALL))
    one = pipeline.slices(cases, seed=5, **options)
    epochs = [rows(one) for _ in range(2)]
    later = rows(pipeline.slices(cases, seed=5, initial_epoch=1, **options))
    for expected, found in zip(epochs[1], later, strict=True):
        assert np.array_equal(expected, found)
    assert not np.array_equal(epochs[0][0], plain[0])
    assert epochs[0][0].shape == plain[0].shape
    assert set(np.unique(epochs[0][1])) <= {0.0, 1.0}


def test_an_augmentation_may_be_given_in_every_form(cases):
    def first(value):
        return rows(pipeline.slices(cases, augment=value, seed=5, **SMALL))[0]

    own = augment.Augmentation(rotation_range=20, noise=0.1)
    assert np.array_equal(first(own), first({"rotation_range": 20, "noise": 0.1}))
    assert np.array_equal(first(True), first("flips"))
    assert np.array_equal(first(False), first(None))
    assert np.array_equal(first(None), first("none"))
    assert not np.array_equal(first(own), first(True))
    with pytest.raises(ValueError, match="`augment` must be one of True, False"):
        first("heavy")


def test_everything_random_depends_on_seed_and_epoch_alone(cases):
    options = {"shuffle": True, "augment": True, "keep_empty": 0.5, **SMALL}
    one = pipeline.slices(cases, seed=5, **options)
    epochs = [rows(one) for _ in range(3)]
    resumed = pipeline.slices(cases, seed=5, initial_epoch=2, **options)
    for expected, found in zip(epochs[2], rows(resumed), strict=True):
        assert np.array_equal(expected, found)
    other = rows(pipeline.slices(cases, seed=6, **options))
    assert not np.array_equal(other[0], epochs[0][0])


def test_the_batch_size_does_not_change_the_stream(cases):
    options = {"shuffle": True, "augment": True, "seed": 5, **SMALL}
    for one, other in zip(
        rows(pipeline.slices(cases, batch_size=1, **options)),
        rows(pipeline.slices(cases, batch_size=7, **options)),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_repeating_goes_through_the_same_epochs(cases):
    options = {"shuffle": True, "augment": True, "seed": 5, "batch_size": 5, **SMALL}
    once = pipeline.slices(cases, **options)
    expected = [batch for _ in range(3) for batch in once.as_numpy_iterator()]
    endless = pipeline.slices(cases, repeat=True, **options)
    for one, other in zip(endless.as_numpy_iterator(), expected, strict=False):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
    later = pipeline.slices(cases, repeat=True, initial_epoch=2, **options)
    assert np.array_equal(next(later.as_numpy_iterator())[0], expected[6][0])


def test_an_unshuffled_stream_keeps_its_order_and_choice_of_slices(cases):
    dataset = pipeline.slices(cases, keep_empty=0.5, seed=3, **SMALL)
    assert np.array_equal(rows(dataset)[0], rows(dataset)[0])


def test_training_sees_each_epoch_once(cases):
    """`fit` asks for one iterator more than it has epochs; none may be skipped."""
    seen = []

    class Watch(tf_keras.Model):
        def train_step(self, data):
            tf.py_function(lambda x: seen.append(x.numpy()), [data[0]], [])
            return {"loss": tf.constant(0.0)}

    options = {"shuffle": True, "seed": 5, "batch_size": 12, **SMALL}
    model = Watch()
    model.compile()
    model.fit(pipeline.slices(cases, **options), epochs=3, verbose=0)
    again = pipeline.slices(cases, **options)
    expected = [rows(again)[0] for _ in range(3)]
    assert len(seen) == 3
    for one, other in zip(seen, expected, strict=True):
        assert np.array_equal(one, other)


def test_some_slices_without_tumour_may_be_left_out(cases):
    # Two of the four slices of each study have tumour.
    dataset = pipeline.slices(cases, keep_empty=0.5, shuffle=True, **SMALL)
    for _ in range(2):
        _, masks = rows(dataset)
        has_tumour = masks.any(axis=(1, 2, 3))
        assert (has_tumour.sum(), (~has_tumour).sum()) == (6, 3)
    assert dataset.cardinality() == 2
    assert pipeline.count_slices(cases, keep_empty=0, **SMALL) == 6
    with pytest.raises(ValueError, match=r"`keep_empty` must lie in 0\.\.1; got 1.5"):
        pipeline.slices(cases, keep_empty=1.5, **SMALL)


def test_no_tumour_and_no_empty_slices_is_an_error(make, tmp_path):
    make.study(tmp_path, "Brats18_A_1", ids=())
    with pytest.raises(ValueError, match="`keep_empty` must leave some slices"):
        pipeline.slices(brats.find_cases(tmp_path), keep_empty=0, **SMALL)


@pytest.fixture
def rated(make, tmp_path):
    place = make.study(tmp_path, "phantom_0")
    for number, ids in enumerate([(1, 2, 4), (2,), (2, 2), ()]):
        path = place / f"phantom_0_rater{number}.nii.gz"
        make.save(path, make.labels(ids))
    return brats.find_cases(tmp_path)


def test_the_mean_of_raters_is_the_share_that_mark_a_voxel(rated):
    _, masks = rows(pipeline.slices(rated, raters="mean", **SMALL))
    raters = rated[0].load_raters()
    share = (raters > 0).mean(axis=-1)[2:10, 2:8, 1:5]
    assert np.allclose(masks[:, :, :6, 0], np.moveaxis(share, 2, 0))


def test_a_rater_is_drawn_for_each_slice_in_each_epoch(rated):
    dataset = pipeline.slices(rated, raters="random", seed=1, **SMALL)
    raters = rated[0].load_raters()[2:10, 2:8, 1:5] > 0
    drawn = set()
    for _ in range(12):
        _, masks = rows(dataset)
        for z in range(4):
            mask = masks[z, :, :6, 0] > 0
            same = [np.array_equal(mask, raters[:, :, z, r]) for r in range(4)]
            assert any(same)
            drawn.add((z, tuple(same)))
    # The raters differ in the two middle slices only.
    assert len(drawn) == 1 + 4 + 4 + 1


def test_raters_need_no_labels_but_labels_need_a_file(rated):
    rated[0].label_path.unlink()
    cases = [dataclasses.replace(rated[0], label_path=None)]
    assert pipeline.count_slices(cases, raters="mean", **SMALL) == 4
    with pytest.raises(DataError, match="Case phantom_0: labels are needed"):
        pipeline.slices(cases, **SMALL)


def test_raters_that_are_not_there_are_an_error(cases):
    with pytest.raises(DataError, match="Brats18_X_0_1: files of several raters"):
        pipeline.slices(cases, raters="random", **SMALL)
    with pytest.raises(ValueError, match="`raters` must be one of 'label'"):
        pipeline.slices(cases, raters="all", **SMALL)


def test_two_naming_years_share_a_stream(make, tmp_path):
    make.study(tmp_path, "BraTS2021_00001")
    names = ("t2f", "t1n", "t1c", "t2w")
    make.study(
        tmp_path, "BraTS-GLI-00000-000", names=names, separator="-", ids=(1, 2, 3)
    )
    _, masks = rows(pipeline.slices(brats.find_cases(tmp_path), **SMALL))
    assert np.array_equal(masks[:4], masks[4:])


def test_binary_masks_are_tumour(make, tmp_path):
    for number in range(2):
        ids = (1,) if number else ()
        make.study(tmp_path, f"TCGA_{number}", ids=ids, names=("flair", "t1"))
    cases = brats.find_cases(tmp_path)
    _, masks = rows(pipeline.slices(cases, regions=("tumour",), divisor=4))
    assert masks.shape[-1] == 1
    assert masks.sum() == 4
    with pytest.raises(DataError, match=r"0 and 1 alone.*regions=\(\"tumour\",\)"):
        pipeline.slices(cases, regions=("WT", "TC", "ET"), divisor=4)
    with pytest.raises(DataError, match="0 and 1 alone"):
        pipeline.slices(cases, divisor=4)
    _, whole = rows(
        pipeline.slices(cases, regions=("WT",), label_scheme="brats2018", divisor=4)
    )
    assert np.array_equal(whole, masks)


def test_a_binary_cohort_named_like_brats_is_noticed(make, tmp_path):
    make.study(tmp_path, "Brats18_A_1", ids=(1,))
    make.study(tmp_path, "Brats18_B_1", ids=())
    with pytest.raises(DataError, match="0 and 1 alone"):
        pipeline.slices(brats.find_cases(tmp_path), **SMALL)


def test_one_odd_case_does_not_make_a_cohort_binary(make, tmp_path):
    make.study(tmp_path, "own_A", ids=(1,))
    make.study(tmp_path, "own_B", ids=(1, 2, 4))
    _, masks = rows(pipeline.slices(brats.find_cases(tmp_path), **SMALL))
    assert masks[:4, ..., 1].sum() == 4


def test_binary_masks_of_255_are_tumour(make, tmp_path):
    make.study(tmp_path, "own_A", ids=(255,))
    cases = brats.find_cases(tmp_path)
    _, masks = rows(pipeline.slices(cases, regions=("tumour",), divisor=4))
    assert masks.sum() == 4


def test_a_cohort_is_read_once_and_streamed_often(cases, monkeypatch):
    told = []
    cohort = pipeline.gather(
        cases, progress=lambda done, total: told.append((done, total)), **SMALL
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert cohort.label_schemes == ("brats2018",) * 3
    assert cohort.size == (8, 8)
    for case in cases:
        case.label_path.unlink()
    assert len(rows(pipeline.slices(cohort))[0]) == pipeline.count_slices(cohort) == 12
    with pytest.raises(ValueError, match=r"`regions` must be left out or be that"):
        pipeline.slices(cohort, regions=("WT",))


def test_images_may_stay_in_files(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cohort = pipeline.gather(cases, cache=False, **SMALL)
    in_memory = rows(pipeline.slices(cases, **SMALL))
    for one, other in zip(rows(pipeline.slices(cohort)), in_memory, strict=True):
        assert np.array_equal(one, other)
    assert isinstance(cohort.volumes[0], cohort_module.StoredVolume)


def test_a_file_goes_with_the_last_cohort_that_shares_it(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cohort = pipeline.gather(cases, cache=False, **SMALL)
    assert len(list(tmp_path.glob("uqseg-slices-*/*.tfrecord"))) == 3
    part = dataclasses.replace(cohort, volumes=cohort.volumes[:1])
    del cohort
    gc.collect()
    assert part.volumes[0].read(0)[0].max() > 0
    assert len(list(tmp_path.glob("uqseg-slices-*/*.tfrecord"))) == 1
    del part
    gc.collect()
    assert not list(tmp_path.glob("uqseg-slices-*"))


def test_files_go_when_the_process_ends(cases, tmp_path):
    """Whatever TensorFlow still holds of a data set that read them."""
    script = """
import pathlib, sys, tempfile
from tfp_uqseg.data import brats, pipeline
tempfile.tempdir = sys.argv[2]
stream = pipeline.slices(brats.find_cases(sys.argv[1]), cache=False)
next(iter(stream))
print(len(list(pathlib.Path(sys.argv[2]).glob("uqseg-slices-*/*.tfrecord"))))
"""
    folder = cases[0].label_path.parents[1]
    command = [sys.executable, "-c", script, str(folder), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) == 3
    assert not list(tmp_path.glob("uqseg-slices-*"))


def test_an_epoch_may_hold_fewer_empty_slices_and_keeps_its_length(cases):
    shares = [0.0, 0.25, 1.0]
    dataset = pipeline.slices(
        cases,
        shuffle=True,
        augment=True,
        empty_share=lambda epoch: shares[epoch],
        **SMALL,
    )
    empty = []
    for _ in shares:
        images, masks = rows(dataset)
        assert len(images) == 12
        empty.append(np.mean(~masks.any(axis=(1, 2, 3))))
    assert empty == pytest.approx([0.0, 0.25, 0.5])  # half of the slices are empty


def test_a_slice_that_comes_twice_is_moved_otherwise(cases):
    dataset = pipeline.slices(
        cases[:1], augment=True, seed=1, empty_share=lambda epoch: 0.0, **SMALL
    )
    images, masks = rows(dataset)
    assert masks.any(axis=(1, 2, 3)).all()
    assert len({image.tobytes() for image in images}) > 2  # of two slices


def test_the_case_with_the_odd_label_is_named(make, study_folder):
    make.study(study_folder, "Brats18_X_9_1", ids=(1, 2, 7))
    with pytest.raises(DataError, match=r"Case Brats18_X_9_1, file .*X_9_1_seg"):
        pipeline.gather(brats.find_cases(study_folder), **SMALL)


def test_conventions_of_two_years_do_not_mix(make, tmp_path):
    for number, ids in enumerate([(1, 2, 3), (1, 2, 4)]):
        make.study(
            tmp_path,
            f"BraTS-GLI-0000{number}-000",
            names=("t2f", "t1n", "t1c", "t2w"),
            separator="-",
            ids=ids,
        )
    with pytest.raises(DataError, match=r"Case BraTS-GLI-00001-000.* 4 but not 3"):
        pipeline.gather(brats.find_cases(tmp_path), **SMALL)


def test_a_failed_reading_leaves_no_files(cases, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cases[2].label_path.write_bytes(b"")
    with pytest.raises(DataError, match="Case Brats18_X_2_1"):
        pipeline.slices(cases, cache=False, **SMALL)
    assert not list(tmp_path.glob("uqseg-slices-*"))


def test_modalities_come_in_the_order_asked_for(cases):
    plain, _ = rows(pipeline.slices(cases, **SMALL))
    turned, _ = rows(pipeline.slices(cases, modalities=("t2", "flair"), **SMALL))
    assert np.array_equal(turned, plain[..., [3, 0]])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number above 0"),
        ({"divisor": 0}, "`divisor` must be a whole number above 0"),
        ({"seed": -1}, "`seed` must be a whole number, 0 or more; got -1"),
        ({"initial_epoch": 1.5}, "`initial_epoch` must be a whole number"),
        ({"regions": ("WT", "edema")}, "`regions` must be among"),
        ({"label_scheme": "brats"}, "`label_scheme` must be one of"),
    ],
)
def test_arguments_are_checked(option, message, cases):
    with pytest.raises(ValueError, match=message):
        pipeline.slices(cases, **{**SMALL, **option})


def test_no_cases_are_an_error():
    with pytest.raises(ValueError, match="`cases` must hold at least one case"):
        pipeline.slices([])


def test_a_volume_becomes_slices_and_comes_back(cases):
    prepared = preprocess.prepare(cases[0].load())
    images = pipeline.volume_slices(prepared)
    assert images.shape == (4, 8, 6, 4)
    assert images.flags.c_contiguous
    assert np.array_equal(images[2], prepared.image[:, :, 2])
    assert np.array_equal(pipeline.from_slices(images, prepared), prepared.image)
    padded = np.pad(images, ((0, 0), (0, 8), (0, 10), (0, 0)))
    assert np.array_equal(pipeline.from_slices(padded, prepared), prepared.image)
    with pytest.raises(ValueError, match=r"4 slices of at least \(8, 6\) voxels"):
        pipeline.from_slices(images[1:], prepared)


def test_maps_of_slices_go_back_onto_the_grid_of_the_scan(cases):
    study = cases[0].load()
    prepared = preprocess.prepare(study)
    padded = np.pad(pipeline.volume_slices(prepared), ((0, 0), (0, 8), (0, 9), (0, 0)))
    found = pipeline.on_scan_grid(padded, prepared, fill=-1)
    assert found.shape == study.image.shape
    assert np.array_equal(found[prepared.box], prepared.image)
    outside = np.ones(study.image.shape[:3], bool)
    outside[prepared.box] = False
    assert outside.any()
    assert np.all(found[outside] == -1)


@pytest.mark.real
def test_real_studies_stream_faster_than_a_network_learns(real_data):
    cases = splits.select(
        brats.find_cases(real_data / "brats"),
        ("Brats18_2013_20_1", "Brats18_TCIA03_265_1"),
    )
    cohort = pipeline.gather(cases, regions=("WT", "TC", "ET"))
    dataset = pipeline.slices(cohort, shuffle=True, augment=True)
    assert cohort.size[0] % 16 == cohort.size[1] % 16 == 0
    assert cohort.num_slices == 146 + 128
    start = time.perf_counter()
    number = sum(len(image) for image, _ in dataset)
    assert number == cohort.num_slices
    assert (time.perf_counter() - start) / number < 0.02  # seconds; 0.001 when idle
