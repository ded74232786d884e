"""Objects of Python, NumPy and PyTorch that pickled networks and training scripts hold beside their tensors.

None is made: each call becomes a plain value or an ``ObjectRecord``. A whole module that torch.save pickled names the classes of
its layers (https://pytorch.org/docs/stable/notes/serialization.html); these may have any name outside Python's own modules,
since they are never looked up.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import Call, ObjectRecord, Vocabulary

NUMPY_DTYPES = {"f8": "<f8", "f4": "<f4", "i8": "<i8", "i4": "<i4", "b1": "|b1"}
TORCH_DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
PLAIN_TYPES = ("list", "dict", "tuple", "int", "float", "str", "bool", "object")
SYSTEM_MODULES = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "nt", "posix", "numpy", "torch"}
"""Modules whose names are never those of a layer's class, on any system and in any version of Python."""
CLASS_MODULES = ("torch.nn.", "torch.optim.")
MAX_NAME_LENGTH = 200


def is_layer_class(module: str, name: str) -> bool:
    """Return whether a global may be the class of a layer: ``torch.nn``'s, or one that isn't Python's, NumPy's or PyTorch's."""
    parts = [*module.split("."), name]
    plain = all(part.isidentifier() and part.isascii() for part in parts) and len(module) + len(name) < MAX_NAME_LENGTH
    private = any(part.startswith("__") for part in parts if part not in ("__main__", "__torch__"))
    if not plain or private:
        return False
    if f"{module}.".startswith(CLASS_MODULES):
        return "utils" not in parts or name[0].isupper()
    return parts[0] not in SYSTEM_MODULES and name[0].isupper()


def build_object_vocabulary(budget: ReadBudget) -> Vocabulary:
    """Build the vocabulary of what stands beside tensors: NVIDIA's persistent objects, NumPy's numbers, sets and options."""

    def persistent(meta: Any) -> ObjectRecord:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
            raise budget.damage("it has a persistent object that is no network")
        state = meta.get("state")
        return ObjectRecord(meta["class_name"], state if isinstance(state, dict) else {})

    def kind(code: Any, *rest: Any) -> ObjectRecord:
        if type(code) is not str or code not in NUMPY_DTYPES:
            raise budget.refusal(f"has numbers of NumPy's type {format_printable(code)}")
        return ObjectRecord("dtype", {"code": code})

    def encode(text: Any, encoding: Any = "latin1") -> memoryview:
        """Encode bytes that Python 2's protocol keeps as a text; a text of other characters is damaged."""
        if type(text) is not str or encoding != "latin1" or not text.isascii() and max(text) > "\xff":
            raise budget.damage("it encodes a value that isn't a text of bytes")
        budget.spend(len(text) >> 4)  # one text can be encoded many times
        return memoryview(text.encode("latin1"))

    def scalar(dtype: Any, data: Any) -> float:
        if not isinstance(dtype, ObjectRecord) or dtype.kind != "dtype" or not isinstance(data, memoryview):
            raise budget.damage("a number of NumPy in it has no type or no bytes")
        code = kind(dtype.state.get("code")).state["code"]  # the file can have set another one since
        form = np.dtype(NUMPY_DTYPES[code])
        if len(data) != form.itemsize:
            raise budget.damage("a number of NumPy in it is cut short")
        return np.frombuffer(data, form)[0].item()

    def array(kind: Any, shape: Any, code: Any) -> ObjectRecord:
        return ObjectRecord("ndarray")  # its attributes, which follow, are read where one is needed

    def names(*lists: Any) -> set[str | int]:
        values = lists[0] if lists else []
        if not isinstance(values, list) or not all(type(value) in (str, int) for value in values):
            raise budget.damage("it has a set that isn't of names")
        budget.spend(len(values))  # one list can be made into many sets
        return set(values)

    def mapping(*factory: Any) -> dict[str, Any]:
        return {}

    vocabulary: dict[tuple[str, str], Call | None] = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent,
        ("numpy", "dtype"): kind,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy", "ndarray"): None,
        ("numpy.core.multiarray", "_reconstruct"): array,
        ("numpy._core.multiarray", "_reconstruct"): array,
        ("_codecs", "encode"): encode,
        ("dnnlib.util", "EasyDict"): mapping,
        ("collections", "defaultdict"): mapping,
        ("collections", "Counter"): mapping,
        ("torch", "device"): lambda *names: ObjectRecord("device"),
        ("torch", "Size"): lambda *sizes: sizes[0] if sizes else (),
        ("functools", "partial"): lambda *arguments: ObjectRecord("partial"),
        ("datetime", "datetime"): lambda *parts: ObjectRecord("time"),
        **{("pathlib", name): lambda *parts: ObjectRecord("path") for name in ("PosixPath", "WindowsPath")},
    }
    for module in ("builtins", "__builtin__"):
        vocabulary[module, "set"] = names
        vocabulary |= {(module, name): None for name in PLAIN_TYPES}
    vocabulary["typing", "Any"] = None
    return vocabulary | {("torch", name): None for name in TORCH_DTYPES}
