"""Turns the name of a notebook, as `03_learn_a_posterior.ipynb`, into a link to it."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

_NAME = re.compile(r"(?:tutorials/)?(\d\d_\w+)\.ipynb")


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap each name that is no link yet."""
    for literal in list(doctree.findall(nodes.literal)):
        name = _NAME.fullmatch(literal.astext())
        if not name or isinstance(literal.parent, (nodes.reference, nodes.Inline)):
            continue
        target = f"/tutorials/{name[1]}"
        if target[1:] not in app.env.found_docs:
            continue
        options = {"refdomain": "std", "reftype": "doc", "reftarget": target}
        wrapped = addnodes.pending_xref(
            "", refdoc=app.env.docname, refexplicit=True, refwarn=True, **options
        )
        literal.replace_self(wrapped)
        wrapped += literal


def setup(app: Sphinx) -> dict:
    """Register what is done to every page."""
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
