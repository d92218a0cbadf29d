"""Whether memory grows with the number of draws."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from benchmarks import measuring

QUESTION = "Does memory grow with the number of draws?"
DRAWS = (4, 64)
_SLICES = (64, 144, 176, 4)


def main() -> None:
    """Measure, print and write; or be the process that is measured."""
    options = measuring.parser(QUESTION, rounds=3)
    options.add_argument("--one", nargs=2, metavar=("METHOD", "DRAWS"), help="internal")
    options = options.parse_args()
    if options.one:
        _one(*options.one)
        return
    rows = {}
    for _ in range(options.rounds):
        for method in ("flipout", "latent", "mc_dropout"):
            for count in DRAWS:
                name = f"{method}, {count} draws"
                row = rows.setdefault(name, measuring.Row(name, [], "MB"))
                row.values.append(_peak(method, count))
    ratios = [
        measuring.ratio(
            f"{method}: {DRAWS[1]} draws / {DRAWS[0]} draws",
            rows[f"{method}, {DRAWS[1]} draws"],
            rows[f"{method}, {DRAWS[0]} draws"],
            1.05,
        )
        for method in ("flipout", "latent", "mc_dropout")
    ]
    measuring.report(
        "memory",
        QUESTION,
        list(rows.values()),
        ratios,
        out=options.out,
        settings={"images": list(_SLICES), "what": "peak of a process of its own"},
    )


def _peak(method: str, count: int) -> float:
    """Return the peak memory of a new process that predicts, MB."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", method, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _one(method: str, count: str) -> None:
    from benchmarks import networks
    from tfp_uqseg.uncertainty import draws

    model = networks.ours(method)
    images = np.random.default_rng(0).normal(size=_SLICES).astype(np.float32)
    draws.predict(model, images, int(count))
    print(json.dumps(measuring.peak_memory()))


if __name__ == "__main__":
    main()
