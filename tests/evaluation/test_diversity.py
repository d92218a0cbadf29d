from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfp_uqseg.evaluation import diversity, overlap

RNG = np.random.default_rng(0)


def test_ged_is_that_of_every_pair():
    drawn, rated = RNG.random((4, 5, 6)) < 0.4, RNG.random((3, 5, 6)) < 0.5
    rated[0] = False

    def mean(some, others):
        pairs = itertools.product(some, others)
        return np.mean([1.0 - overlap.iou(one, other) for one, other in pairs])

    expected = 2 * mean(drawn, rated) - mean(drawn, drawn) - mean(rated, rated)
    assert diversity.ged(drawn, rated) == pytest.approx(expected)
    assert diversity.diversity(drawn) == pytest.approx(mean(drawn, drawn))


def test_equal_distributions_are_no_distance_apart():
    masks = RNG.random((3, 8)) < 0.5
    assert diversity.ged(masks, masks[::-1]) == pytest.approx(0.0, abs=1e-12)
    assert diversity.ged(masks, np.repeat(masks, 2, axis=0)) == pytest.approx(0.0)
    empty = np.zeros((2, 4))
    assert diversity.ged(empty, empty) == 0.0


def test_one_mask_for_disagreeing_raters_is_some_distance_away():
    raters = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
    assert diversity.ged(raters[:1], raters) == pytest.approx(2 * 0.5 - 0 - 0.5)
    assert diversity.diversity(raters[:1]) == 0.0


def test_ncc_is_that_of_numpy():
    p = RNG.uniform(0.05, 0.95, (6, 40))
    raters = RNG.random((2, 40)) < 0.5

    def entropy(q):
        return np.mean([-(q * np.log(s) + (1 - q) * np.log(1 - s)) for s in p], axis=0)

    expected = np.mean(
        [np.corrcoef(entropy(p.mean(0)), entropy(mask))[0, 1] for mask in raters]
    )
    assert diversity.ncc(p, raters) == pytest.approx(expected)
    brain = np.arange(40) < 20
    inside = diversity.ncc(p[:, :20], raters[:, :20])
    assert diversity.ncc(p, raters, brain) == pytest.approx(inside)


def test_ncc_of_a_map_that_does_not_vary_is_none():
    assert np.isnan(diversity.ncc(np.full((2, 5), 0.5), [[1, 0, 0, 1, 0]]))


def test_shapes_and_values_are_checked():
    with pytest.raises(ValueError, match="`rater_masks` must have the shape"):
        diversity.ged(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="`masks` must hold at least one mask"):
        diversity.diversity(np.ones(3))
    with pytest.raises(ValueError, match="`probabilities` must lie in 0..1"):
        diversity.ncc(np.full((2, 3), 1.5), np.ones((1, 3)))
