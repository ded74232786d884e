"""Pickles in NVIDIA's layout, written by Python's own pickle from objects that name NVIDIA's functions; and a few opcodes."""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganvas.generators.stylegan2 import resampling
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

SOURCE = "raise RuntimeError('the source text of a pickle was run')"


def _reconstruct_persistent_obj(meta: Any) -> None:
    raise RuntimeError("a pickle was run")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Network:
    """A persistent object: pickled as NVIDIA's classes pickle themselves."""

    def __init__(self, kind: str, weights: dict[str, Tensor], modules: dict[str, Network], **attributes: Any) -> None:
        learned = ("weight", "bias", "const", "noise_strength")
        parameters = {k: nn.Parameter(v) for k, v in weights.items() if k in learned}
        buffers = {k: v for k, v in weights.items() if k not in learned}
        self.kind = kind
        self.state = attributes | {
            "_parameters": parameters,
            "_buffers": buffers,
            "_modules": modules,
            "_non_persistent_buffers_set": set(),
        }

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.kind, "state": self.state}
        return _reconstruct_persistent_obj, (meta,)


@contextmanager
def importable(**attributes: Any) -> Iterator[None]:
    """Let modules exist while something is pickled whose classes and functions say they are from them."""
    homes: dict[str, ModuleType] = {}
    for item in attributes.values():
        parts = item.__module__.split(".")
        for i in range(len(parts)):
            homes.setdefault(".".join(parts[: i + 1]), ModuleType(".".join(parts[: i + 1])))
        setattr(homes[item.__module__], item.__qualname__, item)
    sys.modules |= homes
    try:
        yield
    finally:
        for name in homes:
            del sys.modules[name]


def dumps(value: Any, protocol: int = 4) -> bytes:
    """``value`` pickled while the module exists that its functions say they are from."""
    with importable(call=_reconstruct_persistent_obj):
        return pickle.dumps(value, protocol)


def save_module(value: Any, path: Path) -> None:
    """Write what torch.save makes of NVIDIA's modules, as PTI keeps a tuned generator."""
    with importable(call=_reconstruct_persistent_obj):
        torch.save(value, path)


def network(state: dict[str, Tensor], shape: StyleGAN2Architecture, **changes: Any) -> Network:
    """A generator's weights as the tree of modules that NVIDIA's code has; ``changes``: of convolutions' attributes."""
    taps = torch.tensor(resampling.TAPS) / sum(resampling.TAPS)

    def under(prefix: str) -> dict[str, Tensor]:
        start = f"{prefix}."
        return {
            k.removeprefix(start): v for k, v in state.items() if k.startswith(start) and "." not in k[len(start) :]
        }

    def dense(prefix: str, rate: float, activation: str) -> Network:
        gains = {"weight_gain": np.float64(rate) / np.sqrt(7), "bias_gain": rate, "activation": activation}
        return Network("FullyConnectedLayer", under(prefix), {}, **gains)

    def layer(prefix: str, kind: str) -> Network:
        extra = {"resample_filter": taps[:, None] * taps} if kind != "ToRGBLayer" else {}
        told = {"activation": "lrelu", "conv_clamp": shape.clamp} | changes
        inner = {} if kind == "Conv2dLayer" else {"affine": dense(f"{prefix}.affine", 1, "linear")}
        return Network(kind, under(prefix) | extra, inner, **told)

    kinds = {"conv0": "SynthesisLayer", "conv1": "SynthesisLayer", "torgb": "ToRGBLayer", "skip": "Conv2dLayer"}
    blocks = {}
    for r in shape.blocks:
        inner = {k: layer(f"synthesis.b{r}.{k}", v) for k, v in kinds.items() if f"synthesis.b{r}.{k}.weight" in state}
        weights = under(f"synthesis.b{r}") | {"resample_filter": taps[:, None] * taps}
        blocks[f"b{r}"] = Network("SynthesisBlock", weights, inner, architecture=shape.architecture)
    rows = [f"fc{i}" for i in range(shape.mapping_layers)]
    dense_ones = {k: dense(f"mapping.{k}", shape.learning_rate_multiplier, "lrelu") for k in rows}
    dense_ones |= {"embed": dense("mapping.embed", 1, "linear")} if shape.num_labels else {}
    sizes = {"z_dim": shape.z_dim, "c_dim": shape.num_labels, "w_dim": shape.w_dim, "num_layers": shape.mapping_layers}
    image = {"img_resolution": shape.resolution, "img_channels": shape.colours}
    synthesis = Network("SynthesisNetwork", {}, blocks, **image, w_dim=shape.w_dim)
    mapping = Network("MappingNetwork", under("mapping"), dense_ones, **sizes)
    return Network("Generator", {}, {"synthesis": synthesis, "mapping": mapping}, **image)


def snapshot(state: dict[str, Tensor], shape: StyleGAN2Architecture, **changes: Any) -> dict[str, Any]:
    """What a training run pickles."""
    other = Network("Discriminator", {"weight": torch.zeros(3)}, {})
    generator = network(state, shape, **changes)
    return {
        "G": generator,
        "D": other,
        "G_ema": generator,
        "training_set_kwargs": {"path": "x.zip"},
        "augment_pipe": None,
    }


# Opcodes by hand, for what pickle.dumps would never write.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """Opcodes that call ``module.name``; arguments are opcodes, too."""
    return text(module) + text(name) + b"\x93(" + b"".join(arguments) + b"tR"


def whole(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def older(storage: bytes, *, head: bytes = b"", key: str = "0", numel: int = 4, data: bytes = b"\0" * 16) -> bytes:
    """What torch.save writes of a storage in its older form; ``storage``: the opcodes of the value."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    system = whole(b"}(" + text("little_endian") + b"\x88" + head + b"u", 2)
    keys = whole(b"](" + text(key) + b"e", 2)
    return magic + system + whole(storage, 2) + keys + struct.pack("<Q", numel) + data


def storage(key: str = "0", numel: bytes = b"K\x04", kind: str = "FloatStorage") -> bytes:
    """The opcodes of a storage by its persistent id."""
    return b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + numel + b"NtQ"


def octets(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value
