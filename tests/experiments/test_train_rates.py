"""Optimisers, schedules of the learning rate and early stopping of a run."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import tf_keras

from tfp_uqseg import callbacks, models, optimizers
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import keeping, runs, schedule, train
from tfp_uqseg.experiments.config import TrainConfig

SPLIT = splits.Split(("case_0", "case_1"), ("case_2",))
SETTINGS = TrainConfig(
    method="deterministic",
    base_filters=2,
    epochs=5,
    batch_size=4,
    precision="float32",
    optimizer="sgd",
    learning_rate=0.04,
    schedule="cyclical-plateau",
    cycle_epochs=2,
    plateau_patience=1,
)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Networks of two levels: training them compiles in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", functools.partial(models.build, depth=2))
        yield


class Script(tf_keras.callbacks.Callback):
    """Puts given validation losses into the logs, before anyone reads them."""

    remembers = True  # so that it stays first

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_data_loss"] = self.values[epoch]


@pytest.fixture
def script(monkeypatch):
    """A function that gives the epochs of all runs their validation losses."""
    original = schedule.rate_callbacks

    def give(values):
        monkeypatch.setattr(
            schedule,
            "rate_callbacks",
            lambda *words, **names: [Script(values), *original(*words, **names)],
        )

    return give


def start(cases, out, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return train.train(cases, out, settings, split=SPLIT, verbose=False)


def kill_after(monkeypatch, epochs):
    """End the process' work in the epoch after `epochs` whole ones."""
    original = keeping.Keeper.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch == epochs:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    monkeypatch.setattr(keeping.Keeper, "on_epoch_end", on_epoch_end)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_rates_of_a_whole_one(
    phantom_cases, tmp_path, monkeypatch, script
):
    script([0.5, 0.6, 0.4, 0.5, 0.3])
    whole = start(phantom_cases, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            start(phantom_cases, tmp_path / "run")
    resumed = train.train(phantom_cases, tmp_path / "run", resume=True, verbose=False)
    rows, expected = (runs.read_history(run) for run in (resumed, whole))
    rates = [row["learning_rate"] for row in rows]
    assert rates == [row["learning_rate"] for row in expected]
    cycle = callbacks.CyclicalLearningRate(0.01, 0.04, 3)
    lowered = [1.0, 1.0, 0.1, 0.1, 0.01]
    last_steps = [cycle.rate(3 * epoch + 2) for epoch in range(5)]
    np.testing.assert_allclose(rates, np.multiply(lowered, last_steps), rtol=1e-5)
    for row, wanted in zip(rows, expected, strict=True):
        for name in ("loss", "data_loss", "val_dice"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-3)
    one, other = (tf_keras.models.load_model(run.model) for run in (resumed, whole))
    assert type(one.optimizer) is optimizers.SGD
    np.testing.assert_array_equal(
        one.callback_memory.values(), other.callback_memory.values()
    )


@pytest.mark.slow
def test_early_stopping_ends_a_run_and_larger_patience_continues_it(
    phantom_cases, tmp_path, capsys, script
):
    script([0.5, 0.6, 0.6, 0.6, 0.6])
    changes = {"schedule": "cosine", "early_stopping": 2}
    run = start(phantom_cases, tmp_path / "run", **changes)
    assert len(runs.read_history(run)) == 3
    train.train(phantom_cases, run.folder, resume=True)
    said = capsys.readouterr().err
    assert "is complete: 3 epochs" in said
    assert "A larger `--early-stopping` continues it." in said
    more = dataclasses.replace(SETTINGS, schedule="cosine", early_stopping=3)
    train.train(phantom_cases, run.folder, more, resume=True, verbose=False)
    assert len(runs.read_history(run)) == 4
    rates = [row["learning_rate"] for row in runs.read_history(run)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schedule": "plateau"}, '`schedule="plateau"` needs cases in `validation`'),
        (
            {"schedule": "cyclical", "early_stopping": 2},
            "`early_stopping` needs cases in `validation`",
        ),
    ],
)
def test_what_watches_the_validation_needs_one(phantom_cases, tmp_path, changes, match):
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.raises(ValueError, match=match):
        train.train(
            phantom_cases, tmp_path / "run", settings, split=splits.Split(("case_0",))
        )
    assert not (tmp_path / "run").exists()
