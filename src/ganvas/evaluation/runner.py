"""The evaluation: every method by every protocol, as tidy rows.

Stopped and started again it goes on: pictures' scores lie in ``out``/work/renders, fitted editors in work/editors, and the rows
of a finished cell (a method on an attribute, say) in work/rows, one Parquet file each, which is written whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ganvas import __version__, editors
from ganvas.control import search
from ganvas.data.dataset import LatentDataset
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation import dci, protocols
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.context import EvaluationContext, prepare_context
from ganvas.evaluation.faces import make_goal
from ganvas.evaluation.judges import JudgePanel
from ganvas.evaluation.methods import (
    FittedEntry,
    MethodEntry,
    fit_entry,
    format_failure,
    hash_labels,
    is_fitted,
    prepare_entry,
)
from ganvas.evaluation.published_directions import measure_agreement
from ganvas.evaluation.rows import (
    Frame,
    RowBlocks,
    RowCell,
    hash_metrics,
    hash_sources,
    join_cells,
    load_cell,
    save_cell,
    to_frame,
)
from ganvas.generators.base import Generator, sample
from ganvas.identity import compute_cosine, compute_distance
from ganvas.io.files import read_json, write_json
from ganvas.progress import show_advance
from ganvas.types import WPlus

if TYPE_CHECKING:
    import pyarrow as pa

RANDOM_METHOD = "random moves"
"""The name of the method of random moves in rows."""
STRANGERS_METHOD = "two different faces"
"""The name of the method, in rows, of comparing different faces."""
PICTURES_PER_SEARCH, PICTURES_PER_MATCH, PICTURES_PER_SINGLE_CHANGE = 2.6, 1.3, 2.2
"""Pictures for an edit of ffhq by the paper's protocol, for an equal change after it, and for one alone."""
TIMED_PICTURES = 2
"""Pictures that time is measured on, after as many to warm up."""
TIMED_EDITS = 64
"""Codes that edits are timed on, one by one."""


@dataclass(frozen=True)
class MissingResult:
    """A result that could not be measured, and why, in one line. ``attribute`` "": all of them."""

    what: str
    method: str
    attribute: str
    why: str


@dataclass
class EvaluationResult:
    """The rows of a run, and what isn't in rows. All but ``timings`` is the same for equal input.

    ``fits`` is by the entry's name; ``dci`` and ``agreement`` (with published directions) are by method.
    """

    context: EvaluationContext
    entries: list[MethodEntry]
    attributes: list[str]
    fits: dict[str, FittedEntry]
    planned: dict[str, int]
    cells: list[RowCell] = field(default_factory=list)
    gaps: list[MissingResult] = field(default_factory=list)
    dci: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    timings: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def table(self) -> pa.Table:
        """All rows."""
        return join_cells(self.cells)

    @property
    def rows(self) -> Frame:
        """All rows, as a data frame."""
        return to_frame(self.table)

    @property
    def pictures(self) -> int:
        """The number of pictures that were judged."""
        return len(self.context.pool.scores) + sum(cell.pictures for cell in self.cells)

    @property
    def label_scorer(self) -> str:
        """The name of the scorer that made the labels."""
        return self.context.data.scorer.rpartition(":")[0]

    @property
    def fresh_judges(self) -> list[str]:
        """The names of the judges that made no labels."""
        return [scale.name for scale in self.context.scales if scale.name != self.label_scorer]

    @contextmanager
    def record_failures(self, what: str, method: str, attribute: str = "") -> Iterator[None]:
        """Record a GanvasError raised inside as a gap, and go on."""
        try:
            yield
        except GanvasError as error:
            self.gaps.append(MissingResult(what, method, attribute, format_failure(error)))

    def list_fitted(self, *groups: str) -> list[tuple[MethodEntry, Editor]]:
        """Return the entries of some groups (of all, without any) that have an editor, with it."""
        pairs = [(entry, self.fits[entry.name].editor) for entry in self.entries]
        return [(e, editor) for e, editor in pairs if editor is not None and (not groups or e.group in groups)]


def run_evaluation(
    generator: Generator,
    panel: JudgePanel,
    data: LatentDataset,
    entries: Sequence[MethodEntry],
    attributes: Sequence[str],
    config: EvaluationConfig,
    out: Path | None,
    log: Callable[[str], object] = lambda line: None,
    directions: Mapping[str, Tensor] | None = None,
) -> EvaluationResult:
    """Run every method by every protocol, without writing the report.

    Args:
        generator: The generator.
        panel: The judges.
        data: The labels that methods learn from.
        entries: The methods.
        attributes: The attributes to edit.
        config: The size.
        out: The folder of the report, in whose work/ a stopped run goes on; None keeps nothing.
        log: Called with what is done, and at first with how much there is to do.
        directions: Published ones that linear editors are compared with.

    Returns:
        The rows; what fails for one method or attribute is a gap.

    Raises:
        GanvasError: Where no attribute can be evaluated.
    """
    work = out and out / "work"
    usable, gaps = _split_attributes(panel, data, attributes)
    if not usable:
        raise GanvasError(
            f"None of the attributes can be evaluated: {'; '.join(gap.why for gap in gaps) or 'none given'}"
        )
    planned = plan_pictures(panel, data, entries, usable, config)
    folder = work and work / "editors"
    unfitted = [entry.name for entry in entries if not is_fitted(entry, data, generator, usable, folder)]
    for line in (*_format_plan(planned, generator, panel, work), _format_fits(unfitted, entries, config)):
        log(line)
    # Before the bar of the pictures: one bar at a time.
    fits = {entry.name: prepare_entry(entry, data, generator, usable, folder, log) for entry in entries}
    with show_advance("Pictures", sum(planned.values())) as progress:
        context = prepare_context(generator, panel, data, usable, config, work, progress)
        result = EvaluationResult(context, list(entries), usable, fits, planned, gaps=gaps)
        result.gaps += [MissingResult("judges", "", "", why) for why in context.gaps]
        for name, fit in fits.items():
            result.gaps += [MissingResult("fit", name, "", fit.gap)] if fit.editor is None else []
            result.gaps += [MissingResult("fit", name, attribute, why) for attribute, why in fit.missing.items()]
        for part in (_run_pictures, _run_random, _run_joint, _run_codes, _run_labels, _run_dci):
            part(result, work)
    for entry, editor in result.list_fitted("first", "rest"):
        cosines = measure_agreement(editor, directions or {})
        result.agreement |= {entry.name: cosines} if cosines else {}
    missing = {name: why for cell in result.cells for name, why in cell.missing.items()}
    measured = set().union(*(cell.table["metric"].unique().to_pylist() for cell in result.cells))
    result.gaps += [MissingResult("metric", "", name, why) for name, why in missing.items() if name not in measured]
    return result


def _split_attributes(
    panel: JudgePanel, data: LatentDataset, attributes: Sequence[str]
) -> tuple[list[str], list[MissingResult]]:
    """Return the attributes that can be evaluated, and why the others can't."""
    usable, gaps = [], []
    for name in attributes:
        why = ""
        if name not in panel.label_scorer.attributes:
            why = f"Scorer {panel.label_scorer.name!r} has no attribute {name!r}."
        elif name not in data.attributes:
            why = f"The labels have no usable scores of {name!r}."
        elif (kind := panel.label_scorer.kinds[panel.label_scorer.column(name)]) != "probability":
            why = f"{name!r} is a {kind}: these protocols need a probability."
        if why:
            gaps.append(MissingResult("attributes", "", name, why))
        else:
            usable.append(name)
    return usable, gaps


def _add_cell(
    result: EvaluationResult,
    work: Path | None,
    place: tuple[str, ...],
    method: str,
    attribute: str,
    depends: Mapping[str, Any],
    fill: Callable[[RowBlocks], None],
) -> None:
    """Add the cell in work/rows/``place`` where it is there and of the same input, else let ``fill`` make it."""
    context = result.context
    key = {
        "cell": [method, attribute, dict(depends)],
        "labels": hash_labels(context.data),
        "panel": context.panel.fingerprint,
        "generator": context.generator.fingerprint,
        "faces": [context.config.seed, context.config.psi, context.config.batch, len(context.pool.scores)],
        "measured": context.config.measured,
        "search": asdict(context.config.search),
        "version": __version__,
        "sources": hash_sources(),
        "metrics": hash_metrics(),
    }
    file = work and work.joinpath("rows", *place[:-1], f"{place[-1]}.parquet")
    with result.record_failures(place[0], method, attribute):
        cell = load_cell(file, key)
        if cell is None:
            blocks = RowBlocks(method, attribute)
            fill(blocks)
            cell = save_cell(file, blocks, key)
        result.cells.append(cell)


def _run_pictures(result: EvaluationResult, work: Path | None) -> None:
    """Run the paper's protocol and equal changes; other attributes of the scorer at the first change, for methods marked so."""
    context, config = result.context, result.context.config
    for entry, editor in result.list_fitted():
        tried = [(a, config.count_faces(entry.group), config.targets, config.curve) for a in result.attributes]
        if entry.tries_all_attributes:
            others = [a for a in context.scales[0].attributes if a not in result.attributes]
            tried += [(a, (0, config.other_attribute_faces), config.targets[:1], ()) for a in others]
        for attribute, *size in tried:
            # The reason is recorded by the fit already.
            if max(size[0]) and attribute not in result.fits[entry.name].missing:
                fill = partial(protocols.run_pictures, context, editor, make_goal(attribute), entry.slug, *size)
                depends = {"editor": editors.fingerprint(editor), "size": size}
                _add_cell(result, work, ("pictures", entry.slug, attribute), entry.name, attribute, depends, fill)
    faces = context.panel.split_faces(context.pool.scores)
    if faces is not None and len(faces) > 1:
        _add_cell(result, None, ("strangers",), STRANGERS_METHOD, "", {}, partial(_compare_strangers, faces))


def _compare_strangers(faces: Tensor, blocks: RowBlocks) -> None:
    """Add the identity of random different faces: each face is in two pairs, with faces drawn at random."""
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    a, b = faces[order], faces[order.roll(1)]
    blocks.add("strangers", "identity", order, compute_cosine(a, b))
    blocks.add("strangers", "identity_distance", order, compute_distance(a, b))


def _run_random(result: EvaluationResult, work: Path | None) -> None:
    """Run random moves as long as those of the first InterfaceGAN, or else of the first method."""
    config = result.context.config
    pairs = result.list_fitted("first", "rest")
    reference = next((pair for pair in pairs if pair[0].family == "interfacegan"), pairs[0] if pairs else None)
    if reference is None or not config.random_moves:
        return
    entry, editor = reference
    rows = result.rows
    rows = rows[(rows["method"] == entry.name) & (rows["protocol"] == "matched") & (rows["metric"] == "success")]
    for attribute in result.attributes:
        for change in config.targets:
            there = rows[(rows["attribute"] == attribute) & (rows["change"].sub(change).abs() < 1e-6) & rows["reached"]]
            codes, strengths = (there[name].to_numpy()[: config.random_moves] for name in ("code_id", "strength"))
            if not len(codes):
                continue
            depends = {"editor": editors.fingerprint(editor), "codes": codes.tolist(), "strengths": strengths.tolist()}
            fill = partial(protocols.run_random, result.context, editor, make_goal(attribute), change, codes, strengths)
            _add_cell(result, work, ("random", f"{attribute}-{change:g}"), RANDOM_METHOD, attribute, depends, fill)


def _run_joint(result: EvaluationResult, work: Path | None) -> None:
    """Run edits of several attributes at once."""
    n = result.context.config.joint_edit_faces
    for entry, editor in result.list_fitted("first") if n else ():
        depends = {"editor": editors.fingerprint(editor), "faces": n, "attributes": result.attributes}
        fill = partial(protocols.run_joint, result.context, editor, result.attributes, entry.slug, n)
        _add_cell(result, work, ("joint", entry.slug), entry.name, "", depends, fill)


def _run_codes(result: EvaluationResult, work: Path | None) -> None:
    """Measure what needs no pictures: readings of edits, order and undo, and the time of an edit."""
    context, ws = result.context, protocols.sample_latent_codes(result.context)
    some = ws[: max(len(ws) // 4, 1)]
    for entry, editor in result.list_fitted():
        depends = {"editor": editors.fingerprint(editor), "codes": len(ws)}
        for attribute in result.attributes:
            fill = partial(protocols.run_codes, context, editor, attribute, ws)
            _add_cell(result, work, ("codes", entry.slug, attribute), entry.name, attribute, depends, fill)
        if entry.group != "ablation":
            depends |= {"attributes": result.attributes}
            fill = partial(protocols.run_order, editor, result.attributes, some)
            _add_cell(result, work, ("order", entry.slug), entry.name, "", depends, fill)
        name = next((a for a in result.attributes if a in editor.attributes), None)
        milliseconds = None if name is None else measure_milliseconds(editor, ws, name)
        result.timings[entry.name] = {"fit_seconds": result.fits[entry.name].seconds, "edit_ms": milliseconds}


@torch.no_grad()
def measure_milliseconds(editor: Editor, ws: WPlus, attribute: str) -> float:
    """Measure the median time of an edit of one code, in milliseconds, after some to warm up."""
    times = []
    for code in ws[:TIMED_EDITS].split(1):
        began = time.perf_counter()
        editor.edit_quietly(code, {attribute: 1.0})
        times.append(time.perf_counter() - began)
    return round(1000 * float(torch.tensor(times[len(times) // 8 :]).median()), 3)


def _run_labels(result: EvaluationResult, work: Path | None) -> None:
    """Measure label efficiency: methods that learned from fewer labels, read by the probe of all."""
    ws, counts = protocols.sample_latent_codes(result.context), result.context.config.labels
    for entry in result.entries:
        for n in counts if _is_measured_by_labels(entry) else ():
            if n <= len(result.context.data):
                depends = {
                    "entry": [entry.method, dict(entry.options)],
                    "codes": len(ws),
                    "attributes": result.attributes,
                }
                fill = partial(_learn_from_fewer, result, entry, n, ws)
                _add_cell(result, work, ("labels", entry.slug, str(n)), entry.name, "", depends | {"labels": n}, fill)


def _is_measured_by_labels(entry: MethodEntry) -> bool:
    is_plain = entry.name == entry.method and entry.method in editors.list_methods()
    return is_plain and "labels" in editors.get_reports(entry.method)


def _learn_from_fewer(result: EvaluationResult, entry: MethodEntry, n: int, ws: WPlus, blocks: RowBlocks) -> None:
    """Fit a method on the first ``n`` labels, and add its readings."""
    context = result.context
    data = protocols.take_first_labels(context.data, n, result.attributes)
    editor = fit_entry(entry, data, context.generator, result.attributes)
    for attribute in result.attributes:
        protocols.run_codes(context, editor, attribute, ws, blocks, labels=n)


def _run_dci(result: EvaluationResult, work: Path | None) -> None:
    """Measure DCI of the editors' codes on the scored fresh faces."""
    context, draws, own = result.context, result.context.config.dci, result.context.scales[0]
    w = context.pool.make_codes(context.generator, torch.arange(len(context.pool.scores)))[:, 0]
    factors = own.gaussianize(context.pool.scores[:, list(own.columns)])
    for entry, editor in result.list_fitted() if draws else ():
        with result.record_failures("DCI", entry.name), torch.no_grad():
            codes = dci.compute_codes(editor, w)
            key = {
                "editor": editors.fingerprint(editor),
                "faces": [context.config.seed, context.config.psi, len(w)],
                "labels": hash_labels(context.data),
                "panel": context.panel.fingerprint,
                "draws": draws,
                "sources": hash_sources(),
            }
            file = work and work / "rows" / f"dci-{entry.slug}.json"
            saved = _load_json(file, key)
            if saved is None:
                estimates = vars(dci.measure_dci(codes, factors, draws))
                saved = {name: asdict(estimate) for name, estimate in estimates.items()}
                if file is not None:
                    write_json(file, {"key": key, "value": saved})
            result.dci[entry.name] = saved


def _load_json(file: Path | None, key: Mapping[str, Any]) -> Any:
    """Load the value in ``file`` where it is of ``key``, else None."""
    if file is None or not file.exists():
        return None
    try:
        saved = read_json(file)
    except GanvasError:
        return None  # It is only a cache.
    return saved.get("value") if isinstance(saved, dict) and saved.get("key") == key else None


def plan_pictures(
    panel: JudgePanel,
    data: LatentDataset,
    entries: Sequence[MethodEntry],
    attributes: Sequence[str],
    config: EvaluationConfig,
) -> dict[str, int]:
    """Estimate the number of pictures of each part, from the mean number for an edit."""
    n = len(attributes)
    faces = [config.count_faces(entry.group) for entry in entries]
    matched = sum(
        m * (PICTURES_PER_MATCH * len(config.targets) + (not c) * (PICTURES_PER_SINGLE_CHANGE - PICTURES_PER_MATCH))
        for c, m in faces
    )
    first, shown = (sum(entry.group in groups for entry in entries) for groups in (["first"], ["first", "rest"]))
    others = max(min(len(panel.label_scorer.attributes), len(data.attributes)) - n, 0)
    others_rendered = sum(entry.tries_all_attributes for entry in entries) * config.other_attribute_faces * others
    return {
        "of fresh codes": max(config.pool, min(config.pool_limit, 4 * config.first)),
        "for the paper's protocol": round(PICTURES_PER_SEARCH * n * sum(climbed for climbed, _ in faces)),
        "at equal changes": round(n * matched),
        "of other attributes": round(PICTURES_PER_SINGLE_CHANGE * others_rendered),
        "of random moves": config.random_moves * n * len(config.targets),
        "of several attributes at once": (comb(n, 2) + comb(n, 3)) * config.joint_edit_faces * first,
        "for the sheets": n * config.pictures * (1 + shown) + 8 * n * (config.pictures > 0),
    }


def _format_plan(planned: Mapping[str, int], generator: Generator, panel: JudgePanel, work: Path | None) -> list[str]:
    """Format the pictures to render, and the time that they take here, as lines for people."""
    code_scorer, codes = search.CodeScorer(generator, panel), sample(generator, 2 * TIMED_PICTURES, 1.0, 0)
    code_scorer(codes[:TIMED_PICTURES])
    start = time.perf_counter()
    code_scorer(codes[TIMED_PICTURES:])
    seconds = (time.perf_counter() - start) / TIMED_PICTURES
    rendered, total = count_rendered(work), sum(planned.values())
    parts = ", ".join(f"{count:,} {part}" for part, count in planned.items() if count)
    left = max(total - rendered, 0) * seconds
    known_before = (
        f" Earlier runs into this folder rendered {rendered:,}; those that this run needs, too, aren't rendered again."
        if rendered
        else ""
    )
    took = f"{left / 60:.0f} minutes" if left >= 120 else f"{left:.0f} seconds"
    return [
        f"About {total:,} pictures will be rendered: {parts}.{known_before}",
        f"One takes {seconds:.3f} s with all judges here: about {took}{' or more' if rendered else ''}, without the fits.",
    ]


def _format_fits(unfitted: Sequence[str], entries: Sequence[MethodEntry], config: EvaluationConfig) -> str:
    """Format how many fits are to come, as a line for people."""
    again = len(config.labels) * sum(map(_is_measured_by_labels, entries))
    fewer = f" {again} fits on fewer labels come after them." if again else ""
    if not unfitted:
        return f"Methods still to be fitted: none.{fewer}"
    count = f"{len(unfitted)} of {len(entries)}"
    return f"Methods still to be fitted, in seconds to minutes each: {', '.join(unfitted)} ({count}).{fewer}"


def count_rendered(work: Path | None) -> int:
    """Count the pictures whose scores an earlier run kept."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in sorted((work / "renders").rglob("*.safetensors")) if work else ():
        try:
            with safe_open(file, "pt") as opened:
                count += opened.get_slice("rows").get_shape()[0]
        except (OSError, SafetensorError):
            continue
    return count
