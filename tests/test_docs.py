"""The pages and the README say what is so."""

from __future__ import annotations

import functools
import importlib
import pathlib
import re
import shlex

import numpy as np
import pytest

import tfp_uqseg as uq
from tfp_uqseg import cli
from tfp_uqseg.data import brats, phantom, pipeline
from tfp_uqseg.experiments import config
from tfp_uqseg.uncertainty import draws

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: pathlib.Path, language: str) -> list[str]:
    text = path.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


#: Long numbers on the pages, and what stands for them here.
SMALLER = {
    r"\bepochs=\d+": "epochs=1, verbose=0",
    r"\bnum_draws=\d+": "num_draws=2",
    r"\bnum_members=\d+": "num_members=2, base_filters=2, depth=2",
    r"\bnum_train_examples=1000\b": "num_train_examples=8",
    r'"vnet",': '"vnet", base_filters=2,',
}
ONCE = ("README.md", "quickstart.md")  # run together in `test_docs`
WITH_CODE = [path for path in PAGES if blocks(path, "python") and path.name not in ONCE]
SETTINGS = {
    "input_shape": (None, None, 4),
    "num_regions": 3,
    "num_train_examples": 8,
    "base_filters": 2,
    "depth": 2,
}


def test_the_reference_names_every_module_once():
    pages = [path.read_text() for path in (ROOT / "docs" / "reference").glob("*.rst")]
    named = [name for page in pages for name in re.findall(r"automodule:: (\S+)", page)]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "tfp_uqseg").rglob("*.py")
        if path.name != "__init__.py"
    }
    packages = {"tfp_uqseg.cli"}  # its __init__ holds `main`
    assert sorted(set(named) - packages) == sorted(modules)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_code_on_the_pages_is_python(path):
    for code in blocks(path, "python"):
        compile(code, path.name, "exec")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_on_the_pages_are_understood(path):
    commands = "".join(blocks(path, "sh")).replace("\\\n", " ")
    for line in commands.splitlines():
        if line.startswith("uqseg "):
            assert cli.parser().parse_args(shlex.split(line)[1:]).command


@pytest.mark.slow
def test_the_readmes_example_and_the_quickstarts_run(tmp_path, monkeypatch):
    (example,) = blocks(ROOT / "README.md", "python")
    assert len(example.splitlines()) <= 15
    for shown, small in {
        "num_cases=12": "num_cases=1, num_test_cases=1, shape=(32, 32, 3), shifts=()",
        "epochs=10": "epochs=1, verbose=0",
        "num_draws=20": "num_draws=2",
    }.items():
        assert shown in example
        example = example.replace(shown, small)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    assert (tmp_path / "maps/phantom_test_000/phantom_test_000_summary.json").is_file()
    exec(blocks(ROOT / "docs" / "quickstart.md", "python")[-1], names)
    assert names["prediction"].mutual_information.shape[-1] == 3


def test_the_readme_has_the_two_commands():
    commands = blocks(ROOT / "README.md", "sh")
    assert commands[0].endswith(".venv/bin/uqseg demo\n")
    assert commands[1].endswith(" -m pytest -n 2 --dist loadfile\n")
    assert all(command.startswith("python3 -m venv") for command in commands[:2])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    places = [path.parent]
    if path.parent.name == "tutorials":
        places.append(ROOT / "tutorials")  # the pages' copies come with a build
    found = {name for name in targets for each in places if (each / name).exists()}
    assert set(targets) == found


def test_every_notebook_is_on_the_tutorials_page():
    page = (ROOT / "docs" / "tutorials" / "index.md").read_text()
    notebooks = sorted(path.name for path in (ROOT / "tutorials").glob("*.ipynb"))
    assert re.findall(r"\]\((.+\.ipynb)\)", page) == notebooks


@pytest.fixture
def extension(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    return importlib.import_module


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\bar p_i", "<msub><mover><mi>p</mi><mo>ˉ</mo></mover><mi>i</mi></msub>"),
        (
            r"\bar p_i^2",
            "<msubsup><mover><mi>p</mi><mo>ˉ</mo></mover><mi>i</mi><mn>2</mn></msubsup>",
        ),
        (r"\log p", "<mi>log</mi><mo>⁡</mo><mspace /><mi>p</mi>"),
        (r"2\log(", "<mn>2</mn><mspace /><mi>log</mi><mo>⁡</mo><mo>(</mo>"),
        (r"a := b", "<mi>a</mi><mo>≔</mo><mi>b</mi>"),
        (r"\{a\|b\}", "<mo>{</mo><mi>a</mi><mo>‖</mo><mi>b</mi><mo>}</mo>"),
    ],
)
def test_formulas_are_set_as_by_tex(extension, formula, expected):
    from docutils.utils.math import latex2mathml

    mathml = extension("mathml").mend(latex2mathml.tex2mathml(formula))
    mathml = re.sub(r" (accent|stretchy|width|xmlns)=\"[^\"]*\"|\n *", "", mathml)
    assert mathml == f"<math>{expected}</math>"


def test_lines_break_at_the_joints_of_long_names_and_not_in_intervals(extension):
    set_breaks = extension("breaks").set_breaks
    code = '<code class="docutils literal">{}</code>'
    assert set_breaks(code.format("a_name")) == code.format("a_name")
    assert set_breaks(code.format("{case}_mean_of.nii.gz")) == code.format(
        "{case}_<wbr>mean_<wbr>of.<wbr>nii.<wbr>gz"
    )
    whole = '<span class="interval">[-.1, .2]</span>'
    assert set_breaks('<p title="[-.1, .2]">.1 [-.1, .2]</p>') == (
        f'<p title="[-.1, .2]">.1 {whole}</p>'
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What the pages take for granted: a cohort, its streams, a trained network."""
    folder = tmp_path_factory.mktemp("pages")
    for seed in range(2):
        case = phantom.make_case(seed, shape=(32, 32, 6), num_raters=2)
        phantom.write_case(case, folder / "BraTS2021", f"BraTS2021_0000{seed}")
    cases = brats.find_cases(folder / "BraTS2021")
    train = pipeline.gather(cases)
    networks = []
    for seed in range(4):
        network = uq.models.build("deterministic", seed=seed, **SETTINGS)
        network.compile()
        networks.append(network)
    (folder / "run").mkdir()
    networks[0].save(folder / "run" / "model.keras")
    config.TrainConfig(method="deterministic").save(folder / "run" / "config.json")
    (folder / "run" / "split.json").write_text('{"train": []}', "utf-8")
    slices = functools.partial(pipeline.slices, train, shuffle=True, batch_size=4)
    images, masks = next(iter(slices(seed=0)))
    return folder, {
        "uq": uq,
        "callbacks": uq.callbacks,
        "draws": draws,
        "pipeline": pipeline,
        "cases": cases,
        "stream": slices,
        "train": slices(seed=0),
        "validation": slices(seed=1),
        "steps_per_epoch": 3,
        "images": np.asarray(images),
        "image": images[0],
        "mask": masks[0],
        "model": networks[0],
        "trained": networks[0],
        "first": networks[1],
        "second": networks[2],
        "third": networks[3],
        "settings": SETTINGS,
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.name)
def test_the_code_of_a_page_runs(path: pathlib.Path, given, monkeypatch):
    folder, names = given
    monkeypatch.chdir(folder)
    names = {**names, "__name__": path.stem}
    for code in blocks(path, "python"):
        for shown, small in SMALLER.items():
            code = re.sub(shown, small, code)
        exec(compile(code, path.name, "exec"), names)
