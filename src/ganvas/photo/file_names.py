"""Choose names for faces in a folder, so that no file overwrites another face, a foreign file, or a photograph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganvas.errors import GanvasError

SUMMARY_FILE = "inversions.json"
ALIGNED_ENDINGS = (".png",)
INVERTED_ENDINGS = (".png", ".json", ".safetensors", "-photo.png", "-edited.png", "-edited.json")
"""The endings of a face's files after its name."""


class FileNames:
    """Chooses each name once; ``previous``: the entries of earlier runs in the folder's summary, by name."""

    def __init__(
        self, out: Path, photos: Iterable[Path], endings: Sequence[str], previous: Mapping[str, Any] | None = None
    ) -> None:
        self.out, self.endings, self.previous, self.chosen = out, endings, previous or {}, set[str]()
        self.photos = {_file_id(path) for path in photos} - {None}
        self.taken = {SUMMARY_FILE, *(file for name in self.previous for file in self._list_files(name))}

    def choose(self, stem: str, photo: str = "", content: bytes | None = None) -> str:
        """Choose a name after ``stem``, or the name that a photograph of this sha256 got in an earlier run.

        A file that already holds ``content`` counts as the face's own.
        Raises GanvasError where one of its files is one of the photographs.
        """
        matching = (
            name for name, entry in self.previous.items() if _is_entry_of(entry, photo) and name not in self.chosen
        )
        name = next((name for name in matching if Path(name).name == name), None)
        if name is None:
            name = stem
            while not self._is_free(name, content):
                name += "_"
        self._refuse_photos(name)
        self.chosen.add(name)
        self.taken |= self._list_files(name)
        return name

    def _list_files(self, name: str) -> set[str]:
        # Some file systems ignore case.
        return {f"{name}{ending}".casefold() for ending in self.endings}

    def _is_free(self, name: str, content: bytes | None) -> bool:
        self._refuse_photos(name)
        foreign = any(_is_foreign(self.out / f"{name}{end}", content) for end in self.endings)
        return not foreign and not self._list_files(name) & self.taken

    def _refuse_photos(self, name: str) -> None:
        for ending in self.endings:
            if _file_id(path := self.out / f"{name}{ending}") in self.photos:
                raise GanvasError(f"{path} is a photograph and would be overwritten: give another folder with --out.")


def _is_entry_of(entry: Any, photo: str) -> bool:
    return isinstance(entry, dict) and entry.get("photo") == photo


def _file_id(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file, whatever its path; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_foreign(path: Path, content: bytes | None) -> bool:
    """Return whether a file exists that doesn't hold ``content`` or can't be read."""
    if content is None or not path.is_file() or path.stat().st_size != len(content):
        return os.path.lexists(path)
    try:
        return path.read_bytes() != content
    except OSError:
        return True
