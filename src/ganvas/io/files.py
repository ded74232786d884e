"""Reading and writing of files: atomic writes, and checks of all that is read."""

from __future__ import annotations

import io
import json
import math
import os
import re
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganvas.errors import GanvasError

METADATA_KEY = "ganvas"
"""The key of a safetensors file's metadata under which ganvas stores its own, as JSON."""
MAX_CARD_BYTES = 1 << 20
MAX_ARRAY_BYTES, MAX_ARRAYS = 1 << 31, 10_000
"""Limits of what an .npz file unpacks to."""
HEADER_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    SyntaxError,
    TypeError,
    LookupError,
    TokenError,
)
"""What NumPy raises for damaged files, whose headers it parses as Python's literals."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds, and is deleted when it fails.

    Raises GanvasError where the folder can't be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise GanvasError(f"Can't write {path}: {error.strerror}.") from None
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise GanvasError(f"Can't write {path}: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def check_local_path(path: str | Path) -> None:
    """Raise GanvasError where a URL is given instead of a file (a ``Path`` of one has a single slash)."""
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])", Path(path).as_posix()):
        scheme = match[1].lower()
        address = f"{scheme}://{Path(path).as_posix()[match.end() :]}"
        raise GanvasError(f"{address} is a URL: download it first, and give the path of the file.")


def read_json(path: str | Path) -> Any:
    """Read JSON from ``path``. Raises GanvasError where there is none, or where it holds NaN or an infinity."""
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise GanvasError(f"{path} isn't JSON.") from None


def parse_json(text: str, origin: str | Path) -> Any:
    """Parse JSON; messages name its ``origin``. Raises GanvasError as ``read_json`` does."""

    def refuse(constant: str) -> None:
        raise GanvasError(f"{origin} holds {constant}: numbers must be finite.")

    try:
        return json.loads(text, parse_constant=refuse)
    except GanvasError:
        raise
    except (ValueError, RecursionError):  # ValueError also for a number of thousands of digits
        raise GanvasError(f"{origin} isn't JSON.") from None


def read_card(path: Path) -> Any:
    """Read a small file in JSON (by its suffix) or TOML. Raises GanvasError for anything else."""
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise GanvasError(f"{path} is too large for a card: at most {MAX_CARD_BYTES:,} bytes are read.")
        return read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GanvasError(f"{path} isn't a card in TOML: {error}.") from None
    except RecursionError:
        raise GanvasError(f"{path} isn't a card in TOML: it nests too deeply.") from None


def read_npy(path: str | Path) -> Any:
    """Read the array in a .npy file.

    Raises GanvasError where the file is missing, damaged, too large, or a pickle, which isn't opened.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except HEADER_ERRORS:
        raise GanvasError(f"{path} isn't a whole .npy file of numbers.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise GanvasError(f"{path} isn't a whole .npy file of numbers.")
    return array


def read_npz(path: str | Path) -> dict[str, Any]:
    """Read the arrays of numbers in a .npz file by name; arrays of other things are left out, and never unpickled.

    Raises GanvasError where the file is missing, damaged, or too large, and for a shape that its bytes don't fill.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if len(members) > MAX_ARRAYS or sum(info.file_size for info in members) > MAX_ARRAY_BYTES:
                raise GanvasError(f"{path} unpacks to more than {MAX_ARRAY_BYTES >> 20} MiB: give a smaller file.")
            arrays = {info.filename.removesuffix(".npy"): _parse_npy(archive.read(info)) for info in members}
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except GanvasError:
        raise
    except (*HEADER_ERRORS, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise GanvasError(f"{path} isn't a whole .npz file of numbers.") from None
    return {name: array for name, array in arrays.items() if array is not None}


def _parse_npy(data: bytes) -> Any:
    """Parse the content of a .npy file; None where it holds no numbers. Raises ValueError for a shape that lies."""
    import numpy as np

    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "fiu":
        return None
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and ``metadata`` (JSON) as safetensors; equal input gives equal bytes."""
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    plain = {k: v.detach().cpu().contiguous() for k, v in sorted(tensors.items())}
    try:
        with atomic_write(path) as temporary:
            save_file(plain, temporary, {METADATA_KEY: text})
    except SafetensorError as error:  # a full disk, said in Rust
        raise GanvasError(f"Can't write {path}: {str(error).splitlines()[0]}.") from None


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors of a safetensors file and the metadata that ganvas wrote ({} in a file of other origin).

    Raises GanvasError for a file that is missing, cut short, or no safetensors, and for metadata that isn't JSON.
    """
    try:
        with safe_open(Path(path), "pt") as file:
            metadata = parse_json((file.metadata() or {}).get(METADATA_KEY, "{}"), f"The metadata of {path}")
            # Copied: memory mapped from a file isn't aligned, and some processors then add in another order.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except (OSError, SafetensorError) as error:
        raise GanvasError(f"{path} isn't a whole safetensors file: {str(error).splitlines()[0]}") from None
    if not isinstance(metadata, dict):
        raise GanvasError(f"{path} isn't a file that ganvas wrote: its metadata is no JSON object.")
    return tensors, metadata


def load_generator_tensors(path: str | Path, kind: str, fingerprint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load a file of one kind that belongs to the generator with a fingerprint, as ``load_tensors`` does.

    Raises GanvasError for a file of another kind or of another generator, too.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != kind:
        raise GanvasError(f"{path} holds no {kind}.")
    if metadata.get("fingerprint") != fingerprint:
        raise GanvasError(f"{path}: these {kind} belong to another generator.")
    return tensors, metadata
