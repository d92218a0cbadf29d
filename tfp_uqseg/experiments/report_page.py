"""The HTML of a report: every text escaped, styles, script and pictures inside."""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Mapping, Sequence

import tfp_uqseg
from tfp_uqseg.experiments import evaluate, referral, report_views, tables, triage
from tfp_uqseg.plotting import embedding, panel

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""
#: Columns of the table of patients.
_COLUMNS = (
    "volume_predicted_ml",
    "dice",
    "region_entropy",
    "patch_entropy",
    "volume_variation",
    "expected_entropy",
    "mutual_information",
)
_HEADINGS = {
    "volume_predicted_ml": "volume, ml",
    "region_entropy": "entropy of what was found, nats",
    "patch_entropy": "most uncertain spot, nats",
    "volume_variation": "spread of the volume",
    "expected_entropy": "aleatoric, mean of the brain, nats",
    "mutual_information": "epistemic, mean of the brain, nats",
}
_LIMITS = (
    "For research. No part of this page is a diagnosis, and none has been validated "
    "for clinical use.",
    "The order of the patients compares them with each other; the first may be fine "
    "and the last may be wrong. What the network has never seen it may get wrong and "
    "be sure.",
    "Aleatoric uncertainty is what the images leave open: more patients to learn from "
    "would not remove it. Epistemic uncertainty is what the network does not know: "
    "its draws disagree. Both are in nats; the most a voxel can have is ln 2 = 0.693.",
    "The volume interval is the spread of the network's own draws, not that of several "
    "radiologists, and on the cohorts of the documentation it was too narrow.",
)


def page(
    found: evaluate.Evaluation,
    *,
    regions: Sequence[str],
    order: Sequence[triage.Priority],
    views: Sequence[report_views.View],
    plots: Mapping[str, str],
    settings: Mapping,
) -> str:
    """Return the page.

    Args:
        found: Scores of the patients.
        regions: Regions, the first is the one that is shown and ranked.
        order: Patients, the one to look at first in front.
        views: Pictures of every patient.
        plots: SVG by title.
        settings: How the maps were made.
    """
    count = len(order)
    title = f"Segmentation of {count} {'patient' if count == 1 else 'patients'}"
    by_case = {view.case: view for view in views}
    ordered = [by_case[each.case] for each in order]
    parts = [
        _HEAD.format(title=html.escape(title), style=_asset("report.css")),
        f"<h1>{html.escape(title)}</h1>\n",
        _lead(found, settings, regions),
        _triage(order, regions[0]),
        _patients(found.records, order, regions),
        "<h2>Images and maps</h2>\n",
        _legend(regions),
        *(
            _case(view, found.records, regions[0], number == 0)
            for number, view in enumerate(ordered)
        ),
        _trust(found, plots),
        _limits(settings),
        f"<script>\n{_asset('report.js')}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts)


def anchor(case_id: str) -> str:
    """Return the name of a case's place on the page."""
    return f"case-{case_id}"


def _asset(name: str) -> str:
    folder = importlib.resources.files("tfp_uqseg.experiments") / "assets"
    return (folder / name).read_text(encoding="utf-8")


def _paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{html.escape(text)}</p>\n"


def _lead(found, settings, regions) -> str:
    draws = settings.get("num_draws")
    method = " and ".join(name for name in found.summary["methods"] if name)
    said = f"Regions: {', '.join(regions)}. Network: {method or 'unknown'}"
    said += f", {draws} draw{'s' if draws > 1 else ''}." if draws else "."
    return _paragraph(said, "quiet") + _paragraph(_LIMITS[0], "notice")


def _triage(order, region: str) -> str:
    rows = [
        [
            (str(each.place), each.place, ""),
            (_link(each.case), each.case, "words nowrap"),
            (_reasons(each.reasons), "", "words"),
        ]
        for each in order
    ]
    lead = (
        f"The least sure first, by three measures of the uncertainty about {region}: "
        "the mean over what was found, the most uncertain spot, and the spread of the "
        "volume over the network's draws. A reason is given to the fifth that leads a "
        "measure."
    )
    table = _table([("place", ""), ("patient", "words"), ("why", "words")], rows)
    return f"<h2>Look at these first</h2>\n{_paragraph(lead)}{table}"


def _reasons(reasons: Sequence[str]) -> str:
    if not reasons:
        return '<span class="quiet">nothing stands out</span>'
    return (
        "<ul>" + "".join(f"<li>{html.escape(each)}</li>" for each in reasons) + "</ul>"
    )


def _patients(records, order, regions) -> str:
    shown = [name for name in _COLUMNS if any(row[name] is not None for row in records)]
    drawn = any(row["volume_low_ml"] is not None for row in records)
    places = {each.case: each.place for each in order}
    heads = [("patient", "words"), ("region", "words"), ("place", "")]
    for name in shown:
        heads.append((_HEADINGS.get(name) or tables.COLUMNS[name].heading, ""))
        if name == "volume_predicted_ml" and drawn:
            heads.append((_interval_heading(records), ""))
    rows = []
    for row in records:
        cells = [
            (_link(row["case"]), row["case"], "words nowrap"),
            (html.escape(row["region"]), row["region"], "words"),
            (str(places[row["case"]]), places[row["case"]], ""),
        ]
        for name in shown:
            cells.append((html.escape(_number(name, row)), _plain(row[name]), ""))
            if name == "volume_predicted_ml" and drawn:
                cells.append((_interval(row), _plain(row["volume_low_ml"]), "nowrap"))
        rows.append(cells)
    return f"<h2>Patients</h2>\n{_table(heads, rows, sortable=True)}"


def _interval_heading(records) -> str:
    levels = sorted({row["volume_interval_level"] for row in records} - {None})
    percent = " or ".join(f"{100 * level:.3g}" for level in levels)
    return f"{percent} % of the draws, ml"


def _interval(row) -> str:
    if row["volume_low_ml"] is None:
        return ""
    return f"{row['volume_low_ml']:.1f} to {row['volume_high_ml']:.1f}"


def _number(name: str, row) -> str:
    value = row[name]
    if value is None:
        return ""
    digits = tables.COLUMNS[name].digits
    return f"{value:.2f}" if digits is None else f"{value:.{digits}f}"


def _plain(value) -> str:
    return "" if value is None else repr(float(value))


def _link(case_id: str) -> str:
    place = html.escape(anchor(case_id), quote=True)
    return f'<a href="#{place}">{html.escape(case_id)}</a>'


def _table(heads, rows, *, sortable: bool = False) -> str:
    """Return a table of ``(html, value to sort by, class)`` cells."""
    cells = []
    for text, kind in heads:
        name = html.escape(text)
        name = f'<button type="button">{name}</button>' if sortable else name
        cells.append(f'<th scope="col" class="{kind}">{name}</th>')
    lines = [f"<tr>{''.join(cells)}</tr>"]
    for row in rows:
        cells = [
            f'<td class="{kind}" data-value="{html.escape(str(value), quote=True)}">'
            f"{text}</td>"
            for text, value, kind in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head, *body = lines
    return (
        '<div class="scroll"><table>\n<thead>'
        f"{head}</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>\n"
    )


def _legend(regions) -> str:
    marks = "".join(
        f'<span style="background:{colour}"></span>{html.escape(name)}'
        for name, colour in panel.region_key(regions).items()
    )
    return (
        '<p class="quiet">Axial slices as radiologists see them: the patient\'s right '
        f'on the left. <span class="key">{marks}</span></p>\n'
    )


def _case(view: report_views.View, records, region: str, opened: bool) -> str:
    """Return the panel of one case."""
    last = len(view.slices) - 1
    pictures: list[tuple[str, str, float | None]] = [
        (view.modality, "var(--image)", None),
        ("found by the network", "var(--found), var(--image)", None),
    ]
    if view.reference is not None:
        pictures.append(("labels", "var(--labels), var(--image)", None))
    pictures += [
        (f"aleatoric, {region}, nats", "var(--aleatoric)", view.tops[0]),
        (f"epistemic, {region}, nats", "var(--epistemic)", view.tops[1]),
    ]
    uris = {"image": view.image, "found": view.outlines, "labels": view.reference}
    uris |= {"aleatoric": view.aleatoric, "epistemic": view.epistemic}
    style = "".join(f"--{k}:url({uri});" for k, uri in uris.items() if uri is not None)
    style += f"--count:{last + 1};--place:0%"
    name = html.escape(view.case)
    drawn = "".join(_picture(*each, view) for each in pictures)
    slider = (
        f'<div class="slider"><label for="slice-{name}">slice</label>'
        f'<input type="range" id="slice-{name}" min="0" max="{last}" step="1" '
        f'value="{view.start}"><output for="slice-{name}"></output></div>'
    )
    return (
        f'<details id="{html.escape(anchor(view.case), quote=True)}" '
        f'data-slices="{" ".join(map(str, view.slices))}" style="{style}"'
        f"{' open' if opened else ''}><summary>{name}</summary>\n"
        f"<div>{_volumes(view.case, records)}{slider}"
        f'<div class="views">{drawn}</div></div></details>\n'
    )


def _volumes(case: str, records) -> str:
    """Return what was found in a case, in ml, region by region."""
    said = []
    for row in records:
        if row["case"] == case and row["volume_predicted_ml"] is not None:
            level, ends = row["volume_interval_level"], _interval(row)
            draws = f" ({100 * level:.3g} % of the draws: {ends})" if ends else ""
            said.append(f"{row['region']} {row['volume_predicted_ml']:.1f} ml{draws}")
    return _paragraph(f"Found: {', '.join(said)}.", "quiet") if said else ""


def _picture(title: str, layers: str, top: float | None, view) -> str:
    scale = ""
    if top is not None:
        scale = (
            f'<div class="bar" style="background:{embedding.gradient()}"></div>'
            f'<div class="ends"><span>0</span><span>{top:.2g}</span></div>'
        )
    title = html.escape(title)
    return (
        f'<figure><figcaption>{title}</figcaption><div class="slice" role="img" '
        f'aria-label="{title}" style="aspect-ratio:1/{view.height:.4f};'
        f'background-image:{layers}"></div>{scale}</figure>'
    )


def _trust(found: evaluate.Evaluation, plots: Mapping[str, str]) -> str:
    """Return how well the maps did where there are labels."""
    parts = ["<h2>How far it can be trusted</h2>\n"]
    scored = any(row["dice"] is not None for row in found.records)
    if not scored:
        return parts[0] + _paragraph(
            "None of these patients has labels, so nothing here was checked. Run the "
            "report on patients with labels from the same scanners first."
        )
    means = {name: each["metrics"] for name, each in found.summary["regions"].items()}
    parts.append(_plain_table(tables.mean_rows(means)))
    if found.summary["referral"]:
        parts.append(
            _paragraph(
                "What is gained when the least sure patients are left to a person. "
                "E-AURC is 0 for the best possible order; the last column should be "
                "above 0."
            )
        )
        parts.append(_plain_table(referral.rows(found.summary["referral"])))
    drawn = "".join(
        f"<div><figure><figcaption style='color:#333'>{html.escape(title)}</figcaption>"
        f"{svg}</figure></div>"
        for title, svg in plots.items()
    )
    parts.append(f'<div class="plots">{drawn}</div>\n')
    parts += [_paragraph(note, "quiet") for note in found.summary["notes"]]
    return "".join(parts)


def _plain_table(rows) -> str:
    words = tables.hold_words(rows)
    kinds = ["words" if each else "" for each in words]
    heads = list(zip(rows[0], kinds, strict=True))
    body = [
        [
            (html.escape(cell), cell, f"{kind} nowrap")
            for cell, kind in zip(row, kinds, strict=True)
        ]
        for row in rows[1:]
    ]
    return _table(heads, body)


def _limits(settings: Mapping) -> str:
    rows = [
        [
            (html.escape(name.replace("_", " ")), name, "words"),
            (html.escape(_said(value)), "", "words"),
        ]
        for name, value in settings.items()
        if value is not None
    ]
    rows.append([("tfp_uqseg", "", "words"), (tfp_uqseg.__version__, "", "words")])
    table = _table([("setting", "words"), ("value", "words")], rows)
    limits = "".join(_paragraph(text) for text in _LIMITS[1:])
    return f"<h2>Settings and limits</h2>\n{limits}{table}"


def _said(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(each) for each in value)
    return str(value)
