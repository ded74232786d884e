"""A section of the count report: what it says, as tables, pictures and data; kept whole, so that a stopped report goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.bench.numbers import as_json
from ganvas.errors import GanvasError
from ganvas.files import read_json, whole, write_json
from ganvas.pictures import encode_png

VERSION = 1
"""Of what is kept; what another version kept is made anew."""


@dataclass(frozen=True)
class Table:
    """``rows`` of cells below their titles, with a line of text before them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """``intro`` is plain text. ``pictures``: file name without ending -> PNG bytes, or uint8 pixels (height, width, 3).

    ``data`` holds the numbers behind the tables, for report.json: dictionaries, lists, numbers, texts, None, estimates and
    tensors; numbers that aren't finite are written as null.
    """

    name: str
    title: str
    intro: str
    tables: tuple[Table, ...] = ()
    pictures: Mapping[str, bytes | Tensor] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    """What a picture shows, for those that the title doesn't explain."""


def key_of(about: Any) -> str:
    """A short name for what a section depends on (JSON)."""
    return hashlib.sha256(json.dumps([VERSION, about], sort_keys=True).encode()).hexdigest()[:16]


def png(picture: bytes | Tensor) -> bytes:
    """A picture's PNG."""
    return picture if isinstance(picture, bytes) else encode_png(picture)


def keep(section: Section, folder: Path, key: str) -> Section:
    """Write a section into ``folder``, its pictures before its text; returned as it will be read back."""
    for name, picture in section.pictures.items():
        with whole(folder / f"{name}.png") as file:
            file.write_bytes(png(picture))
    told = {
        "key": key,
        "name": section.name,
        "title": section.title,
        "intro": section.intro,
        "tables": [asdict(table) for table in section.tables],
        "pictures": list(section.pictures),
        "captions": dict(section.captions),
        "data": _plain(section.data),
    }
    write_json(folder / "section.json", told)
    kept = recall(folder, key)
    if kept is None:
        raise GanvasError(f"Section {section.name!r} can't be kept in {folder}.")
    return kept


def recall(folder: Path, key: str) -> Section | None:
    """The section that ``folder`` keeps under ``key``; None where there is none, another one, or a damaged one."""
    try:
        told = read_json(folder / "section.json")
        if not isinstance(told, dict) or told.get("key") != key:
            return None
        tables = tuple(Table(**table) for table in told["tables"])
        pictures = {name: (folder / f"{name}.png").read_bytes() for name in told["pictures"]}
        return Section(told["name"], told["title"], told["intro"], tables, pictures, told["data"], told["captions"])
    except (GanvasError, OSError, KeyError, TypeError):
        return None


def _plain(value: Any) -> Any:
    """As JSON, tensors too."""
    if isinstance(value, Tensor):
        return as_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else as_json(value)
