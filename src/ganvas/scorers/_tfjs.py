"""A reader of TensorFlow.js's weights: a manifest (JSON) that lists tensors, and their bytes in one file, often quantised.

The format: ``weights`` of https://github.com/tensorflow/tfjs/tree/master/tfjs-core/src/io; a quantised integer q stands
for ``q · scale + min``, and half precision for itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.validation import Natural, Number, parse, validated

T = TypeVar("T")
DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}
MAX_DIMENSIONS = 8
DAMAGED = "The manifest of TensorFlow.js is damaged or doesn't fit its weights"


@validated
class ManifestTensor:
    """What a manifest says of a tensor."""

    name: str
    shape: Annotated[tuple[Natural, ...], Field(max_length=MAX_DIMENSIONS)]
    dtype: str
    quantization: dict[str, Any] | None = None


@validated
class TensorQuantization:
    """How a tensor is stored: integers have a scale and a minimum, half precision has neither."""

    dtype: str
    scale: Number | None = None
    min: Number | None = None


def read_tensors(manifest: bytes, data: bytes) -> dict[str, Tensor]:
    """Read the tensors that ``manifest`` lists, float32, by name.

    Raises GanvasError for a manifest that is damaged, names a tensor twice, or doesn't fit ``data``, and for a type of
    numbers that isn't read.
    """
    tensors, offset = {}, 0
    for entry in _iterate_entries(manifest):
        if entry.name in tensors:
            raise GanvasError(f"{DAMAGED}: it lists {entry.name!r} twice.")
        values, offset = _read_values(entry, data, offset)
        tensors[entry.name] = torch.from_numpy(values)
    if offset != len(data):
        raise GanvasError(f"The manifest of TensorFlow.js lists {offset} bytes of weights, but there are {len(data)}.")
    return tensors


def _iterate_entries(manifest: bytes) -> Iterator[ManifestTensor]:
    try:
        entries = [entry for group in json.loads(manifest) for entry in group["weights"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise GanvasError(f"{DAMAGED}: it isn't a JSON list of groups of weights.") from None
    for entry in entries:
        yield _parse_known_keys(ManifestTensor, entry)


def _parse_known_keys(kind: type[T], value: Any) -> T:
    """Parse a JSON object without the keys that only TensorFlow.js itself needs."""
    names = [each.name for each in fields(kind)]  # pyright: ignore[reportArgumentType] (a dataclass)
    known = {name: value[name] for name in names if name in value} if isinstance(value, dict) else value
    return parse(kind, known, DAMAGED)


def _read_values(entry: ManifestTensor, data: bytes, offset: int) -> tuple[np.ndarray, int]:
    """Read a tensor, and return where the next one begins."""
    quantization = None if entry.quantization is None else _parse_known_keys(TensorQuantization, entry.quantization)
    for stated in (entry, quantization):
        if stated is not None and stated.dtype not in DTYPES:
            readable = ", ".join(DTYPES)
            raise GanvasError(
                f"This TensorFlow.js manifest has a tensor of type {stated.dtype!r}: only {readable} are read."
            )
    dtype = np.dtype(DTYPES[(quantization or entry).dtype])
    count = math.prod(entry.shape)
    end = offset + count * dtype.itemsize
    if end > len(data):
        raise GanvasError(f"{DAMAGED}: {entry.name!r} would end at byte {end}, but there are {len(data)}.")
    try:
        values = np.frombuffer(data, dtype, count, offset).reshape(entry.shape)
    except ValueError:  # an empty tensor with sides beyond what NumPy can count
        raise GanvasError(f"{DAMAGED}: {entry.name!r} has an impossible shape.") from None
    if quantization is not None and dtype.kind == "u":
        if quantization.scale is None or quantization.min is None:
            raise GanvasError(f"{DAMAGED}: the quantization of {entry.name!r} has no scale or no min.")
        # In float64, then rounded once, as JavaScript does.
        values = values * float(quantization.scale) + float(quantization.min)
    return values.astype("<f4"), end


def permute_filters(filters: Tensor) -> Tensor:
    """Convert filters (height, width, inputs, outputs) to torch's order of axes, (outputs, inputs, height, width)."""
    return filters.permute(3, 2, 0, 1).contiguous()


def permute_depthwise_filters(filters: Tensor) -> Tensor:
    """Convert filters (height, width, channels, 1) to torch's order of axes, (channels, 1, height, width).

    Raises GanvasError for several outputs a channel (TensorFlow's ``depth_multiplier``), which no network here has.
    """
    if filters.ndim != 4 or filters.shape[3] != 1:
        raise GanvasError(
            f"Depthwise filters must have the shape (height, width, channels, 1), not {tuple(filters.shape)}."
        )
    return filters.permute(2, 3, 0, 1).contiguous()
