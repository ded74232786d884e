"""The files that labels grow in: scores and pictures of some faces, with their hash and what they were made of."""

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


def scores_path(folder: Path, shard: int) -> Path:
    """Where a folder keeps the scores of a shard."""
    return folder / f"scores-{shard:05d}.safetensors"


def images_path(folder: Path, shard: int) -> Path:
    """Where a folder keeps the pictures of a shard."""
    return folder / f"images-{shard:05d}.safetensors"


def save_shard(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors with what they were made of, and their hash."""
    save_tensors(path, tensors, {**about, "sha256": _digest(tensors)})


def load_shard(path: Path, counted: str, about: Mapping[str, Any], rows: int) -> dict[str, Tensor] | None:
    """A shard's tensors, if they are whole, made of ``about``, and at least ``generators.stylegan2.rows`` by the
    tensor ``counted``."""
    try:
        tensors, found = load_tensors(path)
    except GanvasError:
        return None
    whole = found == {**about, "sha256": _digest(tensors)}
    return tensors if whole and len(tensors[counted]) >= rows else None


def check_shard_owner(path: Path, about: Mapping[str, Any]) -> None:
    """Raises GanvasError where ``path`` was not made of ``about``: it may have cost hours, and stays.

    A file that is missing or damaged may be made again.
    """
    try:
        _, found = load_tensors(path)
    except GanvasError:
        return
    for key, value in about.items():
        if found.get(key) != value:
            raise GanvasError(f"{path} has pictures whose {key} is {found.get(key)}, not {value}: use another folder.")


def encode_pictures(pictures: Iterable[Images]) -> dict[str, Tensor]:
    """Pictures (1, 3, height, width) as JPEG; a thread encodes one while the next is rendered."""
    with ThreadPoolExecutor(1) as thread:
        jobs = [thread.submit(encode_jpeg, to_bytes(picture)[0]) for picture in pictures]
    files = [job.result() for job in jobs]
    jpeg = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8)
    return {"jpeg": jpeg, "sizes": torch.tensor([len(file) for file in files])}


def decode_pictures(images: Mapping[str, Tensor], rows: int) -> Iterator[Images]:
    """The first ``generators.stylegan2.rows`` pictures, one at a time."""
    ends = images["sizes"].cumsum(0)[:rows].tolist()
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield from_bytes(decode_jpeg(images["jpeg"][start:end].numpy().tobytes())[None])


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and bytes, so that a file that rotted on its disk is found out."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()
