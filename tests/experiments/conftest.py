"""Small phantom cases, and maps of them as `serving.predict_case` leaves them."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tfp_uqseg import labels
from tfp_uqseg.data import brats, nifti, phantom
from tfp_uqseg.uncertainty import measures

REGIONS = ("WT", "TC", "ET")
# A browser is no package of Python; where it is to be had, the caller says so.
if "TFP_UQSEG_BROWSER" not in os.environ:
    collect_ignore = ["test_report_in_a_browser.py"]


@pytest.fixture(scope="session")
def phantom_cases(tmp_path_factory):
    """Three phantom cases on a small grid."""
    folder = tmp_path_factory.mktemp("cases")
    for seed in range(3):
        case = phantom.make_case(seed, shape=(40, 48, 6), num_raters=2)
        phantom.write_case(case, folder, f"case_{seed}")
    return brats.find_cases(folder)


def write_maps(folder, case, probabilities, *, share=0.2, **changes):
    """Write maps (X, Y, Z, K) of a case in the layout of serving; return the folder.

    `share` of the predictive entropy is called epistemic. `changes` overrule entries of
    the summary.
    """
    regions = changes.pop("region_names", REGIONS)
    scheme = changes.pop("label_scheme", "brats2018")
    grid = case.load(case.modalities[:1], labels=False).grid
    place = folder / case.id
    place.mkdir(parents=True)
    entropy = measures.binary_entropy(probabilities)
    maps = {
        "mean_probabilities": probabilities,
        "predictive_entropy": entropy,
        "expected_entropy": (1 - share) * entropy,
        "mutual_information": share * entropy,
    }
    for k, region in enumerate(regions):
        for name, values in maps.items():
            path = place / f"{case.id}_{name}_{region}.nii.gz"
            nifti.write(path, values[..., k], grid, np.float32)
    ids = labels.label_map(probabilities > 0.5, scheme, regions)
    nifti.write(place / f"{case.id}.nii.gz", ids, grid, np.uint8)
    summary = {
        "case": case.id,
        "method": "latent",
        "num_draws": 20,
        "settings": {"label_scheme": scheme},
        "regions": {
            region: {
                "volume_ml": 1.0,
                "volume_median_ml": 2.0,
                "volume_interval_ml": [0.0, 500.0],
                "interval_level": 0.8,
            }
            for region in regions
        },
    }
    summary.update(changes)
    path = place / f"{case.id}_summary.json"
    path.write_text(json.dumps(summary), encoding="utf-8")
    return folder


@pytest.fixture(name="write_maps", scope="session")
def write_maps_fixture():
    """The function `write_maps`."""
    return write_maps


@pytest.fixture
def true_maps(tmp_path, phantom_cases):
    """Maps of a network that knows the raters' probabilities."""
    folder = tmp_path / "maps"
    for case in phantom_cases:
        truth = np.stack([case.load_truth(region) for region in REGIONS], axis=-1)
        write_maps(folder, case, truth)
    return folder


@pytest.fixture
def poor_maps(tmp_path, phantom_cases):
    """Maps of a network that is sure, and mistaken by two voxels."""
    folder = tmp_path / "poor"
    for case in phantom_cases:
        truth = np.stack([case.load_truth(region) for region in REGIONS], axis=-1)
        sure = np.clip(np.roll(truth, 2, axis=0).round(), 0.02, 0.98)
        write_maps(folder, case, sure, method="deterministic")
    return folder
