"""Small synthetic studies on disk."""

from __future__ import annotations

import pathlib

import nibabel
import numpy as np
import pytest

SHAPE = (12, 10, 6)
#: As BraTS files are stored: axes to the left, the back and the top.
LPS = np.array(
    [[-1.0, 0, 0, 0], [0, -1.0, 0, 9.0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]], np.float64
)


def synthetic_image(seed: int, shape=SHAPE) -> np.ndarray:
    """Whole numbers above 0 in a box of 8 x 6 x 4 voxels, 0 around it."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int16)
    inside = np.s_[2 : shape[0] - 2, 2 : shape[1] - 2, 1 : shape[2] - 1]
    image[inside] = rng.integers(1, 900, image[inside].shape)
    return image


def synthetic_labels(ids, shape=SHAPE) -> np.ndarray:
    """One column of voxels for each id."""
    labels = np.zeros(shape, np.uint8)
    for position, label in enumerate(ids):
        labels[3 + position, 4:6, 2:4] = label
    return labels


def save(path, array, affine=LPS, dtype=None):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.asarray(array, dtype), affine)
    image.header.set_xyzt_units("mm")
    # nibabel chooses the format by the ending, and knows lower case alone.
    lower = path.with_name(path.name.lower())
    image.to_filename(lower)
    return lower.rename(path)


def save_study(
    folder,
    case_id,
    *,
    names=("flair", "t1", "t1ce", "t2"),
    label="seg",
    separator="_",
    ending=".nii.gz",
    ids=(1, 2, 4),
    seed=0,
    shape=SHAPE,
):
    """Write one case in its own folder; return the folder."""
    place = pathlib.Path(folder) / case_id
    for channel, name in enumerate(names):
        image = synthetic_image(seed * 10 + channel, shape)
        save(place / f"{case_id}{separator}{name}{ending}", image)
    if label is not None:
        ids = synthetic_labels(ids, shape)
        save(place / f"{case_id}{separator}{label}{ending}", ids)
    return place


@pytest.fixture
def study_folder(tmp_path):
    """A folder of three cases in BraTS 2018 naming."""
    for number in range(3):
        save_study(tmp_path, f"Brats18_X_{number}_1", seed=number)
    return tmp_path


@pytest.fixture
def make():
    """The helpers of this file, for tests that need other studies."""

    class Make:
        image = staticmethod(synthetic_image)
        labels = staticmethod(synthetic_labels)
        save = staticmethod(save)
        study = staticmethod(save_study)
        shape = SHAPE
        affine = LPS

    return Make
