"""A MobileStyleGAN of a few numbers, as a state and as OpenVINO's files."""

from __future__ import annotations

import math
from itertools import count
from xml.etree import ElementTree as ET

import numpy as np
import torch
from torch import Tensor

DIM = 8


def state(blocks: int = 2, channels: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of ``MobileStyleGAN``, without w_avg; every block leaves ``channels`` channels."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) / math.prod(shape[1:]) ** 0.5  # keeps the layers' scale

    made = {}
    for i in range(3):
        made[f"mapping.{i}.weight"], made[f"mapping.{i}.bias"] = draw(DIM, DIM), draw(DIM)
    inputs = [channels, *([channels, channels // 4, channels] * blocks), channels]
    for i, width in enumerate(inputs):
        made[f"affine.{i}.weight"], made[f"affine.{i}.bias"] = draw(width, DIM), 1 + draw(width)
    made |= {"const": draw(1, channels, 4, 4), "conv.weight": draw(channels, channels, 3, 3)}
    made |= {"conv.bias": draw(channels), "conv.noise": draw(1, 1, 4, 4)}
    for i in range(blocks):
        side = 8 << i
        for j, width in enumerate((channels // 4, channels)):
            prefix = f"blocks.{i}.{j}"
            made |= {f"{prefix}.depthwise": draw(width, 1, 3, 3), f"{prefix}.pointwise": draw(channels, width, 1, 1)}
            made |= {f"{prefix}.bias": draw(channels), f"{prefix}.noise": draw(1, 1, side, side)}
    return made | {"to_img.weight": draw(12, channels, 1, 1), "to_img.bias": draw(12)}


def unband(tensor: Tensor) -> Tensor:
    """Band by band back to the file's order: LL of all channels, then LH, HL, HH of each."""
    low, *high = tensor.chunk(4)
    return torch.cat((low, torch.stack(high, 1).flatten(0, 1)))


class Writer:
    """Writes layers, edges and constants; ids are given at random, so that order says nothing."""

    def __init__(self, name: str) -> None:
        self.net = ET.Element("net", name=name, version="10")
        self.layers, self.edges = ET.SubElement(self.net, "layers"), ET.SubElement(self.net, "edges")
        self.data, self.numbers = bytearray(), count()

    def layer(self, kind: str, *inputs: str, **attributes: str) -> str:
        key = str(next(self.numbers) * 7919 % 10007)
        layer = ET.Element("layer", id=key, name=key, type=kind)
        ET.SubElement(layer, "data", attributes)
        self.layers.insert(int(key) % (len(self.layers) + 1), layer)
        for port, source in enumerate(inputs):
            edge = {"from-layer": source, "from-port": "0", "to-layer": key, "to-port": str(port)}
            self.edges.insert(0, ET.Element("edge", edge))
        return key

    def const(self, values: Tensor | float, kind: str = "f32") -> str:
        array = np.asarray(values, "<f4" if kind == "f32" else "<i8")
        offset, content = len(self.data), array.tobytes()
        self.data += content
        shape = ", ".join(map(str, array.shape))
        return self.layer("Const", element_type=kind, shape=shape, offset=str(offset), size=str(len(content)))

    def matmul(self, x: str, weight: Tensor) -> str:
        return self.layer("MatMul", x, self.const(weight), transpose_a="false", transpose_b="true")

    def leaky(self, x: str) -> str:
        return self.layer("PReLU", x, self.const(0.2))

    def files(self) -> tuple[bytes, bytes]:
        return ET.tostring(self.net, encoding="utf-8", xml_declaration=True), bytes(self.data)


def files(made: dict[str, Tensor]) -> list[bytes]:
    """``made`` as the four files that ``convert`` reads."""
    return [*_mapping(made), *_synthesis(made)]


def _mapping(made: dict[str, Tensor]) -> tuple[bytes, bytes]:
    ir = Writer("MappingNetwork")
    z = ir.layer("Parameter")
    x = ir.layer("Multiply", z, ir.layer("Power", z, ir.const(-0.5)))
    for i in range(3):
        bias = ir.layer("Reshape", ir.const(made[f"mapping.{i}.bias"]), ir.const(DIM, "i64"))
        x = ir.leaky(ir.layer("Add", ir.matmul(x, made[f"mapping.{i}.weight"]), bias))
        x = ir.layer("Multiply", x, ir.const(2**0.5))
    ir.layer("Result", x)
    return ir.files()


def _synthesis(made: dict[str, Tensor]) -> tuple[bytes, bytes]:
    ir = Writer("SynthesisNetwork")
    w, rows = ir.layer("Parameter"), count()

    def styled(x: str, banded: bool = False) -> str:
        i = next(rows)
        weight, bias = made[f"affine.{i}.weight"], made[f"affine.{i}.bias"]
        if banded:
            weight, bias = unband(weight), unband(bias)
        # The file's styles may have a factor behind them; a power of two keeps the product exact.
        scale = 1 if banded else 4
        summed = ir.layer("Add", ir.matmul(w, weight * scale), ir.const(bias[None] * scale))
        style = ir.layer("Reshape", summed, ir.const(1, "i64"))
        style = style if banded else ir.layer("Multiply", style, ir.const(1 / scale))
        return ir.layer("Multiply", *((style, x) if i % 2 else (x, style)))

    def convolved(x: str, prefix: str, kernel: str, banded: bool) -> str:
        order = unband if banded else (lambda tensor: tensor)
        x = ir.layer("Convolution", x, ir.const(order(made[f"{prefix}.{kernel}"])))
        if prefix != "to_img":
            x = ir.layer("Add", x, ir.const(made[f"{prefix}.noise"]))
        x = ir.layer("Add", x, ir.const(order(made[f"{prefix}.bias"]).reshape(1, -1, 1, 1)))
        return x if prefix == "to_img" else ir.leaky(x)

    def haar(x: str) -> str:
        split = ir.layer("VariadicSplit", x, ir.const(1, "i64"), ir.const(2, "i64"))

        def twice(x: str, y: str) -> str:
            up = [ir.layer("GroupConvolutionBackpropData", a, ir.const(0.7)) for a in (x, y)]
            return ir.layer("Add", *up)

        return twice(twice(split, split), twice(split, split))

    x = convolved(styled(ir.layer("Tile", ir.const(made["const"]), ir.const(1, "i64"))), "conv", "weight", True)
    blocks = len({key.split(".")[1] for key in made if key.startswith("blocks")})
    for i in range(blocks):
        x = haar(styled(x, banded=True))
        for j in (0, 1):
            kernel = made[f"blocks.{i}.{j}.depthwise"][:, None]
            x = ir.layer("GroupConvolution", styled(x), ir.const(kernel))
            x = convolved(x, f"blocks.{i}.{j}", "pointwise", j == 1 and i + 1 < blocks)
    ir.layer("Result", haar(convolved(styled(x), "to_img", "weight", True)))
    return ir.files()
