"""The benchmark: every method on every protocol, each number from pictures that are kept, then the report.

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
from ganvas.evaluation import dci as dci_of
from ganvas.evaluation import headline, verdicts
from ganvas.evaluation.config import EvaluationConfig
from ganvas.evaluation.context import prepare_context
from ganvas.evaluation.cost import estimate_cost
from ganvas.evaluation.joint_edits import measure_joint_edits, measure_order_and_undo
from ganvas.evaluation.judges import JudgePanel
from ganvas.evaluation.label_efficiency import measure_efficiency
from ganvas.evaluation.latent_measures import latent_codes, measure_middle_codes, measure_milliseconds, measure_readings
from ganvas.evaluation.method_trials import run_method
from ganvas.evaluation.methods import UNGAUSSIANISED, FittedEntry, MethodEntry, labels_digest, prepare_entry
from ganvas.evaluation.published_directions import measure_agreement
from ganvas.evaluation.random_moves import random_moves
from ganvas.evaluation.result import EvaluationResult, MissingResult
from ganvas.evaluation.success import edit_goal
from ganvas.evaluation.summaries import measure_random_pairs, summarise_trial, to_json
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.progress import show_advance
from ganvas.stats import bootstrap_mean
from ganvas.types import WPlus

EFFICIENCY_METHODS = ("compact", "interfacegan", "mean_difference")
"""Methods whose label efficiency is measured."""
Reporter = Callable[[str], object]


def run_evaluation(
    generator: Generator,
    panel: JudgePanel,
    data: LatentDataset,
    entries: Sequence[MethodEntry],
    attributes: Sequence[str],
    plan: EvaluationConfig,
    out: Path | None,
    say: Reporter = lambda line: None,
    directions: Mapping[str, Tensor] | None = None,
) -> EvaluationResult:
    """Everything but the report. ``say`` is told what is done, and at first how much there is to do.

    ``directions``: published ones, that linear editors are compared with.

    Raises GanvasError where no attribute can be benched at all; what fails for one method or attribute is marked.
    """
    work = out and out / "work"
    known, strange = _known(panel, data, attributes)
    if not known:
        raise GanvasError(
            f"None of the attributes can be benched: {'; '.join(gap.why for gap in strange) or 'none given'}"
        )
    planned = estimate_cost(generator, panel, data, entries, known, plan, work)
    for line in planned.lines():
        say(line)
    with show_advance("Pictures", planned.pictures) as watch:
        stage = prepare_context(generator, panel, data, known, plan, work, watch)
        contenders = {}
        for entry in entries:
            contenders[entry.name] = prepare_entry(entry, data, generator, known, work and work / "editors", say)
        outcome = EvaluationResult(stage, list(entries), known, contenders, gaps=strange)
        outcome.gaps += [MissingResult("judges", "", "", why) for why in stage.gaps]
        for entry in entries:
            made = contenders[entry.name]
            if made.editor is None:
                outcome.gaps.append(MissingResult("fit", entry.name, "", made.gap))
            outcome.gaps += [MissingResult("fit", entry.name, name, why) for name, why in made.missing.items()]
        outcome.results["planned"] = {"pictures": planned.pictures, "parts": planned.parts}
        for part in (_pictured, _everywhere, _floor, _together, _latent, _dci, _efficiency, _verdicts):
            part(outcome, work)
    agree = {
        e.name: measure_agreement(m.editor, directions or {})
        for e, m in outcome.able("first", "rest")
        if m.editor is not None
    }
    outcome.results["looked"] = len(stage.asked)
    outcome.results["published"] = {name: found for name, found in agree.items() if found}
    outcome.results["gaps"] = [asdict(gap) for gap in outcome.gaps]
    outcome.results = to_json(outcome.results)
    return outcome


def _known(panel: JudgePanel, data: LatentDataset, attributes: Sequence[str]) -> tuple[list[str], list[MissingResult]]:
    known, gaps = [], []
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
            known.append(name)
    return known, gaps


def _pictured(outcome: EvaluationResult, work: Path | None) -> None:
    """The paper's protocol, matched change and curves."""
    stage, results = outcome.stage, outcome.results
    papers, matched, curves, renders = {}, {}, {}, {}
    for entry, made in outcome.able():
        n = stage.plan.faces(entry.group)
        for attribute in outcome.attributes if max(n) else ():
            # What the fit said of the attribute is the reason already.
            if attribute in made.missing or made.editor is None:
                continue
            with outcome.marking("pictures", entry.name, attribute):
                cell = run_method(stage, made.editor, edit_goal(attribute), entry.slug, n, stage.plan.targets)
                outcome.cells[entry.name, attribute] = cell
                if cell.paper is not None:
                    papers.setdefault(attribute, {})[entry.name] = summarise_trial(stage, cell.paper)
                for change, trial in cell.matched.items():
                    matched.setdefault(attribute, {}).setdefault(f"{change:g}", {})[entry.name] = summarise_trial(
                        stage, trial
                    )
                curves.setdefault(attribute, {})[entry.name] = {
                    name: [bootstrap_mean(values[:, k]) for k in range(values.shape[1])]
                    for name, values in cell.curves.items()
                }
                renders[entry.name] = renders.get(entry.name, 0) + cell.renders
    results |= {"paper": papers, "matched": matched, "curves": curves, "renders": renders}
    results["random_pairs"] = measure_random_pairs(stage.panel.faces(stage.pool.scores))
    results["pool"] = {
        "faces": len(stage.pool.scores),
        "base_rates": {
            a: bootstrap_mean((stage.pool.scores[:, stage.panel.column(a)] > 0).float()) for a in outcome.attributes
        },
    }


def _everywhere(outcome: EvaluationResult, work: Path | None) -> None:
    """All other attributes, at the first change, for the methods marked so."""
    stage, n = outcome.stage, outcome.stage.plan.everywhere
    change, found = stage.plan.targets[:1], {}
    for entry, made in outcome.able() if n else ():
        if not entry.everywhere or made.editor is None:
            continue
        for attribute in stage.rulers[0].attributes:
            if attribute in outcome.attributes:
                continue
            with outcome.marking("everywhere", entry.name, attribute):
                wanted = edit_goal(attribute)
                cell = run_method(stage, made.editor, wanted, entry.slug, (0, n), change)
                found.setdefault(attribute, {})[entry.name] = summarise_trial(stage, cell.matched[change[0]])
    outcome.results["everywhere"] = found


def _floor(outcome: EvaluationResult, work: Path | None) -> None:
    """Random moves as long as those of the first InterfaceGAN, or else of the first method."""
    stage, found = outcome.stage, {}
    pairs = outcome.able("first", "rest")
    reference = next((e for e, _ in pairs if e.family == "interfacegan"), pairs[0][0] if pairs else None)
    name = reference.name if reference else ""
    for attribute in outcome.attributes if stage.plan.floor else ():
        cell = outcome.cells.get((name, attribute))
        for change, trial in cell.matched.items() if cell else ():
            with outcome.marking("floor", name, attribute):
                moved = random_moves(stage, trial, f"{attribute}-{change:g}", stage.plan.floor)
                if moved is not None:
                    found.setdefault(attribute, {})[f"{change:g}"] = summarise_trial(stage, moved)
    outcome.results["floor"] = {"as_far_as": name, "attributes": found}


def _together(outcome: EvaluationResult, work: Path | None) -> None:
    stage, found = outcome.stage, {}
    for entry, made in outcome.able("first"):
        if made.editor is not None and stage.plan.together:
            with outcome.marking("together", entry.name):
                found[entry.name] = measure_joint_edits(
                    stage, made.editor, outcome.attributes, entry.slug, stage.plan.together
                )
    outcome.results["together"] = found


def _latent(outcome: EvaluationResult, work: Path | None) -> None:
    """What needs no pictures: readings, order and undo, codes near p = 0.5; and how long an edit takes."""
    stage, plan = outcome.stage, outcome.stage.plan
    ws = latent_codes(stage.generator, plan.latent, plan.psi)
    read, ways, middles, reports = {}, {}, {}, {}
    for entry, made in outcome.able():
        editor = made.editor
        if editor is None:
            continue
        for attribute in outcome.attributes:
            with outcome.marking("readings", entry.name, attribute):
                read.setdefault(entry.name, {})[attribute] = measure_readings(
                    editor, ws, attribute, stage.data, stage.within
                )
            if isinstance(editor, CompactEditor) and entry.name in ("compact", UNGAUSSIANISED):
                with outcome.marking("middle", entry.name, attribute):
                    middles.setdefault(entry.name, {})[attribute] = measure_middle_codes(
                        editor, ws[:, 0], attribute, stage.within
                    )
        if entry.group != "ablation":
            with outcome.marking("order and undo", entry.name):
                ways[entry.name] = measure_order_and_undo(editor, ws[: max(plan.latent // 4, 1)], outcome.attributes)
        reports[entry.name] = {k: v for k, v in sorted(editor.report.items()) if isinstance(v, int | float | str)}
        outcome.timings[entry.name] = _timed(outcome, entry, made, ws, work)
    outcome.results |= {"readings": read, "ways": ways, "middle": middles, "reports": reports}


def _timed(
    outcome: EvaluationResult, entry: MethodEntry, made: FittedEntry, ws: WPlus, work: Path | None
) -> dict[str, float | None]:
    name = next((a for a in outcome.attributes if made.editor is not None and a in made.editor.attributes), None)
    if name is None or made.editor is None:
        return {"fit_seconds": made.seconds, "edit_ms": None}
    return {"fit_seconds": made.seconds, "edit_ms": measure_milliseconds(made.editor, ws, name)}


def _dci(outcome: EvaluationResult, work: Path | None) -> None:
    stage, found = outcome.stage, {}
    draws, own = stage.plan.dci, stage.rulers[0]
    w = stage.pool.codes(stage.generator, torch.arange(len(stage.pool.scores)))[:, 0]
    factors = own.gaussianize(stage.pool.scores[:, list(own.columns)])
    for entry, made in outcome.able() if draws else ():
        if made.editor is None:
            continue
        with outcome.marking("DCI", entry.name), torch.no_grad():
            codes = dci_of.codes_of(made.editor, w)
            key = {"pool": len(w), "seed": stage.plan.seed, **_key(outcome, entry), "draws": draws}
            file = work and work / "cells" / f"dci-{entry.slug}.json"
            found[entry.name] = _kept(file, key, lambda c=codes: to_json(vars(dci_of.measure_dci(c, factors, draws))))
    outcome.results["dci"] = found


def _efficiency(outcome: EvaluationResult, work: Path | None) -> None:
    stage, found = outcome.stage, {}
    counts = [n for n in stage.plan.labels if n <= len(stage.data)]
    ws = latent_codes(stage.generator, stage.plan.latent, stage.plan.psi)
    for entry in outcome.entries:
        for n in counts if entry.name in EFFICIENCY_METHODS else ():
            with outcome.marking(f"{n:,} labels", entry.name):
                file = work and work / "cells" / f"labels-{entry.slug}-{n}.json"
                key = {**_key(outcome, entry), "labels": n, "latent": len(ws)}
                found.setdefault(entry.name, {})[str(n)] = _kept(
                    file, key, lambda e=entry, n=n: to_json(measure_efficiency(stage, e, outcome.attributes, ws, n))
                )
    outcome.results["labels"] = found


def _verdicts(outcome: EvaluationResult, work: Path | None) -> None:
    entries = [e for e in outcome.entries if e.group != "ablation"]
    papers = headline.compare_families(outcome.cells, entries, outcome.attributes, outcome.results)
    matched = verdicts.judge_matched(outcome.stage, outcome.cells, entries, outcome.attributes)
    outcome.results["verdicts"] = {
        "success": [asdict(row) for row in verdicts.judge_success(outcome.cells, entries, outcome.attributes)],
        "matched": [asdict(row) | {"holds": row.holds} for row in matched],
        "summary": verdicts.summarise_verdicts(matched),
        "tried": verdicts.summarise_variants(outcome.stage, outcome.cells, outcome.entries, outcome.attributes),
        "paper": [asdict(row) | {"verdict": row.verdict} for row in papers],
    }


def _key(outcome: EvaluationResult, entry: MethodEntry) -> dict[str, Any]:
    from ganvas import __version__, editors

    editor = outcome.contenders[entry.name].editor
    return {
        "editor": None if editor is None else editors.fingerprint(editor),
        "entry": [entry.name, entry.method, dict(entry.options)],
        "labels": labels_digest(outcome.stage.data),
        "panel": outcome.stage.panel.fingerprint,
        "attributes": outcome.attributes,
        "version": __version__,
    }


def _kept(file: Path | None, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """A JSON value from ``file`` where it is of ``key``, else computed and kept there."""
    if file is not None and file.exists():
        try:
            found = read_json(file)
        except GanvasError:
            found = None  # It is only a cache.
        if isinstance(found, dict) and found.get("key") == key and "value" in found:
            return found["value"]
    value = compute()
    if file is not None:
        write_json(file, {"key": dict(key), "value": value})
    return value
