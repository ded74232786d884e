"""The compact editor's networks, its losses, and the linear maps that they may be initialised with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.editors._networks import SLOPE, Perceptron, correlation

Codes = Float[Tensor, "n dim"]
Components = Float[Tensor, "n components"]


class TrainablePerceptron(nn.Module):
    """A ``Perceptron`` in training: batch norm after each leaky ReLU and, with ``norm_output``, on the output.

    With a path the last layer starts at zero: what the layers learn is added to a linear map. With ``use_bfloat16`` the
    products of the layers are in that dtype; weights, norms, the path and all results are float32.
    """

    def __init__(self, plain: Perceptron, norm_output: bool, use_bfloat16: bool) -> None:
        super().__init__()
        self.plain, self.use_bfloat16 = plain, use_bfloat16
        *hidden, last = plain.linears
        self.norms = [nn.BatchNorm1d(layer.out_features) for layer in hidden]
        self.code_norm = nn.BatchNorm1d(last.out_features) if norm_output else None
        # The list keeps their type; this makes them part of the module.
        self.registered = nn.ModuleList(self.norms)
        if plain.path is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        *hidden, last = self.plain.linears
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            y = x
            for layer, norm in zip(hidden, self.norms, strict=True):
                y = norm(F.leaky_relu(layer(y), SLOPE))
            y = last(y)
        y = y.float() if self.plain.path is None else y.float() + self.plain.path(x)
        return y if self.code_norm is None else self.code_norm(y)

    def initialize(self, weight: Tensor, scale: Tensor) -> None:
        """Initialise the path, which must exist, to ``x @ weight``, whose outputs have mean 0 and deviations ``scale``."""
        with torch.no_grad():
            self.plain.get_parameter("path.weight").copy_(weight.T)
            if self.code_norm is not None:
                self.code_norm.weight.copy_(scale)
                self.code_norm.get_buffer("running_var").copy_(scale.square() - self.code_norm.eps)

    def fold_norms(self) -> Perceptron:
        """Fold each batch norm, with its running statistics, into the layer next to it, and return the plain network."""
        layers = self.plain.linears
        with torch.no_grad():
            for norm, after in zip(self.norms, layers[1:], strict=True):
                scale, offset = _norm_to_affine(norm)
                after.bias.add_(after.weight @ offset)
                after.weight.mul_(scale)
            if self.code_norm is not None:
                scale, offset = _norm_to_affine(self.code_norm)
                layers[-1].weight.mul_(scale[:, None])
                layers[-1].bias.mul_(scale).add_(offset)
                if self.plain.path is not None:
                    self.plain.path.weight.mul_(scale[:, None])
        return self.plain.requires_grad_(False)


def _norm_to_affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


def losses(x: Components, c: Codes, y: Components, a: Tensor, mref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute (3), (4) and (5): sums over dimensions, attributes and pairs as written; (3) and (4) averaged over codes."""
    attributes = c[:, : a.shape[1]]
    recons = (x - y).square().sum(1).mean()
    attr = (a - attributes).square().sum(1).mean()
    return recons, attr, (correlation(attributes) - mref).abs().sum()


def off_diagonal(matrix: Tensor) -> float:
    """Return the mean absolute value off the diagonal; 0 for a 1×1 matrix."""
    k = len(matrix)
    return float((matrix - matrix.diagonal().diag()).abs().sum() / max(k * (k - 1), 1))


def linear_start(x: Components, a: Tensor, mref: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Solve for the best linear encoder and decoder, (components, dim) and (dim, components), for mean-free ``x``.

    The first K columns: attributes predicted by regression, changed as little as possible to the correlation ``mref``
    (by the symmetric optimal transport map between normal distributions), and scaled to the attributes. The others: the
    principal components of the remainder, uncorrelated with them. So the decoder moves an attribute along the direction
    that is shortest by Mahalanobis distance.
    """
    x, a, mref = x.double(), (a - a.mean(0)).double(), mref.double()
    k, n = a.shape[1], len(x)
    s = x.T @ x / n
    shared = x.T @ a / n
    predictor = torch.linalg.lstsq(s + 1e-6 * s.trace() / len(s) * torch.eye(len(s)).to(s), shared).solution
    spread = (predictor * (s @ predictor)).sum(0).clamp(min=1e-12).sqrt()
    predicted = (predictor.T @ s @ predictor) / spread[:, None] / spread
    root, inverse = _raise_matrix(predicted, 0.5), _raise_matrix(predicted, -0.5)
    first = predictor / spread @ (inverse @ _raise_matrix(root @ mref @ root, 0.5) @ inverse)
    first = first / (first * (s @ first)).sum(0).sqrt()
    first = first * (first * shared).sum(0).clamp(min=0.05)
    gram = first.T @ s @ first
    projection = torch.eye(len(s)).to(s) - first @ torch.linalg.pinv(gram, hermitian=True) @ first.T @ s
    variances, axes = torch.linalg.eigh(projection.T @ s @ projection)
    remaining = min(dim - k, int((variances > 1e-9 * s.trace()).sum()))
    rest = projection @ axes[:, len(axes) - remaining :] / variances[len(axes) - remaining :].sqrt()
    encoder = torch.cat((first, rest, first.new_zeros(len(s), dim - k - remaining)), 1)
    decoder = torch.linalg.pinv(encoder.T @ s @ encoder, rtol=1e-9, hermitian=True) @ encoder.T @ s
    return encoder, decoder


def _raise_matrix(matrix: Tensor, exponent: float) -> Tensor:
    # Small eigenvalues, of attributes that are nearly equal, are noise: clamped, so that it isn't amplified further.
    values, axes = torch.linalg.eigh(matrix)
    return axes @ (values.clamp(min=0.02) ** exponent)[:, None].mul(axes.T)
