"""The phantom's tumour: irregular oedema, core and enhancing rim, with soft borders."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_uqseg.data import phantom_anatomy, phantom_fields


@dataclasses.dataclass(frozen=True)
class Border:
    """One outline that raters draw.

    `distance` is the signed distance to the outline in mm, positive inside, and
    `width` the local standard deviation in mm of where a rater puts it; both float32
    on the grid.
    """

    distance: np.ndarray
    width: np.ndarray

    def margin(self) -> np.ndarray:
        """Return distance over width: the outline's probit."""
        return self.distance / self.width


@dataclasses.dataclass(frozen=True)
class Tumour:
    """Outer border of the oedema, of the core, and of the necrosis inside the core."""

    oedema: Border
    core: Border
    necrosis: Border


def choose_mass(
    rng: np.random.Generator, grid: phantom_fields.PhantomGrid
) -> phantom_anatomy.Mass:
    """Draw place and size of a tumour that lies well inside one hemisphere."""
    radius = float(rng.uniform(21, 34))
    low, high = grid.heights()
    room = min(0.5 * radius, 0.4 * (high - low))
    side = float(rng.choice((-1.0, 1.0)))
    while True:
        centre = (
            side * float(rng.uniform(18, 46)),
            float(rng.uniform(-56, 50)),
            float(rng.uniform(low + room, high - room)) if high > low else low,
        )
        # A quarter of the way below the surface, most of the core lies inside.
        if phantom_anatomy.outline_radius(*np.array(centre), scale=0.95) < 0.72:
            strength = float(rng.uniform(0.1, 0.4))
            return phantom_anatomy.Mass(centre, radius, strength)


def build(
    rng: np.random.Generator,
    grid: phantom_fields.PhantomGrid,
    mass: phantom_anatomy.Mass,
    anatomy: phantom_anatomy.Anatomy,
    *,
    difficulty: float,
) -> Tumour:
    """Draw the tumour's outlines and how sharply they can be seen."""
    shape, spacing = grid.shape, grid.spacing
    coarse = phantom_fields.gaussian_fields(rng, shape, spacing, 9.0, 4)
    lumps, softness, rim, core_lumps = coarse
    fingers = phantom_fields.gaussian_fields(rng, shape, spacing, 3.5, 1)[0]
    place = grid.coordinates()
    barred = _outside(anatomy) + _across(place, mass)
    core_radius = mass.radius * float(rng.uniform(0.42, 0.66))
    core_centre = [c + rng.normal(0, 0.18) * mass.radius for c in mass.centre]
    core = core_radius * (1 + 0.16 * core_lumps) + fingers
    core = np.minimum(core - _reach(rng, place, core_centre), anatomy.depth - 1.5)
    # Necrosis swallows the sulci inside it; the core's edge respects them.
    core = core - 12 * anatomy.csf * np.clip(1 - core / 4, 0, 1) - barred
    oedema = mass.radius * (1 + 0.2 * lumps) + 2.2 * fingers
    oedema = oedema - _reach(rng, place, mass.centre)
    # Vasogenic oedema runs along white matter and spares cortex and fluid.
    oedema = oedema - 7 * anatomy.grey - 16 * anatomy.csf - barred
    oedema = np.maximum(oedema, core)
    rim_mm = float(rng.uniform(3.0, 5.4)) * np.clip(1 + 0.5 * rim, 0.45, 2.2)
    necrosis = core - rim_mm + 0.6 * fingers
    soft = phantom_fields.sigmoid(1.6 * softness - 0.2)
    width = np.float32(max(difficulty, 0.05))
    # However soft the core, most raters agree that its rim is there.
    widest = 0.45 * rim_mm
    return Tumour(
        oedema=Border(oedema, width * (1.2 + 4.3 * soft)),
        core=Border(core, np.minimum(width * (0.9 + 2.1 * soft), widest)),
        necrosis=Border(necrosis, np.minimum(width * (0.7 + 1.3 * soft), widest)),
    )


def _reach(rng, place, centre) -> np.ndarray:
    """Return the distance from `centre` under a random ellipsoid's metric, mm."""
    axes = np.exp(rng.normal(0, 0.16, 3)).astype(np.float32)
    axes /= np.prod(axes) ** np.float32(1 / 3)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    away = [axis - np.float32(at) for axis, at in zip(place, centre, strict=True)]
    squared = np.zeros(away[0].shape, np.float32)
    for row, axis in zip(turn, axes, strict=True):
        squared += np.square(sum(c * a for c, a in zip(row, away, strict=True)) / axis)
    return np.sqrt(squared)


def _outside(anatomy) -> np.ndarray:
    """Return a penalty that keeps outlines inside the brain, mm."""
    return np.where(anatomy.brain, 3 * np.maximum(1.5 - anatomy.depth, 0), 1e4)


def _across(place, mass) -> np.ndarray:
    """Return a penalty for growing through the falx, mm."""
    side = np.float32(np.sign(mass.centre[0]))
    return 1.5 * np.maximum(-side * place[0], 0)
