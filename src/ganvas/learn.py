"""From a checkpoint to an editor in one call: label its pictures, fit an editor, and compare it with others.

The output folder has ``labels/``, ``editor.safetensors``, ``report/`` and ``learned.json``, which describes what the editor was
fitted on, and a scorer from examples; the same call continues a stopped one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganvas import __version__, editors, scorers
from ganvas.checkpoints.load import load_generator
from ganvas.data import label_csv
from ganvas.data.dataset import LatentDataset
from ganvas.data.label import label
from ganvas.editors import format_report_lines, load_editor, save
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.progress import show_count
from ganvas.recipe.files import check_output
from ganvas.scorers import from_examples
from ganvas.seeds import LABEL_SEED

LogFunction = Callable[[str], object]
FitFunction = Callable[[str, LatentDataset, Generator, dict[str, Any]], Any]


@dataclass(frozen=True)
class LearnConfig:
    """What to fit an editor on. ``scorer``: a scorer's name or file, a table of labels, or a folder with positive/ and
    negative/."""

    generator: str
    scorer: str
    n: int = 20_000
    method: str = "compact"
    options: Mapping[str, Any] = field(default_factory=dict)
    features: str = "celeba40"
    """The features of a scorer from examples."""
    psi: float = 1.0
    seed: int = LABEL_SEED
    report: bool = True
    """Compare the editor with others at the end, in the folder ``report``."""
    device: str = "cpu"
    dtype: str = "float32"


def learn(
    config: LearnConfig,
    out: str | Path,
    log: LogFunction = lambda line: None,
    fit: FitFunction | None = None,
    progress: bool = False,
) -> Path:
    """Label a generator, fit an editor, write its report, and return the editor's path.

    ``log`` takes lines for the user; ``fit(method, data, generator, options)`` replaces ``editors.fit``, say to show its
    progress; ``progress`` shows that of labelling. Raises GanvasError for what doesn't exist or doesn't fit together, if
    possible before anything is drawn.
    """
    out = Path(out)
    check_output(out / "learned.json", (".json",))
    if config.method not in editors.list_methods():
        raise unknown("method", config.method, editors.list_methods())
    generator = load_generator(config.generator, config.device, config.dtype)
    log(f"{generator.name}: {generator.resolution}×{generator.resolution}, fingerprint {generator.fingerprint[:12]}")
    scorer = ""
    if config.scorer.lower().endswith(label_csv.LABEL_SUFFIXES):
        data = label_csv.read_label_csv(config.scorer, generator, config.psi, log)
    else:
        scorer = _prepare_scorer(config, out, log)
        data = _label_generator(config, scorer, generator, out, progress)
    log(f"{len(data)} labelled pictures, {len(data.attributes)} attributes: {', '.join(data.attributes[:8])}")
    editor = _fit_editor(config, data, generator, out, log, fit)
    if config.report:
        _write_report(config, scorer, out, log)
    return editor


def _prepare_scorer(config: LearnConfig, out: Path, log: LogFunction) -> str:
    """Return the scorer's name or file; one from examples is fitted and saved first."""
    if not Path(config.scorer).is_dir():
        return config.scorer
    scorer, summary = from_examples.fit_examples_scorer(config.scorer, config.features)
    path = out / "scorer.safetensors"
    from_examples.save_examples_scorer(scorer, path)
    log(summary)
    return str(path)


def _label_generator(
    config: LearnConfig, scorer: str, generator: Generator, out: Path, progress: bool
) -> LatentDataset:
    from ganvas.evaluation.report import load_usable

    judge, folder = scorers.load_scorer(scorer).to(generator.device), out / "labels"
    try:
        with show_count("Faces") if progress else nullcontext() as callback:
            return label(generator, judge, config.n, psi=config.psi, seed=config.seed, out=folder, progress=callback)
    except GanvasError:
        if not (folder / "index.json").exists():
            raise
        # Perhaps an attribute has the same value everywhere: the editor is fitted on the others.
        data = load_usable(folder, generator, judge)
        source = (data.scorer, len(data), data.source.seed, data.source.psi)
        if source != (f"{judge.name}:{judge.fingerprint}", config.n, config.seed, config.psi):
            raise
        return data


def _fit_editor(
    config: LearnConfig, data: LatentDataset, generator: Generator, out: Path, log: LogFunction, fit: FitFunction | None
) -> Path:
    path, index = out / "editor.safetensors", out / "learned.json"
    record = {
        "ganvas": __version__,
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
        "scorer": data.scorer,
        "labels": {"n": len(data), "psi": config.psi, "seed": data.source.seed, "attributes": list(data.attributes)},
        "method": config.method,
        "options": dict(config.options),
    }
    if path.exists() and index.exists() and read_json(index) == record:
        load_editor(path, generator)
        log(f"{path} exists already")
        return path
    if fit is None:
        editor = editors.fit(config.method, data, generator, **config.options)
    else:
        editor = fit(config.method, data, generator, dict(config.options))
    index.unlink(missing_ok=True)  # a run that is stopped between the two leaves no record of another editor
    save(editor, path)
    write_json(index, record)
    for line in format_report_lines(editor):
        log(line)
    log(f"{path}: {config.method} of {len(editor.attributes)} attributes")
    return path


def _write_report(config: LearnConfig, scorer: str, out: Path, log: LogFunction) -> None:
    """Write the quick report, which needs a scorer of pictures that gives probabilities."""
    from ganvas.evaluation.config import QUICK
    from ganvas.evaluation.report import EvaluationRequest, evaluate

    if not scorer:
        log("No report is written: labels from a table come without a scorer that could judge edits.")
        return
    request = EvaluationRequest(
        config.generator,
        scorer,
        files=(str(out / "editor.safetensors"),),
        labels=out / "labels",
        config=QUICK,
        device=config.device,
        dtype=config.dtype,
    )
    try:
        gaps = evaluate(request, out / "report", log=log)["gaps"]
    except GanvasError as error:
        log(f"No report is written: {error}")
        return
    if gaps:
        gap = gaps[0]
        log(f"Not all could be measured ({len(gaps)} gaps): {gap['what']} of {gap['method']}: {gap['why']}")
    log(f"{out / 'report' / 'index.html'}")
