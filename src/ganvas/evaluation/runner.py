"""The evaluation: every method on every protocol.

Stopped and started again it goes on: pictures' scores lie in ``out``/work/renders, fitted editors in work/editors, what
took long without pictures in work/cells. Everything else is computed anew from them, so that the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.evaluation import dci, headline, verdicts
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.context import prepare_context
from ganvas.evaluation.cost import estimate_cost
from ganvas.evaluation.joint_edits import measure_joint_edits, measure_order_and_undo
from ganvas.evaluation.judges import JudgePanel
from ganvas.evaluation.label_efficiency import measure_efficiency
from ganvas.evaluation.latent_measures import (
    measure_middle_codes,
    measure_milliseconds,
    measure_readings,
    sample_latent_codes,
)
from ganvas.evaluation.method_trials import run_method
from ganvas.evaluation.methods import UNGAUSSIANISED, FittedEntry, MethodEntry, hash_labels, prepare_entry
from ganvas.evaluation.published_directions import measure_agreement
from ganvas.evaluation.random_moves import move_randomly
from ganvas.evaluation.result import EvaluationResult, MissingResult
from ganvas.evaluation.success import make_goal
from ganvas.evaluation.summaries import measure_random_pairs, summarise_trial, to_json
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.progress import show_advance
from ganvas.stats import bootstrap_mean
from ganvas.types import WPlus

EFFICIENCY_METHODS = ("compact", "interfacegan", "mean_difference")
"""Methods whose label efficiency is measured."""


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
    """Run every method on every protocol, without writing the report.

    ``log`` is called with what is done, and at first with how much there is to do. ``directions``: published ones that linear
    editors are compared with.
    Raises GanvasError where no attribute can be evaluated; what fails for one method or attribute is recorded as a gap.
    """
    work = out and out / "work"
    usable, gaps = _split_attributes(panel, data, attributes)
    if not usable:
        raise GanvasError(
            f"None of the attributes can be evaluated: {'; '.join(gap.why for gap in gaps) or 'none given'}"
        )
    planned = estimate_cost(generator, panel, data, entries, usable, config, work)
    for line in planned.format_lines():
        log(line)
    with show_advance("Pictures", planned.pictures) as progress:
        context = prepare_context(generator, panel, data, usable, config, work, progress)
        fits = {}
        for entry in entries:
            fits[entry.name] = prepare_entry(entry, data, generator, usable, work and work / "editors", log)
        outcome = EvaluationResult(context, list(entries), usable, fits, gaps=gaps)
        outcome.gaps += [MissingResult("judges", "", "", why) for why in context.gaps]
        for entry in entries:
            fit = fits[entry.name]
            if fit.editor is None:
                outcome.gaps.append(MissingResult("fit", entry.name, "", fit.gap))
            outcome.gaps += [MissingResult("fit", entry.name, name, why) for name, why in fit.missing.items()]
        outcome.results["planned"] = {"pictures": planned.pictures, "parts": planned.parts}
        for part in (
            _run_pictures,
            _run_other_attributes,
            _run_random_moves,
            _run_joint_edits,
            _measure_latent,
            _measure_dci,
            _measure_efficiency,
            _judge_families,
        ):
            part(outcome, work)
    agree = {
        e.name: measure_agreement(m.editor, directions or {})
        for e, m in outcome.list_fitted("first", "rest")
        if m.editor is not None
    }
    outcome.results["looked"] = len(context.requested)
    outcome.results["published"] = {name: cosines for name, cosines in agree.items() if cosines}
    outcome.results["gaps"] = [asdict(gap) for gap in outcome.gaps]
    outcome.results = to_json(outcome.results)
    return outcome


def _split_attributes(
    panel: JudgePanel, data: LatentDataset, attributes: Sequence[str]
) -> tuple[list[str], list[MissingResult]]:
    """Return the attributes that can be evaluated, and why the others can't."""
    usable, gaps = [], []
    for name in attributes:
        if name not in panel.own.attributes:
            gaps.append(MissingResult("attributes", "", name, f"Scorer {panel.own.name!r} has no attribute {name!r}."))
        elif name not in data.attributes:
            gaps.append(MissingResult("attributes", "", name, f"The labels have no usable scores of {name!r}."))
        elif (kind := panel.own.kinds[panel.own.column(name)]) != "probability":
            gaps.append(
                MissingResult("attributes", "", name, f"{name!r} is a {kind}: these protocols need a probability.")
            )
        else:
            usable.append(name)
    return usable, gaps


def _run_pictures(outcome: EvaluationResult, work: Path | None) -> None:
    """Run the paper's protocol, matched change and curves."""
    context, results = outcome.context, outcome.results
    papers, matched, curves, renders = {}, {}, {}, {}
    for entry, fit in outcome.list_fitted():
        n = context.config.count_faces(entry.group)
        for attribute in outcome.attributes if max(n) else ():
            # The reason is recorded by the fit already.
            if attribute in fit.missing or fit.editor is None:
                continue
            with outcome.record_failures("pictures", entry.name, attribute):
                cell = run_method(context, fit.editor, make_goal(attribute), entry.slug, n, context.config.targets)
                outcome.cells[entry.name, attribute] = cell
                if cell.paper is not None:
                    papers.setdefault(attribute, {})[entry.name] = summarise_trial(context, cell.paper)
                for change, trial in cell.matched.items():
                    matched.setdefault(attribute, {}).setdefault(f"{change:g}", {})[entry.name] = summarise_trial(
                        context, trial
                    )
                curves.setdefault(attribute, {})[entry.name] = {
                    name: [bootstrap_mean(values[:, k]) for k in range(values.shape[1])]
                    for name, values in cell.curves.items()
                }
                renders[entry.name] = renders.get(entry.name, 0) + cell.renders
    results |= {"paper": papers, "matched": matched, "curves": curves, "renders": renders}
    results["random_pairs"] = measure_random_pairs(context.panel.split_faces(context.pool.scores))
    results["pool"] = {
        "faces": len(context.pool.scores),
        "base_rates": {
            a: bootstrap_mean((context.pool.scores[:, context.panel.column(a)] > 0).float()) for a in outcome.attributes
        },
    }


def _run_other_attributes(outcome: EvaluationResult, work: Path | None) -> None:
    """Run all other attributes, at the first change, for the methods marked so."""
    context, n = outcome.context, outcome.context.config.everywhere
    change, results = context.config.targets[:1], {}
    for entry, fit in outcome.list_fitted() if n else ():
        if not entry.everywhere or fit.editor is None:
            continue
        for attribute in context.scales[0].attributes:
            if attribute in outcome.attributes:
                continue
            with outcome.record_failures("everywhere", entry.name, attribute):
                goal = make_goal(attribute)
                cell = run_method(context, fit.editor, goal, entry.slug, (0, n), change)
                results.setdefault(attribute, {})[entry.name] = summarise_trial(context, cell.matched[change[0]])
    outcome.results["everywhere"] = results


def _run_random_moves(outcome: EvaluationResult, work: Path | None) -> None:
    """Run random moves as long as those of the first InterfaceGAN, or else of the first method."""
    context, results = outcome.context, {}
    pairs = outcome.list_fitted("first", "rest")
    reference = next((e for e, _ in pairs if e.family == "interfacegan"), pairs[0][0] if pairs else None)
    name = reference.name if reference else ""
    for attribute in outcome.attributes if context.config.floor else ():
        cell = outcome.cells.get((name, attribute))
        for change, trial in cell.matched.items() if cell else ():
            with outcome.record_failures("floor", name, attribute):
                moved = move_randomly(context, trial, f"{attribute}-{change:g}", context.config.floor)
                if moved is not None:
                    results.setdefault(attribute, {})[f"{change:g}"] = summarise_trial(context, moved)
    outcome.results["floor"] = {"as_far_as": name, "attributes": results}


def _run_joint_edits(outcome: EvaluationResult, work: Path | None) -> None:
    """Run edits of several attributes at once."""
    context, results = outcome.context, {}
    for entry, fit in outcome.list_fitted("first"):
        if fit.editor is not None and context.config.together:
            with outcome.record_failures("together", entry.name):
                results[entry.name] = measure_joint_edits(
                    context, fit.editor, outcome.attributes, entry.slug, context.config.together
                )
    outcome.results["together"] = results


def _measure_latent(outcome: EvaluationResult, work: Path | None) -> None:
    """Measure what needs no pictures: readings, order and undo, codes near p = 0.5, and the time of an edit."""
    context, config = outcome.context, outcome.context.config
    ws = sample_latent_codes(context.generator, config.latent, config.psi)
    read, ways, middles, reports = {}, {}, {}, {}
    for entry, fit in outcome.list_fitted():
        editor = fit.editor
        if editor is None:
            continue
        for attribute in outcome.attributes:
            with outcome.record_failures("readings", entry.name, attribute):
                read.setdefault(entry.name, {})[attribute] = measure_readings(
                    editor, ws, attribute, context.data, context.typical_set
                )
            if isinstance(editor, CompactEditor) and entry.name in ("compact", UNGAUSSIANISED):
                with outcome.record_failures("middle", entry.name, attribute):
                    middles.setdefault(entry.name, {})[attribute] = measure_middle_codes(
                        editor, ws[:, 0], attribute, context.typical_set
                    )
        if entry.group != "ablation":
            with outcome.record_failures("order and undo", entry.name):
                ways[entry.name] = measure_order_and_undo(editor, ws[: max(config.latent // 4, 1)], outcome.attributes)
        reports[entry.name] = {k: v for k, v in sorted(editor.report.items()) if isinstance(v, int | float | str)}
        outcome.timings[entry.name] = _measure_times(outcome, entry, fit, ws, work)
    outcome.results |= {"readings": read, "ways": ways, "middle": middles, "reports": reports}


def _measure_times(
    outcome: EvaluationResult, entry: MethodEntry, fit: FittedEntry, ws: WPlus, work: Path | None
) -> dict[str, float | None]:
    """Return the seconds of a fit and the milliseconds of an edit."""
    name = next((a for a in outcome.attributes if fit.editor is not None and a in fit.editor.attributes), None)
    if name is None or fit.editor is None:
        return {"fit_seconds": fit.seconds, "edit_ms": None}
    return {"fit_seconds": fit.seconds, "edit_ms": measure_milliseconds(fit.editor, ws, name)}


def _measure_dci(outcome: EvaluationResult, work: Path | None) -> None:
    """Measure DCI of the editors' codes on the scored fresh faces."""
    context, results = outcome.context, {}
    draws, own = context.config.dci, context.scales[0]
    w = context.pool.make_codes(context.generator, torch.arange(len(context.pool.scores)))[:, 0]
    factors = own.gaussianize(context.pool.scores[:, list(own.columns)])
    for entry, fit in outcome.list_fitted() if draws else ():
        if fit.editor is None:
            continue
        with outcome.record_failures("DCI", entry.name), torch.no_grad():
            codes = dci.compute_codes(fit.editor, w)
            key = {"pool": len(w), "seed": context.config.seed, **_make_key(outcome, entry), "draws": draws}
            file = work and work / "cells" / f"dci-{entry.slug}.json"
            results[entry.name] = _cache_json(
                file, key, lambda c=codes: to_json(vars(dci.measure_dci(c, factors, draws)))
            )
    outcome.results["dci"] = results


def _measure_efficiency(outcome: EvaluationResult, work: Path | None) -> None:
    """Measure label efficiency."""
    context, results = outcome.context, {}
    counts = [n for n in context.config.labels if n <= len(context.data)]
    ws = sample_latent_codes(context.generator, context.config.latent, context.config.psi)
    for entry in outcome.entries:
        for n in counts if entry.name in EFFICIENCY_METHODS else ():
            with outcome.record_failures(f"{n:,} labels", entry.name):
                file = work and work / "cells" / f"labels-{entry.slug}-{n}.json"
                key = {**_make_key(outcome, entry), "labels": n, "latent": len(ws)}
                results.setdefault(entry.name, {})[str(n)] = _cache_json(
                    file, key, lambda e=entry, n=n: to_json(measure_efficiency(context, e, outcome.attributes, ws, n))
                )
    outcome.results["labels"] = results


def _judge_families(outcome: EvaluationResult, work: Path | None) -> None:
    """Compare the families of methods."""
    entries = [e for e in outcome.entries if e.group != "ablation"]
    papers = headline.compare_families(outcome.cells, entries, outcome.attributes, outcome.results)
    matched = verdicts.judge_matched(outcome.context, outcome.cells, entries, outcome.attributes)
    outcome.results["verdicts"] = {
        "success": [asdict(row) for row in verdicts.judge_success(outcome.cells, entries, outcome.attributes)],
        "matched": [asdict(row) | {"holds": row.holds} for row in matched],
        "summary": verdicts.summarise_verdicts(matched),
        "tried": verdicts.summarise_variants(outcome.context, outcome.cells, outcome.entries, outcome.attributes),
        "paper": [asdict(row) | {"verdict": row.verdict} for row in papers],
    }


def _make_key(outcome: EvaluationResult, entry: MethodEntry) -> dict[str, Any]:
    """Return what a cached value of an entry depends on."""
    from ganvas import __version__, editors

    editor = outcome.fits[entry.name].editor
    return {
        "editor": None if editor is None else editors.fingerprint(editor),
        "entry": [entry.name, entry.method, dict(entry.options)],
        "labels": hash_labels(outcome.context.data),
        "panel": outcome.context.panel.fingerprint,
        "attributes": outcome.attributes,
        "version": __version__,
    }


def _cache_json(file: Path | None, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """Return the JSON value in ``file`` where it is of ``key``, else compute and keep it there."""
    if file is not None and file.exists():
        try:
            saved = read_json(file)
        except GanvasError:
            saved = None  # It is only a cache.
        if isinstance(saved, dict) and saved.get("key") == key and "value" in saved:
            return saved["value"]
    value = compute()
    if file is not None:
        write_json(file, {"key": dict(key), "value": value})
    return value
