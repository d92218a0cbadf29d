"""Grids and Gaussian random fields the phantom is built from."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.fft

#: Left-right and back-front room that a head needs, and that a slice shows, mm.
HEAD_MM = (146.0, 180.0)
SLICE_MM = (156.0, 188.0)
#: Height of the imaged slab, and its middle above the commissures, mm.
SLAB_MM = 72.0
SLAB_CENTRE_MM = 22.0
#: No slice is thicker than this, however few are asked for, mm.
THICKEST_SLICE_MM = 6.0


@dataclasses.dataclass(frozen=True)
class PhantomGrid:
    """Voxels around the head, in RAS+ order: x right, y to the front, z to the top.

    `shape` counts the voxels that are computed; `study_shape` those of the study, with
    the air on all sides.
    """

    shape: tuple[int, int, int]
    study_shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def coordinates(self) -> list[np.ndarray]:
        """Return x, y, z of every voxel centre, float32 arrays of the grid, mm."""
        axes = [
            (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(step)
            for size, step in zip(self.shape, self.spacing, strict=True)
        ]
        axes[2] = axes[2] + np.float32(SLAB_CENTRE_MM)
        return [np.ascontiguousarray(a) for a in np.meshgrid(*axes, indexing="ij")]

    def heights(self) -> tuple[float, float]:
        """Return lowest and highest slice centre, mm above the commissures."""
        half = (self.shape[2] - 1) / 2 * self.spacing[2]
        return SLAB_CENTRE_MM - half, SLAB_CENTRE_MM + half

    def embed(self, array: np.ndarray) -> np.ndarray:
        """Return `array` (X, Y, Z, ...) with air around it, on the study's voxels."""
        study = np.zeros((*self.study_shape, *array.shape[3:]), array.dtype)
        starts = [
            (s - n) // 2 for s, n in zip(self.study_shape, self.shape, strict=True)
        ]
        study[
            tuple(slice(s, s + n) for s, n in zip(starts, self.shape, strict=True))
        ] = array
        return study


def fit_grid(shape: tuple[int, int, int]) -> PhantomGrid:
    """Return the grid whose study of `shape` voxels just shows a phantom head."""
    in_plane = round(max(SLICE_MM[0] / shape[0], SLICE_MM[1] / shape[1]), 3)
    thickness = round(min(SLAB_MM / shape[2], THICKEST_SLICE_MM), 3)
    head = []
    for size, room in zip(shape[:2], HEAD_MM, strict=True):
        needed = int(np.ceil(room / in_plane))
        head.append(min(needed + (size - needed) % 2, size))  # centred exactly
    inner, spacing = (head[0], head[1], shape[2]), (in_plane, in_plane, thickness)
    return PhantomGrid(inner, shape, spacing)


def gaussian_fields(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    length: float,
    count: int,
) -> np.ndarray:
    """Draw smooth Gaussian fields of mean 0 and variance exactly 1 at every voxel.

    White noise on a lattice of step `length` is spread by a Gaussian kernel of that
    standard deviation, one axis after the other; kernel rows have Euclidean norm 1,
    hence the exact variance. Voxels d apart correlate by about exp(-d^2/(4 length^2)).

    Args:
        rng: source of randomness.
        shape: voxels along each of three axes.
        spacing: voxel size along each axis, mm.
        length: standard deviation of the kernel, mm.
        count: number of fields.

    Returns:
        float32 array of shape ``(count, *shape)``.
    """
    kernels = [
        _kernel(size, step, length) for size, step in zip(shape, spacing, strict=True)
    ]
    lattice = tuple(kernel.shape[1] for kernel in kernels)
    field = rng.standard_normal((count, *lattice), dtype=np.float32)
    field = kernels[1] @ (field @ kernels[2].T)
    field = kernels[0] @ field.reshape(count, lattice[0], shape[1] * shape[2])
    return field.reshape(count, *shape)


def _kernel(size: int, step: float, length: float) -> np.ndarray:
    """Return the weight of each lattice point (columns) at each voxel (rows)."""
    voxels = np.arange(size) * step
    lattice = np.arange(-3 * length, voxels[-1] + 3.5 * length, length)
    weights = np.exp(-0.5 * np.square((voxels[:, None] - lattice) / length))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights.astype(np.float32)


def waves(
    rng: np.random.Generator, size: int, step: float, wavelength: float, spread: float
) -> np.ndarray:
    """Draw a periodic cube of waves of one length in all directions, variance 1.

    Args:
        rng: source of randomness.
        size: voxels along each side.
        step: voxel size, mm.
        wavelength: centre of the pass band, mm.
        spread: half width of the pass band, 1/mm.

    Returns:
        float32 (size, size, size).
    """
    axis = (2 * np.pi * scipy.fft.fftfreq(size, step)).astype(np.float32)
    squared = np.square(axis)
    half = squared[: size // 2 + 1]
    number = np.sqrt(squared[:, None, None] + squared[:, None] + half)
    transfer = np.exp(-0.5 * np.square((number - 2 * np.pi / wavelength) / spread))
    white = rng.standard_normal((size,) * 3, dtype=np.float32)
    field = scipy.fft.irfftn(scipy.fft.rfftn(white) * transfer, s=white.shape)
    return (field / field.std()).astype(np.float32)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * values))
