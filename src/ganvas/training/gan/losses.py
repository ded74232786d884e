"""One step of a GAN's training: the losses of StyleGAN2 and their gradients.

Karras et al., https://arxiv.org/abs/1912.04958: the non-saturating logistic loss (Goodfellow et al.), R1 on real
pictures (Mescheder et al., https://arxiv.org/abs/1801.04406), path length regularisation (section 3.2), each penalty
once in a number of steps (section 3.1), and codes mixed (Karras et al., https://arxiv.org/abs/1812.04948).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.generators.stylegan2 import layers
from ganvas.training.gan.config import GanConfig
from ganvas.training.gan.discriminator import DiscriminatorArchitecture

W_AVERAGE = 0.995
"""What a step leaves of the mean of W."""
PATH_AVERAGE = 0.99
"""What a step leaves of the mean path length."""


@dataclass
class GanNetworks:
    """All that training changes. ``average``: the running average of the generator's weights, which is what is kept."""

    shape: layers.StyleGAN2Architecture
    critic_shape: DiscriminatorArchitecture
    generator: dict[str, Tensor]
    critic: dict[str, Tensor]
    average: dict[str, Tensor]
    path_mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    noise: bool = True

    @property
    def learned(self) -> list[str]:
        """The names of the generator's tensors that are learned: neither the constant noise nor the mean of W."""
        fixed = ("noise_const", "w_avg") + (() if self.noise else ("noise_strength",))
        return [name for name in self.generator if not name.endswith(fixed)]


def initial_networks(options: GanConfig, num_labels: int, mean: Tensor, deviation: Tensor) -> GanNetworks:
    """Networks before training, from the seed alone; what the generator draws has the real pictures' ``mean`` and
    standard ``deviation``, both (colours,): before tanh, the value that becomes the mean and a deviation of 1.

    Otherwise the first steps learn nothing but these two, and what codes change is lost on the way.
    """
    if options.bounded:
        mean, deviation = mean.clamp(-0.99, 0.99).atanh(), torch.ones_like(deviation)
    random = step_random(options.seed, 0, 2**31)
    shape, critic_shape = options.shape(len(mean), num_labels), options.critic(len(mean), num_labels)
    generator, critic = layers.initial_weights(shape, random), critic_shape.initial(random)
    outputs = list(shape.outputs())
    for layer in outputs:
        each = (deviation / len(outputs) ** 0.5).repeat_interleave(layer.outgoing // len(mean))
        generator[f"{layer.name}.weight"].mul_(each[:, None, None, None])
    generator[f"{outputs[-1].name}.bias"].copy_(mean.repeat_interleave(outputs[-1].outgoing // len(mean)))
    average = {name: value.clone() for name, value in generator.items()}
    networks = GanNetworks(shape, critic_shape, generator, critic, average, noise=options.noise)
    for name in networks.learned:
        generator[name].requires_grad_()
    for value in critic.values():
        value.requires_grad_()
    return networks


def step_random(seed: int, step: int, process: int) -> torch.Generator:
    """Chance as a function of seed, step and process: nothing of it needs to be kept."""
    mixed = np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & 0x7FFF_FFFF)


@dataclass(frozen=True)
class GanBatch:
    """What one process sees in one step: real pictures in [-1, 1] with their labels, and where chance stands."""

    real: Tensor
    labels: Tensor | None
    random: torch.Generator


@dataclass(frozen=True)
class Gradients:
    """Of one network's learned tensors, in their order; ``losses`` by name."""

    values: list[Tensor]
    losses: dict[str, float]


def generator_gradients(networks: GanNetworks, options: GanConfig, batch: GanBatch, step: int) -> Gradients:
    """What makes pictures look more real to the discriminator."""
    dtype = getattr(torch, options.precision)
    learned = [networks.generator[name] for name in networks.learned]
    fake = _draw(networks, options, batch, len(batch.real))
    critic = {name: value.detach() for name, value in networks.critic.items()}
    judged = networks.critic_shape.judge(networks.critic_shape.fold(critic, dtype), fake, batch.labels)
    loss = F.softplus(-judged).mean()
    found, losses = list(torch.autograd.grad(loss, learned)), {"generator": float(loss.detach())}
    if options.path_length > 0 and step % options.path_every == 0:
        path, length = _path_length(networks, options, batch, learned)
        found, losses["path"] = list(torch._foreach_add(found, path)), float(length.detach())
    return Gradients(found, losses)


def discriminator_gradients(networks: GanNetworks, options: GanConfig, batch: GanBatch, step: int) -> Gradients:
    """What tells drawn pictures from real ones better, with R1 once in a number of steps."""
    shape, learned = networks.critic_shape, list(networks.critic.values())
    with torch.no_grad():
        fake = _draw(networks, options, batch, len(batch.real))
    folded = shape.fold(networks.critic, getattr(torch, options.precision))
    penalised = options.gamma > 0 and step % options.r1_every == 0
    real = batch.real.requires_grad_(penalised)
    judged, judged_real = shape.judge(folded, fake, batch.labels), shape.judge(folded, real, batch.labels)
    loss = F.softplus(judged).mean() + F.softplus(-judged_real).mean()
    losses = {"critic": loss, "real": judged_real.mean(), "fake": judged.mean()}
    if penalised:
        (slope,) = torch.autograd.grad(judged_real.sum(), real, create_graph=True)
        losses["r1"] = slope.square().sum((1, 2, 3)).mean()
        loss = loss + options.gamma / 2 * options.r1_every * losses["r1"]
    found = list(torch.autograd.grad(loss, learned))
    return Gradients(found, {name: float(value.detach()) for name, value in losses.items()})


def _draw(networks: GanNetworks, options: GanConfig, batch: GanBatch, n: int) -> Tensor:
    """New pictures (n, colours, height, width)."""
    dtype = getattr(torch, options.precision)
    folded = layers.fold_weights(networks.generator, networks.shape, dtype)
    ws = _codes(networks, options, batch, folded, n)
    return layers.synthesis(folded, networks.shape, ws, batch.random if options.noise else None)


def _codes(networks: GanNetworks, options: GanConfig, batch: GanBatch, g: layers.Weights, n: int) -> Tensor:
    """Codes (n, num_ws, w_dim) of new z, some mixed; moves the mean of W along."""
    shape, random = networks.shape, batch.random
    labels = None if batch.labels is None else batch.labels[:n]
    w = layers.mapping(g, shape, torch.randn(n, shape.z_dim, generator=random), labels)
    with torch.no_grad():
        networks.generator["mapping.w_avg"].lerp_(w.mean(0), 1 - W_AVERAGE)
    rows = len(shape.row_resolutions)
    ws = w[:, None].expand(-1, rows, -1)
    mixed = torch.rand(n, 1, 1, generator=random) < options.mixing
    other = torch.randn(n, shape.z_dim, generator=random)
    cut = torch.randint(1, rows, (n, 1, 1), generator=random)
    if options.mixing == 0:
        return ws
    after = mixed & (torch.arange(rows)[None, :, None] >= cut)
    return torch.where(after, layers.mapping(g, shape, other, labels)[:, None], ws)


def _path_length(
    networks: GanNetworks, options: GanConfig, batch: GanBatch, learned: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Gradients of the path length penalty, on half of the batch, and the mean length (section 3.2, equation 4)."""
    dtype = getattr(torch, options.precision)
    g = layers.fold_weights(networks.generator, networks.shape, dtype)
    ws = _codes(networks, options, batch, g, max(len(batch.real) // 2, 1))
    images = layers.synthesis(g, networks.shape, ws, batch.random if options.noise else None)
    y = torch.randn(images.shape, generator=batch.random) / (images.shape[2] * images.shape[3]) ** 0.5
    (slope,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    networks.path_mean.lerp_(lengths.detach().mean(), 1 - PATH_AVERAGE)
    penalty = (lengths - networks.path_mean).square().mean() * options.path_length * options.path_every
    found = torch.autograd.grad(penalty, learned, allow_unused=True)
    return _zeros_for_none(found, learned), lengths.mean()


def _zeros_for_none(found: tuple[Tensor | None, ...], like: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, like, strict=True)]


@torch.no_grad()
def update_average(networks: GanNetworks, options: GanConfig, seen: int) -> None:
    """Move the average weights towards the generator's, after ``seen`` pictures.

    The half-life is shorter at first: a twentieth of what was seen.
    """
    half_life = min(options.average_images, max(seen * 0.05, 1e-8))
    share = 1 - 0.5 ** (options.batch / half_life)
    names = networks.learned
    torch._foreach_lerp_([networks.average[n] for n in names], [networks.generator[n] for n in names], share)
    networks.average["mapping.w_avg"].copy_(networks.generator["mapping.w_avg"])
