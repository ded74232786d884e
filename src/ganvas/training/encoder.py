"""Train an encoder on generated faces, from pictures of a label folder to the codes of their seeds.

Regression of w, in the manner of e4e (see ``inversion/encoder.py``) but without rendering, which is slow on a
CPU. Errors are in units of W's principal components, weighted by what they change: ridge regressions from W to the
picture's principal components, to faceres' descriptor and to the attributes predict how an error in w changes pixels,
identity and attributes. Judges of identity (``ganvas.identity``) are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import SIDE, Encoder, EncoderNetwork, make_encoder, save_encoder
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.io.shards import decode_pictures, locate_images
from ganvas.scorers.face_attributes import load_faceres
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, one_cycle
from ganvas.types import Dtype
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

HELD_OUT_FACES = 512
"""The last faces, which are not trained on: each epoch is measured on them."""
PICTURE_COMPONENTS = 256
"""The number of principal components of the pictures at a quarter of SIDE."""
RIDGE = 100.0


@validated
class EncoderConfig:
    """How to train; ``dtype`` is that of convolutions.

    ``code``, ``pixels``, ``identity`` and ``attributes`` weigh the unexplained share of each one's variance."""

    epochs: PositiveInt = 8
    batch: PositiveInt = 96
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 0.02
    code: NonNegative = 1.0
    pixels: NonNegative = 1.0
    identity: NonNegative = 2.0
    attributes: NonNegative = 0.5
    faces: PositiveInt = 10_000
    """Faces whose identity is described, for the regression from W to it."""
    dtype: Dtype = "float32"
    seed: Natural = 0


@dataclass(frozen=True)
class EncoderData:
    """``pixels`` (n, 3, SIDE, SIDE) uint8 and their codes ``w`` (n, w_dim); ``visibility`` (w_dim, m) maps an error of
    whitened codes to what it changes in the picture."""

    pixels: Tensor
    w: Tensor
    mean: Tensor
    whiten: Tensor
    unwhiten: Tensor
    visibility: Tensor


def train_encoder(
    folder: str | Path,
    generator: Generator,
    out: str | Path,
    config: EncoderConfig | None = None,
    report: Callable[[str], object] = print,
) -> Encoder:
    """Train on a label folder with pictures (``ganvas label --keep-images``), and write the encoder to ``out``.

    A stopped run continues from a checkpoint and the descriptors beside ``out``.
    Raises GanvasError where the folder has no pictures, or those of another generator.
    """
    out, config = Path(out), config or EncoderConfig()
    data = read_encoder_data(Path(folder), generator, config, out.with_suffix(".descriptors.safetensors"), report)
    encoder = make_encoder(
        generator, train_encoder_network(data, generator, config, out.with_suffix(".checkpoint"), report)
    )
    save_encoder(encoder, out)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    return encoder


def read_encoder_data(
    folder: Path, generator: Generator, config: EncoderConfig, cache: Path, report: Callable[[str], object]
) -> EncoderData:
    """Read pictures and codes, and compute ``visibility``."""
    data = load_labels(folder, generator)
    if len(data) < 2 * HELD_OUT_FACES:
        raise GanvasError(f"An encoder needs at least {2 * HELD_OUT_FACES} faces to learn from, not {len(data)}.")
    pixels = read_label_pictures(folder, len(data), data.source.batch)
    n_trained = len(data) - HELD_OUT_FACES
    w = data.w.double()
    mean = w.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((w - mean).T))
    scale = values.clamp(min=1e-4 * float(values.mean())).sqrt()
    whiten, unwhiten = vectors / scale, (vectors * scale).T
    codes = ((w - mean) @ whiten).float()
    normals = data.normals()[:n_trained].float()
    parts = [
        config.code**0.5 * torch.eye(codes.shape[1]) / codes.shape[1] ** 0.5,
        config.pixels**0.5 * _fit_regression(codes[:n_trained], _principal_components(pixels[:n_trained])),
        config.attributes**0.5 * _fit_regression(codes[:n_trained], normals / normals.var(0).sum().sqrt()),
    ]
    if config.identity:
        described = _describe_pictures(folder, min(config.faces, n_trained), data.source.batch, cache, report)
        scaled = described / described.var(0).sum().sqrt()
        parts.append(config.identity**0.5 * _fit_regression(codes[: len(described)], scaled))
    return EncoderData(pixels, data.w, mean.float(), whiten.float(), unwhiten.float(), torch.cat(parts, 1))


def read_label_pictures(folder: Path, n: int, shard: int) -> Tensor:
    """Read the first ``n`` pictures of a label folder, (n, 3, SIDE, SIDE), uint8."""
    pixels = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
    for i, picture in enumerate(_iterate_pictures(folder, n, shard)):
        pixels[i] = to_bytes(downscale(picture, SIDE))[0].permute(2, 0, 1)
    return pixels


def _iterate_pictures(folder: Path, n: int, shard: int) -> Iterator[Tensor]:
    for start in range(0, n, shard):
        path = locate_images(folder, start // shard)
        if not path.exists():
            raise GanvasError(f"{folder} has no {path.name}: run `ganvas label --keep-images` there to its end.")
        tensors, _ = load_tensors(path)
        yield from decode_pictures(tensors, min(shard, n - start))


def _principal_components(pixels: Tensor) -> Tensor:
    """Compute principal components of the pictures at a quarter of SIDE, (n, PICTURE_COMPONENTS), of total variance 1."""
    side = SIDE // 4
    small = torch.cat([downscale(part.float() / 127.5 - 1, side).flatten(1) for part in pixels.split(1024)])
    small -= small.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(small[:12_000].T))
    components = small @ vectors[:, -PICTURE_COMPONENTS:]
    return components / components.var(0).sum().sqrt()


def _fit_regression(codes: Tensor, values: Tensor) -> Tensor:
    """Fit a ridge regression from whitened codes to values; return its matrix (w_dim, values)."""
    gram = codes.T @ codes + RIDGE * torch.eye(codes.shape[1])
    return torch.linalg.solve(gram, codes.T @ (values - values.mean(0)))


@torch.no_grad()
def _describe_pictures(folder: Path, n: int, shard: int, cache: Path, report: Callable[[str], object]) -> Tensor:
    """Compute faceres' descriptors of the first ``n`` pictures, and cache them: they take minutes."""
    if cache.exists():
        descriptors = load_tensors(cache)[0].get("descriptors")
        if descriptors is not None and len(descriptors) >= n:
            return descriptors[:n]
    network, rows = load_faceres(), []
    for i, picture in enumerate(_iterate_pictures(folder, n, shard), 1):
        rows.append(network.describe(picture))
        if i % 1000 == 0:
            report(f"{i} of {n} faces described")
    descriptors = torch.cat(rows)
    save_tensors(cache, {"descriptors": descriptors}, {"kind": "descriptors"})
    return descriptors


def train_encoder_network(
    data: EncoderData, generator: Generator, config: EncoderConfig, checkpoint: Path, report: Callable[[str], object]
) -> EncoderNetwork:
    """Train a network for ``config.epochs``, with one random generator an epoch: a resumed run draws the same numbers."""
    torch.manual_seed(config.seed)
    network = EncoderNetwork(generator.w_dim, generator.num_ws).to(memory_format=torch.channels_last)  # pyright: ignore
    n_trained = len(data.w) - HELD_OUT_FACES
    steps = n_trained // config.batch
    codes = (data.w - data.mean) @ data.whiten
    run = {"options": asdict(config), "faces": len(codes), "codes": hash_weights([("w", data.w)])}

    def loss(step: int) -> Tensor:
        rows = epochs.select_rows(step, config.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
            features = network.compute_features(augment_face(data.pixels[rows], epochs.random))
        error = network.base(features.float()) - codes[rows]
        return (error @ data.visibility).square().sum(1).mean()

    def end(epoch: int, mean_loss: float) -> None:
        held_out = _compute_held_out_loss(network, data, codes)
        network.train()
        report(f"epoch {epoch} of {config.epochs}: loss {mean_loss:.4f}, held out {held_out:.4f}")

    epochs = Epochs(steps, config.seed * 10_007, n_trained, end)
    rate, momentum = one_cycle(0.15)
    minimize(
        loss,
        torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay),
        steps * config.epochs,
        schedule=rate,
        momentum=momentum,
        epochs=epochs,
        checkpoint=TrainingCheckpoint(checkpoint, network, run),
    )
    return fold_whitening(network, data.mean, data.unwhiten)


def augment_face(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Move, soften and relight pictures (n, 3, SIDE, SIDE) of 0 … 255 a little and add noise, as in photographs; in [-1, 1].

    They are neither mirrored nor recoloured, which would change their codes.
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
def _compute_held_out_loss(network: EncoderNetwork, data: EncoderData, codes: Tensor) -> float:
    """Compute the loss on the held-out faces, without augmentation."""
    network.eval()
    total = 0.0
    for rows in torch.arange(len(codes) - HELD_OUT_FACES, len(codes)).split(64):
        images = from_bytes(data.pixels[rows].permute(0, 2, 3, 1)).contiguous(memory_format=torch.channels_last)
        error = network.base(network.compute_features(images)) - codes[rows]
        total += float((error @ data.visibility).square().sum())
    return total / HELD_OUT_FACES


@torch.no_grad()
def fold_whitening(network: EncoderNetwork, mean: Tensor, unwhiten: Tensor) -> EncoderNetwork:
    """Fold the unwhitening into the last layer, in place: the network then returns ``mean + x @ unwhiten`` instead of x."""
    network.base.weight.copy_(unwhiten.T @ network.base.weight)
    network.base.bias.copy_(mean + network.base.bias @ unwhiten)
    return network.eval()
