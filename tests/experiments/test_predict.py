"""Many studies with the network of a run: which, again, and what goes wrong."""

from __future__ import annotations

import dataclasses

import pytest

from tfp_uqseg import models, serving
from tfp_uqseg._checks import DataError
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import predict, runs
from tfp_uqseg.experiments.config import TrainConfig

REGIONS = ("WT", "TC", "ET")
SETTINGS = TrainConfig(
    method="flipout",
    regions=REGIONS,
    modalities=("flair", "t1", "t1ce", "t2"),
    label_scheme="brats2018",
)


def write_run(folder, *, test=("case_2",), **changes):
    """A run folder with an untrained network."""
    settings = dataclasses.replace(SETTINGS, **changes)
    run = runs.create(folder)
    runs.write_start(run, settings, splits.Split(("case_0",), ("case_1",), test))
    model = models.build(
        settings.method,
        input_shape=(None, None, len(settings.modalities)),
        num_regions=len(settings.regions),
        num_train_examples=1,
        base_filters=2,
        depth=2,
        seed=settings.seed,
    )
    model.save(run.model)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run")


def identities(cases):
    return [case.id for case in cases]


def test_cases_that_the_run_has_not_seen_are_chosen(run, phantom_cases, capsys):
    new = dataclasses.replace(phantom_cases[0], id="new")
    chosen = predict.choose([*phantom_cases, new], run.folder)
    assert identities(chosen) == ["case_2", "new"]
    assert "the 2 cases that the run has not seen" in capsys.readouterr().err


def test_all_cases_are_chosen_where_the_run_has_seen_all(run, phantom_cases, capsys):
    chosen = predict.choose(phantom_cases[:2], run.folder)
    assert identities(chosen) == ["case_0", "case_1"]
    assert "all 2 cases, which the run was trained" in capsys.readouterr().err


def test_cases_are_chosen_by_id_split_and_part(run, phantom_cases):
    def choose(**options):
        return identities(predict.choose(phantom_cases, run.folder, **options))

    assert choose(case_ids=["case_1", "case_0", "case_1"]) == ["case_1", "case_0"]
    assert choose(part="validation") == ["case_1"]
    split = splits.Split(("case_2",), (), ("case_0", "case_1"))
    assert choose(split=split) == ["case_0", "case_1"]
    assert choose(split=split, part="train") == ["case_2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"case_ids": ["case_9"]}, "`ids` must be among the 3 cases.*'case_9'"),
        ({"case_ids": ["case_0"], "part": "test"}, "`case_ids` cannot go with"),
        ({"part": "tests"}, "`part` must be one of 'train', 'validation', 'test'"),
        (
            {"split": splits.Split(("case_0",)), "part": "test"},
            "`part` 'test' of the split must have cases; it is empty",
        ),
        ({"split": splits.Split((), (), ("gone",))}, "got 'gone'"),
    ],
)
def test_a_choice_that_cannot_be_is_named(run, phantom_cases, options, message):
    with pytest.raises(ValueError, match=message):
        predict.choose(phantom_cases, run.folder, **options)


@pytest.fixture(scope="module")
def maps(run, phantom_cases, tmp_path_factory):
    maps = tmp_path_factory.mktemp("maps") / "maps"
    predict.predict(run.folder, phantom_cases[:2], maps, 3, verbose=False)
    return maps


def test_every_case_gets_its_folder(maps):
    assert sorted(path.name for path in maps.iterdir()) == ["case_0", "case_1"]
    assert serving.read_summary(maps, "case_1")["num_draws"] == 3


def test_finished_cases_are_left_as_they_are(run, maps, phantom_cases, capsys):
    path = maps / "case_0" / "case_0_summary.json"
    before = path.stat().st_mtime_ns
    folders = predict.predict(run.folder, phantom_cases, maps, 3)
    said = capsys.readouterr().err
    assert "2 of 3 cases are in" in said
    assert "case 1/1 case_2: done" in said
    assert path.stat().st_mtime_ns == before
    assert [folder.name for folder in folders] == identities(phantom_cases)


def test_maps_of_other_settings_stop_everything_before_any_work(
    run, maps, phantom_cases
):
    before = sorted(maps.iterdir())
    with pytest.raises(FileExistsError, match=r"other settings \(num_draws differ\)"):
        predict.predict(run.folder, phantom_cases[::-1], maps, 2)
    assert sorted(maps.iterdir()) == before


def test_maps_of_another_network_are_told_apart(tmp_path, maps, phantom_cases):
    other = write_run(tmp_path / "run", seed=1)
    with pytest.raises(FileExistsError, match=r"\(model differ\).*--overwrite"):
        predict.predict(other.folder, phantom_cases[:1], maps, 3)


def test_maps_are_replaced_when_asked(run, phantom_cases, tmp_path):
    for num_draws in (1, 2):
        predict.predict(
            run.folder,
            phantom_cases[:1],
            tmp_path,
            num_draws,
            overwrite=True,
            verbose=False,
        )
    assert serving.read_summary(tmp_path, "case_0")["num_draws"] == 2


def test_a_folder_that_is_no_prediction_is_left_alone(run, phantom_cases, tmp_path):
    (tmp_path / "case_0").mkdir()
    with pytest.raises(FileExistsError, match="holds no prediction"):
        predict.predict(run.folder, phantom_cases[:1], tmp_path)


def test_a_damaged_case_does_not_stop_the_others(run, phantom_cases, tmp_path, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8b broken")
    paths = {**phantom_cases[0].image_paths, "t1": broken}
    damaged = dataclasses.replace(phantom_cases[0], image_paths=paths)
    cases = [damaged, *phantom_cases[1:]]
    with pytest.raises(
        DataError,
        match=r"1 of 3 cases could not be predicted \(case_0\).*broken.nii.gz",
    ):
        predict.predict(run.folder, cases, tmp_path / "maps", 1)
    found = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert found == ["case_1", "case_2"]
    said = capsys.readouterr().err
    assert "case 1/3 case_0: Case case_0, file" in said


def test_the_runs_scheme_is_used_where_a_case_has_none(run, phantom_cases, tmp_path):
    nameless = dataclasses.replace(phantom_cases[0], label_scheme=None)
    predict.predict(run.folder, [nameless], tmp_path, 1, verbose=False)
    settings = serving.read_summary(tmp_path, "case_0")["settings"]
    assert settings["label_scheme"] == "brats2018"


def test_a_binary_run_predicts_studies_named_as_in_brats(phantom_cases, tmp_path):
    binary = write_run(
        tmp_path / "run",
        regions=("tumour",),
        modalities=("flair",),
        label_scheme="binary",
    )
    predict.predict(binary.folder, phantom_cases[:1], tmp_path / "m", 1, verbose=False)
    summary = serving.read_summary(tmp_path / "m", "case_0")
    assert list(summary["regions"]) == ["tumour"]


def test_a_run_without_a_finished_epoch_is_told_so(tmp_path, phantom_cases):
    run = write_run(tmp_path / "run")
    run.model.unlink()
    with pytest.raises(FileNotFoundError, match=r"has not finished an epoch.*--resume"):
        predict.predict(run.folder, phantom_cases, tmp_path / "maps")


@pytest.mark.parametrize("content", [b"", b"not a zip file"])
def test_a_damaged_network_is_named(tmp_path, phantom_cases, content):
    run = write_run(tmp_path / "run")
    run.model.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.keras must be a saved network"):
        predict.predict(run.folder, phantom_cases, tmp_path / "maps")


def test_a_folder_without_a_run_is_told_so(tmp_path, phantom_cases):
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        predict.choose(phantom_cases, tmp_path)


def test_a_scheme_given_in_training_overrules_the_names(phantom_cases):
    named = dataclasses.replace(phantom_cases[0], label_scheme="brats2023")
    bare = dataclasses.replace(phantom_cases[0], label_scheme=None)
    for given, expected in ((False, None), (True, "brats2018")):
        settings = TrainConfig(label_scheme="brats2018", label_scheme_given=given)
        assert predict._scheme_for(named, settings) == expected
        assert predict._scheme_for(bare, settings) == "brats2018"
