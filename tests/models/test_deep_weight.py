from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg import models, optimizers
from tfp_uqseg.layers import noise
from tfp_uqseg.models import deep_weight

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 16, 16, 2)).astype(np.float32)
MASKS = (IMAGES[..., :1] > 0.7).astype(np.float32)


def build(method="deep_weight", **arguments):
    settings = {
        "input_shape": (None, None, 2),
        "num_regions": 1,
        "num_train_examples": 4,
        "base_filters": 8,
        "depth": 2,
        "normalization": None,
    }
    return models.build(method, **{**settings, **arguments})


def structured(seed):
    """A network whose kernels lie on a line through kernel space, plus noise."""
    model, rng = build("deterministic", seed=seed), np.random.default_rng(seed)
    pattern = np.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0])
    for layer in model.layers:
        if hasattr(layer, "kernel") and layer.kernel.shape[:2] == (3, 3):
            size = rng.standard_normal(layer.kernel.shape[2:])
            kernel = pattern[..., None, None] * size
            kernel += 0.1 * rng.standard_normal(kernel.shape)
            layer.kernel.assign(0.2 * kernel)
    return model


@pytest.fixture(scope="module")
def fitted():
    return deep_weight.fit([structured(1), structured(2)], steps=600, seed=0)


def test_slices_keep_the_places_of_a_kernel():
    kernel = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    slices = deep_weight.slices_of(tf.constant(kernel)).numpy()
    assert slices.shape == (20, 6)
    np.testing.assert_array_equal(slices[7], kernel[:, :, 1, 2].ravel())


def test_collected_slices_are_in_units_of_their_layer():
    networks = [structured(1), structured(2)]
    slices, scales = deep_weight.collect(networks)
    assert set(slices) == {"2x2", "3x3"}
    assert np.mean(slices["3x3"] ** 2) == pytest.approx(1.0, rel=1e-4)
    kernels = [network.get_layer("down0_conv1").kernel for network in networks]
    rms = np.sqrt(np.mean(np.square(kernels)))
    assert scales["down0_conv1"] == pytest.approx(rms, rel=1e-5)
    with pytest.raises(ValueError, match="convolutions wider than one voxel"):
        deep_weight.collect([])


def test_a_fitted_prior_knows_the_kernels_better_than_a_normal_one(fitted):
    bound, normal = fitted.bounds["3x3"]
    assert bound < normal - 3.0
    # Kernels without structure: nothing is to be known.
    bound, normal = fitted.bounds["2x2"]
    assert abs(bound - normal) < 0.5


def test_without_a_fitted_prior_kl_is_that_of_the_normal_prior():
    deep, plain = build(), build("flipout")
    # The one-sample estimate of a hundred thousand entries, and a floor of .001 nats.
    assert deep.kl_divergence().numpy() == pytest.approx(
        plain.kl_divergence().numpy(), rel=0.01
    )


def test_the_bound_counts_the_unit_of_the_layer():
    """Kernels and their unit scaled alike: H[q] and the Jacobian cancel."""
    model, values = build(prior="deep_weight"), []
    layer = model.get_layer("down0_conv1")
    prior = deep_weight.unfitted([(3, 3)])
    key = noise.step_key(0, 0)
    start, spread = layer.kernel_loc.numpy(), layer.kernel_stddev.numpy()
    for factor in (1.0, 3.0):
        layer.kernel_loc.assign(factor * start)
        layer.kernel_untransformed_scale.assign(np.log(np.expm1(factor * spread)))
        scales = {layer.name: 0.2 * factor}
        values.append(deep_weight.kl_bound(layer, prior.parameters, scales, key))
    np.testing.assert_allclose(*values, rtol=1e-4)


def test_a_kernel_like_the_sources_costs_less(fitted):
    model = build(kernel_prior=fitted)
    layer = model.get_layer("down0_conv1")
    key, costs = noise.step_key(0, 0), []
    alike = structured(3).get_layer("down0_conv1").kernel.numpy()
    shuffled = alike.reshape(9, -1)[[4, 0, 8, 2, 6, 1, 7, 3, 5]].reshape(alike.shape)
    for kernel in (alike, shuffled):
        layer.kernel_loc.assign(kernel)
        costs.append(
            deep_weight.kl_bound(layer, fitted.parameters, fitted.scales, key).numpy()
        )
    assert costs[0] < costs[1] - 10.0


def test_training_moves_the_encoder_and_leaves_the_decoder(fitted):
    model = build(kernel_prior=fitted)
    model.compile()
    model.fit(IMAGES, MASKS, batch_size=2, epochs=4, verbose=0)
    moved = {
        name: np.abs(variable.numpy() - fitted.parameters[name]).max()
        for name, variable in model._kernel_prior.items()
    }
    assert moved["3x3/encoder0/kernel"] > 1e-4
    assert all(change == 0.0 for name, change in moved.items() if "decoder" in name)


def test_weight_decay_keeps_off_the_encoder(fitted):
    model = build(kernel_prior=fitted)
    encoder = [v for v in model._kernel_prior.values() if v.trainable]
    assert any(v.name.endswith("kernel:0") for v in encoder)
    assert not any(optimizers.is_decayed(variable) for variable in encoder)
    assert optimizers.is_decayed(model.get_layer("down0_conv1").kernel_loc)


def test_a_prior_and_a_network_with_one_come_back_from_their_files(fitted, tmp_path):
    fitted.save(tmp_path / "prior.npz")
    loaded = deep_weight.load(tmp_path / "prior.npz")
    assert loaded.scales == fitted.scales
    assert loaded.bounds == fitted.bounds
    assert repr(loaded) == "KernelPrior(extents=('2x2', '3x3'), latent_size=10)"
    model = build(kernel_prior=loaded)
    model.save(tmp_path / "model.keras")
    again = models.load(tmp_path / "model.keras")
    np.testing.assert_allclose(again.kl_divergence(), model.kl_divergence(), rtol=1e-6)
    assert model.kl_divergence() != build().kl_divergence()


def test_errors_say_what_to_do(fitted, tmp_path):
    with pytest.raises(
        ValueError, match="`kernel_prior` is for `method`='deep_weight'"
    ):
        build("flipout", kernel_prior=fitted)
    foreign = deep_weight.unfitted([(7, 7)])
    with pytest.raises(ValueError, match=r"it knows \['7x7'\]"):
        build(kernel_prior=foreign)
    (tmp_path / "no.npz").write_text("text")
    with pytest.raises(ValueError, match="no.npz must hold a kernel prior"):
        deep_weight.load(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError):
        deep_weight.load(tmp_path / "nothing.npz")


def test_slices_drawn_from_a_fitted_prior_resemble_the_kernels(fitted):
    drawn = fitted.sample("3x3", 4000)
    assert drawn.shape == (4000, 9)
    pattern = np.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]).ravel()
    along = drawn @ pattern / np.linalg.norm(pattern)
    # Nearly all of the variance lies along the line of the sources.
    assert np.var(along) / np.var(drawn, axis=0).sum() > 0.8
    np.testing.assert_array_equal(drawn, fitted.sample("3x3", 4000))
    with pytest.raises(ValueError, match="`extent`"):
        fitted.sample("5x5", 1)
