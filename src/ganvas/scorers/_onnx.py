"""A reader of the named tensors in an ONNX file, by the few fields of its protocol buffer that hold weights.

The format: https://onnx.ai/onnx/repo-docs/IR.html and onnx.proto beside it; the wire:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError

GRAPH, INITIALIZER = 7, 5
"""Field numbers: of the graph in a model, of a tensor in a graph."""
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
"""Field numbers in a tensor."""
FLOAT = 1
"""The data type of float32."""


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Read the float32 tensors that an ONNX file stores as raw bytes, by name. Raises GanvasError for other files."""
    tensors = {}
    try:
        for graph in find_messages(data, GRAPH):
            for message in find_messages(graph, INITIALIZER):
                name, tensor = _read_tensor(message)
                if tensor is not None:
                    tensors[name] = tensor
    except (IndexError, TypeError, ValueError) as error:
        raise GanvasError(f"This isn't an ONNX file: {error}.") from None
    return tensors


def _read_tensor(message: bytes) -> tuple[str, Tensor | None]:
    fields: dict[int, list[int | bytes]] = {}
    for number, value in read_fields(message):
        fields.setdefault(number, []).append(value)
    name = bytes(fields[NAME][0]).decode() if NAME in fields else ""
    if fields.get(DATA_TYPE) != [FLOAT] or RAW_DATA not in fields:
        return name, None
    shape: list[int] = []
    for value in fields.get(DIMS, []):  # one integer each, or packed together
        shape += [value] if isinstance(value, int) else unpack_integers(value)
    values = np.frombuffer(bytes(fields[RAW_DATA][0]), "<f4").reshape(shape)
    return name, torch.from_numpy(values.copy())


def unpack_integers(data: bytes) -> list[int]:
    """Read integers that are packed together."""
    values, at = [], 0
    while at < len(data):
        value, at = _read_varint(data, at)
        values.append(value)
    return values


def find_messages(data: bytes, field: int) -> Iterator[bytes]:
    """Yield the values of a field that consist of bytes: messages, texts and packed numbers."""
    for number, value in read_fields(data):
        if number == field and isinstance(value, bytes):
            yield value


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message; a value of fixed size is its bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _read_varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("it is cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")
