"""Pages of results: one HTML file beside its pictures, readable offline, in light and in dark; and the same as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganvas.stats import Estimate

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class PageSection:
    """A title and plain text, with a picture (a path relative to the page), a table (titles first), or both."""

    title: str
    text: str
    picture: str = ""
    table: Sequence[Sequence[str]] = ()


def render_page(title: str, about: str, sections: Sequence[PageSection], end: str) -> str:
    """Render the HTML page; every text is escaped."""
    return _load_template("index.html.jinja").render(title=title, about=about, sections=sections, end=end)


def render_markdown(title: str, about: str, sections: Sequence[PageSection], end: str) -> str:
    """Render the sections as a Markdown file, pictures included."""
    return _load_template("report.md.jinja").render(title=title, about=about, sections=sections, end=end)


@cache
def _load_template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    escape = name.endswith(".html.jinja")
    return Environment(
        loader=loader, autoescape=escape, undefined=StrictUndefined, keep_trailing_newline=True
    ).get_template(name)


def format_estimate(value: Estimate | Mapping[str, Any] | None, digits: int) -> str:
    """Format an estimate as a mean with its interval; "-" where there is none."""
    numbers = asdict(value) if isinstance(value, Estimate) else value
    if numbers is None or numbers["mean"] is None or math.isnan(numbers["mean"]):
        return "-"
    return f"{numbers['mean']:.{digits}f} [{numbers['low']:.{digits}f}, {numbers['high']:.{digits}f}]"


def format_number(value: Any) -> str:
    """Format a number, "-" where it is missing."""
    return "-" if value is None else str(value)


def format_verdict(holds: bool | None) -> str:
    """Format a verdict, "-" where there is none."""
    return "-" if holds is None else "yes" if holds else "no"


def to_json(value: Any) -> Any:
    """Convert estimates, tuples and nan to what JSON holds."""
    if isinstance(value, Estimate):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
