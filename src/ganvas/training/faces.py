"""CelebA's faces and labels, from its own layout or from a parquet file, framed as the scorer frames faces."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.pictures import decode_jpeg
from ganvas.scorers.celeba40 import ATTRIBUTES, frame_celeba

TEST, CALIBRATION = 0, 1
"""The tenths that are kept from training: one to test, one to calibrate probabilities."""


@dataclass(frozen=True)
class FaceSet:
    """``pixels`` (n, 3, size, size) uint8, already framed; ``labels`` (n, 40) of 0 and 1, in the order of ATTRIBUTES;
    ``tenths`` (n,) from 0 to 9, by a hash of the file name and so the same for every scorer."""

    pixels: Tensor
    labels: Tensor
    tenths: Tensor

    def part(self, mask: Tensor) -> FaceSet:
        """The faces where ``mask`` (n,) is true."""
        return FaceSet(self.pixels[mask], self.labels[mask], self.tenths[mask])


def tenth(file_name: str) -> int:
    """A tenth of all faces, from 0 to 9, that only the file's name decides."""
    return int(hashlib.sha256(file_name.encode()).hexdigest(), 16) % 10


def read_faces(path: str | Path, size: int, progress: Callable[[Iterator], Iterator] = iter) -> FaceSet:
    """Faces from CelebA's folder (``img_align_celeba/`` and ``list_attr_celeba.txt``) or from a parquet with ``file``,
    ``jpeg`` and a bool column for each attribute. Raises GanvasError where ``path`` is neither."""
    path = Path(path)
    rows = _celeba_rows(path) if path.is_dir() else _parquet_rows(path)
    pixels, labels, tenths = [], [], []
    for name, jpeg, row in progress(rows):
        pixels.append(frame_celeba(decode_jpeg(jpeg), size))
        labels.append(row)
        tenths.append(tenth(name))
    if not pixels:
        raise GanvasError(f"{path} holds no faces.")
    return FaceSet(torch.stack(pixels), torch.tensor(np.array(labels), dtype=torch.float32), torch.tensor(tenths))


def _parquet_rows(path: Path) -> Iterator[tuple[str, bytes, np.ndarray]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid):
        raise GanvasError(f"{path} is neither a parquet file nor a folder with img_align_celeba/.") from None
    missing = [name for name in ("file", "jpeg", *ATTRIBUTES) if name not in table.schema_arrow.names]
    if missing:
        raise GanvasError(f"{path} lacks the columns {', '.join(missing)}.")
    for batch in table.iter_batches(512):
        labels = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in ATTRIBUTES], 1)
        files, jpegs = batch.column("file").to_pylist(), batch.column("jpeg").to_pylist()
        yield from zip(files, jpegs, labels, strict=True)


def _celeba_rows(path: Path) -> Iterator[tuple[str, bytes, np.ndarray]]:
    listing, folder = path / "list_attr_celeba.txt", path / "img_align_celeba"
    if not listing.is_file() or not folder.is_dir():
        raise GanvasError(f"{path} holds no list_attr_celeba.txt beside img_align_celeba/.")
    lines = io.StringIO(listing.read_text())
    next(lines)
    names = next(lines).split()
    if sorted(names) != sorted(ATTRIBUTES):
        raise GanvasError(f"{listing} doesn't list CelebA's 40 attributes in its second line.")
    order = [names.index(name) for name in ATTRIBUTES]
    for line in lines:
        name, *values = line.split()
        # Only the base name counts: a listing can't point outside its folder.
        name = Path(name).name
        yield name, (folder / name).read_bytes(), np.array(values, dtype=int)[order] > 0
