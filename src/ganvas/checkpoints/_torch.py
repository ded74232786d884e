"""Files of torch.save, read without torch.load: zip archives, and the older files of pickles and bytes in a row.

https://pytorch.org/docs/stable/notes/serialization.html. In both, a pickle lists which tensor lies where in which storage;
that pickle goes through ``PickleMachine``, and storages are read when a tensor is.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._objects import MAX_NAME_LENGTH, build_object_vocabulary, is_layer_class
from ganvas.checkpoints._pickle import Call, GlobalName, ObjectRecord, PickleMachine, Vocabulary
from ganvas.errors import GanvasError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The beginning of an older file: two pickles of one number each."""
MAX_AXES = 8
MAX_NUMBERS = 2**28
"""The most numbers in one tensor, and in all tensors of a network."""
MAX_EXPANDED_NUMBERS = 2**14
"""The most numbers in tensors that repeat what is stored, together (a mean of W for each of 18 rows has 9,216)."""
MAX_ENTRIES = 100_000
"""The most files in an archive."""
MAX_NESTED_ENTRIES = 16
"""The most files in an archive inside a pickle: a single storage and torch's description of it."""
MAX_DEPTH = 12
"""Mappings inside one another that are searched for tensors."""
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STORAGES: Vocabulary = {("torch", name): None for name in DTYPES}


@dataclass
class TorchStorage:
    """``size`` numbers somewhere in the file; ``read`` returns their bytes (an older file has them at its end)."""

    dtype: torch.dtype
    size: int
    read: Callable[[], memoryview] | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read yet."""

    storage: TorchStorage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, budget: ReadBudget) -> Tensor:
        """Read the numbers. Raises GanvasError where the storage is cut short."""
        if 0 in self.shape:
            return torch.zeros(self.shape, dtype=self.storage.dtype)
        width = self.storage.dtype.itemsize
        data = self.storage.read() if self.storage.read else memoryview(b"")
        start, end = self.offset * width, (self.offset + _span(self.shape, self.stride)) * width
        if len(data) < end:
            raise budget.damage("a tensor's numbers are cut short")
        octets = torch.from_numpy(np.frombuffer(data[start:end], np.uint8).copy())
        return octets.view(self.storage.dtype).as_strided(self.shape, self.stride).contiguous()


def convert_tensor(tensor: Tensor) -> StoredTensor:
    """Describe a tensor in memory as one that is stored."""
    flat = tensor.detach().contiguous().reshape(-1)
    storage = TorchStorage(tensor.dtype, flat.numel(), lambda: flat.view(torch.uint8).numpy().data)
    return StoredTensor(storage, 0, tuple(tensor.shape), tensor.contiguous().stride())


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return how many numbers a tensor spans from its first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if 0 not in shape else 0


def build_vocabulary(budget: ReadBudget, nested: bool = False) -> Vocabulary:
    """Build the vocabulary of a file that torch.save wrote: tensors, mappings, modules, and a training script's options."""

    def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
        sizes = _are_sizes((offset,)) and _are_sizes(shape) and _are_sizes(stride)
        if not isinstance(storage, TorchStorage) or not sizes:
            raise budget.damage("it describes a tensor by impossible values")
        if len(shape) != len(stride) or len(shape) > MAX_AXES:
            raise budget.damage(f"it describes a tensor with {len(shape)} axes")
        numbers = math.prod(shape)
        span = _span(shape, stride)
        # A stride of 0 makes a huge tensor from one number: no network needs that, except for a mean of W in all rows.
        if numbers > MAX_NUMBERS or numbers > max(span, MAX_EXPANDED_NUMBERS) or offset + span > storage.size:
            raise budget.refusal(f"has a tensor of {numbers:,} numbers where {storage.size:,} are stored")
        return StoredTensor(storage, offset, shape, stride)

    if nested:
        return STORAGES
    vocabulary: dict[tuple[str, str], Call | None] = {
        **STORAGES,
        **build_object_vocabulary(budget),
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *rest: data,
        ("collections", "OrderedDict"): lambda: {},
        ("argparse", "Namespace"): lambda: ObjectRecord("Namespace"),
        ("models.utils.config", "BaseConfig"): lambda: ObjectRecord("BaseConfig"),
    }
    return vocabulary


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(n) is int and 0 <= n <= 2**40 for n in values)


def read_save(data: memoryview, budget: ReadBudget, nested: bool = False) -> Any:
    """Read what torch.save wrote into ``data``; ``nested``: a single storage, as pickles of tensors hold it.

    Raises GanvasError for anything else.
    """
    if bytes(data[:4]) == b"PK\x03\x04":
        return _read_zip(data, budget, nested)
    return _read_older(data, budget, nested)


def read_storage(data: Any, budget: ReadBudget) -> TorchStorage:
    """Read the storage in bytes inside a pickle (``torch.storage._load_from_bytes``)."""
    if not isinstance(data, memoryview):
        raise budget.damage("it reads a storage from a value that isn't bytes")
    storage = read_save(data, budget, nested=True)
    if not isinstance(storage, TorchStorage):
        raise budget.damage("bytes in it hold no storage")
    return storage


def _read_older(data: memoryview, budget: ReadBudget, nested: bool) -> Any:
    at, heads = 0, []
    for _ in range(3):
        machine = PickleMachine(data, {}, budget, at=at)
        heads.append(machine.run())
        at = machine.at
    if heads[:2] != [MAGIC, PROTOCOL] or not isinstance(heads[2], dict) or heads[2].get("little_endian") is not True:
        raise budget.damage("it isn't a file of torch.save")
    storages: dict[str, TorchStorage] = {}
    classes = None if nested else is_layer_class
    vocabulary = build_vocabulary(budget, nested)
    machine = PickleMachine(data, vocabulary, budget, lambda key: _get_persistent(key, storages, budget), at, classes)
    value = machine.run()
    order = PickleMachine(data, {}, budget, at=machine.at)
    keys = order.run()
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise budget.damage("its storages aren't those that it lists")
    at = order.at
    for key in keys:
        storage = storages[key]
        size = storage.size * storage.dtype.itemsize
        if int.from_bytes(data[at : at + 8], "little") != storage.size or at + 8 + size > len(data):
            raise budget.damage("a tensor's numbers are cut short")
        storage.read = lambda start=at + 8, size=size: data[start : start + size]
        at += 8 + size
    return value


def _get_persistent(key: Any, storages: dict[str, TorchStorage], budget: ReadBudget) -> TorchStorage | GlobalName:
    """Return a storage, or the class of a module, which older files name with its source text: that is skipped."""
    if isinstance(key, tuple) and len(key) == 4 and key[0] == "module" and isinstance(key[1], GlobalName):
        return key[1]
    return _get_storage(key, storages, budget)


def _get_storage(key: Any, storages: dict[str, TorchStorage], budget: ReadBudget) -> TorchStorage:
    """Return the storage of a persistent id: ("storage", its type, its name, the device it was on, its size, …)."""
    plain = isinstance(key, tuple) and len(key) in (5, 6) and key[0] == "storage" and key[5:] in ((), (None,))
    if not plain or not isinstance(key[1], GlobalName) or key[1].name not in DTYPES or type(key[2]) is not str:
        raise budget.damage("it has a persistent id that is no storage's")
    if type(key[4]) is not int or not 0 <= key[4] <= 2**40:
        raise budget.damage("a storage in it has an impossible size")
    storage = storages.setdefault(key[2], TorchStorage(DTYPES[key[1].name], key[4]))
    if (storage.dtype, storage.size) != (DTYPES[key[1].name], key[4]):
        raise budget.damage("it describes one storage in two ways")
    return storage


def _read_zip(data: memoryview, budget: ReadBudget, nested: bool) -> Any:
    archive = open_zip(data, budget, nested)
    names = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in names.values()) > len(data):
        raise budget.refusal("is an archive that unpacks to more than it has")
    heads = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(heads) != 1:
        raise budget.damage("it is an archive without the one data.pkl that torch.save writes")
    root = heads[0].removesuffix("data.pkl")
    if any(name.startswith(f"{root}code/") for name in names):
        raise budget.refusal("holds a TorchScript program: save the module's state_dict() instead")
    if f"{root}byteorder" in names and read_member(archive, f"{root}byteorder", budget) != b"little":
        raise budget.damage("its numbers aren't little-endian")
    storages: dict[str, TorchStorage] = {}
    read = cache(lambda name: memoryview(read_member(archive, name, budget)))

    def persistent(key: Any) -> TorchStorage:
        storage = _get_storage(key, storages, budget)
        name = f"{root}data/{key[2]}"
        if name not in names or names[name].file_size < storage.size * storage.dtype.itemsize:
            raise budget.damage(f"the storage {format_printable(name)} is missing or cut short")
        storage.read = lambda: read(name)
        return storage

    head = memoryview(read_member(archive, heads[0], budget))
    classes, vocabulary = None if nested else is_layer_class, build_vocabulary(budget, nested)
    return PickleMachine(head, vocabulary, budget, persistent, is_layer_class=classes).run()


def open_zip(data: memoryview, budget: ReadBudget, nested: bool = False) -> zipfile.ZipFile:
    """Open a zip archive and check its names. Raises GanvasError for one that is damaged, or has too many files or odd paths."""
    # An archive inside a pickle can be opened many times, and each copy stays in memory.
    budget.spend(len(data) >> (8 if nested else 12))
    octets = bytes(data)
    entries = octets.count(b"PK\x01\x02")
    budget.spend(entries)
    if entries > (MAX_NESTED_ENTRIES if nested else MAX_ENTRIES):
        raise budget.refusal("is an archive with too many files")
    try:
        archive = zipfile.ZipFile(io.BytesIO(octets))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        reason = f"its archive is cut short or can't be read ({format_printable(error)}): download it again"
        raise budget.damage(reason) from None
    entries = archive.infolist()
    names = [info.filename for info in entries]
    for name in names:
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name:
            raise budget.refusal(f"is an archive with the path {format_printable(name)}")
    if len(set(names)) != len(names):
        raise budget.refusal("is an archive with two files of one name")
    return archive


def read_member(archive: zipfile.ZipFile, name: str, budget: ReadBudget) -> bytes:
    """Read one file of an archive. Raises GanvasError where it's compressed (it could unpack to any size) or damaged."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise budget.refusal(f"has {format_printable(name)} compressed or encrypted")
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as error:
        raise budget.damage(f"its archive can't be read ({format_printable(error)})") from None


def read_tensors(
    value: Mapping[Any, Any], budget: ReadBudget, names: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """Read the tensors of a state dict by name, in float32; ``names`` (old -> new): only these, under other names.

    Raises GanvasError where together they are larger than a generator can be.
    """
    stored = {
        key: item for key, item in value.items() if isinstance(item, StoredTensor) and (names is None or key in names)
    }
    total = sum(math.prod(item.shape) for item in stored.values())
    if total > MAX_NUMBERS:
        raise budget.refusal(f"has tensors of {total:,} numbers: more than {MAX_NUMBERS:,}")
    spanned = sum(_span(item.shape, item.stride) for item in stored.values())
    available = sum({id(item.storage): item.storage.size for item in stored.values()}.values())
    expanded = [n for n, span in ((math.prod(i.shape), _span(i.shape, i.stride)) for i in stored.values()) if n > span]
    # Some tensors share their numbers, but not many times.
    if spanned > 2 * available or sum(expanded) > MAX_EXPANDED_NUMBERS:
        spanned = max(spanned, sum(expanded))
        raise budget.refusal(f"has tensors of {spanned:,} numbers where {available:,} are stored")
    result = {
        names[key] if names else key: item.read(budget).float()
        for key, item in stored.items()
        if item.storage.dtype.is_floating_point
    }
    check_finite(result, budget.origin)
    return result


def check_finite(state: Mapping[str, Tensor], origin: str) -> None:
    """Raise GanvasError where a weight is NaN or infinite."""
    for key, item in state.items():
        if not torch.isfinite(item.float()).all():
            raise GanvasError(f"{origin} holds numbers that aren't finite, in {format_printable(key)}.")


def find_state_dicts(value: Any) -> Iterator[tuple[str, dict[str, StoredTensor]]]:
    """Yield every mapping of names to tensors in a value, once, with the keys that lead to it, joined by dots."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    visited: set[int] = set()
    while waiting:
        name, mapping, depth = waiting.pop()
        if not isinstance(mapping, dict) or id(mapping) in visited or depth > MAX_DEPTH:
            continue
        visited.add(id(mapping))
        plain = {key: item for key, item in mapping.items() if isinstance(key, str) and len(key) <= MAX_NAME_LENGTH}
        tensors = {key: item for key, item in plain.items() if isinstance(item, StoredTensor)}
        if tensors:
            yield name, tensors
        waiting += [(f"{name}.{key}" if name else str(key), item, depth + 1) for key, item in plain.items()]
