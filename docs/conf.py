"""How the site is built: `make docs`."""

import importlib.metadata

project = "Sentei"
author = "the Sentei authors"
version = release = importlib.metadata.version("sentei")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_generated/evidence.md"]
# The evidence is put together by docs/generate.py and included under a heading of its own.
suppress_warnings = ["myst.header", "ref.python"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# Docstrings are plain text: formulas and tables keep their lines.
html_theme = "furo"
html_title = "Sentei 剪定"
html_static_path = ["_static"]
html_extra_path = ["map.html"]
templates_path = ["_templates"]


def _plain(app, what, name, obj, options, lines):
    """Show a docstring as it reads in the source: as a block of text, examples included."""
    if lines:
        lines[:] = ["::", "", *(f"   {line}" for line in lines), ""]


def setup(app):
    app.connect("autodoc-process-docstring", _plain)
