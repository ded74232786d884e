"""From a checkpoint to controls in one call: label what it draws, fit an editor, see how good it is, keep all of it.

A folder holds ``labels/``, ``editor.safetensors``, ``bench/`` and ``learned.json``, which says what the editor was made of;
stopped at any moment, the same call goes on. A scorer from examples is kept there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganvas import __version__, editors, scorers
from ganvas.checkpoints.load import load_generator
from ganvas.data import label_csv
from ganvas.data.dataset import LatentDataset
from ganvas.data.label import label
from ganvas.editors import load_editor, report_lines, save
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.recipe.files import check_output
from ganvas.scorers import from_examples
from ganvas.seeds import LABEL_SEED

Reporter = Callable[[str], object]
FitFunction = Callable[[str, LatentDataset, Generator, dict[str, Any]], Any]


@dataclass(frozen=True)
class LearnConfig:
    """What is to be learned. ``scorers.base``: a scorer's name or file, a CSV of labels, or a folder with positive/
    and negative/."""

    generator: str
    scorer: str
    n: int = 20_000
    method: str = "compact"
    options: Mapping[str, Any] = field(default_factory=dict)
    features: str = "celeba40"
    """What a scorer from examples reads."""
    psi: float = 1.0
    seed: int = LABEL_SEED
    bench: bool = True
    device: str = "cpu"
    dtype: str = "float32"


def learn(
    lesson: LearnConfig,
    out: str | Path,
    say: Reporter = lambda line: None,
    fit: FitFunction | None = None,
    progress: bool = False,
) -> Path:
    """Do it, and return the editor's path; ``fit(method, data, generator, options)`` may show progress of its own.

    Raises GanvasError for what doesn't exist or doesn't fit together, before anything is drawn where that can be known.
    """
    out = Path(out)
    check_output(out / "learned.json", (".json",))
    if lesson.method not in editors.method_names():
        raise GanvasError(f"Unknown method {lesson.method!r}: pick one of {', '.join(editors.method_names())}.")
    generator = load_generator(lesson.generator, lesson.device, getattr(torch, lesson.dtype))
    say(f"{generator.name}: {generator.resolution}×{generator.resolution}, fingerprint {generator.fingerprint[:12]}")
    scorer = ""
    if lesson.scorer.lower().endswith(".csv"):
        data = label_csv.read_label_csv(lesson.scorer, generator, lesson.psi)
    else:
        scorer = _scorer_file(lesson, out, say)
        data = _labelled(lesson, scorer, generator, out, progress)
    say(f"{len(data)} labelled pictures, {len(data.attributes)} attributes: {', '.join(data.attributes[:8])}")
    editor = _fitted(lesson, data, generator, out, say, fit)
    if lesson.bench:
        _benched(lesson, scorer, out, say)
    return editor


def _scorer_file(lesson: LearnConfig, out: Path, say: Reporter) -> str:
    """The scorer's name, or its file: one from examples is fitted now, if it isn't there."""
    if not Path(lesson.scorer).is_dir():
        return lesson.scorer
    scorer, told = from_examples.fit_examples_scorer(lesson.scorer, lesson.features)
    path = out / "scorer.safetensors"
    from_examples.save_examples_scorer(scorer, path)
    say(told)
    return str(path)


def _labelled(lesson: LearnConfig, scorer: str, generator: Generator, out: Path, progress: bool) -> LatentDataset:
    from ganvas.evaluation.report import load_usable

    judge, folder = scorers.load_scorer(scorer).to(generator.device), out / "labels"
    try:
        return label(generator, judge, lesson.n, psi=lesson.psi, seed=lesson.seed, out=folder, progress=progress)
    except GanvasError:
        if not (folder / "index.json").exists():
            raise
        # Labelled, perhaps, with an attribute that is the same everywhere: the others are learned.
        data = load_usable(folder, generator, judge)
        found = (data.scorer, len(data), data.source.seed, data.source.psi)
        if found != (f"{judge.name}:{judge.fingerprint}", lesson.n, lesson.seed, lesson.psi):
            raise
        return data


def _fitted(
    lesson: LearnConfig, data: LatentDataset, generator: Generator, out: Path, say: Reporter, fit: FitFunction | None
) -> Path:
    path, index = out / "editor.safetensors", out / "learned.json"
    made = {
        "ganvas": __version__,
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
        "scorer": data.scorer,
        "labels": {"n": len(data), "psi": lesson.psi, "seed": data.source.seed, "attributes": list(data.attributes)},
        "method": lesson.method,
        "options": dict(lesson.options),
    }
    if path.exists() and index.exists() and read_json(index) == made:
        load_editor(path, generator)
        say(f"{path} is there already")
        return path
    if fit is None:
        editor = editors.fit(lesson.method, data, generator, **lesson.options)
    else:
        editor = fit(lesson.method, data, generator, dict(lesson.options))
    save(editor, path)
    write_json(index, made)
    for line in report_lines(editor):
        say(line)
    say(f"{path}: {lesson.method} of {len(editor.attributes)} attributes")
    return path


def _benched(lesson: LearnConfig, scorer: str, out: Path, say: Reporter) -> None:
    """The quick report, where there is one: it needs a scorer that reads probabilities off pictures."""
    from ganvas.evaluation import config
    from ganvas.evaluation.report import EvaluationRequest, evaluate

    if not scorer:
        say("Not benched: labels of one's own come without a scorer that could judge edits.")
        return
    wanted = EvaluationRequest(
        lesson.generator,
        scorer,
        files=(str(out / "editor.safetensors"),),
        labels=out / "labels",
        config=config.QUICK,
        device=lesson.device,
        dtype=lesson.dtype,
    )
    try:
        gaps = evaluate(wanted, out / "bench", log=say)["gaps"]
    except GanvasError as error:
        say(f"Not benched: {error}")
        return
    if gaps:
        one = gaps[0]
        say(f"Not all could be measured ({len(gaps)} gaps): {one['what']} of {one['method']}: {one['why']}")
    say(f"{out / 'bench' / 'index.html'}")
