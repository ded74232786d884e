"""The server's own folder: nothing else is written, uploads don't stay in it, and at the end it is gone."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ganvas.errors import GanvasError

PREFIX = "ganvas-app-"
DESK, GIVEN = "desk-", "given-"
"""What a visitor takes along, and what one gave and is being looked at; all else comes from uploads."""
PHOTOS, RECIPES = (".png", ".jpg", ".jpeg", ".webp"), (".json", ".png")
"""The kinds of files that are taken in."""
UPLOAD_SECONDS = 60.0
"""Seconds that an upload stays which nothing was done with."""


@contextmanager
def create_folder() -> Iterator[Path]:
    """A new folder, deleted at the end, as are those of servers that were killed."""
    delete_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers() -> None:
    """Delete what servers of this user left that aren't running any more."""
    if os.name != "posix":  # where signal 0 isn't a question
        return
    for found in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = re.match(rf"{PREFIX}(\d+)-", found.name)
        with suppress(OSError):
            if owner and not found.is_symlink() and found.stat().st_uid == os.getuid() and not _runs(int(owner[1])):
                shutil.rmtree(found, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def delete_uploads(folder: Path) -> None:
    """Delete uploads that lie about: of a kind that wasn't asked for, or by somebody who left."""
    late = time.time() - UPLOAD_SECONDS
    for found in folder.iterdir():
        if found.name.startswith((DESK, GIVEN)):
            continue
        for path in [*(found.iterdir() if found.is_dir() else ()), found]:
            with suppress(OSError):  # not empty, or gone meanwhile
                if path.stat().st_mtime < late:
                    path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def claim_upload(given: Any, folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """An uploaded file where nobody else's of the same content and name is; deleted at the end.

    Raises GanvasError for what is no upload, and for another kind of file than ``suffixes``; that is deleted, too.
    """
    path = given.get("path") if isinstance(given, dict) else given
    if not isinstance(path, str):
        raise GanvasError("No file came with the request: upload it again.")
    path = Path(path)
    inside = path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()
    if not inside or path.resolve().relative_to(folder.resolve()).parts[0].startswith((DESK, GIVEN)):
        raise GanvasError(f"{path.name!r} is no file that was uploaded.")
    own = folder / f"{GIVEN}{secrets.token_hex(8)}"
    own.mkdir()
    try:
        if path.suffix.lower() not in suffixes:
            path.unlink(missing_ok=True)
            raise GanvasError(f"{path.name!r} is another kind of file: pick one of {', '.join(suffixes)}.")
        try:
            moved = path.rename(own / path.name)
        except OSError:
            raise GanvasError(f"{path.name!r} isn't here any more: upload it again.") from None
        yield moved
    finally:
        shutil.rmtree(own, ignore_errors=True)
