"""Sphinx configuration; needs no network.

Build with `sphinx-build -W -n -b html docs docs/_build/html`.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext")]

import inventories  # noqa: E402
import sphinx.application  # noqa: E402
from docutils import nodes  # noqa: E402

import tfp_uqseg  # noqa: E402

project = "tfp_uqseg"
author = "the tfp_uqseg developers"
project_copyright = f"2026, {author}"
release = version = tfp_uqseg.__version__

extensions = [
    "breaks",
    "mathml",
    "myst_nb",
    "notebooks",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "_generated"]
nitpicky = True

# The notebooks have one home, tutorials/; Sphinx reads only below its own folder.
for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
    shutil.copyfile(notebook, HERE / "tutorials" / notebook.name)

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
default_role = "literal"

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

BASES = {
    "python": "https://docs.python.org/3/",
    "matplotlib": "https://matplotlib.org/stable/",
    "nibabel": "https://nipy.org/nibabel/",
    "numpy": "https://numpy.org/doc/stable/",
    "tensorflow": "https://www.tensorflow.org/api_docs/python/",
    "tensorflow_probability": "https://www.tensorflow.org/probability/api_docs/python/",
    "tf_keras": "https://keras.io/2/api/",
    "tqdm": "https://tqdm.github.io/docs/",
}
intersphinx_mapping = {
    name: (
        base,
        inventories.compile_inventory(
            HERE / "inventories" / f"{name}.txt", HERE / "_build" / "inventories"
        ),
    )
    for name, base in BASES.items()
}
html_theme = "furo"
html_title = f"tfp_uqseg {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def setup(app: sphinx.application.Sphinx) -> None:
    """Keep napoleon from the docstrings of attributes, and idle bases from the page.

    Napoleon reads what stands before a colon in such a docstring as a type.
    """
    kept: dict[str, list[str]] = {}

    def put_aside(app, what, name, obj, options, lines):
        if what in ("attribute", "data", "property"):
            kept[name], lines[:] = lines[:], [""]

    def put_back(app, what, name, obj, options, lines):
        lines[:] = kept.pop(name, lines)

    def show_public(app, name, obj, options, bases):
        while private := [each for each in bases if each.__name__.startswith("_")]:
            at = bases.index(private[0])
            bases[at : at + 1] = private[0].__bases__

    def drop_plain(app, doctree):
        for line in list(doctree.findall(nodes.paragraph)):
            if line.astext() == "Bases: object":
                line.parent.remove(line)

    app.connect("autodoc-process-bases", show_public)
    app.connect("doctree-read", drop_plain)
    app.connect("autodoc-process-docstring", put_aside, priority=400)
    app.connect("autodoc-process-docstring", put_back, priority=600)
