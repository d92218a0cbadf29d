"""Runs of every kind of method, and of networks that start from others."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from tfp_uqseg import models, serving
from tfp_uqseg.data import splits
from tfp_uqseg.experiments import config, keeping, networks, runs, train

SPLIT = splits.Split(("case_0", "case_1"), ("case_2",))
SETTINGS = config.TrainConfig(
    method="deterministic", base_filters=2, epochs=2, batch_size=4, precision="float32"
)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Networks of two levels: training them compiles in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "build", functools.partial(models.build, depth=2))
        yield


def trained(cases, out, resume=False, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return train.train(cases, out, settings, split=SPLIT, resume=resume, verbose=False)


@pytest.fixture(scope="module")
def source(phantom_cases, tmp_path_factory):
    """A deterministic run."""
    return trained(phantom_cases, tmp_path_factory.mktemp("source") / "run")


ENSEMBLE = {"method": "ensemble_mc_dropout", "num_members": 2}


def test_an_ensemble_trains_resumes_where_it_was_and_predicts(
    phantom_cases, tmp_path, monkeypatch
):
    whole = trained(phantom_cases, tmp_path / "whole", **ENSEMBLE)
    settings = config.load(whole.config)
    assert settings.regions == ("WT", "TC", "ET")
    seeds = [config.load(whole.member(index).config).seed for index in (0, 1)]
    assert seeds[0] != seeds[1]
    original = keeping.Keeper.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and self._run.folder.name == "member_1":
            raise KeyboardInterrupt
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(keeping.Keeper, "on_epoch_end", on_epoch_end)
        with pytest.raises(KeyboardInterrupt):
            trained(phantom_cases, tmp_path / "parts", **ENSEMBLE)
    first = (tmp_path / "parts" / "members" / "member_0" / "model.keras").stat()
    parts = trained(phantom_cases, tmp_path / "parts", resume=True, **ENSEMBLE)
    assert parts.member(0).model.stat().st_mtime_ns == first.st_mtime_ns
    assert [row["epoch"] for row in runs.read_history(parts.member(1))] == [1, 2]
    one, other = networks.load(whole), networks.load(parts)
    assert (one.method, len(one.members)) == ("ensemble_mc_dropout", 2)
    for weight, same in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(weight, same, atol=1e-6)
    serving.predict_case(one, phantom_cases[2], tmp_path / "maps", 3)
    summary = serving.read_summary(tmp_path / "maps", "case_2")
    assert summary["method"] == "ensemble_mc_dropout"
    assert summary["num_draws"] == 6


def test_a_run_can_start_from_another(phantom_cases, source, tmp_path):
    run = trained(
        phantom_cases,
        tmp_path / "latent",
        method="latent",
        warm_start=str(source.folder),
        freeze_backbone=True,
    )
    one, other = networks.load(source), networks.load(run)
    name = "down0_conv1"
    np.testing.assert_array_equal(
        one.get_layer(name).kernel, other.get_layer(name).kernel
    )


def test_a_centred_prior_lies_on_the_source(phantom_cases, source, tmp_path):
    run = trained(
        phantom_cases,
        tmp_path / "flipout",
        method="flipout",
        warm_start=str(source.folder),
        centred_prior=True,
        epochs=1,
    )
    one, other = networks.load(source), networks.load(run)
    kernel = one.get_layer("bottom_conv1").kernel
    found = other.get_layer("bottom_conv1").kernel_prior_loc
    np.testing.assert_array_equal(kernel, found)


def test_a_run_can_have_a_fitted_kernel_prior(phantom_cases, source, tmp_path):
    prior = models.deep_weight.fit([networks.load(source)], steps=20)
    prior.save(tmp_path / "prior.npz")
    run = trained(
        phantom_cases,
        tmp_path / "run",
        method="deep_weight",
        kernel_prior=str(tmp_path / "prior.npz"),
        epochs=1,
    )
    model = networks.load(run)
    decoder = "3x3/decoder0/kernel"
    np.testing.assert_array_equal(
        model._kernel_prior[decoder], prior.parameters[decoder]
    )


def test_what_does_not_go_together_is_refused(phantom_cases, source, tmp_path):
    with pytest.raises(ValueError, match="`freeze_backbone` needs `warm_start`"):
        dataclasses.replace(SETTINGS, freeze_backbone=True)
    with pytest.raises(
        ValueError, match="`kernel_prior` is for `method`='deep_weight'"
    ):
        dataclasses.replace(SETTINGS, kernel_prior="prior.npz")
    with pytest.raises(ValueError, match="`dropout_rate` must be from 0 to below 1"):
        dataclasses.replace(SETTINGS, dropout_rate=1.0)
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        trained(phantom_cases, tmp_path / "run", warm_start=str(tmp_path))
    with pytest.raises(ValueError, match="must have the shape of the source's"):
        trained(
            phantom_cases,
            tmp_path / "wide",
            method="latent",
            base_filters=4,
            warm_start=str(source.folder),
        )
