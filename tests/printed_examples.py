"""The editing method that CONTRIBUTING and a tutorial print, as if its file lay in the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganvas import editors

ROOT = Path(__file__).parent.parent
METHOD = "shortest_move"
PAGES = {"CONTRIBUTING.md": "```python\n", "docs/tutorials/write-an-editor.md": f"%%writefile {METHOD}.py\n"}
"""The pages that print the method, and the line before it."""


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def read_block(text: str, first_line: str) -> str:
    """The first block of code that begins after ``first_line``."""
    return text.partition(first_line)[2].partition("```")[0]


@contextmanager
def add_printed_method(page: str, folder: Path) -> Iterator[None]:
    """Write the method that a page prints to ``folder``, where it is discovered until the block ends."""
    (folder / f"{METHOD}.py").write_text(read_block(read_page(page), PAGES[page]), encoding="utf-8")
    editors.__path__.insert(0, str(folder))
    _forget_module()
    try:
        yield
    finally:
        editors.__path__.remove(str(folder))
        _forget_module()


def _forget_module() -> None:
    """Let the next import read the file again."""
    sys.modules.pop(f"{editors.__name__}.{METHOD}", None)
    if hasattr(editors, METHOD):
        delattr(editors, METHOD)
