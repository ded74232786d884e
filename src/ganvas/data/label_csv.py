"""A user's own labels: a CSV of ``index,attribute,…``, one row for each picture that ``ganvas sample`` drew.

``index`` is the picture's seed; a column of only 0 and 1 says which pictures have an attribute, any other holds values. Cells
must not be empty: leave such rows out.
"""

from __future__ import annotations

import csv
import hashlib
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds

LABEL_LOGIT = 4.0
"""The logit of a yes, and its negative of a no: a label by eye counts as 98 % sure."""
MAX_FILE_BYTES, MAX_ROWS, MAX_LINE_LENGTH, BATCH_SIZE = 1 << 26, 200_000, 1 << 16, 256
"""Limits of the file, its rows and a line's characters; and how many codes are mapped at a time."""


def read_label_csv(path: str | Path, generator: Generator, psi: float = 1.0) -> LatentDataset:
    """Read a CSV of labels, and map the codes of its seeds at ``psi`` (as the pictures were drawn).

    Raises GanvasError for a file that is missing or no such CSV, naming the line, and for attributes that are the same
    everywhere.
    """
    names, seeds, scores, digest = _read_table(Path(path))
    kinds = []
    for k in range(len(names)):
        yes_or_no = bool(((scores[:, k] == 0) | (scores[:, k] == 1)).all())
        kinds.append("probability" if yes_or_no else "value")
        if yes_or_no:
            scores[:, k] = (2 * scores[:, k] - 1) * LABEL_LOGIT
    codes = torch.cat([_map_seeds(generator, seeds[i : i + BATCH_SIZE], psi) for i in range(0, len(seeds), BATCH_SIZE)])
    labels = (
        tuple(names),
        tuple(kinds),
        Source(None, psi, None, BATCH_SIZE),
        generator.fingerprint,
        f"{Path(path).name}:{digest}",
    )
    return make_dataset(codes, scores, *labels)


@torch.no_grad()
def _map_seeds(generator: Generator, seeds: list[int], psi: float) -> Tensor:
    return generator.truncate(map_seeds(generator, seeds), psi).cpu()


def _read_table(path: Path) -> tuple[list[str], list[int], Tensor, str]:
    """Read the names of attributes, the seeds, the values (rows, attributes), and the file's sha256."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GanvasError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB: give a smaller CSV.")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with path.open(encoding="utf-8-sig") as file:
            return *_parse_rows(csv.reader(_read_lines(file, path)), path), digest
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise GanvasError(f"{path} isn't CSV: {error}.") from None


def _read_lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(MAX_LINE_LENGTH + 1):
        if len(line) > MAX_LINE_LENGTH:
            raise GanvasError(f"{path} has a line of more than {MAX_LINE_LENGTH:,} characters: it isn't such a CSV.")
        yield line.removesuffix("\n")


def _parse_rows(lines: Iterator[list[str]], path: Path) -> tuple[list[str], list[int], Tensor]:
    head = [name.strip() for name in next(lines, [])]
    if len(head) < 2 or head[0] != "index" or not all(head) or len(set(head)) != len(head):
        raise GanvasError(f"{path} must begin with a header like index,Smiling,Age, where index is a picture's seed.")
    seeds, rows = array("q"), array("f")
    for number, line in enumerate(lines, 2):
        if not any(cell.strip() for cell in line):
            continue
        try:
            seed, cells = int(line[0]), [float(cell) for cell in line[1:]]
            seeds.append(seed)
        except (ValueError, OverflowError):
            raise GanvasError(f"{path}, line {number}: {','.join(line)[:60]!r} isn't a seed and numbers.") from None
        if len(cells) != len(head) - 1 or not all(map(math.isfinite, cells)):
            raise GanvasError(f"{path}, line {number}: it needs {len(head) - 1} finite numbers after the index.")
        if len(seeds) > MAX_ROWS:
            raise GanvasError(f"{path} lists more than {MAX_ROWS:,} pictures: give fewer.")
        rows.extend(cells)
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        raise GanvasError(f"{path} must list at least two pictures, each once.")
    return head[1:], list(seeds), torch.tensor(rows).reshape(len(seeds), -1)
