from __future__ import annotations

import os
import pathlib

import nibabel
import numpy as np
import pytest

from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats, naming

ALL = ("flair", "t1", "t1ce", "t2")
MODERN = ("t2f", "t1n", "t1c", "t2w")


@pytest.mark.parametrize(
    ("case_id", "names", "separator", "scheme"),
    [
        ("Brats17_TCIA_603_1", ALL, "_", "brats2018"),
        ("Brats18_CBICA_ABM_1", ALL, "_", "brats2018"),
        ("BraTS19_2013_10_1", ALL, "_", "brats2018"),
        ("BraTS20_Training_001", ALL, "_", "brats2018"),
        ("BraTS2021_01477", ALL, "_", "brats2018"),
        ("BraTS-GLI-00000-000", MODERN, "-", "brats2023"),
        ("BraTS-MET-00086-000", MODERN, "-", "brats2023"),
        ("BraTS-SSA-00002-000", MODERN, "-", "brats2023"),
        ("BraTS-GoAT-00000", MODERN, "-", "brats2023"),
        ("BraTS-GLI-02405-100", MODERN, "-", "brats2024"),
        ("BraTS-PED-00001-000", MODERN, "-", None),
        ("UPENN-GBM-00001_11", ("FLAIR", "T1", "T1GD", "T2"), "_", None),
        ("TCGA_CS_4941_19960909", ALL, "_", None),
        ("my.patient 7", ALL, ".", None),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_names_of_every_year_are_understood(
    case_id, names, separator, scheme, ending, make, tmp_path
):
    make.study(
        tmp_path, case_id, names=names, separator=separator, ending=ending, ids=(1, 2)
    )
    (case,) = brats.find_cases(tmp_path)
    assert case.id == case_id
    assert case.modalities == ALL
    assert case.label_scheme == scheme
    assert not case.scheme_given
    assert case.label_path.name == f"{case_id}{separator}seg{ending}"
    expected = make.image(0)[::-1, ::-1]  # the first name is FLAIR
    assert np.array_equal(case.load().image[..., 0], expected)


@pytest.mark.parametrize("ids", [(1, 2), (1, 2, 3), (1, 2, 3, 4)])
def test_paediatric_studies_need_their_scheme(ids, make, tmp_path):
    make.study(tmp_path, "BraTS-PED-00001-000", names=MODERN, separator="-", ids=ids)
    (case,) = brats.find_cases(tmp_path)
    with pytest.raises(DataError, match="PED-00001.*`label_scheme` must be given"):
        case.load().masks()
    given = brats.find_cases(tmp_path, label_scheme="brats2024")[0]
    assert given.load().masks().any()


def test_labels_that_fit_the_pattern_of_images_are_no_case(make, tmp_path):
    for name in ("A", "A_seg", "B", "B_seg"):
        make.save(tmp_path / f"{name}.nii.gz", make.image(0))
    cases = brats.find_cases(
        tmp_path,
        pattern="{case}.nii.gz",
        label_pattern="{case}_seg.nii.gz",
        modalities=("flair",),
    )
    assert [case.id for case in cases] == ["A", "B"]


def test_incomplete_cases_wait_until_they_are_loaded(make, study_folder):
    make.study(study_folder, "Brats18_X_9_1", names=("flair", "t1"))
    with pytest.raises(DataError, match="Brats18_X_9_1: modality 't1ce' is missing"):
        brats.find_cases(study_folder)
    cases = brats.find_cases(study_folder, complete=False)
    assert cases[0].load().image.shape[-1] == 4
    with pytest.raises(DataError, match="Brats18_X_9_1: modality 't2' is needed"):
        cases[-1].load(("flair", "t2"))


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, str.swapcase])
def test_letter_case_does_not_count(change, make, tmp_path):
    names = [change(name) for name in MODERN]
    make.study(
        tmp_path,
        "BraTS-GLI-00003-000",
        names=names,
        label=change("seg"),
        separator="-",
        ending=change(".nii.gz"),
        ids=(1, 2, 3),
    )
    (case,) = brats.find_cases(tmp_path)
    assert case.modalities == ALL
    assert case.load().masks().shape == (*make.shape, 3)


def test_case_ids_spelt_in_two_ways_are_one_case(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    (place / "Brats18_A_1_t1.nii.gz").rename(place / "BRATS18_a_1_T1.nii.gz")
    (case,) = brats.find_cases(tmp_path)
    assert case.id == "Brats18_A_1"


def test_grades_in_folders_are_one_cohort(make, tmp_path):
    make.study(tmp_path / "HGG", "Brats18_B_1")
    make.study(tmp_path / "LGG", "Brats18_A_1")
    cases = brats.find_cases(tmp_path)
    assert [case.id for case in cases] == ["Brats18_A_1", "Brats18_B_1"]


def test_all_files_in_one_folder_are_sorted_into_cases(make, tmp_path):
    for number in range(2):
        place = make.study(tmp_path, f"Brats18_{number}_1", seed=number)
        for path in list(place.iterdir()):
            path.rename(tmp_path / path.name)
        place.rmdir()
    cases = brats.find_cases(tmp_path)
    assert [case.id for case in cases] == ["Brats18_0_1", "Brats18_1_1"]
    assert all(case.label_path for case in cases)


def test_the_folder_of_one_case_is_a_cohort_of_one(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    assert [case.id for case in brats.find_cases(place)] == ["Brats18_A_1"]


def test_files_without_a_case_id_take_the_name_of_their_folder(make, tmp_path):
    for name in (*ALL, "seg"):
        array = make.labels((1, 2, 4)) if name == "seg" else make.image(1)
        make.save(tmp_path / "patient7" / f"{name}.nii.gz", array)
    (case,) = brats.find_cases(tmp_path)
    assert case.id == "patient7"
    assert case.modalities == ALL


def test_two_naming_years_in_one_folder_are_one_cohort(make, tmp_path):
    make.study(tmp_path, "BraTS2021_00001")
    make.study(
        tmp_path,
        "BraTS-GLI-00000-000",
        names=MODERN,
        separator="-",
        ids=(1, 2, 3),
    )
    new, old = brats.find_cases(tmp_path)
    assert old.modalities == new.modalities == ALL
    masks = [case.load().masks(("WT", "TC", "ET")) for case in (new, old)]
    assert np.array_equal(*masks)


def test_hidden_files_of_macos_are_passed_over(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    (place / "._Brats18_A_1_t1.nii.gz").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "Brats18_A_1_t1.nii.gz").write_bytes(b"")
    (tmp_path / ".partial-1-Brats18_Z_1").mkdir()
    (tmp_path / ".partial-1-Brats18_Z_1" / "Brats18_Z_1_t1.nii.gz").write_bytes(b"")
    assert len(brats.find_cases(tmp_path)) == 1


def test_other_files_beside_are_passed_over(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    make.save(place / "Brats18_A_1_unc_whole.nii.gz", make.image(0))
    make.save(place / "Brats18_A_1.nii.gz", make.labels((1,)))
    (tmp_path / "survival_data.csv").write_text("a,b\n")
    (case,) = brats.find_cases(tmp_path)
    assert case.modalities == ALL


def test_labels_of_a_strange_name_belong_to_the_folder_they_lie_in(make, tmp_path):
    place = make.study(tmp_path, "BraTS20_Training_355", label=None)
    make.save(place / "W39_1998.09.19_Segm.nii", make.labels((1, 2, 4)))
    (case,) = brats.find_cases(tmp_path)
    assert case.label_path.name == "W39_1998.09.19_Segm.nii"


def test_labels_of_another_patient_in_a_flat_folder_are_not_adopted(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1", label=None)
    make.save(tmp_path / "flat" / "Brats18_B_1_seg.nii.gz", make.labels((1,)))
    for path in place.iterdir():
        path.rename(tmp_path / "flat" / path.name)
    with pytest.raises(DataError, match=r"Brats18_B_1: modality .* is missing"):
        brats.find_cases(tmp_path)


def test_folders_named_like_files_are_looked_into(make, tmp_path):
    for name in (*ALL, "seg"):
        array = make.labels((1, 2, 4)) if name == "seg" else make.image(1)
        folder = tmp_path / "BraTS2021_00495" / f"BraTS2021_00495_{name}.nii"
        make.save(folder / f"00000057_brain_{name}.nii", array)
    (case,) = brats.find_cases(tmp_path)
    assert case.id == "BraTS2021_00495"
    assert case.label_path.name == "00000057_brain_seg.nii"


def test_links_in_a_circle_end(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    os.symlink(tmp_path, place / "up")
    os.symlink(place, tmp_path / "again")
    assert len(brats.find_cases(tmp_path)) == 1


def test_cases_without_labels_are_cases(make, tmp_path):
    make.study(tmp_path, "BraTS20_Validation_001", label=None)
    (case,) = brats.find_cases(tmp_path)
    assert case.label_path is None
    study = case.load()
    assert study.labels is None
    with pytest.raises(DataError, match="labels are needed; no label file was found"):
        study.masks()


def test_modalities_may_be_chosen_and_ordered_in_any_spelling(study_folder):
    for case in brats.find_cases(study_folder, modalities=("T1Gd", "t2f")):
        assert case.modalities == ("t1ce", "flair")
        assert case.load().image.shape[-1] == 2


def test_the_modalities_all_have_are_taken(make, tmp_path):
    for number in range(2):
        make.study(tmp_path, f"X_{number}", names=("t2", "flair"))
    assert brats.find_cases(tmp_path)[0].modalities == ("flair", "t2")


def test_a_case_that_lacks_a_modality_is_named(study_folder):
    next(study_folder.glob("*_1_1/*_t1ce.nii.gz")).unlink()
    with pytest.raises(
        DataError,
        match=r"Case Brats18_X_1_1: modality 't1ce' is missing in .*2 of 3 cases have",
    ):
        brats.find_cases(study_folder)
    with pytest.raises(DataError, match=r"Brats18_X_1_1: modality 't1ce' is missing"):
        brats.find_cases(study_folder, modalities=("t1ce",))
    assert len(brats.find_cases(study_folder, modalities=("t1", "t2"))) == 3


def test_an_extra_modality_of_one_case_is_an_error(make, tmp_path):
    make.study(tmp_path, "X_0", names=("flair", "t2"))
    make.study(tmp_path, "X_1", names=("flair",))
    with pytest.raises(DataError, match=r"Case X_1: modality 't2' is missing"):
        brats.find_cases(tmp_path)


def test_one_modality_in_two_files_is_an_error(make, tmp_path):
    place = make.study(tmp_path, "Brats18_A_1")
    make.save(place / "Brats18_A_1_t1.nii", make.image(0))
    with pytest.raises(DataError, match=r"Case Brats18_A_1: t1 must be one file; got"):
        brats.find_cases(tmp_path)


def test_two_spellings_of_one_modality_are_an_error(make, tmp_path):
    make.study(tmp_path, "A", names=("t1c", "t1ce"))
    with pytest.raises(DataError, match="t1ce must be one file"):
        brats.find_cases(tmp_path)


def test_one_id_in_two_folders_is_an_error(make, tmp_path):
    make.study(tmp_path / "HGG", "Brats18_A_1")
    make.study(tmp_path / "LGG", "Brats18_A_1")
    with pytest.raises(DataError, match=r"ids must be unique; found in .*HGG.* and "):
        brats.find_cases(tmp_path)


def test_a_missing_folder_and_a_file_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"`folder` must be a folder.*is missing"):
        brats.find_cases(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        brats.find_cases(tmp_path / "file")


def test_an_empty_folder_shows_the_expected_layout(tmp_path):
    with pytest.raises(DataError, match=r"holds nothing\. Expected \{case\}/\{case\}_"):
        brats.find_cases(tmp_path)


def test_a_folder_of_other_files_shows_what_was_seen(tmp_path):
    for number in range(7):
        (tmp_path / f"scan{number}.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds scan0\.nii\.gz, .* and 2 more"):
        brats.find_cases(tmp_path)


def test_a_folder_of_archives_names_them(tmp_path):
    (tmp_path / "MICCAI_BraTS.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds MICCAI_BraTS\.zip"):
        brats.find_cases(tmp_path)


def test_the_scheme_of_the_user_wins(study_folder):
    (case, *_) = brats.find_cases(study_folder, label_scheme="brats2024")
    assert case.label_scheme == "brats2024"
    assert case.scheme_given
    assert not case.load().masks()[..., 2].any()
    with pytest.raises(ValueError, match="`label_scheme` must be one of"):
        brats.find_cases(study_folder, label_scheme="brats")


def test_modalities_must_be_names_and_none_twice(study_folder):
    with pytest.raises(ValueError, match=r"tuple of names; got 'flair'"):
        brats.find_cases(study_folder, modalities="flair")
    with pytest.raises(ValueError, match="none twice"):
        brats.find_cases(study_folder, modalities=("flair", "t2f"))
    with pytest.raises(ValueError, match="at least one"):
        brats.find_cases(study_folder, modalities=())


def test_a_pattern_finds_any_layout(make, tmp_path):
    for case_id in ("A_1", "B_2"):
        for name in ("FLAIR", "T1post"):
            make.save(tmp_path / "img" / name / f"scan-{case_id}.nii.gz", make.image(1))
        make.save(tmp_path / "truth" / f"{case_id}-mask.nii", make.labels((1,)))
    cases = brats.find_cases(
        tmp_path,
        pattern="img/{modality}/scan-{case}.nii.gz",
        label_pattern="truth/{case}-mask.nii",
        modalities=("t1post", "flair"),
    )
    assert [case.id for case in cases] == ["A_1", "B_2"]
    assert cases[0].modalities == ("t1post", "flair")
    assert cases[0].load().masks(("tumour",)).sum() == 4


def test_a_pattern_with_the_modality_last_keeps_underscores_in_ids(make, tmp_path):
    make.study(tmp_path / "in", "TCGA_CS_1", names=("t1", "flair"), ids=(1,))
    (case,) = brats.find_cases(tmp_path, pattern="**/{case}_{modality}.nii.gz")
    assert case.id == "TCGA_CS_1"
    assert case.modalities == ("flair", "t1")
    assert case.label_path is not None


def test_the_usual_layout_as_a_pattern(study_folder):
    by_pattern = brats.find_cases(
        study_folder, pattern="{case}/{case}_{modality}.nii.gz"
    )
    by_name = brats.find_cases(study_folder)
    assert [vars(case) for case in by_pattern] == [vars(case) for case in by_name]


def test_a_pattern_without_modality_names_volumes(make, tmp_path):
    volumes = np.stack([make.image(0), make.image(1)], -1)
    make.save(tmp_path / "A.nii.gz", volumes)
    with pytest.raises(
        ValueError, match=r"`modalities` must be given with a `pattern`"
    ):
        brats.find_cases(tmp_path, pattern="{case}.nii.gz")
    (case,) = brats.find_cases(
        tmp_path, pattern="{case}.nii.gz", modalities=("t2", "t1")
    )
    assert np.array_equal(case.load().image[..., 1], make.image(1)[::-1, ::-1])


@pytest.mark.parametrize("pattern", ["{modality}.nii.gz", "a.nii", "{case}/{contrast}"])
def test_a_pattern_needs_a_case_and_nothing_strange(pattern, study_folder):
    with pytest.raises(ValueError, match=r"`pattern` must contain \{case\} and may"):
        brats.find_cases(study_folder, pattern=pattern)


def test_a_pattern_that_fits_nothing_shows_what_is_there(study_folder):
    with pytest.raises(DataError, match=r"files like '\{case\}\.nii'.*holds Brats18_X"):
        brats.find_cases(study_folder, pattern="{case}.nii", modalities=("t1",))


def test_a_label_pattern_that_fits_nothing_is_an_error(study_folder):
    with pytest.raises(DataError, match="`label_pattern` must fit the labels of some"):
        brats.find_cases(study_folder, label_pattern="labels/{case}.nii.gz")


def test_a_label_pattern_that_fits_two_files_is_an_error(study_folder):
    with pytest.raises(DataError, match=r"labels must be one file.*Narrow"):
        brats.find_cases(study_folder, label_pattern="{case}/*.nii.gz")


def test_raters_and_truth_beside_are_found(make, tmp_path):
    place = make.study(tmp_path, "phantom_000")
    for number in (0, 2, 10):
        ids = make.labels((1, 2, 4)[: 1 + number % 3])
        make.save(place / f"phantom_000_rater{number}.nii.gz", ids)
    for region in ("ET", "TC", "WT"):
        truth = make.labels((1,)) * np.float32(0.25)
        make.save(place / f"phantom_000_truth_{region}.nii.gz", truth)
    (case,) = brats.find_cases(tmp_path)
    numbers = [path.name[len("phantom_000_rater") : -7] for path in case.rater_paths]
    assert numbers == ["0", "2", "10"]
    assert list(case.truth_paths) == ["WT", "TC", "ET"]
    assert case.truth_path.name == "phantom_000_truth_WT.nii.gz"
    assert case.modalities == ALL


@pytest.mark.parametrize(
    ("name", "case_id", "kind"),
    [
        ("X_t2_flair.nii", "X", "flair"),
        ("X-T2-FLAIR.nii.gz", "X", "flair"),
        ("a_t1_b_T1W.nii.gz", "a_t1_b", "t1"),
        ("sub-01_T1w.nii.gz", "sub-01", "t1"),
        ("X_segm.nii", "X", "seg"),
        ("X_rater3.nii", "X", "rater"),
        ("X_truth_WT.nii", "X", "truth"),
    ],
)
def test_a_name_is_taken_apart(name, case_id, kind):
    part = naming.parse(pathlib.Path("folder", name))
    assert (part.case_id, part.kind) == (case_id, kind)


@pytest.mark.parametrize("name", ["Xt1.nii", "X_adc.nii", "X_t1_pred.nii", "X.nii"])
def test_a_name_that_tells_nothing_is_nothing(name):
    assert naming.parse(pathlib.Path("folder", name)) is None


@pytest.mark.real
def test_real_cohorts_are_found(real_data):
    cases = brats.find_cases(real_data / "brats")
    assert len(cases) == 10
    assert {case.modalities for case in cases} == {ALL}
    assert {case.label_scheme for case in cases} == {"brats2018"}
    cases = brats.find_cases(real_data / "lgg128")
    assert len(cases) == 60
    assert {case.modalities for case in cases} == {("flair", "t1", "t1ce")}
    assert {case.label_scheme for case in cases} == {None}


@pytest.mark.real
def test_real_years_in_one_folder_load_alike(real_data):
    new, old = brats.find_cases(real_data / "naming")
    assert (new.id, old.id) == ("BraTS-GLI-00000-000", "BraTS2021_01477")
    assert new.modalities == old.modalities == ALL
    for case, enhancing in ((new, True), (old, False)):
        study = case.load()
        assert study.image.shape == (240, 240, 155, 4)
        masks = study.masks(("WT", "TC", "ET"))
        assert masks.any(axis=(0, 1, 2)).tolist() == [True, True, enhancing]
        # Independent: the ids as nibabel reads them, turned by hand (LPS to RAS).
        ids = np.asarray(nibabel.load(case.label_path).dataobj)[::-1, ::-1]
        assert np.array_equal(study.labels, np.rint(ids))


@pytest.mark.real
def test_real_binary_masks_are_tumour_and_nothing_else(real_data):
    study = brats.find_cases(real_data / "lgg128")[0].load()
    mask = study.masks(("tumour",))
    assert np.array_equal(mask[..., 0], study.labels)
    with pytest.raises(DataError, match=r'regions=\("tumour",\)'):
        study.masks(("WT", "TC", "ET"))
    assert np.array_equal(study.masks(("WT",), "brats2018"), mask)
