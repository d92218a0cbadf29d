"""What another scan changes, against NumPy; and that background stays background."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg.data import mri_effects

SIZE = (32, 24)


def z_scored(seed=0, channels=3):
    """A brain of z-scores with exact 0 around it."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*SIZE, channels), np.float32)
    values = rng.gamma(4.0, size=(22, 16, channels))
    values = (values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    image[5:27, 4:20] = values
    return image


def rescaled(seed=0):
    """The same in 0..1."""
    image = z_scored(seed)
    inside = image != 0
    values = (image - image.min()) / (image.max() - image.min())
    return np.where(inside, np.maximum(values, 1e-3), 0).astype(np.float32)


def moments(image, inside):
    return [(image[..., c][inside[..., c]]) for c in range(image.shape[-1])]


EFFECTS = {
    "brightness": lambda x: mri_effects.brightness(x, 1.3),
    "gamma": lambda x: mri_effects.gamma(x, np.float32([0.7, 1.0, 1.4])),
    "bias_field": lambda x: mri_effects.random_bias_field(x, (1, 2), 0.5),
    "ghosts": lambda x: mri_effects.ghosting(x, 0.8, 3, True),
    "noise": lambda x: mri_effects.random_noise(x, (1, 2), 0.5),
    "random_gamma": lambda x: mri_effects.random_gamma(x, (1, 2), (0.5, 2.0)),
    "random_ghosts": lambda x: mri_effects.random_ghosts(x, (1, 2), 0.8),
}


@pytest.mark.parametrize("image", [z_scored(), rescaled()], ids=["zscore", "rescale"])
@pytest.mark.parametrize("name", EFFECTS)
def test_background_stays_0_and_brain_changes(name, image):
    changed = EFFECTS[name](image).numpy()
    assert changed.shape == image.shape
    assert np.isfinite(changed).all()
    assert not changed[image == 0].any()
    assert np.abs(changed - image).max() > 0.05


@pytest.mark.parametrize("name", EFFECTS)
def test_an_empty_slice_stays_empty(name):
    assert not EFFECTS[name](np.zeros((*SIZE, 3), np.float32)).numpy().any()


def test_effects_of_no_strength_change_nothing():
    image = z_scored()
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    for same in (
        mri_effects.brightness(image, 1.0),
        mri_effects.gamma(image, ones),
        mri_effects.bias_field(image, 0 * image),
        mri_effects.ghosting(image, 0.0, 2, False),
        mri_effects.noise(image, (0, 0), zeros),
    ):
        np.testing.assert_allclose(same, image, atol=1e-5)


@pytest.mark.parametrize("factor", [0.6, 1.0])
def test_brightness_of_grey_levels_is_that_of_keras(factor):
    """But for its 256 levels; above 1 Keras clips at white as well."""
    image = np.random.default_rng(0).integers(1, 256, (9, 7, 1)).astype(np.float32)
    shift = tf_keras.preprocessing.image.random_brightness
    expected = shift(image, (factor, factor), scale=False)
    np.testing.assert_allclose(
        mri_effects.brightness(image, factor), expected, atol=1.0
    )


@pytest.mark.parametrize("factor", [0.6, 0.9])
def test_brightness_of_z_scores_is_that_of_keras_without_background(factor):
    image = np.random.default_rng(0).normal(size=(9, 7, 1)).astype(np.float32)
    shift = tf_keras.preprocessing.image.random_brightness
    expected = shift(image, (factor, factor), scale=False)
    level = np.ptp(image) / 255
    np.testing.assert_allclose(
        mri_effects.brightness(image, factor), expected, atol=2 * level
    )


def test_brightness_of_z_scores_is_the_gain_of_the_scan():
    """z = (v - m) / s with v from 0: a gain of v, seen with the same m and s."""
    signal = np.random.default_rng(0).uniform(0.2, 2.0, (8, 8, 1)).astype(np.float32)
    signal[0, 0] = 0.0
    z = (signal - 1.1) / 0.5
    expected = (1.3 * signal - 1.1) / 0.5
    np.testing.assert_allclose(mri_effects.brightness(z, 1.3), expected, atol=1e-5)


def test_gamma_of_intensities_is_a_power_of_their_share():
    image = rescaled()
    exponents = np.array([0.5, 1.0, 2.0], np.float32)
    white = image.max(axis=(0, 1))
    expected = white * (image / white) ** exponents
    np.testing.assert_allclose(mri_effects.gamma(image, exponents), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gamma", "bias_field"])
def test_z_scores_keep_mean_and_spread(name):
    image = z_scored()
    changed = EFFECTS[name](image).numpy()
    for before, after in zip(
        moments(image, image != 0), moments(changed, image != 0), strict=True
    ):
        assert after.mean() == pytest.approx(before.mean(), abs=1e-4)
        assert after.std() == pytest.approx(before.std(), abs=1e-4)


def test_gamma_keeps_the_order_of_z_scores():
    image = z_scored()
    changed = mri_effects.gamma(image, np.full(3, 1.7, np.float32)).numpy()
    for before, after in zip(
        moments(image, image != 0), moments(changed, image != 0), strict=True
    ):
        np.testing.assert_array_equal(np.argsort(before), np.argsort(after))


def test_a_bias_field_multiplies_intensities():
    image = rescaled()
    y = np.linspace(-0.3, 0.3, SIZE[0], dtype=np.float32)
    field = np.broadcast_to(y[:, None, None], image.shape)
    inside = image != 0
    centre = np.array([field[..., c][inside[..., c]].mean() for c in range(3)])
    expected = image * np.exp(field - centre)
    np.testing.assert_allclose(
        mri_effects.bias_field(image, field), expected, atol=1e-5
    )


def test_smooth_fields_are_standard_normal_smooth_and_share_half():
    draw = tf.function(lambda n: mri_effects.smooth_fields((3, n), (16, 24, 2)))
    fields = np.stack([draw(tf.constant(n)) for n in range(800)])
    np.testing.assert_allclose(fields.mean(axis=0), 0.0, atol=0.2)
    np.testing.assert_allclose(fields.std(axis=0), 1.0, atol=0.15)
    shared = np.mean(fields[..., 0] * fields[..., 1])
    assert shared == pytest.approx(0.5, abs=0.08)
    assert np.abs(np.diff(fields, axis=1)).mean() < 0.25
    # Voxel (0, 0) lies a field's length from the far corner.
    far = np.mean(fields[:, 0, 0] * fields[:, -1, -1], axis=0)
    np.testing.assert_allclose(far, 0.0, atol=0.15)


@pytest.mark.parametrize("along_rows", [True, False])
@pytest.mark.parametrize("period", [2, 3, 4])
def test_ghosts_are_lines_of_k_space_that_lost_strength(period, along_rows):
    image = z_scored()
    dark = image.min(axis=(0, 1))
    inside = image != 0
    signal = np.where(inside, image - dark, 0)
    axis = 1 if along_rows else 0
    spectrum = np.fft.fft(signal, axis=axis)
    number = np.abs(np.fft.fftfreq(SIZE[axis], 1 / SIZE[axis])).round().astype(int)
    lost = np.where((number > 0) & (number % period == 0), 0.4, 0.0)
    spectrum *= 1 - np.expand_dims(lost, [2, 1 - axis])
    ghosted = np.abs(np.fft.ifft(spectrum, axis=axis))
    expected = np.where(inside, ghosted + dark, 0)
    found = mri_effects.ghosting(image, 0.4, period, along_rows)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_ghosts_lie_evenly_along_one_axis_at_their_strength():
    image = np.full((4, 24, 1), 1e-6, np.float32)
    image[2, 3] = 1.0
    ghosted = mri_effects.ghosting(image, 0.5, 3, True).numpy()[2, :, 0]
    # The mean, which is kept, adds 0.5 / 24 everywhere.
    np.testing.assert_allclose(ghosted[[11, 19]], 0.5 / 3 - 0.5 / 24, atol=1e-4)
    assert ghosted[3] == pytest.approx(1 - 0.5 / 3 + 0.5 / 24, abs=1e-4)


def test_noise_has_its_strength_in_units_of_the_modality():
    image = 5 * z_scored(channels=2)
    changed = mri_effects.noise(image, (4, 5), np.float32([0.5, 0.0])).numpy()
    added = (changed - image)[image[..., 0] != 0]
    assert added[:, 0].std() == pytest.approx(2.5, rel=0.15)
    assert added[:, 0].mean() == pytest.approx(0.0, abs=0.4)
    assert not added[:, 1].any()


def test_one_modality_is_dropped_and_never_the_only_one():
    image = z_scored()
    changed = mri_effects.drop_modality(image, 1).numpy()
    assert not changed[..., 1].any()
    np.testing.assert_array_equal(changed[..., [0, 2]], image[..., [0, 2]])
    gone = [
        np.flatnonzero(~mri_effects.random_loss(image, (0, n)).numpy().any(axis=(0, 1)))
        for n in range(60)
    ]
    assert {len(which) for which in gone} == {1}
    assert {int(which[0]) for which in gone} == {0, 1, 2}
    only = z_scored(channels=1)
    np.testing.assert_array_equal(mri_effects.random_loss(only, (0, 0)), only)


@pytest.mark.parametrize(
    "effect",
    [
        lambda x, seed: mri_effects.random_gamma(x, seed, (0.5, 2.0)),
        lambda x, seed: mri_effects.random_bias_field(x, seed, 0.5),
        lambda x, seed: mri_effects.random_ghosts(x, seed, 0.8),
        lambda x, seed: mri_effects.random_noise(x, seed, 0.5),
    ],
)
def test_a_seed_decides_the_effect(effect):
    image = z_scored()
    first, again, other = (effect(image, seed) for seed in [(1, 2), (1, 2), (1, 3)])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
