"""What shards cost: waiting in training, growth with the cohort, making them."""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import measuring, peers

QUESTION = "What do shards cost, and do time and memory grow with the cohort?"
SIZES = (5, 10, 20, 40)
STEPS = 20
#: Of the phantom: the brain then fills slices of about 144 x 176, as in BraTS.
SHAPE = (144, 176, 24)
MONAI = [peers.PYTORCH, "monai==1.6.1", "nibabel"]


def main() -> None:
    """Measure, print and write; or be the process that is measured."""
    options = measuring.parser(QUESTION, rounds=5)
    options.add_argument("--data", help="folder of labelled studies (a phantom)")
    options.add_argument("--growth-rounds", type=int, default=2, help="of growth")
    options.add_argument("--one", nargs=3, help="internal")
    peers.add_options(options)
    options = options.parse_args()
    if options.one:
        _one(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        data = options.data or _paint(place / "data")
        preparing, versions = _preparing(data, options)
        rows, ratios = _training(data, place, options.rounds)
        more_rows, more_ratios = _growth(data, place, options.growth_rounds)
    ratios += [*_preparing_ratios(preparing), *more_ratios]
    measuring.report(
        "shards",
        QUESTION,
        [*rows, *preparing.values(), *more_rows],
        ratios,
        out=options.out,
        settings={
            "studies": "real" if options.data else f"phantom, {SHAPE}",
            "network": "flipout U-Net, 16 filters, batches of 8 slices, flips",
            "sizes": f"{SIZES}, each in a process of its own",
        },
        more_versions=versions,
    )


def _paint(folder: pathlib.Path) -> str:
    from tfp_uqseg.data import phantom

    phantom.make_cohort(folder, num_cases=5, num_test_cases=0, shape=SHAPE, shifts=())
    return str(folder / "train")


def _training(data: str, place: pathlib.Path, rounds: int) -> tuple[list, list]:
    """Return rows and ratios of steps with slices from shards and from memory."""
    from tfp_uqseg.data import brats, pipeline, shards

    stored = shards.prepare(brats.find_cases(data), place / "shards")
    cohort = pipeline.gather(stored)
    stream = pipeline.slices(
        cohort, shuffle=True, augment=True, repeat=True, drop_remainder=True
    )
    batches = iter(stream)
    step, precision = _step(next(batches))
    fixed = next(batches)
    waited: list[float] = []

    def from_shards() -> float:
        start, waiting = time.perf_counter(), 0.0
        for _ in range(STEPS):
            asked = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - asked
            step(*batch)
        waited.append(waiting / STEPS)
        return (time.perf_counter() - start) / STEPS

    def from_memory() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            step(*fixed)
        return (time.perf_counter() - start) / STEPS

    found = measuring.alternate(
        {"a step, slices from shards": from_shards, "a step, one batch": from_memory},
        rounds,
        warm_up=1,
    )
    size = f"{precision}, slices of {cohort.size[0]} x {cohort.size[1]}"
    for row in found.values():
        row.note = size
    shards_row, memory_row = found.values()
    waiting = measuring.Row("waiting for slices, a step", waited[1:])
    reading = measuring.Row("reading without a network, a batch", _reading(stream))
    ratios = [
        measuring.ratio("waiting / step", waiting, shards_row, 0.03),
        measuring.ratio("step from shards / step of one batch", shards_row, memory_row),
    ]
    return [*found.values(), waiting, reading], ratios


def _step(batch):
    """Return a function that takes one optimisation step, and its precision."""
    import tensorflow as tf

    from benchmarks import networks

    precision = "bfloat16" if measuring.has_fast_bfloat16() else "float32"
    model = networks.ours("flipout", precision)
    model.optimizer.build(model.trainable_variables)
    signature = [tf.TensorSpec(part.shape, part.dtype) for part in batch]
    run = tf.function(
        lambda image, mask: model.train_step((image, mask)), input_signature=signature
    )
    return lambda *one: {k: v.numpy() for k, v in run(*one).items()}, precision


def _reading(stream, rounds: int = 5) -> list[float]:
    """Return the seconds of a batch where nothing but reading is done."""
    batches, found = iter(stream), []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(STEPS):
            next(batches)
        found.append((time.perf_counter() - start) / STEPS)
    return found


def _preparing(data: str, options) -> tuple[dict, dict]:
    """Return rows of the time to prepare a study, ours and MONAI's; its versions."""
    from tfp_uqseg.data import brats

    cases = brats.find_cases(data)
    with contextlib.ExitStack() as stack:
        functions = {
            "prepare a study": _each(cases, _prepare),
            "prepare a study and write its shard": _each(cases, _prepare_and_write),
        }
        note, versions = "left out (`--no-peers`)", {}
        if not options.no_peers:
            try:
                python = peers.environment("monai", MONAI, options.peers_dir)
                worker = stack.enter_context(peers.Worker(python, "monai_prepare.py"))
                versions = worker.ask(do="versions")
                monai = _each(cases, lambda case: _ask(worker, case))
                monai()
                functions["MONAI, a study"], note = monai, ""
            except peers.Unavailable as reason:
                note = str(reason)
        rows = measuring.alternate(functions, max(options.rounds, len(cases)))
    rows.setdefault("MONAI, a study", measuring.Row("MONAI, a study", [])).note = note
    rows["prepare a study"].note = "one thread; masks of three regions, as MONAI's"
    return rows, versions


def _each(cases, function):
    """Return a function that takes the next case at each call, and begins again."""
    waiting = itertools.cycle(cases)
    return lambda: function(next(waiting))


def _prepare(case) -> float:
    from tfp_uqseg.data import preprocess

    start = time.perf_counter()
    preprocess.prepare(case.load())
    return time.perf_counter() - start


def _prepare_and_write(case) -> float:
    from tfp_uqseg.data import records, slicing

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        slices = slicing.read(case, slicing.kinds_of(case))
        records.write(pathlib.Path(folder) / "case.tfrecord", slices)
        return time.perf_counter() - start


def _ask(worker: peers.Worker, case) -> float:
    images = [str(path.resolve()) for path in case.image_paths.values()]
    label = str(case.label_path.resolve())
    return float(worker.ask(do="prepare", images=images, label=label)["seconds"])


def _preparing_ratios(rows: dict) -> list[measuring.Ratio]:
    ours, monai = rows["prepare a study"], rows["MONAI, a study"]
    written = rows["prepare a study and write its shard"]
    return [
        measuring.ratio("prepare a study / MONAI", ours, monai, 0.6),
        measuring.ratio(
            "prepare and write / MONAI, which writes nothing", written, monai
        ),
    ]


def _growth(data: str, place: pathlib.Path, rounds: int) -> tuple[list, list]:
    """Return rows and ratios of time and memory against the number of studies."""
    rows: dict[str, measuring.Row] = {}

    def note(name: str, value: float, unit: str) -> None:
        rows.setdefault(name, measuring.Row(name, [], unit)).values.append(value)

    for _ in range(rounds):
        for size in SIZES:
            many = _repeat(data, place / "many", size)
            for what in ("prepare", "read"):
                seconds, peak = _measured(what, many, place / "grown")
                note(f"{what}, {size} studies", seconds, "s")
                note(f"{what}, peak memory with {size} studies", peak, "MB")
            shutil.rmtree(place / "grown")
    fits, ratios = [], []
    for what in ("prepare", "read"):
        fits.append(_fit(rows, what))
        peaks = [rows[f"{what}, peak memory with {n} studies"].values for n in SIZES]
        spread = [max(each) / min(each) for each in zip(*peaks, strict=True)]
        name = f"{what}: most memory / least, {SIZES[0]} to {SIZES[-1]} studies"
        ratios.append(measuring.Ratio(name, spread, 1.2))
        most, least = (
            rows[f"{what}, {SIZES[-1]} studies"],
            rows[f"{what}, {SIZES[0]} studies"],
        )
        many = SIZES[-1] / SIZES[0]
        per_study = [
            a / b / many for a, b in zip(most.values, least.values, strict=True)
        ]
        name = f"{what}: seconds a study, {SIZES[-1]} studies / {SIZES[0]}"
        ratios.append(measuring.Ratio(name, per_study))
    return [*rows.values(), *fits], ratios


def _fit(rows: dict, what: str) -> measuring.Row:
    """Return the slope of time against the number of studies, and how straight."""
    seconds = np.array([rows[f"{what}, {size} studies"].values for size in SIZES])
    slopes, starts = np.polyfit(SIZES, seconds, 1)
    line = np.outer(SIZES, slopes) + starts
    left = ((seconds - line) ** 2).sum() / ((seconds - seconds.mean(0)) ** 2).sum()
    note = f"straight line, R^2 = {1 - left:.4f}, at 0: {starts.mean():.2f} s"
    return measuring.Row(f"{what}, a study more", slopes.tolist(), "s", note)


def _repeat(data: str, folder: pathlib.Path, size: int) -> pathlib.Path:
    """Return a folder of `size` studies: links to those of `data` under new ids."""
    from tfp_uqseg.data import brats

    cases = brats.find_cases(data)
    shutil.rmtree(folder, ignore_errors=True)
    for number, case in enumerate(itertools.islice(itertools.cycle(cases), size)):
        case_id = f"{case.id}-{number:03}"
        place = folder / case_id
        place.mkdir(parents=True)
        paths = {**case.image_paths, "seg": case.label_path}
        paths |= {f"rater{n}": path for n, path in enumerate(case.rater_paths)}
        for name, path in paths.items():
            ending = "".join(
                path.suffixes[-2:] if path.suffix == ".gz" else [path.suffix]
            )
            (place / f"{case_id}_{name}{ending}").symlink_to(path.resolve())
    return folder


def _measured(what: str, many: pathlib.Path, out: pathlib.Path) -> tuple[float, float]:
    """Return seconds and peak memory, MB, of a new process."""
    command = [sys.executable, "-m", "benchmarks.shards", "--one"]
    command += [what, str(many), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def _one(what: str, many: str, out: str) -> None:
    from tfp_uqseg.data import brats, pipeline, shards

    start = time.perf_counter()
    if what == "prepare":
        shards.prepare(brats.find_cases(many), out)
    else:
        stored = shards.open_shards(out)
        for _ in pipeline.slices(stored, shuffle=True, augment=True):
            pass
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, measuring.peak_memory()]))


if __name__ == "__main__":
    main()
