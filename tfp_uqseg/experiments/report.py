"""One page about a cohort: what was found, how sure, and what to look at first."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

from tfp_uqseg import _checks, _files
from tfp_uqseg.data import case as case_module
from tfp_uqseg.experiments import (
    evaluate,
    predicted,
    report_page,
    report_views,
    triage,
)
from tfp_uqseg.plotting import embedding

#: Slices of a case on the page; more make a page that browsers load slowly.
MOST_SLICES = 32


def report(
    maps: str | os.PathLike,
    cases: Iterable[case_module.Case],
    path: str | os.PathLike,
    *,
    modality: str | None = None,
    regions: Sequence[str] | None = None,
    label_scheme: str | None = None,
    skip_missing: bool = False,
    most_slices: int = MOST_SLICES,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> pathlib.Path:
    """Write a page about the maps of `serving.predict_case`.

    The page is one HTML file that needs nothing else: no network, no other file. With
    labels it holds scores, reliability and referral curves too.

    Args:
        maps: The folder that was given to `serving.predict_case`.
        cases: The studies that were predicted.
        path: The HTML file to write.
        modality: Name of the modality shown; None for the first.
        regions: Regions to tell of; None for all that were predicted. Maps and the
            order of patients are those of the first.
        label_scheme: Meaning of the references' label ids; None for the cases' own.
        skip_missing: Leave out cases that `maps` has no folder for.
        most_slices: Slices of each case on the page.
        seed: Of the intervals' resampling.
        progress: Called with (cases done, cases in all).

    Returns:
        The file's path.

    Raises:
        DataError: See `evaluate.evaluate`.
        ValueError: If an argument does not fit.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`path` must end in .html; got {str(path)!r}.")
    most_slices = _checks.positive_integer("most_slices", most_slices)
    cases = list(cases)
    found = evaluate.evaluate(
        maps,
        cases,
        regions=regions,
        label_scheme=label_scheme,
        skip_missing=skip_missing,
        seed=seed,
    )
    scored = {row["case"] for row in found.records}
    cases = [case for case in cases if case.id in scored]
    regions = tuple(dict.fromkeys(row["region"] for row in found.records))
    views = []
    for done, case in enumerate(cases, start=1):
        views.append(_view(maps, case, regions, modality, label_scheme, most_slices))
        if progress is not None:
            progress(done, len(cases))
    first = [row for row in found.records if row["region"] == regions[0]]
    text = report_page.page(
        found,
        regions=regions,
        order=triage.triage(first),
        views=views,
        plots={title: embedding.svg(plot) for title, plot in found.figures().values()},
        settings=_settings(maps, cases[0]),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_text(path, text)
    return path


def _view(maps, case, regions, modality, label_scheme, most_slices):
    """Return the pictures of one case."""
    shown = case.modalities[:1] if modality is None else (modality,)
    study = case.load(shown)
    prediction = predicted.open_case(maps, case, study.grid)
    masks = None
    if study.labels is not None:
        masks = study.masks(prediction.regions, label_scheme)
    return report_views.view(
        prediction, study, region=regions[0], masks=masks, most_slices=most_slices
    )


def _settings(maps, case) -> dict:
    """Return how the first case was predicted; files' names may be a patient's."""
    prediction = predicted.open_case(maps, case)
    summary = prediction.summary
    settings = summary.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    names = ("method", "num_draws", "num_latent_draws", "seed")
    return {
        **{name: summary[name] for name in names if name in summary},
        **{name: settings[name] for name in settings if name != "files"},
        "versions": summary.get("versions"),
    }
