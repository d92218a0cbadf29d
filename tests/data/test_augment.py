from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg.data import augment, mri_effects, warp
from tfp_uqseg.data.augment import Augmentation


def slice_of(height, width):
    image = np.arange(height * width * 2, dtype=np.float32).reshape(height, width, 2)
    return image, image[..., :1] % 2


def dihedral(image):
    turned = [np.rot90(image, k) for k in range(4)]
    return [*turned, *[np.rot90(image[::-1], k) for k in range(4)]]


def test_squares_take_all_eight_places_equally_often():
    image, mask = slice_of(4, 4)
    counts = np.zeros(8, int)
    for number in range(400):
        moved, _ = augment.flips_and_turns(image, mask, (7, number))
        same = [np.array_equal(moved, other) for other in dihedral(image)]
        counts[same.index(True)] += 1
    assert counts.min() > 25


def test_oblongs_take_their_four_places_and_keep_their_shape():
    image, mask = slice_of(4, 6)
    seen = set()
    for number in range(60):
        moved, _ = augment.flips_and_turns(image, mask, (7, number))
        assert moved.shape == (4, 6, 2)
        seen.add(moved.numpy().tobytes())
    ways = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    assert seen == {np.ascontiguousarray(way).tobytes() for way in ways}


@pytest.mark.parametrize("size", [(4, 4), (4, 6)])
def test_image_and_mask_move_alike_and_come_back(size):
    image, mask = slice_of(*size)
    for number in range(20):
        seed = (number, 3)
        moved, moved_mask = augment.flips_and_turns(image, mask, seed)
        assert np.array_equal(moved[..., :1] % 2, moved_mask)
        back = augment.undo_flips_and_turns(moved, seed)
        assert np.array_equal(back, image)


def test_a_graph_gives_what_eager_gives():
    image, mask = slice_of(4, 4)
    graph = tf.function(augment.flips_and_turns)
    for number in range(10):
        seed = tf.constant((number, 1))
        eager = augment.flips_and_turns(image, mask, seed)
        for one, other in zip(eager, graph(image, mask, seed), strict=True):
            assert np.array_equal(one, other)


def test_an_unknown_size_is_an_error():
    signature = [tf.TensorSpec((None, 4, 1)), tf.TensorSpec((None, 4, 1))]

    @tf.function(input_signature=signature)
    def run(image, mask):
        return augment.flips_and_turns(image, mask, (0, 0))

    with pytest.raises(ValueError, match="`image` must have a known height and width"):
        run(*[np.zeros((4, 4, 1), np.float32)] * 2)


def brain(size=(24, 20), channels=4):
    """Z-scores with exact 0 around them, and a mask."""
    image = np.zeros((*size, channels), np.float32)
    inside = np.s_[4:-4, 3:-5]
    values = np.random.default_rng(0).normal(size=image[inside].shape)
    image[inside] = values
    mask = np.zeros((*size, 2), np.uint8)
    mask[8:14, 6:11] = [1, 0]
    mask[9:12, 7:9] = 1
    return image, mask


def draw_many(augmentation, count=200, height=40, width=100):
    draw = tf.function(
        lambda seed: augmentation.transform_parameters(seed, height, width)
    )
    drawn = [draw(tf.constant((5, number))) for number in range(count)]
    return {
        name: np.array([float(one[name]) for one in drawn])
        for name in drawn[0]
        if drawn[0][name] is not None
    }


EVERYTHING = Augmentation(
    rotation_range=30,
    width_shift_range=0.2,
    height_shift_range=3.0,
    shear_range=10,
    zoom_range=0.2,
    brightness_range=(0.8, 1.2),
    horizontal_flip=True,
    vertical_flip=True,
    flips_and_turns=True,
    gamma_range=(0.7, 1.4),
    bias_field=0.3,
    ghosting=0.5,
    noise=0.2,
    drop_modality=0.5,
    effect_probability=0.5,
)


def test_drawn_numbers_fill_their_ranges():
    drawn = draw_many(EVERYTHING)
    ranges = {
        "theta": (-30, 30),
        "tx": (-20, 20),
        "ty": (-3, 3),
        "shear": (-10, 10),
        "zx": (0.8, 1.2),
        "zy": (0.8, 1.2),
        "brightness": (0.8, 1.2),
    }
    for name, (low, high) in ranges.items():
        width = high - low
        assert low <= drawn[name].min() < low + 0.1 * width
        assert high - 0.1 * width < drawn[name].max() <= high
        assert drawn[name].mean() == pytest.approx((low + high) / 2, abs=0.1 * width)
    for name in ("flip_horizontal", "flip_vertical"):
        assert 0.35 < drawn[name].mean() < 0.65
    together = np.corrcoef(list(drawn.values()))
    assert np.abs(together - np.eye(len(drawn))).max() < 0.3


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (3, {-2, -1, 0, 1, 2}),
        (1, {0}),
        ([2, 7.5], {-7.5, -2, 2, 7.5}),
        ([0.1, 0.25], {-25, -10, 10, 25}),
    ],
)
def test_shifts_of_whole_numbers_and_sequences_are_those_of_keras(limits, expected):
    drawn = draw_many(Augmentation(width_shift_range=limits))
    assert set(drawn["tx"].round(4)) == expected
    generator = tf_keras.preprocessing.image.ImageDataGenerator(
        # Keras's `tx`, along the width, takes the range of the height.
        height_shift_range=limits
    )
    keras = {
        round(float(generator.get_random_transform((100, 40, 1))["tx"]), 4)
        for _ in range(200)
    }
    assert keras == expected


def test_what_is_not_asked_for_is_not_drawn():
    drawn = Augmentation().transform_parameters((0, 1), 8, 8)
    assert drawn.pop("brightness") is None
    assert {name: float(value) for name, value in drawn.items()} == warp.IDENTITY


@pytest.mark.parametrize("fill_mode", warp.FILL_MODES)
@pytest.mark.filterwarnings(
    "ignore:Please import `affine_transform`:DeprecationWarning"
)
def test_a_slice_moves_as_keras_moves_it_with_the_same_numbers(fill_mode):
    augmentation = Augmentation(
        rotation_range=90,
        width_shift_range=0.2,
        height_shift_range=0.1,
        shear_range=20,
        zoom_range=(0.7, 1.4),
        horizontal_flip=True,
        vertical_flip=True,
        fill_mode=fill_mode,
        cval=0.5,
        rescale=2.0,
    )
    image = np.random.default_rng(0).normal(size=(20, 20, 2)).astype(np.float32)
    keras = [
        tf_keras.preprocessing.image.ImageDataGenerator(
            fill_mode=fill_mode, cval=cval, interpolation_order=order
        )
        for order, cval in ((1, 0.5), (0, 0.0))
    ]
    for number in range(10):
        drawn = augmentation.transform_parameters((number, 1), 20, 20)
        drawn = {k: float(v) for k, v in drawn.items() if v is not None}
        moved, mask = augmentation(image, image > 0, (number, 1))
        expected = 2 * keras[0].apply_transform(image, drawn)
        np.testing.assert_allclose(moved, expected, atol=2e-5)
        expected = keras[1].apply_transform((image > 0).astype(np.float32), drawn)
        np.testing.assert_array_equal(mask, expected > 0)


def test_shifts_go_along_the_axis_they_are_named_for():
    image = np.zeros((9, 15, 1), np.float32)
    image[4, 7] = 1.0
    seen = {"width": set(), "height": set()}
    for number in range(12):
        for name, places in seen.items():
            moves = Augmentation(**{f"{name}_shift_range": [3]})
            moved, _ = moves(image, image, (number, 0))
            places.add(tuple(int(i) for i in np.argwhere(moved.numpy())[0][:2]))
    assert seen == {"width": {(4, 4), (4, 10)}, "height": {(1, 7), (7, 7)}}


def test_brightness_is_what_was_drawn():
    image, mask = brain()
    augmentation = Augmentation(brightness_range=(0.5, 1.5))
    factor = augmentation.transform_parameters((1, 2), 24, 20)["brightness"]
    changed, _ = augmentation(image, mask, (1, 2))
    np.testing.assert_allclose(changed, mri_effects.brightness(image, factor))


@pytest.mark.parametrize(
    ("augmentation", "size"),
    [
        (EVERYTHING, (24, 24)),
        *((preset, (24, 20)) for preset in augment.PRESETS.values()),
    ],
)
def test_a_seed_decides_in_a_graph_as_well(augmentation, size):
    image, mask = brain(size)
    graph = tf.function(augmentation)
    outcomes = []
    for number in (0, 1, 4):
        seed = tf.constant((number, 3))
        eager = augmentation(image, mask, seed)
        for one, other in zip(eager, graph(image, mask, seed), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        assert eager[0].shape == image.shape
        assert eager[0].dtype == tf.float32
        assert eager[1].shape == mask.shape
        assert eager[1].dtype == tf.uint8
        assert set(np.unique(eager[1])) <= {0, 1}
        outcomes.append(eager[0].numpy().tobytes())
    assert len(set(outcomes)) > 1


def test_background_stays_exactly_0_after_it_moved():
    image, mask = brain()
    still = {"brightness_range": None, "gamma_range": None, "drop_modality": 0.0}
    still |= dict.fromkeys(("bias_field", "ghosting", "noise"), 0.0)
    only_moved = dataclasses.replace(EVERYTHING, **still)
    for number in range(5):
        changed, _ = EVERYTHING(image, mask, (number, 0))
        moved, _ = only_moved(image, mask, (number, 0))
        assert not changed.numpy()[moved.numpy() == 0].any()


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"noise": 0.5, "effect_probability": 0.25}, 0.25),
        ({"ghosting": 0.5, "effect_probability": 0.25}, 0.25),
        ({"bias_field": 0.5, "effect_probability": 0.25}, 0.25),
        ({"gamma_range": (0.5, 2.0), "effect_probability": 0.25}, 0.25),
        ({"drop_modality": 0.25}, 0.25),
        ({"noise": 0.5}, 1.0),
        ({"noise": 0.5, "effect_probability": 0.0}, 0.0),
    ],
)
def test_effects_come_with_their_probability(settings, share):
    image, mask = brain()
    change = tf.function(Augmentation(**settings))
    changed = [
        not np.array_equal(change(image, mask, tf.constant((3, n)))[0], image)
        for n in range(200)
    ]
    assert np.mean(changed) == pytest.approx(share, abs=0.09)


def test_flips_are_what_they_were_before_there_were_others():
    image, mask = slice_of(4, 4)
    for number in range(8):
        found = augment.PRESETS["flips"](image, mask, (number, 3))
        expected = augment.flips_and_turns(image, mask, (number, 3))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_every_value_of_the_setting_is_understood():
    flips = augment.PRESETS["flips"]
    assert augment.resolve(True) is augment.resolve("flips") is flips
    assert augment.resolve(False) is augment.resolve(None) is None
    assert augment.resolve("none") is None
    assert augment.resolve("paper").rotation_range == 360
    assert augment.resolve(EVERYTHING) is EVERYTHING


@pytest.mark.parametrize("augmentation", [EVERYTHING, *augment.PRESETS.values()])
def test_settings_survive_json(augmentation):
    text = json.dumps(dataclasses.asdict(augmentation))
    assert augment.resolve(json.loads(text)) == augmentation


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotation_range": -1}, "`rotation_range` must be a finite number, at least"),
        ({"rotation_range": "30"}, "`rotation_range` must be a finite number"),
        ({"shear_range": float("nan")}, "`shear_range` must be a finite number"),
        ({"noise": True}, "`noise` must be a finite number, at least 0; got True"),
        ({"bias_field": -0.1}, "`bias_field` must be a finite number"),
        ({"ghosting": 1.5}, "`ghosting` must be a number from 0 to 1; got 1.5"),
        ({"drop_modality": -1}, "`drop_modality` must be a number from 0 to 1"),
        ({"effect_probability": 2}, "`effect_probability` must be a number from 0"),
        ({"horizontal_flip": "yes"}, "`horizontal_flip` must be one of True, False"),
        ({"vertical_flip": 3}, "`vertical_flip` must be one of True, False"),
        ({"flips_and_turns": None}, "`flips_and_turns` must be one of True, False"),
        ({"width_shift_range": -0.1}, "`width_shift_range` must be a finite number"),
        ({"height_shift_range": []}, "`height_shift_range` must have at least one"),
        ({"height_shift_range": [None]}, "`height_shift_range` must be a finite"),
        ({"zoom_range": 1.0}, "`zoom_range` must keep the zoom above 0"),
        ({"zoom_range": (0, 2)}, "`zoom_range` must keep the zoom above 0"),
        ({"zoom_range": (1, 2, 3)}, r"`zoom_range` must be a pair \(low, high\)"),
        ({"brightness_range": 0.2}, r"`brightness_range` must be a pair"),
        ({"brightness_range": (1.2, 0.8)}, "`brightness_range` must have low <= high"),
        ({"brightness_range": (-1, 1)}, "`brightness_range` must be a finite number"),
        ({"gamma_range": (0, 1)}, "`gamma_range` must lie above 0"),
        ({"fill_mode": "mirror"}, "`fill_mode` must be one of 'nearest', 'constant'"),
        ({"cval": float("inf")}, "`cval` must be a finite number; got inf"),
        ({"rescale": -1}, "`rescale` must be a finite number, at least 0"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


@pytest.mark.parametrize("value", ["heavy", 5, [1]])
def test_an_unknown_augmentation_is_an_error(value):
    message = "`augment` must be one of True, False, 'flips', 'paper', 'mri', 'none'"
    with pytest.raises(ValueError, match=message):
        augment.resolve(value)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(ValueError, match="`augment` must be one of 'rotation_range'"):
        augment.resolve({"rotation": 5})


def test_a_slice_of_unknown_size_is_an_error():
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 1))])
    def run(image):
        return EVERYTHING(image, image, (0, 0))

    with pytest.raises(ValueError, match="`image` must have a known height and width"):
        run(np.zeros((4, 4, 1), np.float32))
