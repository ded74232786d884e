"""Codes files: W+ codes as safetensors with their generator's fingerprint; recipes refer to them by their sha256."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, save_tensors
from ganvas.types import WPlus

KIND = "codes"
VERSION = 1


@dataclass(frozen=True)
class Codes:
    """Some rows of a codes file: ``ws[i]`` is row ``rows[i]`` of the file with this sha256."""

    ws: WPlus
    sha256: str
    rows: Sequence[int]

    def get_code(self, row: int) -> WPlus:
        """Return the code of one row of the file, (1, num_ws, w_dim). Raises GanvasError where there is none."""
        if row not in self.rows:
            last = self.rows[-1]
            raise GanvasError(f"There is no row {row} among these codes: their rows go from {self.rows[0]} to {last}.")
        return self.ws[self.rows.index(row)][None]

    def to(self, device: torch.device) -> Codes:
        """Return the same codes on another device."""
        return Codes(self.ws.to(device), self.sha256, self.rows)


def save_codes(path: str | Path, ws: WPlus, generator: Generator) -> None:
    """Write codes (n, num_ws, w_dim) in float32; equal codes give equal bytes, so an equal sha256."""
    metadata = {
        "kind": KIND,
        "version": VERSION,
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
    }
    save_tensors(path, {"ws": ws.float()}, metadata)


def load_codes(path: str | Path, generator: Generator) -> Codes:
    """Load all codes of a file, on the generator's device.

    Raises GanvasError for a file that is missing, damaged, no codes file, or of another generator (both are named).
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND:
        raise GanvasError(f"{path} isn't a codes file: --save-codes writes one.")
    if metadata.get("version") != VERSION:
        raise GanvasError(
            f"{path} has version {metadata.get('version')!r} of codes files: this version of ganvas reads {VERSION}."
        )
    owner = metadata.get("generator")
    owner = owner if isinstance(owner, dict) else {}
    check_generator(path, owner.get("name"), owner.get("fingerprint"), generator)
    ws = tensors.get("ws")
    if ws is None or ws.shape[1:] != (generator.num_ws, generator.w_dim) or not len(ws) or not ws.is_floating_point():
        raise GanvasError(f"{path} holds no codes (n, {generator.num_ws}, {generator.w_dim}) for {generator.name!r}.")
    if not torch.isfinite(ws).all():
        raise GanvasError(f"{path} holds codes that aren't finite.")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return Codes(ws.float().to(generator.device), digest, range(len(ws)))


def check_generator(origin: object, name: object, fingerprint: object, generator: Generator) -> None:
    """Raise GanvasError, naming both, where the generator that ``origin`` belongs to isn't ``generator``."""
    if fingerprint != generator.fingerprint:
        given, expected = f"{name!r} ({str(fingerprint)[:12]})", f"{generator.name!r} ({generator.fingerprint[:12]})"
        raise GanvasError(f"{origin} is for generator {given}, not for {expected}.")


def pack_codes(codes: Codes, rows: Sequence[int]) -> dict[str, Any]:
    """Return some rows as a JSON value, bit for bit, for a picture that carries its codes."""
    chosen = torch.cat([codes.get_code(row) for row in rows])
    data = chosen.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
    return {"sha256": codes.sha256, "rows": list(rows), "ws": base64.b64encode(data).decode()}


def unpack_codes(value: Any, origin: object, generator: Generator) -> Codes:
    """Read the value of ``pack_codes``. Raises GanvasError where ``value`` isn't codes for this generator."""
    damaged = GanvasError(f"{origin} carries codes that are damaged or don't fit generator {generator.name!r}.")
    if not isinstance(value, dict) or value.keys() != {"sha256", "rows", "ws"}:
        raise damaged
    sha256, rows, text = value["sha256"], value["rows"], value["ws"]
    if not (isinstance(sha256, str) and isinstance(text, str) and isinstance(rows, list)):
        raise damaged
    if not rows or not all(type(row) is int for row in rows):
        raise damaged
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
        ws = torch.from_numpy(numbers.reshape(len(rows), generator.num_ws, generator.w_dim))
    except (ValueError, binascii.Error):
        raise damaged from None
    if not torch.isfinite(ws).all():
        raise damaged
    return Codes(ws.to(generator.device), sha256, tuple(rows))
