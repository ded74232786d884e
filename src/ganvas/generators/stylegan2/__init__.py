"""StyleGAN2: mapping network, modulated convolutions, constant noise; any power of two from 8 to 1024, grey or colour.

Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958. Weights keep
the names and meaning of NVIDIA's stylegan2-ada-pytorch; what is computed with them is in ``layers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.generators.base import (
    Generator,
    check_codes,
    check_labels,
    check_resolution,
    check_weights,
    copy_contiguous,
    shrink,
)
from ganvas.generators.stylegan2 import layers
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.io import hub
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z
from ganvas.validation import parse

KIND, FAMILY, VERSION = "generator", "stylegan2", 1


def load(card: hub.Card, device: torch.device, dtype: torch.dtype) -> StyleGAN2:
    """Load the network that ``card`` describes, on ``device``; its weights ship with the package.

    Raises GanvasError where they are missing.
    """
    path = Path(__file__).parent.parent.parent / "assets" / "generators" / f"{card.name}.safetensors"
    return read_generator(path, card.name, dtype).to(device)


def read_generator(path: str | Path, name: str = "", dtype: torch.dtype = torch.float32) -> StyleGAN2:
    """Read the generator in a safetensors file that ``save_generator`` wrote; its name is by default the file's.

    Raises GanvasError for a file that is missing or damaged, or holds something else.
    """
    state, metadata = load_tensors(path)
    if (metadata.get("kind"), metadata.get("family"), metadata.get("version")) != (KIND, FAMILY, VERSION):
        raise GanvasError(f"{path} isn't a StyleGAN2 generator that ganvas wrote.")
    shape = parse(StyleGAN2Architecture, metadata.get("shape"), f"{path} is damaged", complete=True)
    return StyleGAN2(state, shape, name or Path(path).stem, dtype)


def save_generator(
    path: str | Path,
    state: Mapping[str, Tensor],
    shape: StyleGAN2Architecture,
    dtype: torch.dtype = torch.float32,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights of a generator in ``dtype``, with its architecture and a description of its training (JSON)."""
    metadata = {
        "kind": KIND,
        "family": FAMILY,
        "version": VERSION,
        "shape": shape.to_dict(),
        "training": training or {},
    }
    save_tensors(path, {name: value.to(dtype) for name, value in state.items()}, metadata)


class StyleGAN2(Generator):
    """A frozen StyleGAN2.

    W+ has one row for each 3×3 convolution and one for the last output layer; with skips, the output layer of a block
    shares its row with the convolution that follows, as NVIDIA's does.
    ``state`` holds float32 (or float16) weights by the names of ``shape.list_weight_shapes()``.
    """

    w_slope = 0.2

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: StyleGAN2Architecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` isn't the weights of such a network."""
        super().__init__()
        self.name, self.shape, self.dtype = name, shape, dtype
        self.z_dim, self.w_dim, self.num_labels = shape.z_dim, shape.w_dim, shape.num_labels
        self.resolution, self.row_resolutions = shape.resolution, shape.row_resolutions
        state = {name: value.float() for name, value in state.items()}
        check_weights(state, shape.list_weight_shapes(), "StyleGAN2")
        # Equal weights that are used in another way are another generator.
        self.fingerprint = hash_weights([*state.items(), *((way, torch.zeros(0)) for way in shape.unusual_settings)])
        self.w_avg = nn.Buffer(state["mapping.w_avg"].clone())
        with torch.no_grad():
            folded = layers.fold_weights(state, shape, dtype)
        self.weights = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in folded.items()})
        self.requires_grad_(False)

    def _folded(self) -> dict[str, Tensor]:
        return {key.replace("/", "."): value for key, value in self.weights.items()}

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Map codes of Z to W; a conditional generator needs labels (n, num_labels), and no other takes them."""
        check_labels(self, z, labels)
        return layers.mapping(self._folded(), self.shape, z, labels)

    def style_weights(self) -> list[Tensor]:
        """Return the affine layer of each row's convolution, and for the last row that of the output layer."""
        names = [layer.name for layer in self.shape.iterate_layers()] + [list(self.shape.iterate_outputs())[-1].name]
        return [self.weights[f"{name}.affine.weight".replace(".", "/")] for name in names]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32; a grey generator repeats its channel.

        With skips (and no tanh), smaller pictures are the sum of the output layers up to their resolution.
        """
        check_codes(self, ws)
        size = check_resolution(self, resolution)
        images = layers.synthesis(self._folded(), self.shape, copy_contiguous(ws), resolution=size)
        return shrink(images, size).expand(-1, 3, -1, -1)
