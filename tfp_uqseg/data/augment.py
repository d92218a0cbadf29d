"""Augmentation of slices in a `tf.data` stream, by Keras's names and a scanner's.

>>> augmentation = Augmentation(rotation_range=20, zoom_range=0.1, noise=0.1)
>>> moved, moved_mask = augmentation(tf.ones((8, 8, 4)), tf.ones((8, 8, 3)), (0, 1))
>>> moved.shape.as_list(), moved_mask.shape.as_list()
([8, 8, 4], [8, 8, 3])
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tfp_uqseg import _checks
from tfp_uqseg.data import mri_effects, turns
from tfp_uqseg.data import warp as warp_module

flips_and_turns = turns.flips_and_turns
undo_flips_and_turns = turns.undo_flips_and_turns

# What random numbers are for: folded into the key of the slice.
_WARP, _BRIGHTNESS, _EFFECTS = range(3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of a slice and its mask, each off unless it is asked for.

    The first arguments have the names, units and distributions of Keras's
    `ImageDataGenerator`. Left out of Keras on purpose: `fill_mode` is "constant" (it is
    "nearest" there, which draws streaks of brain where the box of the brain ends);
    `height_shift_range` shifts along the height and `width_shift_range` along the
    width (Keras has them the other way round); a slice that is not square turns about
    its own middle (`warp.warp`); `brightness_range` counts from black and leaves the
    background 0 (`mri_effects.brightness`). Channel shifts are not offered: they would
    lift the background.

    The order is: flips and turns, the warp (interpolated once, the mask by its nearest
    voxel), brightness, gamma, bias field, ghosts, noise, a modality dropped, `rescale`.

    Attributes:
        rotation_range: Degrees; angles are uniform in -r..r.
        width_shift_range: Float: uniform in -w..w, a fraction of the width below 1,
            voxels from 1. Whole number: whole voxels in -w + 1..w - 1. Sequence: one of
            its numbers, with a random sign; fractions if all are below 1.
        height_shift_range: The same along the height.
        shear_range: Degrees, counter-clockwise; uniform in -s..s.
        zoom_range: (low, high), drawn for each axis, or a float z for (1 - z, 1 + z).
            Above 1 the content shrinks, as in Keras.
        brightness_range: (low, high) of the factor.
        horizontal_flip: Whether half of the slices are mirrored along the width.
        vertical_flip: Whether half of them are mirrored along the height.
        fill_mode: "constant", "nearest", "reflect" or "wrap": what is beyond the edges.
        cval: Value there for "constant". The mask has 0.
        rescale: Factor of the image at the end; None for none.
        flips_and_turns: Whether to flip and turn by quarters, which is exact.
        gamma_range: (low, high) of the exponent, log-uniform, for each modality.
        bias_field: Largest standard deviation of the field's natural logarithm.
        ghosting: Largest share that the lines of k-space lose, 0 to 1.
        noise: Largest standard deviation of the noise, in units of the modality's.
        drop_modality: Probability that one modality, any, is 0 throughout. A slice of
            one modality keeps it.
        effect_probability: Probability that a slice has gamma, and likewise the bias
            field, ghosts, and noise. Strengths are uniform from 0 to the largest.

    Raises:
        ValueError: When a setting is out of range.
    """

    rotation_range: float = 0.0
    width_shift_range: float | int | Sequence[float] = 0.0
    height_shift_range: float | int | Sequence[float] = 0.0
    shear_range: float = 0.0
    zoom_range: float | Sequence[float] = 0.0
    brightness_range: Sequence[float] | None = None
    horizontal_flip: bool = False
    vertical_flip: bool = False
    fill_mode: str = "constant"
    cval: float = 0.0
    rescale: float | None = None
    flips_and_turns: bool = False
    gamma_range: Sequence[float] | None = None
    bias_field: float = 0.0
    ghosting: float = 0.0
    noise: float = 0.0
    drop_modality: float = 0.0
    effect_probability: float = 1.0

    def __post_init__(self):
        """Check the settings, and turn lists into tuples."""
        for name in ("rotation_range", "shear_range", "bias_field", "noise"):
            _number(name, getattr(self, name), low=0)
        for name in ("ghosting", "drop_modality", "effect_probability"):
            _number(name, getattr(self, name), low=0, high=1)
        for name in ("horizontal_flip", "vertical_flip", "flips_and_turns"):
            _checks.one_of(name, getattr(self, name), (True, False))
        for name in ("width_shift_range", "height_shift_range"):
            self._set(name, _shift_range(name, getattr(self, name)))
        self._set("zoom_range", _zoom_range(self.zoom_range))
        self._set("brightness_range", _pair("brightness_range", self.brightness_range))
        self._set("gamma_range", _pair("gamma_range", self.gamma_range))
        if self.gamma_range is not None and self.gamma_range[0] == 0:
            raise ValueError(
                f"`gamma_range` must lie above 0; got {list(self.gamma_range)}."
            )
        _checks.one_of("fill_mode", self.fill_mode, warp_module.FILL_MODES)
        _number("cval", self.cval)
        if self.rescale is not None:
            _number("rescale", self.rescale, low=0)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def _warps(self) -> bool:
        ranges = (self.rotation_range, self.shear_range)
        shifts = (self.width_shift_range, self.height_shift_range)
        flips = (self.horizontal_flip, self.vertical_flip)
        return any((*ranges, *shifts, *flips)) or self.zoom_range not in (0, (1, 1))

    def __call__(
        self, image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Change a slice and its mask.

        Args:
            image: (H, W, C), with 0 where there is no brain.
            mask: (H, W, K).
            seed: (2,) integers; the same seed gives the same result everywhere.

        Returns:
            Image, float32, and mask, of its own type; both of the same shapes.
        """
        image, mask = tf.cast(image, tf.float32), tf.convert_to_tensor(mask)
        drawn = self.transform_parameters(seed, *turns.extents(image))
        factor = drawn.pop("brightness")
        if self.flips_and_turns:
            image, mask = turns.flips_and_turns(image, mask, seed)
        if self._warps:
            image, mask = warp_module.warp(
                image, mask, drawn, fill_mode=self.fill_mode, cval=self.cval
            )
        if self.brightness_range is not None:
            image = mri_effects.brightness(image, factor)
        image = self._scan_again(image, seed)
        if self.rescale:
            image *= self.rescale
        return image, mask

    def transform_parameters(
        self, seed: tf.Tensor, height: int, width: int
    ) -> dict[str, tf.Tensor | float | bool | None]:
        """What the warp and the brightness of a slice are with this seed.

        Args:
            seed: (2,) integers.
            height: Of the slice, voxels.
            width: Of the slice, voxels.

        Returns:
            By the names that ``ImageDataGenerator.apply_transform`` takes: `theta`,
            `tx`, `ty`, `shear`, `zx`, `zy`, `flip_horizontal`, `flip_vertical`,
            `brightness` (None without).
        """
        u = _uniform(_key(seed, _WARP), 10)
        low, high = _zoom_limits(self.zoom_range)
        drawn = {
            "theta": self.rotation_range * (2 * u[0] - 1),
            "tx": _shift(self.width_shift_range, width, u[1], u[2]),
            "ty": _shift(self.height_shift_range, height, u[3], u[4]),
            "shear": self.shear_range * (2 * u[5] - 1),
            "zx": low + (high - low) * u[6],
            "zy": low + (high - low) * u[7],
            "flip_horizontal": (u[8] < 0.5) & self.horizontal_flip,
            "flip_vertical": (u[9] < 0.5) & self.vertical_flip,
            "brightness": None,
        }
        if self.brightness_range is not None:
            low, high = self.brightness_range
            u = _uniform(_key(seed, _BRIGHTNESS), 1)
            drawn["brightness"] = low + (high - low) * u[0]
        return drawn

    def _scan_again(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Change a slice as another scan of the same head would."""
        often = self.effect_probability
        effects: tuple[tuple[Callable, object, float], ...] = (
            (mri_effects.random_gamma, self.gamma_range, often),
            (mri_effects.random_bias_field, self.bias_field, often),
            (mri_effects.random_ghosts, self.ghosting, often),
            (mri_effects.random_noise, self.noise, often),
            (mri_effects.random_loss, self.drop_modality, self.drop_modality),
        )
        for number, (effect, setting, probability) in enumerate(effects, _EFFECTS):
            if setting:
                key = _key(seed, number)
                image = _perhaps(probability, key, image, effect, setting)
        return image


def resolve(augment: object) -> Augmentation | None:
    """Return the augmentation that `augment` stands for.

    Args:
        augment: False, None or "none" for none, True for "flips", a name of `PRESETS`,
            a dict of the settings of an `Augmentation`, or one.

    Raises:
        ValueError: When it is none of these, or a setting is out of range.

    >>> resolve({"noise": 0.1}) == Augmentation(noise=0.1)
    True
    """
    if augment is None or isinstance(augment, Augmentation):
        return augment
    if isinstance(augment, Mapping):
        known = [field.name for field in dataclasses.fields(Augmentation)]
        for name in augment:
            _checks.one_of("augment", name, known)
        return Augmentation(**augment)
    _checks.one_of("augment", augment, (True, False, *PRESETS, "none"))
    return PRESETS.get("flips" if augment is True else str(augment))


def _key(seed: tf.Tensor, purpose: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, purpose, alg="philox")


def _uniform(key: tf.Tensor, count: int) -> tf.Tensor:
    return tf.random.stateless_uniform((count,), key, alg="philox")


def _perhaps(
    probability: float, key: tf.Tensor, image: tf.Tensor, effect: Callable, setting
) -> tf.Tensor:
    """Give the image an effect with this probability."""
    if probability == 1:
        return effect(image, key, setting)
    happens = _uniform(_key(key, 0), 1)[0] < probability
    changed = tf.cond(happens, lambda: effect(image, key, setting), lambda: image)
    return tf.ensure_shape(changed, image.shape)


def _shift(limits, size: int, u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Voxels to shift by, from two uniform numbers."""
    sign = tf.where(v < 0.5, -1.0, 1.0)
    if isinstance(limits, int):
        return sign * tf.floor(u * limits)
    if isinstance(limits, tuple):
        number = tf.minimum(tf.cast(u * len(limits), tf.int32), len(limits) - 1)
        scale = size if max(limits) < 1 else 1
        return sign * scale * tf.gather(tf.constant(limits, tf.float32), number)
    return limits * (size if limits < 1 else 1) * (2 * u - 1)


def _zoom_limits(zoom_range) -> tuple[float, float]:
    if isinstance(zoom_range, tuple):
        return zoom_range
    return 1 - zoom_range, 1 + zoom_range


def _number(name: str, value: object, low=-math.inf, high=math.inf) -> None:
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = value
    if not (math.isfinite(number) and low <= number <= high):
        limits = {
            (-math.inf, math.inf): "a finite number",
            (0, math.inf): "a finite number, at least 0",
        }
        expected = limits.get((low, high), f"a number from {low} to {high}")
        raise ValueError(f"`{name}` must be {expected}; got {value!r}.")


def _pair(name: str, value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair (low, high); got {value!r}.")
    for end in value:
        _number(name, end, low=0)
    if value[0] > value[1]:
        raise ValueError(f"`{name}` must have low <= high; got {value!r}.")
    return tuple(value)


def _shift_range(name: str, value) -> float | int | tuple[float, ...]:
    if not isinstance(value, (tuple, list)):
        _number(name, value, low=0)
        return value
    if not value:
        raise ValueError(f"`{name}` must have at least one number; got {value!r}.")
    for number in value:
        _number(name, number)
    return tuple(value)


def _zoom_range(value) -> float | tuple[float, float]:
    if isinstance(value, (tuple, list)):
        value = _pair("zoom_range", value)
    else:
        _number("zoom_range", value, low=0)
    if _zoom_limits(value)[0] <= 0:
        raise ValueError(
            "`zoom_range` must keep the zoom above 0, as a float below 1 or a pair "
            f"above 0; got {value!r}."
        )
    return value


#: Augmentations that have a name. The paper states angles alone; the other ranges of
#: "paper" are ours, and its rescaling by 1/255 is a choice of `preprocess`.
PRESETS = {
    "flips": Augmentation(flips_and_turns=True),
    "paper": Augmentation(
        rotation_range=360,
        width_shift_range=0.1,
        height_shift_range=0.1,
        shear_range=10,
        brightness_range=(0.8, 1.2),
    ),
    "mri": Augmentation(
        flips_and_turns=True,
        rotation_range=15,
        width_shift_range=0.05,
        height_shift_range=0.05,
        shear_range=5,
        zoom_range=0.1,
        gamma_range=(0.7, 1.5),
        bias_field=0.3,
        ghosting=0.5,
        noise=0.15,
        effect_probability=0.3,
    ),
}
