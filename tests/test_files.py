"""Files and folders appear whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tfp_uqseg import _files


def fail(place, error):
    """Fail in the middle of writing."""
    (place / "new" if place.is_dir() else place).write_text("half")
    raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_once_it_is_written(tmp_path):
    _files.write_text(tmp_path / "a.txt", "naïve")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "naïve"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), _files.whole_file(path) as temporary:
        fail(temporary, OSError("disk"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_file_keeps_the_ending(tmp_path):
    with _files.whole_file(tmp_path / "maps.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"")


def test_json_refuses_not_a_number_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        _files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


def test_json_is_read_back(tmp_path):
    _files.write_json(tmp_path / "a.json", {"x": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}


def test_a_folder_is_there_once_it_is_whole(tmp_path):
    with _files.whole_folder(tmp_path / "case") as temporary:
        (temporary / "map").write_text("1")
        assert not (tmp_path / "case").exists()
    assert names(tmp_path) == ["case"]
    assert names(tmp_path / "case") == ["map"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_folder_that_was_there(tmp_path, error):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "old").write_text("1")
    with pytest.raises(error), _files.whole_folder(tmp_path / "case") as temporary:
        fail(temporary, error)
    assert names(tmp_path) == ["case"]
    assert names(tmp_path / "case") == ["old"]


def test_a_folder_is_replaced_entirely(tmp_path):
    for name in ("old", "new"):
        with _files.whole_folder(tmp_path / "case") as temporary:
            (temporary / name).write_text("1")
    assert names(tmp_path) == ["case"]
    assert names(tmp_path / "case") == ["new"]


@pytest.fixture
def ended_process():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_swept_away(tmp_path, ended_process):
    (tmp_path / f".partial-{ended_process}-case").mkdir()
    (tmp_path / f".partial-{ended_process}-other-case").mkdir()
    with _files.whole_folder(tmp_path / "case"):
        pass
    assert names(tmp_path) == [f".partial-{ended_process}-other-case", "case"]


def test_a_file_that_a_killed_process_left_is_swept_away(tmp_path, ended_process):
    (tmp_path / f".partial-{ended_process}-a.txt").write_text("half")
    _files.write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_set_aside_by_a_killed_process_comes_back(tmp_path, ended_process):
    aside = tmp_path / f".replaced-{ended_process}-case"
    aside.mkdir()
    (aside / "old").write_text("1")
    with pytest.raises(OSError, match="disk"), _files.whole_folder(tmp_path / "case"):
        raise OSError("disk")
    assert names(tmp_path / "case") == ["old"]


def test_the_folder_of_a_live_process_is_left_alone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        beside = tmp_path / f".partial-{process.pid}-case"
        beside.mkdir()
        with _files.whole_folder(tmp_path / "case"):
            pass
        assert beside.is_dir()
    finally:
        process.communicate(b"\n")
