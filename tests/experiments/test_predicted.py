from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfp_uqseg import labels, plotting
from tfp_uqseg.experiments import predicted


def test_a_prediction_comes_back_in_the_axes_of_its_study(phantom_cases, true_maps):
    case = phantom_cases[0]
    prediction = predicted.open_case(true_maps, case)
    assert prediction.regions == ("WT", "TC", "ET")
    assert prediction.method == "latent"
    np.testing.assert_array_equal(prediction.masks, case.load().masks() > 0)
    np.testing.assert_allclose(
        prediction.read("mean_probabilities", "TC"), case.load_truth("TC"), atol=1e-6
    )


def test_only_known_maps_and_regions_are_read(phantom_cases, true_maps):
    prediction = predicted.open_case(true_maps, phantom_cases[0])
    with pytest.raises(ValueError, match=r"`name` must be one of 'mean_probabilities'"):
        prediction.read("entropy", "WT")
    with pytest.raises(ValueError, match=r"`region` must be one of 'WT'"):
        prediction.read("mean_probabilities", "tumour")


def test_is_predicted_goes_by_the_folder(phantom_cases, true_maps, tmp_path):
    assert predicted.is_predicted(true_maps, phantom_cases[0])
    assert predicted.without_maps(tmp_path, phantom_cases) == [
        "case_0",
        "case_1",
        "case_2",
    ]


def test_panel_row_is_read_from_the_disk(phantom_cases, true_maps, tmp_path):
    case = phantom_cases[1]
    row = predicted.panel_row(true_maps, case, region="TC", modality="t1ce", index=2)
    study = case.load(("t1ce",))
    np.testing.assert_array_equal(row.image, study.image[:, :, 2, 0])
    np.testing.assert_array_equal(row.mask, study.masks()[:, :, 2])
    np.testing.assert_allclose(row.aleatoric, 4 * row.epistemic, atol=1e-6)
    assert row.spacing == study.spacing[:2]
    bare = dataclasses.replace(case, label_path=None)
    rows = [row, predicted.panel_row(true_maps, bare)]
    assert rows[1].mask is None
    plotting.save(plotting.uncertainty_panel(rows), tmp_path / "panel.png", dpi=40)


@pytest.mark.parametrize("name", labels.SCHEMES)
def test_region_mask_is_region_masks_of_one_region(name):
    scheme = labels.SCHEMES[name]
    ids = np.random.default_rng(0).choice(list(scheme.known or (0, 1, 7, 900)), (5, 4))
    for region in scheme.regions:
        np.testing.assert_array_equal(
            predicted.region_mask(ids, scheme, region),
            labels.region_masks(ids, scheme, (region,))[..., 0] > 0,
        )
