from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from scipy import stats

from tfp_uqseg import layers
from tfp_uqseg.layers import noise

TRANSPOSED = {"filters": 4, "kernel_size": 2, "strides": 2}
KINDS = [
    (layers.Convolution2DFlipout, {"filters": 4, "kernel_size": 3, "strides": 2}),
    (layers.Convolution3DFlipout, {"filters": 4, "kernel_size": 3, "padding": "same"}),
    (layers.Convolution2DTransposeFlipout, {"filters": 4, "kernel_size": 2}),
    (layers.Convolution3DTransposeFlipout, {"filters": 4, "kernel_size": 3}),
    (layers.DenseFlipout, {"units": 4}),
    (layers.Convolution2DLocalReparameterization, {"filters": 4, "kernel_size": 3}),
    (layers.Convolution3DLocalReparameterization, {"filters": 4, "kernel_size": 3}),
    (layers.Convolution2DTransposeLocalReparameterization, TRANSPOSED),
    (layers.Convolution3DTransposeLocalReparameterization, TRANSPOSED),
    (layers.DenseLocalReparameterization, {"units": 4}),
    (layers.Convolution2DReparameterization, {"filters": 4, "kernel_size": 3}),
    (layers.Convolution3DReparameterization, {"filters": 4, "kernel_size": 3}),
    (layers.Convolution2DTransposeReparameterization, TRANSPOSED),
    (layers.Convolution3DTransposeReparameterization, TRANSPOSED),
    (layers.DenseReparameterization, {"units": 4}),
]
IDS = [kind.__name__ for kind, _ in KINDS]
#: One of each estimator, and of each map: hundreds of draws take seconds.
FEW = [
    (kind, arguments)
    for kind, arguments in KINDS
    if kind.__name__.startswith(("Convolution2D", "Dense"))
    and not ("Transpose" in kind.__name__ and "Flipout" not in kind.__name__)
]
FEW_IDS = [kind.__name__ for kind, _ in FEW]


def images_for(kind, batch=5):
    extents = (6, 6, 6) if "3D" in kind.__name__ else (6, 6)
    if "Dense" in kind.__name__:
        extents = ()
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, *extents, 3)).astype(np.float32)


def drawn(layer, images, draw, seed=0):
    with noise.use(noise.DrawScope(noise.draw_key(seed, draw))):
        return layer(images).numpy()


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=IDS)
def test_layer_is_a_tfp_layer_of_its_kind(kind, arguments):
    stock = kind.__name__.replace("Transpose", "")
    if "Convolution" in stock:  # TFP has no local one
        stock = stock.replace("LocalReparam", "Reparam")
    assert issubclass(kind, getattr(tfp.layers, stock))


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=IDS)
def test_output_shape_is_the_one_announced(kind, arguments):
    layer, images = kind(**arguments), images_for(kind)
    assert layer(images).shape == layer.compute_output_shape(images.shape)


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=IDS)
def test_kl_is_the_closed_form_of_two_normals(kind, arguments):
    layer = kind(**arguments, prior=0.3)
    layer.build(images_for(kind).shape)
    mean, stddev = layer.kernel_loc.numpy(), layer.kernel_stddev.numpy()
    expected = np.sum(np.log(0.3 / stddev) + (stddev**2 + mean**2) / (2 * 0.3**2) - 0.5)
    assert layer.kl_divergence().numpy() == pytest.approx(expected, rel=1e-4)


def test_kl_of_posterior_equal_to_prior_is_zero():
    layer = layers.DenseFlipout(3, initial_stddev_ratio=1.0)
    layer.build((None, 5))
    layer.kernel_loc.assign(tf.zeros_like(layer.kernel_loc))
    assert layer.kl_divergence().numpy() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=IDS)
def test_a_draw_is_the_same_for_every_image_and_batch(kind, arguments):
    layer, images = kind(**arguments, seed=3), images_for(kind)
    whole = drawn(layer, images, draw=7)
    one = drawn(layer, images[2:3], draw=7)
    np.testing.assert_allclose(whole[2:3], one, atol=1e-5)
    assert np.abs(drawn(layer, images, draw=8) - whole).max() > 1e-3


@pytest.mark.parametrize(("kind", "arguments"), FEW, ids=FEW_IDS)
def test_mean_of_draws_is_the_deterministic_layer(kind, arguments):
    layer, images = (
        kind(**arguments, seed=3, initial_stddev_ratio=0.3),
        images_for(kind),
    )
    mean = layer(images).numpy()
    outputs = np.stack([drawn(layer, images, draw) for draw in range(300)])
    z = (outputs.mean(0) - mean) / (outputs.std(0) / np.sqrt(300))
    # Outputs of one kernel hang together: a dense layer has but 12 free ones.
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.4


@pytest.mark.parametrize(("kind", "arguments"), FEW, ids=FEW_IDS)
def test_training_and_draws_have_the_same_moments(kind, arguments):
    """The response of one example is that of a drawn kernel in distribution."""
    layer, images = (
        kind(**arguments, seed=3, initial_stddev_ratio=0.3),
        images_for(kind),
    )
    draws = np.stack([drawn(layer, images, draw) for draw in range(400)])
    flipouts = np.stack([layer(images, training=True).numpy() for _ in range(400)])
    assert flipouts.std(0).mean() == pytest.approx(draws.std(0).mean(), rel=0.03)
    np.testing.assert_allclose(
        flipouts.mean(0), draws.mean(0), atol=6 * draws.std(0).max() / 20
    )


def test_flipout_decorrelates_the_examples_of_a_batch():
    layer = layers.Convolution2DFlipout(4, 3, use_bias=False, initial_stddev_ratio=0.5)
    image = np.repeat(images_for(layers.Convolution2DFlipout, 1), 2, axis=0)
    mean = layer(image).numpy()
    noises = np.stack([layer(image, training=True).numpy() - mean for _ in range(400)])
    correlation = stats.pearsonr(noises[:, 0].ravel(), noises[:, 1].ravel()).statistic
    assert abs(correlation) < 0.1


def test_reparameterisation_answers_the_whole_batch_with_one_kernel():
    layer = layers.Convolution2DReparameterization(4, 3, initial_stddev_ratio=0.5)
    image = np.repeat(images_for(type(layer), 1), 2, axis=0)
    first, second = layer(image, training=True)
    np.testing.assert_allclose(first, second, atol=1e-5)
    again = layer(image, training=True)
    assert np.abs(again[0] - first).max() > 1e-2


def mixture_kl(loc, stddev, share, wide, narrow):
    """KL of one normal and the mixture, by quadrature on a fine grid."""
    grid = np.linspace(loc - 12 * stddev, loc + 12 * stddev, 20001)
    log_q = stats.norm.logpdf(grid, loc, stddev)
    log_p = np.logaddexp(
        np.log(share) + stats.norm.logpdf(grid, 0.0, wide),
        np.log(1.0 - share) + stats.norm.logpdf(grid, 0.0, narrow),
    )
    return np.trapezoid(np.exp(log_q) * (log_q - log_p), grid)


def test_kl_to_a_scale_mixture_is_that_of_quadrature():
    prior = ("scale_mixture", 0.25, 0.5, 0.02)
    layer = layers.DenseFlipout(64, prior=prior, seed=1)
    layer.build((None, 64))
    layer.kernel_loc.assign(tf.fill((64, 64), 0.03))
    raw = np.log(np.expm1(0.05)).astype(np.float32)
    layer.kernel_untransformed_scale.assign(tf.fill((64, 64), raw))
    expected = 64 * 64 * mixture_kl(0.03, 0.05, *prior[1:])
    # 8 fixed kernels of 4096 entries: the error is that of 32768 draws.
    assert layer.kl_divergence().numpy() == pytest.approx(expected, rel=0.02)
    with noise.use(noise.TrainingScope(noise.step_key(0, 3))):
        assert layer.kl_divergence().numpy() == pytest.approx(expected, rel=0.06)


def test_a_step_measures_the_mixture_at_the_kernel_it_draws():
    layer = layers.DenseReparameterization(3, prior="scale_mixture", use_bias=False)
    layer.build((None, 3))
    key = noise.step_key(0, 1)
    with noise.use(noise.TrainingScope(key)):
        kernel = layer(tf.eye(3), training=True)
        kl = layer.kl_divergence()
    expected = -layer.kernel_prior.log_prob(kernel) - layer.kernel_posterior.entropy()
    assert kl.numpy() == pytest.approx(expected.numpy(), rel=1e-5)


def test_a_centred_prior_is_measured_from_its_kernel(tmp_path):
    layer = layers.DenseFlipout(3, centred_prior=True, initial_stddev_ratio=1.0)
    model = tf_keras.Sequential([tf_keras.Input((5,)), layer])
    assert layer.kl_divergence().numpy() > 0.1
    layer.kernel_prior_loc.assign(layer.kernel_loc)
    assert layer.kl_divergence().numpy() == pytest.approx(0.0, abs=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert loaded.kl_divergence().numpy() == pytest.approx(0.0, abs=1e-4)
    assert loaded.kernel_prior_loc.numpy() == pytest.approx(layer.kernel_loc.numpy())


def test_local_responses_differ_between_voxels():
    """Where a drawn kernel answers two equal voxels alike."""
    images, options = np.ones([1, 4, 4, 2], np.float32), {"use_bias": False}
    local = layers.Convolution2DLocalReparameterization(1, 1, **options)
    assert np.ptp(local(images, training=True)) > 1e-3
    assert np.ptp(drawn(local, images, 0)) < 1e-6


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=IDS)
def test_a_layer_comes_back_from_a_file(kind, arguments, tmp_path):
    images = images_for(kind)
    layer = kind(**arguments, seed=5, prior=0.4, activation="relu")
    model = tf_keras.Sequential([tf_keras.Input(images.shape[1:]), layer])
    layer.kl_weight.assign(0.25)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras").layers[0]
    np.testing.assert_allclose(
        drawn(loaded, images, 3), drawn(layer, images, 3), atol=1e-5
    )
    assert loaded.kl_weight.numpy() == 0.25
    np.testing.assert_allclose(loaded.kl_divergence(), layer.kl_divergence(), rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "strides", "reach"), [(2, 2, 1), (4, 2, 4), (3, 1, 9)]
)
def test_transposed_kernels_start_with_the_spread_of_what_reaches_a_voxel(
    size, strides, reach
):
    layer = layers.Convolution2DTransposeFlipout(64, size, strides, seed=1)
    layer.build((None, 4, 4, 32))
    expected = np.sqrt(2 / (reach * 32))
    assert layer.kernel_loc.numpy().std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("kind", "stock", "arguments"),
    [
        (layers.Convolution2DFlipout, tf_keras.layers.Conv2D, {"strides": 2}),
        (layers.Convolution2DFlipout, tf_keras.layers.Conv2D, {"dilation_rate": 2}),
        (layers.Convolution3DFlipout, tf_keras.layers.Conv3D, {"padding": "same"}),
        (
            layers.Convolution2DTransposeFlipout,
            tf_keras.layers.Conv2DTranspose,
            {"strides": 2},
        ),
        (
            layers.Convolution2DTransposeFlipout,
            tf_keras.layers.Conv2DTranspose,
            {"strides": 2, "padding": "same"},
        ),
        (
            layers.Convolution3DTransposeFlipout,
            tf_keras.layers.Conv3DTranspose,
            {"strides": 2, "padding": "same"},
        ),
    ],
)
def test_mean_agrees_with_the_keras_layer(kind, stock, arguments):
    images = images_for(kind)
    layer = kind(4, 3, activation="relu", **arguments)
    other = stock(4, 3, activation="relu", **arguments)
    other.build(images.shape)
    layer.build(images.shape)
    layer.bias.assign(np.arange(4.0))
    other.set_weights([layer.kernel_loc.numpy(), layer.bias.numpy()])
    np.testing.assert_allclose(layer(images), other(images), atol=1e-5)


def test_gradients_reach_mean_and_scale():
    layer = layers.Convolution2DFlipout(2, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(images_for(type(layer)), training=True) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert all(tf.norm(gradient) > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"filters": 0, "kernel_size": 3}, "`filters` must be a whole number above 0"),
        ({"filters": 2, "kernel_size": 3, "padding": "full"}, "`padding` must be one"),
        ({"filters": 2, "kernel_size": 3, "prior": "flat"}, "`prior` must be one of"),
        ({"filters": 2, "kernel_size": 3, "prior": -1.0}, "positive standard dev"),
        (
            {"filters": 2, "kernel_size": 3, "prior": ("mixture", 1, 2)},
            "`prior` must be \\('scale_mixture', share, wide, narrow\\) where",
        ),
        (
            {"filters": 2, "kernel_size": 3, "prior": ("scale_mixture", 0.5, 1, 2)},
            "with 0 < share < 1",
        ),
        (
            {
                "filters": 2,
                "kernel_size": 3,
                "prior": "scale_mixture",
                "centred_prior": True,
            },
            "`centred_prior` needs a normal prior",
        ),
        (
            {"filters": 2, "kernel_size": 3, "initial_stddev_ratio": 0.0},
            "`initial_stddev_ratio` must be finite and above 0",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        layers.Convolution2DFlipout(**arguments)


def test_unknown_number_of_channels_is_an_error():
    with pytest.raises(ValueError, match="known number of input channels"):
        layers.Convolution2DFlipout(2, 3).build((None, 8, 8, None))
