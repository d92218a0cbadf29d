"""What every committed notebook keeps to; `tutorials/run.py --check` executes them."""

from __future__ import annotations

import ast
import json
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tutorials"
PATHS = sorted(FOLDER.glob("*.ipynb"))
ABSOLUTE_PATH = re.compile(r"(?<![\w./])/(?:home|root|tmp|usr|opt|var|work|Users)/\w")

MAX_CELLS = 25
MAX_BYTES = 2**20
MAX_FUNCTION_LINES = 10


@pytest.fixture(params=PATHS, ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.fixture
def cells(path):
    return json.loads(path.read_text("utf-8"))["cells"]


@pytest.fixture
def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_names_are_numbered_in_order():
    numbers = [int(path.name[:2]) for path in PATHS]
    assert numbers == list(range(1, len(PATHS) + 1))


def test_a_notebook_is_small(path, cells):
    assert len(cells) <= MAX_CELLS
    assert path.stat().st_size <= MAX_BYTES


def test_it_was_run_from_top_to_bottom(code):
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))


def test_no_output_is_an_error_or_standard_error(code):
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [each for each in outputs if each["output_type"] == "error"]
    assert not [each for each in outputs if each.get("name") == "stderr"]


def test_it_names_no_path_of_the_machine_that_ran_it(path):
    assert not ABSOLUTE_PATH.findall(path.read_text("utf-8"))


def test_it_begins_with_a_question_and_ends_with_what_was_learnt(cells):
    first, last = "".join(cells[0]["source"]), "".join(cells[-1]["source"])
    assert "**Question.**" in first
    assert "**Time.**" in first
    assert "What we learnt" in last
    assert "Next" in last


def test_notebooks_that_it_names_exist_and_it_leads_to_the_next(path, cells):
    text = "".join("".join(cell["source"]) for cell in cells)
    names = [each.name for each in PATHS]
    assert set(re.findall(r"\b\d\d_\w+\.ipynb", text)) <= set(names)
    following = names[names.index(path.name) + 1 :][:1]
    assert all(
        f"**Next.** `{name}`" in "".join(cells[-1]["source"]) for name in following
    )


def test_it_says_how_to_install_and_how_to_use_studies_of_ones_own(cells):
    first = "".join(cells[0]["source"])
    # Alone it finds no package of this name in a registry: it brings its wheel.
    assert "`pip wheel --no-deps .`" in first
    assert "`%pip install tfp_uqseg-*.whl`" in first
    assert '`pip install -e ".[notebooks]"`' in first
    text = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert "BraTS folder" in text


def test_it_warns_and_sets_exercises_with_folded_solutions(cells):
    text = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert "**What could go wrong.**" in text
    assert "## Exercises" in text
    assert 2 <= text.count("<details>") == text.count("</details>") <= 4
    assert text.count("<summary>Solution") == text.count("<details>")


def test_the_code_of_a_cell_of_exercises_lies_in_its_solutions(cells):
    """`run.py` executes what is folded: no other code may stand in the text."""
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and "<details>" in text:
            folded = "".join(re.findall(r"<details>.*?</details>", text, re.DOTALL))
            blocks = re.findall(r"```python\n(.*?)```", folded, re.DOTALL)
            assert len(blocks) == text.count("```python")
            for block in blocks:
                ast.parse(block)


def test_one_cell_holds_the_parameters_and_their_small_values(code):
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    names = [
        {target.id for node in ast.parse(text).body for target in node.targets}
        for text in ("".join(tagged[0]["source"]), tagged[0]["metadata"]["small"])
    ]
    assert names[0] == names[1]


def test_long_functions_are_in_the_package(code):
    for cell in code:
        lines = [line for line in cell["source"] if not line.startswith("%")]
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES
