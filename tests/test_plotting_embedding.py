from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from matplotlib import figure
from PIL import Image

from tfp_uqseg.plotting import embedding


def decode(uri):
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    return Image.open(io.BytesIO(base64.b64decode(uri[len(start) :])))


def test_grey_slices_lie_below_each_other():
    slices = np.array([[[0.0, 1.0]], [[2.0, 5.0]]])
    picture = np.asarray(decode(embedding.grey_stack(slices, 0.0, 2.0)))
    np.testing.assert_array_equal(picture, [[0, 128], [255, 255]])


def test_maps_have_the_colours_of_their_scale():
    picture = decode(embedding.map_stack([[[0.0, 0.25, 0.5, 9.0]]], 0.5))
    colours = np.asarray(picture.convert("RGB"))[0]
    expected = matplotlib.colormaps["inferno"]([0.0, 128 / 255, 1.0, 1.0])[:, :3]
    np.testing.assert_allclose(colours, 255 * expected, atol=1.0)


def test_masks_are_outlined_and_clear_elsewhere():
    mask = np.zeros((1, 5, 5, 2), bool)
    mask[0, 1:4, 1:4, 0] = True
    layer = np.asarray(decode(embedding.mask_stack(mask, ["#ff0000", "#00ff00"])))
    assert layer.shape == (5, 5, 4)
    assert tuple(layer[2, 2]) == (255, 0, 0, 64)
    assert tuple(layer[1, 1]) == (255, 0, 0, 255)
    assert layer[0, 0, 3] == 0
    # Slices do not touch: a mask at the edge of one is outlined there.
    two = np.ones((2, 3, 3, 1), bool)
    layer = np.asarray(decode(embedding.mask_stack(two, ["#0000ff"])))
    assert layer[2, 1, 3] == layer[3, 1, 3] == 255


def test_figures_become_one_element_and_are_the_same_at_every_call():
    def draw():
        plot = figure.Figure()
        plot.subplots().plot([0, 1])
        return embedding.svg(plot)

    assert draw().startswith("<svg")
    assert draw().rstrip().endswith("</svg>")
    assert draw() == draw()


def test_gradient_runs_from_the_darkest_to_the_brightest():
    text = embedding.gradient()
    assert text.startswith("linear-gradient(to right, #000004, ")
    assert text.endswith("#fcffa4)")
