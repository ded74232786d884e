"""NumPy's arrays and numbers in pickles, held as what they are described by until a weight is read.

https://numpy.org/doc/stable/reference/generated/numpy.ndarray.__reduce__.html: an array is made empty, then given its version,
shape, dtype, order (whether Fortran's) and bytes. From protocol 5 on it is made of all these at once.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import Call, ObjectRecord, Vocabulary
from ganvas.checkpoints._torch import MAX_AXES, StoredTensor, TorchStorage

DTYPES = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "u1": torch.uint8,
    "b1": torch.bool,
}
BYTE_ORDERS = ("<", "|")
"""Little-endian, and numbers of one byte."""
MAX_AXIS_LENGTH = 2**28


def build_vocabulary() -> Vocabulary:
    """Build the vocabulary of arrays, single numbers and their dtypes: all stay descriptions."""

    def describe_dtype(code: Any, *rest: Any) -> ObjectRecord:
        return ObjectRecord("dtype", {"code": code})

    def describe_array(kind: Any, shape: Any, code: Any) -> ObjectRecord:
        return ObjectRecord("ndarray")

    def describe_number(dtype: Any, data: Any) -> ObjectRecord:
        return ObjectRecord("ndarray", {"state": (1, (), dtype, False, data)})

    def describe_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> ObjectRecord:
        return ObjectRecord("ndarray", {"state": (1, shape, dtype, order == "F", data)})

    vocabulary: dict[tuple[str, str], Call | None] = {("numpy", "dtype"): describe_dtype, ("numpy", "ndarray"): None}
    for home in ("numpy.core", "numpy._core"):  # before NumPy 2, and since
        vocabulary |= {
            (f"{home}.multiarray", "_reconstruct"): describe_array,
            (f"{home}.multiarray", "scalar"): describe_number,
            (f"{home}.numeric", "_frombuffer"): describe_buffer,
        }
    return vocabulary


def convert_array(record: ObjectRecord, storages: dict[Any, TorchStorage], budget: ReadBudget) -> StoredTensor:
    """Convert an array's description to a stored tensor; ``storages`` are those of all arrays that share their bytes.

    Raises GanvasError where size and bytes don't fit one another, or numbers are of another type.
    """
    state = record.state.get("state")
    if record.kind != "ndarray" or not isinstance(state, tuple) or len(state) != 5:
        raise budget.damage("an array of NumPy in it isn't described")
    _, shape, description, fortran, data = state
    dtype = _find_dtype(description, budget)
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n <= MAX_AXIS_LENGTH for n in shape)
    if not sizes or len(shape) > MAX_AXES or type(fortran) is not bool or not isinstance(data, memoryview):
        raise budget.damage("it describes an array of NumPy by impossible values")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise budget.damage(f"an array of NumPy in it has {len(data):,} bytes for {math.prod(shape):,} numbers")
    stride = [math.prod(shape[:i]) if fortran else math.prod(shape[i + 1 :]) for i in range(len(shape))]
    size = len(data) // dtype.itemsize
    storage = storages.setdefault((id(data), dtype), TorchStorage(dtype, size, lambda: data))
    return StoredTensor(storage, 0, shape, tuple(stride))


def _find_dtype(description: Any, budget: ReadBudget) -> torch.dtype:
    kind = description.state.get("code") if isinstance(description, ObjectRecord) else None
    if type(kind) is not str or kind not in DTYPES:
        raise budget.refusal(f"has numbers of NumPy's type {format_printable(kind)}")
    state = description.state.get("state", (3, "<"))
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if order not in BYTE_ORDERS:
        raise budget.refusal(f"has numbers of NumPy in the byte order {format_printable(order)}")
    return DTYPES[kind]
