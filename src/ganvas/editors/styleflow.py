"""StyleFlow: a continuous normalising flow from codes to normal numbers, given the attributes.

Rameen Abdal, Peihao Zhu, Niloy J. Mitra and Peter Wonka, *StyleFlow: Attribute-conditioned Exploration of StyleGAN-Generated
Images using Conditional Continuous Normalizing Flows*, ACM Transactions on Graphics 2021, https://arxiv.org/abs/2008.02401.
Given its attributes a, a code is mapped to normal numbers, independent of a. To edit, the code is mapped under the attributes
that it has, and back under the requested ones; the last term is w itself except for the solver's error, which so cancels:

    w' = w + Φ⁻¹(Φ(w; a); a + Δ) - Φ⁻¹(Φ(w; a); a)

Φ has two parts. First the codes' regression on a is subtracted, and the residual is whitened (affine, in closed form; in
place of the paper's moving batch norm). Then dx/dt = v(x, t, a) from x(0) to x(1), with v the sum of zuko's network and the
velocity that leaves normal numbers normal, so that the network learns only the deviation from normal. It is solved by a
fixed number of Runge-Kutta steps, so that a code's edit doesn't depend on its batch. ``teach``: how v is trained.
"matching" regresses it on the straight line from code to normal number (flow matching, Lipman et al. 2023,
https://arxiv.org/abs/2210.02747), which needs no solver; "likelihood" maximises the likelihood of codes, as the paper does
(zuko's solver, Hutchinson's trace), with far slower steps.

a is the prediction of a classifier, as in the paper, whose classifier takes the picture; here it is the latent classifier,
so that an edit needs no rendering. Since these readings are a function of w, noise (``READING_NOISE``) is added to them in
training.

Forty attributes have far fewer independent directions, and no face has one of them changed and 39 not: what the paper does
for 17 leaves W here. So Δ changes the others, too: of all changes with Δ_k = 1 it is the one that minimises
``Δᵀ Cov(a)⁻¹ Δ + hold·Σ_{i≠k} Δ_i²``. A large ``hold`` is the paper's.
"""

from __future__ import annotations

from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    NetworkMethod,
    WhitenedSpace,
)
from ganvas.editors._networks import LatentClassifier, draw_rows
from ganvas.editors.base import EditorMetadata
from ganvas.errors import GanvasError
from ganvas.training_loop import LossFunction, seed_random_state
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

Objective = Literal["matching", "likelihood"]
TOLERANCE = 1e-2
"""The tolerance of zuko's adaptive solver, in training by likelihood."""
READING_NOISE = 0.3
"""The standard deviation of the noise added to readings in training, in those of an attribute."""
FREQUENCIES = 3
"""The number of frequencies of the time, as cosines and sines, in the input of v."""
MEASURED_CODES = 64
"""The number of codes on which gains, and of held-out ones on which the report, are measured: flows are slow."""


@validated
class StyleFlowConfig(FitConfig):
    """Options of ``styleflow.fit``.

    ``depth``: hidden layers of v; ``solver``: Runge-Kutta steps in each direction; ``teach``: how v is trained, one of
    ``Objective``; ``hold``: see the module.
    """

    depth: Annotated[int, Field(strict=True, ge=1, le=64)] = 3
    steps: PositiveInt = 1500
    rate: Positive = 1e-3
    solver: Annotated[int, Field(strict=True, ge=1, le=1000)] = 6
    teach: Objective = "matching"
    hold: NonNegative = 3.0


class Velocity(nn.Module):
    """v(x, t, a): the velocity that keeps normal numbers normal on straight lines, plus a network that is 0 at first."""

    def __init__(self, components: int, attributes: int, width: int, depth: int) -> None:
        super().__init__()
        try:
            from zuko.nn import MLP
        except ImportError:
            raise GanvasError("StyleFlow needs the package zuko: pip install zuko.") from None

        inputs = components + attributes + 2 * FREQUENCIES
        self.network = MLP(inputs, components, hidden_features=[width] * depth, activation=nn.ELU)
        *_, weight, bias = self.network.parameters()
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)

    def forward(self, t: Tensor, x: Tensor, a: Tensor) -> Tensor:
        """Return the velocity (n, components), at times (n,) or one for all."""
        phases = torch.pi * torch.arange(1, FREQUENCIES + 1).to(x) * t.expand(len(x))[:, None]
        linear = ((2 * t - 1) / (t.square() + (1 - t).square())).expand(len(x))[:, None] * x
        return linear + self.network(torch.cat((x, a, phases.cos(), phases.sin()), 1))


class AffineFlow(nn.Module):
    """The first part of Φ: x minus ``a @ weight + bias``, multiplied by ``whitening``; ``colouring`` is its inverse."""

    def __init__(self, weight: Tensor, bias: Tensor, whitening: Tensor, colouring: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)
        self.whitening, self.colouring = nn.Buffer(whitening), nn.Buffer(colouring)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """Return the whitened residual of x, (n, components)."""
        return (x - a @ self.weight - self.bias) @ self.whitening


@final
class StyleFlow(LatentEditor):
    """A fitted StyleFlow editor.

    ``affine`` and ``velocity``: Φ; ``classifier`` reads the attributes that a code has; ``along`` (attributes, attributes):
    the Δ of a change of 1 of each.
    """

    def __init__(
        self,
        metadata: EditorMetadata,
        frame: WhitenedSpace,
        affine: AffineFlow,
        velocity: Velocity,
        classifier: LatentClassifier,
        solver: int,
    ) -> None:
        super().__init__(metadata, frame)
        self.affine, self.velocity, self.classifier, self.solver = affine, velocity, classifier, solver
        self.along = nn.Buffer(torch.eye(len(metadata.attributes)))

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return Φ⁻¹(Φ(x; a); a + Δ) - Φ⁻¹(Φ(x; a); a)."""
        a, delta = self.classifier(x), changes @ self.along
        normal = integrate(self.velocity, self.affine(x, a), a, self.solver, forwards=True)
        twice = torch.cat((normal, normal))
        back = integrate(self.velocity, twice, torch.cat((a + delta, a)), self.solver, forwards=False)
        changed, same = back.chunk(2)
        return delta @ self.affine.weight + (changed - same) @ self.affine.colouring


def integrate(velocity: nn.Module, x: Components, a: Scores, steps: int, forwards: bool) -> Components:
    """Integrate from x(0) to x(1), or backwards, by the classical fourth-order Runge-Kutta method, in equal steps."""
    step = (1 if forwards else -1) / steps
    time = 0.0 if forwards else 1.0

    def v(t: float, x: Tensor) -> Tensor:
        return velocity(x.new_tensor(t), x, a)

    for _ in range(steps):
        first = v(time, x)
        second = v(time + step / 2, x + step / 2 * first)
        third = v(time + step / 2, x + step / 2 * second)
        fourth = v(time + step, x + step * third)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
        time += step
    return x


def _build_editor(metadata: EditorMetadata, frame: WhitenedSpace, settings: StyleFlowConfig) -> StyleFlow:
    c, k = settings.components, len(metadata.attributes)
    affine = AffineFlow(torch.empty(k, c), torch.empty(c), torch.empty(c, c), torch.empty(c, c))
    velocity = Velocity(c, k, settings.width, settings.depth)
    with seed_random_state(0):  # its weights are replaced
        classifier = LatentClassifier(c, k, settings.width)
    return StyleFlow(metadata, frame, affine, velocity, classifier, settings.solver)


def _create_loss(editor: StyleFlow, fit_data: FitData, settings: StyleFlowConfig) -> LossFunction:
    """Fit all that has a closed form, and return the loss of v."""
    random = torch.Generator().manual_seed(settings.seed)
    readings = fit_data.classifier(fit_data.x)
    a = readings + READING_NOISE * torch.randn(readings.shape, generator=random).to(readings)
    editor.affine, editor.classifier = _fit_affine(fit_data.x, a), fit_data.classifier
    editor.along.copy_(find_cheapest_changes(a, settings.hold))
    return compute_velocity_loss(editor.velocity, editor.affine(fit_data.x, a), a, settings)


def _fit_affine(x: Tensor, a: Scores) -> AffineFlow:
    """Fit the regression of coordinates on attributes, and the whitening of its residual."""
    centre, mean = a.mean(0), x.mean(0)
    gram, shared = ((a - centre).T @ part for part in (a - centre, x - mean))
    weight = torch.linalg.solve(gram.double(), shared.double()).to(x)
    left = x - mean - (a - centre) @ weight
    variances, axes = torch.linalg.eigh((left.T @ left).double() / len(x))
    deviations = variances.clamp(min=1e-4).sqrt()
    whitening, colouring = (axes * scale @ axes.T for scale in (1 / deviations, deviations))
    return AffineFlow(weight, mean - centre @ weight, whitening.to(x), colouring.to(x))


def find_cheapest_changes(a: Scores, hold: float) -> Tensor:
    """Solve for the cheapest changes of all attributes in which one changes by 1, (attributes, attributes): one per row."""
    centred = (a - a.mean(0)).double()
    inverse = torch.linalg.inv(centred.T @ centred / len(a))
    changes = torch.linalg.inv(inverse + hold * torch.eye(len(inverse)).to(inverse))
    return (changes / changes.diagonal()[:, None]).to(a)


def compute_velocity_loss(velocity: Velocity, x: Tensor, a: Scores, settings: StyleFlowConfig) -> LossFunction:
    """Return the loss of v on whitened codes. It uses the global random state, which zuko draws from: the caller restores it."""
    random = torch.Generator().manual_seed(settings.seed)

    def matching(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        normal, t = (torch.randn(len(rows), x.shape[1], generator=random), torch.rand(len(rows), generator=random))
        normal, t = normal.to(x), t.to(x)
        way = torch.lerp(x[rows], normal, t[:, None])
        return (velocity(t, way, a[rows]) - (normal - x[rows])).square().mean()

    def likelihood(step: int) -> Tensor:
        from zuko.transforms import FreeFormJacobianTransform

        rows = draw_rows(len(x), settings.batch, random, x.device)
        flow = FreeFormJacobianTransform(
            lambda t, x: velocity(t, x, a[rows]), phi=velocity.parameters(), atol=TOLERANCE, rtol=TOLERANCE, exact=False
        )
        normal, volume = flow.call_and_ladj(x[rows])
        return (normal.square().sum(1) / 2 - volume).mean() / x.shape[1]

    return matching if settings.teach == "matching" else likelihood


METHOD = NetworkMethod("styleflow", StyleFlowConfig, _build_editor, _create_loss, n_measured=MEASURED_CODES)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
