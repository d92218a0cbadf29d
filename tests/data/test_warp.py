"""The warp of slices: Keras's, voxel for voxel, about the middle of the slice."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg.data import warp

# tf_keras 2.21 calls SciPy's function by an old name.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Please import `affine_transform`:DeprecationWarning"
)

SINGLE = [
    {"theta": 33.0},
    {"theta": -151.0},
    {"tx": 5.0},
    {"tx": -3.3},
    {"ty": 4.7},
    {"shear": 17.0},
    {"shear": -40.0},
    {"zx": 0.6},
    {"zy": 1.7},
    {"flip_horizontal": True},
    {"flip_vertical": True},
]
TOGETHER = {
    "theta": 71.0,
    "tx": 3.4,
    "ty": -6.2,
    "shear": 13.0,
    "zx": 0.8,
    "zy": 1.3,
    "flip_horizontal": True,
    "flip_vertical": True,
}
SIZES = [(24, 24), (20, 31)]


def keras(array, parameters, fill_mode, *, order, cval=0.0):
    """Keras's transform, its centre moved to the middle of the slice.

    In x and y, Keras turns about ((H - 1) / 2, (W - 1) / 2). Turning about c rather
    than c' adds (I - A)(c - c') to the result of A: made part of the shift, which comes
    before the rotation.
    """
    height, width = array.shape[:2]
    values = {**warp.IDENTITY, **parameters}
    theta, shear = np.deg2rad([values["theta"], values["shear"]])
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    lean = np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
    whole = turn @ lean @ np.diag([values["zx"], values["zy"]])
    centre, swapped = np.array([width, height]) / 2, np.array([height, width]) / 2
    extra = np.linalg.inv(turn) @ (np.eye(2) - whole) @ (centre - swapped)
    values["tx"], values["ty"] = np.array([values["tx"], values["ty"]]) + extra
    generator = tf_keras.preprocessing.image.ImageDataGenerator(
        fill_mode=fill_mode, cval=cval, interpolation_order=order
    )
    return generator.apply_transform(array, values)


def slice_of(size, seed=0):
    image = np.random.default_rng(seed).normal(size=(*size, 3)).astype(np.float32)
    return image, (image[..., :2] > 0.3).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fill_mode", warp.FILL_MODES)
@pytest.mark.parametrize("parameters", [*SINGLE, TOGETHER], ids=lambda p: "-".join(p))
def test_a_warp_is_that_of_keras(parameters, fill_mode, size):
    image, mask = slice_of(size)
    moved, moved_mask = warp.warp(
        image, mask, parameters, fill_mode=fill_mode, cval=0.7
    )
    expected = keras(image, parameters, fill_mode, order=1, cval=0.7)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    expected = keras(mask, parameters, fill_mode, order=0)
    np.testing.assert_array_equal(moved_mask, expected)


@pytest.mark.parametrize("fill_mode", warp.FILL_MODES)
def test_random_warps_are_those_of_keras(fill_mode):
    rng = np.random.default_rng(1)
    for number in range(20):
        parameters = {
            "theta": rng.uniform(-180, 180),
            "tx": rng.uniform(-60, 60),
            "ty": rng.uniform(-60, 60),
            "shear": rng.uniform(-45, 45),
            "zx": rng.uniform(0.3, 3),
            "zy": rng.uniform(0.3, 3),
            "flip_horizontal": rng.random() < 0.5,
            "flip_vertical": rng.random() < 0.5,
        }
        image, mask = slice_of((18, 26), number)
        found = warp.warp(image, mask, parameters, fill_mode=fill_mode)
        expected = keras(image, parameters, fill_mode, order=1)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)
        expected = keras(mask, parameters, fill_mode, order=0)
        np.testing.assert_array_equal(found[1], expected)


def test_square_slices_need_no_other_centre():
    image, mask = slice_of((16, 16))
    generator = tf_keras.preprocessing.image.ImageDataGenerator()
    expected = generator.apply_transform(image, TOGETHER)
    moved, _ = warp.warp(image, mask, TOGETHER, fill_mode="nearest")
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_half_a_turn_reverses_an_oblong_which_keras_loses():
    image, mask = slice_of((8, 14))
    half = {"theta": 180.0}
    moved, _ = warp.warp(image, mask, half, fill_mode="nearest")
    np.testing.assert_allclose(moved, image[::-1, ::-1], atol=1e-5)
    generator = tf_keras.preprocessing.image.ImageDataGenerator(fill_mode="constant")
    lost = (generator.apply_transform(image, half) == 0).mean()
    assert lost > 0.5


def test_flips_and_whole_shifts_are_exact():
    image, mask = slice_of((6, 9))
    moved, moved_mask = warp.warp(image, mask, {"flip_horizontal": True, "ty": 2})
    np.testing.assert_array_equal(moved[:4], image[2:, ::-1])
    np.testing.assert_array_equal(moved_mask[:4], mask[2:, ::-1])
    assert not np.any(moved[4:])
    still, still_mask = warp.warp(image, mask, {})
    np.testing.assert_array_equal(still, image)
    np.testing.assert_array_equal(still_mask, mask)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_a_mask_keeps_its_type_and_values_and_is_0_beyond_the_edges(dtype):
    image, mask = slice_of((12, 12))
    parameters = {"theta": 30.0, "tx": 3.0}
    moved, moved_mask = warp.warp(image, mask.astype(dtype), parameters, cval=5.0)
    assert moved_mask.dtype == dtype
    assert set(np.unique(np.asarray(moved_mask, float))) == {0.0, 1.0}
    beyond = (moved.numpy() == 5.0).all(axis=-1)
    assert beyond.any()
    assert not np.asarray(moved_mask)[beyond].any()


def test_image_and_mask_stay_together():
    """A smooth image thresholded before or after the warp gives the same outline."""
    y, x = np.mgrid[:64, :48]
    image = (np.hypot(y - 30, x - 22) - 15).astype(np.float32)[..., None]
    moved, mask = warp.warp(image, image < 0, TOGETHER, fill_mode="nearest")
    away = np.abs(moved.numpy()) > 1.5  # a voxel's diagonal
    np.testing.assert_array_equal((moved.numpy() < 0)[away], mask.numpy()[away])


def test_background_stays_exactly_0():
    image = np.zeros((20, 20, 1), np.float32)
    image[8:12, 8:12] = 1.0
    moved, _ = warp.warp(image, image, {"theta": 25.0})
    assert (moved.numpy() == 0).mean() > 0.9


def test_one_voxel_wide_slices_can_be_warped():
    image = np.ones((1, 1, 1), np.float32)
    for fill_mode in warp.FILL_MODES[:1] + warp.FILL_MODES[2:]:
        moved, _ = warp.warp(image, image, {"tx": 2.0}, fill_mode=fill_mode)
        assert moved.numpy().item() == 1.0


def test_an_unknown_size_is_an_error():
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 1))])
    def run(image):
        return warp.warp(image, image, {})

    with pytest.raises(ValueError, match="`image` must have a known height and width"):
        run(np.zeros((4, 4, 1), np.float32))
