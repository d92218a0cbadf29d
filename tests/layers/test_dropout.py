from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_uqseg import layers
from tfp_uqseg.layers import noise

ONES = np.ones((3, 4, 5, 64), np.float32)


def drawn(layer, images, draw, seed=0):
    with noise.use(noise.DrawScope(noise.draw_key(seed, draw))):
        return layer(images).numpy()


def test_a_draw_has_one_mask_for_all_voxels_and_images():
    layer = layers.ChannelDropout(0.3, seed=1)
    layer(ONES)
    answer = drawn(layer, ONES, 2)
    mask = answer[0, 0, 0]
    np.testing.assert_array_equal(answer, np.broadcast_to(mask, ONES.shape))
    np.testing.assert_array_equal(drawn(layer, ONES[:1, :2], 2)[0, 0, 0], mask)
    assert set(np.unique(mask)) == {np.float32(0.0), np.float32(1.0 / 0.7)}
    assert np.any(drawn(layer, ONES, 3)[0, 0, 0] != mask)


def test_masks_drop_the_share_they_should_and_keep_the_mean():
    layer = layers.ChannelDropout(0.3, seed=1)
    layer(ONES)
    masks = np.stack([drawn(layer, ONES[:1, :1, :1], draw) for draw in range(200)])
    # 12800 Bernoulli numbers: a standard error of .004.
    assert np.mean(masks == 0.0) == pytest.approx(0.3, abs=0.02)
    assert masks.mean() == pytest.approx(1.0, abs=0.02)


def test_training_gives_every_example_a_mask_of_its_own():
    answer = layers.ChannelDropout(0.5, seed=1)(ONES, training=True).numpy()
    assert np.ptp(answer, axis=(1, 2)).max() == 0.0
    assert np.any(answer[0] != answer[1])


def test_without_draw_and_training_nothing_is_dropped():
    np.testing.assert_array_equal(layers.ChannelDropout(0.9)(ONES), ONES)


def test_the_layer_comes_back_from_a_file(tmp_path):
    layer = layers.ChannelDropout(0.4, seed=5)
    model = tf_keras.Sequential([tf_keras.Input(ONES.shape[1:]), layer])
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras").layers[0]
    np.testing.assert_array_equal(drawn(loaded, ONES, 3), drawn(layer, ONES, 3))


def test_masks_have_the_compute_dtype():
    layer = layers.ChannelDropout(0.3, seed=1, dtype="mixed_bfloat16")
    assert layer(tf.cast(ONES, tf.bfloat16), training=True).dtype == tf.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match="`rate` must be"):
        layers.ChannelDropout(rate)


def test_unknown_number_of_channels_is_an_error():
    with pytest.raises(ValueError, match="known number of input channels"):
        layers.ChannelDropout().build((None, 8, 8, None))
