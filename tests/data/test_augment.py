from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_uqseg.data import augment


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
