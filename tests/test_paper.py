"""Every equation of the paper has a place on its page and one in the code."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "concepts" / "paper.md").read_text("utf-8")
EQUATIONS = range(1, 23)
#: "Eq. 4", "Eq. 10 and 11", "Eq. 16-18"; not those of other papers.
CITATION = re.compile(r"(?<!\d{4}, )\bEq\.\s+(\d+)(?:(-| and |, )(\d+))?")


def cited(text: str) -> set[int]:
    found = set()
    for first, joint, last in CITATION.findall(text):
        numbers = [int(first), int(last or first)]
        found |= set(range(numbers[0], numbers[1] + 1) if joint == "-" else numbers)
    return found


def docstrings() -> dict[str, str]:
    """Docstrings of the package's functions and classes, by where they stand."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": ast.get_docstring(node)
        for path in sorted((ROOT / "tfp_uqseg").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, kinds) and ast.get_docstring(node)
    }


DOCSTRINGS = {place: cited(text) for place, text in docstrings().items()}


def test_citations_are_read_as_they_are_written():
    assert cited("(Eq. 16-18 of it), Eq. 4, Eq. 10 and 11") == {4, 10, 11, 16, 17, 18}
    assert cited("(Wen et al. 2018, Eq. 4)") == set()


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_is_cited_by_a_docstring(number):
    assert [place for place, numbers in DOCSTRINGS.items() if number in numbers]


@pytest.mark.parametrize("number", EQUATIONS)
def test_an_equation_has_a_section_that_names_its_place_in_the_code(number):
    sections = re.findall(rf"^### Eq\. {number}: (.*?)(?=^##)", PAGE, re.M | re.S)
    assert len(sections) == 1
    assert "$$" in sections[0]
    assert "**Here:**" in sections[0]
    assert re.search(r"\{py:\w+\}`tfp_uqseg\.", sections[0])


def test_sections_stand_in_the_order_of_the_paper():
    order = [int(number) for number in re.findall(r"^### Eq\. (\d+):", PAGE, re.M)]
    assert order == list(EQUATIONS)


def test_no_equation_is_cited_that_the_paper_does_not_have():
    for place, numbers in {**DOCSTRINGS, "page": cited(PAGE)}.items():
        assert numbers <= set(EQUATIONS), place
