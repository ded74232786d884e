"""Files of a MultiMNIST set: a folder with ``train.parquet``, ``test.parquet`` and ``about.json``.

The columns are ``png`` (a grey PNG), ``count``, ``digits`` (their classes) and ``boxes`` (x0, y0, x1, y1 of each digit's ink;
the last two are just outside it).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import read_json

KIND, VERSION = "multimnist", 1
PARTS = ("train", "test")
SIZES = (16, 1024)
"""The smallest and largest side of pictures, in pixels."""
MAX_FILE_BYTES = 2 << 30
"""The largest parquet file that is read."""
ROWS_PER_GROUP = 4096
"""Rows in one group of a parquet file."""


@dataclass(frozen=True)
class DigitPicture:
    """One picture (size, size) uint8, its digits' classes and their boxes."""

    pixels: np.ndarray
    digits: tuple[int, ...]
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class MultiMnist:
    """One part of a set: ``pixels`` (n, size, size) uint8, and each picture's digits (0 … 9) and boxes."""

    pixels: Tensor
    digits: list[list[int]]
    boxes: list[list[list[int]]]

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def per_class(self) -> Tensor:
        """The number of each digit, (n, 10), int64; their sum is the count."""
        return torch.stack([torch.bincount(torch.tensor(d, dtype=torch.long), minlength=10) for d in self.digits])

    @cached_property
    def counts(self) -> Tensor:
        """The number of digits, (n,), int64."""
        return torch.tensor([len(digits) for digits in self.digits])


def read_multimnist(folder: str | Path, part: str, limit: int | None = None) -> MultiMnist:
    """Read the first ``limit`` pictures of a part, "train" or "test". Raises GanvasError if missing, damaged or too large."""
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    metadata = read_metadata(folder)
    path, size = Path(folder) / f"{part}.parquet", metadata["size"]
    import pyarrow
    from pyarrow import parquet

    pixels, digits, boxes = [], [], []
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GanvasError(f"{path} has more than {MAX_FILE_BYTES >> 30} GiB: it is too large for a MultiMNIST set.")
        for batch in parquet.ParquetFile(path).iter_batches(
            ROWS_PER_GROUP, columns=["png", "count", "digits", "boxes"]
        ):
            for png, count, classes, corners in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                pixels.append(_decode_png(png, size))
                digits.append(_check_digits(classes, corners, count, size))
                boxes.append(corners)
            if limit is not None and len(pixels) >= limit:
                break
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}: `ganvas make-multimnist` makes it.") from None
    except GanvasError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        SyntaxError,
        KeyError,
        pyarrow.ArrowException,
        Image.DecompressionBombError,
    ):
        raise GanvasError(f"{path} isn't a whole MultiMNIST file.") from None
    if not pixels:
        raise GanvasError(f"{path} holds no pictures.")
    return MultiMnist(torch.from_numpy(np.stack(pixels[:limit])), digits[:limit], boxes[:limit])


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Read a set's ``about.json``. Raises GanvasError where there is none, or it doesn't describe such a set."""
    path = Path(folder) / "about.json"
    metadata = read_json(path)
    if not isinstance(metadata, dict) or metadata.get("kind") != KIND or metadata.get("version") != VERSION:
        raise GanvasError(f"{path} doesn't describe a MultiMNIST set of version {VERSION}.")
    size, counts = metadata.get("size"), metadata.get("counts")
    if type(size) is not int or not SIZES[0] <= size <= SIZES[1]:
        raise GanvasError(f"{path} is damaged: its size is {size!r}.")
    if not isinstance(counts, list) or len(counts) != 2 or not all(type(x) is int for x in counts):
        raise GanvasError(f"{path} is damaged: its counts are {counts!r}.")
    return metadata


def write_part(path: Path, pictures: Iterable[DigitPicture], on_picture: Callable[[int], object]) -> None:
    """Write a parquet file, a group of rows at a time; ``on_picture`` is called with the number of pictures so far."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        {
            "png": pyarrow.binary(),
            "count": pyarrow.int32(),
            "digits": pyarrow.list_(pyarrow.int32()),
            "boxes": pyarrow.list_(pyarrow.list_(pyarrow.int32())),
        }
    )
    rows: list[dict[str, Any]] = []
    # PNG is compressed already.
    with parquet.ParquetWriter(path, schema, compression="NONE") as file:

        def flush() -> None:
            file.write_table(pyarrow.Table.from_pylist(rows, schema), row_group_size=ROWS_PER_GROUP)
            rows.clear()

        for i, picture in enumerate(pictures, 1):
            boxes = [list(box) for box in picture.boxes]
            digits = list(picture.digits)
            rows.append({"png": _encode_png(picture.pixels), "count": len(digits), "digits": digits, "boxes": boxes})
            if len(rows) == ROWS_PER_GROUP:
                flush()
            on_picture(i)
        if rows:
            flush()


def _encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _decode_png(png: bytes, size: int) -> np.ndarray:
    """Decode a picture. Raises GanvasError, before decoding, where it isn't grey and (size, size)."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        if picture.size != (size, size) or picture.mode != "L":
            raise GanvasError(
                f"A picture is {picture.size[0]}×{picture.size[1]} {picture.mode}, not {size}×{size} grey."
            )
        return np.array(picture)


def _check_digits(digits: Any, boxes: Any, count: Any, size: int) -> list[int]:
    """Return the digits. Raises ValueError or TypeError where they or their boxes can't be those of a picture."""
    if len(digits) != count or len(boxes) != count or not set(digits) <= set(range(10)):
        raise ValueError
    for x0, y0, x1, y1 in boxes:
        if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
            raise ValueError
    return digits
