"""ONNX files that want to do harm, or that hold no classifier: one line each, before they run."""

import json
import struct

import numpy as np
import pytest
from test_judges import field

from ganvas.errors import GanvasError
from ganvas.scorers import _classifier, _onnx_guard


def tensor(name, values, raw=True):
    values = np.asarray(values, np.int64)
    data = field(9, values.tobytes()) if raw else b"".join(field(7, int(value)) for value in values)
    return field(1, len(values)) + field(2, 7) + field(8, name) + data


def node(kind, inputs, output, *attributes):
    made = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    return field(1, made + b"".join(field(5, attribute) for attribute in attributes))


def value(name, *sides):
    dims = b"".join(field(1, field(1, side)) for side in sides)
    return field(2, field(1, field(1, 1) + field(2, dims))) + field(1, name)


def model(graph, *more):
    ends = field(11, value(b"x", 1, 3, 8, 8)) + field(12, value(b"y", 1, 2))
    return field(1, 8) + field(7, field(2, b"g") + graph + ends) + field(8, field(2, 13)) + b"".join(more)


HUGE = field(5, tensor(b"s", [10**9]))
HOSTILE = {
    "a constant of 4 GB": (HUGE + node(b"ConstantOfShape", [b"s"], b"y"), "ConstantOfShape of 1,000,000,000"),
    "the same of many axes": (
        field(5, tensor(b"s", [1] * 40 + [1000] * 3, raw=False)) + node(b"ConstantOfShape", [b"s"], b"y"),
        "ConstantOfShape of",
    ),
    "the same from a node": (
        node(b"Constant", [], b"s", field(1, b"value") + field(5, tensor(b"", [10**9])))
        + node(b"Expand", [b"x", b"s"], b"y"),
        "Expand of",
    ),
    "a text of its own": (
        node(b"Constant", [], b"s", field(1, b"value_ints") + field(8, 10**5) + field(8, 10**5))
        + node(b"Tile", [b"x", b"s"], b"y"),
        "Tile of",
    ),
    "noise": (node(b"RandomNormal", [], b"y", field(1, b"shape") + field(8, 10**9)), "RandomNormal of"),
    "a loop": (node(b"Loop", [b"x"], b"y", field(1, b"body") + field(6, field(2, b"inner"))), "graphs within"),
    "branches": (node(b"If", [b"x"], b"y", field(11, field(2, b"inner"))), "graphs within"),
    "weights elsewhere": (
        field(5, field(1, 2) + field(2, 1) + field(8, b"w") + field(13, field(1, b"location")) + field(14, 1)),
        "another file",
    ),
    "sparse weights": (field(15, b""), "sparse"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_models_are_refused(kind, tmp_path):
    graph, words = HOSTILE[kind]
    (tmp_path / "c.onnx").write_bytes(model(graph))
    (tmp_path / "c.json").write_text(json.dumps({"names": ["a", "b"], "size": 8}))
    with pytest.raises(GanvasError, match=words) as caught:
        _classifier.read(tmp_path / "c.onnx")
    assert "\n" not in str(caught.value)


def test_functions_are_refused_and_usual_shapes_are_not(tmp_path):
    with pytest.raises(GanvasError, match="functions"):
        _onnx_guard.check(model(b"", field(25, b"")), tmp_path)
    usual = field(5, tensor(b"s", [1, -1, 768])) + node(b"Expand", [b"x", b"s"], b"y")
    usual += field(5, tensor(b"i", range(1, 50))) + node(b"Expand", [b"i", b"s"], b"z")
    _onnx_guard.check(model(usual), tmp_path)
    for damaged in (model(usual)[:-3], struct.pack("<I", 7) * 9):
        with pytest.raises(GanvasError, match="can't be run"):
            _onnx_guard.check(damaged, tmp_path)


@pytest.mark.parametrize(
    "graph",
    [
        node(b"ReduceMean", [b"x"], b"y", field(1, b"keepdims") + field(3, 0) + field(20, 2)),
        node(b"SequenceConstruct", [b"x"], b"y"),
    ],
)
def test_outputs_that_are_no_rows_of_numbers_are_one_line(graph, tmp_path):
    pytest.importorskip("onnxruntime")
    untyped = field(12, field(1, b"y")) if b"Sequence" in graph else field(12, value(b"y"))
    content = field(1, 8) + field(7, field(2, b"g") + graph + field(11, value(b"x", 1, 3, 8, 8)) + untyped)
    (tmp_path / "c.onnx").write_bytes(content + field(8, field(2, 13)))
    (tmp_path / "c.json").write_text(json.dumps({"names": ["a", "b"], "size": 8}))
    with pytest.raises(GanvasError, match="isn't a row of numbers"):
        _classifier.read(tmp_path / "c.onnx")


def test_a_huge_card_is_refused(tmp_path):
    (tmp_path / "c.onnx").write_bytes(b"x")
    (tmp_path / "c.toml").write_text("#" * (2 << 20))
    with pytest.raises(GanvasError, match="too large for a card"):
        _classifier.read(tmp_path / "c.onnx")
