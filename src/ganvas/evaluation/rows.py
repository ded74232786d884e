"""Results as tidy rows, in Parquet: one for each method, attribute, protocol, change, judge, metric and code."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write
from ganvas.io.store import Store
from ganvas.metrics import Trial, list_metrics

if TYPE_CHECKING:
    import pyarrow as pa

Frame = Any
"""A data frame or series of pandas, whose own types are too vague for a type checker."""
METADATA_KEY = b"ganvas"
TEXT_COLUMNS = ("method", "attribute", "protocol", "judge", "metric", "of")
SOURCES = ("editors", "metrics", "data", "control", "evaluation", "identity.py", "stats.py", "training_loop.py")
"""Files and folders of the package whose code fits editors or makes rows."""
NUMBER_COLUMNS = {
    "labels": np.int32,
    "change": np.float32,
    "code_id": np.int32,
    "value": np.float32,
    "reached": np.bool_,
    "strength": np.float32,
}


@dataclass
class RowBlocks:
    """Rows of one cell, a method on an attribute, collected block by block.

    ``missing``: by metric, why it has no values. ``pictures``: how many different ones were used.
    """

    method: str
    attribute: str
    blocks: list[tuple[tuple[str, ...], dict[str, Any], int]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    pictures: int = 0

    def add(
        self,
        protocol: str,
        metric: str,
        codes: Tensor,
        values: Tensor,
        *,
        change: float = math.nan,
        judge: str = "",
        of: str = "",
        reached: Tensor | None = None,
        strengths: Tensor | None = None,
        labels: int = 0,
        attribute: str = "",
    ) -> None:
        """Add one value a code, (n,), of one metric; ``of`` is the attribute measured, where it has one value for each."""
        n = len(codes)
        texts = (self.method, attribute or self.attribute, protocol, judge, metric, of)
        numbers = {
            "labels": labels,
            "change": change,
            "code_id": codes.cpu().numpy(),
            "value": values.detach().float().cpu().numpy(),
            "reached": True if reached is None else reached.cpu().numpy(),
            "strength": math.nan if strengths is None else strengths.float().cpu().numpy(),
        }
        self.blocks.append((texts, numbers, n))

    def add_trial(
        self,
        protocol: str,
        codes: Tensor,
        trials: Sequence[Trial],
        *,
        judge: str = "",
        share: Tensor | None = None,
        **more: Any,
    ) -> None:
        """Add the values of every registered metric of a trial, of the judged ones where there is a ``judge``, else of the rest.

        Of two trials it is the value between them, at ``share`` (n,) of the way; of a metric that is 0 or 1, the nearer trial's.
        """
        ends = [self._measure(protocol, trial, bool(judge)) for trial in trials]
        first = trials[0]
        for name, of in ends[0]:
            if all((name, of) in end for end in ends):
                values = [end[name, of] for end in ends]
                value = values[0] if share is None else _interpolate(values, share, list_metrics()[name].share)
                self.add(
                    protocol,
                    name,
                    codes,
                    value,
                    judge=judge,
                    of=of,
                    **{"reached": first.arrived, "strengths": first.strengths, **more},
                )

    def _measure(self, protocol: str, trial: Trial, judged: bool) -> dict[tuple[str, str], Tensor]:
        """Return the values of metrics, (n,) each, by metric and attribute measured."""
        found = {}
        for name, metric in list_metrics().items():
            if metric.judged != judged or (metric.protocols and protocol not in metric.protocols):
                continue
            try:
                values = metric.function(trial).float().cpu()
            except GanvasError as error:
                self.missing[name] = str(error)
                continue
            shape = (len(trial), len(trial.attributes)) if metric.each else (len(trial),)
            if values.shape != shape:
                self.missing[name] = f"Its values have the shape {tuple(values.shape)}, not {shape}."
            elif metric.each:
                found |= {(name, attribute): values[:, k] for k, attribute in enumerate(trial.attributes)}
            else:
                found[name, ""] = values
        return found

    def to_table(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        counts = [n for _, _, n in self.blocks]
        columns: dict[str, Any] = {}
        for k, name in enumerate(TEXT_COLUMNS):
            values, index = np.unique([texts[k] for texts, _, _ in self.blocks] or [""], return_inverse=True)
            places = np.repeat(index.astype(np.int32), counts) if counts else np.zeros(0, np.int32)
            columns[name] = pa.DictionaryArray.from_arrays(places, values.tolist()).cast(pa.string())
        for name, kind in NUMBER_COLUMNS.items():
            parts = [np.broadcast_to(np.asarray(numbers[name], dtype=kind), n) for _, numbers, n in self.blocks]
            columns[name] = np.concatenate(parts) if parts else np.zeros(0, kind)
        return pa.table(columns)


def _interpolate(ends: Sequence[Tensor], share: Tensor, binary: bool) -> Tensor:
    """Return the values at ``share`` of the way between two, or the nearer ones where they are ``binary``."""
    if not binary:
        return torch.lerp(ends[0], ends[1], share)
    return torch.where(share.isnan(), torch.nan, torch.where(share < 0.5, ends[0], ends[1]))


@dataclass(frozen=True)
class RowCell:
    """The finished rows of a cell, with what ``RowBlocks`` says of them."""

    table: pa.Table
    missing: Mapping[str, str]
    pictures: int


def save_cell(file: Path | None, blocks: RowBlocks, key: Mapping[str, Any]) -> RowCell:
    """Store a cell's rows under what they depend on, ``key``, and return the cell."""
    cell = RowCell(blocks.to_table(), dict(blocks.missing), blocks.pictures)
    if file is not None:
        about = json.dumps({"missing": cell.missing, "pictures": cell.pictures}, sort_keys=True)
        table = cell.table.replace_schema_metadata({METADATA_KEY: about.encode()})
        Store(file.parent).save_table(file.name, table, key)
    return cell


def load_cell(file: Path | None, key: Mapping[str, Any]) -> RowCell | None:
    """Load the cell in ``file`` where it is one of ``key``; None where there is none, another, or a damaged one."""
    table = None if file is None else Store(file.parent).load_table(file.name, key)
    if table is None:
        return None
    about = json.loads(table.schema.metadata[METADATA_KEY])
    return RowCell(table.replace_schema_metadata(None), about["missing"], about["pictures"])


def write_table(file: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all."""
    import pyarrow.parquet as pq

    with atomic_write(file) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def join_cells(cells: Sequence[RowCell]) -> pa.Table:
    """Concatenate the rows of cells."""
    import pyarrow as pa

    return pa.concat_tables([cell.table for cell in cells]) if cells else RowBlocks("", "").to_table()


def to_frame(table: pa.Table) -> Frame:
    """Return rows as a data frame, whose texts are categories."""
    return table.to_pandas(categories=list(TEXT_COLUMNS))


@cache
def hash_sources(folder: Path = Path(__file__).parent.parent) -> str:
    """Hash the package's code that fits editors and makes rows: what other code made is made anew."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*.py") if file.relative_to(folder).parts[0] in SOURCES):
        digest.update(file.relative_to(folder).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def hash_metrics() -> str:
    """Hash the code of all registered metrics, those outside of the package included: rows of others are measured anew."""
    sources = [_read_source(metric.function) for metric in list_metrics().values()]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _read_source(function: Callable[..., Any]) -> str:
    """Return a function's source, or, where no file has it (as in an interactive session), its code."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return _format_code(inspect.unwrap(function).__code__)


def _format_code(code: CodeType) -> str:
    """Return the instructions, names and constants of code, without addresses in memory."""
    constants = [_format_code(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return " ".join((code.co_code.hex(), *code.co_names, *constants))
