"""Says where a line may break: in long names, not in intervals or behind formulas.

Nor between a number and what it belongs to: `80 %`, `Eq. 6`, `128 x 128`, `1 to 2`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_CODE = re.compile(r'(<code class="[^"]*docutils literal[^"]*">)(.*?)(</code>)', re.S)
_SIGNATURE = re.compile(
    r'(<span class="sig-(?:pre)?name [^"]*"><span class="pre">)([^<]*)(</span>)'
)
_COMMANDS = re.compile(r'<div class="highlight-(?:sh|bash) .*?</pre>', re.S)
_OPTION = re.compile(r"(?<![\w-])--\w[\w-]*")
_JOINT = re.compile(r"(?<=[\w}])([_./=])(?=[\w{])")
_FORMULA = re.compile(r"(<math (?:(?!</math>).)*</math>[,.;:)?]+)", re.S)
_SHORT = 16
_TAG = re.compile(r"(<[^>]*>)")
_NUMBER = re.compile(
    r"[\d.]+ %(?!\w)|\b(?:Eq|Fig)\. \d+(?:\.\d+)?|\b\d+(?: x \d+)+\b"
    r"|\b\d[\d.]*(?:e-\d+)? to \d(?:[\d.]*\d)?(?:e-\d+)?(?!\w)"
)
_INTERVAL = re.compile(r"\[[-+\u2212]?\.?\d[\d.]*,[ \u00a0][-+\u2212]?\.?\d[\d.]*\]")


def set_breaks(body: str) -> str:
    """Return the body of a page with its breaks."""
    body = _FORMULA.sub(r'<span class="unbroken">\1</span>', body)
    body = _CODE.sub(lambda code: code[1] + _joints(code[2]) + code[3], body)
    body = _COMMANDS.sub(lambda code: _outside_tags(code[0], _keep_options), body)
    body = _SIGNATURE.sub(lambda name: name[1] + _parts(name[2]) + name[3], body)
    return _outside_tags(body, _keep_whole)


def _joints(code: str) -> str:
    def change(text: str) -> str:
        if len(text) > _SHORT:
            text = _JOINT.sub(r"\1<wbr>", text)
        return _keep_options(text)

    return _outside_tags(code, change)


def _keep_options(text: str) -> str:
    return _OPTION.sub(r'<span class="unbroken">\g<0></span>', text)


def _parts(name: str) -> str:
    """Return a name in a signature, which may be parted wherever it has a joint."""
    return re.sub(r"(?<=\w)[._](?=\w)|\.$", r"\g<0><wbr>", name)


def _keep_whole(text: str) -> str:
    text = _NUMBER.sub(r'<span class="unbroken">\g<0></span>', text)
    return _INTERVAL.sub(r'<span class="interval">\g<0></span>', text)


def _outside_tags(html: str, change) -> str:
    parts = _TAG.split(html)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def setup(app: Sphinx) -> dict:
    """Register what is done to every page."""

    def on_page(app, pagename, templatename, context, doctree):
        if "body" in context:
            context["body"] = set_breaks(context["body"])

    app.connect("html-page-context", on_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
