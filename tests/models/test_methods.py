"""Every method on every backbone: build, fit, save, load elsewhere, predict alike."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import models
from tfp_uqseg.models import ensemble
from tfp_uqseg.uncertainty import draws

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 32, 32, 2)).astype(np.float32)
MASKS = (IMAGES[..., :1] > 0.7).astype(np.float32)
EVERY = (*models.METHODS, *models.ENSEMBLES)
STOCHASTIC = [method for method in models.METHODS if method != "deterministic"]


def build(method, backbone="unet", **arguments):
    settings = {
        "input_shape": (None, None, 2),
        "num_regions": 1,
        "num_train_examples": 4,
        "base_filters": 2,
        "depth": 2,
    }
    if method in models.ENSEMBLES:
        settings["num_members"] = 2
    return models.build(method, backbone=backbone, **{**settings, **arguments})


def predicted(model, num_draws=2):
    return draws.predict(model, IMAGES, num_draws, seed=3)


ELSEWHERE = """
import sys
import numpy as np
from tfp_uqseg import models
from tfp_uqseg.uncertainty import draws
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    found = draws.predict(models.load(path), images, 2, seed=3)
    np.savez(path + ".npz", found.mean_probabilities, found.mutual_information)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", models.BACKBONES)
def test_every_method_fits_saves_and_predicts_the_same_elsewhere(backbone, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    expected = {}
    for method in EVERY:
        model = build(method, backbone)
        # Tracing every step of every backbone would take minutes.
        model.compile(run_eagerly=backbone != "unet")
        model.fit(IMAGES, MASKS, batch_size=4, verbose=0)
        path = tmp_path / method
        path = path if method in models.ENSEMBLES else path.with_suffix(".keras")
        model.save(path)
        expected[str(path)] = predicted(model)
    command = [sys.executable, "-c", textwrap.dedent(ELSEWHERE)]
    subprocess.run([*command, str(tmp_path / "images.npy"), *expected], check=True)
    for path, prediction in expected.items():
        with np.load(f"{path}.npz") as found:
            np.testing.assert_allclose(
                found["arr_0"], prediction.mean_probabilities, atol=1e-5
            )
            np.testing.assert_allclose(
                found["arr_1"], prediction.mutual_information, atol=1e-5
            )


@pytest.mark.parametrize("method", STOCHASTIC)
def test_draws_of_a_method_differ_and_a_seed_repeats_them(method):
    model = build(method, initial_stddev_ratio=0.5)
    # Of so few channels a draw may drop all, and two draws alike.
    first, *others = (draws.probabilities(model, IMAGES, draw) for draw in range(4))
    assert max(np.abs(first - other).max() for other in others) > 1e-4
    np.testing.assert_array_equal(first, draws.probabilities(model, IMAGES, 0))


def test_dropout_leaves_the_encoder_alone_and_runs_once_per_input():
    names = [layer.name for layer in build("mc_dropout", depth=3).layers]
    found = [name for name in names if name.endswith("dropout")]
    assert found == ["bottom_dropout", "up1_dropout", "up0_dropout"]
    assert not any("dropout" in layer.name for layer in build("flipout").layers)


def test_a_draw_does_not_move_the_statistics_of_batch_normalisation():
    model = build("mc_dropout")
    before = [weight.numpy() for weight in model.weights]
    predicted(model)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("method", models.ENSEMBLES)
def test_an_ensemble_is_the_mixture_of_its_members(method):
    model = build(method)
    found = predicted(model, num_draws=3)
    single = 1 if method == "deep_ensemble" else 3
    assert found.num_draws == 2 * single
    each = [
        draws.probabilities(member, IMAGES, draw, seed=3)
        for draw, member in itertools.product(range(single), model.members)
    ]
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(found.mean_probabilities, mean, atol=1e-6)
    np.testing.assert_allclose(
        found.epistemic_variance, np.var(each, axis=0), atol=1e-6
    )
    counts = [np.sum(p > 0.5, axis=(0, 1, 2)) for p in each]
    np.testing.assert_array_equal(found.voxel_counts, counts)
    for number, p in enumerate(each):
        np.testing.assert_allclose(
            draws.probabilities(model, IMAGES, number, seed=3), p, atol=1e-6
        )


def test_calling_an_ensemble_gives_the_logits_of_the_mean_probability():
    model = build("deep_ensemble")
    logits = tf.convert_to_tensor(model(IMAGES)).numpy()
    expected = predicted(model).mean_probabilities
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(IMAGES, batch_size=3), logits, atol=1e-4)


def test_members_differ_and_a_seed_repeats_the_ensemble():
    first, again = build("deep_ensemble", seed=4), build("deep_ensemble", seed=4)
    kernels = [member.weights[0].numpy() for member in first.members]
    assert np.any(kernels[0] != kernels[1])
    np.testing.assert_array_equal(first.predict(IMAGES), again.predict(IMAGES))


def test_members_have_optimisers_and_orders_of_their_own():
    model = build("deep_ensemble")
    model.compile(tf_keras.optimizers.Adam(0.02))
    optimizers = [member.optimizer for member in model.members]
    assert optimizers[0] is not optimizers[1]
    assert all(float(x.learning_rate) == pytest.approx(0.02) for x in optimizers)
    streams = [
        next(iter(ensemble._in_order(IMAGES, MASKS, 4, member.settings["seed"], 0)))
        for member in model.members
    ]
    assert np.any(streams[0][0] != streams[1][0])


def test_the_order_of_an_epoch_does_not_depend_on_where_training_began():
    def batches(first, count):
        stream = ensemble._in_order(IMAGES, MASKS, 3, 5, first)
        return [images.numpy() for images, _ in stream.take(count)]

    steps = -(-len(IMAGES) // 3)
    whole = batches(0, 3 * steps)
    assert sum(len(batch) for batch in whole[:steps]) == len(IMAGES)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(whole[:steps]), axis=0), np.sort(IMAGES, axis=0)
    )
    assert np.any(np.concatenate(whole[:steps]) != np.concatenate(whole[-steps:]))
    for one, other in zip(batches(2, steps), whole[2 * steps :], strict=True):
        np.testing.assert_array_equal(one, other)


class Stop(Exception):
    """An interruption."""


class Interrupt(tf_keras.callbacks.Callback):
    """Interrupts after the epoch `last`."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.last:
            raise Stop


def test_an_interrupted_ensemble_goes_on_with_the_member_that_was_running(tmp_path):
    def run(model, folder, callbacks=None):
        model.compile()
        return model.fit(
            IMAGES, MASKS, batch_size=2, epochs=3, folder=folder, verbose=0,
            callbacks=callbacks,
        )  # fmt: skip

    whole = build("deep_ensemble")
    run(whole, tmp_path / "whole")
    with pytest.raises(Stop):
        run(
            build("deep_ensemble"),
            tmp_path / "parts",
            lambda index: [Interrupt(2)] if index == 1 else [],
        )
    assert (tmp_path / "parts" / "member_0.keras").exists()
    assert not (tmp_path / "parts" / "member_1.keras").exists()
    resumed = build("deep_ensemble")
    histories = run(resumed, tmp_path / "parts")
    assert [len(history["loss"]) for history in histories] == [1]
    first, second = whole.members[0], resumed.members[0]
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_members_of_another_ensemble_are_not_taken(tmp_path):
    other = build("deep_ensemble", seed=1)
    other.members[0].save(tmp_path / "member_0.keras")
    model = build("deep_ensemble", seed=2)
    model.compile()
    with pytest.raises(ValueError, match=r"other settings \(seed differ\)"):
        model.fit(IMAGES, MASKS, folder=tmp_path, verbose=0)


def test_errors_of_ensembles_say_what_to_do(tmp_path):
    model = build("deep_ensemble")
    model.save(tmp_path / "ensemble")
    with pytest.raises(FileExistsError, match="`folder` must be new or empty"):
        model.save(tmp_path / "ensemble")
    with pytest.raises(FileNotFoundError, match="holds no ensemble"):
        models.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        models.load(tmp_path / "nothing.keras")
    with pytest.raises(ValueError, match="`num_members` must be a whole number"):
        build("deep_ensemble", num_members=0)


@pytest.mark.parametrize("backbone", models.BACKBONES)
def test_with_one_seed_every_method_starts_with_the_same_kernels(backbone):
    """So that what tells methods apart is the method, not the luck of a start."""

    def kernels(method):
        model = models.build(
            method,
            backbone=backbone,
            input_shape=(None, None, 2),
            num_regions=2,
            num_train_examples=10,
            base_filters=2,
            depth=2,
            seed=5,
        )
        return {
            layer.name: getattr(layer, "kernel_loc", getattr(layer, "kernel", None))
            for layer in model.layers
            if hasattr(layer, "kernel_loc") or hasattr(layer, "kernel")
        }

    plain = kernels("deterministic")
    assert len(plain) >= 7
    for method in ("flipout", "local_reparameterization", "mc_dropout", "latent"):
        other = kernels(method)
        shared = set(plain) & set(other) - ({"head"} if method == "latent" else set())
        assert len(shared) >= len(plain) - (method == "latent")
        for name in shared:
            np.testing.assert_array_equal(plain[name], other[name], err_msg=name)
