"""A section of the count report: text, tables, pictures and data, stored whole, so that a stopped report goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.evaluation.pages import to_json
from ganvas.io.files import atomic_write, read_json, write_json
from ganvas.io.images import encode_png

VERSION = 1
"""The version of stored sections; those of another version are made again."""


@dataclass(frozen=True)
class SectionTable:
    """``rows`` of cells below the titles in ``head``, with a line of text, ``note``, before them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class ReportSection:
    """``intro`` is plain text. ``pictures``: file name without ending -> PNG bytes, or uint8 pixels (height, width, 3).

    ``data`` holds the numbers behind the tables, for report.json: dictionaries, lists, numbers, texts, None, estimates and
    tensors; numbers that aren't finite are written as null.
    """

    name: str
    title: str
    intro: str
    tables: tuple[SectionTable, ...] = ()
    pictures: Mapping[str, bytes | Tensor] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    """Picture -> what it shows, for those that the title doesn't explain."""


def make_key(values: Any) -> str:
    """Return a short hash of JSON values that a stored result depends on."""
    return hashlib.sha256(json.dumps([VERSION, values], sort_keys=True).encode()).hexdigest()[:16]


def encode_picture(picture: bytes | Tensor) -> bytes:
    """Return the PNG of a picture."""
    return picture if isinstance(picture, bytes) else encode_png(picture)


def save_section(section: ReportSection, folder: Path, key: str) -> ReportSection:
    """Write a section into ``folder``, its pictures before its text, and return it as it will be read back."""
    for name, picture in section.pictures.items():
        with atomic_write(folder / f"{name}.png") as file:
            file.write_bytes(encode_picture(picture))
    document = {
        "key": key,
        "name": section.name,
        "title": section.title,
        "intro": section.intro,
        "tables": [asdict(table) for table in section.tables],
        "pictures": list(section.pictures),
        "captions": dict(section.captions),
        "data": to_plain_data(section.data),
    }
    write_json(folder / "section.json", document)
    stored = load_section(folder, key)
    if stored is None:
        raise GanvasError(
            f"Section {section.name!r} can't be read back from {folder}: check the disk, and run it again."
        )
    return stored


def load_section(folder: Path, key: str) -> ReportSection | None:
    """Return the section that ``folder`` holds under ``key``; None where there is none, another one, or a damaged one."""
    try:
        document = read_json(folder / "section.json")
        if not isinstance(document, dict) or document.get("key") != key:
            return None
        tables = tuple(SectionTable(**table) for table in document["tables"])
        pictures = {name: (folder / f"{name}.png").read_bytes() for name in document["pictures"]}
        return ReportSection(
            document["name"],
            document["title"],
            document["intro"],
            tables,
            pictures,
            document["data"],
            document["captions"],
        )
    except (GanvasError, OSError, KeyError, TypeError):
        return None


def to_plain_data(value: Any) -> Any:
    """Return a value as JSON; tensors become lists."""
    if isinstance(value, Tensor):
        return to_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_plain_data(v) for key, v in value.items()}
    return [to_plain_data(v) for v in value] if isinstance(value, list | tuple) else to_json(value)
