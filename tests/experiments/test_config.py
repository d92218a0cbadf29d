"""The settings of a run: what they accept, and that JSON keeps them."""

from __future__ import annotations

import json

import pytest

from tfp_uqseg import models, optimizers
from tfp_uqseg.data import augment, gathering
from tfp_uqseg.experiments import config, networks
from tfp_uqseg.experiments.config import TrainConfig


def test_settings_survive_json(tmp_path):
    settings = TrainConfig(
        method="flipout", regions=["WT"], modalities=("flair", "t1"), size=[96, 80]
    )
    settings.save(tmp_path / "config.json")
    assert config.load(tmp_path / "config.json") == settings
    assert settings.regions == ("WT",)
    assert settings.size == (96, 80)


def test_absent_settings_take_their_defaults():
    assert config.from_json({"seed": 3}) == TrainConfig(seed=3)


def test_names_of_methods_and_backbones_are_those_of_the_builder():
    assert set(config.METHODS) == {*models.METHODS, *models.ENSEMBLES}
    assert set(config.BACKBONES) == set(models.BACKBONES)
    assert set(config.RATERS) == set(gathering.RATERS)
    assert set(config.LOSSES) == set(networks.LOSSES)
    assert set(config.OPTIMIZERS) == set(optimizers.OPTIMIZERS)
    assert set(config.AUGMENTATIONS) == {*augment.PRESETS, "none"}


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        (TrainConfig(), 30),
        (TrainConfig(epochs=7), 7),
        (TrainConfig(epochs=7, max_minutes=1), 7),
        (TrainConfig(max_minutes=1), config.MOST_EPOCHS),
    ],
)
def test_epochs_are_thirty_unless_epochs_or_time_say_otherwise(settings, epochs):
    assert settings.most_epochs == epochs


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("method", "ensemble", "`method` must be one of 'latent', 'flipout'"),
        ("backbone", "resnet", "`backbone` must be one of 'unet', 'vnet'"),
        ("loss", "focal", "`loss` must be one of"),
        ("precision", "float16", "`precision` must be one of 'auto', 'float32'"),
        ("raters", "all", "`raters` must be one of"),
        ("intensity", "raw", "`intensity` must be one of 'zscore', 'rescale'"),
        ("keep", "none", "`keep` must be one of 'last', 'best'"),
        ("augment", "yes", "`augment` must be one of True, False, 'flips', 'paper'"),
        ("augment", {"noise": object()}, "`augment` must hold plain values"),
        ("optimizer", "lion", "`optimizer` must be one of 'adam', 'sgd'; got 'lion'"),
        ("weight_decay", -1.0, "`weight_decay` must be finite and at least 0"),
        ("schedule", "step", "`schedule` must be one of 'cosine', 'cyclical', 'plat"),
        ("cycle_epochs", 0, "`cycle_epochs` must be a whole number above 0; got 0"),
        ("plateau_patience", 0, "`plateau_patience` must be a whole number above 0"),
        ("early_stopping", 0, "`early_stopping` must be a whole number above 0"),
        ("epochs", 0, "`epochs` must be a whole number above 0; got 0"),
        ("epochs", 2.5, "`epochs` must be a whole number above 0; got 2.5"),
        ("base_filters", -1, "`base_filters` must be a whole number above 0"),
        ("batch_size", True, "`batch_size` must be a whole number above 0"),
        ("max_minutes", 0, "`max_minutes` must be finite and above 0; got 0"),
        ("max_minutes", "5", "`max_minutes` must be a number above 0; got '5'"),
        ("learning_rate", float("nan"), "`learning_rate` must be finite and above 0"),
        ("warm_up", 1.5, "`warm_up` must be from 0 to 1; got 1.5"),
        ("kl_annealing", None, "`kl_annealing` must be a number from 0 to 1"),
        ("initial_stddev_ratio", 0.0, "must be finite and above 0; got 0.0"),
        ("map_share", 2, "`map_share` must be from 0 to 1; got 2"),
        ("kl_weight", -1.0, "`kl_weight` must be finite and at least 0"),
        ("beta", -1.0, "`beta` must be finite and at least 0"),
        ("clip", 0.0, "`clip` must be finite and above 0"),
        ("seed", -1, "`seed` must be a whole number from 0"),
        ("regions", "WT", "`regions` must be a list of names; got the string 'WT'"),
        ("regions", (), r"`regions` must be a list of names; got \[\]"),
        ("modalities", ("t1", "t1"), "`modalities` names something twice"),
        ("modalities", (1,), r"`modalities` must be a list of names; got \[1\]"),
        ("size", (96,), r"`size` must be \(height, width\)"),
    ],
)
def test_a_setting_out_of_range_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config.json must hold JSON"),
        ("[]", r"config.json must be a JSON object; got list"),
        ('{"colour": 1}', r"unknown settings \['colour'\]; known are"),
        ('{"epochs": 0}', r"config.json: `epochs` must be a whole number"),
        ('{"regions": 5}', r"config.json: "),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        config.load(path)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (True, True),
        ("flips", True),
        (False, False),
        ("none", False),
        ("paper", "paper"),
        ("mri", "mri"),
        ({"zoom_range": (0.9, 1.2)}, {"zoom_range": [0.9, 1.2]}),
    ],
)
def test_an_augmentation_has_one_value_for_each_meaning(given, kept, tmp_path):
    settings = TrainConfig(augment=given)
    assert settings.augment == kept
    settings.save(tmp_path / "config.json")
    assert config.load(tmp_path / "config.json") == settings


def test_an_augmentation_is_kept_with_all_its_settings():
    augmentation = augment.Augmentation(noise=0.2, brightness_range=(0.8, 1.2))
    settings = config.from_json(TrainConfig(augment=augmentation).to_json())
    assert augment.resolve(settings.augment) == augmentation


def test_plain_values_are_json():
    values = TrainConfig(regions=("WT",)).to_json()
    assert json.loads(json.dumps(values)) == values
