"""One file a method of editing, each with ``fit`` and ``from_tensors``; a new file is found by itself.

``fit(data, generator, **options) -> Editor`` learns an editor, ``from_tensors(tensors, about) -> Editor`` makes it anew from
its file. The editors that ship are under ``assets/editors``, named like ``ffhq/compact``.
"""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from ganvas.data.codes import check_generator
from ganvas.data.dataset import LatentDataset
from ganvas.editors.base import Editor, LinearEditor, fingerprint, read_editor
from ganvas.editors.base import save_editor as save
from ganvas.editors.masked import MASKED, MaskedEditor, mask_editor, masked_rows, unwrap_masked
from ganvas.editors.published import IMPORTED
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.precision import convert_to_normal, leave_inference_mode
from ganvas.scorers.base import KINDS

__all__ = [
    "describe_editor",
    "editor_names",
    "fingerprint",
    "fit",
    "learnable_kinds",
    "load_editor",
    "method_names",
    "report_lines",
    "save",
]

NO_METHODS = frozenset({"base", "editor_files", "masked", "published"})
"""Public modules of this package that fit nothing."""


def method_names() -> tuple[str, ...]:
    """The methods that ``fit`` knows."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return tuple(sorted(names - NO_METHODS))


def learnable_kinds(method: str) -> tuple[str, ...]:
    """The kinds of scores that a method learns from unless attributes are named: all, but for modules that list ``KINDS``."""
    return vars(_method(method)).get("KINDS", KINDS)


def editor_names() -> tuple[str, ...]:
    """The editors that ship."""
    root = _assets()
    return tuple(sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.glob("*/*.safetensors")))


def describe_editor(name: str) -> str:
    """A line about an editor that ships. Raises GanvasError for a name that none has, or a damaged file."""
    if name not in editor_names():
        raise unknown("editor", name, editor_names() or ["none: no editor ships"])
    _, told = read_editor(_assets() / f"{name}.safetensors")
    return f"{told.method}, {len(told.attributes)} attributes, for {told.generator_name}"


@leave_inference_mode()
def fit(method: str, data: LatentDataset, generator: Generator, **options: Any) -> Editor:
    """Fit an editor on labelled codes of ``generators.base``; the ``options`` of an editor are taken as they are.

    Raises GanvasError for an unknown method or option, impossible options, and codes of another generator.
    """
    learn, rows = _method(method).fit, options.pop(MASKED, None)
    check_generator("The data", "?", data.generator, generator)
    known = inspect.signature(learn).parameters.values()
    names = [p.name for p in known if p.kind is p.KEYWORD_ONLY]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        for name in options:
            if name not in names:
                raise unknown("option", name, names)
    data = replace(data, codes=convert_to_normal(data.codes), scores=convert_to_normal(data.scores))
    editor = learn(data, generator, **options).to(generator.device)
    return editor if rows is None else mask_editor(editor, masked_rows(rows)[0], generator)


@leave_inference_mode()
def load_editor(name: str | Path, generator: Generator | None = None) -> Editor:
    """An editor by the name of one that ships (``ffhq/compact``) or by its file; on the device of
    ``generators.base``, where given.

    Raises GanvasError where there is none, its file is damaged, or it is for another generator than ``generators.base``.
    """
    shipped = isinstance(name, str) and name in editor_names()
    path = _assets() / f"{name}.safetensors" if shipped else Path(name)
    if not path.is_file():
        raise unknown("editor", name, [*editor_names(), "the path of a file"])
    tensors, told = read_editor(path)
    if generator is not None:
        check_generator(f"Editor {str(name)!r}", told.generator_name, told.generator, generator)
    try:
        own, inner, rows = unwrap_masked(tensors, told)
        home = LinearEditor if told.method == IMPORTED else _method(told.method)
        editor = home.from_tensors(own, inner)
        editor = editor if rows is None else MaskedEditor(editor, *rows)
        return editor if generator is None else editor.to(generator.device)
    except GanvasError as error:
        raise GanvasError(f"{path}: {error}") from None


def report_lines(editor: Editor) -> list[str]:
    """What the editor's ``fit`` measured, for people: a line a number, then a line for each attribute.

    How a change is held, ``hold``, comes first, for methods that have it: the numbers are of it.
    """
    plain = {key: value for key, value in editor.report.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in editor.report.items() if isinstance(value, dict)}
    if "hold" in editor.options:
        plain = {"hold": editor.options["hold"]} | plain
    lines = [f"{key.replace('_', ' '):24} {_shown(value)}" for key, value in plain.items()]
    if tables:
        lines.append(f"{'':24} " + " ".join(f"{key:>11}" for key in tables))
    for name in editor.attributes if tables else ():
        lines.append(f"{name:24} " + " ".join(f"{_shown(table.get(name), 3):>11}" for table in tables.values()))
    return lines


def _shown(value: Any, digits: int = 4) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _method(name: str) -> ModuleType:
    if name not in method_names():
        raise unknown("method", name, method_names())
    return import_module(f"ganvas.editors.{name}")


def _assets() -> Path:
    return Path(str(files("ganvas"))) / "assets" / "editors"
