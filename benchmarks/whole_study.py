"""Where the time of a prediction goes, from the command to the last file."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring

QUESTION = "Where does the time of `uqseg predict` on whole studies go?"
SHAPE = (240, 240, 155)
DRAWS = 20
STUDIES = (1, 4)


def main() -> None:
    """Measure, print and write; or be the process that is measured."""
    options = measuring.parser(QUESTION, rounds=3)
    options.add_argument("--data", help="folder of studies (default: a phantom)")
    options.add_argument("--run", help="a trained run (default: one short epoch)")
    options.add_argument("--method", default="flipout", help="of the default run")
    options.add_argument("--one", nargs=4, help="internal")
    options = options.parse_args()
    if options.one:
        _one(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        data = options.data or _paint(place / "data")
        run = options.run or _train(place, data, options.method)
        rows = _measure(run, data, place, options.rounds)
    measuring.report(
        "whole_study",
        QUESTION,
        list(rows.values()),
        list(_ratios(rows)),
        out=options.out,
        settings={
            "shape": list(SHAPE),
            "draws": DRAWS,
            "run": "given" if options.run else f"{options.method}, 16 filters",
            "studies": "real" if options.data else "phantom",
        },
    )


def _paint(folder: pathlib.Path) -> str:
    """Return a folder with the phantom of one study, under several ids."""
    from tfp_uqseg.data import phantom

    case = phantom.make_case(0, shape=SHAPE, num_raters=0)
    for index in range(max(STUDIES)):
        phantom.write_case(case, folder, f"study_{index}")
    return str(folder)


def _train(place: pathlib.Path, data: str, method: str) -> str:
    """Return a run whose network took a few steps: speed does not ask for more."""
    from tfp_uqseg.data import phantom

    phantom.make_cohort(
        place / "small", num_cases=1, num_test_cases=0, shape=(64, 64, 8), shifts=()
    )
    code = "import sys; from tfp_uqseg import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", code, "train", str(place / "small" / "train")]
    command += ["--out", str(place / "run"), "--method", method, "--epochs", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return str(place / "run")


def _measure(run: str, data: str, place: pathlib.Path, rounds: int) -> dict:
    rows: dict[str, measuring.Row] = {}
    for number in range(rounds):
        for count in STUDIES:
            out = place / f"maps_{number}_{count}"
            command = [sys.executable, "-m", "benchmarks.whole_study", "--one"]
            done = subprocess.run(
                [*command, run, data, str(out), str(count)],
                check=True,
                capture_output=True,
                text=True,
            )
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                unit = "MB" if name == "peak memory" else "s"
                title = f"{name}, {count} {'study' if count == 1 else 'studies'}"
                rows.setdefault(title, measuring.Row(title, [], unit)).values.append(
                    value
                )
    return rows


def _ratios(rows: dict):
    few, many = "1 study", f"{max(STUDIES)} studies"
    for count in (few, many):
        yield measuring.ratio(
            f"network / from the first study read to the last file, {count}",
            rows[f"network, {count}"],
            rows[f"studies, {count}"],
            0.85,
            at_most=False,
        )
        yield measuring.ratio(
            f"network / the whole command, {count}",
            rows[f"network, {count}"],
            rows[f"command, {count}"],
        )
    each = [value / max(STUDIES) for value in rows[f"studies, {many}"].values]
    yield measuring.ratio(
        f"seconds for each of {many} / for one",
        measuring.Row("", each),
        rows[f"studies, {few}"],
        1.05,
    )
    yield measuring.ratio(
        f"peak memory of {many} / of one",
        rows[f"peak memory, {many}"],
        rows[f"peak memory, {few}"],
        note="three studies are in memory at most",
    )


def _one(run: str, data: str, out: str, count: str) -> None:
    """Predict in this process and print seconds by what they were spent on."""
    began = time.perf_counter()
    from tfp_uqseg import _startup

    _startup.load_tensorflow()
    from tfp_uqseg.data import brats
    from tfp_uqseg.experiments import predict
    from tfp_uqseg.serving import maps, study
    from tfp_uqseg.uncertainty import draws, prediction

    spent = dict.fromkeys(
        ("network", "statistics", "reading", "writing", "studies"), 0.0
    )

    @contextlib.contextmanager
    def timed(name):
        start = time.perf_counter()
        yield
        spent[name] += time.perf_counter() - start

    def wrapped(module, name, title):
        original = getattr(module, name)

        def run_timed(*arguments, **options):
            with timed(title):
                return original(*arguments, **options)

        setattr(module, name, run_timed)

    wrapped(draws, "_run_chunk", "network")
    wrapped(prediction, "of_means", "statistics")
    wrapped(study, "_load", "reading")
    wrapped(study, "_write", "writing")
    wrapped(predict, "_predict_all", "studies")
    cases = brats.find_cases(data)[: int(count)]
    predict.predict(run, cases, out, DRAWS, verbose=False)
    spent["command"] = time.perf_counter() - began
    spent["peak memory"] = measuring.peak_memory()
    assert maps.read_summary(out, cases[0].id) is not None
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
