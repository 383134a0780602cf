"""How the documentation site is built: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "gossamer"
author = "the gossamer developers"
version = release = importlib.metadata.version("gossamer")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["results/*/**"]
source_suffix = {".md": "markdown"}
# Single backquotes in docstrings name Python objects.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Results, sources and examples are read in the repository.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False

# Quotation marks are part of the values that they stand around.
smartquotes = False

html_theme = "furo"
html_title = "gossamer"
html_show_sourcelink = False
