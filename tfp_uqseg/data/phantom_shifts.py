"""Changed appearances: the same anatomy and raters, seen by another scan.

Every shift has a severity: 0 leaves the scan as it is, 1 is the default. There, four
deterministic U-Nets (16 filters, trained on 40 to 120 plain cases without intensity
augmentation, WT Dice .90 to .92 on 24 new cases) lost this much WT Dice, on average and
at the extremes::

    missing_modality    .10    .05 to .13
    bias_field          .08    .03 to .18
    unseen_contrast     .08    .06 to .12
    motion              .08    .05 to .10
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from tfp_uqseg import _checks
from tfp_uqseg.data import phantom_contrast, phantom_fields

#: Names of the shifted test sets, in the order they are written.
SHIFTS = ("missing_modality", "bias_field", "unseen_contrast", "motion")
#: The modality that goes missing.
MISSING = "t2"
#: At severity 1: share of the signal lost, standard deviation of the field's log2,
#: share of the unseen protocol, standard deviation of the head's movement in mm.
STRENGTH = {
    "missing_modality": 1.0,
    "bias_field": 0.2,
    "unseen_contrast": 0.53,
    "motion": 2.4,
}


def check(shift: str | None, severity: float) -> float:
    """Return the shift's strength in its own unit, or raise for unknown settings."""
    severity = _checks.non_negative("severity", severity)
    if shift is None:
        return 0.0
    _checks.one_of("shift", shift, SHIFTS)
    return severity * STRENGTH[shift]


def apply(
    shift: str | None,
    image: np.ndarray,
    brain: np.ndarray,
    grid: phantom_fields.PhantomGrid,
    rng: np.random.Generator,
    strength: float,
) -> np.ndarray:
    """Return the signal as the shifted scan would have it.

    The unseen contrast is made where tissue becomes signal, in
    `phantom_contrast.paint`, and passes through here unchanged.

    Args:
        shift: a name of SHIFTS, or None.
        image: float32 (X, Y, Z, 4) noise-free signal.
        brain: bool (X, Y, Z).
        grid: the voxel grid.
        rng: source of randomness.
        strength: in the shift's own unit; see STRENGTH.

    Returns:
        float32 (X, Y, Z, 4), above 0 in the brain and 0 outside.
    """
    if strength == 0:
        return image
    if shift == "missing_modality":
        image = _missing_modality(image, brain, strength)
    elif shift == "bias_field":
        image = _bias_field(image, brain, grid, rng, strength)
    elif shift == "motion":
        image = _motion(image, grid, rng, strength)
    return image * brain[..., None]


def _missing_modality(image, brain, share) -> np.ndarray:
    """Flatten one modality to its mean in the brain: only scanner noise is left.

    An all-zero volume would be refused by every reader, and rightly.
    """
    share = np.float32(min(share, 1.0))
    lost = phantom_contrast.MODALITIES.index(MISSING)
    changed = image.copy()
    flat = changed[..., lost][brain].mean()
    changed[..., lost] = (1 - share) * changed[..., lost] + share * flat
    return changed


def _bias_field(image, brain, grid, rng, octaves) -> np.ndarray:
    """Multiply by a coil's smooth sensitivity, nearly the same in every modality."""
    x, y, z = grid.coordinates()
    across, along, up = rng.standard_normal(3).astype(np.float32)
    tilt = across * x + along * y + np.float32(0.5) * up * z
    fields = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 35.0, 5)
    shared = tilt / tilt[brain].std() + 0.7 * fields[0]
    field = shared[..., None] + 0.4 * np.moveaxis(fields[1:], 0, -1)
    field = (field - field[brain].mean(axis=0)) / field[brain].std(axis=0)
    return image * np.exp2(np.float32(octaves) * field)


def _motion(image, grid, rng, millimetres) -> np.ndarray:
    """Move the head between the lines of k-space: blur and ghosts along y.

    Each slice of each modality is read line by line while the head sways (a few
    cycles per scan) and jerks (a random walk); a shift by d multiplies the line at
    frequency k by exp(-i k d).
    """
    width, height, depth = grid.shape
    waves = [
        2 * np.pi * scipy.fft.fftfreq(size, step).astype(np.float32)
        for size, step in zip((width, height), grid.spacing[:2], strict=True)
    ]
    order = np.argsort(np.argsort(waves[1], kind="stable"))  # low to high frequency
    changed = np.empty_like(image)
    for index in range(image.shape[-1]):
        path = _path(rng, height, depth)[:, order] * np.float32(millimetres)
        phase = waves[0][:, None, None] * path[0] + waves[1][None, :, None] * path[1]
        spectrum = scipy.fft.fft2(image[..., index], axes=(0, 1))
        spectrum *= np.exp(np.complex64(-1j) * phase)
        changed[..., index] = np.abs(scipy.fft.ifft2(spectrum, axes=(0, 1)))
    return changed


def _path(rng, lines, depth) -> np.ndarray:
    """Draw the head's place while each line is read: (2, lines, depth), spread 1."""
    time = np.linspace(0, 1, lines, dtype=np.float32)[:, None]
    path = np.empty((2, lines, depth), np.float32)
    for axis in range(2):
        cycles = rng.uniform(3, 8)
        start = rng.uniform(0, 2 * np.pi, depth)
        sway = np.sqrt(2) * np.sin(2 * np.pi * cycles * time + start)
        walk = np.cumsum(rng.standard_normal((lines, depth)), axis=0) / np.sqrt(lines)
        path[axis] = 0.7 * sway + walk
    centre = path[:, lines // 2 : lines // 2 + 1]
    return path - centre  # the middle of k-space says where the head is
