"""The paper's tables on real patients, as `uqseg reproduce` makes them.

The command is given its folder again after a stop, and goes on with the networks that
are missing.
"""

from __future__ import annotations

import argparse
import pathlib
import time

from benchmarks import measuring, out_of_fold
from tfp_uqseg import _files

QUESTION = "What do the paper's tables become when every method is trained alike?"
NAME = "paper_tables"
PAGES = out_of_fold.PAGE.with_name("paper")


def main() -> None:
    """Run what is left of the reproduction, then keep its tables."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("data", type=pathlib.Path, help="folder of labelled studies")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="its folder")
    parser.add_argument("--region", default="tumour")
    parser.add_argument("--shifted-group", default="HT")
    options = parser.parse_args()
    whole, start = not options.work.exists(), time.monotonic()
    words = [str(options.data), "--out", str(options.work), "--scale", "small"]
    words += ["--regions", options.region, "--shifted-group", options.shifted_group]
    out_of_fold.command("reproduce", *words)
    minutes = (time.monotonic() - start) / 60 if whole else None
    keep(options.work, minutes)


def keep(folder: pathlib.Path, minutes: float | None) -> None:
    """Keep the tables of a reproduction as JSON, and write them for the documentation.

    Args:
        folder: Of the reproduction.
        minutes: How long all of it took; None if it was stopped in between.
    """
    result = {
        "name": NAME,
        "question": QUESTION,
        "machine": measuring.machine(),
        "minutes": minutes,
        "tables": {
            path.stem: _without_title(path.read_text("utf-8"))
            for path in sorted((folder / "tables").glob("*.md"))
        },
    }
    _files.write_json(measuring.RESULTS / f"{NAME}.json", result)
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages(result).items():
        (PAGES / name).write_text(text, encoding="utf-8")


def _without_title(text: str) -> str:
    return text[text.index("|") :]


def pages(result: dict) -> dict[str, str]:
    """Return parts of the documentation by file name: every table, and the machine."""
    machine, minutes = result["machine"], result["minutes"]
    place = f"On {machine['cores']} cores of {machine['processor']}"
    taken = "" if minutes is None else f", {minutes:.0f} minutes in all"
    parts = {f"{name}.md": text for name, text in result["tables"].items()}
    return {**parts, "machine.md": f"{place}{taken}.\n"}


def read() -> dict:
    """Return what was kept when the tables were last made."""
    return measuring.read(NAME)


if __name__ == "__main__":
    main()
