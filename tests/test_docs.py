"""The pages and the README say what is so."""

from __future__ import annotations

import pathlib
import re
import shlex

import pytest

from tfp_uqseg import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: pathlib.Path, language: str) -> list[str]:
    text = path.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


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
    assert not [name for name in targets if not (path.parent / name).exists()]
