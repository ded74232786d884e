"""CelebA's faces and labels, from its own layout or from a parquet file, framed as the scorer frames faces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import decode_jpeg
from ganvas.scorers.celeba40 import ATTRIBUTES, frame_celeba

if TYPE_CHECKING:
    import pyarrow

TEST_TENTH, CALIBRATION_TENTH = 0, 1
"""The tenths that no network is trained on: one tests, the other calibrates probabilities."""


@dataclass(frozen=True)
class FaceSet:
    """Labelled faces: ``pixels`` (n, 3, size, size) uint8, already framed; ``labels`` (n, 40) of 0 and 1, in the order of
    ATTRIBUTES; ``tenths`` (n,) from 0 to 9, by a hash of the file name and so the same for every scorer."""

    pixels: Tensor
    labels: Tensor
    tenths: Tensor

    def select(self, mask: Tensor) -> FaceSet:
        """Return the faces where ``mask`` (n,) is true."""
        return FaceSet(self.pixels[mask], self.labels[mask], self.tenths[mask])


def hash_tenth(file_name: str) -> int:
    """Assign a file name to a tenth of all faces, 0 to 9, by a hash of the name."""
    return int(hashlib.sha256(file_name.encode()).hexdigest(), 16) % 10


def read_faces(path: str | Path, size: int) -> FaceSet:
    """Read faces from CelebA's folder (``img_align_celeba/`` and ``list_attr_celeba.txt``) or from a parquet with ``file``,
    ``jpeg`` and a bool column for each attribute. Raises GanvasError where ``path`` is neither, or is damaged."""
    path = Path(path)
    rows = _read_celeba_rows(path) if path.is_dir() else _read_parquet_rows(path)
    pixels, labels, tenths = [], [], []
    for name, jpeg, row in rows:
        pixels.append(frame_celeba(decode_jpeg(jpeg, f"{path}: {name}"), size))
        labels.append(row)
        tenths.append(hash_tenth(name))
    if not pixels:
        raise GanvasError(f"{path} holds no faces.")
    return FaceSet(torch.stack(pixels), torch.tensor(np.array(labels), dtype=torch.float32), torch.tensor(tenths))


def _read_parquet_rows(path: Path) -> Iterator[tuple[str, bytes, np.ndarray]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except (OSError, pyarrow.ArrowException):
        raise GanvasError(f"{path} is neither a parquet file nor a folder with img_align_celeba/.") from None
    missing = [name for name in ("file", "jpeg", *ATTRIBUTES) if name not in table.schema_arrow.names]
    if missing:
        raise GanvasError(f"{path} lacks the columns {', '.join(missing)}.")
    try:
        for batch in table.iter_batches(512, columns=["file", "jpeg", *ATTRIBUTES]):
            yield from _read_batch_rows(path, batch)
    except (OSError, pyarrow.ArrowException):
        raise GanvasError(f"{path} isn't a whole parquet file.") from None


def _read_batch_rows(path: Path, batch: pyarrow.RecordBatch) -> Iterator[tuple[str, bytes, np.ndarray]]:
    for name in ATTRIBUTES:
        if batch.column(name).null_count:
            raise GanvasError(f"{path} has faces without a label: column {name} holds nulls.")
    labels = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in ATTRIBUTES], 1)
    if not np.isin(labels, (0, 1)).all():
        raise GanvasError(f"{path} has labels other than true and false.")
    files, jpegs = batch.column("file").to_pylist(), batch.column("jpeg").to_pylist()
    for file, jpeg, row in zip(files, jpegs, labels, strict=True):
        if not isinstance(file, str) or not isinstance(jpeg, bytes):
            raise GanvasError(f"{path} has faces without a name in column file, or without bytes in column jpeg.")
        yield file, jpeg, row


def _read_celeba_rows(path: Path) -> Iterator[tuple[str, bytes, np.ndarray]]:
    listing, folder = path / "list_attr_celeba.txt", path / "img_align_celeba"
    if not listing.is_file() or not folder.is_dir():
        raise GanvasError(f"{path} holds no list_attr_celeba.txt beside img_align_celeba/.")
    lines = _read_lines(listing)
    count, header = (*lines, "", "")[:2]
    names, rows = header.split(), lines[2:]
    if sorted(names) != sorted(ATTRIBUTES):
        raise GanvasError(f"{listing}, line 2, doesn't list CelebA's 40 attributes.")
    if count.strip() != str(len(rows)):
        raise GanvasError(f"{listing}, line 1, announces {count.strip()[:20]!r} faces, and {len(rows)} follow.")
    order = [names.index(name) for name in ATTRIBUTES]
    for number, line in enumerate(rows, 3):
        name, *values = line.split() or [""]
        if len(values) != len(order) or not {*values} <= {"1", "0", "-1"}:
            raise GanvasError(f"{listing}, line {number}, isn't a file's name and {len(order)} labels of 1 or -1.")
        # Only the base name counts: a listing can't point outside its folder.
        name = Path(name).name
        try:
            jpeg = (folder / name).read_bytes()
        except OSError as error:
            raise GanvasError(f"Can't read {folder / name} ({listing}, line {number}): {error.strerror}.") from None
        yield name, jpeg, np.array(values, dtype=int)[order] > 0


def _read_lines(listing: Path) -> list[str]:
    """Return the lines of a file without blank ones at the end."""
    try:
        data = listing.read_bytes()
    except OSError as error:
        raise GanvasError(f"Can't read {listing}: {error.strerror}.") from None
    try:
        return data.decode("utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise GanvasError(f"{listing}, line {line}, isn't UTF-8 text.") from None
