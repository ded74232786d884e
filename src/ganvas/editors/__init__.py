"""Editing methods, one module each, with ``fit`` and ``from_tensors``; new modules are discovered.

``fit(data, generator, **options) -> Editor`` fits an editor, ``from_tensors(tensors, metadata) -> Editor`` rebuilds it from
its file. The editors that ship are under ``assets/editors``, named like ``ffhq/compact``.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ganvas.data.codes import check_generator
from ganvas.data.dataset import LatentDataset
from ganvas.editors import composed
from ganvas.editors.base import Editor, EditorMetadata, LinearEditor, fingerprint, read_editor
from ganvas.editors.base import save_editor as save
from ganvas.editors.extended import EXTENDED, ExtendedEditor, extend_editor, split_extended
from ganvas.editors.masked import MASKED, MaskedEditor, mask_editor, parse_masked_rows, unwrap_masked
from ganvas.editors.published import IMPORTED
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.precision import convert_to_normal, leave_inference_mode
from ganvas.scorers.base import KINDS

__all__ = [
    "describe_editor",
    "extend_editor",
    "fingerprint",
    "fit",
    "fit_unlabelled",
    "format_report_lines",
    "get_learnable_kinds",
    "get_reports",
    "is_fast",
    "list_editors",
    "list_methods",
    "list_poorly_learned",
    "list_unlabelled_methods",
    "load_editor",
    "save",
]

NO_METHODS = frozenset(
    {"base", "composed", "editor_files", "extended", "face_runs", "masked", "picture_calibration", "published"}
)
"""Public modules of this package that fit nothing."""
MIN_CORRELATION = 0.2
"""The correlation with labels of held-out codes below which an attribute counts as hardly learned."""
REPORT_WORDS = {
    "unresponsive": "attributes hardly moved",
    "edited": "held-out codes edited",
    "gain": "scaled by",
    "response": "moves by",
    "others": "others by",
    "kept": "left of it",
    "codes_a_side": "codes a side",
    "balanced_against": "others held",
}
"""What people read for a key of a report, where that isn't the key itself."""
REPORT_NOTES = {
    "unresponsive": "attributes that a change of 1 moves by less than half of it: edits of them do little",
    "correlation": "of the method's own coordinate of an attribute with its label",
    "axis": "the number of the axis that moves the attribute most",
    "classifier": "correlation of the method's classifier with the labels, on codes that it wasn't fitted on",
    "gain": "a change of 1 in the method's own unit of a move, such as a standard deviation of W along the direction",
    "length": "the mean Mahalanobis distance that a change of 1 moves codes by",
    "moved": "how far one standard deviation of W along the direction moves the reading",
    "codes_a_side": "how many codes the boundary was fitted on, on each of its sides",
    "balanced_against": "how many other attributes are equally frequent on both sides",
    "classifier_train": "the share of the codes that the classifier was fitted on whose count it gets right",
    "classifier_test": "the same, of codes that it wasn't fitted on",
    "added": "the share of codes in which one more object is counted after a change of +1",
    "removed": "the share of codes in which one object fewer is counted after a change of -1",
    "length_added": "the mean length of a change of +1",
    "length_removed": "the mean length of a change of -1",
    "rows": "how many rows of W+ edits move",
    "response": "how far a change of 1 moves the attribute, as the probe reads it: 1 is as asked",
    "others": "the absolute mean change of the other attributes, averaged over these, for a change of 1",
    "kept": "the share of the direction that is left after the others were projected out",
    "estimate": "how far a change of 1 moves the attribute in pictures, to first order",
    "layer": "the number of the row of W+ that edits move",
    "channel": "the number of the style channel of that row",
    "purity": "the share of the change of the row's styles, in their standard deviations, that is the channel's",
}
"""A line under the report for each key that doesn't explain itself."""


def list_methods() -> tuple[str, ...]:
    """Return the names of the methods that ``fit`` takes."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return tuple(sorted(names - NO_METHODS))


def list_unlabelled_methods() -> tuple[str, ...]:
    """Return the names of the methods that need no labels: their modules have ``fit_unlabelled``."""
    return tuple(name for name in list_methods() if "fit_unlabelled" in vars(_import_method(name)))


def get_learnable_kinds(method: str) -> tuple[str, ...]:
    """Return the kinds of scores that a method learns from by default: all, unless its module lists ``KINDS``."""
    return vars(_import_method(method)).get("KINDS", KINDS)


def get_reports(method: str) -> tuple[str, ...]:
    """Return the parts of reports that a method is in beside the full comparison, as its module lists them in ``REPORTS``.

    "quick": the quick report, also of a module that lists nothing; "labels": label efficiency.
    """
    return vars(_import_method(method)).get("REPORTS", ("quick",))


def is_fast(method: str) -> bool:
    """Return whether a method is fitted within seconds, so that the web app offers it; its module's ``IS_FAST``."""
    return vars(_import_method(method)).get("IS_FAST", False)


def list_editors() -> tuple[str, ...]:
    """Return the names of the editors that ship."""
    root = _assets_folder()
    return tuple(sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.glob("*/*.safetensors")))


def describe_editor(name: str) -> str:
    """Describe an editor that ships in one line. Raises GanvasError for an unknown name, or a damaged file."""
    if name not in list_editors():
        raise unknown("editor", name, list_editors() or ["none: no editor ships"])
    _, metadata = read_editor(_assets_folder() / f"{name}.safetensors")
    return f"{metadata.method}, {len(metadata.attributes)} attributes, for {metadata.generator_name}"


@leave_inference_mode()
def fit(method: str, data: LatentDataset, generator: Generator, **options: Any) -> Editor:
    """Fit an editor on labelled codes.

    Args:
        method: The name of a method, a module of ``ganvas.editors`` such as "compact" or "interfacegan".
        data: Codes of ``generator`` with their scores.
        generator: The generator that the codes belong to.
        **options: The options of the method's own ``fit``, and three that every method takes: ``attributes``, those to fit in
            their order; ``progress``, called with (steps done, steps); and ``masked``, the only rows of W+ that the editor moves,
            as ``masked.Layers``, or as an editor's own ``options`` hold them.

    Returns:
        The fitted editor, on the generator's device; ``report`` holds what was measured on held-out codes.

    Raises:
        GanvasError: The method or an option is unknown, an option's value is impossible, or the codes are another generator's.

    References:
        Each method's module names its paper.
    """
    fit_method, rows = _import_method(method).fit, parse_masked_rows(options.pop(MASKED, None), generator)
    check_generator("The data", "?", data.generator, generator)
    own = _list_options(fit_method)
    if isinstance(options.get("attributes"), str):
        raise GanvasError(f"Attributes are a list of names, not the text {options['attributes']!r}.")
    # A method whose ``fit`` has no option ``attributes`` gets data of these alone.
    if "attributes" not in own and (chosen := options.pop("attributes", None)) is not None:
        data = data.select(chosen)
    if "progress" not in own:
        options.pop("progress", None)
    _check_options(fit_method, options, "attributes")
    data = replace(data, codes=convert_to_normal(data.codes), scores=convert_to_normal(data.scores))
    editor = fit_method(data, generator, **options).to(generator.device)
    return mask_editor(editor, rows, generator)


@leave_inference_mode()
def fit_unlabelled(method: str, generator: Generator, **options: Any) -> Editor:
    """Fit an editor without labels, whose attributes are directions by their numbers.

    Args:
        method: A method of ``list_unlabelled_methods``, "ganspace" or "sefa".
        generator: The generator whose codes are edited.
        **options: The options of the method's own ``fit_unlabelled``.

    Returns:
        The fitted editor; a change of 1 is one standard deviation of W along a direction.

    Raises:
        GanvasError: The method needs labels, or an option is unknown or impossible.
    """
    module, unlabelled = _import_method(method), list_unlabelled_methods()
    if method not in unlabelled:
        raise GanvasError(f"The method {method!r} needs labels; those that don't are {', '.join(unlabelled)}.")
    fit_method = module.fit_unlabelled
    _check_options(fit_method, options)
    return fit_method(generator, **options).to(generator.device)


@leave_inference_mode()
def load_editor(name: str | Path, generator: Generator | None = None, *, allow_other_generator: bool = False) -> Editor:
    """Load an editor by its name or from a file.

    Args:
        name: An editor that comes with ganvas, such as "ffhq/compact", or the path of a file that ``ganvas.editors.save``
            wrote.
        generator: The generator that the editor must belong to, and whose device it is moved to; without one it is on the CPU.
        allow_other_generator: Load an editor of another generator, too, if the shapes of its codes match: of one that was
            fine-tuned from it, directions often still mean the same, but a change of 1 is no longer calibrated.

    Returns:
        The editor.

    Raises:
        GanvasError: There is no such editor or file, the file is damaged, or the editor belongs to another generator.
    """
    shipped = isinstance(name, str) and name in list_editors()
    path = _assets_folder() / f"{name}.safetensors" if shipped else Path(name)
    if not path.is_file():
        if path.suffix:
            raise GanvasError(
                f"There is no editor's file {str(name)!r}. Editors that ship: {', '.join(list_editors())}."
            )
        raise unknown("editor", name, [*list_editors(), "the path of a file"])
    tensors, metadata = read_editor(path)
    other = generator is not None and metadata.generator != generator.fingerprint
    if generator is not None and not allow_other_generator:
        check_generator(f"Editor {str(name)!r}", metadata.generator_name, metadata.generator, generator)
    try:
        editor = _build_editor(tensors, metadata)
        if generator is not None and other:
            _check_shapes(editor, generator)
        if generator is None:
            return editor
        editor.to(generator.device)
        inner = _unwrap(editor)
        if isinstance(inner, composed.ComposedEditor):
            inner.use_generator(generator)
        return editor
    except GanvasError as error:
        raise GanvasError(f"{path}: {error}") from None


def _build_editor(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> Editor:
    if EXTENDED in tensors:
        return ExtendedEditor(metadata, _build_editor(*split_extended(tensors, metadata)), tensors[EXTENDED])
    own, inner, rows = unwrap_masked(tensors, metadata)
    classes = {IMPORTED: LinearEditor, composed.METHOD: composed.ComposedEditor}
    factory = classes.get(metadata.method) or _import_method(metadata.method)
    editor = factory.from_tensors(own, inner)
    return editor if rows is None else MaskedEditor(editor, *rows)


def _check_shapes(editor: Editor, generator: Generator) -> None:
    """Raise GanvasError where an editor of another generator can't move this one's codes."""
    width, wanted = len(editor.probe.weight), generator.w_dim
    if width != wanted:
        raise GanvasError(f"it moves codes of {width} numbers, those of {generator.name!r} have {wanted}.")
    if isinstance(_unwrap(editor), composed.ComposedEditor):  # which edits with its own generator only
        return
    with suppress(GanvasError):
        editor = editor.with_search_steps(1)
    editor.shift_rows(torch.zeros(1, generator.num_ws, wanted), torch.ones(1, len(editor.attributes)))


def _unwrap(editor: Editor) -> Editor:
    """Return the editor inside of extended and masked ones."""
    while isinstance(editor, ExtendedEditor | MaskedEditor):
        editor = editor.inner
    return editor


def list_poorly_learned(editor: Editor) -> tuple[str, ...]:
    """List the attributes whose labels hardly correlate with what the method reads from codes that it wasn't fitted on.

    Empty for methods whose report has no such correlation.
    """
    correlations = editor.report.get("correlation") or editor.report.get("classifier") or {}
    return tuple(name for name, value in correlations.items() if value is None or value < MIN_CORRELATION)


def format_report_lines(editor: Editor) -> list[str]:
    """Format the editor's report: one line for each number, one for each attribute, then what the less usual words mean.

    The option ``hold`` comes first, for methods that have it, since the numbers depend on it.
    """
    plain = {key: value for key, value in editor.report.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in editor.report.items() if isinstance(value, dict)}
    if "hold" in editor.options:
        plain = {"hold": editor.options["hold"]} | plain
    lines = [f"{_name_key(key):24} {_format_value(value)}" for key, value in plain.items()]
    if tables:
        lines.append(f"{'':24} " + " ".join(f"{_name_key(key):>12}" for key in tables))
    for name in editor.attributes if tables else ():
        lines.append(f"{name:24} " + " ".join(f"{_format_value(table.get(name), 3):>12}" for table in tables.values()))
    noted = [key for key in (*plain, *tables) if key in REPORT_NOTES and (key in tables or plain[key])]
    return [*lines, *(f"{_name_key(key)}: {REPORT_NOTES[key]}." for key in noted)]


def _name_key(key: str) -> str:
    return REPORT_WORDS.get(key, key.replace("_", " "))


def _format_value(value: Any, digits: int = 4) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _list_options(fit_method: Callable[..., Editor]) -> list[str]:
    """Return the names of a function's keyword-only parameters."""
    return [p.name for p in inspect.signature(fit_method).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _check_options(fit_method: Callable[..., Editor], options: Mapping[str, Any], *others: str) -> None:
    """Raise GanvasError for an option that is neither the function's nor one of ``others``."""
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(fit_method).parameters.values()):
        return
    names = [*dict.fromkeys((*_list_options(fit_method), *others))]
    for name in options:
        if name not in names:
            raise unknown("option", name, names)


def _import_method(name: str) -> ModuleType:
    if name not in list_methods():
        raise unknown("method", name, list_methods())
    return import_module(f"ganvas.editors.{name}")


def _assets_folder() -> Path:
    return Path(str(files("ganvas"))) / "assets" / "editors"
