"""The sections of the count report one after the other, each stored when it is done, so that a stopped report goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.multimnist import (
    balancing,
    conditional_gan,
    extensions,
    figure_1,
    inversion,
    latent_classifiers,
    moves,
    real_images,
)
from experiments.multimnist.context import CONDITIONAL, CountContext, hash_file
from experiments.multimnist.section import ReportSection, load_section, make_key, save_section
from ganvas.errors import GanvasError

SectionRunner = Callable[[CountContext], ReportSection]
MODULES = (inversion, latent_classifiers, figure_1, moves, extensions, real_images, conditional_gan, balancing)
SECTIONS: Mapping[str, SectionRunner] = {module.NAME: module.run for module in MODULES}
"""By name, in the order that they run in: a section that trains something for another comes first."""


@dataclass(frozen=True)
class ReportResult:
    """``sections`` in order; ``gaps``: section -> why there is none; ``seconds``: what each took that ran now."""

    sections: tuple[ReportSection, ...]
    gaps: dict[str, str]
    seconds: dict[str, float]


def run_sections(context: CountContext, runners: Mapping[str, SectionRunner] = SECTIONS) -> ReportResult:
    """Run the sections that are not stored under ``context.work``, and return all of them.

    A section that raises GanvasError becomes a gap, and the others go on. ``context.log`` gets the plan, then lines of progress.
    """
    keys = {name: make_section_key(context, name) for name in runners}
    stored = {name: load_section(context.work_path("sections", name), keys[name]) for name in runners}
    for line in describe_plan(context, stored):
        context.log(line)
    sections, gaps, seconds = [], {}, {}
    for i, (name, run) in enumerate(runners.items(), 1):
        section = stored[name]
        if section is None:
            context.log(f"[{i}/{len(runners)}] {name}")
            start = time.monotonic()
            try:
                section = save_section(run(context), context.work_path("sections", name), keys[name])
            except GanvasError as error:
                gaps[name] = str(error)
                context.log(f"    left out: {error}")
                continue
            seconds[name] = round(time.monotonic() - start, 1)
        sections.append(section)
    return ReportResult(tuple(sections), gaps, seconds)


def make_section_key(context: CountContext, name: str) -> str:
    """Return the key of all that a section depends on; the conditional generator concerns one section only."""
    own = {name: hash_file(context.work_path(CONDITIONAL))} if name == conditional_gan.NAME else {}
    return make_key(context.provenance | own)


def describe_plan(context: CountContext, stored: Mapping[str, ReportSection | None]) -> list[str]:
    """Return lines on how much there is to do."""
    todo = [name for name, section in stored.items() if section is None]
    config = context.config
    lines = [f"{len(todo)} of {len(stored)} sections to make: {', '.join(todo) or 'none, all are stored'}."]
    if todo:
        lines.append(
            f"{len(context.labels):,} labelled codes, {config.moves:,} codes for each way to move, {config.images:,} real"
            f" images; {config.steps:,} steps an editor, {config.encoder:,} an encoder."
        )
    return lines
