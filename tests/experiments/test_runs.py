"""The folder of a run: when it may be made, opened and extended."""

from __future__ import annotations

import dataclasses

import pytest

from tfp_uqseg.data import splits
from tfp_uqseg.experiments import config, runs
from tfp_uqseg.experiments.config import TrainConfig


@pytest.fixture
def run(tmp_path):
    run = runs.create(tmp_path / "run")
    runs.write_start(run, TrainConfig(epochs=3), splits.Split(("a",), ("b",), ("c",)))
    return run


def test_what_was_started_is_found_again(run):
    opened = runs.open_run(run.folder)
    assert config.load(opened.config) == TrainConfig(epochs=3)
    assert splits.load(opened.split).test == ("c",)


def test_an_empty_folder_may_become_a_run(tmp_path):
    assert runs.create(tmp_path).folder == tmp_path


def test_a_run_is_not_started_twice(run):
    with pytest.raises(
        FileExistsError, match=r"already holds a training run.*--resume"
    ):
        runs.create(run.folder)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="must be a new or empty folder"):
        runs.create(tmp_path)


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="must be a folder; it is a file"):
        runs.create(tmp_path / "run")


@pytest.mark.parametrize("lost", ["config.json", "split.json"])
def test_a_folder_without_settings_or_split_is_no_run(run, lost):
    (run.folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no training run.*uqseg train"):
        runs.open_run(run.folder)


def test_a_run_is_extended_in_epochs_and_time_alone():
    stored = TrainConfig(epochs=3, seed=5)
    asked = dataclasses.replace(stored, epochs=9, max_minutes=2.0)
    assert runs.extended(stored, asked) == asked
    assert runs.extended(stored, None) == stored
    with pytest.raises(ValueError, match="`seed` must stay 5 in a resumed run; got 6"):
        runs.extended(stored, dataclasses.replace(stored, seed=6))


def test_what_was_decided_stays_where_nothing_is_asked():
    stored = TrainConfig(regions=("WT",), modalities=("flair",), size=(64, 64))
    assert runs.extended(stored, TrainConfig()) == stored


def test_history_keeps_rows_with_different_columns(run):
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_dice": 1.0}]
    runs.write_history(run, rows)
    assert runs.read_history(run) == rows
    assert run.history.read_text().splitlines()[0] == "epoch,loss,val_dice"


def test_a_run_without_an_epoch_has_no_history(run):
    assert runs.read_history(run) == []
