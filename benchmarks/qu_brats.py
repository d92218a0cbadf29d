"""How long the QU-BraTS score of a study takes, beside the public algorithm."""

from __future__ import annotations

import numpy as np
from scipy import integrate

from benchmarks import measuring
from tfp_uqseg.evaluation import qu_brats

QUESTION = "How long does the QU-BraTS score of one study take?"
SHAPE = (240, 240, 155)
_EPSILON = np.finfo(np.float32).eps


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION, rounds=3).parse_args()
    brain, regions = study()
    values = {}

    def ours():
        values["ours"] = [qu_brats.region_auc(*region, brain) for region in regions]

    def restated():
        values["restated"] = [by_threshold(*region, brain) for region in regions]

    rows = measuring.alternate(
        {"ours": ours, "threshold by threshold": restated}, options.rounds, warm_up=1
    )
    difference = np.abs(np.subtract(values["ours"], values["restated"])).max()
    if difference > 1e-9:
        raise SystemExit(f"the values differ by {difference:.2g}")
    note = f"largest difference of the values {difference:.1g}"
    measuring.report(
        "qu_brats",
        QUESTION,
        list(rows.values()),
        [
            measuring.Ratio(
                "seconds for the QU-BraTS score of a study", rows["ours"].values, 1.0
            ),
            measuring.ratio(
                "QU-BraTS threshold by threshold / ours",
                rows["threshold by threshold"],
                rows["ours"],
                40.0,
                at_most=False,
                note=note,
            ),
        ],
        out=options.out,
        settings={"shape": list(SHAPE), "regions": 3, "thresholds": 41},
    )


def study():
    """Return a brain, and (mask, predicted mask, uncertainty) of three regions."""
    rng = np.random.default_rng(0)
    grid = np.indices(SHAPE, np.float32)
    middle = np.array(SHAPE, np.float32).reshape(3, 1, 1, 1) / 2.0
    distance = np.sqrt((((grid - middle) / (middle * 0.65)) ** 2).sum(0))
    brain = distance < 1.0
    regions = []
    for radius in (0.35, 0.25, 0.15):
        mask = distance < radius
        predicted = distance + rng.normal(0.0, 0.02, SHAPE) < radius * 1.05
        uncertainty = np.round(rng.random(SHAPE, np.float32) ** 3 * 100.0, 1)
        regions.append((mask, predicted, uncertainty.astype(np.float32)))
    return brain, regions


def by_threshold(mask, predicted, uncertainty, brain):
    """Return the areas as the public script finds them, in words of our own.

    At every threshold it sets the uncertain voxels of both maps to zero, and counts
    true and false positives and negatives of whole volumes anew.
    """
    thresholds = qu_brats.THRESHOLDS
    rows = []
    all_positive = (mask & predicted & brain).astype(np.int64).sum()
    all_negative = (~mask & ~predicted & brain).astype(np.int64).sum()
    for threshold in thresholds:
        certain = np.ones(mask.shape, bool)
        certain[uncertainty > threshold] = False
        one, other = mask.astype(np.int64), predicted.astype(np.int64)
        one[~certain], other[~certain] = 0, 0
        total = one.sum() + other.sum()
        dice = 2.0 * (one * other).sum() / total if total else 1.0
        positive = ((mask & predicted) & brain & certain).astype(np.int64).sum()
        negative = ((~mask & ~predicted) & brain & certain).astype(np.int64).sum()
        rows.append(
            [
                dice,
                (all_positive - positive) / (all_positive + _EPSILON),
                (all_negative - negative) / (all_negative + _EPSILON),
            ]
        )
    return integrate.trapezoid(np.array(rows), thresholds, axis=0) / 100.0


if __name__ == "__main__":
    main()
