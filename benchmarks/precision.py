"""What bfloat16 changes in a prediction of trained networks on real studies."""

from __future__ import annotations

import numpy as np

from benchmarks import measuring
from tfp_uqseg import models
from tfp_uqseg.data import brats, pipeline, preprocess
from tfp_uqseg.evaluation import overlap
from tfp_uqseg.experiments import config, networks, predict, runs, train
from tfp_uqseg.uncertainty import draws

QUESTION = "What does predicting in bfloat16 change?"


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION)
    options.add_argument("--data", required=True, help="folder of labelled studies")
    options.add_argument("--run", required=True, nargs="+", help="trained runs")
    options.add_argument("--draws", type=int, default=20)
    options.add_argument("--networks", default="", help="how they were trained")
    options = options.parse_args()
    rows, ratios = [], []
    for folder in options.run:
        found = _compare(folder, options.data, options.draws)
        rows += found[0]
        ratios += found[1]
    measuring.report(
        "precision",
        QUESTION,
        rows,
        ratios,
        out=options.out,
        settings={
            "draws": options.draws,
            "a value": "a patient and region",
            "networks": options.networks,
            "what": "float32 against bfloat16 as uqseg predict computes: float32 what "
            "is computed once per image",
        },
    )


def _compare(folder: str, data: str, count: int):
    """Return the differences of one run's network between the two precisions."""
    run = runs.open_run(folder)
    settings = config.load(run.config)
    plain = networks.load(run, "float32")
    mixed = models.precision.for_draws(plain, "bfloat16")
    cases = predict.choose(brats.find_cases(data), folder, verbose=False)
    shifts, overlaps = [], []
    for case in cases:
        study = case.load(settings.modalities)
        prepared = preprocess.prepare(
            study,
            preprocessing=train.preprocessing_of(settings),
            regions=settings.regions,
            label_scheme=settings.label_scheme,
        )
        shown = prepared.brain.any(axis=(0, 1))
        images = pipeline.volume_slices(prepared)[shown]
        brain = np.moveaxis(prepared.brain, 2, 0)[shown]
        masks = np.moveaxis(prepared.mask, 2, 0)[shown]
        one, other = (
            draws.predict(model, images, count, variances=False).mean_probabilities
            for model in (plain, mixed)
        )
        for k in range(one.shape[-1]):
            moved = np.abs(one[..., k] - other[..., k])[brain]
            shifts.append(float(np.quantile(moved, 0.999)))
            dices = [overlap.dice(masks[..., k], p[..., k] > 0.5) for p in (one, other)]
            overlaps.append(float(abs(dices[0] - dices[1])))
    name = f"{settings.method} ({len(cases)} patients)"
    return [
        measuring.Row(f"99.9th percentile of the change of p, {name}", shifts, ""),
        measuring.Row(f"change of Dice, {name}", overlaps, ""),
    ], [
        measuring.Ratio(f"99.9th percentile of the change of p, {name}", shifts, 0.01),
        measuring.Ratio(f"change of Dice, {name}", overlaps, 0.002),
    ]


if __name__ == "__main__":
    main()
