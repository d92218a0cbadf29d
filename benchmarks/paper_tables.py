"""The tables of the paper, made by `uqseg reproduce` and kept for the documentation.

The command goes on where it was stopped, when it is given the same folders again.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

from benchmarks import measuring, out_of_fold
from tfp_uqseg import _files

QUESTION = "What do the paper's tables look like, made alike for every method?"
NAME = "paper_tables"
PAGES = out_of_fold.PAGE.with_name("paper")


def main() -> None:
    """Run what is left of the reproduction, then keep its tables."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--regions", nargs=1, default=["tumour"])
    parser.add_argument("--shifted-group", default="HT")
    options = parser.parse_args()
    start = time.monotonic()
    words = ["--scale", "small", "--regions", *options.regions]
    words += ["--shifted-group", options.shifted_group]
    out_of_fold.command(
        "reproduce", str(options.data), "--out", str(options.work), *words
    )
    result = {
        "name": NAME,
        "question": QUESTION,
        "machine": measuring.machine(),
        "minutes": (time.monotonic() - start) / 60,
        "tables": tables(options.work / "tables"),
    }
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages(result).items():
        (PAGES / name).write_text(text, encoding="utf-8")


def tables(folder: pathlib.Path) -> dict[str, str]:
    """Return the tables of a reproduction in Markdown, by name."""
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def pages(result: dict) -> dict[str, str]:
    """Return the pages' parts by file name: every table, and where they were made."""
    machine = result["machine"]
    where = (
        f"{machine['cores']} cores of {machine['processor']}, "
        f"{result['minutes']:.0f} minutes"
    )
    parts = {f"{name}.md": text for name, text in result["tables"].items()}
    return {**parts, "machine.md": f"{where}.\n"}


def read() -> dict:
    """Return what was kept when the tables were last made."""
    return json.loads((measuring.RESULTS / f"{NAME}.json").read_text("utf-8"))


if __name__ == "__main__":
    main()
