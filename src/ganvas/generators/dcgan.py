"""Generators without a W, such as DCGAN: plain layers from z to the picture, as a small card lists them.

Radford et al., *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks*, 2016,
https://arxiv.org/abs/1511.06434. The space to edit is z, or what leaves the first layer ("potentially any GAN": Lesné et
al. name both). There is one row of W+, and no styles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator, check_resolution, copy_contiguous, draw_z, shrink
from ganvas.io import hub
from ganvas.io.files import read_card
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z
from ganvas.validation import Real, parse, validated

KIND, FAMILY, VERSION = "generator", "dcgan", 1
WEIGHTED = ("deconvolution", "convolution", "linear", "norm")
PLAIN = ("relu", "leaky_relu", "tanh", "sigmoid", "reshape", "double")
MAX_LAYERS = 200
MAX_CODE_SIZE = 65_536
"""The most numbers of a code."""
W_AVG_SAMPLES = 1024
"""Codes whose mean is the centre of truncation, for the space "first"."""
MAX_LAYER_SIZE = MAX_CODE_SIZE * 64 * 3
"""The most numbers that a layer may give for one code."""
MAX_BATCH_SIZE = 2**26
"""The most numbers that a layer gives for a batch of codes while ``w_avg`` is computed."""


def load(card: hub.Card, device: torch.device, dtype: torch.dtype) -> Dcgan:
    """Load the network that ``card`` describes, whose layers ``assets/generators`` lists, on ``device``.

    Raises GanvasError where its weights can't be downloaded.
    """
    layers = Path(__file__).parent.parent / "assets" / "generators" / f"{card.name}.toml"
    shape = parse(DcganArchitecture, read_card(layers), layers.name)
    return Dcgan(hub.load_weights(card), shape, card.name, dtype).to(device)


@validated
class DcganLayer:
    """One layer. ``name`` is that of its weights in the state dict, for the kinds of ``WEIGHTED``.

    "deconvolution" and "convolution" have a stride and a padding, "leaky_relu" a slope, "reshape" the shape (channels,
    height, width), "norm" an epsilon; "double" repeats each pixel 2×2 times.
    """

    kind: str
    name: str = ""
    stride: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    padding: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    slope: Real = 0.2
    epsilon: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1e-5
    shape: tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in WEIGHTED + PLAIN:
            raise unknown("kind of layer", self.kind, WEIGHTED + PLAIN)
        if (self.kind in WEIGHTED) != bool(self.name):
            raise GanvasError(f"A layer {self.kind!r} {'needs' if self.kind in WEIGHTED else 'has no'} name.")
        if self.kind == "reshape" and len(self.shape) != 3:
            raise GanvasError(f"A layer 'reshape' needs a shape like [512, 4, 4], not {list(self.shape)}.")


@validated
class DcganArchitecture:
    """The content of a card: the layers, in their order, and the space to edit, z or the output of the first layer.

    The first layer includes what follows it up to the next one with a kernel: its norm and its activation.
    """

    z_dim: Annotated[int, Field(strict=True, ge=1, le=MAX_CODE_SIZE)]
    layers: Annotated[tuple[DcganLayer, ...], Field(min_length=1, max_length=MAX_LAYERS)]
    space: Literal["z", "first"] = "z"

    def __post_init__(self) -> None:
        if not any(step.kind in WEIGHTED for step in self.layers):
            raise GanvasError("A generator needs layers with weights.")

    @property
    def first(self) -> int:
        """The number of layers before the space to edit: 0 for the space "z"."""
        heavy = [i for i, step in enumerate(self.layers) if step.kind in WEIGHTED[:3]]
        return 0 if self.space == "z" else (heavy[1] if len(heavy) > 1 else len(self.layers))


def list_weights(shape: DcganArchitecture) -> list[str]:
    """List the weights that ``shape`` needs; biases and a norm's scale may be missing."""
    needed = {"norm": ("running_mean", "running_var")}
    return [f"{s.name}.{part}" for s in shape.layers if s.name for part in needed.get(s.kind, ("weight",))]


class Dcgan(Generator):
    """The frozen network of ``shape``, with square pictures; grey ones repeat their channel."""

    has_stylegan2_rows = False

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: DcganArchitecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` lacks weights, or the layers don't fit one another or don't end in a picture."""
        super().__init__()
        self.name, self.shape, self.dtype, self.z_dim = name, shape, dtype, shape.z_dim
        for key in list_weights(shape):
            if key not in state:
                raise GanvasError(f"These are not the weights that the card lists: {key!r} is missing.")
        names = {step.name for step in shape.layers if step.name}
        own = {key: value.float() for key, value in state.items() if key.rpartition(".")[0] in names}
        # The card decides what weights and codes mean: the same weights with another card are another generator.
        self.fingerprint = hash_weights({**own, json.dumps(asdict(shape), sort_keys=True): torch.zeros(0)}.items())
        self.weights = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in own.items()})
        self.requires_grad_(False)
        self._trace("meta")  # sizes alone, before memory is allocated
        self.inner, picture, largest = self._trace("cpu")
        if len(picture) != 3 or picture[0] not in (1, 3) or picture[1] != picture[2]:
            raise GanvasError(f"The card's layers end in {picture}: a picture is 1 or 3 channels of a square.")
        self.resolution, self.row_resolutions = picture[1], (picture[1],)
        self.w_dim = torch.Size(self.inner).numel()
        if self.w_dim > MAX_CODE_SIZE:
            raise GanvasError(
                f"The output of the first layer has {self.w_dim:,} numbers: at most {MAX_CODE_SIZE:,} can be edited."
            )
        self.w_avg = nn.Buffer(torch.zeros(self.w_dim))
        if shape.first:
            with torch.no_grad():
                parts = draw_z(self, range(W_AVG_SAMPLES)).split(max(1, MAX_BATCH_SIZE // largest))
                self.w_avg.copy_(torch.cat([self.mapping(z) for z in parts]).mean(0))

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Return z itself, or the output of the first layer as one vector (n, w_dim)."""
        if labels is not None:
            raise GanvasError(f"Generator {self.name!r} is unconditional: it takes no labels.")
        return self._run(z, 0, self.shape.first, torch.float32).flatten(1) if self.shape.first else z

    def style_weights(self) -> list[Tensor]:
        """Return []: there are no styles."""
        return []

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32."""
        if ws.shape[1:] != (1, self.w_dim):
            raise GanvasError(f"Codes for {self.name!r} have shape (n, 1, {self.w_dim}), not {tuple(ws.shape)}.")
        x = copy_contiguous(ws).reshape(ws.shape[0], *self.inner)
        images = self._run(x, self.shape.first, len(self.shape.layers), self.dtype).float().expand(-1, 3, -1, -1)
        return shrink(images, check_resolution(self, resolution))

    @torch.no_grad()
    def _trace(self, device: str) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Return the shapes of a code and of a picture, and the most numbers that a layer gives for one code.

        Raises GanvasError where a layer doesn't fit the one before.
        """
        x, inner, largest = torch.zeros(1, self.z_dim, device=device), (self.z_dim,), self.z_dim
        for i, step in enumerate(self.shape.layers):
            try:
                x = self._layer(x, step, torch.float32)
            except (RuntimeError, IndexError, TypeError, ValueError):
                what = f"{step.kind} {step.name}".strip()
                raise GanvasError(
                    f"The card's layer {i} ({what}) doesn't fit its input of shape {tuple(x.shape[1:])}."
                ) from None
            if not 0 < x.numel() <= MAX_LAYER_SIZE:
                raise GanvasError(
                    f"The card's layer {i} gives {x.numel():,} numbers for a picture: 1 to {MAX_LAYER_SIZE:,} are possible."
                )
            largest = max(largest, x.numel())
            inner = tuple(x.shape[1:]) if i + 1 == self.shape.first else inner
        return inner, tuple(x.shape[1:]), largest

    def _run(self, x: Tensor, start: int, end: int, dtype: torch.dtype) -> Tensor:
        x = x.to(dtype)
        for step in self.shape.layers[start:end]:
            x = self._layer(x, step, dtype)
        return x

    def _layer(self, x: Tensor, step: DcganLayer, dtype: torch.dtype) -> Tensor:
        def weight(part: str) -> Tensor | None:
            key = f"{step.name}.{part}".replace(".", "/")
            if key not in self.weights:
                return None
            return (self.weights[key].to("meta") if x.is_meta else self.weights[key]).to(dtype)

        if step.kind in ("deconvolution", "convolution"):
            x = x[..., None, None] if x.ndim == 2 else x
            convolve = F.conv_transpose2d if step.kind == "deconvolution" else F.conv2d
            return convolve(x, weight("weight"), weight("bias"), step.stride, step.padding)  # type: ignore[arg-type]
        if step.kind == "linear":
            return F.linear(x.flatten(1), weight("weight"), weight("bias"))  # type: ignore[arg-type]
        if step.kind == "norm":
            mean, spread = weight("running_mean"), weight("running_var")
            return F.batch_norm(x, mean, spread, weight("weight"), weight("bias"), eps=step.epsilon)
        if step.kind == "reshape":
            return x.reshape(x.shape[0], *step.shape)
        if step.kind == "double":
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        if step.kind == "leaky_relu":
            return F.leaky_relu(x, step.slope)
        return {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": lambda y: torch.sigmoid(y) * 2 - 1}[step.kind](x)
