"""Prepared cohorts: what they stream, how they resume, and what they notice."""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import resource
import shutil
import signal
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats, pipeline, preprocess, records, shards

SMALL = {"divisor": 4}


@pytest.fixture
def cases(make, study_folder):
    """Three cases, each with files of three raters, one with larger slices."""
    make.study(study_folder, "Brats18_X_1_1", seed=5, shape=(16, 10, 7))
    for number, shape in enumerate([make.shape, (16, 10, 7), make.shape]):
        case_id = f"Brats18_X_{number}_1"
        for rater, ids in enumerate([(1, 2, 4), (2,), ()]):
            path = study_folder / case_id / f"{case_id}_rater{rater}.nii.gz"
            make.save(path, make.labels(ids, shape))
    return brats.find_cases(study_folder)


@pytest.fixture
def folder(cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "shards"
    shards.prepare(cases, out)
    return out


def batches(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal_streams(one, other, count=12):
    for mine, wanted in zip(batches(one, count), batches(other, count), strict=True):
        for array, expected in zip(mine, wanted, strict=True):
            assert array.dtype == expected.dtype
            assert np.array_equal(array, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True, "augment": True, "seed": 5, "repeat": True},
        {"shuffle": True, "augment": "paper", "keep_empty": 0.5, "initial_epoch": 3},
        {"raters": "random", "shuffle": True, "seed": 2, "repeat": True},
        {"raters": "mean", "augment": "mri", "batch_size": 3},
        {
            "shuffle": True,
            "empty_share": lambda epoch: 0.1 * epoch,
            "repeat": True,
            "drop_remainder": True,
            "initial_epoch": 2,
        },
        {"regions": ("TC", "WT"), "size": (20, 16)},
        {"label_scheme": "brats2018", "shuffle": True},
    ],
)
def test_shards_stream_what_the_studies_do(cases, folder, options):
    options = {**SMALL, **options}
    stored = shards.open_shards(folder)
    one, other = pipeline.slices(stored, **options), pipeline.slices(cases, **options)
    assert one.element_spec == other.element_spec
    assert one.cardinality() == other.cardinality()
    assert_equal_streams(one, other)
    settings = {"raters": options.get("raters", "label"), **SMALL}
    assert pipeline.count_slices(stored, **settings) == 13


def test_a_part_of_the_cases_streams_as_that_part_of_the_studies(cases, folder):
    # Padded to the largest of the chosen, not of all.
    chosen = shards.open_shards(folder)[::2]
    assert_equal_streams(
        pipeline.slices(chosen, **SMALL), pipeline.slices(cases[::2], **SMALL)
    )


def test_other_settings_of_preprocessing_are_kept(cases, tmp_path):
    rescaled = preprocess.Preprocessing(intensity="rescale", crop=False)
    stored = shards.prepare(
        cases, tmp_path / "out", preprocessing=rescaled, modalities=("t2f", "t1")
    )
    other = pipeline.slices(
        cases, preprocessing=rescaled, modalities=("flair", "t1"), **SMALL
    )
    assert_equal_streams(pipeline.slices(stored, **SMALL), other)
    with pytest.raises(ValueError, match=r"`intensity` must be that of the prepared"):
        pipeline.slices(stored, preprocessing=preprocess.DEFAULT)
    with pytest.raises(ValueError, match=r"`modalities` must be .*got \('t1',\)"):
        pipeline.slices(stored, modalities=("t1",))


def test_a_stored_case_knows_its_study(cases, folder):
    for case, stored in zip(cases, shards.open_shards(folder), strict=True):
        assert isinstance(stored, records.StoredCase)
        for field in dataclasses.fields(case):
            assert getattr(stored, field.name) == getattr(case, field.name)
        assert np.array_equal(stored.load().image, case.load().image)


def test_tensorflow_reads_the_records(cases, folder):
    images, masks = batches(pipeline.slices(cases[:1], **SMALL), 1)[0]
    path = folder / f"{cases[0].id}.tfrecord"
    features = {
        name: tf.io.FixedLenFeature((), tf.string)
        for name in ("case", "image", "labels", "raters")
    }
    features |= {
        "slice": tf.io.FixedLenFeature((), tf.int64),
        "shape": tf.io.FixedLenFeature((3,), tf.int64),
    }
    found = tf.data.TFRecordDataset(str(path)).map(
        lambda content: tf.io.parse_single_example(content, features)
    )
    count = 0
    for number, example in enumerate(found):
        assert example["case"] == cases[0].id.encode()
        assert example["slice"] == number
        image = tf.io.decode_raw(example["image"], tf.float16)
        image = tf.reshape(image, example["shape"])
        height, width, _ = image.shape
        assert np.array_equal(image, images[number, :height, :width])
        labels = tf.reshape(tf.io.decode_raw(example["labels"], tf.uint8), (8, 6))
        assert np.array_equal(labels > 0, masks[number, :height, :width, 0] > 0)
        assert tf.io.decode_raw(example["raters"], tf.uint8).shape == (3 * 8 * 6,)
        count += 1
    assert count == 4


def test_the_index_says_what_is_in_the_files(cases, folder):
    index = json.loads((folder / "index.json").read_text())
    assert index["modalities"] == ["flair", "t1", "t1ce", "t2"]
    assert index["preprocessing"] == dataclasses.asdict(preprocess.DEFAULT)
    first = index["cases"][0]
    assert first["case"]["id"] == cases[0].id
    assert first["shape"] == [4, 8, 6, 4]
    assert first["by_slice"]["labels"] == [[0], [0, 1, 2, 4], [0, 1, 2, 4], [0]]
    assert first["bytes"] == os.path.getsize(folder / first["file"])
    assert set(first["sources"]) == {
        *index["modalities"],
        *("labels", "rater 0", "rater 1", "rater 2"),
    }
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{case.id}.tfrecord" for case in cases),
        "index.json",
    ]


class Stopped(BaseException):
    """What ends a process, but for pytest."""


@pytest.fixture
def stopped(cases, tmp_path, monkeypatch):
    """A folder whose preparation was stopped in the second case."""
    original = records.write

    def write(path, slices):
        if slices.case_id != cases[0].id:
            raise Stopped
        return original(path, slices)

    with monkeypatch.context() as patch:
        patch.setattr(records, "write", write)
        with pytest.raises(Stopped):
            shards.prepare(cases, tmp_path / "stopped", workers=1)
    return tmp_path / "stopped"


def test_a_stopped_preparation_goes_on(cases, folder, stopped, monkeypatch):
    assert shards.is_shards(stopped)
    with pytest.raises(DataError, match="holds 1 so far.*`uqseg prepare` goes on"):
        shards.open_shards(stopped)
    written, original = [], records.write
    monkeypatch.setattr(
        records, "write", lambda path, one: written.append(path) or original(path, one)
    )
    told = []
    stored = shards.prepare(cases, stopped, progress=lambda *one: told.append(one))
    assert {path.stem for path in written} == {case.id for case in cases[1:]}
    assert told == [(2, 3), (3, 3)]
    index = "index.json"
    assert (stopped / index).read_bytes() == (folder / index).read_bytes()
    for case in stored:
        path = case.shard.path
        assert path.read_bytes() == (folder / path.name).read_bytes()
    shards.prepare(cases, stopped)
    assert len(written) == 2


def test_a_line_cut_short_when_the_process_ended_is_passed_over(cases, stopped):
    partial = stopped / "index.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-20])
    with pytest.raises(DataError, match="holds 0 so far"):
        shards.open_shards(stopped)
    assert len(shards.prepare(cases, stopped)) == 3


def test_an_unusable_case_is_named_once_the_others_are_done(cases, tmp_path):
    out = tmp_path / "out"
    content = cases[0].label_path.read_bytes()
    cases[0].label_path.write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"Case Brats18_X_0_1, file .*damaged"):
        shards.prepare(cases, out)
    assert len(list(out.glob("*.tfrecord"))) == 2
    cases[0].label_path.write_bytes(content)
    assert [case.id for case in shards.prepare(cases, out)] == [c.id for c in cases]


def test_more_cases_may_come_and_none_may_go(cases, tmp_path):
    out = tmp_path / "out"
    shards.prepare(cases[:2], out)
    assert len(shards.prepare(cases, out)) == 3
    with pytest.raises(ValueError, match=r"'Brats18_X_0_1' is missing.* or delete"):
        shards.prepare(cases[1:], out)
    (out / "Brats18_X_0_1.tfrecord").unlink()
    assert len(shards.prepare(cases[1:], out)) == 2


def test_other_settings_are_an_error_that_says_what_to_do(cases, folder):
    with pytest.raises(ValueError, match=r"`modalities` .*Choose another folder"):
        shards.prepare(cases, folder, modalities=("flair",))
    rescaled = preprocess.Preprocessing(intensity="rescale")
    with pytest.raises(ValueError, match=r"`intensity` .*'zscore'; got 'rescale'"):
        shards.prepare(cases, folder, preprocessing=rescaled)


def test_a_changed_source_is_an_error_that_says_what_to_do(cases, folder, make):
    path = cases[1].image_paths["t1"]
    make.save(path, make.image(99, (16, 10, 7)))
    with pytest.raises(
        DataError, match=r"Case Brats18_X_1_1, file .*_t1.nii.gz: its t1 .*Delete the"
    ):
        shards.prepare(cases, folder)
    (folder / "Brats18_X_1_1.tfrecord").unlink()
    stored = shards.prepare(cases, folder)
    one, other = (pipeline.slices(found, **SMALL) for found in (stored, cases))
    assert_equal_streams(one, other)


def test_a_file_of_another_time_is_another_only_if_its_content_is(cases, folder):
    for path in cases[0].image_paths.values():
        os.utime(path, (0, 0))
    assert len(shards.prepare(cases, folder)) == 3
    cases[1] = dataclasses.replace(cases[1], label_path=None)
    with pytest.raises(
        DataError, match=r"Case Brats18_X_1_1, without a file now: its lab"
    ):
        shards.prepare(cases, folder)


def test_studies_may_move(cases, folder, study_folder, tmp_path):
    place = shutil.copytree(study_folder, tmp_path / "moved", symlinks=True)
    stored = shards.prepare(brats.find_cases(place), folder)
    assert all(place in case.label_path.parents for case in stored)


def test_a_damaged_slice_is_one_error_with_case_and_file(cases, folder):
    path = folder / f"{cases[1].id}.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    stored = shards.open_shards(folder)
    with (
        pytest.raises(
            DataError, match=rf"Case {cases[1].id}, file {path}: .*slice 2 is another"
        ),
        pipeline.data_errors(),
    ):
        list(pipeline.slices(stored, **SMALL))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"file {path}"):
        list(pipeline.slices(stored, **SMALL))
    shards.prepare(cases, folder)  # looks at sizes alone
    assert path.read_bytes() == content
    stored = shards.prepare(cases, folder, check=True)
    one, other = (pipeline.slices(found, **SMALL) for found in (stored, cases))
    assert_equal_streams(one, other)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_file_cut_short_or_gone_is_noticed_at_once(cases, folder, damage):
    path = folder / f"{cases[1].id}.tfrecord"
    stored = shards.open_shards(folder)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    else:
        path.unlink()
    with pytest.raises(DataError, match=rf"Case {cases[1].id}, file {path}: .*Delete"):
        shards.open_shards(folder)
    with pytest.raises(DataError, match=rf"Case {cases[1].id}, file {path}: .*Delete"):
        stored[1].shard.read(4, "labels")
    assert len(shards.prepare(cases, folder)) == 3


def test_a_damaged_index_is_one_error(folder):
    path = folder / "index.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=rf"{path} must be as .*it is damaged"):
        shards.open_shards(folder)
    path.write_text(
        '{"kind": "uqseg shards", "format": 9, "version": "8", "cases": []}'
    )
    with pytest.raises(ValueError, match="format 1; got those of format 9"):
        shards.open_shards(folder)


def test_a_folder_of_other_things_is_left_alone(cases, study_folder):
    assert not shards.is_shards(study_folder)
    with pytest.raises(ValueError, match="holds other things"):
        shards.prepare(cases, study_folder)
    with pytest.raises(ValueError, match="must be one that `uqseg prepare` made"):
        shards.open_shards(study_folder)


def test_a_full_disk_leaves_no_half_file(cases, tmp_path):
    """As far as a limit on the size of files can stand for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
        with pytest.raises(OSError, match=r"Brats18_X_0_1.tfrecord cannot be written"):
            shards.prepare(cases[:1], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((tmp_path / "out").glob("*.tfrecord"))
    assert len(shards.prepare(cases[:1], tmp_path / "out")) == 1


def test_cases_need_labels_or_raters(cases, folder, tmp_path):
    bare = dataclasses.replace(cases[0], label_path=None, rater_paths=())
    with pytest.raises(DataError, match="Case Brats18_X_0_1: labels are needed"):
        shards.prepare([bare], tmp_path / "out")
    with pytest.raises(ValueError, match="at least one case; got none"):
        shards.prepare([], tmp_path / "out")
    with pytest.raises(ValueError, match="Brats18_X_0_1 is prepared already"):
        shards.prepare(shards.open_shards(folder), tmp_path / "out")
    with pytest.raises(ValueError, match="`workers` must be a whole number above 0"):
        shards.prepare(cases, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


def test_cases_with_raters_alone_have_no_labels_to_stream(cases, tmp_path):
    unlabelled = [dataclasses.replace(case, label_path=None) for case in cases]
    stored = shards.prepare(unlabelled, tmp_path / "out")
    one, other = (
        pipeline.slices(found, raters="mean", **SMALL) for found in (stored, cases)
    )
    assert_equal_streams(one, other)
    with pytest.raises(DataError, match="Case Brats18_X_0_1: labels are needed"):
        pipeline.slices(stored, **SMALL)


def test_regions_are_kept_and_may_be_others_when_training(make, tmp_path):
    for number in range(2):
        make.study(tmp_path / "in", f"TCGA_{number}", ids=(number,))
    cases = brats.find_cases(tmp_path / "in")
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match=r"told more.*regions=\(\"tumour\",\)"):
        stored = shards.prepare(cases, out)
    with pytest.raises(DataError, match="0 and 1 alone"):
        pipeline.slices(stored, **SMALL)
    with pytest.raises(DataError, match="0 and 1 alone"):
        shards.prepare(cases, out, regions=("WT",))
    stored = shards.prepare(cases, out, regions=("tumour",))
    other = pipeline.slices(cases, regions=("tumour",), **SMALL)
    assert_equal_streams(pipeline.slices(stored, **SMALL), other)
    options = {"regions": ("WT",), "label_scheme": "brats2018", **SMALL}
    other = pipeline.slices(cases, **options)
    assert_equal_streams(pipeline.slices(stored, **options), other)


def test_ids_beyond_255_are_kept(make, tmp_path):
    place = make.study(tmp_path / "in", "own_A")
    ids = 1000 * make.labels((1,)).astype(np.int16)
    make.save(place / "own_A_seg.nii.gz", ids)
    cases = brats.find_cases(tmp_path / "in")
    stored = shards.prepare(cases, tmp_path / "out", regions=("tumour",))
    other = pipeline.slices(cases, regions=("tumour",), **SMALL)
    assert batches(other, 1)[0][1].sum() == 4
    assert_equal_streams(pipeline.slices(stored, **SMALL), other)


def test_a_label_scheme_may_be_given_when_training_or_before(make, tmp_path):
    make.study(tmp_path / "in", "own_A", ids=(1, 2, 4))
    out = tmp_path / "out"
    find = functools.partial(brats.find_cases, tmp_path / "in")
    shards.prepare(find(), out)
    (stored,) = shards.open_shards(out, label_scheme="brats2018")
    assert (stored.label_scheme, stored.scheme_given) == ("brats2018", True)
    shards.prepare(find(label_scheme="brats2018"), out)
    assert shards.open_shards(out, label_scheme="brats2018")[0].scheme_given
    with pytest.raises(ValueError, match="`label_scheme` must be .*'brats2018'; got"):
        shards.open_shards(out, label_scheme="binary")


def test_streaming_holds_no_slice_and_no_file(cases, folder, make, tmp_path):
    """Twice as many studies, the same memory and open files."""
    peaks = {}
    for count in (4, 16):
        place = tmp_path / f"in{count}"
        for number in range(count):
            make.study(place, f"Brats18_X_{number}_1", seed=number, shape=(64, 64, 12))
        stored = shards.prepare(brats.find_cases(place), tmp_path / f"out{count}")
        cohort = pipeline.gather(stored)
        size = sum(os.path.getsize(case.shard.path) for case in stored)
        opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else 0
        gc.collect()
        tracemalloc.start()
        for number in range(cohort.num_slices):
            cohort.example(number)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peaks[count] < size / 4
        if opened:
            assert len(os.listdir("/proc/self/fd")) == opened
    assert peaks[16] < 1.2 * peaks[4]


@pytest.mark.real
def test_real_studies_stream_as_from_memory(real_data, tmp_path):
    cases = brats.find_cases(real_data / "brats")[:2]
    stored = shards.prepare(cases, tmp_path / "out")
    options = {"shuffle": True, "augment": True, "seed": 3, "repeat": True}
    other = pipeline.slices(cases, **options)
    assert_equal_streams(pipeline.slices(stored, **options), other, count=40)
    assert stored[0].shard.is_whole()
