"""What outlasts a reload and a restart, on this machine for a day: codes, photographs, and the secret of browsers' states."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from ganvas.app.photographs import FacePhoto, load_face_photo
from ganvas.data.codes import Codes, pack_codes, unpack_codes
from ganvas.editors.base import Editor, fingerprint, save_editor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import atomic_write, read_json, write_json, write_text
from ganvas.io.images import encode_png, read_picture
from ganvas.recipe.rendering import EditMask

STORED_SECONDS = 24 * 3600
"""Seconds after which codes and photographs that nobody opened are deleted."""
MAX_STORED_FILES = 200
"""Codes, and photographs, that are stored; beyond it the oldest go first."""


def find_storage_folder() -> Path:
    """Find the folder: below $GANVAS_HOME, or in the system's place for a user's data."""
    if folder := os.environ.get("GANVAS_HOME"):
        return Path(folder).expanduser() / "app"
    from platformdirs import user_data_path

    return user_data_path("ganvas") / "app"


class AppStorage:
    """A folder with codes by their sha256 and photographs under random names, which only this user can read."""

    def __init__(self, folder: Path) -> None:
        """Create the folder where it is missing, and delete what is old."""
        self.folder = folder
        self._codes, self._photos, self._masks, self._editors = self._folders = tuple(
            folder / name for name in ("codes", "photos", "masks", "editors")
        )
        for each in (folder, *self._folders):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.delete_old()

    def read_secret(self) -> str:
        """Return the secret with which browsers' states are encrypted, made where there is none."""
        path = self.folder / "secret.txt"
        if not path.exists():
            write_text(path, secrets.token_hex(16))
            path.chmod(0o600)
        return path.read_text(encoding="utf-8")

    def save_photo(self, path: Path) -> Path:
        """Copy a photograph's file into the folder, and return its path there."""
        self.delete_old()
        return Path(shutil.copyfile(path, self._photos / f"{secrets.token_hex(16)}{path.suffix.lower()}"))

    def save_code(self, codes: Codes, row: int, photo: FacePhoto | None) -> None:
        """Store a row of a codes file, and of which photograph's face it is."""
        path = self._find_code(codes.sha256, row)
        if photo is None and path.exists():
            return
        value = {"codes": pack_codes(codes, [row])}
        if photo is not None:
            face = photo.face
            value |= {"photo": photo.path.name, "landmarks": face.landmarks.tolist(), "quad": face.quad.tolist()}
        write_json(path, value)

    def delete_code(self, codes: Codes, row: int) -> None:
        """Delete a stored row, which a better one has replaced."""
        self._find_code(codes.sha256, row).unlink(missing_ok=True)

    def load_code(self, sha256: str, row: int, generator: Generator) -> tuple[Codes, FacePhoto | None]:
        """Load a row of a codes file, and its photograph where it was stored. Raises GanvasError where it isn't here any more."""
        path = self._find_code(sha256, row)
        if not path.exists():
            raise GanvasError(
                "The picture's code isn't stored here any more: it is for a day. Open its PNG or photograph again."
            )
        value = read_json(path)
        codes = unpack_codes(value["codes"], "the stored code", generator)
        photo = self._photos / str(value.get("photo"))
        if not photo.is_file():
            return codes, None
        for used in (path, photo):
            os.utime(used)
        quad = torch.tensor(value["quad"]) if "quad" in value else None
        return codes, load_face_photo(photo, torch.tensor(value["landmarks"]), generator.resolution, quad)

    def save_editor(self, editor: Editor) -> Path:
        """Store an editor, and return its file, which is named after its fingerprint."""
        self.delete_old()
        path = self._editors / f"{fingerprint(editor)}.safetensors"
        if path.is_file():
            os.utime(path)
        else:
            save_editor(editor, path)
        return path

    def find_editor(self, sha256: str) -> Path | None:
        """Find a stored editor's file by its fingerprint; None where it isn't here any more."""
        path = self._editors / f"{sha256}.safetensors"
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not path.is_file():
            return None
        os.utime(path)
        return path

    def save_mask(self, mask: EditMask) -> None:
        """Store a painted region."""
        path = self._masks / f"{mask.sha256}.png"
        with atomic_write(path) as temporary:
            temporary.write_bytes(encode_mask(mask))

    def load_mask(self, sha256: str) -> EditMask:
        """Load a painted region. Raises GanvasError where it isn't here any more."""
        path = self._masks / f"{sha256}.png"
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not path.is_file():
            raise GanvasError("The painted region isn't stored here any more: it is for a day. Paint it again.")
        return EditMask.from_picture(read_picture(path))

    def _find_code(self, sha256: str, row: int) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise GanvasError(f"{sha256[:80]!r} is no sha256 of a codes file.")
        return self._codes / f"{sha256}-{row}.json"

    def delete_old(self) -> None:
        """Delete what nobody opened for a day, and the oldest of too many files."""
        for folder in self._folders:
            _delete_oldest([path for path in folder.iterdir() if path.is_file()])


def encode_mask(mask: EditMask) -> bytes:
    """Encode a mask as a PNG that is white where edits may change the picture."""
    return encode_png((mask.mask[0, 0, :, :, None] * 255).round().to(torch.uint8).expand(-1, -1, 3).contiguous())


def _delete_oldest(paths: Sequence[Path]) -> None:
    with suppress(OSError):  # another server's deletion came first
        newest = sorted(paths, key=lambda path: -path.stat().st_mtime)
        for i, path in enumerate(newest):
            if i >= MAX_STORED_FILES or path.stat().st_mtime < time.time() - STORED_SECONDS:
                path.unlink(missing_ok=True)
