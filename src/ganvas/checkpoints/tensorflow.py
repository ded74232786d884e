"""StyleGAN, StyleGAN2 and Progressive GAN networks as NVIDIA's code for TensorFlow pickles them.

https://github.com/NVlabs/stylegan, https://github.com/NVlabs/stylegan2 and https://github.com/NVlabs/stylegan2-ada
(dnnlib/tflib/network.py), https://github.com/tkarras/progressive_growing_of_gans (tfutil.py): objects of the class
``dnnlib.tflib.network.Network`` or ``tfutil.Network``, (G, D, Gs) or one, of which Gs has the averaged weights.
Each has ``variables``, pairs of a name and a NumPy array, ``components`` (``synthesis`` and ``mapping``, networks themselves),
``static_kwargs``, and the source text of its module to be run when it is loaded, which is skipped here.

Kernels lie as (height, width, in, out), matrices as (in, out). Those of StyleGAN2's layers that double are stored the other way
round, and styles without the 1 that is added to them: as legacy.py of https://github.com/NVlabs/stylegan2-ada-pytorch reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ganvas.checkpoints import pggan, stylegan1
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._layout import count_layers, get_length, take_weight
from ganvas.checkpoints._numpy import build_vocabulary as build_numpy_vocabulary
from ganvas.checkpoints._numpy import convert_array
from ganvas.checkpoints._pickle import ObjectRecord, PickleMachine, Vocabulary
from ganvas.checkpoints._torch import MAX_NAME_LENGTH, StoredTensor, TorchStorage, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION
from ganvas.generators.stylegan2.architecture import RESOLUTIONS, StyleGAN2Architecture

NETWORK_CLASSES = (("dnnlib.tflib.network", "Network"), ("tfutil", "Network"))
"""The class of networks, and its name in the older code of Progressive GAN."""
HEAD_BYTES = 4096
"""Where a pickle of such networks names their class."""
NETWORKS = ("G", "G_ema", "Gs")
"""The networks of a mapping that are taken: the last of these that there is, which is the averaged one."""
MAX_DEPTH, MAX_VARIABLES, MAX_LISTED = 4, 10_000, 8
"""Components inside one another, variables in all, and the most names in a message."""
STYLEGAN1_MARKER, STYLEGAN2_MARKER = "synthesis/4x4/Const/StyleMod/weight", "synthesis/4x4/Conv/mod_weight"
STYLEGAN1_SETTINGS = {
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "use_wscale": True,
    "use_styles": True,
    "use_pixel_norm": False,
    "use_instance_norm": True,
    "blur_filter": [1, 2, 1],
}
STYLEGAN2_SETTINGS = {
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "resample_kernel": [1, 3, 3, 1],
}
PGGAN_SETTINGS = {
    "normalize_latents": True,
    "use_wscale": True,
    "use_pixelnorm": True,
    "use_leakyrelu": True,
    "pixelnorm_epsilon": 1e-8,
    "label_size": 0,
}
"""Settings that change what is computed: the values that are read, which are the defaults."""
UNFUSED = 2**20
"""A resolution that no network reaches."""


@dataclass(frozen=True)
class TensorFlowNetwork:
    """A network of a file: its name, its settings, and its variables, a component's after its name and a slash."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, StoredTensor] = field(default_factory=dict)


def is_pickle(data: memoryview) -> bool:
    """Return whether a pickle begins with networks of TensorFlow."""
    head = bytes(data[:HEAD_BYTES])
    return any(module.encode() in head for module, _ in NETWORK_CLASSES)


def read(data: memoryview, budget: ReadBudget) -> Checkpoint:
    """Read the generator in a pickle. Raises GanvasError for any other pickle."""
    networks = read_networks(data, budget)
    held = ", ".join(format_printable(name) for name, _ in networks[:MAX_LISTED]) or "no network"
    generators = [(name, network) for name, network in networks if _is_generator(network)]
    if not generators:
        needed = "a generator of StyleGAN, StyleGAN2 or Progressive GAN is needed"
        raise GanvasError(f"{budget.origin} is a pickle of TensorFlow with {held}: {needed}.")
    name, network = generators[-1]
    last = "the last " if [each for each, _ in networks].count(name) > 1 else ""
    note = f"holds {held}" + (f"; {last}{format_printable(name)} is read" if len(networks) > 1 else "")
    weights = read_tensors(network.variables, budget)
    weights = {key: _transpose(value) if key.endswith("weight") else value for key, value in weights.items()}
    if STYLEGAN1_MARKER in weights:
        shape, state, notes = _convert_stylegan1(weights, network.settings, budget)
        return stylegan1.build_checkpoint("StyleGAN's pickle of TensorFlow", shape, state, [note, *notes])
    if STYLEGAN2_MARKER not in weights:
        _check_settings(network.settings, PGGAN_SETTINGS, budget)
        checkpoint = pggan.convert_tensorflow(weights, budget)
        return replace(checkpoint, notes=(note, *checkpoint.notes))
    own, architecture, notes = _convert_stylegan2(weights, network.settings, budget)
    metadata = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": architecture}
    return Checkpoint("stylegan2", "StyleGAN2's pickle of TensorFlow", own, metadata, (note, *notes))


def _is_generator(network: TensorFlowNetwork) -> bool:
    markers = ((STYLEGAN1_MARKER,), (STYLEGAN2_MARKER,), pggan.TENSORFLOW_MARKERS)
    return any(all(name in network.variables for name in each) for each in markers)


# Networks.


def build_vocabulary() -> Vocabulary:
    """Build the vocabulary of TensorFlow's pickles: networks and mappings that do nothing, and NumPy's arrays."""
    return {
        **build_numpy_vocabulary(),
        **{home: lambda: ObjectRecord("Network") for home in NETWORK_CLASSES},
        ("dnnlib.util", "EasyDict"): lambda: {},
        ("collections", "OrderedDict"): lambda: {},
    }


def read_networks(data: memoryview, budget: ReadBudget) -> list[tuple[str, TensorFlowNetwork]]:
    """Read the networks of a pickle, with their names, in the order (G, D, Gs): the averaged generator comes last.

    A mapping's networks have the names of its keys. Raises GanvasError for damaged ones.
    """
    value = PickleMachine(data, build_vocabulary(), budget).run()
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: NETWORKS.index(item[0]) if item[0] in NETWORKS else -1)
    else:
        items = [(None, item) for item in (value if isinstance(value, tuple | list) else [value])]
    storages: dict[Any, TorchStorage] = {}
    networks = []
    for key, record in items:
        if _is_network(record):
            network = _read_network(record, storages, budget)
            networks.append((key if isinstance(key, str) else network.name, network))
    return networks


def _is_network(value: Any) -> bool:
    return isinstance(value, ObjectRecord) and value.kind == "Network"


def _read_network(record: ObjectRecord, storages: dict[Any, TorchStorage], budget: ReadBudget) -> TensorFlowNetwork:
    name = record.state.get("name")
    network = TensorFlowNetwork(name if isinstance(name, str) else "a network")
    for start, part in _walk(record, "", 0, budget):
        settings, variables = part.state.get("static_kwargs"), part.state.get("variables")
        settings, variables = (
            settings if isinstance(settings, dict) else {},
            variables if isinstance(variables, list) else [],
        )
        budget.spend(len(settings) + len(variables))  # one list can be given to many networks
        network.settings.update(settings)
        for pair in variables:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                raise budget.damage("a variable in it isn't a name with a value")
            full = start + pair[0]
            if len(full) > MAX_NAME_LENGTH or full in network.variables or len(network.variables) >= MAX_VARIABLES:
                raise budget.refusal(f"has the variable {format_printable(full)} twice, or too many or too long names")
            if isinstance(pair[1], ObjectRecord):
                network.variables[full] = convert_array(pair[1], storages, budget)
    return network


def _walk(record: ObjectRecord, start: str, depth: int, budget: ReadBudget) -> Iterator[tuple[str, ObjectRecord]]:
    """Yield a network and its components, with what their variables' names begin with."""
    budget.spend(1)
    if depth > MAX_DEPTH:
        raise budget.refusal("nests more networks than a generator has")
    yield start, record
    components = record.state.get("components")
    for key, part in components.items() if isinstance(components, dict) else ():
        if _is_network(part):
            yield from _walk(part, f"{start}{key}/", depth + 1, budget)


def _count_blocks(weights: Mapping[str, Tensor]) -> int:
    """Count the resolutions, 4 included."""
    return 1 + next(i for i in range(len(weights) + 1) if f"synthesis/{8 << i}x{8 << i}/Conv1/weight" not in weights)


def _transpose(value: Tensor) -> Tensor:
    """Bring a kernel (height, width, in, out) or a matrix (in, out) into PyTorch's order."""
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value


def _check_settings(settings: Mapping[str, Any], expected: Mapping[str, Any], budget: ReadBudget) -> None:
    for name, value in expected.items():
        found = settings.get(name, value)
        if type(found) not in (type(value), tuple) or (list(found) if isinstance(value, list) else found) != value:
            plain = isinstance(found, list | tuple) and all(type(n) in (int, float) for n in found)
            shown = format_printable(str([*found[:MAX_LISTED]]) if plain else found)
            raise GanvasError(f"{budget.origin} has {name} {shown}: only {value} can be read.")


def _get_positive(settings: Mapping[str, Any], name: str, default: float, budget: ReadBudget) -> float:
    value = settings.get(name, default)
    if type(value) not in (int, float) or not 0 < value < 1e6:
        raise GanvasError(f"{budget.origin} has {name} {format_printable(value)}: a positive number is expected.")
    return float(value)


# StyleGAN.


def _convert_stylegan1(
    weights: dict[str, Tensor], settings: Mapping[str, Any], budget: ReadBudget
) -> tuple[Any, dict[str, Tensor], list[str]]:
    """Convert variables by giving them genforce's names."""
    _check_settings(settings, STYLEGAN1_SETTINGS, budget)
    fused = settings.get("fused_scale", "auto")
    if fused not in (True, False, "auto"):
        raise GanvasError(
            f"{budget.origin} has fused_scale {format_printable(fused)}: True, False or auto is expected."
        )
    start = {"auto": stylegan1.GENFORCE_FUSED_RESOLUTION, True: 0, False: UNFUSED}[fused]
    names = _list_stylegan1_names(_count_blocks(weights), count_layers(weights, "mapping/Dense{}/weight"))
    # The level of detail of the whole network is copied into its synthesis network before each picture.
    unused = {"synthesis/lod"} if "lod" in weights else {"lod"}
    renamed = {names.get(name, name): value for name, value in weights.items() if name not in unused}
    if "mapping.label_weight" in renamed:
        renamed["mapping.label_weight"] = renamed["mapping.label_weight"].T
    rate = _get_positive(settings, "mapping_lrmul", stylegan1.GENFORCE_RATE, budget)
    return stylegan1.convert_genforce(renamed, budget, rate, start)


def _list_stylegan1_names(blocks: int, depth: int) -> dict[str, str]:
    """List TensorFlow's name -> genforce's name of every variable."""
    names = {
        "dlatent_avg": "truncation.w_avg",
        "lod": "synthesis.lod",
        "synthesis/lod": "synthesis.lod",
        "mapping/LabelConcat/weight": "mapping.label_weight",
        "synthesis/4x4/Const/const": "synthesis.layer0.const",
    }
    for i in range(depth):
        names |= {f"mapping/Dense{i}/{part}": f"mapping.dense{i}.{part}" for part in ("weight", "bias")}
    for i in range(2 * blocks):
        side = 4 << (i // 2)
        layer = ("Const", "Conv")[i] if i < 2 else ("Conv0_up", "Conv1")[i % 2]
        here, there = f"synthesis/{side}x{side}/{layer}", f"synthesis.layer{i}"
        names |= {
            f"{here}/weight": f"{there}.weight",
            f"{here}/bias": f"{there}.bias",
            f"{here}/StyleMod/weight": f"{there}.style.weight",
            f"{here}/StyleMod/bias": f"{there}.style.bias",
            f"{here}/Noise/weight": f"{there}.apply_noise.weight",
            f"synthesis/noise{i}": f"{there}.apply_noise.noise",
        }
    for i in range(blocks):
        here, there = f"synthesis/ToRGB_lod{blocks - 1 - i}", f"synthesis.output{i}"
        names |= {f"{here}/{part}": f"{there}.{part}" for part in ("weight", "bias")}
    return names


# StyleGAN2.


def _convert_stylegan2(
    weights: dict[str, Tensor], settings: Mapping[str, Any], budget: ReadBudget
) -> tuple[dict[str, Tensor], StyleGAN2Architecture, list[str]]:
    _check_settings(settings, STYLEGAN2_SETTINGS, budget)
    blocks = _count_blocks(weights)
    joint = "mapping/LabelConcat/weight" in weights
    weights = _rename_first_versions(weights, 2 << blocks, budget)
    shape = _find_stylegan2_shape(weights, settings, blocks, joint, budget)
    silent = not any(name.endswith("noise_strength") for name in weights)  # networks that were built without noise
    names, own = _list_stylegan2_names(shape), {}
    for name, size in shape.list_weight_shapes().items():
        if silent and "noise" in name:
            own[name] = torch.zeros(size)
            continue
        value = take_weight(weights, names[name], size, budget)
        if name.endswith(("conv0.weight", "skip.weight")):
            value = value.flip(2, 3)
        own[name] = (value + 1 if name.endswith("affine.bias") else value).contiguous()
    for name in weights:
        if name not in names.values() and name.rpartition("/")[2] != "lod":
            raise GanvasError(f"{budget.origin} has {format_printable(name)!r}, which no StyleGAN2 has.")
    return own, shape, ["has no noise"] if silent else []


def _rename_first_versions(weights: dict[str, Tensor], resolution: int, budget: ReadBudget) -> dict[str, Tensor]:
    """Give the variables that only NVIDIA's first code has the names and gains of the others.

    Its configurations B to D have one output layer for each step of progressive growing, of which the last is used. Its
    conditional networks multiply labels by a matrix, without a bias or a gain, and normalize z and the product together.
    """
    first = "synthesis/ToRGB_lod"
    if f"{first}0/weight" in weights:
        level = weights.get("lod", torch.zeros(())).flatten()
        if level.numel() != 1 or float(level) != 0:
            raise GanvasError(
                f"{budget.origin} was saved before it grew to its {resolution} pixels, which can't be read."
            )
        last = {name.replace(f"{first}0/", f"synthesis/{resolution}x{resolution}/ToRGB/"): name for name in weights}
        weights = {name: weights[old] for name, old in last.items() if not name.startswith(first)}
    label = weights.get("mapping/LabelConcat/weight")
    if label is not None and label.ndim == 2:
        size, count = label.shape
        embedded = {"mapping/LabelEmbed/weight": label * count**0.5, "mapping/LabelEmbed/bias": torch.zeros(size)}
        weights = {name: value for name, value in weights.items() if name != "mapping/LabelConcat/weight"} | embedded
    return weights


def _find_stylegan2_shape(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], blocks: int, joint: bool, budget: ReadBudget
) -> StyleGAN2Architecture:
    resolution = 2 << blocks
    if resolution not in RESOLUTIONS:
        raise GanvasError(
            f"{budget.origin} has a StyleGAN2 of {resolution} pixels: only {', '.join(map(str, RESOLUTIONS))} can be read."
        )
    final = f"synthesis/{resolution}x{resolution}/ToRGB/weight"
    sides = [4 << i for i in range(blocks)]
    kernels = [f"synthesis/{side}x{side}/{'Conv' if side == 4 else 'Conv1'}/weight" for side in sides]
    labels = "mapping/LabelEmbed/weight" in weights
    embedded = get_length(weights, "mapping/LabelEmbed/weight", 0, 2, budget) if labels else 0
    w_dim = get_length(weights, STYLEGAN2_MARKER, 1, 2, budget)
    clamp = settings.get("conv_clamp")
    return StyleGAN2Architecture(
        resolution,
        tuple(get_length(weights, kernel, 0, 4, budget) for kernel in kernels),
        z_dim=get_length(weights, "mapping/Dense0/weight", 1, 2, budget) - embedded,
        w_dim=w_dim,
        num_labels=get_length(weights, "mapping/LabelEmbed/weight", 1, 2, budget) if labels else 0,
        colours=get_length(weights, final, 0, 4, budget),
        mapping_layers=count_layers(weights, "mapping/Dense{}/weight"),
        learning_rate_multiplier=_get_positive(settings, "mapping_lrmul", 0.01, budget),
        architecture=_find_architecture(weights),
        clamp=None if clamp is None else _get_positive(settings, "conv_clamp", 0.0, budget),
        embed_features=embedded if labels and embedded != w_dim else None,
        joint_labels=joint,
    )


def _find_architecture(weights: Mapping[str, Tensor]) -> Literal["skip", "resnet", "orig"]:
    if "synthesis/4x4/ToRGB/weight" in weights:
        return "skip"
    return "resnet" if "synthesis/8x8/Skip/weight" in weights else "orig"


def _list_stylegan2_names(shape: StyleGAN2Architecture) -> dict[str, str]:
    """List ganvas's name -> TensorFlow's name of every variable."""
    names = {"mapping.w_avg": "dlatent_avg", "synthesis.b4.const": "synthesis/4x4/Const/const"}
    parts = ("weight", "bias")
    if shape.num_labels:
        names |= {f"mapping.embed.{part}": f"mapping/LabelEmbed/{part}" for part in parts}
    for i in range(shape.mapping_layers):
        names |= {f"mapping.fc{i}.{part}": f"mapping/Dense{i}/{part}" for part in parts}
    for layer in (*shape.iterate_layers(), *shape.iterate_outputs()):
        kind, side = layer.name.rpartition(".")[2], layer.resolution
        there = {"conv0": "Conv0_up", "conv1": "Conv" if side == 4 else "Conv1", "torgb": "ToRGB"}[kind]
        start = f"synthesis/{side}x{side}"
        names |= {f"{layer.name}.{part}": f"{start}/{there}/{part}" for part in (*parts, "noise_strength")}
        names |= {f"{layer.name}.affine.{part}": f"{start}/{there}/mod_{part}" for part in parts}
        if kind != "torgb":
            names[f"{layer.name}.noise_const"] = f"synthesis/noise{layer.row}"
        names[f"synthesis.b{side}.skip.weight"] = f"{start}/Skip/weight"
    return names
