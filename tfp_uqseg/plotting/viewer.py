"""Volumes to leaf through: in a window, or in a notebook with a live canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure, pyplot, widgets

from tfp_uqseg import _checks
from tfp_uqseg.plotting import drawing, panel


class SliceViewer:
    """An image and its maps side by side, with a slider over the axial slices.

    The slider, the mouse wheel and the arrow keys move all pictures together. Needs a
    live canvas: `%matplotlib widget` in a notebook (`pip install
    "tfp_uqseg[viewer]"`), or a script with a screen. On any other canvas it shows one
    slice, and `show` changes it. Keep the object as long as it is used.

    Args:
      image: One modality (X, Y, Z) in RAS+ order, 0 outside the brain.
      maps: Maps (X, Y, Z) by their titles, such as ``"aleatoric (nats)"``; each has a
        scale of its own, from 0 to its 99.9th percentile in the brain.
      mask: Masks (X, Y, Z, K) that are outlined in every picture, or None.
      regions: Names of the masks, outer region first.
      spacing: Voxel size, mm.
      index: Slice shown first; None for the one with the largest mask, or most brain.

    Attributes:
      figure: The figure.
      slider: The slider, counting slices from 1.

    Raises:
      ValueError: If the shapes do not fit together.
    """

    def __init__(
        self,
        image,
        maps: Mapping[str, np.ndarray] | None = None,
        *,
        mask=None,
        regions: Sequence[str] = ("WT", "TC", "ET"),
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        index: int | None = None,
    ):
        self._image = np.asarray(image)
        self._maps = {name: np.asarray(each) for name, each in (maps or {}).items()}
        self._mask = None if mask is None else np.asarray(mask)
        self._check(regions)
        self._brain = self._image != 0
        self._colours = list(panel.region_key(regions).values())
        self._aspect = float(spacing[1]) / float(spacing[0])
        self._sides = drawing.window(self._brain.any(axis=2))
        inside = self._brain if self._brain.any() else np.ones_like(self._brain)
        self._tops = {
            name: max(float(np.quantile(each[inside], 0.999)), 1e-6)
            for name, each in self._maps.items()
        }
        start = index
        if start is None:
            start = panel.largest_image(self._mask, self._image)
        self.figure, self._cells = self._lay_out()
        self._add_scales()
        place = self.figure.add_axes((0.15, 0.03, 0.7, 0.04))
        depth = self._image.shape[2]
        self.slider = widgets.Slider(
            place, "slice", 1, max(depth, 2), valinit=start + 1, valstep=1
        )
        self.slider.on_changed(lambda value: self._draw(int(value) - 1))
        self.figure.canvas.mpl_connect("scroll_event", lambda e: self._step(e.step))
        keys = {"right": 1, "up": 1, "left": -1, "down": -1}
        self.figure.canvas.mpl_connect(
            "key_press_event", lambda e: self._step(keys.get(e.key, 0))
        )
        self._draw(start)

    def show(self, index: int) -> figure.Figure:
        """Show the slice at position `index` along z, and return the figure."""
        if not 0 <= index < self._image.shape[2]:
            raise ValueError(
                f"`index` must be a slice, 0 to {self._image.shape[2] - 1}; got "
                f"{index}."
            )
        self.slider.set_val(index + 1)
        return self.figure

    def _check(self, regions) -> None:
        for name, each in self._maps.items():
            _checks.same_shape(f"maps[{name!r}]", each, "image", self._image)
        if self._mask is not None:
            first = self._mask[..., 0]
            _checks.same_shape("mask[..., 0]", first, "image", self._image)
            if self._mask.shape[-1] != len(regions):
                raise ValueError(
                    f"`regions` must name each mask, {self._mask.shape[-1]}; got "
                    f"{list(regions)}."
                )

    def _lay_out(self):
        """Return the figure and an axis for the image and for each map."""
        number = 1 + len(self._maps)
        width, height = self._image[..., 0][self._sides].shape
        tall = 3.2 * height * self._aspect / width + 1.4
        plot = pyplot.figure(figsize=(3.2 * number, tall))
        cells = plot.subplots(1, number, squeeze=False)[0]
        plot.subplots_adjust(0.02, 0.22, 0.98, 0.92, wspace=0.06)
        return plot, cells

    def _add_scales(self) -> None:
        for cell, (name, top) in zip(self._cells[1:], self._tops.items(), strict=True):
            box = cell.get_position()
            place = self.figure.add_axes(
                (box.x0 + 0.06 * box.width, 0.16, 0.88 * box.width, 0.025)
            )
            scale = pyplot.cm.ScalarMappable(cmap=drawing.UNCERTAINTY_MAP)
            scale.set_clim(0.0, top)
            bar = self.figure.colorbar(scale, cax=place, orientation="horizontal")
            bar.ax.locator_params(nbins=4)
            bar.set_label(name)

    def _step(self, by: float) -> None:
        last = self._image.shape[2]
        self.slider.set_val(min(max(self.slider.val + int(np.sign(by)), 1), last))

    def _draw(self, index: int) -> None:
        index = min(index, self._image.shape[2] - 1)

        def cut(volume):
            return drawing.shown(volume[:, :, index], self._sides)

        brain = cut(self._brain)
        for cell in self._cells:
            cell.clear()
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_visible(False)
        drawing.show_image(self._cells[0], cut(self._image), self._aspect)
        drawing.letter_sides(self._cells[0])
        self._cells[0].set_title(f"slice {index + 1} of {self._image.shape[2]}")
        for cell, (name, values) in zip(
            self._cells[1:], self._maps.items(), strict=True
        ):
            top, colours = self._tops[name], drawing.UNCERTAINTY_MAP
            drawing.show_map(cell, cut(values), brain, self._aspect, top, colours)
        if self._mask is not None:
            masks = cut(self._mask)
            for cell in self._cells:
                for number, colour in enumerate(self._colours):
                    drawing.outline(cell, masks[..., number], colour, linewidth=1.2)
        self.figure.canvas.draw_idle()
