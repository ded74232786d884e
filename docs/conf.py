"""Settings of the site: ``make docs`` builds it into ``out/docs``.

GANVAS_DOCS=small runs the tutorials at sizes that only show that they work, as CI does.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import generate  # noqa: E402

import ganvas  # noqa: E402

SIZE = "small" if os.environ.get("GANVAS_DOCS") == "small" else "full"
generate.write_pages(DOCS / "generated")

project = "ganvas"
author = "The ganvas authors"
version = release = ganvas.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
exclude_patterns = ["results/*/work", "results/*/report.md", "development"]

html_theme = "furo"
html_title = f"ganvas {version}"
html_theme_options = {"navigation_with_keys": True}
html_show_copyright = False

myst_enable_extensions = ["amsmath", "dollarmath", "html_image"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / ".work" / f"docs-cache-{SIZE}")
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Images", "Labels", "Scores", "W", "WPlus", "Z")}
napoleon_numpy_docstring = False


def copy_reports(app: Sphinx, failure: Exception | None) -> None:
    """Copy the generated reports beside the pages, which link to them."""
    if failure is None and app.builder.format == "html":
        ignore = shutil.ignore_patterns("work")
        shutil.copytree(DOCS / "results", Path(app.outdir) / "results", ignore=ignore, dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Connect the copying of reports to the end of the build."""
    app.connect("build-finished", copy_reports)
