"""Fit a generator's own weights to one picture, whose code stays: pivotal tuning.

Roich et al., *Pivotal Tuning for Latent-based Editing of Real Images*, 2021, https://arxiv.org/abs/2106.05744. Some
convolutions get a difference of low rank, as in Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021,
https://arxiv.org/abs/2106.09685: a small file, and little that one picture can spoil for its edits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganvas.data.codes import check_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.inversion.optimization import StepCallback
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.io.files import load_tensors, save_tensors
from ganvas.progress import Progress
from ganvas.types import Images, WPlus
from ganvas.validation import Natural, Positive, PositiveInt, validated

KIND, VERSION = "tuning", 1
LEFT, RIGHT = ".left", ".right"
"""The ends of the names of a weight's two factors."""
MAX_FEATURE_SIDE = 128
"""The largest side of the features whose layers are tuned: early pictures are drawn from them, and finer layers would learn
patterns that the picture alone doesn't show."""


@validated
class TuningConfig:
    """Settings: ``rank`` of the differences, and the ``side`` of the pictures that are compared."""

    steps: Natural = 0
    learning_rate: Positive = 1.5e-3
    rank: PositiveInt = 16
    side: PositiveInt = 256


@dataclass(frozen=True)
class Tuning:
    """Differences of a generator's weights: for each weight (outputs, …) the factors (outputs, rank) and (rank, inputs)."""

    factors: Mapping[str, Tensor]

    @property
    def sha256(self) -> str:
        """The hash of names and numbers, by which recipes know a tuning."""
        digest = hashlib.sha256()
        for name, value in sorted(self.factors.items()):
            digest.update(name.encode() + value.half().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def apply(self, generator: Generator) -> Generator:
        """Return a copy of a generator with these differences. It keeps the fingerprint: its codes are edited alike."""
        tuned = deepcopy(generator)
        with torch.no_grad():
            for name, value in compute_weights(tuned, self.factors).items():
                tuned.get_parameter(name).copy_(value)
        return tuned


def list_tuned_weights(generator: Generator) -> dict[str, Tensor]:
    """List the weights of a generator that are tuned, by name: its pointwise convolutions up to MAX_FEATURE_SIDE.

    Raises GanvasError where it isn't a MobileStyleGAN: others keep forms of weights that wouldn't follow.
    """
    if not isinstance(generator, MobileStyleGAN):
        raise GanvasError(f"Generator {generator.name!r} can't be tuned: only a MobileStyleGAN, such as 'ffhq', can.")
    blocks = [i for i in range(len(generator.widths)) if 8 << i <= MAX_FEATURE_SIDE]
    names = [f"weights.blocks/{i}/{j}/pointwise" for i in blocks for j in (0, 1)]
    return {name: generator.get_parameter(name) for name in names}


def compute_weights(generator: Generator, factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute the tuned weights of a generator."""
    weights = {}
    for name, value in list_tuned_weights(generator).items():
        difference = factors[name + LEFT].float() @ factors[name + RIGHT].float()
        weights[name] = (value.float() + difference.reshape(value.shape)).to(value)
    return weights


class _Synthesis(nn.Module):
    """The synthesis of a generator as a module, whose weights ``functional_call`` replaces."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, ws: WPlus, resolution: int) -> Images:
        return self.generator.synthesis(ws, resolution=resolution)


def fit_tuning(
    loss_function: PerceptualLoss,
    generator: Generator,
    ws: WPlus,
    config: TuningConfig,
    progress: Progress | None = None,
    on_step: StepCallback | None = None,
) -> Tuning:
    """Fit a generator's weights so that the picture of ``ws`` (1, num_ws, w_dim) comes near the loss's target.

    ``progress`` is called with the steps done and all steps; ``on_step`` as ``optimize_code`` calls it.
    """
    factors = make_factors(generator, config.rank)
    optimizer = torch.optim.Adam(factors.values(), config.learning_rate, (0.9, 0.99))
    synthesis, side = _Synthesis(generator), min(config.side, generator.resolution)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        with torch.enable_grad():
            weights = {f"generator.{name}": value for name, value in compute_weights(generator, factors).items()}
            picture = functional_call(synthesis, weights, (ws.detach(), side))
            loss = loss_function.compute_distance(picture)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress:
            progress(step + 1, config.steps)
        if on_step and on_step(step + 1, config.steps, picture.detach(), ws) is True:
            break
    return Tuning({name: value.detach().half() for name, value in factors.items()})


def make_factors(generator: Generator, rank: int) -> dict[str, Tensor]:
    """Make the factors of differences of 0: the left ones are 0, the right ones random, from a fixed seed."""
    random = torch.Generator().manual_seed(0)
    factors = {}
    for name, value in list_tuned_weights(generator).items():
        outputs, inputs = value.shape[0], value[0].numel()
        width = min(rank, outputs, inputs)
        right = torch.randn(width, inputs, generator=random) * float(value.float().std())
        factors[name + LEFT] = torch.zeros(outputs, width, device=value.device).requires_grad_(True)
        factors[name + RIGHT] = right.to(value.device).requires_grad_(True)
    return factors


def save_tuning(path: str | Path, tuning: Tuning, generator: Generator) -> None:
    """Write a tuning of ``generator`` as safetensors, in float16."""
    owner = {"name": generator.name, "fingerprint": generator.fingerprint}
    tensors = {name: value.half() for name, value in tuning.factors.items()}
    save_tensors(path, tensors, {"kind": KIND, "version": VERSION, "generator": owner})


def load_tuning(path: str | Path, generator: Generator) -> Tuning:
    """Load the tuning in a file.

    Raises GanvasError for any other file, and for another generator's tuning (both are named).
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND or metadata.get("version") != VERSION:
        raise GanvasError(f"{path} holds no tuning that this version of ganvas reads: `edit-photo --tune` writes one.")
    owner = metadata.get("generator")
    owner = owner if isinstance(owner, dict) else {}
    check_generator(path, owner.get("name"), owner.get("fingerprint"), generator)
    weights = list_tuned_weights(generator)
    if tensors.keys() != {name + end for name in weights for end in (LEFT, RIGHT)}:
        raise GanvasError(f"{path} isn't a whole tuning: it has {len(tensors)} tensors, not {2 * len(weights)}.")
    for name, value in weights.items():
        left, right = tensors[name + LEFT], tensors[name + RIGHT]
        shapes = left.ndim == right.ndim == 2 and (len(left), left.shape[1], right.shape[1])
        if shapes != (len(value), len(right), value[0].numel()):
            raise GanvasError(f"{path} isn't a whole tuning: the shape of {name!r} doesn't match.")
        if not (left.isfinite().all() and right.isfinite().all()):
            raise GanvasError(f"{path} isn't a whole tuning: {name!r} has numbers that aren't finite.")
    return Tuning({name: value.to(generator.device) for name, value in tensors.items()})
