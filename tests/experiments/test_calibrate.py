"""`uqseg calibrate`: found by unseen patients, kept, heeded by predictions."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tfp_uqseg import _checks, cli, models
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import calibrate, networks, predict, runs, train
from tfp_uqseg.experiments import config as config_module


@pytest.fixture(scope="module")
def run(phantom_cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("calibrated") / "run"
    settings = config_module.TrainConfig(
        method="flipout", base_filters=2, epochs=2, size=(48, 48), batch_size=4
    )
    split = splits.Split(train=("case_0",), validation=("case_1",), test=("case_2",))
    return train.train(phantom_cases, out, settings, split=split, verbose=False)


def test_what_is_found_is_kept_and_heeded(run, phantom_cases, tmp_path):
    found = calibrate.calibrate(
        run.folder, phantom_cases[1:2], num_draws=3, verbose=False
    )
    assert json.loads(run.calibration.read_text()) == found
    assert found["cases"] == ["case_1"]
    for each in found["regions"].values():
        assert each["shift"] == 0.0
        assert each["nll_after"] <= each["nll_before"] + 1e-3
    model = networks.load(run)
    slopes = [each["slope"] for each in found["regions"].values()]
    assert models.scaling.of(model) == [[slope, 0.0] for slope in slopes]
    assert models.scaling.of(networks.load(run, calibrated=False)) is None
    plain, mended = tmp_path / "plain", tmp_path / "mended"
    for maps, calibrated in ((plain, False), (mended, True)):
        predict.predict(
            run.folder,
            phantom_cases[2:],
            maps,
            2,
            calibrated=calibrated,
            verbose=False,
        )
    scalings = [
        json.loads((maps / "case_2" / "case_2_summary.json").read_text())["settings"][
            "scaling"
        ]
        for maps in (plain, mended)
    ]
    assert scalings == [None, [[slope, 0.0] for slope in slopes]]
    with pytest.raises(FileExistsError, match="scaling"):
        predict.predict(run.folder, phantom_cases[2:], plain, 2, verbose=False)


def test_a_calibration_of_other_weights_is_refused(run):
    stored = json.loads(run.calibration.read_text())
    run.calibration.write_text(json.dumps({**stored, "model": "0" * 16}))
    with pytest.raises(ValueError, match=r"other weights.*Run `uqseg calibrate` again"):
        networks.load(run)
    run.calibration.write_text("{}")
    with pytest.raises(ValueError, match=r"cannot be read.*remove the file"):
        networks.load(run)
    run.calibration.unlink()
    assert models.scaling.of(networks.load(run)) is None


def test_the_command_takes_the_validation_patients(run, phantom_cases, capsys):
    data = phantom_cases[0].label_path.parents[1]
    arguments = ["calibrate", str(run.folder), str(data), "--draws", "2"]
    assert cli.main([*arguments, "--kind", "platt"]) == 0
    shown = capsys.readouterr().out
    assert "temperature" in shown
    assert "WT" in shown
    assert json.loads(run.calibration.read_text())["cases"] == ["case_1"]
    run.calibration.unlink()


def test_a_case_without_labels_is_named(run, phantom_cases):
    bare = dataclasses.replace(phantom_cases[1], label_path=None, rater_paths={})
    with pytest.raises(_checks.DataError, match="Case case_1: it must have labels"):
        calibrate.calibrate(run.folder, [bare], verbose=False)
    assert not run.calibration.exists()
    assert runs.open_run(run.folder).model.is_file()
