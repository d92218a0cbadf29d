"""Writes docs/performance.md, and a table of another page, from the JSON files."""

from __future__ import annotations

import json
import pathlib

from benchmarks import measuring

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "performance.md"
COMPARISON = PAGE.parent / "_generated" / "comparison_speed.md"
#: In the order of the page, with the words above each table.
SECTIONS = {
    "training_step": "A training step",
    "step_parts": "What a step is made of",
    "draws": "Draws",
    "memory": "Memory",
    "precision": "bfloat16",
    "whole_study": "Whole studies",
    "shards": "Shards",
    "qu_brats": "The QU-BraTS score",
    "gpu": "On a GPU",
}
#: Networks of the table in docs/comparison.md, by their name in the results.
COMPARED = {
    "deterministic": "`tfp_uqseg`, deterministic",
    "flipout": "`tfp_uqseg`, Flipout",
    "stock tfp.layers": "stock `tfp.layers`, Flipout",
    "PyTorch deterministic": "PyTorch, deterministic",
    "PyTorch bayesian_torch": "bayesian-torch, Flipout",
    "PyTorch torch_uncertainty": "torch-uncertainty, `BayesConv2d`",
}
_HEAD = """\
# Performance

Made by `python -m benchmarks.page` from the JSON files that the benchmarks write; no
number on this page was typed. Everything in a table was measured in one run, the
competitors in turn, round by round; a ratio is the median of the rounds' ratios, with
the range in brackets. Seconds depend on the machine, ratios much less.

"""


def main() -> None:
    """Write the page and the table."""
    results = read()
    for path, words in ((PAGE, text(results)), (COMPARISON, comparison(results))):
        path.write_text(words, encoding="utf-8")
        print(f"written to {path}")


def read(folder: pathlib.Path = measuring.RESULTS) -> dict[str, dict]:
    """Return the results by name, those that are there."""
    found = {}
    for name in SECTIONS:
        path = folder / f"{name}.json"
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def text(results: dict[str, dict]) -> str:
    """Return the page in Markdown."""
    parts = [_HEAD, _machines(results), _overview(results)]
    for name, title in SECTIONS.items():
        parts.append(f"## {title}\n\n")
        if name in results:
            parts.append(_section(results[name]))
        else:
            parts.append(
                f"Not measured yet. `python -m benchmarks.{name} --help` says how; "
                "`python -m benchmarks.page` then adds it here.\n\n"
            )
    return "".join(parts).rstrip() + "\n"


def comparison(results: dict[str, dict]) -> str:
    """Return the speeds of every network, in every precision it was measured in."""
    step, draw = results["training_step"], results["draws"]
    medians = [
        {row["name"]: row["median"] for row in each["rows"]} for each in (step, draw)
    ]
    rows = []
    for network, label in COMPARED.items():
        for precision in ("float32", "bfloat16"):
            name = f"{network}, {precision}"
            if any(name in each for each in medians):
                seconds = (_seconds(each.get(name)) for each in medians)
                rows.append((f"{label}, {precision}", *seconds))
    settings = step["settings"]
    size = " x ".join(map(str, settings["input"]))
    batches = f"one draw of {draw['settings']['batches']} such batches"
    lines = [
        f"The same U-Net, {settings['base_filters']} base filters, input {size}, "
        f"{step['machine']['cores']} cores; medians in seconds:\n",
        *_table(("", "training step", batches), rows),
    ]
    return "\n".join(lines) + "\n"


def _machines(results: dict[str, dict]) -> str:
    lines = set()
    for result in results.values():
        machine = result["machine"]
        extras = ", ".join(machine["instructions"]) or "none of them"
        lines.add(f"{machine['processor']}, {machine['cores']} cores ({extras})")
    versions: dict[str, str] = {}
    for result in results.values():
        versions.update({k: v for k, v in result["versions"].items() if v != "absent"})
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Measured on: {'; '.join(sorted(lines))}. {listed}.\n\n"


def _overview(results: dict[str, dict]) -> str:
    """Return the table of every ratio that has a bound."""
    lines = ["| | what | measured | bound | |", "|---|---|---|---|---|"]
    for name, result in results.items():
        for ratio in result["ratios"]:
            if ratio["bound"] is None:
                continue
            sign = "at most" if ratio["at_most"] else "at least"
            words = {True: "met", False: "**missed**", None: "not measured"}
            bound = _unbroken(f"{sign} {ratio['bound']:g}")
            row = (SECTIONS[name], ratio["name"], _number(ratio), bound)
            lines.append(f"| {' | '.join(row)} | {words[ratio['met']]} |")
    return "## Bounds\n\n" + "\n".join(lines) + "\n\n"


def _section(result: dict) -> str:
    lines = [f"{result['question']}\n", f"```sh\n{result['command']}\n```\n"]
    if result["settings"]:
        said = "; ".join(
            f"{k.replace('_', ' ')}: {v}" for k, v in result["settings"].items()
        )
        lines.append(f"{said[0].upper()}{said[1:]}.\n")
    rows = [
        (row["name"], _short(row["median"]), _span(row), row["unit"], row["note"])
        for row in result["rows"]
    ]
    lines += _table(("", "median", "range", "unit", ""), rows)
    if result["ratios"]:
        rows = [
            (each["name"], _number(each), each["note"]) for each in result["ratios"]
        ]
        lines += ["", *_table(("ratio", "median [range]", ""), rows)]
    return "\n".join(lines) + "\n\n"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, without the columns that are empty."""
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    lines = [tuple(heads), ("---",) * len(heads), *rows]
    return [f"| {' | '.join(line[place] for place in kept)} |" for line in lines]


def _span(row: dict) -> str:
    if row["low"] is None:
        return ""
    return f"{_short(row['low'])} to {_short(row['high'])}"


def _number(item: dict) -> str:
    if item["median"] is None:
        return "-"
    low, high = _short(item["low"]), _short(item["high"])
    return f"{_short(item['median'])} {_unbroken(f'[{low}, {high}]')}"


def _unbroken(text: str) -> str:
    """Return words that no browser parts at the end of a line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:#.3g}"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
