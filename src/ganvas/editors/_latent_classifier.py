"""The latent classifier: a network that predicts attributes from codes, which the losses of nonlinear editors use.

The sum of a linear path, initialised by ridge regression, and a perceptron that is trained on its residual.
"""
# On the shipped labels of ffhq its predictions for held-out codes correlate 0.84 with the normal scores, the regression's
# 0.76: python -m experiments.ffhq.nonlinear_editors LABELS

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.editors._fit import draw_rows, minimize
from ganvas.progress import Progress
from ganvas.types import Scores

SLOPE = 0.2
"""The negative slope of the leaky ReLU."""
DROPOUT = 0.3
"""The dropout rate of the hidden layers."""
STOPPING_SHARE = 0.1
"""The share of the training codes that is held out for early stopping."""
EVALUATIONS = 10
"""How often the error on them is computed."""
BATCH, RATE, DECAY = 512, 2e-3, 0.05
STEEPNESS = 1.702
"""The sigmoid of this times a normal number is near its cumulative probability (to 0.01)."""


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


def ascent_directions(network: LatentClassifier) -> Tensor:
    """Return the shortest moves (attributes, components) that raise each reading of the linear path by 1, to initialise maps."""
    weight = network.path.weight
    return weight / weight.square().sum(1, keepdim=True).clamp(min=1e-2)


def probabilities(readings: Tensor) -> Tensor:
    """Return the probability of lying above the data's median, which makes balanced classes of any kind of attribute."""
    return torch.sigmoid(STEEPNESS * readings)


@dataclass(frozen=True)
class ClassifierData:
    """Whitened components ``x`` (n, components) and normal scores ``a`` (n, attributes) to train on."""

    x: Tensor
    a: Scores


def fit_latent_classifier(
    data: ClassifierData, width: int, steps: int, seed: int, progress: Progress = lambda step, steps: None
) -> LatentClassifier:
    """Train a classifier by squared error, and keep the weights with the least error on held-out codes.

    Equal input gives equal weights on one machine; the global random state is left as it was.
    """
    x, a = data.x, data.a
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=random).to(x.device)
    training_rows = order[max(round(STOPPING_SHARE * len(x)), 1) :]
    stopping_rows = order[: len(x) - len(training_rows)]
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        network = LatentClassifier(x.shape[1], a.shape[1], width).to(x.device)
        _initialize(network, x[training_rows], a[training_rows])
        best = [torch.inf, deepcopy(network.state_dict())]

        def loss(step: int) -> Tensor:
            rows = training_rows[draw_rows(len(training_rows), BATCH, random, x.device)]
            return (network(x[rows]) - a[rows]).square().mean()

        def evaluate(step: int, total: int) -> None:
            progress(step, total)
            if step % max(steps // EVALUATIONS, 1) == 0 or step == steps:
                with torch.no_grad():
                    error = float((network.eval()(x[stopping_rows]) - a[stopping_rows]).square().mean())
                network.train()
                if error < best[0]:
                    best[:] = error, deepcopy(network.state_dict())

        minimize(network.parameters(), loss, steps, RATE, DECAY, evaluate)
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
