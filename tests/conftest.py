"""Fixtures every test may use."""

from __future__ import annotations

import os
import pathlib

import hypothesis
import pytest

import tfp_uqseg  # noqa: F401  (before TensorFlow, which it loads quietly)

# isort: split
import tensorflow as tf
import tf_keras

# How long an example takes tells of the machine, and of what else runs on it.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

ROOT = pathlib.Path(__file__).resolve().parents[1]
REAL_DATA = pathlib.Path(
    os.environ.get("UQSEG_REAL_DATA", ROOT.parent / "shared" / "data")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_data = pytest.mark.skip(reason=f"needs real studies in {REAL_DATA}")
    no_gpu = pytest.mark.skip(reason="needs a GPU")
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    for item in items:
        if item.get_closest_marker("real") and not REAL_DATA.is_dir():
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(no_gpu)


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real studies; tests that use it carry the marker `real`."""
    return REAL_DATA


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts from the same seeds and leaves the precision policy alone."""
    tf_keras.utils.set_random_seed(0)
    policy = tf_keras.mixed_precision.global_policy()
    yield
    tf_keras.mixed_precision.set_global_policy(policy)
