"""A store: a folder, or an fsspec URL, whose files say what they were made from; only whole files of the same origin are reused.

``origin`` is all that determines a file's content, as JSON: fingerprints, dtype, psi, seeds. Each file is written by one
process, whole or not at all, so that any number of processes can fill a store at the same time.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write, load_tensors, read_json, write_json
from ganvas.io.shards import load_shard, read_shard, save_shard

TABLE_KEY = b"ganvas.key"
"""The key of a table's metadata with the hash of its values and origin."""
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})
"""fsspec's protocols at which a file that is sent appears when it is whole."""


class StoreUnreachableError(GanvasError, OSError):
    """A URL can't be reached, now; another try may succeed, which ``OSError`` says to engines."""


def is_url(target: str | Path) -> bool:
    """Return whether ``target`` is a URL, such as s3://bucket/labels, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", str(target)) is not None


def compute_key(origin: Mapping[str, Any]) -> str:
    """Compute the sha256 of ``origin`` as canonical JSON: equal origins, equal keys."""
    text = json.dumps(origin, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _key_table(table: Any, origin: Mapping[str, Any]) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    values = hashlib.sha256(sink.getvalue()).hexdigest()
    return compute_key({**origin, "sha256": values}).encode()


@dataclass(frozen=True)
class Store:
    """Files of tensors or tables by name, in a folder or at an fsspec URL."""

    target: str | Path

    def locate(self, name: str) -> str:
        """Return the path or URL of a file."""
        return f"{str(self.target).rstrip('/')}/{name}" if is_url(self.target) else str(Path(self.target) / name)

    def list_names(self) -> set[str]:
        """List the names of all files, without leftovers of writes that were stopped."""
        if is_url(self.target):
            with self._reach() as (files, root):
                files.invalidate_cache()
                try:
                    names = {path.rpartition("/")[2] for path in files.find(root, maxdepth=1)}
                except FileNotFoundError:
                    return set()
            return {name for name in names if name[:1] != "."}
        folder = Path(self.target)
        return {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.is_dir() else set()

    def load(self, name: str, origin: Mapping[str, Any], counted: str, rows: int = 0) -> dict[str, Tensor] | None:
        """Load a file's tensors; None where it is missing or damaged, has another origin, or ends too early.

        The tensor ``counted`` must have at least ``rows`` rows.
        """
        with self._read(name) as path:
            return load_shard(path, counted, origin, rows)

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read a file's tensors and its origin; None where it is missing, damaged or no shard."""
        with self._read(name) as path:
            return read_shard(path)

    def save(self, name: str, tensors: Mapping[str, Tensor], origin: Mapping[str, Any]) -> None:
        """Write tensors with their hash and their origin."""
        with self._write(name) as path:
            save_shard(path, tensors, origin)

    def check_origin(self, name: str, origin: Mapping[str, Any]) -> None:
        """Check that a file has this origin; one that is missing or damaged passes, and may be made again.

        Raises GanvasError for another origin: for files that may have taken hours, so that they are never replaced.
        """
        with self._read(name) as path:
            try:
                _, stored = load_tensors(path)
            except GanvasError:
                return
        for key, value in origin.items():
            if stored.get(key) != value:
                raise GanvasError(
                    f"{self.locate(name)} has pictures whose {key} is {stored.get(key)}, not {value}: use another folder."
                )

    def load_or_make(self, origin: Mapping[str, Any], make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of this origin, which ``make`` makes where they aren't stored; ``origin["kind"]`` names the file."""
        name = f"{origin['kind']}-{compute_key(origin)[:32]}.safetensors"
        with self._read(name) as path:
            stored = read_shard(path)
        if stored is not None and stored[1] == dict(origin):
            return stored[0]
        tensors = dict(make())
        self.save(name, tensors, origin)
        return tensors

    def load_table(self, name: str, origin: Mapping[str, Any]) -> Any:
        """Load a Parquet file's table (pyarrow); None where it is missing or damaged, or has another origin."""
        import pyarrow
        from pyarrow import parquet

        with self._read(name) as path:
            try:
                table = parquet.read_table(path, memory_map=False, page_checksum_verification=True)
            except (OSError, UnicodeDecodeError, pyarrow.ArrowException):
                return None
        metadata = dict(table.schema.metadata or {})
        key = metadata.pop(TABLE_KEY, None)
        table = table.replace_schema_metadata(metadata or None)
        return table if key == _key_table(table, origin) else None

    def save_table(self, name: str, table: Any, origin: Mapping[str, Any]) -> None:
        """Write a table (pyarrow) with its schema's metadata as Parquet, with a hash of both and its origin."""
        from pyarrow import parquet

        metadata = {**(table.schema.metadata or {}), TABLE_KEY: _key_table(table, origin)}
        with self._write(name) as path, atomic_write(path) as temporary:
            parquet.write_table(table.replace_schema_metadata(metadata), temporary, write_page_checksum=True)

    def read_json(self, name: str) -> Any:
        """Read a JSON file. Raises GanvasError where there is none."""
        with self._read(name) as path:
            return read_json(path)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        with self._write(name) as path:
            write_json(path, value)

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Delete the temporary files that stopped writes of these names left in a folder."""
        folder, names = Path(self.target), set(names)
        if is_url(self.target) or not folder.is_dir():
            return
        for path in folder.glob(".*"):
            # As ``atomic_write`` names them: .NAME.RANDOM.SUFFIX
            if path.name[1:].removesuffix(path.suffix).rpartition(".")[0] in names:
                path.unlink(missing_ok=True)

    @contextmanager
    def _reach(self) -> Iterator[tuple[Any, str]]:
        """Yield the URL's file system, and the target in it. Raises GanvasError for all that goes wrong within the block."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise GanvasError(f"{self.target} needs a package: pip install 'ganvas[remote]'.") from None
        try:
            try:
                files, root = url_to_fs(str(self.target))
            except (ImportError, ValueError) as error:  # the protocol's own package, such as s3fs
                raise GanvasError(f"Can't open {self.target}: {error}.") from None
            yield files, root
        except GanvasError:
            raise
        except Exception as error:  # each protocol's package has errors of its own
            text = " ".join(str(error).split()) or type(error).__name__
            raise StoreUnreachableError(f"Can't reach {self.target}: {text.rstrip('.')}.") from error

    @contextmanager
    def _read(self, name: str) -> Iterator[Path]:
        """Yield a path to read: the file's own, or that of a copy, which lacks where the file does."""
        if not is_url(self.target):
            yield Path(self.target) / name
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / name
            with self._reach() as (files, root):
                try:
                    files.get_file(f"{root.rstrip('/')}/{name}", str(copy))
                except FileNotFoundError:
                    copy.unlink(missing_ok=True)
            yield copy

    @contextmanager
    def _write(self, name: str) -> Iterator[Path]:
        """Yield a path to write atomically: the file's own, or one whose file is then sent to the URL."""
        if not is_url(self.target):
            yield Path(self.target) / name
            return
        with tempfile.TemporaryDirectory() as local:
            copy = Path(local) / name
            yield copy
            with self._reach() as (files, root):
                protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
                is_atomic = not protocols.isdisjoint(OBJECT_STORES)
                folder = root.rstrip("/")
                sent = f"{folder}/{name}" if is_atomic else f"{folder}/.{name}.{secrets.token_hex(8)}{copy.suffix}"
                try:
                    files.put_file(str(copy), sent)
                except FileNotFoundError:  # object stores have no folders, others need them
                    files.makedirs(root, exist_ok=True)
                    files.put_file(str(copy), sent)
                if not is_atomic:
                    _replace_file(files, sent, f"{folder}/{name}")


def _replace_file(files: Any, source: str, target: str) -> None:
    try:
        files.mv(source, target)
    except Exception:  # some file systems don't rename a file to one that is there
        if not files.exists(target):
            raise
        files.rm_file(target)
        files.mv(source, target)


class KeyedRows:
    """Rows of numbers by key, such as the scores of codes by their hash; new ones are added to a store as shards.

    Args:
        store: The store that keeps the rows; None keeps them in memory only.
        origin: What the rows are made from, beside what their keys stand for; ``origin["kind"]`` names the files.
        columns: The length of a row.
    """

    SHARD_ROWS = 64
    """Rows of a shard, at most lost when a run is stopped."""

    def __init__(self, store: Store | None, origin: Mapping[str, Any], columns: int) -> None:
        self.store, self.origin, self.columns = store, dict(origin), columns
        self.rows: dict[bytes, Tensor] = {}
        self._prefix = f"{origin['kind']}-{compute_key(origin)[:32]}-"
        for name in sorted(store.list_names()) if store is not None else ():
            if name.startswith(self._prefix):
                self._load(name)

    def load_or_compute(self, keys: Sequence[bytes], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Return the rows (n, columns) of ``keys``; ``compute`` gets the indices of those that aren't stored, once each."""
        first = {key: len(keys) - 1 - i for i, key in enumerate(reversed(keys))}
        indices = sorted(i for key, i in first.items() if key not in self.rows)
        for start in range(0, len(indices), self.SHARD_ROWS):
            chosen = indices[start : start + self.SHARD_ROWS]
            rows = compute(chosen).detach().float().cpu()
            self.rows |= {keys[i]: row for i, row in zip(chosen, rows, strict=True)}
            self._save([keys[i] for i in chosen], rows)
        return torch.stack([self.rows[key] for key in keys]) if keys else torch.zeros(0, self.columns)

    def _save(self, keys: Sequence[bytes], rows: Tensor) -> None:
        if self.store is None:
            return
        joined = b"".join(keys)
        # Of the keys, so that processes that add rows at the same time never replace each other's.
        name = f"{self._prefix}{hashlib.sha256(joined).hexdigest()[:32]}.safetensors"
        stacked = torch.frombuffer(bytearray(joined), dtype=torch.uint8).reshape(len(keys), -1)
        self.store.save(name, {"keys": stacked, "rows": rows}, self.origin)

    def _load(self, name: str) -> None:
        tensors = (self.store.load(name, self.origin, "rows") if self.store is not None else None) or {}
        keys, rows = tensors.get("keys"), tensors.get("rows")
        if keys is not None and rows is not None and rows.shape == (len(keys), self.columns):
            self.rows |= {bytes(key.tolist()): row for key, row in zip(keys, rows, strict=True)}
