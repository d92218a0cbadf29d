"""Maps on the study's own grid, volumes, and files that are whole or not there."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
import weakref

import nibabel
import numpy as np
import pytest
import tf_keras

from tfp_uqseg import labels, models, serving
from tfp_uqseg._checks import DataError
from tfp_uqseg.data import brats, nifti, phantom, pipeline, preprocess
from tfp_uqseg.layers import noise
from tfp_uqseg.serving import study as study_module
from tfp_uqseg.uncertainty import draws

REGIONS = ("WT", "TC", "ET")


def build(method="flipout", regions=3, channels=4, seed=0):
    """An untrained network that finds something of every region."""
    model = models.build(
        method,
        input_shape=(None, None, channels),
        num_regions=regions,
        num_train_examples=10,
        base_filters=2,
        depth=2,
        seed=seed,
        initial_probability=0.5,
    )
    images = np.random.default_rng(0).normal(size=(4, 32, 32, channels))
    middle = np.median(model(images.astype(np.float32)).mean(), axis=(0, 1, 2))
    model.get_layer("head").bias.assign_sub(middle)
    return model


def small(method):
    """An untrained network of any method."""
    return models.build(
        method,
        input_shape=(None, None, 4),
        num_regions=3,
        num_train_examples=10,
        base_filters=2,
        depth=2,
        num_members=2,
        initial_probability=0.4,
        initial_stddev_ratio=0.5,
    )


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def deterministic():
    return build("deterministic")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A phantom case with slices without brain below and above."""
    folder = tmp_path_factory.mktemp("cases")
    made = phantom.make_case(0, shape=(40, 36, 5), num_raters=0)
    padding = ((3, 2), (1, 4), (2, 1))
    made = dataclasses.replace(
        made,
        **{
            name: np.pad(array, [*padding, *[(0, 0)] * (array.ndim - 3)])
            for name, array in vars(made).items()
            if isinstance(array, np.ndarray)
        },
    )
    phantom.write_case(made, folder, "patient")
    return brats.find_cases(folder)[0]


@pytest.fixture(scope="module")
def folder(model, case, tmp_path_factory):
    return serving.predict_case(model, case, tmp_path_factory.mktemp("maps"), 4, seed=7)


@pytest.fixture(scope="module")
def summary(folder):
    return serving.read_summary(folder.parent, "patient")


def read(folder, name):
    return nifti.read(folder / f"patient{name}.nii.gz", "patient")[0]


def test_every_map_is_written_and_nothing_else(folder):
    expected = {"patient.nii.gz", "patient_summary.json"}
    expected |= {f"patient_unc_{name}.nii.gz" for name in ("whole", "core", "enhance")}
    for region in REGIONS:
        expected |= {f"patient_{name}_{region}.nii.gz" for name in serving.MAPS}
    assert {path.name for path in folder.iterdir()} == expected
    assert [path.name for path in folder.parent.iterdir()] == ["patient"]


def test_maps_have_the_affine_header_and_type_they_should(folder, case):
    scan = nibabel.load(case.image_paths["flair"])
    for path in folder.glob("*.nii.gz"):
        image = nibabel.load(path)
        assert image.shape == scan.shape
        np.testing.assert_array_equal(image.affine, scan.affine)
        for field in ("qform_code", "sform_code", "pixdim", "xyzt_units", "srow_x"):
            np.testing.assert_array_equal(image.header[field], scan.header[field])
        is_label_map = path.name == "patient.nii.gz"
        assert image.get_data_dtype() == (np.uint8 if is_label_map else np.float32)


def test_maps_are_those_of_the_draws_put_back_in_place(folder, case, model):
    prepared = preprocess.prepare(case.load(labels=False))
    images = pipeline.volume_slices(prepared)
    where = np.moveaxis(prepared.brain, 2, 0)
    prediction = draws.predict(model, images, 4, 7, where=where)
    for name in serving.MAPS:
        array = np.moveaxis(getattr(prediction, name), 0, 2)
        full = preprocess.restore(array, prepared)
        for k, region in enumerate(REGIONS):
            written = read(folder, f"_{name}_{region}")
            np.testing.assert_allclose(written, full[..., k], atol=1e-6)


def test_outside_the_brain_every_map_is_zero(folder, case):
    study = case.load(labels=False)
    outside = ~np.any(study.image != 0, axis=-1)
    assert outside.any()
    for path in folder.rglob("*.nii.gz"):
        assert not nifti.read(path, case.id)[0][outside].any(), path.name


def test_the_label_map_holds_the_nested_regions(folder):
    ids = read(folder, "")
    probable = [read(folder, f"_mean_probabilities_{name}") > 0.5 for name in REGIONS]
    inner = probable[2]
    core = probable[1] | inner
    expected = np.where(probable[0] | core, 2, 0)
    expected[core] = 1
    expected[inner] = 4
    np.testing.assert_array_equal(ids, expected)
    assert set(np.unique(ids)) == {0, 1, 2, 4}


def test_qu_brats_maps_are_the_entropy_on_a_scale_to_a_hundred(folder):
    for region, name in zip(REGIONS, ("whole", "core", "enhance"), strict=True):
        entropy = read(folder, f"_predictive_entropy_{region}")
        scaled = read(folder, f"_unc_{name}")
        np.testing.assert_allclose(scaled, 100 * entropy / np.log(2), rtol=1e-5)
        assert 0 <= scaled.min() <= scaled.max() <= 100


def test_volumes_are_voxels_times_their_size(folder, summary, case, model):
    grid = case.load(labels=False).grid
    ids = read(folder, "")
    voxel = grid.voxel_volume_ml
    assert voxel == pytest.approx(np.prod(grid.spacing) / 1000)
    whole = summary["regions"]["WT"]
    assert whole["volume_ml"] == pytest.approx(np.count_nonzero(ids) * voxel)
    prepared = preprocess.prepare(case.load(labels=False))
    images = pipeline.volume_slices(prepared)
    settings = {
        "contained": labels.contained("brats2018", REGIONS),
        "where": np.moveaxis(prepared.brain, 2, 0),
    }
    counts = draws.predict(model, images, 4, 7, **settings).voxel_counts
    assert (counts[:, 0] >= counts[:, 1]).all()
    assert (counts[:, 1] >= counts[:, 2]).all()
    assert counts.min() > 0
    for k, region in enumerate(REGIONS):
        values = summary["regions"][region]
        np.testing.assert_allclose(values["volumes_ml"], counts[:, k] * voxel)
        ends = [counts[:, k].min() * voxel, counts[:, k].max() * voxel]
        assert values["volume_interval_ml"] == pytest.approx(ends)
        assert values["interval_level"] == pytest.approx(3 / 5)


def test_mean_uncertainties_are_over_brain_and_predicted_region(folder, summary, case):
    study = case.load()
    brain = np.any(study.image != 0, axis=-1)
    inside = labels.region_masks(read(folder, "").astype(int), "brats2018") > 0
    for k, region in enumerate(REGIONS):
        values = summary["regions"][region]
        for name in serving.UNCERTAINTIES:
            array = read(folder, f"_{name}_{region}")
            assert values[f"mean_{name}"] == pytest.approx(array[brain].mean())
            expected = array[inside[..., k]].mean()
            found = values[f"mean_{name}_in_region"]
            assert found == pytest.approx(expected, rel=1e-4)


def test_the_summary_says_how_it_was_made(summary, model):
    assert summary["case"] == "patient"
    assert summary["method"] == "flipout"
    assert summary["num_draws"] == 4
    assert summary["seed"] == 7
    assert summary["settings"]["regions"] == list(REGIONS)
    assert summary["settings"]["label_scheme"] == "brats2018"
    assert summary["settings"]["model"] == serving.fingerprint(model)
    assert {"tfp_uqseg", "tensorflow", "numpy"} <= set(summary["versions"])


def test_labels_are_not_read(model, case, tmp_path, folder):
    blind = dataclasses.replace(case, label_path=tmp_path / "no_such_file.nii.gz")
    again = serving.predict_case(model, blind, tmp_path, 4, seed=7)
    np.testing.assert_array_equal(read(again, ""), read(folder, ""))


def test_only_slices_with_brain_are_run(model, case, tmp_path, monkeypatch):
    seen = []

    def predict(model, images, *arguments, **options):
        seen.append(images)
        return original(model, images, *arguments, **options)

    original = draws.predict
    monkeypatch.setattr(draws, "predict", predict)
    whole = preprocess.Preprocessing(crop=False)
    serving.predict_case(model, case, tmp_path, 2, preprocessing=whole)
    assert len(seen[0]) == 5
    assert all(np.any(image != 0) for image in seen[0])


def test_batch_size_does_not_change_the_maps(model, case, tmp_path, folder):
    other = serving.predict_case(model, case, tmp_path, 4, seed=7, batch_size=2)
    for path in folder.glob("*_mutual_information_*"):
        one, two = nibabel.load(path), nibabel.load(other / path.name)
        np.testing.assert_allclose(one.get_fdata(), two.get_fdata(), atol=1e-5)


@pytest.mark.parametrize("scheme", ["brats2023", "decathlon"])
def test_the_label_map_uses_the_ids_that_were_asked_for(model, case, tmp_path, scheme):
    place = serving.predict_case(model, case, tmp_path, 2, label_scheme=scheme)
    ids = set(np.unique(read(place, "")).tolist())
    assert ids == {0, 1, 2, 3}
    written = serving.read_summary(tmp_path, "patient")["settings"]["label_scheme"]
    assert written == scheme


def test_a_binary_network_writes_zero_and_one(case, tmp_path):
    model = build(regions=1, channels=2)
    place = serving.predict_case(model, case, tmp_path, 2, modalities=("flair", "t1ce"))
    assert set(np.unique(read(place, "")).tolist()) == {0, 1}
    assert (place / "patient_unc_whole.nii.gz").is_file()
    assert (place / "patient_mean_probabilities_tumour.nii.gz").is_file()


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_a_study_stored_in_other_axes_gets_its_maps_in_them(
    deterministic, case, tmp_path, axes
):
    paths = {}
    for name, path in case.image_paths.items():
        scan = nibabel.load(path)
        order = [*axes, 3]
        turned = nibabel.Nifti1Image(
            np.transpose(np.asarray(scan.dataobj), axes), scan.affine[:, order]
        )
        paths[name] = tmp_path / f"patient_{name}.nii.gz"
        nibabel.save(turned, paths[name])
    turned = dataclasses.replace(case, image_paths=paths, label_path=None)
    place = serving.predict_case(deterministic, turned, tmp_path / "turned", 2)
    plain = serving.predict_case(deterministic, case, tmp_path / "plain", 2)
    name = "patient_mean_probabilities_WT.nii.gz"
    found = nibabel.load(place / name)
    scan = nibabel.load(paths["flair"])
    np.testing.assert_array_equal(found.affine, scan.affine)
    expected = np.transpose(nibabel.load(plain / name).get_fdata(), axes)
    np.testing.assert_allclose(found.get_fdata(), expected, atol=1e-6)


def test_one_draw_has_no_interval(deterministic, case, tmp_path):
    serving.predict_case(deterministic, case, tmp_path, 20)
    summary = serving.read_summary(tmp_path, "patient")
    assert summary["num_draws"] == 1
    values = summary["regions"]["WT"]
    assert values["volume_interval_ml"] is None
    assert values["interval_level"] is None
    assert values["coefficient_of_variation"] is None
    assert values["mean_mutual_information"] == pytest.approx(0.0, abs=1e-7)


def test_maps_are_not_replaced_unless_asked(model, case, tmp_path):
    serving.predict_case(model, case, tmp_path, 2)
    for num_draws, seed in ((2, 0), (1, 0), (3, 1)):
        with pytest.raises(FileExistsError, match="already holds maps"):
            serving.predict_case(model, case, tmp_path, num_draws, seed=seed)
    serving.predict_case(model, case, tmp_path, 1, overwrite=True)
    assert serving.read_summary(tmp_path, "patient")["num_draws"] == 1


@pytest.mark.parametrize("method", ["flipout", "latent", "ensemble_mc_dropout"])
def test_further_draws_give_what_all_of_them_would_have(case, tmp_path, method):
    network = small(method)
    for num_draws in (2, 3, 7):
        grown = serving.predict_case(network, case, tmp_path / "grown", num_draws)
    whole = serving.predict_case(network, case, tmp_path / "whole", 7)
    files = sorted(path.name for path in whole.iterdir())
    assert files == sorted(path.name for path in grown.iterdir())
    for name in files:
        assert (grown / name).read_bytes() == (whole / name).read_bytes(), name


def test_only_the_further_draws_are_run(model, case, tmp_path, monkeypatch):
    serving.predict_case(model, case, tmp_path, 5)
    drawn = []

    def draw_key(seed, draw):
        drawn.append(draw)
        return original(seed, draw)

    original = noise.draw_key
    monkeypatch.setattr(noise, "draw_key", draw_key)
    serving.predict_case(model, case, tmp_path, 8)
    assert drawn == [5, 6, 7]


def test_damaged_maps_are_not_gone_on_from(model, case, tmp_path):
    place = serving.predict_case(model, case, tmp_path, 1)
    path = place / "patient_expected_entropy_TC.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    before = sorted(place.iterdir())
    with pytest.raises(DataError, match="expected_entropy_TC.nii.gz.*cut short"):
        serving.predict_case(model, case, tmp_path, 2)
    assert sorted(place.iterdir()) == before


def test_maps_whose_summary_lost_a_volume_are_not_gone_on_from(model, case, tmp_path):
    place = serving.predict_case(model, case, tmp_path, 2)
    path = place / "patient_summary.json"
    whole = json.loads(path.read_text())
    for damaged, damage in (
        (["WT"], lambda region: region.pop("volumes_ml")),
        (["WT"], lambda region: region["volumes_ml"].pop()),
        (whole["regions"], lambda region: region["volumes_ml"].pop()),
        (["WT"], lambda region: region.update(volumes_ml=None)),
    ):
        summary = json.loads(json.dumps(whole))
        for name in damaged:
            damage(summary["regions"][name])
        path.write_text(json.dumps(summary))
        with pytest.raises(DataError, match="patient_summary.json.*Predict it again"):
            serving.predict_case(model, case, tmp_path, 3)
    path.write_text(json.dumps(whole))
    serving.predict_case(model, case, tmp_path, 3)


def test_many_studies_give_what_each_does_alone(model, case, tmp_path, folder):
    cases = [case, *(dataclasses.replace(case, id=name) for name in "ab")]
    paths = {**case.image_paths, "t2": tmp_path / "nowhere.nii.gz"}
    cases.insert(2, dataclasses.replace(case, id="lost", image_paths=paths))
    requests = [serving.make_request(model, one, 4, seed=7) for one in cases]
    outcomes = serving.predict_cases(model, cases, requests, tmp_path / "maps")
    outcomes = list(outcomes)
    assert [outcome.case.id for outcome in outcomes] == ["patient", "a", "lost", "b"]
    errors = [outcome.error for outcome in outcomes]
    assert errors[:2] == [None, None]
    assert errors[3] is None
    assert isinstance(errors[2], DataError)
    assert not outcomes[2].folder.exists()
    for outcome in (outcomes[0], outcomes[1], outcomes[3]):
        for path in folder.glob("*.nii.gz"):
            name = path.name.replace("patient", outcome.case.id)
            assert (outcome.folder / name).read_bytes() == path.read_bytes()


def test_at_most_three_studies_are_in_memory(model, case, tmp_path, monkeypatch):
    """One that is read, one in the network, one that is written."""
    held, most = set(), []

    def load(model, job):
        study = original_load(model, job)
        held.add(id(study))
        weakref.finalize(study, held.discard, id(study))
        most.append(len(held))
        return study

    original_load = study_module._load
    monkeypatch.setattr(study_module, "_load", load)
    cases = [dataclasses.replace(case, id=f"case_{i}") for i in range(7)]
    requests = [serving.make_request(model, one, 1) for one in cases]
    list(serving.predict_cases(model, cases, requests, tmp_path))
    assert len(most) == 7
    assert max(most) <= 3


def test_a_failure_of_writing_stops_that_study_alone(
    model, case, tmp_path, monkeypatch
):
    def write(path, *arguments):
        if path.name.startswith("b_mutual"):
            raise DataError("Case b: the disk is full.")
        return original(path, *arguments)

    original = nifti.write
    monkeypatch.setattr(nifti, "write", write)
    cases = [dataclasses.replace(case, id=name) for name in "abc"]
    requests = [serving.make_request(model, one, 1) for one in cases]
    outcomes = list(serving.predict_cases(model, cases, requests, tmp_path))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_nothing(
    model, case, tmp_path, monkeypatch, error
):
    written = []

    def write(path, *arguments):
        written.append(path)
        if len(written) == 3:
            raise error
        return original(path, *arguments)

    original = nifti.write
    monkeypatch.setattr(nifti, "write", write)
    with pytest.raises(type(error)):
        serving.predict_case(model, case, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_slices_times_draws(model, case, tmp_path):
    steps = []
    serving.predict_case(
        model, case, tmp_path, 3, progress=lambda *step: steps.append(step)
    )
    assert steps[-1] == (5 * 3, 5 * 3)


def test_settings_tell_networks_and_files_apart(model, case, tmp_path):
    def settings(network, study):
        request = serving.make_request(network, study, 4)
        return serving.settings(network, study, request)

    assert settings(model, case) == settings(model, case)
    assert settings(model, case) != settings(build(seed=1), case)
    other = tmp_path / "other.nii.gz"
    other.write_bytes(b"other")
    paths = {**case.image_paths, "t1": other}
    moved = dataclasses.replace(case, image_paths=paths)
    assert settings(model, case) != settings(model, moved)
    before = settings(model, moved)
    other.write_bytes(b"ether")
    assert settings(model, moved) != before


def test_modalities_may_be_spelt_in_any_way(model, case, tmp_path):
    names = ("T2F", "t1n", "t1c", "t2w")
    serving.predict_case(model, case, tmp_path, 1, modalities=names)
    asked = serving.read_summary(tmp_path, "patient")["settings"]["modalities"]
    assert asked == ["flair", "t1", "t1ce", "t2"]


def test_a_label_map_without_a_scheme_is_not_guessed(model, case):
    either = dataclasses.replace(case, label_candidates=("brats2018", "brats2023"))
    with pytest.raises(ValueError, match="`label_scheme` must be given: the names of"):
        serving.make_request(model, either)


def test_an_answer_that_is_no_number_names_the_case(case, tmp_path):
    broken = build("deterministic")
    broken.get_layer("head").bias.assign([np.nan] * 3)
    with pytest.raises(DataError, match="Case patient: `mean_probabilities` must be"):
        serving.predict_case(broken, case, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_the_fingerprint_survives_saving(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = tf_keras.models.load_model(tmp_path / "m.keras", compile=False)
    assert serving.fingerprint(loaded) == serving.fingerprint(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_draws": 0}, "`num_draws` must be a whole number above 0"),
        ({"num_latent_draws": 0}, "`num_latent_draws` must be a whole number above 0"),
        ({"regions": ("WT",)}, "`regions` must name the 3 regions of the network"),
        ({"regions": ("WT", "TC", "XX")}, "`regions` must be among"),
        ({"modalities": ("flair",)}, "`modalities` must name the 4 input channels"),
        ({"label_scheme": "brats1999"}, "`label_scheme` must be one of"),
        ({"label_scheme": "binary"}, "`regions` must be among"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    model, case, tmp_path, arguments, message
):
    with pytest.raises(ValueError, match=message):
        serving.predict_case(model, case, tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_two_regions_need_names(case, tmp_path):
    with pytest.raises(ValueError, match="`regions` must name the 2 regions"):
        serving.predict_case(build(regions=2), case, tmp_path)


def test_a_damaged_study_is_named_and_leaves_nothing(model, case, tmp_path):
    broken = tmp_path / "patient_t2.nii.gz"
    broken.write_bytes(case.image_paths["t2"].read_bytes()[:500])
    paths = {**case.image_paths, "t2": broken}
    damaged = dataclasses.replace(case, image_paths=paths)
    with pytest.raises(DataError, match=r"Case patient, file .*patient_t2.nii.gz"):
        serving.predict_case(model, damaged, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_no_summary_is_none_and_a_damaged_one_is_named(tmp_path):
    assert serving.read_summary(tmp_path, "patient") is None
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "patient_summary.json").write_text("{")
    with pytest.raises(DataError, match=r"Case patient.*must hold JSON"):
        serving.read_summary(tmp_path, "patient")


def test_memory_does_not_grow_with_the_draws(model, tmp_path):
    made = phantom.make_case(0, shape=(96, 96, 12), num_raters=0)
    phantom.write_case(made, tmp_path / "cases", "patient")
    case = brats.find_cases(tmp_path / "cases")[0]
    serving.predict_case(model, case, tmp_path / "traced", 1)
    peaks = []
    for num_draws in (1, 12):
        tracemalloc.start()
        serving.predict_case(model, case, tmp_path / str(num_draws), num_draws)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "ids"),
    [
        ("naming/BraTS2021_01477", {0, 1, 2, 4}),
        ("naming/BraTS-GLI-00000-000", {0, 1, 2, 3}),
    ],
)
def test_studies_of_other_years_get_maps_on_their_own_grid(
    deterministic, real_data, tmp_path, folder, ids
):
    case = brats.find_cases(real_data / folder)[0]
    place = serving.predict_case(deterministic, case, tmp_path)
    scan = nibabel.load(case.image_paths["flair"])
    for path in place.glob("*.nii.gz"):
        image = nibabel.load(path)
        np.testing.assert_array_equal(image.affine, scan.affine)
        np.testing.assert_array_equal(image.header["pixdim"], scan.header["pixdim"])
        assert image.shape == scan.shape
    written = nibabel.load(place / f"{case.id}.nii.gz").get_fdata()
    assert set(np.unique(written).tolist()) <= ids


def test_masks_of_the_draws_are_kept_on_the_studys_grid(model, case, tmp_path):
    folder = serving.predict_case(model, case, tmp_path, 3, keep_draws=True).parent
    summary = serving.read_summary(folder, case.id)
    voxel = summary["voxel_volume_ml"]
    for region, values in summary["regions"].items():
        masks = serving.read_draws(folder, case.id, region)
        assert masks.shape == (3, *case.load(labels=False).image.shape[:3])
        volumes = masks.sum((1, 2, 3)) * voxel
        np.testing.assert_allclose(volumes, values["volumes_ml"], rtol=1e-6)
    with pytest.raises(FileExistsError, match="already holds maps"):
        serving.predict_case(model, case, folder, 5, keep_draws=True)
    assert serving.read_draws(folder, "nobody", "WT") is None
    with pytest.raises(DataError, match=r"masks of every draw"):
        serving.read_draws(folder, case.id, "another")
