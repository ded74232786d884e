"""What is asked of a stranger's ONNX file before it runs: one graph, nothing outside the file, no huge constants.

A graph can still be written so that it takes long, or much memory: such a file is to be trusted like a program. The
format: https://onnx.ai/onnx/repo-docs/IR.html and onnx.proto beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ganvas.errors import GanvasError
from ganvas.scorers._onnx import DATA_TYPE, FLOAT, GRAPH, INITIALIZER, NAME, RAW_DATA, _fields, _packed

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
"""Operators that make more than they are given, and which of their inputs say how much; the last ones' attributes do."""
MOST_MADE, MOST_AXES = 2**26, 64
"""Numbers that such an operator may make where the file says how many, and numbers that can be a shape."""


def check(model: bytes, path: Path) -> None:
    """Raises GanvasError for a model that names other files, holds graphs within graphs, or makes huge constants."""
    try:
        for number, value in _fields(model):
            if number == FUNCTIONS:
                raise _refused(path, "functions of its own")
            if number == GRAPH and isinstance(value, bytes):
                _check_graph(value, path)
    except (IndexError, TypeError, ValueError) as error:
        raise GanvasError(f"{path} can't be run: it isn't an ONNX file ({error}).") from None


def _check_graph(graph: bytes, path: Path) -> None:
    made: dict[bytes, float] = {}
    nodes: list[tuple[str, list[bytes], float]] = []
    for number, value in _fields(graph):
        if not isinstance(value, bytes):
            continue
        if number == SPARSE:
            raise _refused(path, "sparse tensors")
        if number == INITIALIZER:
            made |= dict.fromkeys(_every(value, NAME), _numbers(value, path))
        if number == NODE:
            kind = b"".join(_every(value, KIND)).decode()
            own = max((_attribute(item, path) for item in _every(value, ATTRIBUTE)), default=1.0)
            nodes.append((kind, list(_every(value, INPUT)), own))
            if kind == "Constant":
                made |= dict.fromkeys(_every(value, OUTPUT), own)
    for kind, inputs, own in nodes:
        if kind not in GROWING_OPERATORS:
            continue
        asked = max([own, *(made.get(inputs[i], 1.0) for i in GROWING_OPERATORS[kind] if i < len(inputs))])
        if asked > MOST_MADE:
            raise _refused(path, f"a {kind} of {asked:,.0f} numbers")


def _attribute(data: bytes, path: Path) -> float:
    """How many numbers an attribute may ask for."""
    ints: list[float] = []
    asked = 1.0
    for number, value in _fields(data):
        if number in (SUBGRAPH, SUBGRAPHS):
            raise _refused(path, "graphs within its graph (as Loop, If and Scan have)")
        if number == TENSOR and isinstance(value, bytes):
            asked = max(asked, _numbers(value, path))
        if number in (INT, INTS):
            ints += _integers(value)
        if number == REALS and isinstance(value, bytes):
            ints += _reals(value)
    return max(asked, _product(ints))


def _numbers(tensor: bytes, path: Path) -> float:
    """The product of a small tensor's numbers: what it asks for where it's a shape."""
    fields: dict[int, list[int | bytes]] = {}
    for number, value in _fields(tensor):
        fields.setdefault(number, []).append(value)
    if EXTERNAL in fields or fields.get(LOCATION, [0])[-1] != 0:
        raise _refused(path, "weights in another file")
    kind = {INT64: "<i8", FLOAT: "<f4"}.get(_whole(fields.get(DATA_TYPE, [0])[-1]))
    raw = b"".join(value for value in fields.get(RAW_DATA, []) if isinstance(value, bytes))
    if kind is None or len(raw) > 8 * MOST_AXES:
        return 1.0
    found: list[float] = np.frombuffer(raw, kind).tolist()
    for value in fields.get(INT64S, []):
        found += _integers(value)
    for value in fields.get(FLOATS, []):
        found += _reals(value) if isinstance(value, bytes) else []
    return _product(found)


def _integers(value: int | bytes) -> list[int]:
    """One, or several packed together; [] where they are too many for a shape."""
    return [value] if isinstance(value, int) else _packed(value) if len(value) <= 10 * MOST_AXES else []


def _reals(value: bytes) -> list[float]:
    return np.frombuffer(value, "<f4").tolist() if len(value) <= 4 * MOST_AXES else []


def _whole(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0


def _product(values: list[float]) -> float:
    # Negative whole numbers count from an end, or crop.
    return math.prod(max(float(value), 1.0) for value in values if value < 2**63) if len(values) <= MOST_AXES else 1.0


def _every(data: bytes, wanted: int) -> Iterator[bytes]:
    return (value for number, value in _fields(data) if number == wanted and isinstance(value, bytes))


def _refused(path: Path, what: str) -> GanvasError:
    return GanvasError(f"{path} isn't run: it has {what}, which no classifier needs.")
