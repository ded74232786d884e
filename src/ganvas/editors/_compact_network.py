"""The compact editor's networks, its losses, and the linear map that a training may start from."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
"""Of the leaky ReLU."""
Codes = Float[Tensor, "n dim"]
Components = Float[Tensor, "n components"]


class Perceptron(nn.Module):
    """``depth`` linear layers with leaky ReLU between them, and a linear path beside them where ``path`` says so."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, path: bool) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (depth - 1), outputs]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.path = nn.Linear(inputs, outputs, bias=False) if path else None

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, without the path."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        *hidden, last = self.linears
        y = x
        for layer in hidden:
            y = F.leaky_relu(layer(y), SLOPE)
        return last(y) if self.path is None else last(y) + self.path(x)


class TrainablePerceptron(nn.Module):
    """A ``Perceptron`` as it learns: batch norm after each leaky ReLU, and on the output where that is the code.

    With a path the layers start at zero: what they learn is added to a linear map. Products of the layers are in
    bfloat16 where ``short`` says so; weights, norms, the path and all results are float32.
    """

    def __init__(self, plain: Perceptron, code: bool, short: bool) -> None:
        super().__init__()
        self.plain, self.short = plain, short
        *hidden, last = plain.linears
        self.norms = [nn.BatchNorm1d(layer.out_features) for layer in hidden]
        self.code_norm = nn.BatchNorm1d(last.out_features) if code else None
        # Kept in a list for their type; this makes them part of the module.
        self.registered = nn.ModuleList(self.norms)
        if plain.path is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        *hidden, last = self.plain.linears
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.short):
            y = x
            for layer, norm in zip(hidden, self.norms, strict=True):
                y = norm(F.leaky_relu(layer(y), SLOPE))
            y = last(y)
        y = y.float() if self.plain.path is None else y.float() + self.plain.path(x)
        return y if self.code_norm is None else self.code_norm(y)

    def start(self, weight: Tensor, scale: Tensor) -> None:
        """Let the path, which must be there, be ``x @ weight``, whose outputs have mean 0 and deviations ``scale``."""
        with torch.no_grad():
            self.plain.get_parameter("path.weight").copy_(weight.T)
            if self.code_norm is not None:
                self.code_norm.weight.copy_(scale)
                self.code_norm.get_buffer("running_var").copy_(scale.square() - self.code_norm.eps)

    def finish(self) -> Perceptron:
        """The network as used: each batch norm, with its running statistics, folded into the layer next to it."""
        layers = self.plain.linears
        with torch.no_grad():
            for norm, after in zip(self.norms, layers[1:], strict=True):
                scale, offset = _affine(norm)
                after.bias.add_(after.weight @ offset)
                after.weight.mul_(scale)
            if self.code_norm is not None:
                scale, offset = _affine(self.code_norm)
                layers[-1].weight.mul_(scale[:, None])
                layers[-1].bias.mul_(scale).add_(offset)
                if self.plain.path is not None:
                    self.plain.path.weight.mul_(scale[:, None])
        return self.plain.requires_grad_(False)


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


def correlation(c: Codes) -> Float[Tensor, "dim dim"]:
    """The correlation matrix of the columns."""
    centred = c - c.mean(0)
    unit = centred / centred.norm(dim=0).clamp(min=1e-12)
    return unit.T @ unit


def losses(x: Components, c: Codes, y: Components, a: Tensor, mref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Equations (3), (4) and (5): sums over dimensions, attributes and pairs as written; (3) and (4) averaged over codes."""
    attributes = c[:, : a.shape[1]]
    recons = (x - y).square().sum(1).mean()
    attr = (a - attributes).square().sum(1).mean()
    return recons, attr, (correlation(attributes) - mref).abs().sum()


def off_diagonal(matrix: Tensor) -> float:
    """The mean absolute value beside the diagonal; 0 where there is nothing beside it."""
    k = len(matrix)
    return float((matrix - matrix.diagonal().diag()).abs().sum() / max(k * (k - 1), 1))


def linear_start(x: Components, a: Tensor, mref: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The best linear encoder and decoder, (components, dim) and (dim, components), for mean-free ``x``.

    The first K columns: attributes predicted by regression, moved as little as brings their correlation to ``mref``
    (the optimal transport map between normal distributions, symmetric), scaled to the attributes. The others: the principal
    components of what those leave over, uncorrelated with them; so an attribute's path through the decoder is the
    shortest one by Mahalanobis's distance.
    """
    x, a, mref = x.double(), (a - a.mean(0)).double(), mref.double()
    k, n = a.shape[1], len(x)
    s = x.T @ x / n
    shared = x.T @ a / n
    predictor = torch.linalg.lstsq(s + 1e-6 * s.trace() / len(s) * torch.eye(len(s)).to(s), shared).solution
    spread = (predictor * (s @ predictor)).sum(0).clamp(min=1e-12).sqrt()
    found = (predictor.T @ s @ predictor) / spread[:, None] / spread
    root, inverse = _power(found, 0.5), _power(found, -0.5)
    first = predictor / spread @ (inverse @ _power(root @ mref @ root, 0.5) @ inverse)
    first = first / (first * (s @ first)).sum(0).sqrt()
    first = first * (first * shared).sum(0).clamp(min=0.05)
    gram = first.T @ s @ first
    kept = torch.eye(len(s)).to(s) - first @ torch.linalg.pinv(gram, hermitian=True) @ first.T @ s
    variances, axes = torch.linalg.eigh(kept.T @ s @ kept)
    wanted = min(dim - k, int((variances > 1e-9 * s.trace()).sum()))
    rest = kept @ axes[:, len(axes) - wanted :] / variances[len(axes) - wanted :].sqrt()
    encoder = torch.cat((first, rest, first.new_zeros(len(s), dim - k - wanted)), 1)
    decoder = torch.linalg.pinv(encoder.T @ s @ encoder, rtol=1e-9, hermitian=True) @ encoder.T @ s
    return encoder, decoder


def _power(matrix: Tensor, exponent: float) -> Tensor:
    # Two attributes that are nearly one would be told apart by noise alone: their difference is not blown up further.
    values, axes = torch.linalg.eigh(matrix)
    return axes @ (values.clamp(min=0.02) ** exponent)[:, None].mul(axes.T)
