"""Progressive GANs in three layouts, of which the averaged generator is read where a file has one.

https://github.com/facebookresearch/pytorch_GAN_zoo (models/networks/progressive_conv_net.py): ``avgG`` and ``netG`` beside
``config``, an object of ``models.utils.config.BaseConfig`` whose values are read; biases, too, have the factor of the equalized
learning rate, and that of colours is √2 as everywhere.

https://github.com/genforce/genforce (models/pggan_generator.py): ``generator_smooth`` and ``generator``; the first layer is a
kernel of 4×4 around one pixel, which lies the other way round.

https://github.com/tkarras/progressive_growing_of_gans (networks.py): TensorFlow's variables by name. Kernels
of ``Conv0_up`` double, are stored the other way round, and have their axes of channels exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import Any

from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import ObjectRecord
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.pggan import FAMILY, FIRST_SIDE, KIND, MAX_BLOCKS, VERSION, PgganArchitecture
from ganvas.validation import parse

GAN_ZOO_MARKERS = ("formatLayer.module.weight", "groupScale0.0.module.weight", "toRGBLayers.0.module.weight")
GENFORCE_MARKERS = ("layer0.weight", "layer1.weight", "layer2.weight", "output0.weight", "lod")
TENSORFLOW_MARKERS = ("4x4/Dense/weight", "4x4/Conv/weight", "ToRGB_lod0/weight")
"""Weights that no other layout has all of."""
NETWORKS = ("avgG", "generator_smooth", "netG", "generator")
"""The networks of a file, of which the first of these is read: averaged ones before others."""
LINEAR_LOSSES, TANH_LOSSES = ("WGANGP",), ("MSE", "DCGAN")
"""pytorch_GAN_zoo's losses whose generators end in nothing, and in a tanh."""
HE_GAIN = sqrt(2)
"""The factor of layers before a leaky ReLU (He et al., 2015)."""


def find_network(dicts: Mapping[str, Mapping[str, StoredTensor]]) -> str | None:
    """Find the state dict that is a generator of the first two layouts, averaged where there is such a one."""
    names = [
        name
        for name, state in dicts.items()
        if any(all(each in state for each in markers) for markers in (GAN_ZOO_MARKERS, GENFORCE_MARKERS))
    ]
    return next((name for name in NETWORKS if name in names), names[0] if names else None)


def read(dicts: Mapping[str, Mapping[str, StoredTensor]], config: Any, budget: ReadBudget) -> Checkpoint:
    """Read the generator that ``find_network`` finds; ``config``: the file's object of that name, or None.

    Raises GanvasError where weights are missing, too many, or of other shapes, or the config is of another kind of network.
    """
    name = find_network(dicts)
    if name is None:
        raise GanvasError(f"{budget.origin} holds no Progressive GAN.")
    weights = read_tensors(dicts[name], budget)
    notes = [f"holds {', '.join(map(format_printable, list(dicts)[:8]))}; {format_printable(name)} is read"]
    if GAN_ZOO_MARKERS[0] in weights:
        settings = config.state if isinstance(config, ObjectRecord) else config if isinstance(config, dict) else {}
        state, options = _convert_gan_zoo(weights, settings, budget)
        return build_checkpoint("pytorch_GAN_zoo's checkpoint", state, options, notes if len(dicts) > 1 else [], budget)
    state, options = _convert_genforce(weights, budget)
    return build_checkpoint("genforce's checkpoint", state, options, notes if len(dicts) > 1 else [], budget)


def convert_tensorflow(weights: Mapping[str, Tensor], budget: ReadBudget) -> Checkpoint:
    """Convert TensorFlow's variables, whose kernels already lie as (out, in, height, width) and matrices as (out, in)."""
    blocks = 1
    while f"{FIRST_SIDE << blocks}x{FIRST_SIDE << blocks}/Conv1/weight" in weights:
        blocks += 1
    names = {"dense": "4x4/Dense"}
    for i in range(blocks):
        side = f"{FIRST_SIDE << i}x{FIRST_SIDE << i}"
        if i:
            names[f"b{i}.conv0"] = f"{side}/Conv0_up" if f"{side}/Conv0_up/weight" in weights else f"{side}/Conv0"
        names |= {f"b{i}.conv1": f"{side}/Conv1" if i else f"{side}/Conv", f"b{i}.output": f"ToRGB_lod{blocks - 1 - i}"}
    _check_names(weights, [*(f"{old}/{part}" for old in names.values() for part in ("weight", "bias")), "lod"], budget)
    renamed: dict[str, Tensor] = {}
    for new, old in names.items():
        for part in ("weight", "bias"):
            value = _take(weights, f"{old}/{part}", budget)
            if old.endswith("/Conv0_up") and part == "weight" and value.ndim == 4:
                value = value.transpose(0, 1).flip(2, 3)
            renamed[f"{new}.{part}"] = value
    state = _scale(renamed, {"dense": HE_GAIN / FIRST_SIDE, "output": 1.0})
    state["dense.bias"] = state["dense.bias"].repeat_interleave(FIRST_SIDE**2)
    lod = _read_lod(weights.get("lod"), budget)
    return build_checkpoint("Progressive GAN's pickle of TensorFlow", state, {"lod": lod}, [], budget)


def build_checkpoint(
    origin: str, state: Mapping[str, Tensor], options: Mapping[str, Any], notes: list[str], budget: ReadBudget
) -> Checkpoint:
    """Build a checkpoint of weights under ganvas's names; sizes are those of the weights.

    Raises GanvasError where they don't fit one another.
    """
    blocks = 0
    while f"b{blocks}.conv1.weight" in state:
        blocks += 1
    widths = [state[f"b{i}.conv1.weight"].shape[0] for i in range(blocks)]
    dense, output = state["dense.weight"], state[f"b{blocks - 1}.output.weight"]
    if dense.ndim != 2 or not 1 < blocks <= MAX_BLOCKS:
        raise GanvasError(f"{budget.origin} has {blocks} blocks and a first layer of shape {tuple(dense.shape)}.")
    if output.shape[0] not in (1, 3):
        raise GanvasError(f"{budget.origin} draws pictures of {output.shape[0]} channels: 1 or 3 can be read.")
    values = {"z_dim": dense.shape[1], "widths": widths, "colours": output.shape[0], **options}
    shape = parse(PgganArchitecture, values, budget.origin)
    for name, size in shape.list_weight_shapes().items():
        if name not in state or tuple(state[name].shape) != size:
            actual = f"of shape {tuple(state[name].shape)}" if name in state else "missing"
            raise GanvasError(f"{budget.origin} isn't a whole Progressive GAN: {name} is {actual}, {size} is expected.")
    if options.get("lod"):
        notes = [*notes, f"hasn't grown to the end: its level of detail is {options['lod']:g}"]
    metadata = {"kind": KIND, "family": FAMILY, "version": VERSION, "shape": shape}
    return Checkpoint(FAMILY, origin, dict(state), metadata, tuple(notes))


def _convert_gan_zoo(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], budget: ReadBudget
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    blocks = 1
    while f"scaleLayers.{blocks - 1}.0.module.weight" in weights:
        blocks += 1
    names = {"dense": "formatLayer", "b0.conv1": "groupScale0.0"}
    for i in range(blocks):
        names |= {f"b{i}.conv{k}": f"scaleLayers.{i - 1}.{k}" for k in (0, 1) if i} | {
            f"b{i}.output": f"toRGBLayers.{i}"
        }
    state = {f"{new}.{part}": f"{old}.module.{part}" for new, old in names.items() for part in ("weight", "bias")}
    _check_names(weights, state.values(), budget)
    taken = {new: _take(weights, old, budget) for new, old in state.items()}
    loss, slope = config.get("lossCriterion", LINEAR_LOSSES[0]), config.get("leakyReluLeak", 0.2)
    for name, needed in (("perChannelNormalization", True), ("categoryVectorDim", 0)):
        value = config.get(name, needed)
        if type(value) not in (bool, int, type(None)) or (value or 0) != needed:
            raise GanvasError(
                f"{budget.origin} has the setting {name} {format_printable(value)}: only {needed} can be read."
            )
    if loss not in LINEAR_LOSSES + TANH_LOSSES:
        choices = ", ".join(LINEAR_LOSSES + TANH_LOSSES)
        raise GanvasError(f"{budget.origin} has the loss {format_printable(loss)}: {choices} can be read.")
    equalized = config.get("equalizedlR", True)
    if type(equalized) is not bool:
        raise GanvasError(
            f"{budget.origin} has the setting equalizedlR {format_printable(equalized)}: true or false is needed."
        )
    options = {"lod": config.get("alpha", 0), "slope": slope, "tanh": loss in TANH_LOSSES}
    return _scale(taken, {}, biases=True) if equalized else taken, options


def _convert_genforce(weights: Mapping[str, Tensor], budget: ReadBudget) -> tuple[dict[str, Tensor], dict[str, Any]]:
    blocks = 1
    while f"layer{2 * blocks}.weight" in weights:
        blocks += 1
    names = {"dense": "layer0", "b0.conv1": "layer1"}
    for i in range(blocks):
        names |= {f"b{i}.conv{k}": f"layer{2 * i + k}" for k in (0, 1) if i} | {f"b{i}.output": f"output{i}"}
    renamed = {f"{new}.{part}": f"{old}.{part}" for new, old in names.items() for part in ("weight", "bias")}
    _check_names(weights, [*renamed.values(), "lod"], budget)
    taken = {new: _take(weights, old, budget) for new, old in renamed.items()}
    if tuple(taken["dense.weight"].shape[2:]) != (FIRST_SIDE, FIRST_SIDE):
        raise GanvasError(
            f"{budget.origin} has layer0.weight of shape {tuple(taken['dense.weight'].shape)}: 4×4 is expected."
        )
    for i in range(1, blocks):  # where axes show it, a layer that doubles and convolves in one
        kernel, inputs = taken[f"b{i}.conv0.weight"], taken[f"b{i - 1}.conv1.weight"].shape[0]
        if kernel.ndim == 4 and kernel.shape[0] == inputs != kernel.shape[1]:
            raise GanvasError(f"{budget.origin} has layer{2 * i}.weight for fused_scale, which can't be read.")
    state = _scale(taken, {"output": 1.0})
    kernel = state["dense.weight"].flip(2, 3)
    state["dense.weight"] = kernel.permute(0, 2, 3, 1).flatten(0, 2)
    state["dense.bias"] = state["dense.bias"].repeat_interleave(FIRST_SIDE**2)
    if "lod" not in weights:  # integers aren't read
        raise GanvasError(f"{budget.origin} has a level of detail that is no floating-point number.")
    return state, {"lod": _read_lod(weights["lod"], budget)}


def _scale(weights: Mapping[str, Tensor], gains: Mapping[str, float], biases: bool = False) -> dict[str, Tensor]:
    """Multiply weights by the equalized learning rate's factor, gain / √inputs; ``gains``: by the last word of a layer's name."""
    scaled = dict(weights)
    for name, value in weights.items():
        layer, _, part = name.rpartition(".")
        if part == "weight":
            factor = gains.get(layer.rpartition(".")[2], HE_GAIN) / sqrt(max(1, prod(value.shape[1:])))
            scaled[name] = value * factor
            if biases:
                scaled[f"{layer}.bias"] = weights[f"{layer}.bias"] * factor
    return scaled


def _read_lod(value: Tensor | None, budget: ReadBudget) -> float:
    if value is None:
        return 0.0
    if value.numel() != 1:
        raise GanvasError(f"{budget.origin} has a level of detail of shape {tuple(value.shape)}: a number is expected.")
    return float(value)


def _take(weights: Mapping[str, Tensor], name: str, budget: ReadBudget) -> Tensor:
    if name not in weights or not weights[name].numel():
        raise GanvasError(f"{budget.origin} lacks the weights {name}: it isn't a whole Progressive GAN.")
    if weights[name].ndim not in ((1,) if name.endswith("bias") else (2, 4)):
        raise GanvasError(
            f"{budget.origin} has {name} of shape {tuple(weights[name].shape)}: it isn't a Progressive GAN's."
        )
    return weights[name]


def _check_names(weights: Mapping[str, Tensor], names: Any, budget: ReadBudget) -> None:
    """Raise GanvasError for weights that the layout doesn't have."""
    for name in weights.keys() - set(names):
        raise GanvasError(
            f"{budget.origin} has a weight {format_printable(name)!r}, which Progressive GAN doesn't have."
        )
