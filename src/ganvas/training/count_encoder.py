"""Train an encoder of pictures with objects in the manner of e4e, on real pictures and on generated ones with their codes.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code; offsets of its rows, freed one after the other, coarse to fine,
with a penalty on their length; a latent discriminator; reconstruction in pixels and in features (here the counter's).

It differs in two points. e4e is trained on real pictures alone, for days on a GPU. Here a first part is trained on generated
pictures, whose codes are known: it needs no gradient through the generator and is faster; the second part uses real and
generated ones. And ``keep_count`` weighs a loss that keeps the number of objects: the cross-entropy of the counter's logits
on the reconstruction (planned by Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.data.multimnist_files import read_multimnist
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import Encoder, EncoderNetwork, make_encoder, save_encoder
from ganvas.inversion.object_loss import ObjectLoss, counter_features
from ganvas.progress import Progress
from ganvas.scorers.count import Counter
from ganvas.training import checkpoint as training_checkpoint
from ganvas.training.count_encoder_data import (
    CountEncoderConfig,
    CountEncoderData,
    CountEncoderTraining,
    CountImages,
    read_count_images,
)
from ganvas.training.counter import warmup_cosine
from ganvas.training.encoder import fold_whitening
from ganvas.training.latent_discriminator import select_rows

__all__ = [
    "CountEncoderConfig",
    "CountEncoderData",
    "CountImages",
    "read_count_images",
    "train_encoder",
    "train_first_part",
    "train_second_part",
]

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
LossFunction = Callable[[int, torch.Generator], Tensor]


def train_encoder(
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
        generator, counter_features(counter), read_count_images(read_multimnist(folder, "train"), generator)
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
    network = training.create_network()

    def loss(step: int, random: torch.Generator) -> Tensor:
        codes, images = training.draw_images(config.drawn, random)
        return training.code_loss(training.encode(network, images)[0], codes)

    run = {"part": "first", "first": config.first, "drawn": config.drawn, "rate": config.rate, "seed": config.seed}
    run |= {"dtype": config.dtype}
    _optimize(training, [network], [loss], config.first, _CheckpointFile(checkpoint, run), progress)
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
    network, discriminator = training.create_network(), training.create_discriminator()
    network.load_state_dict(first_network.state_dict())
    object_loss = ObjectLoss.fit_scales(
        data.features, data.images.decode(slice(0, MAX_SCALE_IMAGES)), config.pixels, config.features
    )
    rows: list[Tensor] = []
    """Mapped and encoded rows of this step, which the encoder's loss passes to the discriminator's."""

    def encoder_loss(step: int, random: torch.Generator) -> Tensor:
        codes, drawn = training.draw_images(-(-config.batch // 2), random)
        indices = torch.randint(len(data.images.counts), (config.batch,), generator=random)
        real = data.images.decode(indices).to(codes.device)
        base, offsets = training.encode(network, torch.cat((real, drawn)))
        free = config.free_offsets(step, network.num_ws).to(offsets)
        offsets = offsets[: len(real)] * free
        ws = base[: len(real), None] + offsets
        missed, counts = object_loss.compute_loss(
            training.synthesis(clip_gradient(ws)), object_loss.prepare_targets(real)
        )
        loss = missed.mean() + config.code * training.code_loss(base[len(real) :], codes)
        loss = loss + config.offset * offsets.square().mean() * network.num_ws / free.sum().clamp(min=1)
        if config.keep_count:
            targets = data.images.counts[indices].clamp(max=counts.shape[1] - 1).to(counts.device)
            loss = loss + config.keep_count * F.cross_entropy(counts, targets)
        selected = select_rows(ws, random)
        rows[:] = [codes, selected.detach()]
        return loss + config.judged * discriminator.encoder_loss(selected)

    def discriminator_loss(step: int, random: torch.Generator) -> Tensor:
        return discriminator.discriminator_loss(*rows)

    run = {
        "part": "second",
        "options": asdict(config),
        "begun": float(first_network.base.weight.detach().double().sum()),
    }
    run |= {"pictures": len(data.images.counts), "ink": int(data.images.pixels.sum())}
    _optimize(
        training,
        [network, discriminator],
        [encoder_loss, discriminator_loss],
        config.steps,
        _CheckpointFile(checkpoint, run),
        progress,
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


class _CheckpointFile(NamedTuple):
    """The path of a checkpoint, and what else of the run must be equal to continue from it."""

    path: Path | None
    run: dict[str, Any]


def _optimize(
    training: CountEncoderTraining,
    networks: list[nn.Module],
    losses: list[LossFunction],
    steps: int,
    checkpoint: _CheckpointFile,
    progress: Progress,
) -> None:
    """Minimise each network's own loss by AdamW, with a checkpoint every CHECKPOINT_STEPS steps to continue from."""
    config = training.config
    shares = (
        [(networks[0], 1.0)]
        if len(networks) == 1
        else zip(networks, (SECOND_PART_RATE, DISCRIMINATOR_RATE), strict=True)
    )
    groups = [{"params": list(network.parameters()), "share": share} for network, share in shares]
    optimizer = torch.optim.AdamW(groups, config.rate, betas=(0.9, 0.99), weight_decay=0.0)
    generator_run = {"generator": training.generator.fingerprint, "sizes": asdict(training.data.sizes)}
    # As it is read from JSON: with lists, not tuples.
    run, modules = json.loads(json.dumps(checkpoint.run | generator_run)), nn.ModuleList(networks)
    done = training_checkpoint.load_checkpoint(checkpoint.path, modules, optimizer, run) if checkpoint.path else 0
    for chunk in range(done, math.ceil(steps / CHECKPOINT_STEPS)):
        random = torch.Generator().manual_seed(config.seed * 100_003 + chunk)
        for step in range(chunk * CHECKPOINT_STEPS, min((chunk + 1) * CHECKPOINT_STEPS, steps)):
            for group, loss in zip(optimizer.param_groups, losses, strict=True):
                group["lr"] = config.rate * group["share"] * warmup_cosine(step, steps)
                _set_gradients(loss(step, random), group["params"])
            optimizer.step()
            progress(step + 1, steps)
        if checkpoint.path:
            training_checkpoint.save_checkpoint(checkpoint.path, chunk + 1, modules, optimizer, run)


def _set_gradients(loss: Tensor, weights: Iterable[Tensor]) -> None:
    """Set the gradients of one network's loss. Raises GanvasError where the loss isn't finite."""
    if not torch.isfinite(loss):
        raise GanvasError(f"The training diverged (loss {float(loss.detach())}): choose a lower learning rate.")
    weights = list(weights)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = torch.zeros_like(weight) if gradient is None else gradient
    nn.utils.clip_grad_norm_(weights, 10.0)
