"""A page of results: one HTML file beside its pictures, readable offline, in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fbfbfd; --line: #d8d8e0; --soft: #5c5c68; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ee; --paper: #16161a; --line: #3a3a44; --soft: #a4a4b2; --card: #202027; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; }
p { max-width: 46rem; margin: .4rem 0 1rem; }
footer, .soft { color: var(--soft); }
figure { margin: 0; overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; font-size: .9rem; }
"""


@dataclass(frozen=True)
class PageSection:
    """A title and plain text, with a picture (a path relative to the page), a table (titles first), or both."""

    title: str
    text: str
    picture: str = ""
    table: Sequence[Sequence[str]] = ()


def render_page(title: str, about: str, sections: Sequence[PageSection], end: str) -> str:
    """Render the HTML page; every text is escaped."""
    body = "\n".join(_render_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(about)}</p>
{body}
<footer>{escape(end)}</footer>
</body>
</html>
"""


def _render_section(section: PageSection) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.text)}</p>"]
    if section.table:
        head, *rows = section.table
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        lines = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f'<div class="scroll"><table>\n<tr>{cells}</tr>\n{lines}\n</table></div>')
    if section.picture:
        source = escape(section.picture)
        parts.append(f'<figure><a href="{source}"><img src="{source}" alt="{escape(section.title)}"></a></figure>')
    return f"<section>\n{chr(10).join(parts)}\n</section>"
