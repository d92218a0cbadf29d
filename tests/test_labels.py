from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg import labels

BRATS = ("WT", "TC", "ET")


@pytest.mark.parametrize(
    ("scheme", "ids", "whole", "core", "enhancing"),
    [
        ("brats2018", [0, 1, 2, 4], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]),
        ("brats2023", [0, 1, 2, 3], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]),
        ("decathlon", [0, 1, 2, 3], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]),
    ],
)
def test_region_masks_follow_the_scheme(scheme, ids, whole, core, enhancing):
    masks = labels.region_masks(np.array(ids), scheme)
    assert masks.dtype == np.uint8
    assert masks.T.tolist() == [whole, core, enhancing]


def test_a_resection_cavity_is_in_no_region():
    assert not labels.region_masks(np.array([4]), "brats2024").any()


def test_a_binary_mask_takes_every_id_above_zero():
    masks = labels.region_masks(np.array([0, 1, 255]), "binary", ("tumour",))
    assert masks[:, 0].tolist() == [0, 1, 1]


def test_regions_come_in_the_order_asked_for():
    masks = labels.region_masks(np.array([2]), "brats2018", ("ET", "WT"))
    assert masks.tolist() == [[0, 1]]


def test_an_unknown_id_is_an_error_that_names_the_schemes_it_fits():
    with pytest.raises(ValueError, match=r"got \[3\].*brats2018.*brats2023"):
        labels.region_masks(np.array([0, 3]), "brats2018")


@pytest.mark.parametrize("value", [-1, 256, 1000])
def test_ids_beyond_a_byte_are_unknown(value):
    with pytest.raises(ValueError, match=str(value)):
        labels.region_masks(np.array([0, value]), "brats2018")


def test_labels_must_be_whole_numbers():
    with pytest.raises(ValueError, match="`labels` must hold whole numbers; got float"):
        labels.region_masks(np.array([0.0, 1.0]), "brats2018")


@pytest.mark.parametrize("scheme", ["brats2018", "brats2023", "brats2024", "decathlon"])
def test_label_map_undoes_region_masks(scheme):
    known = sorted(labels.SCHEMES[scheme].known - ({4} if "2024" in scheme else set()))
    ids = np.array(known * 3).reshape(3, -1)
    masks = labels.region_masks(ids, scheme)
    assert np.array_equal(labels.label_map(masks, scheme), ids)


def test_a_binary_label_map_is_zero_and_one():
    out = labels.label_map(np.array([[True], [False]]), "binary", ("tumour",))
    assert out.tolist() == [1, 0]
    assert out.dtype == np.uint8


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1))
def test_a_label_map_is_nested_and_keeps_the_innermost_region(masks):
    masks = np.array(masks)
    ids = labels.label_map(masks, "brats2018")
    again = labels.region_masks(ids, "brats2018").astype(bool)
    whole, core, enhancing = again.T
    assert not (core & ~whole).any()
    assert not (enhancing & ~core).any()
    assert np.array_equal(enhancing, masks[:, 2])
    assert np.array_equal(core, masks[:, 1] | masks[:, 2])
    assert np.array_equal(whole, masks.any(axis=1))


@pytest.mark.parametrize("regions", [("WT",), ("TC",), ("ET",), ("WT", "ET")])
def test_a_label_map_of_some_regions_gives_their_masks_back(regions):
    masks = labels.region_masks(np.array([0, 1, 2, 4]), "brats2018", regions)
    ids = labels.label_map(masks, "brats2018", regions)
    again = labels.region_masks(ids, "brats2018", regions)
    assert np.array_equal(again, masks)


def test_a_label_map_needs_one_mask_per_region():
    with pytest.raises(ValueError, match=r"one mask per region.*got shape \(5, 2\)"):
        labels.label_map(np.zeros((5, 2)), "brats2018")


def test_a_label_map_needs_binary_masks():
    with pytest.raises(ValueError, match=r"only 0 and 1.*Threshold"):
        labels.label_map(np.full((5, 3), 0.7), "brats2018")


@pytest.mark.parametrize(
    ("regions", "scheme", "message"),
    [
        (("WT",), "binary", r'regions=\("tumour",\)'),
        (("tumour",), "brats2018", r'regions=\("WT",\).*label_scheme="binary"'),
        (("edema",), "brats2018", r"among \('WT', 'TC', 'ET'\)"),
        ((), "brats2018", "at least one region"),
        (("WT", "WT"), "brats2018", "none twice"),
        ("WT", "brats2018", "tuple of names; got 'WT'"),
    ],
)
def test_regions_that_a_scheme_does_not_have_say_what_to_pass(regions, scheme, message):
    with pytest.raises(ValueError, match=message):
        labels.check_regions(regions, scheme)


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"`label_scheme` must be one of 'brats2018'"):
        labels.get("brats1999")


def test_detection_needs_schemes_that_agree():
    assert labels.detect([0, 1, 2], ["brats2018", "brats2023"]).name == "brats2018"
    with pytest.raises(ValueError, match=r"label_scheme=\"brats2023\".*decathlon"):
        labels.detect([0, 1, 2, 3])


def test_four_is_ambiguous_between_years():
    with pytest.raises(ValueError, match=r"brats2018.*brats2024"):
        labels.detect([0, 1, 2, 4])


def test_background_alone_fits_every_scheme():
    assert labels.detect([0]).name == "brats2018"


def test_one_strange_id_is_a_binary_mask():
    assert labels.detect([0, 255]).name == "binary"


def test_zero_and_one_alone_are_ambiguous_and_the_error_says_what_to_pass():
    with pytest.raises(ValueError, match=r'label_scheme="binary".*regions=\("tumour"'):
        labels.detect([0, 1], ["brats2018", "binary"])


def test_ids_of_no_scheme_are_an_error():
    with pytest.raises(ValueError, match=r"got \[0, 1, 7\].*binary: every id above 0"):
        labels.detect([0, 1, 7])


@pytest.mark.parametrize(
    ("ids", "named", "name"),
    [
        ([0, 1, 2], "brats2018", "brats2018"),
        ([0, 1, 2, 3], "brats2023", "brats2023"),
        ([0, 1, 2, 3, 4], "brats2023", "brats2024"),
        ([0, 4], "brats2024", "brats2024"),
        ([0, 1, 2, 3], "decathlon", "decathlon"),
    ],
)
def test_file_names_decide_the_scheme(ids, named, name):
    assert labels.resolve(ids, named=named, regions=BRATS).name == name


def test_modern_names_with_old_ids_are_not_guessed():
    with pytest.raises(ValueError, match=r"hold 4 but not 3.*brats2018.*brats2024"):
        labels.resolve([0, 1, 2, 4], named="brats2023")


def test_a_given_scheme_wins_but_must_admit_the_ids():
    found = labels.resolve([0, 1, 2], named="brats2018", label_scheme="decathlon")
    assert found.name == "decathlon"
    with pytest.raises(ValueError, match=r"got \[0, 4\], where 'brats2023' knows"):
        labels.resolve([0, 4], label_scheme="brats2023")


def test_asking_for_tumour_makes_zero_and_one_a_binary_mask():
    assert labels.resolve([0, 1], regions=("tumour",)).name == "binary"
    assert labels.resolve([0, 255], regions=("tumour",)).name == "binary"
    assert labels.resolve([0], regions=("tumour",), named="brats2018").name == "binary"


def test_asking_for_tumour_in_brats_labels_says_what_to_pass():
    with pytest.raises(ValueError, match=r'pass `regions=\("WT",\)`'):
        labels.resolve([0, 1, 2, 4], regions=("tumour",), named="brats2018")
    with pytest.raises(ValueError, match=r'label_scheme="binary"'):
        labels.resolve([0, 1, 2], regions=("tumour",))


def test_a_scheme_given_as_binary_takes_any_labels():
    found = labels.resolve([0, 1, 2, 4], regions=("tumour",), label_scheme="binary")
    assert found.name == "binary"
