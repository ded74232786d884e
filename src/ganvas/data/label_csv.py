"""A user's own labels: a table with one row for each picture that ``ganvas sample`` drew, in the spellings that people have.

The first column (or the one called index, seed, file, …) says which picture: its seed, or a file's name, whose number is the
seed. A column of only 0 and 1, -1 and 1, or words like yes and no says which pictures have an attribute, any other holds values.
Cells are separated by commas, semicolons or tabs; with the latter two, numbers may have decimal commas. CelebA's lists (a
count, a line of names, then columns separated by spaces) are read, too.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds

LABEL_SUFFIXES = (".csv", ".tsv", ".txt")
"""The suffixes of such tables."""
LABEL_LOGIT = 4.0
"""The logit of a yes, and its negative of a no: a label by eye counts as 98 % sure."""
MAX_FILE_BYTES, MAX_ROWS, MAX_LINE_LENGTH, BATCH_SIZE = 1 << 26, 200_000, 1 << 16, 256
"""Limits of the file, its rows and a line's characters; and how many codes are mapped at a time."""
MAX_GAPS = 0.5
"""The largest share of empty cells of a column that is kept."""
PICTURE_COLUMNS = frozenset(
    "index seed id file filename file_name path filepath name image image_id image_name picture photo".split()
)
"""What people call the column that says which picture a row is about, in lower case."""
WORDS = dict.fromkeys(("true", "yes", "y", "t"), 1.0) | dict.fromkeys(("false", "no", "n", "f"), 0.0)
GAPS = frozenset(("", "nan", "na", "n/a", "null", "none", "-", "?"))
"""Cells that hold no label, in lower case."""
DELIMITERS = (";", "\t", ",")


def read_label_csv(
    path: str | Path, generator: Generator, psi: float = 1.0, log: Callable[[str], object] | None = None
) -> LatentDataset:
    """Read a table of labels, and map the codes of its seeds at ``psi`` (as the pictures were drawn).

    ``log`` takes a line about what was left out. Columns that are mostly empty are left out, then rows with an empty cell.
    Raises GanvasError for a file that is missing or no such table, naming the line, and for attributes that are the same
    everywhere.
    """
    names, seeds, scores, digest = _read_table(Path(path))
    names, seeds, scores = _leave_out_gaps(names, seeds, scores, Path(path), log or (lambda line: None))
    kinds = []
    for k in range(len(names)):
        values = set(scores[:, k].unique().tolist()) if len(scores) else set()
        kinds.append("probability" if values <= {0, 1} or values <= {-1, 1} else "value")
        if kinds[-1] == "probability":
            scores[:, k] = torch.where(scores[:, k] > 0, LABEL_LOGIT, -LABEL_LOGIT)
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
            file.seek(0)
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding) as file:
            return *_parse_table(file, path), digest
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except (UnicodeError, csv.Error) as error:
        raise GanvasError(f"{path} isn't a table of text: {error}.") from None


def _read_lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(MAX_LINE_LENGTH + 1):
        if len(line) > MAX_LINE_LENGTH:
            raise GanvasError(f"{path} has a line of more than {MAX_LINE_LENGTH:,} characters: it isn't such a CSV.")
        yield line.removesuffix("\n")


def _leave_out_gaps(
    names: list[str], seeds: list[int], scores: Tensor, path: Path, log: Callable[[str], object]
) -> tuple[list[str], list[int], Tensor]:
    """Leave out columns that are mostly empty, then rows with an empty cell. Raises GanvasError where too little is left."""
    empty = scores.isnan()
    columns = (empty.double().mean(0) <= MAX_GAPS).nonzero().flatten().tolist()
    rows = (~empty[:, columns].any(1)).nonzero().flatten().tolist()
    if len(rows) < 2 or not columns:
        raise GanvasError(f"{path} must list at least two pictures whose labels aren't empty.")
    omitted = [name for k, name in enumerate(names) if k not in columns]
    if omitted:
        log(f"{path}: mostly empty, so left out: {', '.join(omitted)}.")
    if len(rows) < len(seeds):
        log(f"{path}: {len(seeds) - len(rows)} of {len(seeds)} rows have an empty cell and are left out.")
    return [names[k] for k in columns], [seeds[row] for row in rows], scores[rows][:, columns]


def _parse_table(file: TextIO, path: Path) -> tuple[list[str], list[int], Tensor]:
    """Parse a table: its attributes, seeds and values, NaN where a cell is empty."""
    lines, skipped = _read_lines(file, path), 0
    first = next(lines, "")
    is_celeba = bool(re.fullmatch(r"\s*[0-9]+\s*", first))
    if is_celeba or re.fullmatch(r"sep=.\s*", first):  # how many pictures follow, or Excel's mark
        first, skipped = next(lines, ""), 1
    if is_celeba:
        return _parse_rows(["file", *first.split()], (line.split() for line in lines), path, skipped, "")
    heads = {each: next(csv.reader([first], delimiter=each, skipinitialspace=True), []) for each in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: len(heads[each]))
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    return _parse_rows(heads[delimiter], rows, path, skipped, "" if delimiter == "," else ",")


def _parse_rows(
    titles: list[str], lines: Iterator[list[str]], path: Path, skipped: int, comma: str
) -> tuple[list[str], list[int], Tensor]:
    """Parse the rows below the line of ``titles``; ``comma``: what stands for a point in numbers, or ""."""
    head = [name.strip() for name in titles]
    place = next((k for k, name in enumerate(head) if name.lower() in PICTURE_COLUMNS), 0)
    columns = [k for k, name in enumerate(head) if name and k != place]
    names = [head[k] for k in columns]
    if not names or len(set(names)) != len(names) or all(_is_number(name) for name in names):
        raise GanvasError(
            f"{path} must begin with a header like index,Smiling,Age, with a picture's seed or file first and different names."
        )
    seeds, rows = array("q"), array("f")
    for number, line in enumerate(lines, 2 + skipped):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) < len(head):
            raise GanvasError(f"{path}, line {number}: it needs {len(head) - 1} values beside the seed or file name.")
        try:
            seeds.append(_parse_seed(line[place].strip()))
            rows.extend(_parse_value(line[k].strip(), comma) for k in columns)
        except (ValueError, OverflowError):
            text = ",".join(line)[:60]
            raise GanvasError(
                f"{path}, line {number}: {text!r} isn't a seed or file name, and finite numbers."
            ) from None
        if len(seeds) > MAX_ROWS:
            raise GanvasError(f"{path} lists more than {MAX_ROWS:,} pictures: give fewer.")
    if len(set(seeds)) != len(seeds) or len(seeds) < 2:
        raise GanvasError(f"{path} must list at least two pictures, each once.")
    return names, list(seeds), torch.tensor(rows).reshape(len(seeds), -1)


def _parse_seed(text: str) -> int:
    """Parse a seed, or the number in a file's name: that after "seed", else the last one. Raises ValueError if none."""
    if re.fullmatch(r"-?[0-9]+(\.0+)?", text):
        return int(text.partition(".")[0])
    name = re.sub(r"\.[a-z][a-z0-9]*$", "", re.split(r"[/\\]", text)[-1], flags=re.IGNORECASE)
    numbers = re.findall(r"seed[ _-]?([0-9]+)", name, re.IGNORECASE) or re.findall(r"[0-9]+", name)
    if not numbers or name == text and re.fullmatch(r"[-+0-9.,e]+", text):
        raise ValueError
    return int(numbers[-1])


def _parse_value(text: str, comma: str) -> float:
    """Parse a cell; NaN where it is empty. Raises ValueError where it is no label."""
    lowered = text.lower()
    if lowered in GAPS:
        return math.nan
    value = WORDS[lowered] if lowered in WORDS else float(text.replace(comma, ".") if comma else text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
