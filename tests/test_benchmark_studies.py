"""Studies of hours: what they count, and that the pages show what they found."""

from __future__ import annotations

import argparse
import importlib
import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _root_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def out_of_fold(monkeypatch):
    module = importlib.import_module("benchmarks.out_of_fold")
    monkeypatch.setattr(module, "_RESAMPLES", 200)
    return module


def test_folds_hold_every_patient_once_and_every_institution(out_of_fold):
    ids = [f"TCGA_{place}_{i}_19970101" for place in ("AA", "BB") for i in range(6)]
    folds = out_of_fold.deal(ids, 3)
    assert sorted(each for fold in folds for each in fold) == sorted(ids)
    for fold in folds:
        assert [each[5:7] for each in fold].count("AA") == 2


def test_a_study_compares_the_same_patients(out_of_fold):
    rng = np.random.default_rng(0)

    def rows(dice, entropy):
        return [
            {
                "dice": d,
                "image_dice": d,
                "nll": 0.1 - 0.05 * d,
                "ece": 0.02,
                "volume_covered": float(d > 0.5),
                "region_entropy": e,
            }
            for d, e in zip(dice, entropy, strict=True)
        ]

    dice = rng.random(30)
    records = {"plain": rows(dice, rng.random(30)), "good": rows(dice, 1.0 - dice)}
    found = out_of_fold.summarise(records, base="plain")
    assert found["methods"]["good"]["e_aurc"]["mean"] == pytest.approx(0.0, abs=1e-12)
    assert found["minus"]["good"]["dice"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["minus"]["good"]["e_aurc"]["high"] < 0.0
    assert found["minus"]["good"]["referral_gain"]["low"] > 0.0
    assert found["methods"]["plain"]["median_dice"] == pytest.approx(np.median(dice))


def test_the_page_shows_what_the_file_of_results_holds(out_of_fold):
    assert out_of_fold.PAGE.read_text("utf-8") == out_of_fold.page(out_of_fold.read())


@pytest.fixture
def same_time():
    return importlib.import_module("benchmarks.same_time")


def scored(dice, region="WT"):
    """Rows of patients as `evaluate` writes them, in an order of their own."""
    nothing = {"image_dice": None, "nll": None, "ece": None, "volume_covered": None}
    return [
        {"case": f"case_{i}", "region": region, "dice": d, **nothing}
        for i, d in reversed(list(enumerate(dice)))
    ]


def test_methods_are_compared_patient_by_patient_and_region_by_region(same_time):
    records = {
        "one": scored([0.5, 0.7]) + scored([0.1, 0.2], "ET"),
        "other": scored([0.6, 0.9])[::-1] + scored([0.1, 0.2], "ET"),
    }
    found = same_time.summarise(records)
    assert found["patients"]["case_1"]["WT"] == {"one": 0.7, "other": 0.9}
    assert found["methods"]["other"]["WT"]["dice"]["mean"] == pytest.approx(0.75)
    assert found["methods"]["one"]["ET"]["median_dice"] == pytest.approx(0.15)
    (pair,) = found["differences"]
    assert pair == "other - one"
    assert found["differences"][pair]["WT"]["dice"]["mean"] == pytest.approx(0.15)
    assert found["differences"][pair]["ET"]["dice"]["high"] == 0.0
    with pytest.raises(ValueError, match="same patients"):
        same_time.summarise({"one": scored([0.5, 0.7]), "other": scored([0.6])})


def test_a_training_that_was_stopped_is_not_taken_for_a_whole_one(
    same_time, monkeypatch, tmp_path
):
    options = argparse.Namespace(
        study="brats", data=tmp_path, work=tmp_path, minutes=1, draws=2, also=None
    )
    trained = []

    def command(word, *words):
        if word == "train":
            trained.append(words)
            folder = pathlib.Path(words[words.index("--out") + 1])
            folder.mkdir()
            (folder / "model.keras").touch()
            if len(trained) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(same_time.out_of_fold, "command", command)
    monkeypatch.setattr(same_time.out_of_fold, "read_scores", lambda folder: [])
    with pytest.raises(KeyboardInterrupt):
        same_time._run(options, "latent")
    for _ in range(2):
        same_time._run(options, "latent")
    assert len(trained) == 2
    assert (tmp_path / "latent" / "model.keras").exists()


def test_few_patients_have_a_row_each_and_many_have_intervals(same_time):
    settings = {
        "settings": {"minutes": 15.0, "draws": 20},
        "epochs": {"one": 3, "other": 2},
        "machine": {"processor": "some"},
    }
    few = {"one": scored([0.5, 0.7]), "other": scored([0.6, 0.9])}
    text = same_time.page({**settings, **same_time.summarise(few)})
    assert "| case_0 | 0.500 | 0.600 |" in text
    assert "| mean | 0.600 | 0.750 |" in text
    many = {"one": scored([0.5] * 7), "other": scored([0.6] * 7)}
    text = same_time.page({**settings, **same_time.summarise(many)})
    assert "| one | 0.500 | 0.500 [0.500, 0.500] |" in text
    assert "| other - one | +0.100 [+0.100, +0.100] |" in text
    assert "`one` 3, `other` 2" in text


@pytest.mark.parametrize("study", ["lgg", "brats"])
def test_the_page_of_the_same_time_shows_what_its_file_holds(same_time, study):
    shown = same_time.page_path(study).read_text("utf-8")
    assert shown == same_time.page(same_time.read(study))


def test_no_table_of_the_results_was_typed():
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert not [line for line in text.splitlines() if line.startswith("|")]


def included(page):
    """Return the files that a page includes, as often as it does."""
    names = re.findall(r"^```\{include\} (\S+)$", page.read_text("utf-8"), re.M)
    return [(page.parent / name).resolve() for name in names]


def test_every_table_made_is_shown_once():
    folder = ROOT / "docs" / "_generated"
    made = sorted(folder.rglob("*.md"))
    assert made
    pages = set((ROOT / "docs").rglob("*.md")) - set(made)
    shown = [path for page in pages for path in included(page)]
    for path in made:
        assert shown.count(path) == 1, path


def test_the_papers_tables_show_what_their_file_holds():
    paper_tables = importlib.import_module("benchmarks.paper_tables")
    made = paper_tables.pages(paper_tables.read())
    found = {
        path.name: path.read_text("utf-8") for path in paper_tables.PAGES.iterdir()
    }
    assert found == made


def test_the_papers_tables_are_kept_as_the_reproduction_wrote_them(
    monkeypatch, tmp_path
):
    paper_tables = importlib.import_module("benchmarks.paper_tables")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_9.md").write_text(
        "Title\n\n| a |\n", encoding="utf-8"
    )
    monkeypatch.setattr(paper_tables.measuring, "RESULTS", tmp_path)
    monkeypatch.setattr(paper_tables, "PAGES", tmp_path / "pages")
    paper_tables.keep(tmp_path, 12.4)
    assert (tmp_path / "pages" / "table_9.md").read_text("utf-8") == "| a |\n"
    assert "12 minutes" in (tmp_path / "pages" / "machine.md").read_text("utf-8")
    paper_tables.keep(tmp_path, None)
    assert "minutes" not in (tmp_path / "pages" / "machine.md").read_text("utf-8")


@pytest.fixture
def unseen_group():
    return importlib.import_module("benchmarks.unseen_group")


def test_the_group_left_out_is_not_learned_from(unseen_group):
    ids = [f"TCGA_{g}_{i}_19970101" for g in ("AA", "BB", "HT") for i in range(8)]
    train, seen, unseen = unseen_group.parts(ids, "HT", 4)
    assert sorted([*train, *seen, *unseen]) == sorted(ids)
    assert unseen == [each for each in ids if "_HT_" in each]
    assert [each[5:7] for each in seen].count("AA") == 2
    assert len(seen) == 4


def test_an_alarm_is_told_by_each_measure_of_a_case(unseen_group):
    names = [name for name, _ in unseen_group.MEASURES]

    def rows(dice, level):
        return [
            {"dice": dice + i / 100, **dict.fromkeys(names, level + i)}
            for i in range(6)
        ]

    found = unseen_group.described(rows(0.8, 0.0), rows(0.5, 100.0))
    assert found["dice"]["difference"]["mean"] == pytest.approx(-0.3)
    assert found["auroc"]["mutual_information"]["mean"] == 1.0
    machine = {"processor": "some"}
    text = unseen_group.page(
        {
            "settings": {"epochs": 3},
            "group": "HT",
            "patients": {"train": 9, "seen": 6, "unseen": 6},
            "machine": machine,
            "methods": {"flipout": found},
        }
    )
    assert "| Dice, HT less seen | -0.300 [" in text
    assert "| AUROC, epistemic of the brain | 1.00 [1.00, 1.00] |" in text


@pytest.fixture
def brats_folds():
    return importlib.import_module("benchmarks.brats_folds")


def test_a_map_is_compared_with_zeros_shuffled_and_another(brats_folds):
    columns = [name for name, _ in brats_folds.COLUMNS]
    rows = [
        {
            "case": case,
            "region": region,
            **dict.fromkeys(columns, 0.5),
            "qu_brats": score,
            "qu_brats_zero": 0.7,
        }
        for case, scores in {"one": (0.9, 0.5), "other": (0.8, 0.8)}.items()
        for region, score in zip(("WT", "TC"), scores, strict=True)
    ]
    found = brats_folds.summarise({"flipout": rows})
    assert found["patients"] == 2
    assert found["methods"]["flipout"]["WT"]["qu_brats"]["mean"] == pytest.approx(0.85)
    assert found["gains"]["flipout"]["qu_brats_zero"]["mean"] == pytest.approx(0.05)
    assert found["gains"]["flipout"]["laid"]["low"] == pytest.approx(0.2)
    text = brats_folds.page(
        {**found, "settings": {"epochs": 2}, "machine": {"processor": "some"}}
    )
    assert "| flipout | TC | 0.500 | 0.650 | 0.500 |" in text


@pytest.mark.parametrize("name", ["unseen_group"])
def test_the_page_of_a_study_shows_what_its_file_holds(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.PAGE.read_text("utf-8") == module.page(module.read())


@pytest.fixture
def phantom_truth():
    return importlib.import_module("benchmarks.phantom_truth")


def test_a_network_is_described_by_plain_and_shifted_patients(phantom_truth):
    rng = np.random.default_rng(0)

    def rows(shift):
        names = [name for name, _, _ in phantom_truth.COLUMNS]
        return [
            {**dict.fromkeys(names, rng.random()), "mutual_information": shift + i}
            for i in range(8)
        ]

    records = {"test": rows(0.0), "motion": rows(100.0), "bias_field": rows(0.0)}
    found = phantom_truth.described(records)
    assert found["shifts"]["motion"]["auroc"]["mean"] == 1.0
    assert found["shifts"]["bias_field"]["auroc"]["mean"] == 0.5
    assert found["shifts"]["bias_field"]["auroc"]["low"] < 0.4
    assert phantom_truth.auroc(np.zeros(3), np.zeros(4)) is None


def test_the_page_of_the_phantom_shows_what_its_file_holds(phantom_truth):
    shown = phantom_truth.PAGE.read_text("utf-8")
    assert shown == phantom_truth.page(phantom_truth.read())


def short(found, style):
    """A mean and its interval as the prose writes them: no zero before the point."""
    numbers = [format(found[name], style) for name in ("mean", "low", "high")]
    middle, low, high = (number.replace("0.", ".", 1) for number in numbers)
    return f"{middle} [{low}, {high}]"


def page_text(name):
    return " ".join((ROOT / "docs" / name).read_text("utf-8").split())


def test_numbers_in_the_prose_are_those_of_the_study_out_of_fold(out_of_fold):
    result = out_of_fold.read()
    minus = result["minus"]["flipout, temperature"]
    methods = result["methods"]
    text = page_text("results.md")
    for name in ("dice", "e_aurc", "referral_gain"):
        style = "+.3f" if minus[name]["mean"] > 0 else ".3f"
        ends = short(minus[name], "+.3f").replace("+.", "+.")
        assert ends in text or short(minus[name], style) in text, ends
    assert short(methods["flipout"]["volume_covered"], ".2f") in text
    card = page_text("model_card.md")
    for name in ("deterministic, temperature", "flipout, temperature"):
        assert short(methods[name]["dice"], ".3f") in card
        assert f"{methods[name]['nll']['mean']:.3f}"[1:] in card


def test_numbers_in_the_prose_are_those_of_the_phantom(phantom_truth):
    networks = phantom_truth.read()["networks"]
    exact, other = (
        networks[name]["plain"] for name in ("flipout, exact ELBO", "flipout, Eq. 18")
    )
    text = page_text("results.md")
    for name, digits in (
        ("truth_absolute_error", 3),
        ("spearman_expected_entropy", 2),
    ):
        pair = [f"{each[name]['mean']:.{digits}f}"[1:] for each in (exact, other)]
        assert " against ".join(pair) in text
    study = page_text("concepts/true_uncertainty.md")
    weighted = {n: networks[f"flipout, {n} x KL"]["plain"] for n in (10, 100)}
    for found, own in ((weighted[10], exact), (weighted[100], None)):
        covered = short(found["volume_covered"], ".2f")
        assert covered in study
        assert f"{found['mutual_information']['mean']:.5f}"[1:] in study
        if own is not None:
            pair = (found["truth_absolute_error"], own["truth_absolute_error"])
            assert " against ".join(f"{x['mean']:.3f}"[1:] for x in pair) in study
            assert f"{covered} against {short(own['volume_covered'], '.2f')}" in study


def test_numbers_in_the_prose_are_those_of_the_same_time(same_time):
    result = same_time.read("lgg")
    text, card = page_text("results.md"), page_text("model_card.md")
    for method in ("latent", "flipout"):
        pair = result["differences"][f"{method} - deterministic"]["tumour"]
        assert short(pair["dice"], "+.3f") in text
    for method, regions in result["methods"].items():
        dice, nll = (regions["tumour"][name] for name in ("dice", "nll"))
        row = f"| `{method}` | {result['epochs'][method]} | {short(dice, '.3f')} |"
        assert f"{row} {short(nll, '.3f')} |" in card
    brats = same_time.read("brats")["methods"]["latent"]
    means = [f"{found['dice']['mean']:.3f}"[1:] for found in brats.values()]
    assert ", ".join(means) in card


_NUMBER = re.compile(r"(?<![\w.])[+-]?\d*\.\d+(?![\w.]*\d)")
#: Measured by versions of their time, which the text says, or no result at all.
EARLIER = {
    "results.md": "+.077 .743 .704 .659 .717 .075 .841 .0018 .707 .498",
    "model_card.md": "4.0",  # of a licence
    "concepts/true_uncertainty.md": "-.111 .0018 .0032 .659 .717 .00091",
}


@pytest.mark.parametrize("name", EARLIER)
def test_every_decimal_of_the_prose_stands_in_a_table_that_was_made(name):
    folder = ROOT / "docs"
    tables = [path.read_text("utf-8") for path in (folder / "_generated").rglob("*.md")]
    known = [abs(float(each)) for text in tables for each in _NUMBER.findall(text)]
    text = re.sub(r"```.*?```", "", (folder / name).read_text("utf-8"), flags=re.S)
    unknown = [
        each
        for each in _NUMBER.findall(re.sub(r"\$\$.*?\$\$", "", text, flags=re.S))
        if not _rounds_to(each, known)
    ]
    assert set(unknown) <= set(EARLIER[name].split()), unknown


def _rounds_to(number: str, known) -> bool:
    digits = len(number.partition(".")[2])
    value = abs(float(number))
    return any(abs(round(each, digits) - value) < 1e-9 for each in known)
