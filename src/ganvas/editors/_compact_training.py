"""The training of the compact editor's auto-encoder: the paper's schedule, and a shorter one."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ganvas.editors._compact_network import Perceptron, TrainablePerceptron, linear_start, losses
from ganvas.errors import GanvasError
from ganvas.progress import Progress
from ganvas.types import Dtype
from ganvas.validation import Flag, NonNegative, PositiveInt, validated


@validated
class CompactTraining:
    """The architecture and schedule; the defaults are the paper's. ``alpha`` and ``beta`` weigh (4) and (5) in (6).

    ``path``: a linear path beside the layers, initialised as the best linear encoder and decoder, and a learning rate
    that warms up and then falls to 0 as a cosine; else it is constant.
    ``steps``: the most steps, whatever ``epochs`` is. ``dtype``: of the products of the layers.
    """

    depth: Annotated[int, Field(strict=True, ge=2, le=64)] = 8
    width: PositiveInt = 512
    alpha: NonNegative = 1e-5
    beta: NonNegative = 1e-5
    epochs: PositiveInt = 150
    batch: Annotated[int, Field(strict=True, ge=2)] = 256
    rate: NonNegative = 2e-4
    decay: NonNegative = 0.0
    path: Flag = False
    steps: PositiveInt | None = None
    dtype: Dtype = "float32"

    def count_steps(self, n: int) -> int:
        """Return the number of steps on ``n`` codes; the last batch of an epoch is left out if it isn't full."""
        steps = self.epochs * max(n // self.batch, 1)
        return steps if self.steps is None else min(steps, self.steps)


RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {
        "depth": 4,
        "width": 256,
        "alpha": 0.1,
        "beta": 0.1,
        "epochs": 30,
        "batch": 1024,
        "rate": 2e-3,
        "decay": 0.01,
        "path": True,
        "hold": 2.0,
        "aim": "probability",
        "truncation": 0.12,
    },
}
"""The options of each recipe, where they aren't the paper's."""
# hold=2: on ffhq's labels a change of 1 is 2.19 Mahalanobis lengths long on average and moves other readings by 0.205, where
# moving c_k alone takes 4.64 and 0.246; a larger hold moves them a little less, by longer moves (experiments/ffhq/hold.py).
# truncation=0.12: a move of 5 Mahalanobis lengths leaves the rest of a code √(1 - 0.12 · 5) = 0.63 of its distance from the mean.


def train_autoencoder(
    x: Tensor, a: Tensor, mref: Tensor, dim: int, training: CompactTraining, seed: int, progress: Progress
) -> tuple[Perceptron, Perceptron]:
    """Train an encoder and a decoder on mean-free components ``x`` (n, components) and normal scores ``a`` (n, K).

    Equal input gives equal weights on one machine; the global random state is left as it was.
    Raises GanvasError where the last loss isn't finite.
    """
    use_bfloat16 = training.dtype == "bfloat16"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (x.shape[1], dim), (dim, x.shape[1])
        plain = [Perceptron(*size, training.width, training.depth, training.path).to(x.device) for size in sizes]
    encoder, decoder = (TrainablePerceptron(p, p is plain[0], use_bfloat16).to(x.device) for p in plain)
    if training.path:
        forward, backward = (matrix.float() for matrix in linear_start(x, a, mref, dim))
        encoder.initialize(forward, (x @ forward).std(0, correction=0).clamp(min=0.1))
        decoder.initialize(backward, forward)
    loss = _descend(encoder, decoder, x, a, mref, training, seed, progress)
    if not math.isfinite(loss):
        raise GanvasError(f"The training diverged (loss {loss}): try a lower rate than {training.rate:g}.")
    return encoder.fold_norms(), decoder.fold_norms()


@torch.enable_grad()
def _descend(
    encoder: TrainablePerceptron,
    decoder: TrainablePerceptron,
    x: Tensor,
    a: Tensor,
    mref: Tensor,
    training: CompactTraining,
    seed: int,
    progress: Progress,
) -> float:
    """Minimise (6) with AdamW, under ``torch.no_grad``, too, and return the last loss."""
    matrices = [p for net in (encoder, decoder) for p in net.parameters()]
    optimizer = torch.optim.AdamW(
        matrices, training.rate, weight_decay=training.decay, fused=x.device.type in ("cpu", "cuda")
    )
    rng, batch = torch.Generator().manual_seed(seed), min(training.batch, len(x))
    steps, each, loss = training.count_steps(len(x)), max(len(x) // training.batch, 1), torch.zeros(())
    for step in range(steps):
        if step % each == 0:
            order = torch.randperm(len(x), generator=rng).to(x.device)
            xs, scores = x[order], a[order]
        rows = slice(step % each * batch, (step % each + 1) * batch)
        if training.path:
            for group in optimizer.param_groups:
                group["lr"] = training.rate * _rate_factor(step, steps)
        c = encoder(xs[rows])
        recons, attr, corr = losses(xs[rows], c, decoder(c), scores[rows], mref)
        loss = recons + training.alpha * attr + training.beta * corr
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, steps)
    return float(loss.detach())


def _rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: up over the first tenth, then down as a cosine."""
    done = (step + 1) / steps
    return min(done / 0.1, 1) * (1 + math.cos(math.pi * done)) / 2
