"""Checks of an ONNX file before it runs: one graph, nothing outside the file, no huge constants.

A graph can still be written so that it takes long, or much memory: such a file needs as much trust as a program. The
format: https://onnx.ai/onnx/repo-docs/IR.html and onnx.proto beside it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ganvas.errors import GanvasError
from ganvas.scorers._onnx import (
    DATA_TYPE,
    FLOAT,
    GRAPH,
    INITIALIZER,
    NAME,
    RAW_DATA,
    find_messages,
    read_fields,
    unpack_integers,
)

FUNCTIONS, NODE, SPARSE = 25, 1, 15
"""Field numbers: in a model, and twice in a graph."""
INPUT, OUTPUT, KIND, ATTRIBUTE = 1, 2, 4, 5
"""Field numbers in a node."""
INT, TENSOR, SUBGRAPH, REALS, INTS, SUBGRAPHS = 3, 5, 6, 7, 8, 11
"""Field numbers in an attribute."""
FLOATS, INT64S, EXTERNAL, LOCATION, INT64 = 4, 7, 13, 14, 7
"""Field numbers in a tensor, and the data type of int64."""
GROWING_OPERATORS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1, 2),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "OneHot": (1,),
    "RandomNormal": (),
    "RandomUniform": (),
}
"""Operators with larger outputs than inputs, and which of their inputs give the size; for the last ones, attributes do."""
MAX_OUTPUT_SIZE = 2**26
"""The most numbers that such an operator may give, where the file fixes how many."""
MAX_AXES = 64
"""The most numbers that can be a shape."""


def check(model: bytes, path: Path) -> None:
    """Raise GanvasError for a model that refers to other files, holds graphs within graphs, or makes huge constants."""
    try:
        for number, value in read_fields(model):
            if number == FUNCTIONS:
                raise _refusal(path, "functions of its own")
            if number == GRAPH and isinstance(value, bytes):
                _check_graph(value, path)
    except (IndexError, TypeError, ValueError) as error:
        raise GanvasError(f"{path} can't be run: it isn't an ONNX file ({error}).") from None


def _check_graph(graph: bytes, path: Path) -> None:
    sizes: dict[bytes, float] = {}
    nodes: list[tuple[str, list[bytes], float]] = []
    for number, value in read_fields(graph):
        if not isinstance(value, bytes):
            continue
        if number == SPARSE:
            raise _refusal(path, "sparse tensors")
        if number == INITIALIZER:
            sizes |= dict.fromkeys(find_messages(value, NAME), _measure_shape(value, path))
        if number == NODE:
            kind = b"".join(find_messages(value, KIND)).decode()
            own = max((_measure_attribute(item, path) for item in find_messages(value, ATTRIBUTE)), default=1.0)
            nodes.append((kind, list(find_messages(value, INPUT)), own))
            if kind == "Constant":
                sizes |= dict.fromkeys(find_messages(value, OUTPUT), own)
    for kind, inputs, own in nodes:
        if kind not in GROWING_OPERATORS:
            continue
        size = max([own, *(sizes.get(inputs[i], 1.0) for i in GROWING_OPERATORS[kind] if i < len(inputs))])
        if size > MAX_OUTPUT_SIZE:
            raise _refusal(path, f"a {kind} of {size:,.0f} numbers")


def _measure_attribute(data: bytes, path: Path) -> float:
    """Return how many numbers an output may have by an attribute."""
    numbers: list[float] = []
    size = 1.0
    for number, value in read_fields(data):
        if number in (SUBGRAPH, SUBGRAPHS):
            raise _refusal(path, "graphs within its graph (as Loop, If and Scan have)")
        if number == TENSOR and isinstance(value, bytes):
            size = max(size, _measure_shape(value, path))
        if number in (INT, INTS):
            numbers += _read_integers(value)
        if number == REALS and isinstance(value, bytes):
            numbers += _read_reals(value)
    return max(size, _multiply(numbers))


def _measure_shape(tensor: bytes, path: Path) -> float:
    """Return the product of a small tensor's numbers: the size of an output of which it is the shape."""
    fields: dict[int, list[int | bytes]] = {}
    for number, value in read_fields(tensor):
        fields.setdefault(number, []).append(value)
    if EXTERNAL in fields or fields.get(LOCATION, [0])[-1] != 0:
        raise _refusal(path, "weights in another file")
    code = fields.get(DATA_TYPE, [0])[-1]
    kind = {INT64: "<i8", FLOAT: "<f4"}.get(code if isinstance(code, int) else 0)
    raw = b"".join(value for value in fields.get(RAW_DATA, []) if isinstance(value, bytes))
    if kind is None or len(raw) > 8 * MAX_AXES:
        return 1.0
    numbers: list[float] = np.frombuffer(raw, kind).tolist()
    for value in fields.get(INT64S, []):
        numbers += _read_integers(value)
    for value in fields.get(FLOATS, []):
        numbers += _read_reals(value) if isinstance(value, bytes) else []
    return _multiply(numbers)


def _read_integers(value: int | bytes) -> list[int]:
    """Read one integer, or several packed together; [] where they are too many for a shape."""
    if isinstance(value, int):
        return [value]
    return unpack_integers(value) if len(value) <= 10 * MAX_AXES else []


def _read_reals(value: bytes) -> list[float]:
    return np.frombuffer(value, "<f4").tolist() if len(value) <= 4 * MAX_AXES else []


def _multiply(values: list[float]) -> float:
    # Negative integers count from an end, or crop.
    return math.prod(max(float(value), 1.0) for value in values if value < 2**63) if len(values) <= MAX_AXES else 1.0


def _refusal(path: Path, what: str) -> GanvasError:
    return GanvasError(f"{path} isn't run: it has {what}, which no classifier needs.")
