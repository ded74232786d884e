"""What moved, as a table whose cells are bars: read by eyes, by screen readers, in light and in dark."""

from __future__ import annotations

from html import escape

from ganvas.app.attribute_groups import label_of
from ganvas.app.rendering import EditEffect

SPAN = 3.0
"""σ at the ends of the bars."""


def draw_chart(found: EditEffect) -> str:
    """All attributes before and after, what was asked for first, then what moved most."""
    order = sorted(found.bars, key=lambda n: (n not in found.asked, -abs(found.bars[n][1] - found.bars[n][0])))
    rows = "".join(_row(name, *found.bars[name], name in found.asked) for name in order)
    head = "<tr><th scope='col'>Attribute</th><th scope='col'>Before</th><th scope='col'>After</th>"
    key = "<span class='gv-key gv-before'></span> before <span class='gv-key gv-after'></span> after"
    return (
        f"<div class='gv-moved'>{_summary(found)}<p class='gv-legend'>{key}; ticks at 0 and ±{SPAN:g} σ</p>"
        f"<table>{head}<th scope='col'><span class='gv-hidden'>Bars</span></th></tr>{rows}</table></div>"
    )


def _row(name: str, before: float, after: float, asked: bool) -> str:
    kind = " class='gv-asked'" if asked else ""
    bars = f"<div class='gv-bars' aria-hidden='true'>{_bar(before, 'before')}{_bar(after, 'after')}</div>"
    return (
        f"<tr{kind}><th scope='row'>{escape(label_of(name))}</th><td>{before:+.1f}</td><td>{after:+.1f}</td>"
        f"<td>{bars}</td></tr>"
    )


def _bar(value: float, kind: str) -> str:
    share = 50 * max(-1.0, min(1.0, value / SPAN))
    left, width = (50.0, share) if share >= 0 else (50 + share, -share)
    return f"<i class='gv-{kind}' style='left:{left:.1f}%;width:{max(width, 0.6):.1f}%'></i>"


def _summary(found: EditEffect) -> str:
    told = []
    if not found.asked:
        told.append("Nothing is changed yet.")
    if found.drift is not None:
        told.append(f"<b>Off-target drift</b> {found.drift:.2f} σ: what wasn't asked for moved so far on average.")
    if found.cosine is not None and found.distance is not None:
        kept = "one person" if found.same_person else "another person"
        told.append(f"<b>Identity</b> {found.cosine:.3f} (cosine), distance {found.distance:.2f}: dlib sees {kept}.")
    return "".join(f"<p>{text}</p>" for text in told)
