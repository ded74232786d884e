"""BigGAN-deep in huggingface's layout: a folder with ``pytorch_model.bin``, a state dict, and ``config.json``.

https://github.com/huggingface/pytorch-pretrained-BigGAN (pytorch_pretrained_biggan/model.py, config.py). ``layers`` of the config
has (whether a block doubles, channels in, channels out), in units of ``channel_width``; ``generator.layers`` counts the attention
layer among the blocks. Spectral norms are stored unapplied: ``weight_orig``, to be divided by uᵀWv of ``weight_u``, ``weight_v``.
Of the output layer's channels the first three are the picture. Two keys more are read from the config where it has them:
``truncation``, whose statistics are to be used, and ``id2label``, as other configs of huggingface's name classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.biggan import FAMILY, KIND, VERSION, BigGanArchitecture, BigGanBlock
from ganvas.io.files import read_card
from ganvas.validation import parse

MARKERS = ("embeddings.weight", "generator.gen_z.bias", "generator.conv_to_rgb.bias", "generator.bn.running_means")
"""Weights that no other layout has all of."""
CONFIG_NAME = "config.json"
MAX_NAME_LENGTH, MAX_CONFIG_LAYERS = 200, 64
ATTENTION_PARTS = {"theta": "theta", "phi": "phi", "g": "g", "out": "o_conv"}


def find_network(dicts: Mapping[str, Mapping[str, StoredTensor]]) -> str | None:
    """Find the state dict that is a generator of this layout."""
    return next((name for name, state in dicts.items() if all(each in state for each in MARKERS)), None)


def read_config(path: Path, card: str | Path | None) -> Any:
    """Read the config of the weights in ``path``, ``card`` or the file beside it. Raises GanvasError where there is none."""
    place = Path(card) if card is not None else path.with_name(CONFIG_NAME)
    if not place.is_file():
        raise GanvasError(f"{path} has the weights of BigGAN-deep, and needs huggingface's {CONFIG_NAME} beside it.")
    return read_card(place)


def read(dicts: Mapping[str, Mapping[str, StoredTensor]], config: Any, budget: ReadBudget) -> Checkpoint:
    """Read the generator that ``find_network`` finds, with the values of its config.

    Raises GanvasError where weights are missing, too many, or of other shapes than the config says.
    """
    name = find_network(dicts)
    if name is None:
        raise GanvasError(f"{budget.origin} holds no BigGAN-deep.")
    stored = dicts[name]
    shape = _parse_config(config, stored, budget)
    weights = _Weights(read_tensors(stored, budget), budget)
    state = _convert(weights, shape)
    weights.check_all_read()
    for key, size in shape.list_weight_shapes().items():
        if key not in state or tuple(state[key].shape) != size:
            actual = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
            raise GanvasError(f"{budget.origin} doesn't fit its {CONFIG_NAME}: {key} is {actual}, {size} is expected.")
        if key.endswith("variances") and bool((state[key] < 0).any()):
            raise GanvasError(f"{budget.origin} has variances below 0, in {key}.")
    metadata = {"kind": KIND, "family": FAMILY, "version": VERSION, "shape": shape}
    return Checkpoint(FAMILY, "huggingface's BigGAN-deep", state, metadata, (_describe_truncation(shape),))


def _describe_truncation(shape: BigGanArchitecture) -> str:
    return f"uses the statistics of truncation {shape.truncation:g}, of {shape.num_statistics} stored"


def _parse_config(config: Any, stored: Mapping[str, StoredTensor], budget: ReadBudget) -> BigGanArchitecture:
    origin = f"{budget.origin}: {CONFIG_NAME}"
    if not isinstance(config, dict):
        raise GanvasError(f"{origin} isn't an object.")
    width, layers = config.get("channel_width"), config.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= MAX_CONFIG_LAYERS:
        raise GanvasError(f"{origin} must have 1 to {MAX_CONFIG_LAYERS} layers.")
    blocks = []
    for layer in layers:
        plain = isinstance(layer, list) and len(layer) == 3 and all(type(n) is int for n in layer[1:])
        if not plain or type(width) is not int:
            raise GanvasError(f"{origin} needs a whole channel_width, and layers like [false, 16, 16].")
        blocks.append({"inputs": layer[1] * width, "outputs": layer[2] * width, "doubles": layer[0]})
    embedding = stored["embeddings.weight"].shape
    attention = config.get("attention_layer_position")
    attends = type(attention) is int and 0 <= attention < len(layers)
    values = {
        "z_dim": config.get("z_dim"),
        "embedding_dim": embedding[0] if len(embedding) == 2 else 0,
        "num_labels": config.get("num_classes"),
        "blocks": blocks,
        "attention": attention if attends or type(attention) is not int else None,
        "num_statistics": config.get("n_stats"),
        "epsilon": config.get("eps"),
        "truncation": config.get("truncation", 1.0),
        "label_names": _list_label_names(config.get("id2label"), origin),
    }
    shape = parse(BigGanArchitecture, values, origin)
    if config.get("output_dim", shape.resolution) != shape.resolution:
        raise GanvasError(
            f"{origin} has the output_dim {format_printable(config['output_dim'])}, and layers for {shape.resolution}."
        )
    return shape


def _list_label_names(names: Any, origin: str) -> list[str]:
    """List the names of labels in an object of number -> name."""
    if names is None:
        return []
    ordered = [names.get(str(i)) for i in range(len(names))] if isinstance(names, dict) else [None]
    if not all(isinstance(name, str) and name.isprintable() and len(name) <= MAX_NAME_LENGTH for name in ordered):
        raise GanvasError(f"{origin} must have a text for each label from 0 on in id2label.")
    return [str(name) for name in ordered]


class _Weights:
    """The weights of a file, with those noted that were read."""

    def __init__(self, values: Mapping[str, Tensor], budget: ReadBudget) -> None:
        self.values, self.budget, self.names_read = values, budget, set[str]()

    def get(self, name: str) -> Tensor:
        """Return a weight. Raises GanvasError where it is missing."""
        if name not in self.values:
            raise GanvasError(f"{self.budget.origin} lacks the weights {name}: it isn't a whole BigGAN-deep.")
        self.names_read.add(name)
        return self.values[name]

    def get_normed(self, layer: str) -> Tensor:
        """Return a layer's weight over its spectral norm, or as it is where that is applied already."""
        if f"{layer}.weight" in self.values:
            return self.get(f"{layer}.weight")
        weight, u, v = (self.get(f"{layer}.weight_{part}") for part in ("orig", "u", "v"))
        if weight.ndim < 2 or u.shape != weight.shape[:1] or v.shape != weight[0].flatten().shape:
            shapes = tuple(weight.shape), tuple(u.shape), tuple(v.shape)
            raise GanvasError(f"{self.budget.origin} has {layer}.weight_orig, _u and _v of shapes {shapes}.")
        # In float64, so that it rounds alike on all machines: weights are the generator's identity.
        norm = torch.dot(u.double(), weight.flatten(1).double() @ v.double()).float()
        if not norm:
            raise GanvasError(f"{self.budget.origin} has a spectral norm of 0, in {layer}.")
        return weight / norm

    def check_all_read(self) -> None:
        """Raise GanvasError where the file has weights that BigGAN-deep doesn't have."""
        for name in self.values.keys() - self.names_read:
            if not name.endswith(("weight_u", "weight_v")):
                raise GanvasError(
                    f"{self.budget.origin} has a weight {format_printable(name)!r}, which its {CONFIG_NAME} doesn't list."
                )


def _convert(weights: _Weights, shape: BigGanArchitecture) -> dict[str, Tensor]:
    state = {"embedding": weights.get("embeddings.weight").T.contiguous()}
    state |= {"first.weight": weights.get_normed("generator.gen_z"), "first.bias": weights.get("generator.gen_z.bias")}
    place = 0
    for i, _ in enumerate(shape.blocks):
        if i == shape.attention:
            layer = f"generator.layers.{place}"
            state["attention.gamma"] = weights.get(f"{layer}.gamma")
            for new, old in ATTENTION_PARTS.items():
                state[f"attention.{new}.weight"] = weights.get_normed(f"{layer}.snconv1x1_{old}")
            place += 1
        state |= _convert_block(weights, f"generator.layers.{place}", f"b{i}", shape.blocks[i])
        place += 1
    state |= {
        "last.means": weights.get("generator.bn.running_means"),
        "last.variances": weights.get("generator.bn.running_vars"),
    }
    state |= {f"last.{part}": weights.get(f"generator.bn.{part}") for part in ("weight", "bias")}
    output = weights.get_normed("generator.conv_to_rgb"), weights.get("generator.conv_to_rgb.bias")
    return state | {"output.weight": output[0][:3], "output.bias": output[1][:3]}


def _convert_block(weights: _Weights, layer: str, here: str, block: BigGanBlock) -> dict[str, Tensor]:
    state, norms = {}, [f"{layer}.bn_{k}" for k in range(len(block.widths))]
    parts = {
        "means": [weights.get(f"{norm}.running_means") for norm in norms],
        "variances": [weights.get(f"{norm}.running_vars") for norm in norms],
        "affine.weight": [weights.get_normed(f"{norm}.{part}") for part in ("scale", "offset") for norm in norms],
    }
    for name, pieces in parts.items():
        axis = 0 if name == "affine.weight" else 1
        widths = block.widths * (2 if name == "affine.weight" else 1)
        for piece, width in zip(pieces, widths, strict=True):
            if piece.ndim != 2 or piece.shape[axis] != width or piece.shape[1 - axis] != pieces[0].shape[1 - axis]:
                raise GanvasError(
                    f"{weights.budget.origin} doesn't fit its {CONFIG_NAME}: {layer} has normalizations of shape "
                    f"{tuple(piece.shape)}, where {width} channels belong."
                )
        state[f"{here}.{name}"] = torch.cat(pieces, axis)
    for k in range(len(norms)):
        state[f"{here}.conv{k}.weight"] = weights.get_normed(f"{layer}.conv_{k}")
        state[f"{here}.conv{k}.bias"] = weights.get(f"{layer}.conv_{k}.bias")
    return state
