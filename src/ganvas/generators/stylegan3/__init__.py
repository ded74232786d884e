"""StyleGAN3-T and -R: alias-free layers between filters, Fourier features in place of a learned constant, no noise.

Karras et al., *Alias-Free Generative Adversarial Networks*, 2021, https://arxiv.org/abs/2106.12423. Weights keep the names and
meaning of NVIDIA's stylegan3, https://github.com/NVlabs/stylegan3; what is computed with them is in ``layers``.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict

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
from ganvas.generators.stylegan2.layers import mapping
from ganvas.generators.stylegan3 import layers
from ganvas.generators.stylegan3.architecture import StyleGAN3Architecture
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z

KIND, FAMILY, VERSION = "generator", "stylegan3", 1


class StyleGAN3(Generator):
    """A frozen StyleGAN3.

    W+ has one row for the Fourier features, which says where the picture lies, and one for each layer. ``set_transform`` turns
    and moves all pictures, ``with_transform`` those of a copy; it is no part of the fingerprint. ``state`` holds weights by the
    names of ``shape.list_weight_shapes()``.
    """

    has_stylegan2_rows = False
    w_slope = 0.2

    transform: Tensor
    """The matrix (3, 3) that the places of pixels are multiplied by, in homogeneous coordinates whose unit is the picture's
    width: the inverse of what happens to the picture. At first it is the file's, mostly the identity."""

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: StyleGAN3Architecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` isn't the weights of such a network."""
        super().__init__()
        self.name, self.shape, self.dtype = name, shape, dtype
        self.z_dim, self.w_dim, self.num_labels = shape.z_dim, shape.w_dim, shape.num_labels
        self.resolution, self.row_resolutions = shape.resolution, shape.row_resolutions
        state = {name: value.float() for name, value in state.items()}
        check_weights(state, shape.list_weight_shapes(), "StyleGAN3")
        for key, value in state.items():
            if key.endswith("magnitude_ema") and value <= 0:
                raise GanvasError(f"These are not the weights of such a StyleGAN3: {key!r} is {float(value):g}.")
        # Equal weights that are used in another way are another generator.
        self.fingerprint = hash_weights({**state, json.dumps(asdict(shape), sort_keys=True): torch.zeros(0)}.items())
        self.w_avg = nn.Buffer(state["mapping.w_avg"].clone())
        self.transform = nn.Buffer(state["synthesis.input.transform"].clone())
        with torch.no_grad():
            folded = layers.fold_weights(state, shape, dtype)
        self.weights = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in folded.items()})
        self.requires_grad_(False)

    def _folded(self) -> dict[str, Tensor]:
        return {key.replace("/", "."): value for key, value in self.weights.items()}

    def set_transform(self, angle: float = 0.0, x: float = 0.0, y: float = 0.0) -> None:
        """Turn and move all pictures that are drawn from now on; without values they lie as the codes say.

        Args:
            angle: Degrees anticlockwise, around the picture's centre.
            x: How far pictures move to the right after that, in widths of a picture.
            y: How far they move down, in the same unit.

        Raises:
            GanvasError: A value isn't finite.
        """
        if not all(map(math.isfinite, (angle, x, y))):
            raise GanvasError(f"A transform needs finite numbers, not {angle}, {x} and {y}.")
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        forward = torch.tensor([[cosine, sine, x], [-sine, cosine, y], [0, 0, 1]], dtype=torch.float64)
        self.transform.copy_(torch.linalg.inv(forward))

    def with_transform(self, angle: float = 0.0, x: float = 0.0, y: float = 0.0) -> StyleGAN3:
        """Return a generator of the same weights, in the same memory, whose pictures are turned and moved.

        Args:
            angle: Degrees anticlockwise, as of ``set_transform``.
            x: Widths of a picture to the right.
            y: Widths of a picture down.

        Returns:
            Another generator of the same fingerprint.

        Raises:
            GanvasError: A value isn't finite.
        """
        other = copy.copy(self)
        other._buffers = dict(self._buffers)
        other.transform = self.transform.clone()
        other.set_transform(angle, x, y)
        return other

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Map codes of Z to W; a conditional generator needs labels (n, num_labels), and no other takes them."""
        check_labels(self, z, labels)
        return mapping(self._folded(), self.shape, z, labels)

    def style_weights(self) -> list[Tensor]:
        """Return the affine layer of each row: of the Fourier features (4, w_dim), then of the layers."""
        names = ["synthesis.input", *(layer.name for layer in self.shape.iterate_layers())]
        return [self.weights[f"{name}.affine.weight".replace(".", "/")] for name in names]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32; a grey generator repeats its channel.

        Smaller pictures are whole ones that are shrunk.
        """
        check_codes(self, ws)
        size = check_resolution(self, resolution)
        images = layers.synthesis(self._folded(), self.shape, copy_contiguous(ws), self.transform)
        return shrink(images, size).expand(-1, 3, -1, -1)
