"""The report of an evaluation: its rows (Parquet), tables (Markdown, JSON), figures and a page, in one folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ganvas import __version__, generators
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import find_shipped_labels, load_labels
from ganvas.errors import GanvasError
from ganvas.evaluation import claims, published_directions, tables
from ganvas.evaluation.analysis import RowAnalysis
from ganvas.evaluation.config import FULL, QUICK, EvaluationConfig
from ganvas.evaluation.faces import get_dtype_name
from ganvas.evaluation.figures import draw_figures
from ganvas.evaluation.judges import FaceRecognizer, JudgePanel, is_same_attribute
from ganvas.evaluation.methods import format_failure, hash_labels, list_quick_names, select_entries
from ganvas.evaluation.pages import PageSection, render_markdown, render_page, to_json
from ganvas.evaluation.papers import ATTRIBUTES
from ganvas.evaluation.rows import write_table
from ganvas.evaluation.runner import EvaluationResult, MissingResult, run_evaluation
from ganvas.generators.base import Generator
from ganvas.identity import EMBEDDING_WIDTH, FaceEmbedder
from ganvas.io.files import write_json, write_text
from ganvas.recipe.files import check_output
from ganvas.recipe.rendering import load_tools
from ganvas.scorers import list_scorers, load_scorer
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.dlib_weights import SHA256

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "safetensors", "zuko", "dlib-bin")
"""Packages whose versions a report states, where they are installed."""

TABLES = (
    claims.build_headline,
    claims.build_success_claims,
    claims.build_families,
    tables.build_paper,
    tables.build_matched,
    tables.build_judged,
    claims.build_variants,
    tables.build_joint,
    tables.build_codes,
    tables.build_labels,
    tables.build_agreement,
    tables.build_others,
)
"""What builds the report's tables, in their order; costs come last."""


@dataclass(frozen=True)
class EvaluationRequest:
    """The input of an evaluation; None stands for what fits the generator.

    ``methods``: names of ``methods.list_entries`` (a quick report has four, and every new one); ``files``: editors to compare,
    too; ``judges``: other scorers; ``config``: the size; ``published``: the folder with directions that others published.
    """

    generator: str
    scorer: str | None = None
    methods: Sequence[str] | None = None
    files: Sequence[str] = ()
    attributes: Sequence[str] | None = None
    labels: Path | None = None
    judges: Sequence[str] | None = None
    config: EvaluationConfig = FULL
    device: str = "cpu"
    dtype: str = "float32"
    published: Path | None = None


def evaluate(
    request: EvaluationRequest, out: str | Path, command: str = "", log: Callable[[str], object] = lambda line: None
) -> dict[str, Any]:
    """Compare editors and write ``out``/rows.parquet, report.json, report.md, index.html and figures; started again it goes on.

    ``log`` is called with lines for people. Returns what the JSON holds. Raises GanvasError for unknown names, labels that
    are missing or of another generator, a scorer that counts, a folder that can't be written, and where no attribute can be
    evaluated; all else that fails is listed in the report.
    """
    out = Path(out)
    check_output(out / "report.json", (".json",))
    names = list_quick_names() if request.methods is None and request.config == QUICK else request.methods
    entries = select_entries(names, request.files)
    own = load_scorer(request.scorer or generators.find_card(request.generator).scorer)
    if dict(zip(own.attributes, own.kinds, strict=True)).get("count") == "count":
        raise GanvasError(
            f"Scorer {own.name!r} counts objects, and editors are compared by probabilities:"
            " for the report on counts run `python -m experiments.multimnist.report` in a checkout of ganvas."
        )
    tools = load_tools(request.generator, request.dtype, request.device)
    own = own.to(tools.generator.device)
    data = load_usable(request.labels or find_shipped_labels(request.generator, own.name), tools.generator, own)
    panel, gaps = build_panel(own, request.judges)
    directions = None
    if request.published:
        try:
            directions = published_directions.read_published(request.published, tools.generator.w_dim)
        except GanvasError as error:
            gaps.append(f"published directions: {format_failure(error)}")
    attributes = request.attributes or choose_attributes(own)
    result = run_evaluation(tools.generator, panel, data, entries, attributes, request.config, out, log, directions)
    log("Drawing figures")
    return write_report(result, out, command or format_default_command(), gaps)


def write_report(result: EvaluationResult, out: Path, command: str, missing: Sequence[str] = ()) -> dict[str, Any]:
    """Write the report of a finished run; ``missing``: judges and directions that couldn't be loaded, and why."""
    analysis = RowAnalysis(result)
    gaps = [asdict(gap) for gap in (*result.gaps, *(MissingResult("input", "", "", why) for why in missing))]
    built = [table for build in TABLES if (table := build(analysis)).rows]
    results = to_json(
        {
            "made": describe_versions(result, command),
            "judges": analysis.judges,
            "planned": result.planned,
            "pictures": result.pictures,
            "tables": {table.name: table.to_json() for table in built},
            "gaps": gaps,
        }
    )
    write_table(out / "rows.parquet", result.table)
    write_json(out / "report.json", results)
    write_json(out / "timings.json", result.timings)
    pictures = draw_figures(analysis, out)
    sections = [table.to_section() for table in [*built, tables.build_costs(analysis)]]
    # What is claimed first, then pictures, then all that was measured.
    first = sum(table.name in ("headline", "success", "families") for table in built)
    sections[first:first] = pictures
    if gaps:
        lines = [
            " ".join(filter(None, (gap["what"], gap["method"], gap["attribute"]))) + f": {gap['why']}" for gap in gaps
        ]
        sections.append(PageSection("What could not be measured", " · ".join(lines)))
    page = (
        f"Editors of {result.context.generator.name}, compared",
        describe_run(results),
        sections,
        f"Made by `{command}`. " + format_versions(results["made"]),
    )
    write_text(out / "report.md", render_markdown(*page))
    write_text(out / "index.html", render_page(*page))
    return results


def load_usable(labels: str | Path, generator: Generator, scorer: Scorer) -> LatentDataset:
    """Load labels without the attributes that nothing can be learned from, like one with the same score everywhere.

    Raises GanvasError where no attribute is usable, with what is wrong with all of them.
    """
    try:
        return load_labels(labels, generator)
    except GanvasError as error:
        whole = error
    usable = []
    for name in scorer.attributes:
        try:
            load_labels(labels, generator, attributes=[name])
        except GanvasError:
            continue
        usable.append(name)
    if not usable:
        raise whole
    return load_labels(labels, generator, attributes=usable)


def build_panel(own: Scorer, names: Sequence[str] | None, faces: bool = True) -> tuple[JudgePanel, list[str]]:
    """Build the panel of the label scorer and its judges, on its device, and list why some couldn't be loaded.

    Without ``names``: all other scorers that read one of its attributes, under its own or another name, by other networks.
    Raises GanvasError for an unknown name.
    """
    judges, gaps = [], []
    for name in names if names is not None else list_scorers():
        if name == own.name:
            continue
        if name not in list_scorers():
            load_scorer(name)  # raises, with the names that there are
        try:
            judge = load_scorer(name)
        except GanvasError as error:
            gaps.append(f"{name}: {format_failure(error)}")
            continue
        related = any(is_same_attribute(a, b) for a in own.attributes for b in judge.attributes)
        if names is not None or (related and not own.networks & judge.networks):
            judges.append(judge.to(next(own.buffers(), torch.empty(0)).device))
    embedder = None
    if faces and any(is_same_attribute("Male", a) for a in own.attributes):  # a scorer of faces
        try:
            embedder = load_face_recognizer()
        except GanvasError as error:
            gaps.append(f"identity: {format_failure(error)}")
    return JudgePanel(own, judges, embedder), gaps


def load_face_recognizer() -> FaceRecognizer:
    """Load dlib's face recognition. Raises GanvasError where the extra isn't installed."""
    return FaceRecognizer(FaceEmbedder(), " ".join(SHA256.values()), EMBEDDING_WIDTH)


def choose_attributes(scorer: Scorer) -> list[str]:
    """Return the paper's four attributes of those that the scorer has, or else all of its probabilities."""
    four = [name for name in ATTRIBUTES if name in scorer.attributes]
    probabilities = [a for a, kind in zip(scorer.attributes, scorer.kinds, strict=True) if kind == "probability"]
    return four or probabilities


def describe_versions(result: EvaluationResult, command: str) -> dict[str, Any]:
    """Return the command, versions, seeds and sizes of a run."""
    context = result.context
    versions = {"ganvas": __version__, "python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": command,
        "versions": versions,
        "generator": f"{context.generator.name}:{context.generator.fingerprint}",
        "dtype": get_dtype_name(context.generator),
        "scorer": f"{context.panel.label_scorer.name}:{context.panel.label_scorer.fingerprint}",
        "labels": {"n": len(context.data), "scorer": context.data.scorer, "digest": hash_labels(context.data)},
        "seed": context.config.seed,
        "psi": context.config.psi,
        "plan": asdict(context.config),
        "attributes": result.attributes,
        "methods": [{**asdict(entry), "file": Path(entry.file).name} for entry in result.entries],
    }


def describe_run(results: dict[str, Any]) -> str:
    """Describe a run in the sentences that open the report."""
    run, count = results["made"], results["pictures"]
    config = run["plan"]
    share = (
        ""
        if config["share"] == 1
        else (
            f" This is a share of {config['share']:g} of the full report (`--share`): {config['first']} and"
            f" {config['rest']} faces an attribute at the paper's protocol, for the first methods and the rest."
        )
    )
    return (
        f"{len(run['methods'])} editors learned from the same {run['labels']['n']:,} labels (or from none), on the same fresh"
        f" faces, which none of them learned from: seeds from {run['seed']:,} on, psi {run['psi']:g}. {count:,} pictures"
        f" were judged by {', '.join(results['judges'])}; the labels are"
        f" {run['labels']['scorer'].partition(':')[0]}'s.{share}"
    )


def format_versions(run: dict[str, Any]) -> str:
    """Format versions and seeds as a line."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return f"{versions}; {run['dtype']}; seeds from {run['seed']:,}; report.json has all of it."


def format_default_command() -> str:
    """Return the command as it was typed, without this machine's folders."""
    return " ".join(["ganvas", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])])
