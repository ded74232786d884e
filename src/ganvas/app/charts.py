"""The chart of an edit's effect, as a table whose cells are bars: readable by screen readers, in light and in dark."""

from __future__ import annotations

from html import escape

from ganvas.app.attribute_groups import format_attribute
from ganvas.app.rendering import EditEffect

MAX_BAR_SIGMA = 3.0
"""σ at the ends of the bars."""


def draw_chart(effect: EditEffect) -> str:
    """Draw a table of all attributes before and after an edit, as HTML: its targets first, then what changed most."""
    order = sorted(
        effect.values, key=lambda n: (n not in effect.targets, -abs(effect.values[n][1] - effect.values[n][0]))
    )
    rows = "".join(_draw_row(name, *effect.values[name], name in effect.targets) for name in order)
    head = "<tr><th scope='col'>Attribute</th><th scope='col'>Before</th><th scope='col'>After</th>"
    key = "<span class='gv-key gv-before'></span> before <span class='gv-key gv-after'></span> after"
    return (
        f"<div class='gv-moved'>{_summarize(effect)}<p class='gv-legend'>{key}; ticks at 0 and ±{MAX_BAR_SIGMA:g} σ</p>"
        f"<table>{head}<th scope='col'><span class='gv-hidden'>Bars</span></th></tr>{rows}</table></div>"
    )


def _draw_row(name: str, before: float, after: float, is_target: bool) -> str:
    kind = " class='gv-target'" if is_target else ""
    bars = f"<div class='gv-bars' aria-hidden='true'>{_draw_bar(before, 'before')}{_draw_bar(after, 'after')}</div>"
    return (
        f"<tr{kind}><th scope='row'>{escape(format_attribute(name))}</th><td>{before:+.1f}</td><td>{after:+.1f}</td>"
        f"<td>{bars}</td></tr>"
    )


def _draw_bar(value: float, kind: str) -> str:
    share = 50 * max(-1.0, min(1.0, value / MAX_BAR_SIGMA))
    left, width = (50.0, share) if share >= 0 else (50 + share, -share)
    return f"<i class='gv-{kind}' style='left:{left:.1f}%;width:{max(width, 0.6):.1f}%'></i>"


def _summarize(effect: EditEffect) -> str:
    lines = []
    if not effect.targets:
        lines.append("Nothing is changed yet.")
    if effect.drift is not None:
        lines.append(f"<b>Off-target drift</b> {effect.drift:.2f} σ: the mean change of what wasn't asked for.")
    if effect.cosine is not None and effect.distance is not None:
        identity = "one person" if effect.same_person else "another person"
        lines.append(
            f"<b>Identity</b> {effect.cosine:.3f} (cosine), distance {effect.distance:.2f}: dlib takes them for {identity}."
        )
    return "".join(f"<p>{text}</p>" for text in lines)
