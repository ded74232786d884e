"""Age, gender and seven expressions, by networks of other origin: face-api.js, MIT, from npm's @vladmandic/face-api.

https://www.npmjs.com/package/@vladmandic/face-api (1.7.15) holds small networks for TensorFlow.js, quantised to a byte a
weight: a tiny Xception (Chollet, 2017, https://arxiv.org/abs/1610.02357) for age and gender, four dense blocks of
separable convolutions for expressions. None was trained on CelebA's labels, so they can judge editors that were.

The package crops the box of 68 landmarks, a fifth wider and higher, and pads it to a square of 112. On FFHQ-aligned
pictures the box hardly moves up or down, and sideways with the pose; its mean position is cropped here, as a square:
without landmarks, on any device, differentiable. A photograph has to be aligned first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io import hub
from ganvas.io.fingerprints import hash_weights
from ganvas.scorers import _tfjs, read_cards
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.framing import crop_box
from ganvas.types import Images, Scores

EXPRESSIONS = ("Neutral", "Happy", "Sad", "Angry", "Fearful", "Disgusted", "Surprised")
BOX = (41, 80, 216, 255)
"""Left, top, right, bottom of 256: the mean box of 198 faces of ``ffhq``, made square."""
SIZE = 112
MAIN_BLOCKS = 2
DENSE_BLOCKS = 4


def convert(age_manifest: bytes, age: bytes, expression_manifest: bytes, expression: bytes) -> dict[str, Tensor]:
    """Convert the weights in the package's two manifests and their data to torch's order of axes."""
    weights = {}
    for network, files in (("age", (age_manifest, age)), ("expression", (expression_manifest, expression))):
        for name, tensor in _tfjs.read_tensors(*files).items():
            if name.endswith("depthwise_filter"):
                tensor = _tfjs.permute_depthwise_filters(tensor)
            elif tensor.ndim == 4:
                tensor = _tfjs.permute_filters(tensor)
            elif tensor.ndim == 2:
                tensor = tensor.T.contiguous()
            weights[f"{network}/{name}"] = tensor
    return weights


def load(name: str) -> FaceApi:
    """Load the scorer; its weights are downloaded the first time. Raises GanvasError where they can't be."""
    return FaceApi(hub.load_weights(read_cards()[name]), name)


class FaceApi(Scorer):
    """Age in years; Male and the expressions as logits of the networks' own probabilities (not recalibrated)."""

    reads_faces = True

    units: Mapping[str, str] = {"Age": "y"}

    def __init__(self, weights: Mapping[str, Tensor], name: str = "face_api") -> None:
        super().__init__()
        self.name, self.attributes = name, ("Age", "Male", *EXPRESSIONS)
        self.kinds = ("value", *("probability",) * (len(self.attributes) - 1))
        if missing := [key for key in ("age/fc/age/weights", "expression/fc/weights") if key not in weights]:
            raise GanvasError(f"These are not face-api's weights: {missing[0]} is missing.")
        self.weights = nn.ParameterDict({key: nn.Parameter(value) for key, value in weights.items()})
        self.requires_grad_(False)
        self.fingerprint = hash_weights(weights.items())

    def forward(self, images: Images) -> Scores:
        """Score FFHQ-aligned faces, (n, 9)."""
        x = crop_box(images, BOX, SIZE) / 255
        age, gender = self.age_gender(x)
        expressions = self.expressions(x)
        # The logit of one class of a softmax: its own logit minus the log-sum-exp of the others.
        others = [torch.cat((expressions[:, :k], expressions[:, k + 1 :]), 1).logsumexp(1) for k in range(7)]
        return torch.cat((age, gender[:, :1] - gender[:, 1:], expressions - torch.stack(others, 1)), 1)

    def age_gender(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute age (n, 1) in years and logits (n, 2) of male and female, of prepared squares (n, 3, 112, 112)."""
        x = self.age_map(x).mean((2, 3))
        return self._dense(x, "age/fc/age"), self._dense(x, "age/fc/gender")

    def age_map(self, x: Tensor) -> Tensor:
        """Compute the features of age and gender, (n, 512, 4, 4)."""
        x = self._convolution(x, "age/entry_flow/conv_in", 2).relu()
        x = self._reduction(x, "age/entry_flow/reduction_block_0", activate=False)
        x = self._reduction(x, "age/entry_flow/reduction_block_1")
        for i in range(MAIN_BLOCKS):
            y = x
            for j in range(3):
                y = self._separable(y.relu(), f"age/middle_flow/main_block_{i}/separable_conv{j}")
            x = x + y
        x = self._reduction(x, "age/exit_flow/reduction_block")
        return self._separable(x, "age/exit_flow/separable_conv").relu()

    def expressions(self, x: Tensor) -> Tensor:
        """Compute logits (n, 7) of the expressions, of prepared squares (n, 3, 112, 112)."""
        return self._dense(self.expression_map(x).mean((2, 3)), "expression/fc")

    def expression_map(self, x: Tensor) -> Tensor:
        """Compute the features of expressions, (n, 256, 7, 7)."""
        for i in range(DENSE_BLOCKS):
            first = f"expression/dense{i}/conv0"
            x = (self._separable(x, first, 2) if i else self._convolution(x, first, 2)).relu()
            total = x
            for j in (1, 2, 3):
                total = total + self._separable(total.relu(), f"expression/dense{i}/conv{j}")
            x = total.relu()
        return x

    def _reduction(self, x: Tensor, name: str, activate: bool = True) -> Tensor:
        y = self._separable(x.relu() if activate else x, f"{name}/separable_conv0")
        y = self._separable(y.relu(), f"{name}/separable_conv1")
        y = F.max_pool2d(_pad_same(y, 3, 2, -torch.inf), 3, 2)
        return y + self._convolution(x, f"{name}/expansion_conv", 2)

    def _convolution(self, x: Tensor, name: str, stride: int) -> Tensor:
        weight = self.weights[f"{name}/filters"]
        return F.conv2d(_pad_same(x, weight.shape[2], stride), weight, self.weights[f"{name}/bias"], stride)

    def _separable(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}/depthwise_filter"]
        x = F.conv2d(_pad_same(x, weight.shape[2], stride), weight, stride=stride, groups=len(weight))
        return F.conv2d(x, self.weights[f"{name}/pointwise_filter"], self.weights[f"{name}/bias"])

    def _dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}/weights"], self.weights[f"{name}/bias"])


def _pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad a square as TensorFlow's "same" does: an odd pixel goes to the right and the bottom."""
    side = x.shape[3]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    return F.pad(x, (before, after, before, after), value=value)
