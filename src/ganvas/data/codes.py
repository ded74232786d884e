"""Codes files: W+ codes as safetensors with their generator's fingerprint; recipes refer to them by their sha256."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import NamedTool
from ganvas.types import WPlus
from ganvas.validation import Natural, parse, validated


@validated
class CodesHeader:
    """What a codes file states beside its codes."""

    generator: NamedTool
    kind: Literal["codes"] = "codes"
    version: Literal[1] = 1


@validated
class CarriedCodes:
    """Rows of a codes file in JSON, for a picture that carries its codes: ``ws`` are their float32 bytes in base64."""

    sha256: str
    rows: Annotated[tuple[Natural, ...], Field(min_length=1)]
    ws: str


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
    header = CodesHeader(NamedTool(generator.name, generator.fingerprint))
    save_tensors(path, {"ws": ws.float()}, asdict(header))


def load_codes(path: str | Path, generator: Generator) -> Codes:
    """Load all codes of a file, on the generator's device.

    Raises GanvasError for a file that is missing, damaged, no codes file, or of another generator (both are named).
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != "codes":
        raise GanvasError(f"{path} isn't a codes file: --save-codes writes one.")
    owner = parse(CodesHeader, metadata, path, complete=True).generator
    check_generator(path, owner.name, owner.fingerprint, generator)
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
    try:
        carried = parse(CarriedCodes, value)
        numbers = np.frombuffer(base64.b64decode(carried.ws, validate=True), "<f4").astype(np.float32)
        ws = torch.from_numpy(numbers.reshape(len(carried.rows), generator.num_ws, generator.w_dim))
    except (ValueError, binascii.Error):  # GanvasError is a ValueError, too
        raise damaged from None
    if not torch.isfinite(ws).all():
        raise damaged
    return Codes(ws.to(generator.device), carried.sha256, carried.rows)
