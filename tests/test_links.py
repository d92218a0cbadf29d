"""Links, checked without a network.

Of a link inside the repository a test can know that its file is there, and the heading
that it names. Whether a page elsewhere is still there it cannot know, but that its
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


#: A link to a file, with or without a heading; pictures too.
LOCAL = re.compile(r"\]\((?!https?:|mailto:)<?([^)#\s>]*)(?:#([^)\s>]*))?[^)]*\)")


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


def without_code(text: str) -> str:
    text = re.sub(r"^( *)(```+).*?^\1\2 *$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), text)


def whole(path: pathlib.Path) -> str:
    """Return a page with the pages that it includes, as its readers get it."""

    def other(found: re.Match) -> str:
        text = whole((path.parent / found[1]).resolve())
        start = re.search(r'^:start-after: "(.*)"$', found[2], re.M)
        return text.split(start[1], 1)[1] if start else text

    text = path.read_text("utf-8")
    return re.sub(
        r"^```\{include\} (\S+\.md)\n(.*?)^```$", other, text, flags=re.M | re.S
    )


def headings(path: pathlib.Path) -> set[str]:
    """Return what links may name on a page, as GitHub and MyST write it.

    A second heading of the same words gets a number.
    """
    text = without_code(whole(path))
    names = set(re.findall(r"^\(([\w-]+)\)=$", text, re.M))
    # MyST is told to look three levels deep.
    for words in re.findall(r"^#{1,3} +(.+?) *#*$", text, re.M):
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        copies = (f"{name}-{number}" if number else name for number in range(99))
        names.add(next(each for each in copies if each not in names))
    return names


def leads_somewhere(path: pathlib.Path, name: str, heading: str) -> bool:
    places = [path.parent]
    if path.parent == ROOT / "docs" / "tutorials":
        places.append(ROOT / "tutorials")  # the pages' copies come with a build
    target = next((each / name for each in places if (each / name).exists()), None)
    if not name:
        target = path
    if target is None or not heading:
        return target is not None
    return target.suffix == ".md" and heading in headings(target.resolve())


PAGES = [path for path in sources() if path.suffix == ".md"]
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


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_link_inside_the_repository_leads_somewhere(path):
    links = LOCAL.findall(without_code(path.read_text("utf-8")))
    assert not [link for link in links if not leads_somewhere(path, *link)]


def test_local_links_are_found_and_broken_ones_too(tmp_path):
    names = {path.relative_to(ROOT).as_posix() for path in PAGES}
    assert {"CONTRIBUTING.md", "data/README.md", "benchmarks/README.md"} <= names
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# A title, `code` & more\n\n## Twice\n\n## Twice\n\n#### Deep\n")
    page.write_text(
        "(here)=\n# Top\n\n```{include} other.md\n```\n\n```sh\n# no\n```\n"
    )
    assert headings(other) == {"a-title-code--more", "twice", "twice-1"}
    assert headings(page) == headings(other) | {"here", "top"}
    text = "[a](other.md#twice) ![b](b.png) [c](#top) `[d](e)` [f](https://g.h/i)"
    assert LOCAL.findall(without_code(text)) == [
        ("other.md", "twice"),
        ("b.png", ""),
        ("", "top"),
    ]
    assert leads_somewhere(page, "other.md", "twice")
    assert leads_somewhere(page, "", "top")
    assert not leads_somewhere(page, "other.md", "deep")
    assert not leads_somewhere(page, "b.png", "")
    assert not leads_somewhere(page, "", "no")


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
