"""The pages and the README say what is so."""

from __future__ import annotations

import functools
import importlib
import json
import pathlib
import re
import shlex
import shutil
import textwrap

import numpy as np
import pytest

import tfp_uqseg as uq
from tfp_uqseg import cli
from tfp_uqseg.data import brats, phantom, pipeline
from tfp_uqseg.experiments import config
from tfp_uqseg.uncertainty import draws

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUTSIDE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "data/README.md",
    "data/phantom/README.md",
    "data/splits/README.md",
)
PAGES = [ROOT / name for name in OUTSIDE] + sorted((ROOT / "docs").rglob("*.md"))
SHELLS = ("sh", "bash")
#: What the first line of a block may say, beside the directives that hold no code.
LANGUAGES = ("python", *SHELLS, "json", "bibtex", "text")
DIRECTIVES = ("bibliography", "glossary", "image", "include", "literalinclude", "raw")
DIRECTIVES += ("table", "toctree")


def name_of(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fenced(text: str) -> list[tuple[str, str]]:
    """Return language and code of every block, those inside lists too."""
    found = re.findall(r"^( *)```(\S*)[^\n]*\n(.*?)^\1``` *$", text, re.M | re.S)
    return [(language, textwrap.dedent(code)) for _, language, code in found]


def blocks(path: pathlib.Path, *languages: str) -> list[str]:
    found = fenced(path.read_text("utf-8"))
    return [code for language, code in found if language in languages]


def commands(code: str) -> list[str]:
    """Return what a script gives to `uqseg`, behind other words and in comments too."""
    code = code.replace("\\\n", " ")
    return re.findall(r"(?:^|[\s/;&|])uqseg (\w[^;&|#>\n]*)", code)


def filled(line: str, code: str) -> list[str]:
    """Return a command with its variables as the script sets them, and without them.

    In quotes a variable is one word whatever it holds, so it stays.
    """
    found = [line]
    for name, value in re.findall(r"(?:^|[\s;])(\w+)=([\w-]+)", code):
        variable = re.compile(rf" \${name}\b")
        found = [
            variable.sub(each, line) for line in found for each in (f" {value}", "")
        ]
    return sorted(set(found))


#: Long numbers on the pages, and what stands for them here.
SMALLER = {
    r"\bepochs=\d+": "epochs=1, verbose=0",
    r"\bnum_draws=\d+": "num_draws=2",
    r"\bnum_members=\d+": "num_members=2, base_filters=2, depth=2",
    r"\bnum_train_examples=1000\b": "num_train_examples=8",
    r'"vnet",': '"vnet", base_filters=2,',
}
ONCE = ("README.md", "docs/quickstart.md", "data/phantom/README.md")  # run below
WITH_CODE = [
    path for path in PAGES if blocks(path, "python") and name_of(path) not in ONCE
]
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


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_code_on_the_pages_is_python(path):
    for code in blocks(path, "python"):
        compile(code, path.name, "exec")
    for code in blocks(path, "json"):
        json.loads(code)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_block_escapes_for_its_language(path):
    text = path.read_text("utf-8")
    marks = re.findall(r"^ *(?:```+|~~~+).*$", text, re.M)
    assert len(marks) == 2 * len(fenced(text)), marks
    directives = [f"{{{name}}}" for name in DIRECTIVES]
    assert {language for language, _ in fenced(text)} <= {*LANGUAGES, *directives}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_on_the_pages_are_understood(path):
    for code in blocks(path, *SHELLS):
        assert len(commands(code)) == len(re.findall(r"(?<!`)\buqseg\b", code))
        for command in commands(code):
            for line in filled(command, code):
                assert cli.parser().parse_args(shlex.split(line)).command


def test_commands_are_found_wherever_they_stand_in_a_script():
    script = """\
# once: uqseg prepare A --out b  # not again
if [ -e run ]; then more=--resume; fi
  uqseg train A \\
    --out run $more && .venv/bin/uqseg demo
for case in a b; do uqseg predict run A --cases "$case" > log; done
"""
    found = [shlex.split(line) for line in commands(script)]
    assert found == [
        ["prepare", "A", "--out", "b"],
        ["train", "A", "--out", "run", "$more"],
        ["demo"],
        ["predict", "run", "A", "--cases", "$case"],
    ]
    assert filled("train A $more", script) == ["train A", "train A --resume"]
    assert filled('predict A --cases "$case"', script) == ['predict A --cases "$case"']


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_in_the_sentences_have_the_options_they_name(path, capsys):
    text = re.sub(r"^( *)```.*?^\1```", "", path.read_text("utf-8"), flags=re.M | re.S)
    for command, rest in re.findall(r"`uqseg\s([a-z]\w*)([^`]*)`", text):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0, command
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert set(re.findall(r"--[\w-]+", rest)) <= known, command


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_scripts_that_pages_run_are_there_and_know_their_options(path):
    said = "\n".join([*blocks(path, *SHELLS), *re.findall("`[^`]+`", path.read_text())])
    for script, rest in re.findall(
        r"python3? (?:-m )?(benchmarks\.\w+|[\w./]+\.py)([^\n`#&|]*)", said
    ):
        name = script if "/" in script else script.replace(".", "/") + ".py"
        source = (ROOT / name).read_text("utf-8")
        for module in re.findall(r"from benchmarks import ([\w, ]+)", source):
            for each in module.split(", "):
                source += (ROOT / f"benchmarks/{each}.py").read_text("utf-8")
        for option in re.findall(r"--[\w-]+", rest):
            assert f'"{option}"' in source or option == "--help", script


def test_files_that_contributors_are_told_of_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"[\w.]+/[\w./]+\.py\b|(?<![\w/])\.ci/\w+", text)
    assert {"tutorials/run.py", ".ci/run"} <= set(named)
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_contributors_are_told_what_executes_the_notebooks():
    contributing, script = (
        (ROOT / name).read_text("utf-8") for name in ("CONTRIBUTING.md", ".ci/run")
    )
    assert "`.venv/bin/python tutorials/run.py --check`" in contributing
    assert '/bin/python" tutorials/run.py --check' in script


def test_the_site_is_checked_for_its_index_and_its_inventory():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    pages = script.split('step "pages"')[1].split("\nstep ")[0]
    build, check = pages.index("sphinx-build"), pages.index("test -s")
    assert build < check
    assert "for file in objects.inv searchindex.js; do" in pages[build:check]


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


@pytest.mark.slow
def test_the_committed_study_is_what_its_page_says_how_to_make(tmp_path, monkeypatch):
    folder = ROOT / "data" / "phantom"
    (code,) = blocks(folder / "README.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    places = (tmp_path / "data" / "phantom", folder)
    made, kept = (
        sorted(path.name for path in place.rglob("*.nii.gz")) for place in places
    )
    assert made == kept
    made, kept = (brats.find_cases(place)[0].load().labels for place in places)
    assert np.mean(made != kept) < 1e-4  # why not 0, `test_phantom` says


def test_the_readme_has_the_two_commands():
    demo, tests, *_ = blocks(ROOT / "README.md", "sh")
    assert demo.endswith(".venv/bin/uqseg demo\n")
    assert tests.endswith(" -m pytest -n 2 --dist loadfile\n")
    assert all(command.startswith("python3 -m venv") for command in (demo, tests))


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
        (r"a, \dots", "<mi>a</mi><mo>,</mo><mo>…</mo>"),
        (r"a := b", "<mi>a</mi><mo>≔</mo><mi>b</mi>"),
        (r"\{a\|b\}", "<mo>{</mo><mi>a</mi><mo>‖</mo><mi>b</mi><mo>}</mo>"),
    ],
)
def test_formulas_are_set_as_by_tex(extension, formula, expected):
    from docutils.utils.math import latex2mathml

    mathml = extension("mathml").mend(latex2mathml.tex2mathml(formula))
    mathml = re.sub(r" (accent|stretchy|width|xmlns)=\"[^\"]*\"|\n *", "", mathml)
    assert mathml == f"<math>{expected}</math>"


def test_a_long_formula_in_a_line_parts_behind_its_relations_and_signs(extension):
    from docutils.utils.math import latex2mathml

    def letters(formula):
        mathml = extension("mathml")
        found = mathml.pieces(mathml.mend(latex2mathml.tex2mathml(formula)))
        return [re.sub(r"<[^>]*>|\s", "", piece) for piece in found]

    assert letters("a = b") == ["a=b"]
    minus = "\N{MINUS SIGN}"
    parts = [f"{minus}f(a=1)+", "g(b,c)=", f"d{minus}", "e"]
    assert letters("-f(a = 1) + g(b, c) = d - e") == parts


def formulas(text: str) -> list[str]:
    text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", text, flags=re.M | re.S)
    text = re.sub(r"`[^`]*`", "", text)
    found = re.findall(r"\$\$(.+?)\$\$|\$(\S(?:[^$]*?\S)?)\$", text, re.S)
    return [block or inline for block, inline in found]


def prose(path: pathlib.Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    kept = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(lines) for lines in kept)


@pytest.mark.parametrize(
    "path", [*PAGES, *sorted((ROOT / "tutorials").glob("*.ipynb"))], ids=name_of
)
def test_every_formula_can_be_set(path, extension):
    from docutils.utils.math import latex2mathml

    mathml = extension("mathml")
    for formula in formulas(prose(path)):
        assert "<math" in mathml.mend(latex2mathml.tex2mathml(formula)), formula


def test_formulas_are_found():
    text = "Of $a$ and $b_1,\nc$,\n\n$$\nd = e\n$$\n\nnot `$f$`.\n\n"
    assert formulas(f"{text}```sh\necho $g $h\n```\n") == ["a", "b_1,\nc", "\nd = e\n"]


def test_lines_break_at_the_joints_of_long_names_and_not_in_intervals(extension):
    set_breaks = extension("breaks").set_breaks
    code = '<code class="docutils literal">{}</code>'
    assert set_breaks(code.format("a_name")) == code.format("a_name")
    assert set_breaks(code.format("{case}_mean_of.nii.gz")) == code.format(
        "{case}_<wbr>mean_<wbr>of.<wbr>nii.<wbr>gz"
    )
    name = '<span class="sig-{}"><span class="pre">{}</span></span>'
    for kind, shown, broken in (
        ("prename descclassname", "a.b_c.", "a.<wbr>b_<wbr>c.<wbr>"),
        ("name descname", "mean_of", "mean_<wbr>of"),
        ("name descname", "_private", "_private"),
    ):
        assert set_breaks(name.format(kind, shown)) == name.format(kind, broken)
    for number in ("80 %", ".5 %", "Eq. 18", "8 x 128 x 128", "0.1 to 2.5e-05"):
        assert set_breaks(f"<p>by {number}, so</p>") == (
            f'<p>by <span class="unbroken">{number}</span>, so</p>'
        )
    script = '<div class="highlight-sh notranslate"><pre>do {}</pre></div>'
    assert set_breaks(script.format("--all")) == script.format(
        '<span class="unbroken">--all</span>'
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
    for name, place in {
        "flair": "images/flair/A.nii.gz",
        "t1ce": "images/t1ce/A.nii.gz",
        "seg": "labels/A_mask.nii.gz",
    }.items():
        (folder / "studies" / place).parent.mkdir(parents=True)
        shutil.copyfile(
            folder / f"BraTS2021/BraTS2021_00000/BraTS2021_00000_{name}.nii.gz",
            folder / "studies" / place,
        )
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
@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs(path: pathlib.Path, given, monkeypatch):
    folder, names = given
    monkeypatch.chdir(folder)
    names = {**names, "__name__": path.stem}
    for code in blocks(path, "python"):
        for shown, small in SMALLER.items():
            code = re.sub(shown, small, code)
        exec(compile(code, path.name, "exec"), names)
