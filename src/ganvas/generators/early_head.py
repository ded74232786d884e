"""Small networks that draw a smaller picture from the features of a block, before the generator's costly last blocks.

A head sees the features and the styles of all layers that would still follow. It works on the four subbands of the Haar
transform of the picture, as the generator's own output layer does.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_generator_tensors, save_tensors

KIND = "early heads"
BANDS = 12
"""Numbers of a pixel of the head's output: four subbands of three colours."""
SLOPE = 0.2
"""The slope of leaky ReLU below 0, as in the generator."""


class EarlyHead(nn.Module):
    """A head: scaled features, 1×1, depthwise 3×3, 1×1 convolutions, and the subbands of a picture of twice their resolution.

    ``channels`` enter it, scaled by the first of the ``styles`` numbers that still follow, as in the generator's next layer.
    """

    def __init__(self, channels: int, styles: int, width: int) -> None:
        super().__init__()
        self.style_mean = nn.Buffer(torch.zeros(styles))
        self.style_scale = nn.Buffer(torch.ones(styles))
        self.modulation = nn.Linear(styles, 3 * width + BANDS)
        self.enter = nn.Conv2d(channels, width, 1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.inner = nn.Conv2d(width, width, 1)
        self.leave = nn.Conv2d(width, BANDS, 1)

    @property
    def width(self) -> int:
        """The channels inside of the head."""
        return self.enter.out_channels

    def forward(self, features: Tensor, styles: Tensor) -> Tensor:
        """Compute subbands (n, 12, height, width) of features (n, channels, height, width) and styles (n, styles)."""
        dtype = features.dtype
        numbers = self.modulation((styles - self.style_mean) / self.style_scale)
        entering, spread, inner, colours = (
            part[:, :, None, None].to(dtype) for part in numbers.split([*[self.width] * 3, BANDS], 1)
        )
        x = features * styles[:, : features.shape[1], None, None].to(dtype)
        x = F.leaky_relu(self.enter(x) * (1 + entering), SLOPE)
        x = self.depthwise(x) * (1 + spread)
        x = F.leaky_relu(self.inner(x) * (1 + inner), SLOPE)
        return self.leave(x) + colours

    def convert(self, dtype: torch.dtype) -> EarlyHead:
        """Convert the convolutions to ``dtype``, in place; styles stay in float32."""
        for layer in (self.enter, self.depthwise, self.inner, self.leave):
            layer.to(dtype=dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return self


def save_heads(path: str | Path, heads: dict[int, EarlyHead], fingerprint: str) -> None:
    """Write the heads of a generator, by the resolution of their pictures, in float16."""
    tensors = {
        f"{size}.{key}": value.half() for size, head in heads.items() for key, value in head.state_dict().items()
    }
    save_tensors(path, tensors, {"kind": KIND, "version": 1, "fingerprint": fingerprint})


def read_heads(path: str | Path, fingerprint: str) -> dict[int, EarlyHead]:
    """Read the heads of a generator, by the resolution of their pictures.

    Raises GanvasError for a file that is damaged, holds something else, or belongs to another generator.
    """
    tensors, _ = load_generator_tensors(path, KIND, fingerprint)
    heads = {}
    for size in sorted({int(name.split(".")[0]) for name in tensors}):
        state = {key.split(".", 1)[1]: value.float() for key, value in tensors.items() if key.startswith(f"{size}.")}
        try:
            width, channels = state["enter.weight"].shape[:2]
            head = EarlyHead(channels, len(state["style_mean"]), width)
            head.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise GanvasError(f"{path} is damaged: {str(error).splitlines()[0]}.") from None
        heads[size] = head.eval().requires_grad_(False)
    return heads
