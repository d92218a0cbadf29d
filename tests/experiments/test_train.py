"""A run folder: what training leaves in it, and that it resumes from any moment."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import models
from tfp_uqseg._checks import DataError
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import config, keeping, runs, train
from tfp_uqseg.experiments.config import TrainConfig

SPLIT = splits.Split(("case_0", "case_1"), ("case_2",))
SETTINGS = TrainConfig(
    method="deterministic",
    base_filters=2,
    epochs=3,
    batch_size=4,
    precision="float32",
)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Networks of two levels: training them compiles in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", functools.partial(models.build, depth=2))
        yield


@pytest.fixture(scope="module")
def run(phantom_cases, tmp_path_factory):
    """Three epochs in one go."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train.train(phantom_cases, out, SETTINGS, split=SPLIT, verbose=False)


def weights(run):
    model = tf_keras.models.load_model(run.model)
    return model.get_weights(), model.optimizer.iterations.numpy()


def kill_after(monkeypatch, epochs):
    """End the process' work in the epoch after `epochs` whole ones."""
    original = keeping.Keeper.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch == epochs:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    monkeypatch.setattr(keeping.Keeper, "on_epoch_end", on_epoch_end)


def test_a_run_leaves_every_file(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "model.keras",
        "config.json",
        "split.json",
        "history.csv",
        "losses.png",
        "logs",
        "backup",
    }
    assert run.losses.read_bytes().startswith(b"\x89PNG")
    assert splits.load(run.split) == SPLIT


def test_settings_are_kept_with_what_the_studies_decided(run):
    found = config.load(run.config)
    assert found.regions == ("WT", "TC", "ET")
    assert found.modalities == ("flair", "t1", "t1ce", "t2")
    assert found.label_scheme == "brats2018"
    assert found.size == (48, 48)
    assert found.epochs == 3


def test_history_has_a_row_per_epoch(run):
    rows = runs.read_history(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss", "data_loss", "dice", "val_loss", "val_dice"} <= set(rows[0])
    assert [row["progress"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 1])
    rates = [row["learning_rate"] for row in rows]
    assert rates == sorted(rates, reverse=True)


def test_the_network_is_loaded_with_its_optimiser(run):
    _, iterations = weights(run)
    assert iterations == 9


def test_tensorboard_finds_the_scalars(run):
    values = {}
    for part in ("train", "validation"):
        for path in (run.logs / part).iterdir():
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    assert value.metadata.plugin_data.plugin_name == "scalars"
                    key = (part, value.tag, event.step)
                    values[key] = tf.make_ndarray(value.tensor)
    rows = runs.read_history(run)
    assert values["train", "epoch_loss", 2] == pytest.approx(rows[1]["loss"])
    assert values["validation", "epoch_dice", 3] == pytest.approx(rows[2]["val_dice"])


def test_a_killed_run_resumes_as_if_it_had_not_been(
    run, phantom_cases, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train.train(phantom_cases, out, SETTINGS, split=SPLIT, verbose=False)
    assert [row["epoch"] for row in runs.read_history(runs.open_run(out))] == [1]
    resumed = train.train(phantom_cases, out, resume=True, verbose=False)
    rows, expected = runs.read_history(resumed), runs.read_history(run)
    for row, wanted in zip(rows, expected, strict=True):
        for name in set(wanted) - {"minutes"}:
            assert row[name] == pytest.approx(wanted[name], rel=1e-3), name
    for mine, whole in zip(weights(resumed)[0], weights(run)[0], strict=True):
        np.testing.assert_allclose(mine, whole, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["flipout", "latent"])
def test_noise_and_annealing_go_on_where_they_were(
    phantom_cases, tmp_path, monkeypatch, method
):
    settings = dataclasses.replace(SETTINGS, method=method, epochs=2, kl_annealing=0.8)
    whole = train.train(
        phantom_cases, tmp_path / "whole", settings, split=SPLIT, verbose=False
    )
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train.train(phantom_cases, out, settings, split=SPLIT, verbose=False)
    resumed = train.train(phantom_cases, out, resume=True, verbose=False)
    rows, expected = runs.read_history(resumed), runs.read_history(whole)
    for name in ("kl_annealing", "learning_rate", "kl", "loss", "val_loss"):
        assert rows[1][name] == pytest.approx(expected[1][name], rel=1e-2), name
    assert resumed.latent.exists() == (method == "latent")
    if method == "latent":
        values = json.loads(resumed.latent.read_text())
        assert values["code_kl_nats"] == rows[-1]["code_kl"]
        assert 0.0 < values["code_effect"] < 1.0


def test_cases_without_labels_are_told(phantom_cases, tmp_path, capsys):
    bare = dataclasses.replace(phantom_cases[2], label_path=None)
    cases, settings = (
        [*phantom_cases[:2], bare],
        dataclasses.replace(SETTINGS, epochs=1),
    )
    train.train(cases, tmp_path / "run", settings)
    assert "1 of 3 cases have no labels (case_2)" in capsys.readouterr().err


def test_what_was_written_of_an_unfinished_epoch_is_written_again(
    phantom_cases, tmp_path, monkeypatch
):
    """The process dies between history and checkpoint."""
    out = tmp_path / "run"

    def save(self, *arguments, **options):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", save)
        with pytest.raises(OSError, match="killed"):
            train.train(phantom_cases, out, SETTINGS, split=SPLIT, verbose=False)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    resumed = train.train(phantom_cases, out, settings, resume=True, verbose=False)
    assert [row["epoch"] for row in runs.read_history(resumed)] == [1]


def test_a_complete_run_says_so_and_changes_nothing(run, phantom_cases, capsys):
    before = run.model.stat().st_mtime_ns
    train.train(phantom_cases, run.folder, resume=True)
    assert "is complete: 3 epochs" in capsys.readouterr().err
    assert run.model.stat().st_mtime_ns == before


def test_a_run_is_extended(run, phantom_cases, tmp_path):
    out = shutil.copytree(run.folder, tmp_path / "run")
    longer = dataclasses.replace(SETTINGS, epochs=4)
    extended = train.train(phantom_cases, out, longer, resume=True, verbose=False)
    assert [row["epoch"] for row in runs.read_history(extended)] == [1, 2, 3, 4]
    assert config.load(extended.config).epochs == 4


def test_time_alone_ends_a_run_and_counts_when_it_resumes(phantom_cases, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=None, max_minutes=0.05)
    out = tmp_path / "run"
    run = train.train(phantom_cases, out, settings, split=SPLIT, verbose=False)
    rows = runs.read_history(run)
    assert rows[-1]["progress"] == 1.0
    # It ends where one more step may not fit, and a step of a busy machine is slow.
    assert rows[-1]["minutes"] > 0.5 * 0.05
    again = train.train(phantom_cases, out, resume=True, verbose=False)
    assert runs.read_history(again) == rows


def test_the_precision_policy_is_left_as_it_was(phantom_cases, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1, precision="bfloat16")
    run = train.train(
        phantom_cases, tmp_path / "run", settings, split=SPLIT, verbose=False
    )
    assert tf_keras.mixed_precision.global_policy().name == "float32"
    model = tf_keras.models.load_model(run.model)
    assert model.layers[1].compute_dtype == "bfloat16"
    assert model.layers[1].variable_dtype == "float32"


def test_progress_is_told_line_by_line_where_there_is_no_terminal(
    phantom_cases, tmp_path, capsys
):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    train.train(phantom_cases, tmp_path / "run", settings, split=SPLIT)
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("epoch 1/1: loss ")]
    assert "validation Dice" in line
    assert line.endswith("0.0 min left")


def test_a_region_that_is_never_found_is_named(capsys):
    masks = np.zeros((4, 8, 8, 3), np.uint8)
    masks[:, 2:4, 2:4, :2] = 1  # nobody has the third
    logits = np.full(masks.shape, -9.0, np.float32)
    logits[0, 0, 0, 0] = 1.0

    def model(images):
        return tfp.distributions.Normal(logits, 1.0)

    train._say_missed(model, np.zeros((4, 8, 8, 2)), masks, ("WT", "TC", "ET"))
    told = capsys.readouterr().err
    assert "in 4 slices with tumour the network finds nothing of TC. " in told
    assert "--loss cross_entropy" in told
    logits[0, 0, 0, 1] = 1.0
    train._say_missed(model, np.zeros((4, 8, 8, 2)), masks, ("WT", "TC", "ET"))
    assert not capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was(
    phantom_cases, tmp_path
):
    settings = dataclasses.replace(SETTINGS, learning_rate=1e30, warm_up=0.0)
    with pytest.raises(ValueError, match=r"The loss became nan in epoch 1.*learning"):
        train.train(
            phantom_cases, tmp_path / "run", settings, split=SPLIT, verbose=False
        )
    assert not runs.open_run(tmp_path / "run").model.exists()


def test_the_best_epoch_is_kept_when_asked(phantom_cases, tmp_path, monkeypatch):
    dice = iter([0.2, 0.5, 0.3])
    original = keeping.Keeper.on_epoch_end
    kept = []

    def on_epoch_end(self, epoch, logs=None):
        original(self, epoch, {**logs, "val_dice": next(dice)})
        kept.append(self._run.model.stat().st_mtime_ns)

    monkeypatch.setattr(keeping.Keeper, "on_epoch_end", on_epoch_end)
    settings = dataclasses.replace(SETTINGS, keep="best")
    train.train(phantom_cases, tmp_path / "run", settings, split=SPLIT, verbose=False)
    assert kept[0] < kept[1] == kept[2]


def test_a_wrong_augmentation_ends_the_run_before_anything_is_read(tmp_path):
    settings = TrainConfig(augment={"rotation": 5})
    split = splits.Split(train=("case_0",))
    with pytest.raises(ValueError, match="`augment` must be one of 'rotation_range'"):
        train.train([], tmp_path / "run", settings, split=split, verbose=False)


def test_without_validation_there_is_no_best(phantom_cases, tmp_path):
    settings = dataclasses.replace(SETTINGS, keep="best")
    with pytest.raises(ValueError, match='`keep="best"` needs cases in `validation`'):
        train.train(
            phantom_cases, tmp_path / "run", settings, split=splits.Split(("case_0",))
        )
    assert not (tmp_path / "run").exists()


def test_labelled_patients_are_split_where_no_split_is_given(phantom_cases, tmp_path):
    blind = dataclasses.replace(phantom_cases[0], id="blind", label_path=None)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    run = train.train(
        [blind, *phantom_cases], tmp_path / "run", settings, verbose=False
    )
    split = splits.load(run.split)
    assert split == splits.make([case.id for case in phantom_cases], seed=0)
    assert len(split.train) == len(split.validation) == len(split.test) == 1


def test_one_patient_is_all_for_training(phantom_cases, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1, raters="random")
    run = train.train(phantom_cases[:1], tmp_path / "run", settings, verbose=False)
    assert splits.load(run.split) == splits.Split(("case_0",))
    assert "val_dice" not in runs.read_history(run)[0]


def test_studies_without_labels_cannot_be_learned_from(phantom_cases, tmp_path):
    blind = [dataclasses.replace(case, label_path=None) for case in phantom_cases]
    with pytest.raises(ValueError, match="must have labels to train on; none of the 3"):
        train.train(blind, tmp_path / "run", SETTINGS)
    with pytest.raises(DataError, match=r"Case case_0.*label"):
        train.train(blind, tmp_path / "run", SETTINGS, split=SPLIT, verbose=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": splits.Split((), (), ("case_0",))}, "must have cases in `train`"),
        ({"split": splits.Split(("gone",))}, "got 'gone'"),
    ],
)
def test_a_split_that_does_not_fit_is_named(
    phantom_cases, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        train.train(phantom_cases, tmp_path / "run", SETTINGS, **arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_split_and_settings(run, phantom_cases):
    with pytest.raises(ValueError, match="`split` must stay that of the run"):
        train.train(
            phantom_cases, run.folder, resume=True, split=splits.Split(("case_0",))
        )
    other = dataclasses.replace(SETTINGS, base_filters=4)
    with pytest.raises(ValueError, match="`base_filters` must stay 2 in a resumed run"):
        train.train(phantom_cases, run.folder, other, resume=True)


def test_a_run_is_neither_overwritten_nor_made_up(run, phantom_cases, tmp_path):
    with pytest.raises(FileExistsError, match="already holds a training run"):
        train.train(phantom_cases, run.folder, SETTINGS)
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        train.train(phantom_cases, tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_network_is_named(run, phantom_cases, tmp_path):
    out = shutil.copytree(run.folder, tmp_path / "run")
    stored = config.load(out / "config.json")
    dataclasses.replace(stored, base_filters=4, epochs=4).save(out / "config.json")
    with pytest.raises(ValueError, match="must be a checkpoint of this run"):
        train.train(phantom_cases, out, resume=True, verbose=False)


@pytest.mark.filterwarnings("ignore:Case TCGA:UserWarning")  # air is not 0 there
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "settings"),
    [
        ("brats", {}),
        ("lgg128", {"regions": ("tumour",), "method": "flipout"}),
    ],
)
def test_real_studies_are_learned_from(real_data, tmp_path, folder, settings):
    from tfp_uqseg.data import brats

    cases = brats.find_cases(real_data / folder)[:2]
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_minutes=0.5, batch_size=8, **settings
    )
    split = splits.Split((cases[0].id,), (cases[1].id,))
    run = train.train(cases, tmp_path / "run", settings, split=split, verbose=False)
    row = runs.read_history(run)[-1]
    assert np.isfinite(row["val_loss"])
    assert row["progress"] == 1.0


def test_slices_suit_the_backbone(phantom_cases, tmp_path):
    split = splits.Split(train=("case_0",))
    settings = config.TrainConfig(
        method="deterministic", backbone="fcn", base_filters=2, epochs=1, batch_size=2
    )
    run = train.train(
        phantom_cases, tmp_path / "run", settings, split=split, verbose=False
    )
    assert run.model.is_file()
