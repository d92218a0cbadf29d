"""A viewer whose slider moves the image and its maps together."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib import backend_bases, pyplot

from tfp_uqseg import plotting

SHAPE = (20, 24, 6)


@pytest.fixture(autouse=True)
def _no_window():
    matplotlib.use("agg")
    yield
    pyplot.close("all")


@pytest.fixture
def viewer():
    image = np.zeros(SHAPE)
    image[3:17, 4:20] = 1.0 + np.arange(6)
    mask = np.zeros((*SHAPE, 1), bool)
    mask[8:12, 8:12, 2:5] = True
    mask[7:13, 8:12, 3] = True
    entropy = np.random.default_rng(0).random(SHAPE) * 0.7
    return plotting.SliceViewer(
        image,
        {"aleatoric (nats)": entropy, "epistemic (nats)": entropy / 10},
        mask=mask,
        regions=("WT",),
    )


def pictures(viewer):
    """What is drawn: the array of the first image of every cell."""
    return [cell.images[0].get_array() for cell in viewer._cells]


def test_it_starts_at_the_largest_mask(viewer):
    assert viewer.slider.val == 4
    assert viewer._cells[0].get_title() == "slice 4 of 6"


def test_the_slider_moves_every_picture(viewer):
    before = pictures(viewer)
    viewer.slider.set_val(1)
    for one, other in zip(before, pictures(viewer), strict=True):
        assert not np.array_equal(one, other)
    assert viewer._cells[0].get_title() == "slice 1 of 6"
    assert viewer.show(5) is viewer.figure
    assert viewer.slider.val == 6


def test_keys_and_the_wheel_step_within_the_volume(viewer):
    canvas = viewer.figure.canvas
    for key, expected in (("right", 5), ("up", 6), ("right", 6), ("left", 5), ("x", 5)):
        event = backend_bases.KeyEvent("key_press_event", canvas, key)
        canvas.callbacks.process("key_press_event", event)
        assert viewer.slider.val == expected
    event = backend_bases.MouseEvent("scroll_event", canvas, 1, 1, step=-1)
    canvas.callbacks.process("scroll_event", event)
    assert viewer.slider.val == 4


def test_what_does_not_fit_is_named(viewer):
    image = np.ones(SHAPE)
    with pytest.raises(
        ValueError, match=r"maps\['a'\].*must have the shape of `image`"
    ):
        plotting.SliceViewer(image, {"a": image[..., 1:]})
    with pytest.raises(ValueError, match="`regions` must name each mask, 1"):
        plotting.SliceViewer(image, mask=image[..., None])
    with pytest.raises(ValueError, match="`index` must be a slice, 0 to 5; got 6"):
        viewer.show(6)
