"""Settings of the site: ``make docs`` builds it into ``out/docs``.

GANVAS_DOCS=small runs the tutorials at sizes that only show that they work, as CI does.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from docutils.nodes import SkipNode, math, math_block
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

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

html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "html_image"]
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


def draw_formula(translator: HTML5Translator, node: math | math_block) -> None:
    """Write a formula as MathML, with the number of its ``\\tag``: browsers draw it, and no script is fetched."""
    is_block = isinstance(node, math_block)
    number = re.search(r"\\tag\{(\w+)\}", node.astext())
    formula = tex2mathml(re.sub(r"\\tag\{\w+\}", "", node.astext()), as_block=is_block)
    tag = f'<span class="eqno">({number[1]})</span>' if number else ""
    translator.body.append(f'<div class="formula">{tag}{formula}</div>' if is_block else formula)
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Connect the drawing of formulas, and the copying of reports to the end of the build."""
    app.add_html_math_renderer("mathml", (draw_formula, None), (draw_formula, None))
    app.connect("build-finished", copy_reports)
