"""Names for faces in a folder: no file of one is another's, an earlier run's, a stranger's, or a photograph itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ganvas.errors import GanvasError

SUMMARY_FILE = "inversions.json"
ALIGNED = (".png",)
INVERTED = (".png", ".json", ".safetensors", "-photo.png", "-edited.png", "-edited.json")
"""What a face's files are called after its name."""


class FileNames:
    """Hands out each name once; ``known``: what the folder's summary says of the names of earlier runs."""

    def __init__(
        self, out: Path, photos: Iterable[Path], endings: Sequence[str], known: Mapping[str, Any] | None = None
    ) -> None:
        self.out, self.endings, self.known, self.given = out, endings, known or {}, set[str]()
        self.photos = {_file(path) for path in photos} - {None}
        self.taken = {SUMMARY_FILE, *(file for name in self.known for file in self._files(name))}

    def of(self, stem: str, photo: str = "", content: bytes | None = None) -> str:
        """A name after ``stem``, or the one that a photograph of this sha256 got in an earlier run; a file that holds
        ``content`` already is its own.

        Raises GanvasError where one of its files is a photograph that was given.
        """
        again = (name for name, entry in self.known.items() if _is_of(entry, photo) and name not in self.given)
        name = next((name for name in again if Path(name).name == name), None)
        if name is None:
            name = stem
            while not self._is_free(name, content):
                name += "_"
        self._refuse_photos(name)
        self.given.add(name)
        self.taken |= self._files(name)
        return name

    def _files(self, name: str) -> set[str]:
        # Some file systems know no capitals.
        return {f"{name}{ending}".casefold() for ending in self.endings}

    def _is_free(self, name: str, content: bytes | None) -> bool:
        self._refuse_photos(name)
        strange = any(_is_anothers(self.out / f"{name}{end}", content) for end in self.endings)
        return not strange and not self._files(name) & self.taken

    def _refuse_photos(self, name: str) -> None:
        for ending in self.endings:
            if _file(path := self.out / f"{name}{ending}") in self.photos:
                raise GanvasError(f"{path} is a photograph and would be written over: name another folder with --out.")


def _is_of(entry: Any, photo: str) -> bool:
    return isinstance(entry, dict) and entry.get("photo") == photo


def _file(path: Path) -> tuple[int, int] | None:
    """What a file is by, whatever its path; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_anothers(path: Path, content: bytes | None) -> bool:
    """Whether a file is there that doesn't hold ``content``, or can't be read."""
    if content is None or not path.is_file() or path.stat().st_size != len(content):
        return os.path.lexists(path)
    try:
        return path.read_bytes() != content
    except OSError:
        return True
