"""The page of a reproduction: sections into `index.md` and one self-contained HTML."""

from __future__ import annotations

import base64
import dataclasses
import html
import pathlib
import re
from collections.abc import Sequence

from tfp_uqseg import _files
from tfp_uqseg.experiments import reproduce_tables, tables

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0;
  font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; }
.words { text-align: left; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; }
code { background: #f2f2f2; padding: 0 0.2em; }
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        paragraphs: Text above table and figure; backticks mark code.
        table: A table, or None.
        figure: Name of the files of a figure, without ending, or None.
        notes: Text below table and figure: reasons.
    """

    title: str
    paragraphs: Sequence[str] = ()
    table: reproduce_tables.Table | None = None
    figure: str | None = None
    notes: Sequence[str] = ()


def write(
    folder: pathlib.Path, title: str, lead: Sequence[str], sections: Sequence[Section]
) -> pathlib.Path:
    """Write the tables and the page; the figures must be in ``figures`` already.

    Args:
        folder: Gets ``tables``, ``index.md`` and ``index.html``.
        title: Of the page.
        lead: Paragraphs below the title.
        sections: What follows.

    Returns:
        The path of ``index.md``.
    """
    place = folder / "tables"
    place.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if section.table is not None:
            stem = section.table.name
            _files.write_text(place / f"{stem}.csv", section.table.csv())
            text = f"{section.table.title}\n\n{section.table.markdown()}\n"
            _files.write_text(place / f"{stem}.md", text)
    _files.write_text(folder / "index.md", markdown(title, lead, sections))
    _files.write_text(folder / "index.html", as_html(folder, title, lead, sections))
    return folder / "index.md"


def markdown(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the page as Markdown."""
    parts = [f"# {title}", *lead]
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        if section.table is not None:
            parts += [f"**{section.table.title}**", section.table.markdown()]
        if section.figure is not None:
            parts.append(f"![{section.title}](figures/{section.figure}.png)")
        parts += section.notes
    return "\n\n".join(parts) + "\n"


def as_html(
    folder: pathlib.Path, title: str, lead: Sequence[str], sections: Sequence[Section]
) -> str:
    """Return the page as one HTML file that holds its figures."""
    parts = [f"<h1>{html.escape(title)}</h1>", *map(_paragraph, lead)]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts += map(_paragraph, section.paragraphs)
        if section.table is not None:
            parts.append(f"<p><b>{html.escape(section.table.title)}</b></p>")
            parts.append(_html_table(section.table.rows))
        if section.figure is not None:
            png = (folder / "figures" / f"{section.figure}.png").read_bytes()
            code = base64.b64encode(png).decode("ascii")
            name = html.escape(section.title, quote=True)
            parts.append(f'<img alt="{name}" src="data:image/png;base64,{code}">')
        parts += map(_paragraph, section.notes)
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if all(line.startswith("- ") for line in lines):
        items = "\n".join(f"<li>{_inline(line[2:])}</li>" for line in lines)
        return f"<ul>\n{items}\n</ul>"
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)


def _html_table(rows) -> str:
    rows = [[str(cell) for cell in row] for row in rows]
    kinds = [' class="words"' if words else "" for words in tables.hold_words(rows)]
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = "".join(
            f"<{tag}{kind}>{_unbroken(html.escape(cell))}</{tag}>"
            for cell, kind in zip(row, kinds, strict=True)
        )
        lines.append(f"<tr>{cells}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _unbroken(text: str) -> str:
    """Keep the two ends of an interval on one line."""
    return re.sub(r"\[[^\]]*\]", lambda ends: ends[0].replace(" ", "&nbsp;"), text)
