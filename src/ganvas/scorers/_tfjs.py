"""Weights that TensorFlow.js wrote: a manifest (JSON) that lists tensors, and their bytes in one file, often quantised.

The format: ``weights`` of https://github.com/tensorflow/tfjs/tree/master/tfjs-core/src/io; a quantised number q stands
for ``q · scale + min``.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError

DTYPES = {"float32": "<f4", "uint8": "u1", "uint16": "<u2"}


def tensors(manifest: bytes, data: bytes) -> dict[str, Tensor]:
    """The tensors that ``manifest`` names, float32, by name. Raises GanvasError where the two don't fit each other."""
    made, at = {}, 0
    try:
        for entry in [entry for group in json.loads(manifest) for entry in group["weights"]]:
            values, at = _values(entry, data, at)
            made[entry["name"]] = torch.from_numpy(values)
    except (KeyError, TypeError, ValueError) as error:
        raise GanvasError(f"This isn't a manifest of TensorFlow.js that its weights fit: {error}.") from None
    if at != len(data):
        raise GanvasError(f"The manifest of TensorFlow.js lists {at} bytes of weights, and there are {len(data)}.")
    return made


def _values(entry: dict[str, Any], data: bytes, at: int) -> tuple[np.ndarray, int]:
    """A tensor, and where the next one begins."""
    quantised = entry.get("quantization")
    dtype = np.dtype(DTYPES[(quantised or entry)["dtype"]])
    count = math.prod(entry["shape"])
    values = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
    if quantised:
        # In float64, then rounded once: as JavaScript does it.
        values = values * float(quantised["scale"]) + float(quantised["min"])
    return values.astype("<f4"), at + count * dtype.itemsize


def convolution(filters: Tensor) -> Tensor:
    """Filters (height, width, inputs, outputs) in torch's order."""
    return filters.permute(3, 2, 0, 1).contiguous()


def depthwise(filters: Tensor) -> Tensor:
    """Filters (height, width, channels, 1) in torch's order."""
    return filters.permute(2, 3, 0, 1).contiguous()
