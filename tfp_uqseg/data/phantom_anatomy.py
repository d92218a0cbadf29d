"""A brain made of formulas: outline, folded cortex, ventricles, deep nuclei."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from scipy import ndimage

from tfp_uqseg.data import phantom_fields

#: Half axes of the average brain: left-right, front-back, top, mm.
HALF_AXES_MM = (67.0, 83.0, 76.0)
#: Sulci follow the zero crossings of a band-passed field of this wavelength, mm.
FOLD_WAVELENGTH_MM = 21.0
CORTEX_MM = 3.8

#: Lateral ventricle, one side, as a chain of (x, y, z, radius), mm.
VENTRICLE = (
    (13.0, 31.0, 3.0, 2.6),
    (8.0, 24.0, 10.0, 4.6),
    (6.0, 8.0, 17.0, 4.6),
    (8.0, -12.0, 21.0, 4.6),
    (16.0, -30.0, 17.0, 5.8),
    (24.0, -40.0, 8.0, 5.2),
    (22.0, -56.0, 6.0, 2.2),
)
#: Deep grey nuclei, one side: centre x, y, z; half axes; grey share.
NUCLEI = (
    ((15.0, 19.0, 9.0), (4.6, 9.5, 9.0), 1.0),  # head of caudate
    ((17.0, -4.0, 21.0), (3.2, 16.0, 4.5), 1.0),  # body of caudate
    ((27.0, 5.0, 3.0), (5.0, 15.5, 10.5), 1.0),  # putamen
    ((20.0, 0.0, 1.0), (4.2, 9.0, 7.0), 0.55),  # pallidum
    ((10.5, -14.0, 8.0), (8.2, 13.5, 8.5), 0.75),  # thalamus
)


@dataclasses.dataclass(frozen=True)
class Mass:
    """Where a tumour pushes the tissue: centre and radius, mm, and strength 0..1."""

    centre: tuple[float, float, float]
    radius: float
    strength: float


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Tissue shares of one brain, each float32 on the grid, 0..1; their sum is 1.

    `brain` is the skull-stripped head (bool), `depth` the distance below its surface
    in mm, `near_ventricle` the distance to the lateral ventricles in mm, and `vessels`
    the share of tissue that takes up contrast in a healthy brain.
    """

    brain: np.ndarray
    depth: np.ndarray
    white: np.ndarray
    grey: np.ndarray
    csf: np.ndarray
    near_ventricle: np.ndarray
    vessels: np.ndarray


def outline_radius(x, y, z, *, scale=1.0):
    """Return 0 at the centre of the brain, 1 on its surface, above 1 outside."""
    a, b, c = (half * scale for half in HALF_AXES_MM)
    narrowing = 1 - 0.11 * y / b - 0.05 * np.square(y / b)
    a = a * narrowing
    return (np.abs(x / a) ** 2.3 + np.abs(y / b) ** 2.15 + np.abs(z / c) ** 2.2) ** (
        1 / 2.2
    )


def build(
    rng: np.random.Generator, grid: phantom_fields.PhantomGrid, mass: Mass
) -> Anatomy:
    """Draw a brain around a tumour's mass effect."""
    scale = float(rng.uniform(0.93, 1.0))
    gape = float(rng.uniform(0.45, 1.5))  # half width of the sulci, mm
    ventricle_scale = float(rng.uniform(0.75, 1.35))
    place = _deformed(rng, grid)
    radius = outline_radius(*place, scale=scale)
    length = np.sqrt(sum(np.square(axis) for axis in place))
    depth = (1 - radius) * length / np.maximum(radius, 0.05)
    brain = depth > 0
    inner = _pushed(place, mass, depth)
    pial = _pial_distance(rng, grid, inner, radius, depth, gape)
    near_ventricle = _ventricle_distance(inner, ventricle_scale)
    third = np.maximum(np.abs(inner[0]) - 1.6, _box(inner, (0, -3, -2), (99, 11, 9)))
    fluid = np.minimum(near_ventricle, third)
    csf = phantom_fields.sigmoid(-pial / 0.35)
    csf = np.maximum(csf, phantom_fields.sigmoid(-fluid / 0.4))
    grey = phantom_fields.sigmoid((CORTEX_MM - pial) / 0.45)
    grey = np.maximum(grey, _nuclei(inner))
    grey = (1 - csf) * grey
    return Anatomy(
        brain=brain,
        depth=depth,
        white=(1 - csf - grey) * brain,
        grey=grey * brain,
        csf=csf * brain,
        near_ventricle=near_ventricle,
        vessels=_vessels(rng, inner, depth, near_ventricle, csf) * brain,
    )


def _deformed(rng, grid) -> list[np.ndarray]:
    """Return coordinates turned, scaled and bent, so that no two brains are alike."""
    x, y, z = grid.coordinates()
    angle = float(rng.normal(0, 0.06))
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y = cosine * x + sine * y, cosine * y - sine * x
    x = x + np.float32(rng.normal(0, 0.03)) * z
    y = y + np.float32(rng.normal(0, 0.05)) * z
    bends = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 22.0, 3)
    stretch = 1 + rng.normal(0, 0.025, 2).astype(np.float32)
    return [
        (x + 1.5 * bends[0]) * stretch[0],
        (y + 1.5 * bends[1]) * stretch[1],
        z + 1.5 * bends[2],
    ]


def _pushed(place, mass: Mass, depth) -> list[np.ndarray]:
    """Return where the tissue at each voxel lay before the tumour grew."""
    away = [axis - np.float32(at) for axis, at in zip(place, mass.centre, strict=True)]
    squared = sum(np.square(axis) for axis in away)
    spread = np.float32(2 * (1.1 * mass.radius) ** 2)
    push = np.float32(mass.strength) * np.exp(-squared / spread)
    push = push * np.clip(depth / 18, 0, 1)  # the skull does not give way
    return [axis - push * step for axis, step in zip(place, away, strict=True)]


def _pial_distance(rng, grid, place, radius, depth, gape) -> np.ndarray:
    """Return the distance to the nearest sulcus or surface, mm; below 0 in CSF."""
    x, y, z = place
    folds = _folds(rng, place, radius)
    reach, width = phantom_fields.gaussian_fields(
        rng, grid.shape, grid.spacing, 12.0, 2
    )
    sulcus = np.abs(folds) * np.float32(FOLD_WAVELENGTH_MM / (2 * np.pi) * 1.1)
    sulcus = sulcus + 1.1 * np.maximum(depth - 18 - 3.5 * reach, 0)
    opening = gape * (1 + 0.45 * width) * np.clip(1.15 - depth / 22, 0.1, 1)
    sulcus = sulcus - opening
    # Between the hemispheres: closed where corpus callosum and nuclei join them.
    joined = 1 - np.sqrt(
        np.square((y + 4) / 46) + np.square((z - 4) / 24) + np.square(x / 60)
    )
    bent = x + 0.8 * np.sin(y / 9) * np.clip(depth / 30, 0, 1)
    fissure = np.abs(bent) - 0.9 - 0.6 * gape + 60 * np.maximum(joined, 0)
    insula = np.abs(np.abs(x) - 42 + 0.012 * np.square(y - 6) + 0.05 * np.square(z - 2))
    insula = insula - 0.5 - 0.7 * gape
    insula = insula + np.maximum(_box(place, (0, 4, 2), (99, 20, 12)), 0)
    opercula = np.abs(y - 12 - 0.25 * (np.abs(x) - 41)) - 0.4 - 0.9 * gape
    opercula = opercula + np.maximum(_box(place, (0, 0, 2), (99, 99, 10)), 0)
    opercula = opercula + np.maximum(41 - np.abs(x), 0)
    shell = depth - 0.4 - 0.5 * gape
    return np.minimum.reduce([sulcus, fissure, insula, opercula, shell])


def _folds(rng, place, radius) -> np.ndarray:
    """Return a band-passed field that runs straight down from the surface."""
    step = 4.0
    lattice = phantom_fields.waves(rng, 48, step, FOLD_WAVELENGTH_MM, 0.04)
    # A point and the surface above it share, nearly, one place in the lattice.
    lift = (0.5 + 0.5 / np.maximum(radius, 0.25)) / np.float32(step)
    points = np.stack([axis * lift for axis in place])
    return ndimage.map_coordinates(lattice, points, order=1, mode="grid-wrap")


def _ventricle_distance(place, scale) -> np.ndarray:
    """Return the distance to the lateral ventricles, mm; below 0 inside."""
    x, y, z = np.abs(place[0]), place[1], place[2]
    distance = np.full(x.shape, np.inf, np.float32)
    for start, end in itertools.pairwise(np.array(VENTRICLE, np.float32)):
        line = end[:3] - start[:3]
        away = [axis - at for axis, at in zip((x, y, z), start[:3], strict=True)]
        along = sum(
            step * part for step, part in zip(away, line, strict=True)
        ) / np.sum(line**2)
        along = np.clip(along, 0, 1)
        gap = sum(
            np.square(step - along * part)
            for step, part in zip(away, line, strict=True)
        )
        thick = (start[3] + along * (end[3] - start[3])) * np.float32(scale)
        distance = np.minimum(distance, np.sqrt(gap) - thick)
    return np.maximum(distance, 0.9 - x)  # the septum


def _nuclei(place) -> np.ndarray:
    """Return the share of grey matter that deep nuclei bring, 0..1."""
    x, y, z = np.abs(place[0]), place[1], place[2]
    share = np.zeros(x.shape, np.float32)
    for centre, half, amount in NUCLEI:
        away = [(a - c) / h for a, c, h in zip((x, y, z), centre, half, strict=True)]
        inside = 1 - np.sqrt(sum(np.square(axis) for axis in away))
        edge = np.float32(min(half) / 0.7)
        share = np.maximum(share, amount * phantom_fields.sigmoid(inside * edge))
    return share


def _vessels(rng, place, depth, near_ventricle, csf) -> np.ndarray:
    """Return the share of enhancing healthy tissue: sinus, choroid plexus, veins."""
    x, y, z = place
    sinus = np.hypot(x, depth - 2.5) - 2.4
    sinus = sinus + np.where((y < -30) | (z > 30), 0, 9)
    plexus = np.hypot(np.hypot(np.abs(x) - 19, y + 35), z - 13) - 4.2
    plexus = np.maximum(plexus, near_ventricle + 0.5)
    share = phantom_fields.sigmoid(-np.minimum(sinus, plexus) / 0.5)
    veins = rng.standard_normal(x.shape, dtype=np.float32) > 1.7
    veins = ndimage.uniform_filter(veins.astype(np.float32), (2, 2, 1))
    return np.maximum(share, np.clip(1.2 * veins, 0, 0.7) * csf * (depth < 28))


def _box(place, centre, half) -> np.ndarray:
    """Return the signed distance to a box, mm; below 0 inside."""
    sides = [np.abs(a - c) - h for a, c, h in zip(place, centre, half, strict=True)]
    return np.maximum.reduce(sides)
