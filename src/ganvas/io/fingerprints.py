"""Fingerprints of weights, the same on any machine and in any storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ganvas.validation import validated


@validated
class NamedTool:
    """A generator, an editor or a scorer: its name, and the sha256 of its weights."""

    name: str
    fingerprint: Annotated[str, Field(pattern=r"\A[!-~]*\z")]
    """Printable, as messages quote it."""


def hash_weights(named: Iterable[tuple[str, Tensor]]) -> str:
    """Hash names, shapes and float32 values, sorted by name, by sha256; independent of device, dtype and storage order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
