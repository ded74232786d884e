"""Trains an encoder on generated faces, whose codes are known: kept pictures in, the codes of their seeds out.

Regression of w, in the manner of e4e (see ``inversion/encoder.py``) but without rendering, which would cost a hundred
times as much on a CPU. Errors count in units of W's principal components, and most where they show: ridge regressions
from W to the picture's own principal components, to dlib's embedding and to the attributes say how much of an error in
w would be seen in pixels, in who it is and in how they look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import SIDE, Encoder, EncoderNetwork, make_encoder, save_encoder
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.io.shards import decode_pictures, images_path
from ganvas.training import checkpoint as training_checkpoint
from ganvas.types import DTYPES

LineReporter = Callable[[str], None]
HELD_OUT = 512
"""The last faces are learned from by nothing: each epoch is measured on them."""
COMPONENTS = 256
"""Of the pictures at a quarter of SIDE."""
RIDGE = 100.0


@dataclass(frozen=True)
class EncoderConfig:
    """How to train; ``dtype`` is that of convolutions.

    ``code``, ``pixels``, ``identity`` and ``attributes`` weigh what an error changes: the share of each one's variance that is
    missed."""

    epochs: int = 8
    batch: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    code: float = 1.0
    pixels: float = 1.0
    identity: float = 2.0
    attributes: float = 0.5
    faces: int = 10_000
    """Whose identity is embedded, to learn what of it W says."""
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class EncoderData:
    """``pixels`` (n, 3, SIDE, SIDE) uint8 and their codes ``w`` (n, w_dim); ``shows`` (w_dim, m) turns an error of whitened
    codes into what is seen of it."""

    pixels: Tensor
    w: Tensor
    mean: Tensor
    whiten: Tensor
    unwhiten: Tensor
    shows: Tensor


def train_encoder(
    folder: str | Path,
    generator: Generator,
    out: str | Path,
    options: EncoderConfig | None = None,
    report: LineReporter = print,
) -> Encoder:
    """Train on a label folder with kept pictures (``ganvas label --keep-images``), and write the encoder to ``out``.

    A run that was stopped goes on after its last epoch: a checkpoint lies beside ``out``, and the embeddings, too.
    Raises GanvasError where the folder has no pictures, or another generator's.
    """
    out, options = Path(out), options or EncoderConfig()
    material = read_encoder_data(Path(folder), generator, options, out.with_suffix(".embeddings.safetensors"), report)
    encoder = make_encoder(generator, fit_encoder(material, generator, options, out.with_suffix(".checkpoint"), report))
    save_encoder(encoder, out)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return encoder


def read_encoder_data(
    folder: Path, generator: Generator, options: EncoderConfig, cache: Path, report: LineReporter
) -> EncoderData:
    """Pictures, codes, and what shows."""
    data = load_labels(folder, generator)
    if len(data) < 2 * HELD_OUT:
        raise GanvasError(f"An encoder takes at least {2 * HELD_OUT} faces to learn from, not {len(data)}.")
    pixels = read_pictures(folder, len(data), data.source.batch)
    learned = len(data) - HELD_OUT
    w = data.w.double()
    mean = w.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((w - mean).T))
    scale = values.clamp(min=1e-4 * float(values.mean())).sqrt()
    whiten, unwhiten = vectors / scale, (vectors * scale).T
    codes = ((w - mean) @ whiten).float()
    normals = data.normals()[:learned].float()
    parts = [
        options.code**0.5 * torch.eye(codes.shape[1]) / codes.shape[1] ** 0.5,
        options.pixels**0.5 * _reading(codes[:learned], _components(pixels[:learned])),
        options.attributes**0.5 * _reading(codes[:learned], normals / normals.var(0).sum().sqrt()),
    ]
    if options.identity:
        found = _embeddings(folder, min(options.faces, learned), data.source.batch, cache, report)
        seen = ~found.isnan().any(1)
        known = found[seen] / found[seen].var(0).sum().sqrt()
        parts.append(options.identity**0.5 * _reading(codes[: len(found)][seen], known))
    return EncoderData(pixels, data.w, mean.float(), whiten.float(), unwhiten.float(), torch.cat(parts, 1))


def read_pictures(folder: Path, n: int, shard: int) -> Tensor:
    """The first ``n`` kept pictures, (n, 3, SIDE, SIDE), uint8."""
    pixels = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
    for i, picture in enumerate(_kept(folder, n, shard)):
        pixels[i] = to_bytes(downscale(picture, SIDE))[0].permute(2, 0, 1)
    return pixels


def _kept(folder: Path, n: int, shard: int) -> Iterator[Tensor]:
    for start in range(0, n, shard):
        path = images_path(folder, start // shard)
        if not path.exists():
            raise GanvasError(f"{folder} has no {path.name}: label with --keep-images, and to the end.")
        tensors, _ = load_tensors(path)
        yield from decode_pictures(tensors, min(shard, n - start))


def _components(pixels: Tensor) -> Tensor:
    """Principal components of the pictures at a quarter of SIDE, (n, COMPONENTS), of variance 1 in all."""
    side = SIDE // 4
    small = torch.cat([downscale(part.float() / 127.5 - 1, side).flatten(1) for part in pixels.split(1024)])
    small -= small.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(small[:12_000].T))
    found = small @ vectors[:, -COMPONENTS:]
    return found / found.var(0).sum().sqrt()


def _reading(codes: Tensor, values: Tensor) -> Tensor:
    """Ridge regression from whitened codes to values, (w_dim, values): what a change of the code changes."""
    gram = codes.T @ codes + RIDGE * torch.eye(codes.shape[1])
    return torch.linalg.solve(gram, codes.T @ (values - values.mean(0)))


def _embeddings(folder: Path, n: int, shard: int, cache: Path, report: LineReporter) -> Tensor:
    """dlib's embeddings of the first ``n`` kept pictures, kept beside the encoder: they take minutes."""
    from ganvas.identity import FaceEmbedder

    if cache.exists():
        kept = load_tensors(cache)[0].get("embeddings")
        if kept is not None and len(kept) >= n:
            return kept[:n]
    embedder, rows = FaceEmbedder(), []
    for i, picture in enumerate(_kept(folder, n, shard), 1):
        rows.append(embedder(picture))
        if i % 1000 == 0:
            report(f"{i} of {n} faces embedded")
    found = torch.cat(rows)
    save_tensors(cache, {"embeddings": found}, {"kind": "embeddings"})
    return found


def fit_encoder(
    material: EncoderData, generator: Generator, options: EncoderConfig, checkpoint: Path, report: LineReporter
) -> EncoderNetwork:
    """The network after ``options.epochs``, one generator of chance an epoch: a resumed run draws the same."""
    torch.manual_seed(options.seed)
    network = EncoderNetwork(generator.w_dim, generator.num_ws).to(memory_format=torch.channels_last)  # pyright: ignore
    learned = len(material.w) - HELD_OUT
    steps = learned // options.batch
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps * options.epochs, pct_start=0.15
    )
    codes = (material.w - material.mean) @ material.whiten
    run = {"options": asdict(options), "faces": len(codes), "codes": hash_weights([("w", material.w)])}
    done = training_checkpoint.load_checkpoint(checkpoint, network, optimizer, run)
    training_checkpoint.advance_schedule(schedule, done * steps)
    for epoch in range(done, options.epochs):
        random = torch.Generator().manual_seed(options.seed * 10_007 + epoch)
        torch.manual_seed(options.seed * 10_007 + epoch)
        order, total = torch.randperm(learned, generator=random), 0.0
        network.train()
        for rows in order[: steps * options.batch].split(options.batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bfloat16"):
                features = network.features(augment(material.pixels[rows], random))
            error = network.base(features.float()) - codes[rows]
            loss = (error @ material.shows).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        training_checkpoint.save_checkpoint(checkpoint, epoch + 1, network, optimizer, run)
        held_out = _missed(network, material, codes)
        report(f"epoch {epoch + 1} of {options.epochs}: loss {total / steps:.4f}, held out {held_out:.4f}")
    return fold_whitening(network, material.mean, material.unwhiten)


def augment(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Batches (n, 3, SIDE, SIDE) of 0 … 255 a little moved, softened and noisy, as photographs are; in [-1, 1].

    Neither mirrored nor recoloured: the code would be another.
    """
    n, x = len(pixels), pixels.float() / 127.5 - 1
    x = torch.roll(x, [int(v) for v in torch.randint(-1, 2, (2,), generator=random)], (2, 3))
    chance = float(torch.rand(1, generator=random))
    if chance < 0.3:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    elif chance < 0.6:
        x = x + 0.04 * torch.rand(n, 1, 1, 1, generator=random) * torch.randn(x.shape, generator=random)
    light = 1 + 0.1 * (torch.rand(n, 1, 1, 1, generator=random) - 0.5)
    return (x * light).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _missed(network: EncoderNetwork, material: EncoderData, codes: Tensor) -> float:
    """The loss on the held-out faces, as the encoder will see them."""
    network.eval()
    total = 0.0
    for rows in torch.arange(len(codes) - HELD_OUT, len(codes)).split(64):
        images = from_bytes(material.pixels[rows].permute(0, 2, 3, 1)).contiguous(memory_format=torch.channels_last)
        error = network.base(network.features(images)) - codes[rows]
        total += float((error @ material.shows).square().sum())
    return total / HELD_OUT


@torch.no_grad()
def fold_whitening(network: EncoderNetwork, mean: Tensor, unwhiten: Tensor) -> EncoderNetwork:
    """The same network with codes ``mean + x @ unwhiten`` at its end, not x."""
    network.base.weight.copy_(unwhiten.T @ network.base.weight)
    network.base.bias.copy_(mean + network.base.bias @ unwhiten)
    return network.eval()
