"""Who is in which set of a reproduction, and what their slices hold."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from tfp_uqseg.data import brats, phantom, splits
from tfp_uqseg.experiments import reproduce_data, reproduce_plan

BUDGET = dataclasses.replace(
    reproduce_plan.SMALL,
    size=32,
    slices=3,
    train_sizes=(2, 4),
    num_validation=1,
    num_test=2,
    num_sources=2,
)
LGG = [f"TCGA_{group}_{n:04d}_19990101" for group in ("CS", "HT") for n in range(12)]


def test_no_patient_is_in_two_sets_and_the_rest_is_tested():
    sets = reproduce_data.divide(LGG, BUDGET, seed=3)
    parts = [getattr(sets, field.name) for field in dataclasses.fields(sets)]
    assert [len(part) for part in parts] == [4, 1, 17, 2, 0]
    assert sorted(each for part in parts for each in part) == LGG
    assert sets == reproduce_data.divide(reversed(LGG), BUDGET, seed=3)


def test_a_shifted_group_is_in_no_other_set():
    budget = dataclasses.replace(BUDGET, most_shifted=5)
    sets = reproduce_data.divide(LGG, budget, shifted_group="HT")
    assert len(sets.shifted) == 5
    assert {splits.group_of(each) for each in sets.shifted} == {"HT"}
    others = (*sets.pool, *sets.validation, *sets.test, *sets.sources)
    assert {splits.group_of(each) for each in others} == {"CS"}


def test_too_few_patients_are_an_error_that_says_how_many():
    with pytest.raises(ValueError, match=r"hold 9 labelled patients for .*holds 8"):
        reproduce_data.divide(LGG[:8], BUDGET)
    with pytest.raises(ValueError, match="outside of 'HT'"):
        reproduce_data.divide(LGG[5:], BUDGET, shifted_group="HT")


def test_train_sets_of_a_seed_are_nested_and_seeds_differ():
    sets = reproduce_data.divide(LGG, BUDGET)
    for seed in range(5):
        small, large = sets.train(2, seed), sets.train(4, seed)
        assert set(small) < set(large) == set(sets.pool)
    assert len({sets.train(2, seed) for seed in range(5)}) > 1


def test_blocks_are_averaged_and_centred():
    image = np.zeros((1, 4, 6, 1), np.float16)
    image[0, 0, :2] = 8.0
    patient = reproduce_data.Patient(
        case_id="case",
        images=image,
        masks=(image > 0).astype(np.uint8),
        brain=np.ones((1, 4, 6), bool),
        label_scheme="binary",
    )
    small = reproduce_data._shrink(patient, 2, 4)
    assert small.images.shape == (1, 4, 4, 1)
    # Two rows and three columns of blocks: one row of zeros above, none to the left.
    assert small.images[0, 1, 0, 0] == 4.0
    assert small.masks[0, ..., 0].tolist()[1] == [1, 0, 0, 0]
    assert small.brain[0].sum() == 6


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    cohort = reproduce_data.make_phantom(folder, BUDGET)
    cases = [
        case for part in cohort.folders.values() for case in brats.find_cases(part)
    ]
    sets = reproduce_data.phantom_sets(cohort, BUDGET)
    return reproduce_data.load(cases, sets, BUDGET, source="a phantom")


def test_a_phantom_has_the_sets_of_its_budget(study):
    sets = study.sets
    assert [len(sets.pool), len(sets.validation), len(sets.sources)] == [4, 1, 2]
    assert sets.test == ("phantom_test_000", "phantom_test_001")
    assert len(sets.shifted) == 2
    assert study.regions == ("WT", "TC", "ET")
    assert study.patients["phantom_test_000"].images.shape == (3, 32, 32, 4)


def test_a_phantom_that_is_there_is_opened(study, tmp_path):
    folder = tmp_path / "phantom"
    first = reproduce_data.make_phantom(folder, BUDGET)
    before = (folder / phantom.DESCRIPTION_FILE).stat().st_mtime_ns
    assert reproduce_data.make_phantom(folder, BUDGET) == first
    assert (folder / phantom.DESCRIPTION_FILE).stat().st_mtime_ns == before


def test_a_cohort_gives_the_images_and_masks_of_the_patients(study):
    cohort = study.cohort(study.sets.test, divisor=64)
    assert cohort.size == (64, 64)
    patient = study.patients["phantom_test_001"]
    image, mask = cohort.example(len(study.patients["phantom_test_000"].images) + 1)
    np.testing.assert_array_equal(image[:32, :32], patient.images[1])
    np.testing.assert_array_equal(mask[:32, :32], patient.masks[1])
    assert patient.masks.any()


def test_studies_without_air_are_remarked_and_not_warned_of_one_by_one(
    study, monkeypatch, phantom_cases
):
    prepare = reproduce_data.preprocess.prepare

    def warned(*arguments, **options):
        warnings.warn("all of the image counts as brain", stacklevel=2)
        return prepare(*arguments, **options)

    monkeypatch.setattr(reproduce_data.preprocess, "prepare", warned)
    sets = reproduce_data.Sets(("case_0",), (), ("case_1",), (), ())
    budget = dataclasses.replace(BUDGET, size=64)
    found = reproduce_data.load(phantom_cases, sets, budget, source="phantom")
    assert found.remarks == ("case_0", "case_1")
    assert study.remarks == ()
