"""A reader of TensorFlow.js's weights: a manifest (JSON) that lists tensors, and their bytes in one file, often quantised.

The format: ``weights`` of https://github.com/tensorflow/tfjs/tree/master/tfjs-core/src/io; a quantised integer q stands
for ``q · scale + min``, and half precision for itself.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError

DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}


def read_tensors(manifest: bytes, data: bytes) -> dict[str, Tensor]:
    """Read the tensors that ``manifest`` lists, float32, by name. Raises GanvasError where the two don't fit each other."""
    tensors, at = {}, 0
    try:
        for entry in [entry for group in json.loads(manifest) for entry in group["weights"]]:
            values, at = _read_values(entry, data, at)
            tensors[entry["name"]] = torch.from_numpy(values)
    except (KeyError, TypeError, ValueError) as error:
        raise GanvasError(f"The manifest of TensorFlow.js is damaged or doesn't fit its weights: {error}.") from None
    if at != len(data):
        raise GanvasError(f"The manifest of TensorFlow.js lists {at} bytes of weights, but there are {len(data)}.")
    return tensors


def _read_values(entry: dict[str, Any], data: bytes, at: int) -> tuple[np.ndarray, int]:
    """Read a tensor, and return where the next one begins."""
    quantised = entry.get("quantization")
    dtype = np.dtype(DTYPES[(quantised or entry)["dtype"]])
    count = math.prod(entry["shape"])
    values = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
    if quantised and dtype.kind == "u":
        # In float64, then rounded once, as JavaScript does.
        values = values * float(quantised["scale"]) + float(quantised["min"])
    return values.astype("<f4"), at + count * dtype.itemsize


def permute_filters(filters: Tensor) -> Tensor:
    """Convert filters (height, width, inputs, outputs) to torch's order of axes."""
    return filters.permute(3, 2, 0, 1).contiguous()


def permute_depthwise_filters(filters: Tensor) -> Tensor:
    """Convert filters (height, width, channels, 1) to torch's order of axes."""
    return filters.permute(2, 3, 0, 1).contiguous()
