"""The server's own folder: all files are written there, uploads are deleted soon, and the folder is deleted at the end."""

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

FOLDER_PREFIX = "ganvas-app-"
SESSION_PREFIX, CLAIM_PREFIX = "session-", "claim-"
"""Folders of sessions, and of uploads that a handler is reading; all else comes from uploads."""
PHOTO_SUFFIXES, RECIPE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp"), (".json", ".png")
"""The kinds of files that are accepted."""
UPLOAD_SECONDS = 60.0
"""Seconds after which an upload that no handler claimed is deleted."""


@contextmanager
def create_folder() -> Iterator[Path]:
    """Create the folder, and delete it at the end, as well as those of servers that were killed."""
    delete_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers() -> None:
    """Delete the folders of this user's servers that aren't running any more."""
    if os.name != "posix":  # elsewhere signal 0 doesn't just test for a process
        return
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = re.match(rf"{FOLDER_PREFIX}(\d+)-", path.name)
        with suppress(OSError):
            if owner and not path.is_symlink() and path.stat().st_uid == os.getuid() and not _is_running(int(owner[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def delete_uploads(folder: Path) -> None:
    """Delete old uploads that no handler claimed: of other kinds, or by visitors who left."""
    oldest = time.time() - UPLOAD_SECONDS
    for path in folder.iterdir():
        if path.name.startswith((SESSION_PREFIX, CLAIM_PREFIX)):
            continue
        for old in [*(path.iterdir() if path.is_dir() else ()), path]:
            with suppress(OSError):  # not empty, or gone meanwhile
                if old.stat().st_mtime < oldest:
                    old.rmdir() if old.is_dir() else old.unlink()


@contextmanager
def claim_upload(upload: Any, folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Move an upload to a folder of its own, apart from others of the same content and name; it is deleted at the end.

    Raises GanvasError for what is no upload, and for a file of another kind than ``suffixes``, which is deleted, too.
    """
    path = upload.get("path") if isinstance(upload, dict) else upload
    if not isinstance(path, str):
        raise GanvasError("No file came with the request: upload it again.")
    path = Path(path)
    inside = path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()
    if not inside or path.resolve().relative_to(folder.resolve()).parts[0].startswith((SESSION_PREFIX, CLAIM_PREFIX)):
        raise GanvasError(f"{path.name!r} is no file that was uploaded.")
    own = folder / f"{CLAIM_PREFIX}{secrets.token_hex(8)}"
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
