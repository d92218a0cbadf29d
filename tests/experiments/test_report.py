from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tfp_uqseg import _checks
from tfp_uqseg.experiments import (
    evaluate,
    predicted,
    report,
    report_page,
    report_views,
    triage,
)
from tfp_uqseg.plotting import drawing


class Page(html.parser.HTMLParser):
    """Elements with their attributes, text, and whether every tag was closed."""

    VOID = frozenset({"meta", "input", "br", "path", "use"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def having(self, tag, **attributes):
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(k) == v for k, v in attributes.items())
        ]


@pytest.fixture
def written(phantom_cases, poor_maps, tmp_path):
    path = tmp_path / "new" / "report.html"
    assert report.report(poor_maps, phantom_cases, path) == path
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing(written):
    page = Page(written)
    assert page.open == []
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    ]
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!data:image/png|#)", written)
    assert "@import" not in written
    (policy,) = page.having("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_the_panel_of_a_case_says_the_volumes_with_their_intervals(
    written, phantom_cases, poor_maps
):
    found = evaluate.evaluate(poor_maps, phantom_cases)
    for case in phantom_cases:
        start = written.index(f'<details id="case-{case.id}"')
        panel = written[start : written.index("</details>", start)]
        for row in found.records:
            if row["case"] == case.id:
                ends = f"{row['volume_low_ml']:.1f} to {row['volume_high_ml']:.1f}"
                told = f"{row['region']} {row['volume_predicted_ml']:.1f} ml (80 % of"
                assert f"{told} the draws: {ends})" in panel


def test_names_of_files_stay_out_of_the_page(phantom_cases, poor_maps):
    case = phantom_cases[0]
    path = poor_maps / case.id / f"{case.id}_summary.json"
    summary = json.loads(path.read_text("utf-8"))
    files = {"flair": ["Jane_Doe_flair.nii.gz", "0123abcd"]}
    summary["settings"].update(files=files, threshold=0.5)
    path.write_text(json.dumps(summary), encoding="utf-8")
    out = poor_maps.parent / "page.html"
    report.report(poor_maps, phantom_cases, out)
    page = out.read_text(encoding="utf-8")
    assert "threshold" in page
    assert "Jane" not in page
    assert "0123abcd" not in page


def test_every_patient_has_a_place_a_row_and_a_panel(written, phantom_cases):
    page = Page(written)
    panels = page.having("details")
    assert {panel["id"] for panel in panels} == {
        f"case-{case.id}" for case in phantom_cases
    }
    for case in phantom_cases:
        links = page.having("a", href=f"#case-{case.id}")
        assert len(links) == 1 + 3  # in the list, and in a row per region
    assert sum("open" in panel for panel in panels) == 1
    for panel in panels:
        slices = panel["data-slices"].split(" ")
        assert slices == [str(z) for z in range(1, 7)]
    sliders = page.having("input", type="range")
    assert len(sliders) == 3
    assert all(slider["max"] == "5" for slider in sliders)
    assert len(page.having("svg")) == 1  # three patients are too few for referral


def test_the_pictures_are_the_slices_in_the_radiologists_view(
    written, phantom_cases, poor_maps
):
    case = phantom_cases[0]
    (panel,) = Page(written).having("details", id=f"case-{case.id}")
    uris = dict(
        re.findall(r"--(\w+):url\(data:image/png;base64,([^)]*)\)", panel["style"])
    )
    assert list(uris) == ["image", "found", "labels", "aleatoric", "epistemic"]
    pictures = {
        name: Image.open(io.BytesIO(base64.b64decode(code)))
        for name, code in uris.items()
    }
    study = case.load(case.modalities[:1])
    brain = study.image[..., 0] != 0
    sides = drawing.window(brain.any(axis=2))
    masks = study.masks(("WT", "TC", "ET"))
    shown = np.stack([drawing.shown(masks[:, :, z], sides) for z in range(6)])
    layer = np.asarray(pictures["labels"])
    np.testing.assert_array_equal(
        layer[..., 3] > 0, shown.any(-1).reshape(layer.shape[:2])
    )
    entropy = predicted.open_case(poor_maps, case).read("expected_entropy", "WT")
    entropy = np.where(brain, entropy, 0.0)
    levels = np.asarray(pictures["aleatoric"])
    stack = np.stack([drawing.shown(entropy[:, :, z], sides) for z in range(6)])
    top = np.quantile(entropy[brain], 0.999)
    expected = 255 * np.clip(stack.reshape(levels.shape) / top, 0, 1)
    assert np.abs(levels - expected).max() <= 0.5 + 1e-3


def test_names_are_escaped(phantom_cases, poor_maps, tmp_path):
    name = "<b onmouseover=alert(1)>&\"'"
    case = phantom_cases[0]
    spoilt = dataclasses.replace(case, id=name)
    (tmp_path / name).mkdir()
    for path in (poor_maps / case.id).iterdir():
        target = tmp_path / name / path.name.replace(case.id, name)
        target.write_bytes(path.read_bytes())
    path = report.report(tmp_path, [spoilt], tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert "<b onmouseover" not in text
    page = Page(text)
    assert page.open == []
    assert page.having("details", id=f"case-{name}")
    assert name in page.texts


def test_without_labels_the_page_says_that_nothing_was_checked(
    phantom_cases, poor_maps, tmp_path
):
    cases = [
        dataclasses.replace(case, label_path=None, truth_paths={})
        for case in phantom_cases
    ]
    path = report.report(poor_maps, cases, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert "None of these patients has labels" in text
    assert "--labels" not in re.sub(r"var\(--labels\)", "", text)
    assert not Page(text).having("svg")


def test_the_slice_with_most_tumour_is_shown_first_and_slices_are_counted():
    brain = np.zeros((2, 2, 100), bool)
    brain[..., 10:90] = True
    kept = report_views.chosen_slices(brain, 41, 12)
    assert len(kept) == 12
    assert 41 in kept
    assert (kept[0], kept[-1]) == (10, 89)
    assert report_views.chosen_slices(np.zeros((2, 2, 5)), 3, 12) == [3]
    assert len(report_views.chosen_slices(brain, 10, 200)) == 80


def test_wrong_arguments_are_named(phantom_cases, poor_maps, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in .html"):
        report.report(poor_maps, phantom_cases, tmp_path / "page.pdf")
    with pytest.raises(ValueError, match="`most_slices` must be a whole number"):
        report.report(poor_maps, phantom_cases, tmp_path / "p.html", most_slices=0)
    with pytest.raises(_checks.DataError, match="must be a folder"):
        report.report(tmp_path / "none", phantom_cases, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == [poor_maps]


def test_without_draws_there_is_no_column_for_their_volumes(phantom_cases, poor_maps):
    found = evaluate.evaluate(poor_maps, phantom_cases)
    order = triage.triage([row for row in found.records if row["region"] == "WT"])
    assert "80 % of the draws, ml" in report_page._patients(found.records, order, ())
    for row in found.records:
        row.update(volume_low_ml=None, volume_high_ml=None, volume_interval_level=None)
    assert "of the draws" not in report_page._patients(found.records, order, ())
