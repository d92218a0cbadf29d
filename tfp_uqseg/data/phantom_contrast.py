"""From tissue shares to four MR contrasts."""

from __future__ import annotations

import numpy as np

from tfp_uqseg.data import (
    phantom_anatomy,
    phantom_fields,
    phantom_tumour,
)

MODALITIES = ("flair", "t1", "t1ce", "t2")
#: Signal of white, grey, fluid, oedema, enhancing rim, necrosis, healthy vessels.
USUAL = {
    "flair": (0.60, 0.78, 0.20, 1.12, 1.02, 0.72, 0.60),
    "t1": (1.00, 0.72, 0.30, 0.56, 0.66, 0.48, 0.70),
    "t1ce": (0.90, 0.68, 0.28, 0.58, 1.50, 0.40, 1.60),
    "t2": (0.48, 0.70, 1.45, 0.88, 0.86, 1.25, 0.60),
}
#: A protocol never trained on: FLAIR with hardly any T2 weight and grey fluid, T1 with
#: an inversion that darkens grey matter, late T1ce, proton-density weighted T2.
UNSEEN = {
    "flair": (0.80, 0.92, 0.45, 0.95, 0.90, 0.75, 0.60),
    "t1": (1.00, 0.55, 0.10, 0.50, 0.60, 0.20, 0.70),
    "t1ce": (0.80, 0.72, 0.45, 0.70, 1.05, 0.60, 1.20),
    "t2": (0.70, 0.95, 1.05, 0.90, 0.90, 1.00, 0.60),
}


def paint(
    rng: np.random.Generator,
    grid: phantom_fields.PhantomGrid,
    anatomy: phantom_anatomy.Anatomy,
    tumour: phantom_tumour.Tumour,
    *,
    difficulty: float,
    unseen: float = 0.0,
) -> np.ndarray:
    """Return noise-free signal of the four modalities.

    Args:
        rng: source of randomness.
        grid: the voxel grid.
        anatomy: tissue shares.
        tumour: outlines; the signal fades as softly as raters disagree.
        difficulty: 1 is the default; larger means fainter oedema.
        unseen: 0 the usual protocol .. 1 the unseen one.

    Returns:
        float32 (X, Y, Z, 4), white matter of T1 near 1, 0 outside the brain.
    """
    oedema, core, necrosis, uptake = _visible(rng, grid, tumour)
    faint = float(rng.uniform(0.4, 0.95)) / max(difficulty, 0.2) ** 0.5
    oedema = oedema * np.float32(min(faint, 1.3))
    spots = _age_spots(rng, grid, anatomy)
    texture = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 2.0, 2)
    bias = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 45.0, 4)
    jitter = 1 + 0.06 * rng.standard_normal((4, 7)).astype(np.float32)
    image = np.empty((*grid.shape, 4), np.float32)
    for index, modality in enumerate(MODALITIES):
        usual, other = (np.array(of[modality], np.float32) for of in (USUAL, UNSEEN))
        signal = ((1 - unseen) * usual + unseen * other) * jitter[index]
        white, grey, fluid, swollen, rim, dead, vessel = signal
        plain = white * anatomy.white + grey * anatomy.grey + fluid * anatomy.csf
        plain += 0.8 * (swollen - white) * spots
        plain += (vessel - plain) * anatomy.vessels
        plain += (swollen - white) * oedema * (anatomy.white + 0.8 * anatomy.grey)
        plain += (swollen + uptake * (rim - swollen) - plain) * core
        plain += (dead - plain) * core * necrosis
        plain *= 1 + 0.025 * texture[index % 2] + 0.08 * bias[index]
        image[..., index] = np.maximum(plain, 0.02) * anatomy.brain
    return image


def acquire(
    rng: np.random.Generator, image: np.ndarray, brain: np.ndarray, *, difficulty: float
) -> np.ndarray:
    """Return the image with noise, in integer scanner units.

    Args:
        rng: source of randomness.
        image: float32 (X, Y, Z, 4) signal.
        brain: bool (X, Y, Z).
        difficulty: scales the noise.

    Returns:
        float32 (X, Y, Z, 4) of whole numbers, at least 1 in the brain, 0 outside.
    """
    scanned = np.zeros(image.shape, np.float32)
    for index in range(image.shape[-1]):
        level = np.float32(rng.uniform(0.03, 0.055) * difficulty)
        noise = rng.standard_normal(brain.shape, dtype=np.float32)
        # Resampled to a common grid, as public studies are: neighbours share noise.
        noise[1:] = 0.9 * noise[1:] + 0.45 * noise[:-1]
        signal = np.abs(image[..., index] + level * noise)
        gain = np.float32(rng.uniform(250, 700))
        scanned[..., index] = np.clip(np.rint(gain * signal), 1, 32000) * brain
    return scanned


def _visible(rng, grid, tumour) -> tuple[np.ndarray, ...]:
    """Return the visible share of oedema, core, necrosis, and of contrast uptake."""
    patchy = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 4.0, 3)
    # The logistic function of 1.7 x is within .01 of Phi(x).
    oedema, core, necrosis = (
        phantom_fields.sigmoid(1.7 * border.margin())
        for border in (tumour.oedema, tumour.core, tumour.necrosis)
    )
    oedema = oedema * np.clip(1 + 0.14 * patchy[0], 0.5, 1.5)
    necrosis = necrosis * np.clip(0.92 + 0.12 * patchy[1], 0, 1)
    uptake = float(rng.uniform(0.3, 0.9)) * np.clip(1 + 0.45 * patchy[2], 0, 1.3)
    return oedema, core, necrosis, uptake


def _age_spots(rng, grid, anatomy) -> np.ndarray:
    """Return healthy bright white matter that mimics oedema: spots and caps, 0..1."""
    field = phantom_fields.gaussian_fields(rng, grid.shape, grid.spacing, 2.4, 1)[0]
    amount = float(rng.uniform(2.3, 3.4))
    spots = phantom_fields.sigmoid((field - amount) / 0.12)
    caps = phantom_fields.sigmoid(float(rng.uniform(-1, 3)) - anatomy.near_ventricle)
    return np.maximum(spots, 0.6 * caps) * anatomy.white
