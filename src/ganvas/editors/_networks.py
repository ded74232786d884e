"""The networks that several methods share, and how networks of codes are trained.

The latent classifier predicts attributes from codes, for the losses of nonlinear editors: the sum of a linear path, initialised
by ridge regression, and a perceptron that is trained on its residual.
"""
# On the shipped labels of ffhq its predictions for held-out codes correlate 0.84 with the normal scores, the regression's
# 0.76: python -m experiments.ffhq.nonlinear_editors LABELS

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.progress import Progress
from ganvas.training_loop import LossFunction, Schedule, minimize, seed_random_state
from ganvas.types import Scores

SLOPE = 0.2
"""The negative slope of the leaky ReLU."""
DROPOUT = 0.3
"""The dropout rate of the hidden layers."""
STOPPING_SHARE = 0.1
"""The share of the training codes that is held out for early stopping."""
EVALUATIONS = 10
"""How often the error on them is computed."""
CLASSIFIER_BATCH_SIZE, CLASSIFIER_LEARNING_RATE, CLASSIFIER_WEIGHT_DECAY = 512, 2e-3, 0.05
STEEPNESS = 1.702
"""The sigmoid of this times a normal number is near its cumulative probability (to 0.01)."""
MAX_NORM = 10.0
"""The norm that gradients are clipped to: few codes, or a scorer that isn't smooth everywhere, may give a single huge one."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Gradients = Float[Tensor, "n attributes components"]


class Perceptron(nn.Module):
    """``depth`` linear layers with leaky ReLU between them; with ``path``, a linear layer from input to output is added."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, path: bool, slope: float = SLOPE) -> None:
        super().__init__()
        self.slope = slope
        sizes = [inputs, *[width] * (depth - 1), outputs]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.path = nn.Linear(inputs, outputs, bias=False) if path else None

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, without the path."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        *hidden, last = self.linears
        y = x
        for layer in hidden:
            y = F.leaky_relu(layer(y), self.slope)
        return last(y) if self.path is None else last(y) + self.path(x)


class LatentClassifier(nn.Module):
    """A network from whitened components (n, components) to normal scores (n, attributes)."""

    def __init__(self, components: int, attributes: int, width: int) -> None:
        super().__init__()
        self.path = nn.Linear(components, attributes)
        self.first, self.second = nn.Linear(components, width), nn.Linear(width, width)
        self.last = nn.Linear(width, attributes)

    def forward(self, x: Tensor) -> Tensor:
        """Predict normal scores, in standard deviations of each attribute."""
        dropped = DROPOUT if self.training else 0.0
        hidden = F.dropout(F.leaky_relu(self.first(x), SLOPE), dropped)
        hidden = F.dropout(F.leaky_relu(self.second(hidden), SLOPE), dropped)
        return self.path(x) + self.last(hidden)


class SmoothClassifier(nn.Module):
    """A network from coordinates to normal scores whose gradient has a closed form, and no jumps: one hidden layer of tanh."""

    def __init__(self, components: int, attributes: int, width: int) -> None:
        super().__init__()
        self.path, self.hidden = nn.Linear(components, attributes), nn.Linear(components, width)
        self.last = nn.Linear(width, attributes, bias=False)

    @torch.no_grad()
    def start_from(self, classifier: LatentClassifier) -> None:
        """Take a classifier's linear path, and leave the hidden layer out at first."""
        self.path.load_state_dict(classifier.path.state_dict())
        self.last.weight.zero_()

    def forward(self, x: Float[Tensor, "n components"]) -> Scores:
        """Predict normal scores."""
        return self.path(x) + self.last(torch.tanh(self.hidden(x)))

    def compute_gradients(self, x: Float[Tensor, "n components"]) -> Gradients:
        """Compute the gradient of each attribute's score."""
        slopes = 1 - torch.tanh(self.hidden(x)).square()
        return self.path.weight + (self.last.weight * slopes[:, None]) @ self.hidden.weight


def compute_ascent_directions(network: LatentClassifier) -> Tensor:
    """Return the shortest moves (attributes, components) that raise each reading of the linear path by 1, to initialise maps."""
    weight = network.path.weight
    return weight / weight.square().sum(1, keepdim=True).clamp(min=1e-2)


def compute_probabilities(readings: Tensor) -> Tensor:
    """Return the probability of lying above the data's median, which makes balanced classes of any kind of attribute."""
    return torch.sigmoid(STEEPNESS * readings)


def fit_network(
    weights: Iterable[Tensor],
    loss: LossFunction,
    steps: int,
    rate: float,
    decay: float = 0.01,
    progress: Progress = lambda step, steps: None,
    *,
    schedule: Schedule | None = None,
    max_norm: float | None = MAX_NORM,
) -> None:
    """Minimise ``loss(step)`` with AdamW, as ``training_loop.minimize`` does. Raises GanvasError where the loss isn't finite."""
    weights = list(weights)
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=decay, fused=weights[0].device.type in ("cpu", "cuda"))
    minimize(loss, optimizer, steps, schedule=schedule, max_norm=max_norm, progress=progress)


def draw_rows(n: int, batch: int, random: torch.Generator, device: torch.device) -> Tensor:
    """Draw the row numbers of a batch from ``n``; ``random`` is on the CPU, so that all devices draw the same."""
    return torch.randint(n, (min(batch, n),), generator=random).to(device)


def draw_changes(n: int, k: int, max_attributes: int, reach: float, random: torch.Generator) -> Scores:
    """Draw changes to train on, (n, k): of one attribute for half of the codes, of up to ``max_attributes`` for the others.

    They are normally distributed with the standard deviation ``reach``.
    """
    count = torch.where(torch.arange(n) % 2 == 0, 1, torch.randint(1, max_attributes + 1, (n,), generator=random))
    order = torch.rand(n, k, generator=random).argsort(1)
    return torch.where(order < count[:, None], reach * torch.randn(n, k, generator=random), 0.0)


def fit_latent_classifier(x: Tensor, a: Scores, width: int, steps: int, seed: int) -> LatentClassifier:
    """Train a classifier of whitened components ``x`` (n, components) by squared error to normal scores ``a`` (n, attributes).

    The weights with the least error on held-out codes are kept.

    Equal input gives equal weights on one machine; the global random state is left as it was.
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=random).to(x.device)
    training_rows = order[max(round(STOPPING_SHARE * len(x)), 1) :]
    stopping_rows = order[: len(x) - len(training_rows)]
    with seed_random_state(seed):
        network = LatentClassifier(x.shape[1], a.shape[1], width).to(x.device)
        _initialize(network, x[training_rows], a[training_rows])
        best = [torch.inf, deepcopy(network.state_dict())]

        def loss(step: int) -> Tensor:
            rows = training_rows[draw_rows(len(training_rows), CLASSIFIER_BATCH_SIZE, random, x.device)]
            return (network(x[rows]) - a[rows]).square().mean()

        def evaluate(step: int, total: int) -> None:
            if step % max(steps // EVALUATIONS, 1) == 0 or step == steps:
                with torch.no_grad():
                    error = float((network.eval()(x[stopping_rows]) - a[stopping_rows]).square().mean())
                network.train()
                if error < best[0]:
                    best[:] = error, deepcopy(network.state_dict())

        fit_network(network.parameters(), loss, steps, CLASSIFIER_LEARNING_RATE, CLASSIFIER_WEIGHT_DECAY, evaluate)
    network.load_state_dict(best[1])
    return network.eval().requires_grad_(False)


def _initialize(network: LatentClassifier, x: Tensor, a: Scores) -> None:
    """Initialise the path by ridge regression, and the output of the perceptron to 0."""
    with torch.no_grad():
        gram = (x.T @ x).double() / len(x)
        ridge = 1e-2 * gram.trace() / len(gram) * torch.eye(len(gram)).to(gram)
        network.path.weight.copy_(torch.linalg.solve(gram + ridge, ((x.T @ (a - a.mean(0))).double() / len(x))).T)
        network.path.bias.copy_(a.mean(0))
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)


def copy_module(module: ModuleT) -> ModuleT:
    """Copy a module without its numbers: what is moved to a device, converted or replaced in the copy stays in the original."""
    other = copy(module)
    other.__dict__["_buffers"] = dict(module._buffers)
    other.__dict__["_parameters"] = {
        name: None if value is None else nn.Parameter(value.detach(), value.requires_grad)
        for name, value in module._parameters.items()
    }
    other.__dict__["_modules"] = {
        name: None if child is None else copy_module(child) for name, child in module._modules.items()
    }
    return other


def compute_correlation(c: Float[Tensor, "n dim"]) -> Float[Tensor, "dim dim"]:
    """Return the correlation matrix of the columns."""
    centred = c - c.mean(0)
    unit = centred / centred.norm(dim=0).clamp(min=1e-12)
    return unit.T @ unit
