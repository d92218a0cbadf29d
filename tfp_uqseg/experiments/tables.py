"""Records of patients and regions into means with intervals, and into tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence

from tfp_uqseg.evaluation import intervals

#: Rows of patients that `plain` prints; the CSV has them all.
MOST_ROWS = 60


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of `patients.csv`.

    Attributes:
        meaning: What it holds, with its unit.
        digits: Digits after the point in tables; None for text and counts.
        heading: Short heading in tables.
        averaged: Whether its mean over patients is reported.
    """

    meaning: str
    digits: int | None = None
    heading: str = ""
    averaged: bool = False


def _score(heading: str, meaning: str, digits: int = 3) -> Column:
    return Column(meaning, digits, heading, averaged=True)


COLUMNS: dict[str, Column] = {
    "case": Column("id of the patient's study", heading="case"),
    "region": Column("region of the tumour", heading="region"),
    "method": Column("method of the network", heading="method"),
    "dice": _score("Dice", "Dice of the patient's volume, 0 to 1"),
    "iou": _score("IoU", "intersection over union of the volume, 0 to 1"),
    "sensitivity": _score("sensitivity", "share of the reference that was found"),
    "precision": _score("precision", "share of what was found that is right"),
    "both_empty": Column("the region is in neither mask: Dice and IoU are 1 by rule"),
    "image_dice": _score("image Dice", "mean Dice of the axial images with brain"),
    "image_iou": _score("image IoU", "mean IoU of the axial images with brain"),
    "images": Column("axial images averaged in image_dice and image_iou"),
    "images_both_empty": Column("of them, images where both masks are empty, scored 1"),
    "hd95": _score("HD95 mm", "Hausdorff distance, 95th percentile, mm", 1),
    "average_distance": _score("ASD mm", "average symmetric surface distance, mm", 2),
    "surface_dice_1mm": _score("surface 1 mm", "share of the surfaces within 1 mm"),
    "surface_dice_2mm": _score("surface 2 mm", "share of the surfaces within 2 mm"),
    "lesion_dice": _score("lesion Dice", "mean Dice of the lesions, as in BraTS 2023"),
    "lesion_hd95": _score("lesion HD95 mm", "mean HD95 of the lesions, mm", 1),
    "lesions": Column("lesions of the reference above 50 mm^3"),
    "lesions_missed": Column("of them, lesions that nothing predicted touches"),
    "false_alarms": Column("predicted components that touch no lesion"),
    "volume_truth_ml": _score("true ml", "volume of the reference, ml", 1),
    "volume_predicted_ml": _score("predicted ml", "volume of the label map, ml", 1),
    "volume_error_ml": _score("error ml", "predicted less true volume, ml", 1),
    "volume_median_ml": Column("median volume of the draws, ml", 1),
    "volume_low_ml": Column("lower end of the draws' volume interval, ml", 1),
    "volume_high_ml": Column("upper end of the draws' volume interval, ml", 1),
    "volume_interval_level": Column("level of that interval; the model's, not raters'"),
    "volume_variation": Column("coefficient of variation of the draws' volumes"),
    "volume_covered": _score("covered", "the interval holds the reference's volume", 2),
    "nll": _score("NLL", "negative log-likelihood in the brain, nats per voxel", 4),
    "brier": _score("Brier", "mean squared error of the probability in the brain", 4),
    "brier_reliability": _score("reliability", "Brier score's part: the bins' gaps", 5),
    "brier_resolution": _score("resolution", "Brier score's part: the bins' spread", 5),
    "brier_uncertainty": Column("Brier score's part: the share's own, p (1 - p)", 5),
    "brier_within": Column("Brier score less its parts: within the bins", 5),
    "ece": _score("ECE", "expected calibration error in the brain, 15 bins", 4),
    "ace": _score("ACE", "mean gap of the 15 bins of equal width", 3),
    "ace_equal_mass": _score("ACE mass", "mean gap of 15 bins of equal mass", 4),
    "mce": _score("MCE", "largest gap of the 15 bins of equal width", 3),
    "predictive_entropy": _score("entropy", "mean total entropy in the brain, nats", 5),
    "expected_entropy": _score(
        "aleatoric", "mean aleatoric entropy in the brain, nats", 5
    ),
    "mutual_information": _score(
        "epistemic", "mean mutual information in the brain, nats", 5
    ),
    "total_entropy": Column("sum of the total entropy over the brain, nats", 1),
    "region_entropy": _score(
        "region entropy", "mean total entropy of the predicted region, nats", 4
    ),
    "patch_entropy": _score(
        "patch entropy", "largest mean entropy of a box of 10 voxels, nats", 4
    ),
    "error_auroc": _score("error AUROC", "AUROC of the entropy for wrong voxels"),
    "error_aupr": _score("error AUPR", "average precision for wrong voxels"),
    "error_share": _score("wrong", "share of the brain's voxels that are wrong", 4),
    "pavpu": Column("share right and sure, or wrong and unsure, entropy > log(2)/2"),
    "error_overlap": _score("UEO", "best Dice of uncertain with wrong voxels"),
    "qu_brats": _score("QU-BraTS", "QU-BraTS score of the region, 0 to 1"),
    "qu_brats_dice": _score("QU Dice", "its area under Dice"),
    "qu_brats_ftp": _score("QU FTP", "its area under filtered true positives"),
    "qu_brats_ftn": _score("QU FTN", "its area under filtered true negatives"),
    "qu_brats_zero": _score("QU zero", "QU-BraTS score of a map of zeros"),
    "qu_brats_permuted": _score("QU permuted", "of the map, shuffled in the brain"),
    "draw_diversity": _score("diversity", "mean 1 - IoU of all pairs of draws"),
    "draw_disagreement": _score(
        "disagreement", "one less the mean Dice of two different draws"
    ),
    "ged": _score("GED^2", "squared energy distance of draws and raters, 1 - IoU"),
    "rater_diversity": _score("raters", "mean 1 - IoU of all pairs of raters"),
    "spearman_expected_entropy": _score(
        "rho aleatoric",
        "rank correlation of the expected entropy with the true p(1-p), 0.01<p<0.99",
    ),
    "spearman_total_variance": _score(
        "rho variance", "rank correlation of mean p (1 - mean p) with the true p(1-p)"
    ),
    "spearman_mutual_information": _score(
        "rho epistemic", "rank correlation of the mutual information, for comparison"
    ),
    "truth_absolute_error": _score(
        "error of p", "mean |predicted - true| probability where 0.01<p<0.99"
    ),
}
AVERAGED = tuple(name for name, column in COLUMNS.items() if column.averaged)
#: The reference's volume and the raters are the same for all maps.
COMPARED = tuple(
    name for name in AVERAGED if name not in ("volume_truth_ml", "rater_diversity")
)
#: Columns of the table of patients; those without any value are left out.
SHOWN = (
    "case",
    "region",
    "dice",
    "image_dice",
    "volume_truth_ml",
    "volume_predicted_ml",
    "volume_interval",
    "nll",
    "expected_entropy",
    "mutual_information",
    "spearman_expected_entropy",
)


def means(records: Sequence[Mapping], *, level: float, seed: int) -> dict[str, dict]:
    """Means over patients with intervals, by region.

    Args:
        records: Rows with the names of `COLUMNS`; None where there is no value.
        level: Coverage of the intervals.
        seed: Seed of the bootstrap.

    Returns:
        For each region: ``patients``, ``both_empty``, ``images``,
        ``images_both_empty``, and ``metrics``: name to mean, low, high (None without
        an interval) and the number of patients with a value.
    """
    result = {}
    for region in dict.fromkeys(row["region"] for row in records):
        rows = [row for row in records if row["region"] == region]
        metrics = {}
        for name in AVERAGED:
            values = [float(row[name]) for row in rows if row[name] is not None]
            if values:
                metrics[name] = _mean(name, values, level, seed)
        result[region] = {
            "patients": len(rows),
            "both_empty": _total(rows, "both_empty"),
            "images": _total(rows, "images"),
            "images_both_empty": _total(rows, "images_both_empty"),
            "metrics": metrics,
        }
    return result


def differences(
    records: Sequence[Mapping],
    other_records: Sequence[Mapping],
    *,
    level: float,
    seed: int,
) -> dict[str, dict]:
    """Paired differences, `records` minus `other_records`, by region.

    Args:
        records: Rows with the names of `COLUMNS`.
        other_records: Rows of the same patients, from other maps.
        level: Coverage of the intervals.
        seed: Seed of the bootstrap.

    Returns:
        For each region that both have: metric name to mean, low, high, patients and p
        of the paired permutation test; patients without a value on either side are left
        out of a metric.
    """
    others = {(row["case"], row["region"]): row for row in other_records}
    result: dict[str, dict] = {}
    for region in dict.fromkeys(row["region"] for row in records):
        rows = [row for row in records if row["region"] == region]
        matched = [(row, others.get((row["case"], region))) for row in rows]
        pairs = [(row, other) for row, other in matched if other is not None]
        for name in COMPARED:
            both = [
                (float(row[name]), float(other[name]))
                for row, other in pairs
                if row[name] is not None and other[name] is not None
            ]
            if both:
                ends = intervals.paired_difference(
                    *zip(*both, strict=True), level=level, seed=seed
                )
                found = _plain(ends, len(both))
                found["p"] = intervals.paired_test(*zip(*both, strict=True), seed=seed)
                result.setdefault(region, {})[name] = found
    return result


def as_csv(records: Sequence[Mapping]) -> str:
    """Text of `patients.csv`: one row per patient and region, empty without a value."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for row in records:
        writer.writerow({name: _csv_cell(row[name]) for name in COLUMNS})
    return file.getvalue()


def patient_rows(records: Sequence[Mapping]) -> list[list[str]]:
    """Table of patients as text cells, headings first."""
    names = [
        name
        for name in SHOWN
        if name == "volume_interval" or any(row[name] is not None for row in records)
    ]
    levels = [row["volume_interval_level"] for row in records]
    levels = sorted({level for level in levels if level is not None})
    if not levels:
        names.remove("volume_interval")
    rows = [[COLUMNS[name].heading if name in COLUMNS else "" for name in names]]
    if levels:
        percent = " or ".join(f"{100 * level:g}" for level in levels)
        rows[0][names.index("volume_interval")] = f"{percent} % ml"
    for row in records:
        rows.append(
            [
                _volume_interval(row) if name == "volume_interval" else cell(name, row)
                for name in names
            ]
        )
    return rows


def mean_rows(by_region: Mapping[str, Mapping], *, signed: bool = False):
    """Table of means as text cells, headings first: metrics down, regions across.

    Args:
        by_region: For each region, metric name to mean, low, high and patients.
        signed: Whether to write a plus before positive numbers.
    """
    rows = [["mean over patients", *by_region]]
    for name in AVERAGED:
        if any(name in metrics for metrics in by_region.values()):
            cells = [
                _interval(name, metrics.get(name), signed)
                for metrics in by_region.values()
            ]
            rows.append([COLUMNS[name].heading, *cells])
    return rows


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Cells aligned for a terminal: the first column left, the others right."""
    hidden = len(rows) - 1 - MOST_ROWS
    rows = rows[: MOST_ROWS + 1]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if hidden > 0:
        lines.append(f"... and {hidden} rows more")
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table; numbers stand on the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rules = [" --- |" if words else " ---: |" for words in hold_words(rows)]
    lines.insert(1, "|" + "".join(rules))
    return "\n".join(lines)


def hold_words(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether each column is the first or has a word below its heading."""
    columns = list(zip(*rows[1:], strict=True)) or [()] * len(rows[0])
    return [
        number == 0 or any(cell[:1].isalpha() for cell in column)
        for number, column in enumerate(columns)
    ]


def cell(name: str, row: Mapping) -> str:
    """Text of one value in a table; empty without one."""
    value, digits = row[name], COLUMNS[name].digits
    if value is None:
        return ""
    if digits is None or isinstance(value, (bool, str)):
        return str(value)
    return f"{value:.{digits}f}"


def _mean(name: str, values: Sequence[float], level: float, seed: int) -> dict:
    if name == "volume_covered":
        ends = intervals.proportion_interval(values, level=level)
    else:
        ends = intervals.mean_interval(values, level=level, seed=seed)
    return _plain(ends, len(values))


def _plain(ends: intervals.Interval, patients: int) -> dict:
    values = {
        name: None if math.isnan(value) else value
        for name, value in ends._asdict().items()
    }
    return {**values, "patients": patients}


def _total(rows, name: str) -> int | None:
    values = [row[name] for row in rows if row[name] is not None]
    return int(sum(values)) if values else None


def _csv_cell(value) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    # Nine digits tell every float32 apart.
    return f"{value:.9g}" if isinstance(value, float) else value


def _volume_interval(row) -> str:
    if row["volume_low_ml"] is None:
        return ""
    mark = {True: "", False: " miss", None: ""}[row["volume_covered"]]
    return f"{row['volume_low_ml']:.1f}-{row['volume_high_ml']:.1f}{mark}"


def _interval(name: str, ends: Mapping | None, signed: bool) -> str:
    if ends is None:
        return ""
    style = f"{'+' if signed else ''}.{COLUMNS[name].digits}f"
    text = f"{ends['mean']:{style}}"
    if ends["low"] is None:
        return text
    text += f" [{ends['low']:{style}}, {ends['high']:{style}}]"
    return text if "p" not in ends else f"{text} p={ends['p']:.2g}"
