from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfp_uqseg import layers, models
from tfp_uqseg.layers import noise
from tfp_uqseg.uncertainty import draws, measures, network

METHODS = ("deterministic", "mc_dropout", "flipout", "latent")
IMAGES = np.random.default_rng(0).normal(size=(11, 20, 18, 2)).astype(np.float32)


def small(method, **arguments):
    settings = {
        "input_shape": (None, None, 2),
        "num_regions": 2,
        "num_train_examples": 10,
        "base_filters": 4,
        "depth": 3,
        "initial_stddev_ratio": 0.5,
        # An untrained network then finds something everywhere.
        "initial_probability": 0.5,
    }
    return models.build(method, **{**settings, **arguments})


@pytest.fixture(scope="module", params=METHODS)
def model(request):
    return small(request.param)


@pytest.fixture(scope="module")
def stack(model):
    return np.stack([draws.probabilities(model, IMAGES, draw) for draw in range(5)])


@pytest.fixture(scope="module")
def prediction(model):
    return draws.predict(model, IMAGES, num_draws=5)


NAMES = [
    "mean_probabilities",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "aleatoric_variance",
    "epistemic_variance",
]


@pytest.mark.parametrize("name", NAMES)
def test_streamed_moments_are_those_of_the_stack(prediction, stack, name):
    expected = getattr(measures, name)(stack)
    np.testing.assert_allclose(getattr(prediction, name), expected, atol=1e-5)


@pytest.mark.parametrize("variances", [True, False])
@pytest.mark.parametrize("method", ["mc_dropout", "latent", "ensemble_mc_dropout"])
def test_further_draws_go_on_to_the_last_digit(method, variances):
    model = small(method, num_members=2)
    options = {"variances": variances, "batch_size": 3, "num_latent_draws": 2}
    options = options if method == "latent" else {**options, "num_latent_draws": None}
    few = draws.predict(model, IMAGES, 2, **options)
    grown = draws.predict(model, IMAGES, 5, earlier=few, **options)
    whole = draws.predict(model, IMAGES, 5, **options)
    assert (grown.aleatoric_variance is None) == (not variances)
    for name, expected in vars(whole).items():
        np.testing.assert_array_equal(getattr(grown, name), expected, err_msg=name)


def test_entropies_are_the_same_without_variances(model, prediction):
    bare = draws.predict(model, IMAGES, num_draws=5, variances=False)
    for name in ("mean_probabilities", "expected_entropy", "voxel_counts"):
        np.testing.assert_allclose(
            getattr(bare, name), getattr(prediction, name), atol=1e-6
        )
    assert bare.epistemic_variance is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "the same `seed`, 1; got 0"),
        ({"variances": False}, "the same `variances`, False; got True"),
        ({"images": IMAGES[:2]}, "the same `images`, 2; got 3"),
        ({"num_draws": 2}, "must exceed the 2 draws of `earlier`; got 2"),
    ],
)
def test_draws_that_do_not_go_on_from_others_are_refused(options, message):
    model = small("mc_dropout")
    earlier = draws.predict(model, IMAGES[:3], 2)
    options = {"images": IMAGES[:3], "num_draws": 4, **options}
    with pytest.raises(ValueError, match=message):
        draws.predict(model, earlier=earlier, **options)


def test_voxels_are_counted_per_draw(prediction, stack):
    expected = (stack > 0.5).sum(axis=(1, 2, 3))
    assert expected.any(axis=0).all()
    np.testing.assert_array_equal(prediction.voxel_counts, expected)


def test_voxels_of_contained_regions_count_too(model, stack):
    alone = (stack > 0.5).sum(axis=(1, 2, 3))
    either = (stack > 0.5).any(axis=-1).sum(axis=(1, 2, 3))
    assert (either > alone.min(axis=1)).any()
    for nested in ([[1, 1], [0, 1]], [[1, 0], [1, 1]]):
        found = draws.predict(model, IMAGES, num_draws=5, contained=nested).voxel_counts
        outer, inner = (0, 1) if nested[0][1] else (1, 0)
        np.testing.assert_array_equal(found[:, outer], either)
        np.testing.assert_array_equal(found[:, inner], alone[:, inner])


def test_containment_has_a_row_per_region(model):
    with pytest.raises(ValueError, match=r"`contained` must have shape \(2, 2\)"):
        draws.predict(model, IMAGES[:1], num_draws=1, contained=np.eye(3))


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_prediction_does_not_depend_on_the_batch_size(model, prediction, batch_size):
    other = draws.predict(model, IMAGES, num_draws=5, batch_size=batch_size)
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(other, name), getattr(prediction, name), atol=1e-5
        )


def test_prediction_does_not_depend_on_the_order(model, prediction):
    other = draws.predict(model, IMAGES[::-1], num_draws=5)
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(other, name)[::-1], getattr(prediction, name), atol=1e-5
        )


def test_images_of_any_size_keep_their_size(prediction):
    assert prediction.mean_probabilities.shape == (11, 20, 18, 2)


def test_seeds_decide_the_draws(model):
    first = draws.predict(model, IMAGES[:2], num_draws=2, seed=1)
    again = draws.predict(model, IMAGES[:2], num_draws=2, seed=1)
    other = draws.predict(model, IMAGES[:2], num_draws=2, seed=2)
    np.testing.assert_array_equal(first.mean_probabilities, again.mean_probabilities)
    same = np.array_equal(first.mean_probabilities, other.mean_probabilities)
    assert same == (model.method == "deterministic")


def test_only_bayesian_networks_have_epistemic_uncertainty(model, prediction):
    spread = prediction.epistemic_variance.max()
    assert (spread > 1e-4) == (model.method != "deterministic")


def test_logit_variances_exist_with_a_gaussian_head_alone(model, prediction):
    has_head = model.method == "latent"
    assert (prediction.logit_aleatoric_variance is not None) == has_head
    if has_head:
        assert prediction.logit_epistemic_variance.min() >= 0.0
        assert prediction.logit_aleatoric_variance.min() > 0.0


def test_logit_variances_are_the_two_parts_of_equation_11():
    model = small("flipout", gaussian_logits=True)
    images = IMAGES[:2, :16, :16]
    prediction = draws.predict(model, images, num_draws=4)
    locs, stddevs = [], []
    for draw in range(4):
        with noise.use(noise.DrawScope(noise.draw_key(0, draw))):
            logits = model(images)
        locs.append(logits.mean().numpy())
        stddevs.append(logits.stddev().numpy())
    np.testing.assert_allclose(
        prediction.logit_epistemic_variance, np.var(locs, axis=0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        prediction.logit_aleatoric_variance,
        np.mean(np.square(stddevs), axis=0),
        rtol=1e-3,
    )


def test_latents_alone_make_almost_no_epistemic_uncertainty():
    """What inner draws leave behind is small beside what weights bring."""
    free = small("latent", seed=3)
    spread = draws.predict(free, IMAGES[:4], num_draws=6).epistemic_variance.mean()
    for layer in free.bayesian_layers:
        layer.kernel_untransformed_scale.assign(
            np.full(layer.kernel_untransformed_scale.shape, -30.0)
        )
    fixed = draws.predict(free, IMAGES[:4], num_draws=6, num_latent_draws=16)
    assert fixed.epistemic_variance.mean() < 0.1 * spread


def test_prefix_and_suffix_make_up_the_model(model):
    prefix, suffix = network.split(model)
    images = IMAGES[:2, :16, :16]
    features = images if prefix is None else prefix(images)
    np.testing.assert_allclose(
        np.asarray(suffix(features).mean()), np.asarray(model(images).mean()), atol=1e-5
    )


def test_the_backbone_of_the_latent_network_runs_once_per_image():
    prefix, suffix = network.split(small("latent"))
    names = {layer.name for layer in prefix.layers}
    assert {"bottom_conv1", "map_parameters", "map_moments"} <= names
    assert not any(layer.name == "bottom_conv1" for layer in suffix.layers)


def test_plain_keras_models_can_be_drawn():
    model = tf_keras.Sequential(
        [
            tf_keras.Input((None, None, 2)),
            layers.Convolution2DFlipout(4, 3, padding="same", activation="relu"),
            layers.Convolution2DFlipout(1, 1),
        ]
    )
    prediction = draws.predict(model, IMAGES, num_draws=3)
    assert prediction.mean_probabilities.shape == (11, 20, 18, 1)
    assert prediction.epistemic_variance.max() > 0.0


def test_layers_with_one_seed_are_an_error():
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 2)),
            layers.Convolution2DFlipout(2, 3, padding="same", seed=1),
            layers.Convolution2DFlipout(2, 3, padding="same", seed=1),
        ]
    )
    with pytest.raises(ValueError, match="`seed` of layers"):
        draws.predict(model, IMAGES[:, :8, :8])


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (IMAGES[0], "`images` must have shape"),
        (IMAGES[..., :1], "`images` must have shape"),
        (IMAGES[:0], "at least one image"),
        (np.full((1, 8, 8, 2), np.nan), "must be finite"),
        (np.array([["a"]]), "must be numbers"),
    ],
)
def test_bad_images_are_an_error(model, images, match):
    with pytest.raises(ValueError, match=match):
        draws.predict(model, images)


def test_latent_draws_of_many_pairs_agree_with_few():
    model = small("latent")
    few = draws.predict(model, IMAGES, num_draws=2, num_latent_draws=2)
    many = draws.predict(model, IMAGES, num_draws=2, num_latent_draws=64)
    assert few.num_latent_draws == 2
    difference = np.abs(few.mean_probabilities - many.mean_probabilities)
    assert 0.0 < difference.mean() < 0.1


def test_masks_of_the_draws_are_kept_when_asked_for(model, stack):
    nested = np.array([[True, True], [False, True]])
    found = draws.predict(
        model, IMAGES, 5, masks=True, contained=nested, batch_size=4
    ).draw_masks
    inside = stack[: len(found)] > 0.5
    inside[..., 0] |= inside[..., 1]
    if model.method == "deterministic":
        assert len(found) == 1
    np.testing.assert_array_equal(found, inside)
    assert draws.predict(model, IMAGES[:1], 1).draw_masks is None


def test_masks_cannot_be_gone_on_from():
    model = small("flipout")
    few = draws.predict(model, IMAGES[:2], 2)
    with pytest.raises(ValueError, match=r"`earlier` cannot go with `masks`"):
        draws.predict(model, IMAGES[:2], 3, masks=True, earlier=few)


@pytest.mark.parametrize(
    ("method", "draws_asked"), [("deterministic", 5), ("flipout", 1)]
)
def test_one_draw_has_no_mutual_information_at_all(method, draws_asked):
    found = draws.predict(small(method), IMAGES[:3], draws_asked)
    assert not found.mutual_information.any()


def test_where_nothing_may_be_there_is_no_tumour_and_no_doubt(model, prediction):
    where = np.random.default_rng(1).random(IMAGES.shape[:-1]) < 0.5
    found = draws.predict(model, IMAGES, num_draws=5, where=where, masks=True)
    for name in NAMES:
        map_ = getattr(found, name)
        np.testing.assert_allclose(
            map_[where], getattr(prediction, name)[where], atol=1e-6
        )
        assert not map_[~where].any()
    assert not found.draw_masks[:, ~where].any()
    counts = found.draw_masks.sum(axis=tuple(range(1, found.draw_masks.ndim - 1)))
    # A network without draws keeps one.
    np.testing.assert_array_equal(
        found.voxel_counts, np.broadcast_to(counts, found.voxel_counts.shape)
    )
    assert (found.voxel_counts < prediction.voxel_counts).all()


@pytest.mark.parametrize("where", [np.ones((11, 20, 17), bool), np.ones((11, 20, 18))])
def test_where_must_be_a_truth_value_per_voxel(where):
    with pytest.raises(
        ValueError, match=r"`where` must be bool of shape \(11, 20, 18\)"
    ):
        draws.predict(small("deterministic"), IMAGES, where=where)
