"""The losses of StyleGAN2 and their gradients in one step of a GAN's training.

Karras et al., https://arxiv.org/abs/1912.04958: the non-saturating logistic loss (Goodfellow et al.), R1 on real
pictures (Mescheder et al., https://arxiv.org/abs/1801.04406), path length regularisation (section 3.2), lazy
regularisation (section 3.1), and style mixing (Karras et al., https://arxiv.org/abs/1812.04948).
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

W_MEAN_DECAY = 0.995
"""The weight of the old mean of W in a step's new one."""
PATH_LENGTH_DECAY = 0.99
"""The weight of the old mean path length in a step's new one."""


@dataclass
class GanNetworks:
    """All that training changes. ``average``: the running average of the generator's weights, which is exported."""

    generator_architecture: layers.StyleGAN2Architecture
    discriminator_architecture: DiscriminatorArchitecture
    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor]
    average: dict[str, Tensor]
    path_mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    noise: bool = True

    @property
    def trainable(self) -> list[str]:
        """The names of the generator's tensors that are trained: neither the constant noise nor the mean of W."""
        fixed = ("noise_const", "w_avg") + (() if self.noise else ("noise_strength",))
        return [name for name in self.generator if not name.endswith(fixed)]


def initialize_networks(config: GanConfig, num_labels: int, mean: Tensor, deviation: Tensor) -> GanNetworks:
    """Create networks before training, from the seed alone; generated pictures have the real ones' ``mean`` and standard
    ``deviation``, both (colours,): before tanh, the value that becomes the mean and a deviation of 1.

    Otherwise the first steps learn only these two, and the generator becomes insensitive to codes.
    """
    if config.bounded:
        mean, deviation = mean.clamp(-0.99, 0.99).atanh(), torch.ones_like(deviation)
    random = create_random(config.seed, 0, 2**31)
    shape = config.build_generator_architecture(len(mean), num_labels)
    discriminator_architecture = config.build_discriminator_architecture(len(mean), num_labels)
    generator, discriminator = layers.initialize_weights(shape, random), discriminator_architecture.initialize(random)
    outputs = list(shape.iterate_outputs())
    for layer in outputs:
        layer_deviation = (deviation / len(outputs) ** 0.5).repeat_interleave(layer.outgoing // len(mean))
        generator[f"{layer.name}.weight"].mul_(layer_deviation[:, None, None, None])
    generator[f"{outputs[-1].name}.bias"].copy_(mean.repeat_interleave(outputs[-1].outgoing // len(mean)))
    average = {name: value.clone() for name, value in generator.items()}
    networks = GanNetworks(shape, discriminator_architecture, generator, discriminator, average, noise=config.noise)
    for name in networks.trainable:
        generator[name].requires_grad_()
    for value in discriminator.values():
        value.requires_grad_()
    return networks


def create_random(seed: int, step: int, process: int) -> torch.Generator:
    """Create a random generator from seed, step and process: checkpoints need no random state."""
    mixed = np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) & 0x7FFF_FFFF)


@dataclass(frozen=True)
class GanBatch:
    """One process's data of one step: real pictures in [-1, 1] with their labels, and the random generator."""

    real: Tensor
    labels: Tensor | None
    random: torch.Generator


@dataclass(frozen=True)
class Gradients:
    """Gradients of one network's trainable tensors, in their order, and ``losses`` by name."""

    values: list[Tensor]
    losses: dict[str, float]


def compute_generator_gradients(networks: GanNetworks, config: GanConfig, batch: GanBatch, step: int) -> Gradients:
    """Compute the generator's gradients, with path length regularisation every ``path_every`` steps."""
    dtype = getattr(torch, config.precision)
    trainable = [networks.generator[name] for name in networks.trainable]
    fake = _draw_images(networks, config, batch, len(batch.real))
    discriminator = {name: value.detach() for name, value in networks.discriminator.items()}
    folded = networks.discriminator_architecture.fold_weights(discriminator, dtype)
    logits = networks.discriminator_architecture.compute_logits(folded, fake, batch.labels)
    loss = F.softplus(-logits).mean()
    gradients, losses = list(torch.autograd.grad(loss, trainable)), {"generator": float(loss.detach())}
    if config.path_length > 0 and step % config.path_every == 0:
        path_gradients, length = _path_length_gradients(networks, config, batch, trainable)
        gradients, losses["path"] = list(torch._foreach_add(gradients, path_gradients)), float(length.detach())
    return Gradients(gradients, losses)


def compute_discriminator_gradients(networks: GanNetworks, config: GanConfig, batch: GanBatch, step: int) -> Gradients:
    """Compute the discriminator's gradients, with R1 every ``r1_every`` steps."""
    shape, trainable = networks.discriminator_architecture, list(networks.discriminator.values())
    with torch.no_grad():
        fake = _draw_images(networks, config, batch, len(batch.real))
    folded = shape.fold_weights(networks.discriminator, getattr(torch, config.precision))
    penalised = config.gamma > 0 and step % config.r1_every == 0
    real = batch.real.requires_grad_(penalised)
    logits = shape.compute_logits(folded, fake, batch.labels)
    real_logits = shape.compute_logits(folded, real, batch.labels)
    loss = F.softplus(logits).mean() + F.softplus(-real_logits).mean()
    losses = {"discriminator": loss, "real": real_logits.mean(), "fake": logits.mean()}
    if penalised:
        (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
        losses["r1"] = gradient.square().sum((1, 2, 3)).mean()
        loss = loss + config.gamma / 2 * config.r1_every * losses["r1"]
    gradients = list(torch.autograd.grad(loss, trainable))
    return Gradients(gradients, {name: float(value.detach()) for name, value in losses.items()})


def _draw_images(networks: GanNetworks, config: GanConfig, batch: GanBatch, n: int) -> Tensor:
    """Draw random pictures (n, colours, height, width)."""
    dtype = getattr(torch, config.precision)
    folded = layers.fold_weights(networks.generator, networks.generator_architecture, dtype)
    ws = _draw_codes(networks, config, batch, folded, n)
    return layers.synthesis(folded, networks.generator_architecture, ws, batch.random if config.noise else None)


def _draw_codes(networks: GanNetworks, config: GanConfig, batch: GanBatch, g: layers.Weights, n: int) -> Tensor:
    """Draw random codes (n, num_ws, w_dim), some of them mixed, and update the mean of W."""
    shape, random = networks.generator_architecture, batch.random
    labels = None if batch.labels is None else batch.labels[:n]
    w = layers.mapping(g, shape, torch.randn(n, shape.z_dim, generator=random), labels)
    with torch.no_grad():
        networks.generator["mapping.w_avg"].lerp_(w.mean(0), 1 - W_MEAN_DECAY)
    rows = len(shape.row_resolutions)
    ws = w[:, None].expand(-1, rows, -1)
    mixed = torch.rand(n, 1, 1, generator=random) < config.mixing
    other_z = torch.randn(n, shape.z_dim, generator=random)
    first_mixed_row = torch.randint(1, rows, (n, 1, 1), generator=random)
    if config.mixing == 0:
        return ws
    is_other = mixed & (torch.arange(rows)[None, :, None] >= first_mixed_row)
    return torch.where(is_other, layers.mapping(g, shape, other_z, labels)[:, None], ws)


def _path_length_gradients(
    networks: GanNetworks, config: GanConfig, batch: GanBatch, trainable: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Compute the gradients of the path length penalty, on half of the batch, and the mean length (section 3.2, equation 4)."""
    dtype = getattr(torch, config.precision)
    g = layers.fold_weights(networks.generator, networks.generator_architecture, dtype)
    ws = _draw_codes(networks, config, batch, g, max(len(batch.real) // 2, 1))
    images = layers.synthesis(g, networks.generator_architecture, ws, batch.random if config.noise else None)
    y = torch.randn(images.shape, generator=batch.random) / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    networks.path_mean.lerp_(lengths.detach().mean(), 1 - PATH_LENGTH_DECAY)
    penalty = (lengths - networks.path_mean).square().mean() * config.path_length * config.path_every
    gradients = torch.autograd.grad(penalty, trainable, allow_unused=True)
    return _replace_missing(gradients, trainable), lengths.mean()


def _replace_missing(gradients: tuple[Tensor | None, ...], parameters: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]


@torch.no_grad()
def update_average(networks: GanNetworks, config: GanConfig, images_seen: int) -> None:
    """Move the average weights towards the generator's, after ``images_seen`` pictures.

    The half-life is at most a twentieth of the pictures seen, so that early weights fade soon.
    """
    half_life = min(config.average_images, max(images_seen * 0.05, 1e-8))
    share = 1 - 0.5 ** (config.batch / half_life)
    names = networks.trainable
    torch._foreach_lerp_([networks.average[n] for n in names], [networks.generator[n] for n in names], share)
    networks.average["mapping.w_avg"].copy_(networks.generator["mapping.w_avg"])
