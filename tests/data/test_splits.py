from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfp_uqseg.data import brats, splits

IDS = [f"case{number:02d}" for number in range(20)]


def test_every_case_is_in_one_part():
    split = splits.make(IDS, seed=3)
    assert sorted(split.train + split.validation + split.test) == IDS
    assert [len(part) for part in (split.train, split.validation, split.test)] == [
        14,
        2,
        4,
    ]


def test_the_seed_decides_and_the_order_of_ids_does_not():
    assert splits.make(IDS, seed=1) == splits.make(reversed(IDS), seed=1)
    assert splits.make(IDS, seed=1) != splits.make(IDS, seed=2)


def test_a_split_is_the_same_on_every_machine():
    split = splits.make(["a", "b", "c", "d", "e", "f"], counts=(3, 1, 2), seed=0)
    assert split == splits.Split(("a", "d", "f"), ("c",), ("b", "e"))


def test_scans_of_one_patient_stay_together():
    ids = [f"BraTS-GLI-{p:05d}-{t:03d}" for p in range(10) for t in range(3)]
    split = splits.make(ids, fractions=(0.5, 0.2, 0.3), seed=0)
    parts = [{i[:-4] for i in part} for part in (split.train, split.validation)]
    assert [len(part) for part in parts] == [5, 2]
    assert not parts[0] & parts[1]
    assert len(split.train) == 15


@pytest.mark.parametrize(
    ("case_id", "patient"),
    [
        ("BraTS-GLI-00005-101", "BraTS-GLI-00005"),
        ("BraTS-GoAT-00005", "BraTS-GoAT-00005"),
        ("Brats18_TCIA01_378_1", "Brats18_TCIA01_378"),
        ("BraTS19_2013_10_1", "BraTS19_2013_10"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_01477", "BraTS2021_01477"),
        ("TCGA_CS_4941_19960909", "TCGA_CS_4941"),
        ("BRATS_001", "BRATS_001"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("sub-01_ses-2", "sub-01"),
        ("phantom_train_001", "phantom_train_001"),
    ],
)
def test_patients_are_told_from_scans(case_id, patient):
    assert splits.patient_of(case_id) == patient


def test_another_rule_for_patients_may_be_given():
    ids = ["a1", "a2", "b1", "b2"]
    split = splits.make(ids, counts=(1, 0, 1), patient=lambda case_id: case_id[0])
    assert {case_id[0] for case_id in split.train} != {
        case_id[0] for case_id in split.test
    }
    assert len(split.train) == len(split.test) == 2


def test_counts_leave_the_rest_out():
    split = splits.make(IDS, counts=(8, 0, 2))
    assert (len(split.train), len(split.validation), len(split.test)) == (8, 0, 2)


@given(
    st.integers(3, 60),
    st.sampled_from([(0.7, 0.1, 0.2), (1, 0, 0), (0, 0, 1), (0.5, 0.5, 0)]),
)
def test_fractions_use_every_patient_and_leave_no_part_empty(number, fractions):
    split = splits.make([str(n) for n in range(number)], fractions=fractions)
    sizes = [len(part) for part in (split.train, split.validation, split.test)]
    assert sum(sizes) == number
    assert [size > 0 for size in sizes] == [fraction > 0 for fraction in fractions]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"fractions": (0.5, 0.5)}, "`fractions` must be three numbers"),
        ({"fractions": (0.5, 0.1, 0.1)}, "sum to 1"),
        ({"fractions": (1.5, -0.5, 0)}, "sum to 1"),
        ({"counts": (15, 5, 5)}, "at most 20 patients"),
        ({"counts": (1, 2)}, "`counts` must be three whole numbers"),
        ({"counts": (1, -1, 2)}, "`counts` must be three whole numbers"),
        ({"counts": (1, 1, 1), "fractions": (1, 0, 0)}, "not both"),
    ],
)
def test_sizes_are_checked(choice, message):
    with pytest.raises(ValueError, match=message):
        splits.make(IDS, **choice)


def test_too_few_patients_are_an_error():
    with pytest.raises(ValueError, match=r"enough patients.*got 2"):
        splits.make(["a", "b"])


def test_repeated_ids_are_an_error():
    with pytest.raises(ValueError, match="`case_ids` must name each case once"):
        splits.make(["a", "a", "b"])


def test_a_split_comes_back_from_its_file(tmp_path):
    split = splits.make(IDS)
    split.save(tmp_path / "split.json")
    assert splits.load(tmp_path / "split.json") == split


def test_parts_may_be_missing_in_a_file_written_by_hand(tmp_path):
    (tmp_path / "split.json").write_text('{"train": ["a"], "test": ["b"]}')
    assert splits.load(tmp_path / "split.json") == splits.Split(("a",), (), ("b",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must hold JSON"),
        ("[]", "JSON object of lists.*got list"),
        ("{}", "JSON object of lists"),
        ('{"train": ["a"], "tests": []}', r"got \['tests', 'train'\]"),
        ('{"train": "a"}', "`train` must be a list of case ids"),
        ('{"train": [1]}', "`train` must be a list of case ids"),
        ('{"train": 1}', "split.json"),
        ('{"train": ["a", "a"]}', "`train` must name each case once"),
        ('{"train": ["a"], "test": ["a"]}', "share no patient with `train`"),
    ],
)
def test_a_damaged_file_is_an_error(text, message, tmp_path):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        splits.load(tmp_path / "split.json")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.json does not exist"):
        splits.load(tmp_path / "nothing.json")


def test_one_patient_on_both_sides_is_an_error():
    with pytest.raises(ValueError, match=r"-000' here and .*-001' there"):
        splits.Split(("BraTS-GLI-00001-001",), (), ("BraTS-GLI-00001-000",))


def test_cases_are_selected_in_the_order_of_ids(study_folder):
    cases = brats.find_cases(study_folder)
    chosen = splits.select(cases, ("Brats18_X_2_1", "Brats18_X_0_1"))
    assert [case.id for case in chosen] == ["Brats18_X_2_1", "Brats18_X_0_1"]


def test_an_unknown_id_names_its_neighbours(study_folder):
    cases = brats.find_cases(study_folder)
    with pytest.raises(ValueError, match=r"3 cases found; got 'Brats18_X_9_1'.*X_"):
        splits.select(cases, ("Brats18_X_9_1",))


def test_the_first_patients_of_an_order_are_nested():
    order = splits.order(IDS, seed=4)
    assert sorted(order) == IDS
    assert order == splits.order(reversed(IDS), seed=4)
    assert order != splits.order(IDS, seed=5)
    assert set(order[:6]) == set(splits.make(IDS, counts=(6, 0, 0), seed=4).train)


def test_an_order_keeps_scans_of_one_patient_together():
    ids = [f"BraTS-GLI-{p:05d}-{t:03d}" for t in range(2) for p in range(4)]
    order = splits.order(ids)
    assert [each[:-4] for each in order[::2]] == [each[:-4] for each in order[1::2]]


@pytest.mark.parametrize(
    ("case_id", "group"),
    [
        ("TCGA_HT_7473_19970826", "HT"),
        ("Brats18_CBICA_ABM_1", "CBICA"),
        ("Brats18_2013_3_1", "2013"),
        ("BraTS19_TCIA01_378_1", "TCIA01"),
        ("BraTS-GLI-00005-101", None),
        ("phantom_test_000", None),
    ],
)
def test_institutions_are_told_by_names(case_id, group):
    assert splits.group_of(case_id) == group


def test_a_group_is_held_out_whatever_its_letters_case():
    ids = ["TCGA_HT_1_1", "TCGA_CS_2_1", "TCGA_HT_3_1"]
    kept, held = splits.hold_out(ids, "ht")
    assert kept == ["TCGA_CS_2_1"]
    assert held == ["TCGA_HT_1_1", "TCGA_HT_3_1"]
    assert splits.hold_out(["a1", "b2"], "b", group=lambda i: i[0]) == (["a1"], ["b2"])


def test_a_group_that_no_case_has_is_an_error():
    with pytest.raises(ValueError, match=r"got 'XX'. Their groups are \['HT'\]"):
        splits.hold_out(["TCGA_HT_1_1"], "XX")
    with pytest.raises(ValueError, match="the names tell no group"):
        splits.hold_out(["case"], "HT")
