"""Renders formulas as MathML, which browsers show without a script or a network."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import latex2mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
_ACCENTS = frozenset(latex2mathml.accents.values())
_APPLY = "\N{FUNCTION APPLICATION}"
# docutils knows its relatives, not the one that everybody writes.
latex2mathml.operators.setdefault("dots", latex2mathml.operators["dotsc"])
_JOINTS = frozenset("+\u2212=\u2254\u2248\u2264\u2265\u223c\u2192<>")
_LONG = 12
ElementTree.register_namespace("", _NAMESPACE)


def mend(mathml: str) -> str:
    r"""Set what docutils sets otherwise than TeX: `\hat p_i`, `\log p` and `:=`.

    An index of an accented letter stands beside it and not below, a function keeps a
    thin space from its neighbours, the two signs of a definition stand as one, and a
    brace or double bar that nobody asked to stretch does not.
    """
    root = ElementTree.fromstring(mathml.replace("&ApplyFunction;", _APPLY))
    for parent in list(root.iter()):
        _join_definitions(parent)
        _space_functions(parent)
        _keep_height(parent)
        for place, child in enumerate(parent):
            if child.tag == _tag("munderover") and child[2].text in _ACCENTS:
                parent[place] = _indexed(child)
    for power in root.iter(_tag("msup")):
        if power[0].tag == _tag("msub"):
            power.tag, power[:1] = _tag("msubsup"), list(power[0])
    return ElementTree.tostring(root, encoding="unicode")


def pieces(mathml: str) -> list[str]:
    """Return a formula of the text in pieces between which a line may end.

    As in TeX, behind a relation or a sum's sign outside brackets; browsers do not part
    what is one.
    """
    root = ElementTree.fromstring(mathml)
    if len(root) <= _LONG:
        return [mathml]
    found, depth = [[]], 0
    for child in root:
        found[-1].append(child)
        sign = child.text or ""
        depth += (sign in tuple("([{")) - (sign in tuple(")]}"))
        joint = child.tag == _tag("mo") and sign in _JOINTS
        if joint and depth == 0 and len(found[-1]) > 1:
            found.append([])
    parts = [ElementTree.Element(root.tag, root.attrib) for _ in found]
    for part, children in zip(parts, found, strict=True):
        part.extend(children)
    return [
        ElementTree.tostring(part, encoding="unicode") for part in parts if len(part)
    ]


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"


def _indexed(child: ElementTree.Element) -> ElementTree.Element:
    letter, index, accent = child
    mended = ElementTree.Element(_tag("msub"))
    over = ElementTree.SubElement(mended, _tag("mover"), accent="true")
    over.extend([letter, accent])
    mended.append(index)
    mended.tail = child.tail
    return mended


def _join_definitions(parent: ElementTree.Element) -> None:
    for first, second in zip(list(parent), list(parent)[1:], strict=False):
        if (first.text, second.text) == ("\N{RATIO}", "="):
            first.text = "\N{COLON EQUALS}"
            parent.remove(second)


def _space_functions(parent: ElementTree.Element) -> None:
    children = list(parent)
    for place, child in enumerate(children):
        if child.text != _APPLY:
            continue
        if place > 1 and _ends(children[place - 2]):
            _insert_space(parent, children[place - 1], 0)
        following = children[place + 1 : place + 2]
        if following and not _opens(following[0]):
            _insert_space(parent, child, 1)


def _keep_height(parent: ElementTree.Element) -> None:
    # An `mrow` begins and ends with what `\left` and `\right` stand before.
    inner = list(parent)[1:-1] if parent.tag == _tag("mrow") else list(parent)
    for child in inner:
        plain = child.tag == _tag("mo") and "minsize" not in child.attrib
        if plain and child.text in ("{", "}", "\N{DOUBLE VERTICAL LINE}"):
            child.attrib.setdefault("stretchy", "false")


def _ends(element: ElementTree.Element) -> bool:
    if element.tag == _tag("mo"):
        return element.text in tuple(")]}|")
    return element.tag != _tag("mspace")


def _opens(element: ElementTree.Element) -> bool:
    return element.tag == _tag("mspace") or (element.text or "") in tuple("([{|")


def _insert_space(parent, beside: ElementTree.Element, after: int) -> None:
    place = list(parent).index(beside) + after
    parent.insert(place, ElementTree.Element(_tag("mspace"), width="0.1667em"))


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    mathml = mend(latex2mathml.tex2mathml(node.astext()))
    translator.body.append("<wbr>".join(pieces(mathml)))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula, which scrolls by itself on a narrow screen."""
    mathml = mend(latex2mathml.tex2mathml(node.astext(), as_block=True))
    translator.body.append(f'<div class="math">{mathml}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
