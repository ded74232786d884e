"""Trains an encoder of pictures with objects in the manner of e4e, on real pictures and on drawn ones whose codes are known.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code; offsets of its rows, freed one after the other, coarse to fine,
with a penalty on their length; a latent discriminator; reconstruction in pixels and in features (here the counter's).

Two things are ours. e4e learns from real pictures alone, for days on a GPU. Here a first part learns from drawn pictures,
whose codes are known: it needs no gradient through the generator and sees thrice as many pictures a second; they go on
beside the real ones afterwards. And ``keep_count`` weighs a loss that keeps the number of objects: the cross-entropy of what
the counter counts in the reconstruction (planned by Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483).
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

CHUNK = 50
"""Steps between checkpoints."""
SCALE = 512
"""Real pictures, at most, whose variances losses are shares of."""
MAX_GRADIENT = 1.0
"""The longest gradient by a real picture's code, in standard deviations."""
SECOND_RATE = 0.3
"""The learning rate of the second part, of the first's: it shall not forget."""
DISCRIMINATOR_RATE = 0.3
"""The learning rate of the latent discriminator, of the encoder's."""
TrainProgress = Callable[[int, int], object]
Loss = Callable[[int, torch.Generator], Tensor]


def train_encoder(
    folder: str | Path,
    generator: Generator,
    counter: Counter,
    out: str | Path,
    options: CountEncoderConfig | None = None,
    watch: TrainProgress = lambda step, steps: None,
) -> Encoder:
    """Train on the training part of a MultiMNIST folder, and write the encoder to ``out``.

    Checkpoints beside ``out`` let a run that was stopped go on, to the same bytes. ``watch(step, steps)`` counts both parts.
    Raises GanvasError for a folder that holds no MultiMNIST, and checkpoints of another run.
    """
    out, options = Path(out), options or CountEncoderConfig()
    total = options.first + options.steps
    lesson = CountEncoderData(
        generator, counter_features(counter), read_count_images(read_multimnist(folder, "train"), generator)
    )
    kept = [out.with_suffix(f".{part}.checkpoint.safetensors") for part in ("first", "second")]
    begun = train_first_part(lesson, options, kept[0], lambda step, _: watch(step, total))
    network = train_second_part(lesson, options, begun, kept[1], lambda step, _: watch(options.first + step, total))
    encoder = make_encoder(generator, network)
    save_encoder(encoder, out, {"options": asdict(options)})
    for path in kept:
        path.unlink(missing_ok=True)
    return encoder


def train_first_part(
    lesson: CountEncoderData,
    options: CountEncoderConfig,
    checkpoint: Path | None = None,
    watch: TrainProgress = lambda step, steps: None,
) -> EncoderNetwork:
    """The network after the first part: w of drawn pictures, in standard deviations from the mean; the same for all spaces."""
    school = CountEncoderTraining(lesson, options)
    network = school.network()

    def loss(step: int, random: torch.Generator) -> Tensor:
        codes, images = school.draw(options.drawn, random)
        return school.missed(school.encode(network, images)[0], codes)

    run = {"part": "first", "first": options.first, "drawn": options.drawn, "rate": options.rate, "seed": options.seed}
    run |= {"dtype": options.dtype}
    _descend(school, [network], [loss], options.first, _Kept(checkpoint, run), watch)
    return network


def train_second_part(
    lesson: CountEncoderData,
    options: CountEncoderConfig,
    begun: EncoderNetwork,
    checkpoint: Path | None = None,
    watch: TrainProgress = lambda step, steps: None,
) -> EncoderNetwork:
    """The finished network, from what ``train_first_part`` gave, which stays as it was."""
    school = CountEncoderTraining(lesson, options)
    network, judge = school.network(), school.judge()
    network.load_state_dict(begun.state_dict())
    likeness = ObjectLoss.fit_scales(
        lesson.eye, lesson.material.images(slice(0, SCALE)), options.pixels, options.features
    )
    rows: list[Tensor] = []
    """Mapped ones and encoded ones of this step: what the encoder's loss leaves for the discriminator's."""

    def of_encoder(step: int, random: torch.Generator) -> Tensor:
        codes, drawn = school.draw(-(-options.batch // 2), random)
        chosen = torch.randint(len(lesson.material.counts), (options.batch,), generator=random)
        real = lesson.material.images(chosen).to(codes.device)
        base, offsets = school.encode(network, torch.cat((real, drawn)))
        free = options.open(step, network.num_ws).to(offsets)
        offsets = offsets[: len(real)] * free
        ws = base[: len(real), None] + offsets
        missed, counts = likeness.compute_loss(school.synthesis(clip_gradient(ws)), likeness.prepare_targets(real))
        loss = missed.mean() + options.code * school.missed(base[len(real) :], codes)
        loss = loss + options.offset * offsets.square().mean() * network.num_ws / free.sum().clamp(min=1)
        if options.keep_count:
            wanted = lesson.material.counts[chosen].clamp(max=counts.shape[1] - 1).to(counts.device)
            loss = loss + options.keep_count * F.cross_entropy(counts, wanted)
        some = select_rows(ws, random)
        rows[:] = [codes, some.detach()]
        return loss + options.judged * judge.deceived(some)

    def of_judge(step: int, random: torch.Generator) -> Tensor:
        return judge.loss(*rows)

    run = {"part": "second", "options": asdict(options), "begun": float(begun.base.weight.detach().double().sum())}
    run |= {"pictures": len(lesson.material.counts), "ink": int(lesson.material.pixels.sum())}
    _descend(school, [network, judge], [of_encoder, of_judge], options.steps, _Kept(checkpoint, run), watch)
    mean, deviation = school.mean.cpu(), school.deviation.cpu()
    return fold_whitening(network.cpu(), mean, deviation * torch.eye(network.w_dim)).requires_grad_(False)


def clip_gradient(ws: Tensor) -> Tensor:
    """The same codes (n, num_ws, w_dim); a mean loss over them moves none by a gradient of more than ``MAX_GRADIENT``.

    Pictures of a small generator change abruptly here and there, and one such gradient would undo what many others taught.
    """

    def limited(slope: Tensor) -> Tensor:
        norms = slope.norm(dim=(1, 2), keepdim=True) * len(slope)
        return slope * (MAX_GRADIENT / norms.clamp(min=1e-12)).clamp(max=1)

    found = ws.view_as(ws)
    if found.requires_grad:
        found.register_hook(limited)
    return found


class _Kept(NamedTuple):
    """Where a checkpoint goes, and what else of the run must be the same to go on from it."""

    path: Path | None
    run: dict[str, Any]


def _descend(
    school: CountEncoderTraining,
    networks: list[nn.Module],
    losses: list[Loss],
    steps: int,
    kept: _Kept,
    watch: TrainProgress,
) -> None:
    """Adam on each network by its own loss; a checkpoint every ``CHUNK`` steps, from which it goes on to the same weights."""
    options = school.options
    shares = (
        [(networks[0], 1.0)] if len(networks) == 1 else zip(networks, (SECOND_RATE, DISCRIMINATOR_RATE), strict=True)
    )
    groups = [{"params": list(network.parameters()), "share": share} for network, share in shares]
    optimizer = torch.optim.AdamW(groups, options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    made_of = {"generator": school.generator.fingerprint, "sizes": asdict(school.lesson.sizes)}
    # As JSON gives it back: lists, no tuples.
    run, every = json.loads(json.dumps(kept.run | made_of)), nn.ModuleList(networks)
    done = training_checkpoint.load_checkpoint(kept.path, every, optimizer, run) if kept.path else 0
    for chunk in range(done, math.ceil(steps / CHUNK)):
        random = torch.Generator().manual_seed(options.seed * 100_003 + chunk)
        for step in range(chunk * CHUNK, min((chunk + 1) * CHUNK, steps)):
            for group, loss in zip(optimizer.param_groups, losses, strict=True):
                group["lr"] = options.rate * group["share"] * warmup_cosine(step, steps)
                _differentiate(loss(step, random), group["params"])
            optimizer.step()
            watch(step + 1, steps)
        if kept.path:
            training_checkpoint.save_checkpoint(kept.path, chunk + 1, every, optimizer, run)


def _differentiate(loss: Tensor, weights: Iterable[Tensor]) -> None:
    """Give one network the gradients of its loss. Raises GanvasError where it isn't finite any more."""
    if not torch.isfinite(loss):
        raise GanvasError(f"The training went astray (loss {float(loss.detach())}): lower its rate.")
    weights = list(weights)
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    for weight, gradient in zip(weights, found, strict=True):
        weight.grad = torch.zeros_like(weight) if gradient is None else gradient
    nn.utils.clip_grad_norm_(weights, 10.0)
