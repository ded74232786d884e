"""Methods to compare: all that are discovered, with variants of some, and how each becomes an editor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ganvas import __version__, editors
from ganvas.data import probe
from ganvas.data.dataset import LatentDataset
from ganvas.data.gaussianize import Gaussianize
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.evaluation.rows import hash_sources
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.metrics import to_readable
from ganvas.progress import Progress, show_count


@dataclass(frozen=True)
class MethodEntry:
    """A row of the report: ``method`` with ``options``, or the editor in ``file``.

    ``group``: "first" is tried on the most faces, then "rest"; an "ablation" is measured on codes, and on few faces.
    ``family``: what verdicts compare, "compact" or "interfacegan". ``conditional``: the method's option of that name is the
    attributes that are evaluated. ``tries_all_attributes``: the scorer's other attributes are tried, too. ``quick``: it is in
    the quick report.
    """

    name: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str = "rest"
    family: str = ""
    conditional: bool = False
    tries_all_attributes: bool = False
    quick: bool = False
    file: str = ""

    @property
    def slug(self) -> str:
        """The name in file names."""
        plain = "".join(c if c.isalnum() or c == "_" else "-" for c in self.name)
        return plain if plain == self.name else f"{plain}-{_hash_text(self.name)[:6]}"


FEATURED: tuple[MethodEntry, ...] = (
    MethodEntry("compact", "compact", group="first", family="compact", tries_all_attributes=True, quick=True),
    MethodEntry("compact paper", "compact", {"recipe": "paper", "residual": False}, "first", "compact"),
    MethodEntry(
        "interfacegan", "interfacegan", group="first", family="interfacegan", tries_all_attributes=True, quick=True
    ),
    MethodEntry("interfacegan conditional", "interfacegan", {}, "first", "interfacegan", conditional=True, quick=True),
)
"""The families that the papers compare."""
FAMILIES = tuple(dict.fromkeys(entry.family for entry in FEATURED))
UNGAUSSIANISED = "compact without Gaussianisation"
"""The row whose labels are standardised scores instead of normal scores."""
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "compact with c_k alone": {"hold": None},
    "compact with straight moves": {"truncation": 0.0, "aim": "score"},
    UNGAUSSIANISED: {},
    "compact without L_corr": {"beta": 0.0},
    "compact with M_ref of the labels": {"mref": "labels"},
    "compact with 20 components": {"components": 20},
    "compact with 128 components": {"components": 128},
    "compact with 512 components": {"components": 512},
    "compact with dim C 40": {"dim": 40},
    "compact with dim C 128": {"dim": 128},
    "compact without residual": {"residual": False},
}
"""Options of the compact method, by the name of their row."""


@dataclass(frozen=True)
class FittedEntry:
    """An entry's editor, or the reason why there is none, in one line; ``missing``: the same by attribute."""

    editor: Editor | None
    gap: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    """Seconds that its fit took, whatever else the machine did meanwhile."""


def list_entries() -> list[MethodEntry]:
    """Return the rows of the full report: one for every method that learns from probabilities, and variants of some."""
    listed = {entry.name for entry in FEATURED}
    others = [
        MethodEntry(name, name, quick="quick" in editors.get_reports(name))
        for name in editors.list_methods()
        if name not in listed and "probability" in editors.get_learnable_kinds(name)
    ]
    ablations = [MethodEntry(name, "compact", options, "ablation") for name, options in ABLATIONS.items()]
    return [*FEATURED, *others, *ablations]


def list_quick_names() -> list[str]:
    """Return the names of the rows of a quick report."""
    return [entry.name for entry in list_entries() if entry.quick]


def select_entries(names: Sequence[str] | None, files: Sequence[str] = ()) -> list[MethodEntry]:
    """Return the rows of ``list_entries`` with these names, or all where ``names`` is None, and one for each editor of ``files``.

    Raises GanvasError for a name that no row has, and for one that would come twice.
    """
    table = list_entries()
    rows_by_name = {entry.name: entry for entry in table}
    for name in names or ():
        if name not in rows_by_name:
            raise unknown("method", name, rows_by_name)
    rows = [rows_by_name[name] for name in names] if names is not None else list(table)
    rows += [MethodEntry(f"editor {Path(file).stem if Path(file).suffix else file}", file=str(file)) for file in files]
    if twice := [row.name for i, row in enumerate(rows) if row.name in {other.name for other in rows[:i]}]:
        raise GanvasError(f"{twice[0]!r} would be compared twice: name it once.")
    return rows


def prepare_entry(
    entry: MethodEntry,
    data: LatentDataset,
    generator: Generator,
    attributes: Sequence[str],
    folder: Path | None = None,
    log: Callable[[str], object] = lambda line: None,
) -> FittedEntry:
    """Fit or load an editor; a fitted one is kept in ``folder`` with the time that it took, and not fitted again.

    A method that fails to fit has no editor, and the reason in ``gap``.
    """
    try:
        if entry.file:
            fit = FittedEntry(editors.load_editor(entry.file, generator))
        else:
            fit = _fit_or_load(entry, data, generator, attributes, folder, log)
        return replace(fit, editor=fit.editor and fit.editor.to(generator.device))
    except GanvasError as error:
        return FittedEntry(None, format_failure(error))


def fit_entry(
    entry: MethodEntry,
    data: LatentDataset,
    generator: Generator,
    attributes: Sequence[str],
    only: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Editor:
    """Fit the editor of an entry. ``attributes`` are evaluated; ``only``: learn no others than these.

    ``progress`` is called after steps, by methods that have some.

    Raises GanvasError as ``editors.fit``, and where equations can't be solved.
    """
    source = standardise_labels(data) if entry.name == UNGAUSSIANISED else data
    evaluated = [a for a in attributes if a in data.attributes]
    options = {**entry.options, **({"conditional": evaluated} if entry.conditional else {})}
    chosen_only = {} if only is None else {"attributes": list(only)}
    try:
        return editors.fit(entry.method, source, generator, progress=progress, **options, **chosen_only)
    except torch.linalg.LinAlgError as error:
        raise GanvasError(f"{entry.method} can't be learned from these labels: {error}") from None


def is_fitted(
    entry: MethodEntry, data: LatentDataset, generator: Generator, attributes: Sequence[str], folder: Path | None
) -> bool:
    """Return whether an editor needs no fit: it comes from a file, or ``folder`` has it for the same input."""
    return bool(entry.file) or _read_note(entry, data, generator, attributes, folder) is not None


def _read_note(
    entry: MethodEntry, data: LatentDataset, generator: Generator, attributes: Sequence[str], folder: Path | None
) -> dict[str, Any] | None:
    """Read what ``folder`` notes of the entry's editor; None where there is none for the same input."""
    if folder is None or not _place_editor(entry, folder).exists():
        return None
    try:
        saved = read_json(_place_editor(entry, folder).with_suffix(".json"))
    except GanvasError:
        return None  # It is only a cache.
    key = _describe_input(entry, data, generator, attributes)
    return saved if isinstance(saved, dict) and saved.get("key") == key else None


def _describe_input(
    entry: MethodEntry, data: LatentDataset, generator: Generator, attributes: Sequence[str]
) -> dict[str, Any]:
    return {
        "entry": [entry.name, entry.method, dict(entry.options), list(attributes) if entry.conditional else []],
        "labels": hash_labels(data),
        "generator": generator.fingerprint,
        "version": __version__,
        "sources": hash_sources(),
    }


def _place_editor(entry: MethodEntry, folder: Path) -> Path:
    return folder / f"{entry.slug}.safetensors"


def _fit_or_load(
    entry: MethodEntry,
    data: LatentDataset,
    generator: Generator,
    attributes: Sequence[str],
    folder: Path | None,
    log: Callable[[str], object],
) -> FittedEntry:
    """Return the editor that ``folder`` has for the same input, or fit it."""
    saved = _read_note(entry, data, generator, attributes, folder)
    if folder is not None and saved is not None:
        try:
            editor = editors.load_editor(_place_editor(entry, folder), generator)
            return FittedEntry(editor, missing=saved["missing"], seconds=float(saved["seconds"]))
        except (GanvasError, KeyError, TypeError, ValueError):
            pass  # It is only a cache.
    log(f"Fitting {entry.name} on {len(data):,} labels")
    began = time.perf_counter()
    with show_count(f"Fitting {entry.name}") as progress:
        editor, missing = _fit_possible_attributes(entry, data, generator, attributes, progress)
    seconds = round(time.perf_counter() - began, 2)
    if folder is not None:
        file = _place_editor(entry, folder)
        editors.save(editor, file)
        key = _describe_input(entry, data, generator, attributes)
        write_json(file.with_suffix(".json"), {"key": key, "seconds": seconds, "missing": missing})
        # A continued run loads the file: tensors with another layout in memory give other last bits.
        editor = editors.load_editor(file, generator)
    return FittedEntry(editor, missing=missing, seconds=seconds)


def _fit_possible_attributes(
    entry: MethodEntry, data: LatentDataset, generator: Generator, attributes: Sequence[str], progress: Progress
) -> tuple[Editor, dict[str, str]]:
    """Fit the editor of all attributes; where one of them can't be learned, of those of ``attributes`` that can."""
    try:
        return fit_entry(entry, data, generator, attributes, progress=progress), {}
    except GanvasError as error:
        if entry.method not in editors.list_methods():
            raise
        whole, missing = error, {}
    for name in attributes:
        try:
            fit_entry(entry, data, generator, [name], [name])
        except GanvasError as error:
            missing[name] = format_failure(error)
    left = [name for name in attributes if name not in missing]
    if not left:
        raise whole
    return fit_entry(entry, data, generator, left, left, progress), missing


def format_failure(error: GanvasError) -> str:
    """Format an error as one line, without this machine's folders."""
    text = " ".join(str(error).split())
    for folder in (Path(editors.__file__).parent.parent, Path.cwd(), Path.home()):
        text = text.replace(f"{folder}/", "")
    return text


def standardise_labels(data: LatentDataset) -> LatentDataset:
    """Return labels whose "normal scores" are standardised probabilities, to learn without Gaussianisation.

    Lesné et al., section 4.1: probabilities crowd at their ends. Counts and values are standardised as they are.
    """
    grid = torch.linspace(0, 1, 1024, dtype=torch.float64)[:, None]
    scores = data.scores.double()
    low, high = scores.min(0).values, scores.max(0).values
    knots = low + (high - low) * grid
    plain = to_readable(scores, data.kinds)
    mean, spread = plain.mean(0), plain.std(0).clamp(min=1e-9)
    # Far out the sigmoid is flat, and a normal score must rise: a millionth of the score itself is added.
    rising = (to_readable(knots, data.kinds) - mean) / spread + 1e-6 * knots
    normal = Gaussianize(knots, rising)
    fitted = probe.fit_probe(data.w, normal(data.scores))
    return replace(data, gaussianize=normal, probe=fitted)


def hash_labels(data: LatentDataset) -> str:
    """Hash the labels' scores, attributes, scorer and generator."""
    text = " ".join((data.generator, data.scorer, *data.attributes, str(data.source)))
    return hashlib.sha256(text.encode() + data.scores.contiguous().numpy().tobytes()).hexdigest()


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
