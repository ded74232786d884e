"""Train an encoder of pictures with objects in the manner of e4e, on real pictures and on generated ones with their codes.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code; offsets of its rows, freed one after the other, coarse to fine,
with a penalty on their length; reconstruction in pixels and in features (here the counter's); a latent discriminator that
classifies rows of codes as mapped or encoded (section 4.2), with the non-saturating loss of Goodfellow et al., and R1 (Mescheder
et al., https://arxiv.org/abs/1801.04406) in every step, which is cheap for so small a network.

It differs in two points. e4e is trained on real pictures alone, for days on a GPU. Here a first part is trained on generated
pictures, whose codes are known: it needs no gradient through the generator and is faster; the second part uses real and
generated ones. And ``keep_count`` weighs a loss that keeps the number of objects: the cross-entropy of the counter's logits
on the reconstruction (planned by Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483).
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.data.multimnist_files import read_multimnist
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import Encoder, EncoderNetwork, make_encoder, save_encoder
from ganvas.inversion.object_loss import ObjectLoss, extract_counter_features
from ganvas.progress import Progress
from ganvas.scorers.count import Counter
from ganvas.training.count_encoder_data import (
    CountEncoderConfig,
    CountEncoderData,
    CountEncoderTraining,
    read_count_images,
)
from ganvas.training.encoder import fold_whitening
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, seed_random_state

CHECKPOINT_STEPS = 50
"""Steps between checkpoints."""
MAX_SCALE_IMAGES = 512
"""Real pictures, at most, whose variances normalise the losses."""
MAX_GRADIENT = 1.0
"""The largest norm of the gradient by a real picture's code, in standard deviations."""
SECOND_PART_RATE = 0.3
"""The encoder's learning rate in the second part, as a share of the first's."""
DISCRIMINATOR_RATE = 0.3
"""The latent discriminator's learning rate, as a share of the encoder's in the first part."""
ADAMW_OPTIONS: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.0}
MAX_NORM = 10.0
"""The norm that the gradient of a network's loss is clipped to."""
HIDDEN_WIDTHS = (256, 256, 256)
"""Of the latent discriminator."""
R1_WEIGHT = 1.0
ROWS_PER_STEP = 4
"""How many rows of a code one step uses: they are much alike."""


def train_count_encoder(
    folder: str | Path,
    generator: Generator,
    counter: Counter,
    out: str | Path,
    config: CountEncoderConfig | None = None,
    progress: Progress = lambda step, steps: None,
) -> Encoder:
    """Train on the training part of a MultiMNIST folder, and write the encoder to ``out``.

    ``progress`` takes the steps done and those of both parts. A stopped run continues from checkpoints beside ``out``, to
    the same bytes.
    Raises GanvasError for a folder that holds no MultiMNIST, and checkpoints of another run.
    """
    out, config = Path(out), config or CountEncoderConfig()
    total = config.first + config.steps
    data = CountEncoderData(
        generator, extract_counter_features(counter), read_count_images(read_multimnist(folder, "train"), generator)
    )
    checkpoints = [out.with_suffix(f".{part}.checkpoint.safetensors") for part in ("first", "second")]
    first_network = train_first_part(data, config, checkpoints[0], lambda step, _: progress(step, total))
    network = train_second_part(
        data, config, first_network, checkpoints[1], lambda step, _: progress(config.first + step, total)
    )
    encoder = make_encoder(generator, network)
    save_encoder(encoder, out, {"options": asdict(config)})
    for path in checkpoints:
        path.unlink(missing_ok=True)
    return encoder


def train_first_part(
    data: CountEncoderData,
    config: CountEncoderConfig,
    checkpoint: Path | None = None,
    progress: Progress = lambda step, steps: None,
) -> EncoderNetwork:
    """Train the first part: predict w of generated pictures, in standard deviations from the mean; the same for all spaces."""
    training = CountEncoderTraining(data, config)
    network, epochs = training.create_network(), Epochs(CHECKPOINT_STEPS, config.seed * 100_003)

    def loss(step: int) -> Tensor:
        codes, images = training.draw_images(config.drawn, epochs.random)
        return training.compute_code_loss(training.encode(network, images)[0], codes)

    run = {"part": "first", "first": config.first, "drawn": config.drawn, "rate": config.rate, "seed": config.seed}
    optimizer = torch.optim.AdamW(network.parameters(), config.rate, **ADAMW_OPTIONS)
    file = _make_checkpoint(training, checkpoint, network, run | {"dtype": config.dtype})
    minimize(loss, optimizer, config.first, max_norm=MAX_NORM, epochs=epochs, checkpoint=file, progress=progress)
    return network


def train_second_part(
    data: CountEncoderData,
    config: CountEncoderConfig,
    first_network: EncoderNetwork,
    checkpoint: Path | None = None,
    progress: Progress = lambda step, steps: None,
) -> EncoderNetwork:
    """Train the second part, from a copy of ``first_network``, and return the finished network."""
    training = CountEncoderTraining(data, config)
    network = training.create_network()
    with seed_random_state(config.seed):
        discriminator = LatentDiscriminator(network.w_dim).to(training.generator.device)
    network.load_state_dict(first_network.state_dict())
    object_loss = ObjectLoss.fit_scales(
        data.features, data.images.decode(slice(0, MAX_SCALE_IMAGES)), config.pixels, config.features
    )
    epochs = Epochs(CHECKPOINT_STEPS, config.seed * 100_003)
    # Mapped and encoded rows of a step, which the encoder's loss passes to the discriminator's.
    rows: list[Tensor] = []

    def encoder_loss(step: int) -> Tensor:
        """Return the encoder's loss of one step on a batch of drawn and real pictures."""
        random = epochs.random
        codes, drawn = training.draw_images(-(-config.batch // 2), random)
        indices = torch.randint(len(data.images.counts), (config.batch,), generator=random)
        real = data.images.decode(indices).to(codes.device)
        base, offsets = training.encode(network, torch.cat((real, drawn)))
        free = config.compute_free_offsets(step, network.num_ws).to(offsets)
        offsets = offsets[: len(real)] * free
        ws = base[: len(real), None] + offsets
        missed, counts = object_loss.compute_loss(
            training.synthesis(clip_gradient(ws)), object_loss.prepare_targets(real)
        )
        loss = missed.mean() + config.code * training.compute_code_loss(base[len(real) :], codes)
        loss = loss + config.offset * offsets.square().mean() * network.num_ws / free.sum().clamp(min=1)
        if config.keep_count:
            targets = data.images.counts[indices].clamp(max=counts.shape[1] - 1).to(counts.device)
            loss = loss + config.keep_count * F.cross_entropy(counts, targets)
        selected = select_rows(ws, random)
        rows[:] = [codes, selected.detach()]
        return loss + config.judged * discriminator.compute_encoder_loss(selected)

    run = {
        "part": "second",
        "options": asdict(config),
        "begun": float(first_network.base.weight.detach().double().sum()),
    }
    run |= {"pictures": len(data.images.counts), "ink": int(data.images.pixels.sum())}
    groups = [
        {"params": list(network.parameters()), "lr": SECOND_PART_RATE * config.rate},
        {"params": list(discriminator.parameters()), "lr": DISCRIMINATOR_RATE * config.rate},
    ]
    minimize(
        [encoder_loss, lambda step: discriminator.compute_discriminator_loss(*rows)],
        torch.optim.AdamW(groups, **ADAMW_OPTIONS),
        config.steps,
        max_norm=MAX_NORM,
        epochs=epochs,
        checkpoint=_make_checkpoint(training, checkpoint, nn.ModuleList([network, discriminator]), run),
        progress=progress,
    )
    mean, deviation = training.mean.cpu(), training.deviation.cpu()
    return fold_whitening(network.cpu(), mean, deviation * torch.eye(network.w_dim)).requires_grad_(False)


def clip_gradient(ws: Tensor) -> Tensor:
    """Return the same codes (n, num_ws, w_dim), clipping each one's gradient of a mean loss over them to ``MAX_GRADIENT``.

    Pictures of a small generator change abruptly here and there, and one such gradient would outweigh many others.
    """

    def limit(gradient: Tensor) -> Tensor:
        norms = gradient.norm(dim=(1, 2), keepdim=True) * len(gradient)
        return gradient * (MAX_GRADIENT / norms.clamp(min=1e-12)).clamp(max=1)

    same = ws.view_as(ws)
    if same.requires_grad:
        same.register_hook(limit)
    return same


class LatentDiscriminator(nn.Module):
    """A perceptron from rows (n, w_dim), in standard deviations from the mean of W, to logits (n,): above 0 for mapped rows."""

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        layers = [layer for a, b in pairwise((w_dim, *HIDDEN_WIDTHS)) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN_WIDTHS[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits (n,)."""
        return self.layers(rows)[:, 0]

    def compute_encoder_loss(self, rows: Tensor) -> Tensor:
        """Compute the adversarial loss of the encoder that gave these rows."""
        return F.softplus(-self(rows)).mean()

    def compute_discriminator_loss(self, mapped: Tensor, encoded: Tensor) -> Tensor:
        """Compute the discriminator's own loss, with R1, on mapped and on encoded rows."""
        real = mapped.detach().requires_grad_(True)
        logits = self(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        loss = F.softplus(-logits).mean() + F.softplus(self(encoded.detach())).mean()
        return loss + R1_WEIGHT / 2 * gradient.square().sum(1).mean()


def select_rows(codes: Tensor, random: torch.Generator) -> Tensor:
    """Select random rows of codes (n, rows, w_dim), as (m, w_dim)."""
    rows = codes.shape[1]
    indices = torch.randperm(rows, generator=random)[: min(ROWS_PER_STEP, rows)]
    return codes[:, indices.to(codes.device)].flatten(0, 1)


def _make_checkpoint(
    training: CountEncoderTraining, path: Path | None, network: nn.Module, run: dict[str, Any]
) -> TrainingCheckpoint | None:
    run |= {"generator": training.generator.fingerprint, "sizes": asdict(training.data.sizes)}
    return TrainingCheckpoint(path, network, run) if path else None
