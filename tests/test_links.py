"""Links that leave the repository, checked without a network.

Whether a page is still there a test without a network cannot know. It can know that an
address is whole, of a site that the project means to send its readers to, and that two
places name one paper in one way.
"""

from __future__ import annotations

import json
import pathlib
import re
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"\bhttps?://[^\s<>\"'`\\|{}\])]+")
#: Sites that pages may lead to, and the form of an address there.
SITES = {
    "arxiv.org": r"/abs/\d{4}\.\d{4,5}(v\d+)?",
    "doi.org": r"/10\.\d{4,9}/\S+",
    "docs.python.org": r"/3/.*",
    "github.com": r"/[\w.-]+/[\w.-]+(/(issues|pull|blob|tree|releases)/.+)?",
    "keepachangelog.com": r"/en/\d+\.\d+\.\d+/",
    "keras.io": r"/2/api/.*",
    "matplotlib.org": r"/stable/.*",
    "nipy.org": r"/nibabel/.*",
    "numpy.org": r"/doc/stable/.*",
    "semver.org": r"/.*",
    "tqdm.github.io": r"/docs/.*",
    "www.tensorflow.org": r"/(probability/)?api_docs/python/.*",
}
#: Addresses that are no links: names of formats.
NAMES = ("http://www.w3.org/",)


def sources() -> list[pathlib.Path]:
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    pages += [ROOT / "CITATION.cff", ROOT / "setup.cfg", ROOT / "docs" / "conf.py"]
    for folder, ending in (
        ("docs", "md"),
        ("docs", "rst"),
        ("docs", "bib"),
        ("data", "md"),
        ("benchmarks", "md"),
        ("tfp_uqseg", "py"),
        ("tutorials", "ipynb"),
    ):
        pages += sorted((ROOT / folder).rglob(f"*.{ending}"))
    return pages


def text_of(path: pathlib.Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def addresses(path: pathlib.Path) -> list[str]:
    found = (match.rstrip(".,;:") for match in ADDRESS.findall(text_of(path)))
    return [each for each in found if not each.startswith(NAMES)]


PATHS = [path for path in sources() if addresses(path)]


def test_addresses_are_found():
    assert ROOT / "README.md" in PATHS
    assert ROOT / "docs" / "references.bib" in PATHS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_an_address_is_whole_and_of_a_known_site(path):
    for address in addresses(path):
        parts = urllib.parse.urlsplit(address)
        assert parts.scheme == "https", address
        assert parts.hostname in SITES, address
        assert re.fullmatch(SITES[parts.hostname], parts.path), address


def test_a_paper_is_named_by_its_arxiv_number_in_one_way():
    for entry in (ROOT / "docs" / "references.bib").read_text("utf-8").split("\n@"):
        numbers = re.findall(r"\d{4}\.\d{5}(?=\D)", entry)
        assert len(set(numbers)) <= 1, entry


def test_the_inventories_lead_to_whole_addresses():
    base = dict(
        re.findall(r'"(\w+)": "(https://[^"]+)"', text_of(ROOT / "docs" / "conf.py"))
    )
    lists = sorted((ROOT / "docs" / "inventories").glob("*.txt"))
    assert {path.stem for path in lists} == set(base)
    for path in lists:
        lines = path.read_text("utf-8").splitlines()
        assert lines == sorted(set(lines)), path.name
        for line in lines:
            _, role, place = line.split()
            assert re.fullmatch(r"py:\w+", role), line
            assert base[path.stem].endswith("/")
            assert not place.startswith("/")
            parts = urllib.parse.urlsplit(base[path.stem] + place)
            assert re.fullmatch(SITES[parts.hostname or ""], parts.path), line
