"""Read MNIST: a folder of the four idx files, gzipped or not, or an npz.

LeCun, Cortes and Burges, *The MNIST database of handwritten digits*, http://yann.lecun.com/exdb/mnist/, whose page
specifies idx. The npz is that of Keras: ``x_train``, ``y_train``, ``x_test``, ``y_test``.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganvas.errors import GanvasError

SIDE = 28
MAX_FILE_BYTES = 64 << 20
"""The limit of a file, and of what it unpacks to; MNIST's largest has 47 MB."""
NAMES = {"train": ("train", "train"), "test": ("t10k", "test")}
"""The names of a part in idx files and npz arrays."""
IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801
"""The first four bytes of idx files: unsigned bytes in three dimensions, in one."""


@dataclass(frozen=True)
class Mnist:
    """``images`` (n, 28, 28) and ``labels`` (n,), uint8."""

    images: np.ndarray
    labels: np.ndarray


def read_mnist(path: str | Path, part: str) -> Mnist:
    """Read the part "train" or "test". Raises GanvasError for files that are missing, damaged, too large, or aren't MNIST's."""
    path = Path(path)
    if not path.exists():
        raise GanvasError(f"There is no MNIST at {path}: give a folder of its idx files, or an npz.")
    try:
        images, labels = _read_idx_pair(path, part) if path.is_dir() else _read_npz(path, part)
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror or 'it is damaged'}.") from None
    if images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1] or not len(images):
        raise GanvasError(f"{path} isn't MNIST: {part} images are {images.shape} and labels {labels.shape}.")
    if labels.max() > 9:
        raise GanvasError(f"{path} isn't MNIST: a {part} label is {labels.max()}, not 0 to 9.")
    if not (inked := images.any((1, 2))).all():
        raise GanvasError(f"{path} isn't MNIST: {part} image {int((~inked).argmax())} is empty.")
    return Mnist(images, labels)


def _read_npz(path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    _check_size(path)
    name = NAMES[part][1]
    try:
        with zipfile.ZipFile(path) as file:
            return _read_array(file, path, f"x_{name}"), _read_array(file, path, f"y_{name}")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError):
        raise GanvasError(f"{path} isn't a whole npz file.") from None


def _read_array(file: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """Read one array of bytes without numpy's loader, which would trust the header's shape."""
    if f"{name}.npy" not in file.namelist():
        raise GanvasError(f"{path} isn't MNIST: it has no {name}.")
    with file.open(f"{name}.npy") as member:
        data = io.BytesIO(_read_bounded(member.read, path))
    try:
        np.lib.format.read_magic(data)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
    except ValueError:
        raise GanvasError(f"{path} isn't MNIST: {name} isn't an array.") from None
    rest = data.read()
    if dtype.hasobject or dtype.kind not in "iu" or fortran or not len(shape):
        raise GanvasError(f"{path} isn't MNIST: {name} isn't whole numbers.")
    if any(side < 0 for side in shape) or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(rest):
        raise GanvasError(f"{path} isn't whole: {name} has {len(rest):,} bytes.")
    values = np.frombuffer(rest, dtype).reshape(shape)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise GanvasError(f"{path} isn't MNIST: {name} isn't within 0 to 255.")
    return values.astype(np.uint8)


def _read_idx_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    name = NAMES[part][0]
    return _read_idx(folder, f"{name}-images", IMAGES_MAGIC, 3), _read_idx(folder, f"{name}-labels", LABELS_MAGIC, 1)


def _read_idx(folder: Path, name: str, magic: int, dimensions: int) -> np.ndarray:
    # Both spellings exist: the original one, and that of files unpacked by some archivers.
    names = [f"{name}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    path = next((folder / each for each in names if (folder / each).is_file()), None)
    if path is None:
        raise GanvasError(f"{folder} has no {names[0]} (or .gz): give a folder of MNIST's four idx files, or an npz.")
    _check_size(path)
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = _read_bounded(file.read, path)
        else:
            data = path.read_bytes()
    except (gzip.BadGzipFile, zlib.error, EOFError):
        raise GanvasError(f"{path} isn't a whole gzip file.") from None
    head = np.frombuffer(data[: 4 * dimensions + 4], ">u4")
    if len(head) < dimensions + 1 or head[0] != magic:
        raise GanvasError(f"{path} isn't an idx file of {'images' if dimensions == 3 else 'labels'}.")
    shape = tuple(map(int, head[1:]))
    if int(np.prod(shape, dtype=object)) != len(data) - 4 * (dimensions + 1):
        raise GanvasError(f"{path} isn't whole: it announces {'×'.join(map(str, shape))} bytes.")
    return np.frombuffer(data, np.uint8, offset=4 * (dimensions + 1)).reshape(shape)


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise GanvasError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB: MNIST's files are smaller.")


def _read_bounded(read: Callable[[int], bytes], path: Path) -> bytes:
    data = read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise GanvasError(f"{path} unpacks to more than {MAX_FILE_BYTES >> 20} MiB: MNIST's files are smaller.")
    return data
