"""A reproduction of the paper, from its plan to its page."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from scipy import special

from tfp_uqseg.data import brats
from tfp_uqseg.experiments import (
    reproduce,
    reproduce_plan,
    reproduce_unit,
)
from tfp_uqseg.uncertainty import draws, measures

Unit = reproduce_plan.Unit
TINY = dataclasses.replace(
    reproduce_plan.SMALL,
    size=32,
    slices=3,
    num_validation=2,
    num_test=3,
    num_sources=1,
    train_sizes=(1, 2),
    seeds=(0, 1),
    other_sizes=(2,),
    prior_sizes=(1,),
    prior_seeds=(0, 1),
    source_networks=1,
    steps=2,
    epochs=2,
    batch_size=2,
    base_filters=2,
    num_draws=2,
    members=2,
)


def test_the_plan_names_every_network_once_and_sources_first():
    units = reproduce_plan.units(reproduce_plan.SMALL)
    assert len(set(units)) == len(units)
    assert [unit.method for unit in units[:3]] == ["source"] * 3
    assert {unit.method for unit in units[3:]} == set(reproduce_plan.METHODS)
    latent = {unit for unit in units if unit.method == "latent"}
    assert {(unit.backbone, unit.train_size) for unit in latent} == {
        *(("unet", size) for size in (5, 10, 15, 20)),
        ("vnet", 20),
        ("fcn", 20),
    }
    priors = {
        (unit.method, unit.train_size, unit.seed)
        for unit in units
        if unit.train_size in (5, 10) and unit.method in ("flipout", "deep_weight")
    }
    assert len(priors) == 12


def test_the_small_scale_stays_within_an_hour():
    units = reproduce_plan.units(reproduce_plan.SMALL)
    assert reproduce_plan.count_steps(units, reproduce_plan.SMALL) == 44 * 150
    assert reproduce_plan.estimate_minutes(units, reproduce_plan.SMALL) < 60
    assert reproduce_plan.estimate_minutes(units, reproduce_plan.PAPER) is None


def test_an_ensemble_counts_as_its_members():
    units = [Unit("deep_ensemble", "unet", 20, 0), Unit("latent", "unet", 20, 0)]
    assert reproduce_plan.count_steps(units, reproduce_plan.SMALL) == 6 * 150


def test_methods_that_cannot_be_built_are_not_planned():
    units = reproduce_plan.units(TINY, methods=("latent",), backbones=("unet",))
    assert {(unit.method, unit.backbone) for unit in units} == {("latent", "unet")}


def test_every_method_and_backbone_of_the_plan_can_be_built():
    assert reproduce.plan(TINY) == reproduce_plan.units(TINY)


def test_the_fingerprint_counts_settings_and_data_but_no_estimates():
    first = reproduce_plan.fingerprint(TINY, [1])
    slower = dataclasses.replace(TINY, step_seconds=9.0)
    assert reproduce_plan.fingerprint(slower, [1]) == first
    assert reproduce_plan.fingerprint(TINY, [2]) != first
    more = dataclasses.replace(TINY, num_draws=3)
    assert reproduce_plan.fingerprint(more, [1]) != first


def test_an_unknown_scale_is_an_error():
    with pytest.raises(ValueError, match="`scale` must be one of 'small', 'paper'"):
        reproduce_plan.get_budget("large")


class _Network:
    """Stands for a trained network: it answers by the first modality."""

    def save(self, path):
        pathlib.Path(path).write_text("network")


def _answer(unit, model, images, num_draws, budget):
    rng = np.random.default_rng(unit.seed)
    shift = rng.normal(size=(num_draws, 1, 1, 1, 3))
    flair = images[..., :1].astype(np.float32)
    p = special.expit(2.0 * flair - 1.0 + 0.3 * shift)
    total, expected = measures.predictive_entropy(p), measures.expected_entropy(p)
    maps = [p.mean(axis=0), total, expected, total - expected, expected, expected]
    counts = np.zeros((num_draws, 3), np.int64)
    return draws.Prediction(*maps, None, None, counts, num_draws, 1, unit.seed)


@pytest.fixture
def trained(monkeypatch):
    """Training and prediction without networks; the keys of what was trained."""
    keys = []

    def train(unit, study, budget, place):
        keys.append(unit.key)
        ids = study.sets.train(unit.train_size, unit.seed)
        training = {"steps": 2, "seconds": 1.0, "slices": 6}
        return _Network(), {**training, "cases": list(ids)}

    monkeypatch.setattr(reproduce_unit, "_train_unit", train)
    monkeypatch.setattr(reproduce_unit, "_answer", _answer)
    monkeypatch.setattr(reproduce, "plan", reproduce_plan.units)
    monkeypatch.setattr(reproduce, "_clear_memory", lambda: None)
    return keys


@pytest.fixture
def no_page(monkeypatch):
    """Records alone: drawing takes longer than everything else."""
    monkeypatch.setattr(reproduce, "_write", lambda out, *_: out / "index.md")


@pytest.fixture(scope="module")
def phantom_folder(tmp_path_factory):
    """A phantom for `TINY`, made once."""
    folder = tmp_path_factory.mktemp("tiny") / "phantom"
    reproduce.reproduce_data.make_phantom(folder, TINY)
    return folder


@pytest.fixture
def out(tmp_path, phantom_folder):
    """A folder that holds the phantom already."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "phantom").symlink_to(phantom_folder)
    return tmp_path / "out"


def run(out, **changes):
    return reproduce.reproduce(None, out, budget=TINY, verbose=False, **changes)


@pytest.mark.slow
def test_the_page_holds_every_table_and_figure_beside_the_papers(out, trained):
    page = run(out)
    assert page == out / "index.md"
    text = page.read_text("utf-8")
    for title in ("Table 1", "Table 2", "Table 3", "Table 4", "Figure 1", "Figure 3"):
        assert f"## {title}" in text
    for printed in ("0.1607", "0.2235", "mixes two kinds"):
        assert printed in text
    tables = {path.stem for path in (out / "tables").glob("*.csv")}
    assert tables == {path.stem for path in (out / "tables").glob("*.md")}
    assert tables == {
        *("table_1", "table_2", "table_3", "table_4", "figure_3", "methods"),
        *("claim_correlation", "shifted", "train_size", "deep_weight"),
    }
    figures = {path.name for path in (out / "figures").iterdir()}
    names = ("figure_1", "figure_3", "figure_4", "train_size", "claim_correlation")
    assert figures == {f"{name}.{end}" for name in names for end in ("png", "svg")}
    for name in names:
        assert f"(figures/{name}.png)" in text
    assert (out / "index.html").read_text("utf-8").count("data:image/png") == 5
    assert "num_draws 2" in text


def test_a_lost_record_is_all_that_a_repeated_call_makes(out, trained, no_page):
    run(out)
    count = len(trained)
    assert count == len(reproduce_plan.units(TINY))
    run(out)
    assert len(trained) == count
    (out / "records" / "latent-unet-n01-s1.json").unlink()
    run(out)
    assert trained[count:] == ["latent-unet-n01-s1"]
    # A source is needed as long as no prior was fitted to it.
    (out / "records" / "source-unet-n01-s0.keras").unlink()
    run(out)
    assert trained[count + 1 :] == ["source-unet-n01-s0"]


def test_a_stopped_call_goes_on_where_it_stopped(out, trained, no_page, monkeypatch):
    train, stop_at = reproduce_unit._train_unit, 4

    def stop(*arguments):
        if len(trained) == stop_at:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(reproduce_unit, "_train_unit", stop)
    with pytest.raises(KeyboardInterrupt):
        run(out)
    assert len(list((out / "records").glob("*.json"))) == stop_at
    monkeypatch.setattr(reproduce_unit, "_train_unit", train)
    run(out)
    assert len(trained) == len(set(trained)) == len(reproduce_plan.units(TINY))


def test_a_record_holds_the_scores_of_every_patient_and_region(out, trained, no_page):
    run(out)
    path = out / "records" / "latent-unet-n02-s0.json"
    record = json.loads(path.read_text("utf-8"))
    rows = record["patients"]
    assert len(rows) == 3 * (2 + 3 + 3)
    assert {row["part"] for row in rows} == {"validation", "test", "shifted"}
    for row in rows:
        assert 0.0 <= row["dice"] <= 1.0
        total = row["expected_entropy"] + row["mutual_information"]
        assert row["predictive_entropy"] == pytest.approx(total, abs=1e-6)
    small = out / "records" / "latent-unet-n01-s0.json"
    rows = json.loads(small.read_text("utf-8"))["patients"]
    assert {row["part"] for row in rows} == {"test"}


def test_another_budget_or_seed_in_the_same_folder_is_an_error(out, trained, no_page):
    run(out)
    with pytest.raises(FileExistsError, match="another scale, seed or set of patients"):
        run(out, seed=1)
    with pytest.raises(FileExistsError, match="Choose another folder"):
        other = dataclasses.replace(TINY, num_draws=5)
        reproduce.reproduce(None, out, budget=other, verbose=False)


def test_a_damaged_record_is_named(out, trained, no_page):
    run(out)
    path = out / "records" / "latent-unet-n02-s1.json"
    path.write_text('{"unit": {}}')
    with pytest.raises(ValueError, match=r"latent-unet-n02-s1.*Delete it to make it"):
        run(out)


def test_what_does_not_fit_is_refused_before_any_work(tmp_path, phantom_folder):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FileExistsError, match="it holds other files"):
        run(tmp_path / "full")
    with pytest.raises(FileExistsError, match="must be a folder; it is a file"):
        run(tmp_path / "full" / "file")
    with pytest.raises(ValueError, match="`cases` must be given for the scale 'paper'"):
        reproduce.reproduce(None, tmp_path / "x", budget=reproduce_plan.PAPER)
    with pytest.raises(ValueError, match="`shifted_group` needs studies"):
        run(tmp_path / "y", shifted_group="HT")
    cases = brats.find_cases(phantom_folder / "test")
    with pytest.raises(ValueError, match="must hold 8 labelled patients"):
        reproduce.reproduce(cases, tmp_path / "z", budget=TINY, verbose=False)


def check_test_time(records):
    """Turning images about changes the answer, and is no epistemic uncertainty."""
    plain, turned = (
        json.loads((records / f"{method}-unet-n02-s0.json").read_text("utf-8"))
        for method in ("deterministic", "test_time_augmentation")
    )
    assert turned["num_draws"] == 8
    for one, other in zip(plain["patients"], turned["patients"], strict=True):
        assert abs(other["mutual_information"]) < 1e-6
        assert other["nll"] != pytest.approx(one["nll"], rel=1e-6)


@pytest.mark.slow
def test_real_networks_leave_records_that_depend_on_the_seed_alone(out, monkeypatch):
    units = [
        Unit("source", "unet", 1, 0),
        Unit("deep_weight", "unet", 2, 0),
        Unit("deep_ensemble", "unet", 2, 0),
        Unit("deterministic", "unet", 2, 0),
        Unit("test_time_augmentation", "unet", 2, 0),
        Unit("latent", "unet", 2, 0),
    ]
    monkeypatch.setattr(reproduce, "plan", lambda budget: units)
    monkeypatch.setattr(reproduce_unit, "_PRIOR_STEPS", 3)
    page = run(out)
    assert "deep weight prior" in page.read_text("utf-8")
    path = out / "records" / "latent-unet-n02-s0.json"
    first = json.loads(path.read_text("utf-8"))
    assert first["training"]["steps"] == 2
    check_test_time(out / "records")
    path.unlink()
    run(out)
    again = json.loads(path.read_text("utf-8"))
    assert again["patients"] == first["patients"]
    assert again["images"] == first["images"]


class Stop(Exception):
    """A power cut."""


def stopping(callbacks_of):
    """Callbacks that end the training of a network as its second epoch begins."""

    def stop(epoch, logs):
        if epoch == 1:
            raise Stop

    def extended(*arguments):
        cut = tf_keras.callbacks.LambdaCallback(on_epoch_begin=stop)
        return [*callbacks_of(*arguments), cut]

    return extended


@pytest.mark.slow
@pytest.mark.parametrize("method", ["latent", "ensemble_mc_dropout"])
def test_a_unit_that_was_stopped_goes_on_at_its_last_whole_epoch(
    out, method, monkeypatch, no_page
):
    unit = Unit(method, "unet", 1, 0)
    monkeypatch.setattr(reproduce, "plan", lambda budget: [unit])
    budget = dataclasses.replace(TINY, steps=6, epochs=3)
    make = {"budget": budget, "verbose": False}
    path = out / "records" / f"{unit.key}.json"
    reproduce.reproduce(None, out, **make)
    whole = json.loads(path.read_text("utf-8"))
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(reproduce_unit, "_callbacks", stopping(reproduce_unit._callbacks))
        with pytest.raises(Stop):
            reproduce.reproduce(None, out, **make)
    assert (out / "records" / f"{unit.key}.backup").is_dir()
    epochs = []
    record = tf_keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, _: epochs.append(e)
    )
    kept = reproduce_unit._callbacks
    monkeypatch.setattr(reproduce_unit, "_callbacks", lambda *a: [*kept(*a), record])
    reproduce.reproduce(None, out, **make)
    assert epochs == ([1, 2] if method == "latent" else [1, 2, 0, 1, 2])
    resumed = json.loads(path.read_text("utf-8"))
    for name in ("patients", "images"):
        assert resumed[name] == whole[name]
    assert resumed["training"]["steps"] == whole["training"]["steps"]
    assert not list(out.glob("records/*.backup"))


@pytest.mark.parametrize("budget", [reproduce_plan.SMALL, reproduce_plan.PAPER])
def test_slices_are_changed_as_the_settings_table_says(budget, monkeypatch):
    asked = {}

    def slices(cohort, **settings):
        asked.update(settings)
        return tf.data.Dataset.range(3)

    monkeypatch.setattr(reproduce_unit.pipeline, "slices", slices)
    reproduce_unit._stream(types.SimpleNamespace(num_slices=8), budget, 4, 0, 0)
    assert asked["augment"] == budget.augmentation
    assert reproduce_plan.PAPER.augmentation == "paper"


@pytest.mark.slow
def test_the_scale_paper_works_from_end_to_end(tmp_path, phantom_folder, monkeypatch):
    budget = dataclasses.replace(
        reproduce_plan.PAPER, size=32, num_validation=1, num_test=2, num_sources=1,
        train_sizes=(1, 2), seeds=(0,), epochs=2, batch_size=16, base_filters=2,
        num_draws=2, members=2, patience=1,
    )  # fmt: skip
    units = [
        Unit("deep_ensemble", "unet", 2, 0),
        Unit("latent", "fcn", 2, 0),
        Unit("latent", "vnet", 1, 0),
    ]
    monkeypatch.setattr(reproduce, "plan", lambda budget: units)
    cases = [
        case
        for part in ("train", "test")
        for case in brats.find_cases(phantom_folder / part)
    ]
    page = reproduce.reproduce(cases, tmp_path / "out", budget=budget, verbose=False)
    text = page.read_text("utf-8")
    assert "deep ensembles" in text
    assert "plateau" in text
    for unit in units:
        path = tmp_path / "out" / "records" / f"{unit.key}.json"
        record = json.loads(path.read_text("utf-8"))
        assert record["training"]["steps"] >= 2
        assert {row["part"] for row in record["patients"]} >= {"test"}
        assert all(np.isfinite(row["nll"]) for row in record["patients"])
