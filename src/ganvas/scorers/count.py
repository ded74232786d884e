"""Counts the digits in a picture, how many of each class, and says how sure it is; reads place, stroke and slant, too.

For Doubinsky et al., *Contrôle de la cardinalité par navigation dans l'espace latent des GANs*, RFIAP 2022,
https://cea.hal.science/cea-04852483, who label what their generator draws with pretrained image classifiers. A small
residual network takes 64×64 grey pixels, whatever the picture's size; ``experiments.multimnist.train_counter`` trains it.

``count`` and ``digit_0`` … ``digit_9`` are whole numbers, the most probable ones. ``sure`` is the logit of the probability
that ``count`` is right. The other four come from the pixels by formulas, in pixels of 64: ``place_x`` and ``place_y``,
where the ink's middle lies; ``stroke``, how thick strokes are: the ink's area by half its outline; ``slant``, how far a stroke
leans to the right on its way up by one: the shear that explains the grey values' gradients best.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores

SIDE = 64
"""Side in pixels of the network's input."""
MAX_COUNT = 6
"""The highest count, which stands for more, too."""
MAX_CLASS_COUNT = 4
"""The same for the digits of one class."""
CLASSES = 10
FEATURES = 128
"""The number of penultimate features, in which the Fréchet distance of digits is measured."""
DIGITS = tuple(f"digit_{k}" for k in range(CLASSES))
SHAPES = ("place_x", "place_y", "stroke", "slant")
MIN_INK = 2.0
"""The least ink, in white pixels, from which place, stroke and slant are measured."""

Grey = Float[Tensor, "n 1 64 64"]
Features = Float[Tensor, "n 128"]


class CountLogits(NamedTuple):
    """Logits of counts from 0 to ``MAX_COUNT``, (n, 7), and of each class's from 0 to ``MAX_CLASS_COUNT``, (n, 10, 5)."""

    count: Tensor
    classes: Tensor


class CounterBlock(nn.Module):
    """Two convolutions with a shortcut; the first may halve the side."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs) for _ in range(2)])
        self.past = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, side, side) to (n, outputs, side / stride, side / stride)."""
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        x = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return F.relu(y + (x if self.past is None else self.past(x)))


class CounterNetwork(nn.Module):
    """A network that sums features of 8×8 positions over the picture, as counts add up, and reads them by one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        # Four pixels at a time: the full resolution would take most of the time.
        self.stem = nn.Conv2d(4, 32, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(
            CounterBlock(32, 64, 2),
            CounterBlock(64, 64, 1),
            CounterBlock(64, FEATURES, 2),
            CounterBlock(FEATURES, FEATURES, 1),
        )
        self.hidden = nn.Linear(FEATURES, FEATURES)
        self.count = nn.Linear(FEATURES, MAX_COUNT + 1)
        self.classes = nn.Linear(FEATURES, CLASSES * (MAX_CLASS_COUNT + 1))

    def map_positions(self, grey: Grey) -> Float[Tensor, "n 128 8 8"]:
        """Compute the features of each of 8×8 positions."""
        return self.blocks(F.relu(self.norm(self.stem(F.pixel_unshuffle(grey, 2)))))

    def compute_features(self, grey: Grey) -> Features:
        """Compute the features that both readings are linear in."""
        return self.sum_positions(self.map_positions(grey))

    def sum_positions(self, maps: Float[Tensor, "n 128 8 8"]) -> Features:
        """Compute the features of a picture from those of its positions."""
        # A sixteenth of the sum: near 1 where digits are.
        return F.relu(self.hidden(maps.sum((2, 3)) / 16))

    def forward(self, grey: Grey) -> CountLogits:
        """Compute logits of grey pictures from 0 (paper) to 1 (ink)."""
        x = self.compute_features(grey)
        return CountLogits(self.count(x), self.classes(x).unflatten(1, (CLASSES, MAX_CLASS_COUNT + 1)))


@final
class Counter(Scorer):
    """Counts of digits, how sure they are, and place, stroke and slant.

    ``calibration`` (2,), scale and offset, makes the margin of the most probable count the logit of being right.
    """

    def __init__(self, network: CounterNetwork, calibration: Tensor, name: str = "count") -> None:
        super().__init__()
        self.name = name
        self.attributes = ("count", *DIGITS, "sure", *SHAPES)
        self.kinds = ("count",) * (1 + CLASSES) + ("probability",) + ("value",) * len(SHAPES)
        self.network, self.calibration = network.eval().requires_grad_(False), nn.Buffer(calibration)
        self.fingerprint = hash_weights((k, v) for k, v in self.state_dict().items() if "num_batches" not in k)

    def forward(self, images: Images) -> Scores:
        """Score pictures of any size, (n, 16)."""
        grey = to_network_input(images)
        count, classes = self.network(grey)
        sure = compute_margin(count) * self.calibration[0] + self.calibration[1]
        whole = torch.cat((count.argmax(1, keepdim=True), classes.argmax(2)), 1)
        return torch.cat((whole.to(sure), sure[:, None], measure_shapes(grey)), 1)

    def compute_features(self, images: Images) -> Features:
        """Compute the network's penultimate features, (n, 128); differentiable."""
        return self.network.compute_features(to_network_input(images))

    def compute_logits(self, images: Images) -> CountLogits:
        """Compute the network's logits, which are differentiable while scores are integers."""
        return self.network(to_network_input(images))


def to_network_input(images: Images) -> Grey:
    """Convert pictures to the network's input: grey from 0 to 1, 64×64."""
    return downscale(images.float(), SIDE).mean(1, keepdim=True).add(1).div(2)


def compute_margin(logits: Float[Tensor, "n counts"]) -> Float[Tensor, " n"]:
    """Compute the logit of the most probable count against all others together, (n,)."""
    best, place = logits.max(1)
    return best - logits.scatter(1, place[:, None], -torch.inf).logsumexp(1)


def measure_shapes(grey: Grey) -> Float[Tensor, "n 4"]:
    """Measure ``SHAPES``, (n, 4), in closed form; with less ink than ``MIN_INK``, the middle, no stroke and no slant."""
    ink = grey[:, 0].clamp(0, 1)
    mass = ink.sum((1, 2))
    along = torch.arange(SIDE, device=grey.device) + 0.5
    x, y = ((ink.sum(axis) * along).sum(1) / mass.clamp(min=MIN_INK) for axis in (1, 2))
    across, down = ink[:, 1:-1, 2:] - ink[:, 1:-1, :-2], ink[:, 2:, 1:-1] - ink[:, :-2, 1:-1]
    square = across.square() + down.square()
    # The root's slope is infinite at 0, where the paper is blank.
    outline = torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0).sum((1, 2)) / 2
    # Along a stroke that leans by s, x = -s·y (y grows downwards), grey values don't change: down = s · across.
    slant = (across * down).sum((1, 2)) / across.square().sum((1, 2)).clamp(min=1e-3)
    shapes = torch.stack((x, y, 2 * mass / outline.clamp(min=1e-3), slant), 1)
    return torch.where(mass[:, None] >= MIN_INK, shapes, shapes.new_tensor([SIDE / 2, SIDE / 2, 0, 0]))


def load(name: str) -> Counter:
    """Load the scorer that ships."""
    return read(Path(__file__).parent.parent / "assets" / "scorers" / f"{name}.safetensors")


def read(path: str | Path) -> Counter:
    """Read the scorer in a file that ``training.counter.save_counter`` wrote. Raises GanvasError for any other file."""
    tensors, metadata = load_tensors(path)
    tensors = {key: value.float() for key, value in tensors.items()}
    if metadata.get("scorer") != "count":
        raise GanvasError(f"{path} holds no counter: experiments/multimnist/train_counter.py writes one.")
    network = CounterNetwork()
    expected = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    calibration = tensors.pop("calibration", torch.empty(0))
    fits = {key: value.shape for key, value in tensors.items()} == {key: value.shape for key, value in expected.items()}
    finite = all(torch.isfinite(value).all() for value in (calibration, *tensors.values()))
    if not fits or calibration.shape != (2,) or not finite:
        raise GanvasError(f"{path} isn't a whole counter: its weights have other names or shapes, or aren't finite.")
    network.load_state_dict(tensors, strict=False)
    return Counter(network, calibration)
