"""Test-time augmentation: exact ways back, and a spread that counts as aleatoric."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tf_keras

from tfp_uqseg import layers
from tfp_uqseg.uncertainty import draws, measures, test_time

SQUARE = np.random.default_rng(0).normal(size=(3, 12, 12, 2)).astype(np.float32)
OBLONG = np.random.default_rng(1).normal(size=(3, 12, 8, 2)).astype(np.float32)
MAPS = [
    "mean_probabilities",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "aleatoric_variance",
    "epistemic_variance",
]


def convolution(kernel_size=3, bayesian=False, filters=2):
    kind = tf_keras.layers.Conv2D
    settings = {"kernel_initializer": tf_keras.initializers.GlorotNormal(seed=3)}
    if bayesian:
        kind, settings = layers.Convolution2DFlipout, {"seed": 3}
    return tf_keras.Sequential(
        [
            tf_keras.Input((None, None, 2)),
            kind(filters, kernel_size, padding="same", **settings),
        ]
    )


@pytest.fixture(scope="module")
def network():
    return convolution()


@pytest.fixture(scope="module")
def bayesian():
    return convolution(bayesian=True)


def ways(image):
    """All eight ways an image (H, W, C) can lie, and the ways back."""
    for turns in range(4):
        yield np.rot90(image, turns), lambda a, k=turns: np.rot90(a, -k)
        yield (
            np.rot90(image[::-1], turns),
            lambda a, k=turns: np.rot90(a, -k)[::-1],
        )


def stack_of(network, images):
    """(8, N, H, W, K): the answers to all eight, put back, one image at a time."""
    stack = []
    for image in images:
        answers = []
        for seen, back in ways(image):
            logits = network(np.ascontiguousarray(seen)[None]).numpy()[0]
            answers.append(back(1 / (1 + np.exp(-logits.astype(np.float64)))))
        stack.append(answers)
    return np.swapaxes(stack, 0, 1)


def test_eight_draws_are_the_mean_over_all_ways_a_square_can_lie(network):
    stack = stack_of(network, SQUARE)
    prediction = test_time.predict(network, SQUARE)
    mean = stack.mean(axis=0)
    assert np.abs(stack - mean).max() > 0.1
    np.testing.assert_allclose(prediction.mean_probabilities, mean, atol=1e-6)
    entropy = measures.binary_entropy(mean)
    np.testing.assert_allclose(prediction.predictive_entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(
        prediction.aleatoric_variance, mean * (1 - mean), atol=1e-6
    )
    counts = sorted(map(tuple, (stack > 0.5).sum(axis=(1, 2, 3))))
    assert sorted(map(tuple, prediction.voxel_counts)) == counts
    assert len(set(counts)) > 1


def test_the_spread_between_transforms_is_aleatoric(network):
    prediction = test_time.predict(network, SQUARE)
    assert not prediction.mutual_information.any()
    assert not prediction.epistemic_variance.any()
    stack = stack_of(network, SQUARE)
    within = np.mean(stack * (1 - stack), axis=0)
    np.testing.assert_allclose(
        prediction.aleatoric_variance, within + stack.var(axis=0), atol=1e-6
    )
    plain = draws.predict(network, SQUARE)
    assert prediction.expected_entropy.mean() > plain.expected_entropy.mean()


def test_an_equivariant_network_has_no_spread():
    """A convolution of one voxel says the same however the image lies."""
    network = convolution(kernel_size=1)
    for images in (SQUARE, OBLONG):
        plain = draws.probabilities(network, images, 0)
        for draw in range(8):
            again = test_time.probabilities(network, images, draw)
            np.testing.assert_allclose(again, plain, atol=1e-6)
        prediction = test_time.predict(network, images)
        np.testing.assert_allclose(prediction.mean_probabilities, plain, atol=1e-6)
        assert (prediction.voxel_counts == prediction.voxel_counts[0]).all()


@pytest.mark.parametrize(("images", "number"), [(SQUARE, 8), (OBLONG, 4)])
def test_every_transform_comes_once_before_any_again(network, images, number):
    seen = [
        test_time.probabilities(network, images, draw).tobytes() for draw in range(16)
    ]
    for start in range(0, 16, number):
        assert len(set(seen[start : start + number])) == number
    assert len(set(seen)) == number


def test_an_oblong_is_flipped_and_half_turned_alone(network):
    prediction = test_time.predict(network, OBLONG)
    assert prediction.mean_probabilities.shape == (3, 12, 8, 2)
    answers = []
    for axes in ([], [1], [2], [1, 2]):
        p = draws.probabilities(network, np.flip(OBLONG, axes).copy(), 0)
        answers.append(np.flip(p, axes))
    np.testing.assert_allclose(
        prediction.mean_probabilities, np.mean(answers, axis=0), atol=1e-6
    )
    assert prediction.voxel_counts.shape == (8, 2)
    four = test_time.predict(network, OBLONG, num_draws=4)
    np.testing.assert_allclose(
        four.mean_probabilities, prediction.mean_probabilities, atol=1e-6
    )


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_a_bayesian_model_are_those_of_the_stack(bayesian, name):
    prediction = test_time.predict(
        bayesian, SQUARE, num_draws=3, seed=2, num_networks=4
    )
    stack = np.array(
        [
            [
                test_time.probabilities(bayesian, SQUARE, t, seed=2, network_draw=s)
                for t in range(3)
            ]
            for s in range(4)
        ]
    )
    expected = getattr(measures, name)(stack.mean(axis=1))
    np.testing.assert_allclose(getattr(prediction, name), expected, atol=1e-5)
    counts = (stack > 0.5).sum(axis=(2, 3, 4)).reshape(12, 2)
    np.testing.assert_array_equal(prediction.voxel_counts, counts)
    assert prediction.num_draws == 12
    assert prediction.epistemic_variance.max() > 1e-4


def test_networks_are_those_of_network_draws(bayesian):
    """Untransformed, network s is draw s of `draws`."""
    for draw in range(8):
        found = test_time.probabilities(bayesian, SQUARE, draw, network_draw=2)
        if np.array_equal(found, draws.probabilities(bayesian, SQUARE, 2)):
            return
    pytest.fail("No transform left the images as they are.")


def test_the_number_of_networks_has_a_default(bayesian, network):
    few = SQUARE[:1]
    assert test_time.predict(network, few, num_networks=5).num_draws == 8
    assert test_time.predict(bayesian, few, num_draws=1).num_draws == 20


def test_members_of_an_ensemble_are_networks(network):
    other = convolution()
    other.set_weights([2 * weight for weight in network.get_weights()])
    ensemble = types.SimpleNamespace(members=[network, other])
    prediction = test_time.predict(ensemble, SQUARE)
    parts = [stack_of(member, SQUARE).mean(axis=0) for member in ensemble.members]
    np.testing.assert_allclose(
        prediction.epistemic_variance, np.var(parts, axis=0), atol=1e-6
    )
    assert prediction.num_draws == 16


def test_seeds_decide_which_transforms_come(network):
    first, again, other = (
        test_time.predict(network, SQUARE, num_draws=2, seed=seed) for seed in (1, 1, 3)
    )
    np.testing.assert_array_equal(first.mean_probabilities, again.mean_probabilities)
    np.testing.assert_array_equal(first.voxel_counts, again.voxel_counts)
    assert not np.array_equal(first.mean_probabilities, other.mean_probabilities)
    assert first.seed == 1


def test_the_batch_size_does_not_change_the_maps(network):
    one = test_time.predict(network, SQUARE, batch_size=1)
    all_at_once = test_time.predict(network, SQUARE, batch_size=3)
    for name in MAPS:
        np.testing.assert_allclose(
            getattr(one, name), getattr(all_at_once, name), atol=1e-5
        )


def test_volumes_are_turned_in_their_slices():
    network = tf_keras.Sequential(
        [
            tf_keras.Input((None, None, None, 2)),
            tf_keras.layers.Conv3D(1, (1, 3, 3), padding="same"),
        ]
    )
    flat = tf_keras.Sequential(
        [
            tf_keras.Input((None, None, 2)),
            tf_keras.layers.Conv2D(1, 3, padding="same"),
        ]
    )
    kernel, bias = network.get_weights()
    flat.set_weights([kernel[0], bias])
    whole = test_time.predict(network, SQUARE[None])
    slices = test_time.predict(flat, SQUARE)
    np.testing.assert_allclose(
        whole.mean_probabilities[0], slices.mean_probabilities, atol=1e-6
    )


def test_voxels_of_contained_regions_count_too(network):
    alone = test_time.predict(network, SQUARE).voxel_counts
    nested = test_time.predict(network, SQUARE, contained=[[1, 1], [0, 1]])
    np.testing.assert_array_equal(nested.voxel_counts[:, 1], alone[:, 1])
    assert (nested.voxel_counts[:, 0] > alone[:, 0]).all()


def test_progress_counts_images_and_draws(network, bayesian):
    seen = []
    test_time.predict(
        network, OBLONG, num_draws=6, progress=lambda *pair: seen.append(pair)
    )
    assert seen[-1] == (18, 18)
    assert seen == sorted(seen)
    seen.clear()
    test_time.predict(
        bayesian,
        OBLONG,
        num_draws=2,
        num_networks=3,
        progress=lambda *pair: seen.append(pair),
    )
    assert seen == [(3 * done, 18) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": SQUARE[0]}, r"`images` must have shape \(N, H, W, C\) or"),
        ({"images": SQUARE[..., :1]}, "`images` must have shape"),
        ({"images": np.full((1, 8, 8, 2), np.nan)}, "`images` must be finite"),
        ({"num_draws": 0}, "`num_draws` must be a whole number above 0"),
        ({"num_networks": 0}, "`num_networks` must be a whole number above 0"),
        ({"contained": np.eye(3)}, r"`contained` must have shape \(2, 2\)"),
    ],
)
def test_bad_arguments_are_an_error(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        test_time.predict(network, **{"images": SQUARE, **arguments})
