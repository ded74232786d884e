"""Shards: safetensors files with a hash of their bytes and what they were made from, and packs of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import decode_jpeg, encode_jpeg, from_bytes, to_bytes
from ganvas.types import Images


def format_scores_name(shard: int) -> str:
    """Return the name of a label shard's scores."""
    return f"scores-{shard:05d}.safetensors"


def format_images_name(shard: int) -> str:
    """Return the name of a label shard's pictures."""
    return f"images-{shard:05d}.safetensors"


def locate_images(folder: Path, shard: int) -> Path:
    """Return the path of a label shard's pictures."""
    return folder / format_images_name(shard)


def save_shard(path: Path, tensors: Mapping[str, Tensor], origin: Mapping[str, Any]) -> None:
    """Write tensors with their hash and ``origin``, what they were made from (JSON)."""
    save_tensors(path, tensors, {**origin, "sha256": _hash_tensors(tensors)})


def read_shard(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a shard's tensors and its origin; None where the file is missing, damaged or no shard."""
    try:
        tensors, origin = load_tensors(path)
    except GanvasError:
        return None
    return (tensors, origin) if origin.pop("sha256", None) == _hash_tensors(tensors) else None


def load_shard(path: Path, counted: str, origin: Mapping[str, Any], rows: int) -> dict[str, Tensor] | None:
    """Load a shard's tensors; None where the file is missing or damaged, has another origin, or ends too early.

    The tensor ``counted`` must have at least ``rows`` rows.
    """
    tensors, stored_origin = read_shard(path) or ({}, {})
    if counted not in tensors or stored_origin != dict(origin):
        return None
    return tensors if tensors[counted].ndim and len(tensors[counted]) >= rows else None


def encode_pictures(pictures: Iterable[Images]) -> dict[str, Tensor]:
    """Encode pictures (1, 3, height, width) as JPEG; a thread encodes one while the next is rendered.

    Returns ``jpeg``, the files one after another (uint8), and ``sizes``, their lengths in bytes.
    """
    with ThreadPoolExecutor(1) as thread:
        jobs = [thread.submit(encode_jpeg, to_bytes(picture)[0]) for picture in pictures]
    files = [job.result() for job in jobs]
    jpeg = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8)
    return {"jpeg": jpeg, "sizes": torch.tensor([len(file) for file in files])}


def decode_pictures(images: Mapping[str, Tensor], rows: int) -> Iterator[Images]:
    """Decode the first ``rows`` pictures of ``encode_pictures``, one at a time."""
    ends = images["sizes"].cumsum(0)[:rows].tolist()
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield from_bytes(decode_jpeg(images["jpeg"][start:end].numpy().tobytes())[None])


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and bytes by sha256, so that a file damaged on its disk is noticed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        # As bytes: NumPy lacks bfloat16 and float8.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
