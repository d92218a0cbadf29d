"""How the benchmarks measure, and how they speak to other packages; no figures."""

from __future__ import annotations

import contextlib
import importlib
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _root_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def measuring():
    return importlib.import_module("benchmarks.measuring")


@pytest.fixture
def peers():
    return importlib.import_module("benchmarks.peers")


def test_functions_are_timed_in_turn_after_the_warm_up(measuring):
    called = []

    def slow():
        called.append("slow")
        time.sleep(0.02)

    rows = measuring.alternate(
        {"slow": slow, "own": lambda: called.append("own") or 7.0}, 3, warm_up=1
    )
    assert called == ["slow", "own"] * 4
    assert rows["own"].values == [7.0, 7.0, 7.0]
    assert len(rows["slow"].values) == 3
    assert min(rows["slow"].values) >= 0.02


def test_a_ratio_is_the_median_of_the_rounds_and_knows_its_bound(measuring):
    above, below = (
        measuring.Row("a", [2.0, 9.0, 4.0]),
        measuring.Row("b", [1.0, 3.0, 4.0]),
    )
    found = measuring.ratio("r", above, below, 2.0).described()
    assert (found["median"], found["low"], found["high"]) == (2.0, 1.0, 3.0)
    assert found["met"] is True
    assert measuring.ratio("r", above, below, 1.9).described()["met"] is False
    least = measuring.ratio("r", above, below, 2.1, at_most=False).described()
    assert least["met"] is False
    empty = measuring.ratio("r", measuring.Row("a", [], note="why"), below, 1.0)
    assert empty.described()["met"] is None
    assert empty.note == "why"


def test_a_report_is_printed_and_written(measuring, tmp_path, capsys):
    rows = [measuring.Row("a", [1.0, 3.0, 2.0]), measuring.Row("b", [], note="absent")]
    ratios = [measuring.ratio("a / a", rows[0], rows[0], 0.5)]
    path = tmp_path / "new" / "x.json"
    measuring.report("x", "How long?", rows, ratios, out=path)
    said = capsys.readouterr().out
    assert "How long?" in said
    assert "MISSED" in said
    assert "absent" in said
    written = json.loads(path.read_text())
    assert written["rows"][0]["median"] == 2.0
    assert written["ratios"][0]["met"] is False
    assert written["machine"]["cores"] >= 1
    assert written["versions"]["tensorflow"]


def test_a_command_names_no_folder_of_the_machine(measuring, tmp_path, monkeypatch):
    (tmp_path / "brats").mkdir()
    monkeypatch.setattr(
        sys, "argv", ["x", "--data", str(tmp_path / "brats"), "--rounds", "3"]
    )
    found = measuring.report("x", "Q?", [], [], out=tmp_path / "x.json")
    assert found["command"] == "python -m benchmarks.x --data BRATS --rounds 3"


def test_a_profile_adds_up_the_time_by_kind_of_operation():
    import tensorflow as tf

    profiling = importlib.import_module("benchmarks.profiling")
    one = tf.random.stateless_normal([600, 600], [1, 2])
    product = tf.function(lambda x: tf.sigmoid(x @ x @ x))
    product(one)
    spent = profiling.by_operation(lambda: product(one).numpy())
    assert set(spent) >= {"MatMul", "Sigmoid"}
    assert 0.0 < spent["Sigmoid"] < spent["MatMul"] < 10.0
    rows = profiling.rows("p", lambda: product(one).numpy(), 2, most=1)
    assert [row.name for row in rows] == ["p: MatMul", "p: all other operations"]
    assert all(len(row.values) == 2 for row in rows)


def test_the_page_shows_every_bound_and_what_is_not_measured(measuring, tmp_path):
    page = importlib.import_module("benchmarks.page")
    rows = [measuring.Row("a", [1.0, 3.0, 2.0])]
    ratios = [measuring.Ratio("good", [1.0], 2.0), measuring.Ratio("bad", [3.0], 2.0)]
    measuring.report("draws", "Q?", rows, ratios, out=tmp_path / "draws.json")
    text = page.text(page.read(tmp_path)).replace("\N{NO-BREAK SPACE}", " ")
    assert "| Draws | good | 1 [1, 1] | at most 2 | met |" in text
    assert "| Draws | bad | 3 [3, 3] | at most 2 | **missed** |" in text
    assert "## On a GPU\n\nNot measured yet." in text


def test_the_page_in_the_docs_is_made_from_the_results():
    page = importlib.import_module("benchmarks.page")
    assert page.PAGE.read_text(encoding="utf-8") == page.text(page.read())


@pytest.fixture
def speeds():
    """Medians of a training step and of a draw, by the names of the results."""
    page = importlib.import_module("benchmarks.page")
    found = page.read()
    return [
        {row["name"]: row["median"] for row in found[name]["rows"]}
        for name in ("training_step", "draws")
    ]


def test_the_speeds_in_the_comparison_are_those_of_the_results(speeds):
    page = importlib.import_module("benchmarks.page")
    text = page.COMPARISON.read_text(encoding="utf-8")
    assert text == page.comparison(page.read())
    rows = [line.split(" | ") for line in text.splitlines() if ", " in line][1:]
    shown = {name.strip("| "): [step, draw.strip("| ")] for name, step, draw in rows}
    row = shown["`tfp_uqseg`, Flipout, bfloat16"]
    assert row == [f"{each['flipout, bfloat16']:#.3g}" for each in speeds]
    # What the others have in bfloat16 is set beside what this package has in it.
    compared = [name for each in speeds for name in each if name.endswith(", bfloat16")]
    compared = {name for name in compared if name.split(", ")[0] in page.COMPARED}
    narrow = [name for name in shown if name.endswith("bfloat16")]
    assert len(narrow) == len(compared)
    assert sum("`tfp_uqseg`" in name for name in narrow) == 2


def test_the_comparison_holds_no_typed_number_and_its_words_are_so(speeds):
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert "```{include} _generated/comparison_speed.md\n" in text
    typed = [line for line in text.splitlines() if line.startswith("|")]
    assert not [line for line in typed if re.search(r"\d\.\d", line)]
    step, _ = speeds
    assert "in bfloat16 its training step is the faster one" in " ".join(text.split())
    for precision, faster in (("float32", False), ("bfloat16", True)):
        other = step[f"PyTorch torch_uncertainty, {precision}"]
        assert (other < step[f"flipout, {precision}"]) is faster


def test_a_network_that_was_not_measured_has_no_number_in_the_comparison():
    page = importlib.import_module("benchmarks.page")
    rows = [{"name": "flipout, float32", "median": 0.5}]
    absent = [{"name": "PyTorch bayesian_torch, float32", "median": None}]
    result = {"machine": {"cores": 2}, "rows": rows}
    settings = {"base_filters": 16, "input": [8, 128, 128, 4], "batches": 4}
    found = page.comparison(
        {
            "training_step": {**result, "settings": settings, "rows": rows + absent},
            "draws": {**result, "settings": settings},
        }
    )
    assert "16 base filters, input 8 x 128 x 128 x 4, 2 cores" in found
    assert found.endswith(
        "| `tfp_uqseg`, Flipout, float32 | 0.500 | 0.500 |\n"
        "| bayesian-torch, Flipout, float32 | - | - |\n"
    )


WORKER = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        sys.exit("the cat ate it")
    if request["do"] == "sleep":
        time.sleep(60)
    if request["do"] == "chat":
        print("word " * 100_000, file=sys.stderr)
    if request["do"] == "mumble":
        print("hm", flush=True)
        continue
    answer = {"seconds": 2.0 * request["repeats"]}
    if request["do"] == "fail":
        answer = {"error": "ValueError: no"}
    print(json.dumps(answer), flush=True)
"""


def test_a_worker_answers_fails_and_dies_in_words(peers, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with peers.Worker(sys.executable, script) as worker:
        assert worker.ask(do="run", repeats=3) == {"seconds": 6.0}
        with pytest.raises(peers.Unavailable, match="ValueError: no"):
            worker.ask(do="fail", repeats=1)
        assert worker.ask(do="run", repeats=1)["seconds"] == 2.0
        with pytest.raises(peers.Unavailable, match="ended: the cat ate it"):
            worker.ask(do="die")
        with pytest.raises(peers.Unavailable, match="ended: the cat ate it"):
            worker.ask(do="run", repeats=1)


def test_a_worker_that_keeps_silent_is_ended(peers, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with peers.Worker(sys.executable, script, timeout=0.2) as worker:
        with pytest.raises(peers.Unavailable, match="no answer in 0.2 s"):
            worker.ask(do="sleep")
        with pytest.raises(peers.Unavailable, match="ended: exit code -9"):
            worker.ask(do="run", repeats=1)


def test_what_a_worker_says_beside_its_answers_does_no_harm(peers, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with peers.Worker(sys.executable, script) as worker:
        assert worker.ask(do="chat", repeats=1) == {"seconds": 2.0}
        with pytest.raises(peers.Unavailable, match="answered 'hm'"):
            worker.ask(do="mumble")


def test_a_worker_without_python_says_so(peers, tmp_path):
    with pytest.raises(peers.Unavailable, match="worker cannot be started"):
        peers.Worker(tmp_path / "python", "worker.py")


def test_an_environment_that_cannot_be_made_says_why(peers, tmp_path, monkeypatch):
    def run(command, **options):
        raise subprocess.CalledProcessError(1, command, stderr="x\nERROR: no wheel\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(peers.venv, "create", lambda place, **_: place.mkdir())
    with pytest.raises(
        peers.Unavailable, match="b cannot be installed: ERROR: no wheel"
    ):
        peers.environment("b", ["nothing"], tmp_path)
    assert not list(tmp_path.glob("*/complete"))


def test_an_environment_is_made_once_for_the_same_requirements(
    peers, tmp_path, monkeypatch
):
    installed = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: installed.append(command)
    )
    monkeypatch.setattr(peers.venv, "create", lambda place, **_: place.mkdir())
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path))
    first = peers.environment("b", ["one"])
    assert first.is_relative_to(tmp_path)
    assert peers.environment("b", ["one"]) == first
    assert len(installed) == 1
    assert peers.environment("b", ["torch==2", "one"]) != first
    assert [command[-1] for command in installed[1:]] == ["torch==2", "one"]
    assert peers.CPU_INDEX in installed[1]


def test_peers_that_are_not_there_are_noted(peers, tmp_path, monkeypatch):
    def environment(name, *_):
        raise peers.Unavailable(f"{name} cannot be installed: offline")

    monkeypatch.setattr(peers, "environment", environment)
    with contextlib.ExitStack() as stack:
        found = peers.torch_functions(stack, "forward", folder=tmp_path)
    assert found.functions == {}
    assert set(found.notes) == {
        "PyTorch deterministic",
        "PyTorch bayesian_torch",
        "PyTorch torch_uncertainty",
    }
    assert "torch_uncertainty cannot be" in found.notes["PyTorch torch_uncertainty"]


def test_peers_answer_for_every_network_and_precision(peers, tmp_path, monkeypatch):
    class Worker(contextlib.nullcontext):
        def __init__(self, *_):
            super().__init__(self)

        def ask(self, do, model="", precision="", repeats=0):
            if do == "versions":
                counts = {"deterministic": 5, "bayesian_torch": 9}
                counts["torch_uncertainty"] = 10
                return {"versions": {"torch": "2+cpu"}, "parameters": counts}
            if model == "deterministic" and precision == "bfloat16":
                raise peers.Unavailable("not in bfloat16")
            return {"seconds": 2.0}

    monkeypatch.setattr(peers, "environment", lambda *_: tmp_path)
    monkeypatch.setattr(peers, "Worker", Worker)
    with contextlib.ExitStack() as stack:
        found = peers.torch_functions(stack, "forward", times=4)
    assert len(found.functions) == 5
    assert {run() for run in found.functions.values()} == {8.0}
    assert found.notes == {"PyTorch deterministic, bfloat16": "not in bfloat16"}
    assert found.versions == {"torch": "2+cpu"}
    assert "5 of PyTorch deterministic, 9 of" in found.described()["parameters"]


def test_both_u_nets_have_the_same_convolutions():
    networks = importlib.import_module("benchmarks.networks")
    own = networks.ours("deterministic", shape=networks.SHAPE[1:])
    flipout = networks.ours("flipout", shape=networks.SHAPE[1:])
    counted = networks.operations(own)
    assert counted["down0_conv1"] == 2 * 9 * 4 * 16 * 128 * 128
    assert counted["up2_conv0"] == 2 * 4 * 128 * 64 * 16 * 16  # from 16 x 16 voxels
    assert networks.operations(own) == networks.operations(flipout)
    kernels = sum(
        layer.kernel_loc.shape.num_elements() for layer in flipout.bayesian_layers
    )
    stock = networks.stock()
    assert 2 * kernels == sum(
        variable.shape.num_elements()
        for variable in stock.trainable_variables
        if "kernel" in variable.name
    )


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, True])
def test_folded_draws_are_the_draws_one_by_one(xla):
    """What a card is measured with, rehearsed on a processor."""
    gpu = importlib.import_module("benchmarks.gpu")
    networks = importlib.import_module("benchmarks.networks")
    images, _ = networks.batch((2, 16, 16, 4))
    found = gpu.draws_of(networks.ours("flipout"), images, xla=xla)
    one_by_one, folded = (run() for run in found.values())
    np.testing.assert_allclose(folded, one_by_one, atol=1e-5)
    assert np.abs(folded[0] - folded[1]).max() > 1e-4
