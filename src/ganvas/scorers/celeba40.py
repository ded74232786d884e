"""CelebA's 40 face attributes, read by a small network that ships.

Liu et al., *Deep Learning Face Attributes in the Wild*, 2015, https://arxiv.org/abs/1411.7766. CelebA, and so what is
learned from it, is for non-commercial research.

One framing for two kinds of face. CelebA's aligned crop (178×218, eyes at 0.39 and 0.61 of its width and 0.51 of its
height) shows more than an FFHQ face does: an FFHQ face is the part from 3 to 61 of 64 across and from 10 to 58 of 64
down of that crop, squeezed to a square. ``frame_celeba`` crops that part; FFHQ faces are taken whole. The CelebA faces
that were available are soft (they come out of an auto-encoder, nothing finer than a thirtieth of the face), so a network
trained on them alone needs generated faces blurred to match (``match_softness``). The shipped one was trained on sharp
generated faces, too, and takes both as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import load_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.cnn import CnnNetwork
from ganvas.scorers.networks.dlib_features import FrozenNetwork
from ganvas.scorers.networks.efficientnet_lite import STRIDE, EfficientNetLite
from ganvas.types import Images, Scores

ATTRIBUTES = tuple(
    """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young""".split()
)
SIZE = 80
"""Side in pixels of the network's input."""
BLUR_PIXELS = 1.2
"""Standard deviation in pixels, at SIZE, of the blur that gives generated faces the spectrum of the CelebA faces."""
ENSEMBLE_SIZE = 128
"""Side in pixels of the input of an ensemble, whose networks shrink it to their own."""
SEPARATOR = "+"
"""Between the names of an ensemble's architectures."""
MAX_NETWORKS = 8
"""The most networks of an ensemble."""
FFHQ_PART = (3 / 64, 10 / 64, 61 / 64, 58 / 64)
"""Left, top, right and bottom of an FFHQ face within CelebA's aligned crop."""


def frame_celeba(pixels: Tensor, size: int = SIZE) -> Tensor:
    """Crop an aligned CelebA picture (height, width, 3) to the part that an FFHQ face shows: (3, size, size), uint8."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(edge * side) for edge, side in zip(FFHQ_PART, (width, height) * 2, strict=True))
    part = pixels[top:bottom, left:right].permute(2, 0, 1)[None].float()
    framed = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return framed[0].round().clamp(0, 255).to(torch.uint8)


def match_softness(images: Tensor, sigma: float = BLUR_PIXELS) -> Tensor:
    """Blur pictures (n, c, h, w) by a Gaussian of ``sigma`` pixels; 0 leaves them as they are."""
    if sigma == 0:
        return images
    radius = int(3 * sigma + 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    images = F.pad(images, (radius,) * 4, mode="reflect")
    images = F.conv2d(images, kernel[..., None], groups=images.shape[1])
    return F.conv2d(images, kernel[:, :, None], groups=images.shape[1])


class AttributeNetwork(nn.Module):
    """Convolutional features, then one spatial map and one linear reading for each attribute.

    On aligned faces a position has a meaning, and an attribute that is read where it shows depends less on correlated ones
    (glasses on grey hair).
    """

    arch, size = "efficientnet_lite0", SIZE

    def __init__(self, attributes: int = len(ATTRIBUTES), width: int = 256) -> None:
        super().__init__()
        self.features = EfficientNetLite()
        self.mix = nn.Sequential(
            nn.Conv2d(self.features.channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True)
        )
        self.maps = nn.Parameter(torch.zeros(attributes, (SIZE // STRIDE) ** 2))
        self.weight = nn.Parameter(torch.randn(attributes, width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(attributes))
        self.dropout = nn.Dropout(0.3)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        features = self.mix(self.features(images)).flatten(2)
        pooled = torch.einsum("nfp,ap->naf", features, self.maps.softmax(1))
        return (self.dropout(pooled) * self.weight).sum(2) + self.bias


class PaperNetwork(nn.Module):
    """EfficientNet-B3 with one linear reading for each attribute, the labelling network of Lesné et al. (section 4.1).

    To train it takes all of CelebA. It needs the package transformers.
    """

    arch, size = "efficientnet_b3", 300

    def __init__(self, attributes: int = len(ATTRIBUTES)) -> None:
        super().__init__()
        try:
            from transformers import EfficientNetConfig, EfficientNetModel
        except ImportError:
            raise GanvasError(
                "EfficientNet-B3 comes with the package transformers: pip install transformers."
            ) from None
        # transformers' defaults are B7's; these are the scaling factors of B3 (Tan and Le, 2019).
        config = EfficientNetConfig(
            width_coefficient=1.2, depth_coefficient=1.4, image_size=300, hidden_dim=1536, dropout_rate=0.3
        )
        self.features = EfficientNetModel(config)
        self.dropout = nn.Dropout(0.3)
        self.reading = nn.Linear(config.hidden_dim, attributes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        return self.reading(self.dropout(self.features(images).pooler_output))


class NetworkEnsemble(nn.Module):
    """The mean of several networks' calibrated logits, since networks of different architectures make different errors.

    ``scales`` and ``offsets`` (networks, attributes) are each network's calibration.
    """

    def __init__(self, networks: Sequence[SingleNetwork], attributes: int = len(ATTRIBUTES)) -> None:
        super().__init__()
        self.features = nn.ModuleList(networks)
        self.arch = SEPARATOR.join(network.arch for network in networks)
        self.size = max(ENSEMBLE_SIZE, *(network.size for network in networks))
        self.scales = nn.Buffer(torch.ones(len(networks), attributes))
        self.offsets = nn.Buffer(torch.zeros(len(networks), attributes))

    @property
    def networks(self) -> list[SingleNetwork]:
        """The networks in their order."""
        return [network for network in self.features if isinstance(network, SingleNetwork)]

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        logits = [
            network(downscale(images, network.size).contiguous(memory_format=torch.channels_last))
            for network in self.networks
        ]
        return (torch.stack(logits, 1) * self.scales + self.offsets).mean(1)


SingleNetwork = AttributeNetwork | PaperNetwork | CnnNetwork | FrozenNetwork
Network = SingleNetwork | NetworkEnsemble
NETWORKS: dict[str, type[SingleNetwork]] = {
    network.arch: network for network in (AttributeNetwork, PaperNetwork, CnnNetwork, FrozenNetwork)
}


def build_network(arch: str) -> Network:
    """Build a network with random weights, or an ensemble of several, joined by "+".

    Raises GanvasError for an unknown architecture.
    """
    names = arch.split(SEPARATOR)
    for name in names:
        if name not in NETWORKS:
            raise unknown("architecture", name, NETWORKS)
    networks = [NETWORKS[name]() for name in names]
    return NetworkEnsemble(networks) if len(networks) > 1 else networks[0]


def convert_channels_last(network: Network) -> Network:
    """Convert the weights of convolutions to channels-last order, in place, which is faster on CPUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return network


class Celeba40(Scorer):
    """CelebA's 40 attributes by the logits of ``network``, which ``scale`` and ``offset`` (attributes,) calibrate."""

    reads_faces = True

    def __init__(self, network: Network, scale: Tensor, offset: Tensor, name: str = "celeba40") -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = name, ATTRIBUTES, ("probability",) * len(ATTRIBUTES)
        self.networks = frozenset({"dlib"} if FrozenNetwork.arch in network.arch.split(SEPARATOR) else {"celeba40"})
        self.network = convert_channels_last(network.eval().requires_grad_(False))
        self.scale, self.offset = nn.Buffer(scale), nn.Buffer(offset)
        self.fingerprint = hash_weights(self.state_dict().items())

    def forward(self, images: Images) -> Scores:
        """Compute calibrated logits (n, 40) of FFHQ-aligned faces, the mean over a picture and its mirror image."""
        x = downscale(downscale(images.float()), self.network.size).contiguous(memory_format=torch.channels_last)
        return (self.network(x) + self.network(x.flip(3))) / 2 * self.scale + self.offset


def load(name: str) -> Celeba40:
    """Load a scorer that ships."""
    return read(Path(__file__).parent.parent / "assets" / "scorers" / f"{name}.safetensors", name)


def read(path: str | Path, name: str = "celeba40") -> Celeba40:
    """Read the scorer in a file that ``ganvas train-scorer`` wrote. Raises GanvasError for any other file."""
    tensors, metadata = load_tensors(path)
    names = str(metadata.get("arch")).split(SEPARATOR)
    if metadata.get("scorer") != "celeba40" or not set(names) <= NETWORKS.keys() or len(names) > MAX_NETWORKS:
        raise GanvasError(f"{path} holds no celeba40 scorer.")
    network = build_network(metadata["arch"])
    try:
        scale, offset = tensors.pop("scale").float(), tensors.pop("offset").float()
        network.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
        if missing := [key for key in network.state_dict() if key not in tensors and "num_batches" not in key]:
            raise GanvasError(f"{path} lacks the weights {', '.join(missing[:3])}.")
    except (KeyError, RuntimeError) as error:
        raise GanvasError(f"{path} isn't a whole celeba40 scorer: {str(error).splitlines()[0]}") from None
    if not all(t.shape == (len(ATTRIBUTES),) and torch.isfinite(t).all() for t in (scale, offset)):
        raise GanvasError(
            f"{path} isn't a whole celeba40 scorer: its calibration isn't {len(ATTRIBUTES)} finite numbers."
        )
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        raise GanvasError(f"{path} isn't a whole celeba40 scorer: it has weights that aren't finite.")
    return Celeba40(network, scale, offset, name)
