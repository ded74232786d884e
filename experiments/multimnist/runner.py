"""The count report: its sections one after the other, each kept when it's done, so that a stopped report goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from experiments.multimnist.context import CONDITIONAL, CountContext, hash_file
from experiments.multimnist.section import ReportSection, load_section, make_key, save_section
from ganvas.errors import GanvasError

SECTIONS = ("inverted", "classifiers", "umap", "moves", "ways", "real", "conditional", "proof")
"""The modules of the sections. What one learns for another comes first."""
Reporter = Callable[[str], object]


@dataclass(frozen=True)
class ReportResult:
    """``sections`` in order; ``gaps``: section -> why there is none; ``seconds``: what each took that was made now."""

    sections: tuple[ReportSection, ...]
    gaps: dict[str, str]
    seconds: dict[str, float]


def run_sections(
    context: CountContext, names: Sequence[str] = SECTIONS, say: Reporter = lambda line: None
) -> ReportResult:
    """Everything but the report. ``say`` is told at first how much there is to do, then what is done.

    A section that fails for a reason of its own is a gap, and the others go on.
    """
    keys = {name: _key(context, name) for name in names}
    kept = {name: load_section(context.work_path("sections", name), keys[name]) for name in names}
    for line in _planned(context, kept):
        say(line)
    context = replace(context, watch=say)
    sections, gaps, seconds = [], {}, {}
    for i, name in enumerate(names):
        found = kept[name]
        if found is None:
            say(f"[{i + 1}/{len(names)}] {name}")
            started = time.monotonic()
            try:
                made = import_module(f"ganvas.bench.counts.{name}").run(context)
                found = save_section(made, context.work_path("sections", name), keys[name])
            except GanvasError as error:
                gaps[name] = str(error)
                say(f"    left out: {error}")
                continue
            seconds[name] = round(time.monotonic() - started, 1)
        sections.append(found)
    return ReportResult(tuple(sections), gaps, seconds)


def _key(context: CountContext, name: str) -> str:
    """What a section depends on; one alone sees the conditional generator."""
    seen = {"conditional": hash_file(context.work_path(CONDITIONAL))} if name == "conditional" else {}
    return make_key(context.provenance | seen)


def _planned(context: CountContext, kept: dict[str, ReportSection | None]) -> list[str]:
    todo = [name for name, found in kept.items() if found is None]
    size = context.config
    lines = [f"{len(todo)} of {len(kept)} sections to make: {', '.join(todo) or 'none, all are kept'}."]
    if todo:
        lines.append(
            f"{len(context.labels):,} labelled codes, {size.moves:,} codes for each way to move, {size.images:,} real images;"
            f" {size.steps:,} steps an editor, {size.encoder:,} an encoder."
        )
    return lines
