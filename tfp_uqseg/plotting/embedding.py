"""Pictures inside a page: stacks of slices as one PNG, figures as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import colors, figure
from PIL import Image

from tfp_uqseg.plotting import drawing

#: Levels of grey or of a colour map.
_LEVELS = 255


def grey_stack(slices, low: float, high: float) -> str:
    """Return slices below each other as a data URI of a grey PNG.

    Args:
      slices: (N, H, W), as they are shown.
      low: Value that is black.
      high: Value that is white.

    Returns:
      Text that begins with ``data:image/png``.
    """
    levels = _levels(slices, low, high)
    return _png(Image.fromarray(levels))


def map_stack(slices, top: float, *, colour_map: str = drawing.UNCERTAINTY_MAP) -> str:
    """Return slices of a map below each other, coloured from 0 to `top`.

    Args:
      slices: (N, H, W), as they are shown, not negative.
      top: Value of the brightest colour.
      colour_map: Name of a colour map of matplotlib.

    Returns:
      Text that begins with ``data:image/png``.
    """
    picture = Image.fromarray(_levels(slices, 0.0, top))
    picture.putpalette(_palette(colour_map).astype(np.uint8).tobytes())
    return _png(picture)


def mask_stack(masks, fills: Sequence[str]) -> str:
    """Return outlines of masks below each other, clear elsewhere.

    Args:
      masks: (N, H, W, K), bool; later regions are drawn over earlier ones.
      fills: A colour for each region.

    Returns:
      Text that begins with ``data:image/png``.
    """
    masks = np.asarray(masks, bool)
    layer = np.zeros((*masks.shape[:3], 4), np.uint8)
    for number, colour in enumerate(fills):
        mask = masks[..., number]
        layer[mask] = _bytes(colour, 0.25)
        layer[_edge(mask)] = _bytes(colour, 1.0)
    return _png(Image.fromarray(layer.reshape(-1, *layer.shape[2:])))


def gradient(colour_map: str = drawing.UNCERTAINTY_MAP, steps: int = 12) -> str:
    """Return a colour map as a gradient of CSS, from left to right."""
    picked = _palette(colour_map)[np.linspace(0, _LEVELS, steps).astype(int)]
    stops = ", ".join(colors.to_hex(colour / 255.0) for colour in picked)
    return f"linear-gradient(to right, {stops})"


def svg(plot: figure.Figure) -> str:
    """Return a figure as an SVG element, the same at every call."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tfp_uqseg"}):
        plot.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _levels(slices, low: float, high: float) -> np.ndarray:
    slices = np.asarray(slices, np.float64)
    scaled = (slices - low) / max(high - low, 1e-12)
    levels = np.rint(np.clip(scaled, 0.0, 1.0) * _LEVELS).astype(np.uint8)
    return levels.reshape(-1, levels.shape[-1])


def _palette(colour_map: str) -> np.ndarray:
    picked = matplotlib.colormaps[colour_map](np.linspace(0.0, 1.0, _LEVELS + 1))
    return np.rint(255.0 * picked[:, :3])


def _bytes(colour: str, alpha: float) -> np.ndarray:
    return np.rint(255.0 * np.array(colors.to_rgba(colour, alpha))).astype(np.uint8)


def _edge(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a stack of masks that have a neighbour outside."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    inner = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1]
    inner &= padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return mask & ~inner


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
