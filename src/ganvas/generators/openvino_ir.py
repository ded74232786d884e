"""OpenVINO's IR, version 10 (a graph in XML, its constants in BIN), read as the weights of a MobileStyleGAN.

The format: https://docs.openvino.ai/2021.4/openvino_docs_MO_DG_IR_and_opsets.html. The graph is walked back from its
result along its edges, so neither the layers' names nor their order are relied on. OpenVINO itself isn't needed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from math import isclose, prod
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z
from ganvas.generators.mobilestylegan import MobileStyleGAN

MAX_XML_BYTES = 4 << 20
"""The most bytes of XML that are read."""
ITEM_SIZES = {"f32": 4, "i64": 8, "i32": 4}
"""Bytes of a number of each type that constants may have."""
W_AVG_SEEDS = 10_000
"""Seeds 0 … 9,999 give the codes whose mean is ``w_avg``."""

NETWORK = re.compile(r"isc\+\+l(?:shsdc\+\+lsdc\+\+l)+sc\+h")
"""The steps of a MobileStyleGAN: constant input, style, convolution, + noise or bias, leaky ReLU, inverse Haar
transform, depthwise convolution."""


@dataclass(frozen=True)
class IrNode:
    """One layer: its type, its attributes, and the ids of the layers of its inputs, in the order of its ports."""

    kind: str
    attributes: dict[str, str]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class IrGraph:
    """A network; every constant lies within ``data``."""

    layers: dict[str, IrNode]
    data: bytes

    def get_kind(self, key: str) -> str:
        """Return the type of a layer."""
        return self.layers[key].kind

    def get_inputs(self, key: str, count: int) -> tuple[str, ...]:
        """Return the ``count`` layers of a layer's inputs. Raises GanvasError where there are fewer or more."""
        inputs = self.layers[key].inputs
        if len(inputs) != count:
            raise GanvasError(
                f"Layer {key} ({self.get_kind(key)}) of the IR has {len(inputs)} inputs instead of {count}."
            )
        return inputs

    def read_constant(self, key: str) -> Tensor:
        """Return a constant as a tensor. Raises GanvasError for another layer or type, or a number that isn't finite."""
        layer = self.layers[key]
        if layer.kind != "Const" or layer.attributes["element_type"] != "f32":
            raise GanvasError(f"Layer {key} ({layer.kind}) of the IR should be a constant of float32.")
        shape = _parse_shape(layer.attributes)
        values = np.frombuffer(self.data, "<f4", prod(shape), int(layer.attributes["offset"])).reshape(shape)
        if not np.isfinite(values).all():
            raise GanvasError(f"Layer {key} of the IR holds numbers that aren't finite.")
        return torch.from_numpy(values.astype(np.float32))

    def split(self, key: str, *kinds: str) -> tuple[str, str]:
        """Return the two inputs of a layer, one of the given kinds first. Raises GanvasError where it has none of them."""
        first, second = self.get_inputs(key, 2)
        if self.get_kind(first) in kinds:
            return first, second
        if self.get_kind(second) in kinds:
            return second, first
        raise GanvasError(
            f"Layer {key} ({self.get_kind(key)}) of the IR has no input of the type {' or '.join(kinds)}."
        )

    def find_result(self) -> str:
        """Return the layer of the network's result. Raises GanvasError unless there is exactly one."""
        results = [key for key, layer in self.layers.items() if layer.kind == "Result"]
        if len(results) != 1:
            raise GanvasError(f"The IR has {len(results)} results instead of 1.")
        return self.get_inputs(results[0], 1)[0]


def convert(mapping_xml: bytes, mapping_bin: bytes, synthesis_xml: bytes, synthesis_bin: bytes) -> dict[str, Tensor]:
    """Convert the two networks of a MobileStyleGAN to the weights that ``MobileStyleGAN`` takes; ``w_avg`` is computed.

    Raises GanvasError for files that aren't such networks, or are damaged.
    """
    weights = _mapping(read(mapping_xml, mapping_bin)) | _synthesis(read(synthesis_xml, synthesis_bin))
    return weights | {"w_avg": _compute_w_avg(weights)}


def read(xml: bytes, data: bytes) -> IrGraph:
    """Read the graph in ``xml``, with the constants in ``data``. Raises GanvasError where either is damaged."""
    try:
        text = xml.decode("utf-8")
        # Declarations could define entities that grow without end, or read other files; IRs have none.
        if len(xml) > MAX_XML_BYTES or "<!" in text:
            raise GanvasError(
                f"The IR's XML isn't read: it has a declaration, or {len(xml)} of at most {MAX_XML_BYTES} bytes."
            )
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise GanvasError(f"The IR's XML is broken: {error}.") from None
    if root.tag != "net" or root.get("version") != "10":
        raise GanvasError(
            f"Only OpenVINO IR of version 10 is read, not {root.tag!r} of version {root.get('version')!r}."
        )
    inputs: dict[str, dict[int, str]] = {}
    for edge in root.iterfind("edges/edge"):
        inputs.setdefault(edge.get("to-layer", ""), {})[_parse_integer(edge.get("to-port"))] = edge.get(
            "from-layer", ""
        )
    layers = {}
    for layer in root.iterfind("layers/layer"):
        key, data_element = layer.get("id", ""), layer.find("data")
        ports = inputs.get(key, {})
        sources = tuple(ports[port] for port in sorted(ports))
        layers[key] = IrNode(
            layer.get("type", ""), dict(data_element.attrib) if data_element is not None else {}, sources
        )
        if layers[key].kind == "Const":
            _check_constant(key, layers[key].attributes, len(data))
    missing = {source for layer in layers.values() for source in layer.inputs} - layers.keys()
    if missing:
        raise GanvasError(f"The IR has edges from layers that don't exist: {', '.join(sorted(missing)[:3])}.")
    return IrGraph(layers, data)


def _parse_integer(text: str | None) -> int:
    if text is None or not re.fullmatch(r"[0-9]{1,12}", text):
        raise GanvasError(f"The IR has {str(text)[:20]!r} where a whole number belongs.")
    return int(text)


def _parse_shape(attributes: dict[str, str]) -> tuple[int, ...]:
    text = attributes.get("shape", "")
    return tuple(_parse_integer(part.strip()) for part in text.split(",")) if text else ()


def _check_constant(key: str, attributes: dict[str, str], length: int) -> None:
    item = ITEM_SIZES.get(attributes.get("element_type", ""))
    if item is None:
        raise GanvasError(
            f"Constant {key} of the IR is {attributes.get('element_type')!r}, not {', '.join(ITEM_SIZES)}."
        )
    offset, size = _parse_integer(attributes.get("offset")), _parse_integer(attributes.get("size"))
    if size != item * prod(_parse_shape(attributes)):
        raise GanvasError(f"Constant {key} of the IR has {size} bytes, which doesn't fit its shape.")
    if offset + size > length:
        raise GanvasError(f"Constant {key} of the IR ends at byte {offset + size} of {length}: the BIN is cut short.")


def _mapping(graph: IrGraph) -> dict[str, Tensor]:
    """Read StyleGAN2's mapping network: per layer (product, bias, leaky ReLU, gain of √2), after the normalisation of z."""
    layers = []
    gain, key = graph.split(graph.find_result(), "Const")
    while True:
        _check_value(graph, gain, 2**0.5)
        summed = _before_leaky(graph, key)
        product, bias = graph.split(summed, "MatMul")
        if graph.get_kind(bias) == "Reshape":
            bias = graph.get_inputs(bias, 2)[0]
        matrix, key = graph.split(product, "Const")
        layers.append((_matrix(graph, product, matrix), graph.read_constant(bias).flatten()))
        if graph.get_kind(key) != "Multiply" or len(layers) > len(graph.layers):
            raise GanvasError("The first IR isn't StyleGAN2's mapping network.")
        if "Parameter" in map(graph.get_kind, graph.get_inputs(key, 2)):  # z times its reciprocal norm: the beginning
            break
        gain, key = graph.split(key, "Const")
    state = {}
    for i, (weight, bias) in enumerate(reversed(layers)):
        state[f"mapping.{i}.weight"], state[f"mapping.{i}.bias"] = weight, bias
    return state


def _synthesis(graph: IrGraph) -> dict[str, Tensor]:
    """Read the steps from the constant input to the picture, under the names of ``MobileStyleGAN``."""
    all_steps = _list_steps(graph)
    letters = "".join(letter for letter, *_ in all_steps)
    if not NETWORK.fullmatch(letters):
        raise GanvasError("The second IR isn't MobileStyleGAN's synthesis network.")
    steps = deque(tensors for letter, *tensors in all_steps if letter not in "lh")
    state: dict[str, Tensor] = {}
    rows = 0

    def style(banded: bool = False) -> None:
        nonlocal rows
        weight, bias = steps.popleft()
        state[f"affine.{rows}.weight"] = _bands(weight) if banded else weight
        state[f"affine.{rows}.bias"] = _bands(bias) if banded else bias
        rows += 1

    def convolution(prefix: str, kernel: str, banded: bool, noisy: bool = True) -> None:
        (weight,) = steps.popleft()
        added = [steps.popleft()[0] for _ in range(1 + noisy)]
        if noisy:  # one map for all channels, and one number for each channel: in either order
            state[f"{prefix}.noise"] = added.pop(0 if added[0].shape[1] == 1 else 1)
        bias = added[0].flatten()
        state[f"{prefix}.{kernel}"] = _bands(weight) if banded else weight
        state[f"{prefix}.bias"] = _bands(bias) if banded else bias

    (state["const"],) = steps.popleft()
    style()
    convolution("conv", "weight", banded=True)
    blocks = letters.count("shsd")
    for i in range(blocks):
        style(banded=True)
        for j in (0, 1):
            style()
            (kernel,) = steps.popleft()
            state[f"blocks.{i}.{j}.depthwise"] = kernel.flatten(0, 1)
            # The input of the next block is stored band by band; the last block's channels are no bands.
            convolution(f"blocks.{i}.{j}", "pointwise", banded=j == 1 and i + 1 < blocks)
    style()
    convolution("to_img", "weight", banded=True, noisy=False)
    return state


def _list_steps(graph: IrGraph) -> list[tuple]:
    """List (letter of ``NETWORK``, its tensors) for each step from the constant input to the picture."""
    steps: list[tuple] = []
    key = graph.find_result()
    while graph.get_kind(key) != "Const":
        kind = graph.get_kind(key)
        if kind == "PReLU":
            steps.append(("l",))
            key = _before_leaky(graph, key)
        elif kind in ("Convolution", "GroupConvolution"):
            letter = "c" if kind == "Convolution" else "d"
            key, weight = graph.get_inputs(key, 2)
            steps.append((letter, graph.read_constant(weight)))
        elif kind == "Multiply":
            styled, key = graph.split(key, "Reshape", "Multiply")
            steps.append(("s", *_style(graph, styled)))
        elif kind == "Add" and "Const" in map(graph.get_kind, graph.get_inputs(key, 2)):
            added, key = graph.split(key, "Const")
            steps.append(("+", graph.read_constant(added)))
        elif kind == "Add":
            steps.append(("h",))
            key = _before_haar(graph, key)
        elif kind in ("Tile", "Broadcast"):  # repeats the constant input for each code
            key = graph.get_inputs(key, 2)[0]
        else:
            raise GanvasError(f"A MobileStyleGAN has no layer of the type {kind!r}.")
        if len(steps) > len(graph.layers):
            raise GanvasError("The IR's edges run in a circle.")
    steps.append(("i", graph.read_constant(key)))
    return steps[::-1]


def _before_leaky(graph: IrGraph, key: str) -> str:
    if graph.get_kind(key) != "PReLU":
        raise GanvasError(f"Layer {key} of the IR is {graph.get_kind(key)!r} where a leaky ReLU belongs.")
    key, slope = graph.get_inputs(key, 2)
    _check_value(graph, slope, 0.2)
    return key


def _before_haar(graph: IrGraph, key: str) -> str:
    """Return the input of an inverse Haar transform: each band is convolved twice, and the four are added."""
    for kind, count in (
        ("Add", 2),
        ("GroupConvolutionBackpropData", 2),
        ("Add", 2),
        ("GroupConvolutionBackpropData", 2),
        ("VariadicSplit", 3),
    ):
        if graph.get_kind(key) != kind:
            raise GanvasError(
                f"Layer {key} of the IR is {graph.get_kind(key)!r} where an inverse Haar transform has {kind!r}."
            )
        key = graph.get_inputs(key, count)[0]
    return key


def _style(graph: IrGraph, key: str) -> tuple[Tensor, Tensor]:
    """Return a style's affine layer times the factor of demodulation: (channels, w_dim) and (channels,)."""
    scale = torch.tensor(1.0)
    if graph.get_kind(key) == "Multiply":
        factor, key = graph.split(key, "Const")
        scale = graph.read_constant(factor).reshape(())
    if graph.get_kind(key) != "Reshape":
        raise GanvasError(f"Layer {key} of the IR is {graph.get_kind(key)!r} where a style belongs.")
    product, bias = graph.split(graph.get_inputs(key, 2)[0], "MatMul")
    matrix, _ = graph.split(product, "Const")
    return _matrix(graph, product, matrix) * scale, graph.read_constant(bias).flatten() * scale


def _matrix(graph: IrGraph, product: str, matrix: str) -> Tensor:
    attributes = graph.layers[product].attributes
    if attributes.get("transpose_a", "false") != "false" or attributes.get("transpose_b") != "true":
        raise GanvasError(f"Layer {product} of the IR should be a product x·Wᵀ: transpose_a false, transpose_b true.")
    return graph.read_constant(matrix)


def _check_value(graph: IrGraph, key: str, value: float) -> None:
    constant = graph.read_constant(key)
    if constant.numel() != 1 or not isclose(constant.item(), value, rel_tol=1e-6):
        raise GanvasError(f"Layer {key} of the IR should be {value:.4f}.")


def _bands(tensor: Tensor) -> Tensor:
    """Reorder channels from (LL of all, then LH, HL, HH of each) to (LL of all, LH of all, HL of all, HH of all)."""
    low, high = tensor.tensor_split([len(tensor) // 4])
    return torch.cat((low, *(high[k::3] for k in range(3))))


def _compute_w_avg(state: dict[str, Tensor]) -> Tensor:
    # In float64, so that rounding to float32 gives the same on any machine, whatever order it adds in.
    network = MobileStyleGAN(state | {"w_avg": torch.zeros(len(state["affine.0.weight"][0]))}, "").double()
    with torch.no_grad():
        seeds = range(W_AVG_SEEDS)
        sums = [
            network.mapping(draw_z(network, seeds[i : i + 1000]).double()).sum(0) for i in range(0, W_AVG_SEEDS, 1000)
        ]
    return torch.stack(sums).sum(0).div(W_AVG_SEEDS).float()
