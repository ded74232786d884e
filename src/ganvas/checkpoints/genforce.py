"""StyleGAN2 generators in the names of genforce.

https://github.com/genforce/genforce (models/stylegan2_generator.py, converters/): ``generator_smooth`` and perhaps
``generator``, with ``mapping.dense0``, ``truncation.w_avg``, ``synthesis.early_layer.const``, ``synthesis.layer0`` (one for each
3×3 convolution) and ``synthesis.output0`` (one for each output). The styles' bias is stored without the 1 that is added to it,
and kernels that double the resolution are turned by 180° (as in TensorFlow's files).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._mean import MEAN_NAMES, complete_mean
from ganvas.checkpoints._networks import StoredNetwork, describe_choice
from ganvas.checkpoints._torch import read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.checkpoints.nvidia import check_channels
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

MARKER_NAMES = (
    "synthesis.early_layer.const",
    "mapping.dense0.weight",
    "synthesis.layer0.noise",
    "synthesis.layer0.style.weight",
)
"""Weights that StyleGAN2 has: StyleGAN1's layers have their noise elsewhere."""
SKIPPED_SUFFIXES = (".kernel",)
"""Ends of names of weights that are always the same: kernels of the blur."""
MAX_LAYERS = 17
"""The 3×3 convolutions of a generator of 1024 pixels."""


def read(parts: Sequence[StoredNetwork], networks: Sequence[StoredNetwork], budget: ReadBudget) -> Checkpoint:
    """Read the first of ``parts``, the generators of this layout. Raises GanvasError for weights that aren't such a network's."""
    stored = parts[0].weights
    if "mapping.label_weight" in stored:
        raise GanvasError(
            f"{budget.origin} is a conditional StyleGAN2 of genforce's, which can't be read: unconditional ones can."
        )
    shape = _find_shape(parts[0], budget)
    names = _list_names(shape)
    weights = read_tensors(stored, budget)
    state: dict[str, Tensor] = {}
    for new, size in shape.list_weight_shapes().items():
        old = names.get(new)
        if old is None or old not in weights:
            continue  # the caller's ``build_generator`` says what is missing
        if [n for n in weights[old].shape if n != 1] != [n for n in size if n != 1]:
            raise GanvasError(f"{budget.origin} has {old} of shape {tuple(weights[old].shape)}, where {size} belongs.")
        state[new] = weights[old].reshape(size) + (1 if new.endswith("affine.bias") else 0)
        if new.endswith("conv0.weight"):
            state[new] = state[new].flip(2, 3)
    for name in weights.keys() - set(names.values()):
        if not name.endswith(SKIPPED_SUFFIXES) and name.rpartition(".")[2] not in (*MEAN_NAMES, "lod"):
            raise GanvasError(
                f"{budget.origin} has a weight {format_printable(name)!r}, which genforce's StyleGAN2 doesn't have."
            )
    state["mapping.w_avg"], remarks = complete_mean(state, shape, StyleGAN2, [parts[0], *networks], budget)
    metadata = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    return Checkpoint("stylegan2", "genforce's checkpoint", state, metadata, (*describe_choice(parts), *remarks))


def _find_shape(network: StoredNetwork, budget: ReadBudget) -> StyleGAN2Architecture:
    stored = {name: value.shape for name, value in network.weights.items()}
    convolutions = sum(f"synthesis.layer{i}.weight" in stored for i in range(MAX_LAYERS))
    widths = [(*stored.get(f"synthesis.layer{i}.weight", ()), 0)[0] for i in range(0, convolutions, 2)]
    last = stored.get(f"synthesis.output{convolutions // 2}.weight")
    first = stored["mapping.dense0.weight"]
    depth = sum(name.startswith("mapping.dense") and name.endswith(".weight") for name in stored)
    final = stored.get(f"mapping.dense{depth - 1}.weight", ())
    if convolutions % 2 == 0 or 0 in widths or not last or len(first) != 2 or len(final) != 2:
        raise GanvasError(f"{budget.origin} lacks weights of genforce's StyleGAN2: it isn't a whole one.")
    start = stored["synthesis.early_layer.const"][-2:]
    if start != (4, 4):
        raise GanvasError(f"{budget.origin} has a constant input of shape {start}: only 4×4 can be read.")
    check_channels(last[0], budget)
    return StyleGAN2Architecture(
        4 << convolutions // 2,
        tuple(widths),
        first[1],
        final[0],
        colours=last[0],
        mapping_layers=depth,
        architecture="skip" if "synthesis.output0.weight" in stored else "orig",
    )


def _list_names(shape: StyleGAN2Architecture) -> dict[str, str]:
    """List ganvas's name -> genforce's name of every weight but the mean of W."""
    names = {"synthesis.b4.const": "synthesis.early_layer.const"}
    for i in range(shape.mapping_layers):
        names |= {f"mapping.fc{i}.{part}": f"mapping.dense{i}.{part}" for part in ("weight", "bias")}
    parts = {"weight": "weight", "bias": "bias", "affine.weight": "style.weight", "affine.bias": "style.bias"}
    noise = {"noise_const": "noise", "noise_strength": "noise_strength"}
    for layer in shape.iterate_layers():
        names |= {f"{layer.name}.{new}": f"synthesis.layer{layer.row}.{old}" for new, old in (parts | noise).items()}
    for layer in shape.iterate_outputs():
        names |= {f"{layer.name}.{new}": f"synthesis.output{layer.row // 2}.{old}" for new, old in parts.items()}
    return names
