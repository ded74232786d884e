"""Plain state dicts of StyleGAN2 networks in the names of NVIDIA's stylegan2-ada-pytorch.

https://github.com/NVlabs/stylegan2-ada-pytorch (training/networks.py): ``torch.save(G_ema.state_dict())``, names such as
``synthesis.b4.conv1.affine.weight`` and ``mapping.fc0.weight``, perhaps below a prefix. Sizes follow from the weights' shapes.
What only the module's attributes say, the learning rate multiplier of the mapping and the clamp of activations, is taken from
the defaults of NVIDIA's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ganvas.checkpoints._budget import ReadBudget
from ganvas.checkpoints._mean import complete_mean
from ganvas.checkpoints._networks import StoredNetwork, describe_choice
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.checkpoints.nvidia import check_filters, check_picture, find_architecture
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import RESOLUTIONS, StyleGAN2Architecture

MARKER_NAMES = ("synthesis.b4.const", "synthesis.b4.conv1.affine.weight", "mapping.fc0.weight")
MULTIPLIER = 0.01
FILTER_NAME = "resample_filter"


def read(parts: Sequence[StoredNetwork], networks: Sequence[StoredNetwork], budget: ReadBudget) -> Checkpoint:
    """Read the first of ``parts``, the generators of this layout. Raises GanvasError for weights that aren't such a network's."""
    stored = parts[0].weights
    shape = _find_shape(stored, budget)
    notes = [*describe_choice(parts), f"doesn't say the learning rate multiplier of its mapping: {MULTIPLIER} is taken"]
    state = read_tensors(stored, budget, {name: name for name in stored if not name.endswith(FILTER_NAME)})
    check_filters(read_tensors(stored, budget, {k: k for k in stored if k.endswith(FILTER_NAME)}), budget)
    if not any(name.endswith("noise_const") for name in stored):
        notes.append("has no noise")
        sizes = shape.list_weight_shapes().items()
        state |= {k: torch.zeros(size) for k, size in sizes if k.endswith(("noise_const", "noise_strength"))}
    state["mapping.w_avg"], remarks = complete_mean(state, shape, StyleGAN2, parts[:1], budget)
    metadata = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    return Checkpoint("stylegan2", "a state dict of NVIDIA's", state, metadata, (*notes, *remarks))


def _find_shape(stored: Mapping[str, StoredTensor], budget: ReadBudget) -> StyleGAN2Architecture:
    check_picture(stored, budget)
    blocks = [side for side in (4, *RESOLUTIONS) if f"synthesis.b{side}.conv1.weight" in stored]
    mapping = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in stored)
    embedded, labels = (
        _get_matrix(stored, "mapping.embed.weight", budget) if "mapping.embed.weight" in stored else (0, 0)
    )
    w_dim = _get_matrix(stored, f"mapping.fc{mapping - 1}.weight", budget)[0]
    colours = stored.get(f"synthesis.b{blocks[-1]}.torgb.weight" if blocks else "")
    if not blocks or colours is None or not colours.shape:
        raise GanvasError(f"{budget.origin} lacks the weights of the last block: it isn't a whole StyleGAN2.")
    return StyleGAN2Architecture(
        blocks[-1],
        tuple((*stored[f"synthesis.b{side}.conv1.weight"].shape, 0)[0] for side in blocks),
        z_dim=_get_matrix(stored, "mapping.fc0.weight", budget)[1] - embedded,
        w_dim=w_dim,
        num_labels=labels,
        colours=colours.shape[0],
        mapping_layers=mapping,
        learning_rate_multiplier=MULTIPLIER,
        architecture=find_architecture(stored),
        embed_features=None if embedded in (0, w_dim) else embedded,
    )


def _get_matrix(stored: Mapping[str, StoredTensor], name: str, budget: ReadBudget) -> tuple[int, int]:
    shape = stored[name].shape if name in stored else ()
    if len(shape) != 2:
        raise GanvasError(f"{budget.origin} has no matrix {name}: it isn't a whole StyleGAN2.")
    return shape[0], shape[1]
