"""Train an encoder on generated faces, from the pictures of a label folder to the codes of their seeds.

Regression of w, in the manner of e4e (see ``inversion/encoder.py``) but without rendering, which is slow on a
CPU. Errors are in units of W's principal components, weighted by what they change: ridge regressions from W to the
picture's principal components, to faceres' descriptor and to the attributes predict how an error in w changes pixels,
identity and attributes. The face recognisers that reports judge identity with (``ganvas.identity``) are not used here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.data.label_files import load_labels
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import SIDE, Encoder, EncoderNetwork, make_encoder, save_encoder
from ganvas.io.files import load_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.io.shards import decode_pictures, locate_images
from ganvas.io.store import Store
from ganvas.scorers.face_attributes import load_faceres
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, one_cycle, seed_random_state
from ganvas.types import Dtype
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

HELD_OUT_FACES = 512
"""The last faces, which are not trained on: each epoch is measured on them."""
PICTURE_COMPONENTS = 256
"""The number of principal components of the pictures at a quarter of SIDE."""
PCA_PICTURES = 12_000
"""The pictures, at most, that these are fitted on: more hardly change them."""
MIN_VARIANCE_SHARE = 1e-4
"""The smallest variance that a direction of W is whitened by, as a share of the mean: below it are rounding errors."""
RIDGE = 100.0
"""The ridge of the regressions, in codes: whitened ones have variance 1."""
MAX_SHIFT_PIXELS, SOFT_SHARE, NOISY_SHARE, MAX_NOISE_DEVIATION, CONTRAST_SPAN = 1, 0.3, 0.3, 0.04, 0.1
"""How much training pictures are changed at random."""


@validated
class EncoderConfig:
    """How to train; ``dtype`` is that of convolutions.

    ``code_weight``, ``pixel_weight``, ``identity_weight`` and ``attribute_weight`` weigh the parts of the loss: the unexplained
    share of each one's variance. Without ``identity_weight`` faces aren't described."""

    epochs: PositiveInt = 8
    batch: PositiveInt = 96
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 0.02
    code_weight: NonNegative = 1.0
    pixel_weight: NonNegative = 1.0
    identity_weight: NonNegative = 2.0
    attribute_weight: NonNegative = 0.5
    described_faces: PositiveInt = 10_000
    """Faces, at most, that faceres describes, for the regression from W to identity."""
    dtype: Dtype = "float32"
    seed: Natural = 0


@dataclass(frozen=True)
class EncoderData:
    """Pictures and their codes, and what an error in a code counts.

    Args:
        pixels: Pictures (n, 3, SIDE, SIDE), uint8.
        w: Their codes (n, w_dim).
        mean: The mean of the codes, (w_dim,).
        whiten: The matrix (w_dim, w_dim) from ``w - mean`` to principal components of variance 1.
        unwhiten: Its inverse.
        loss_projection: A matrix (w_dim, m): the loss of an error of whitened codes is ``|error @ loss_projection|²``.
        origin: All that the others were made from, as JSON: a checkpoint belongs to one origin.
    """

    pixels: Tensor
    w: Tensor
    mean: Tensor
    whiten: Tensor
    unwhiten: Tensor
    loss_projection: Tensor
    origin: Mapping[str, Any]


def train_encoder(
    folder: str | Path,
    generator: Generator,
    out: str | Path,
    config: EncoderConfig | None = None,
    report: Callable[[str], object] = print,
) -> Encoder:
    """Train on a label folder with pictures (``ganvas label --keep-images``), and write the encoder to ``out``.

    A stopped run continues from a checkpoint and the descriptors beside ``out``, which are deleted at the end.
    Raises GanvasError where the folder has too few pictures or those of another generator, for a batch of more faces than
    there are to train on, and for a checkpoint that is damaged or belongs to other labels, pictures or options.
    """
    out, config = Path(out), config or EncoderConfig()
    cache, checkpoint = out.with_suffix(".descriptors.safetensors"), out.with_suffix(".checkpoint")
    data = read_encoder_data(Path(folder), generator, config, cache, report)
    encoder = make_encoder(generator, train_encoder_network(data, generator, config, checkpoint, report))
    save_encoder(encoder, out)
    for path in (checkpoint, cache):
        path.unlink(missing_ok=True)
    return encoder


def read_encoder_data(
    folder: Path, generator: Generator, config: EncoderConfig, cache: Path, report: Callable[[str], object]
) -> EncoderData:
    """Read pictures and codes, and compute ``loss_projection``; ``cache`` is the file that keeps the faces' descriptors."""
    data = load_labels(folder, generator)
    if len(data) < 2 * HELD_OUT_FACES:
        raise GanvasError(f"An encoder needs at least {2 * HELD_OUT_FACES} faces to learn from, not {len(data)}.")
    n_trained = len(data) - HELD_OUT_FACES
    _count_steps(n_trained, config.batch)  # now, not after minutes of reading
    pixels = read_label_pictures(folder, len(data), data.source.batch)
    w = data.w.double()
    mean = w.mean(0)
    # Not ``fit_pca``, which refuses codes that don't vary in all directions.
    values, vectors = torch.linalg.eigh(torch.cov((w - mean).T))
    scale = values.clamp(min=MIN_VARIANCE_SHARE * float(values.mean())).sqrt()
    whiten, unwhiten = vectors / scale, (vectors * scale).T
    codes = ((w - mean) @ whiten).float()
    normals = data.normals()[:n_trained].float()
    parts = [
        config.code_weight**0.5 * torch.eye(codes.shape[1]) / codes.shape[1] ** 0.5,
        config.pixel_weight**0.5 * _fit_regression(codes[:n_trained], _principal_components(pixels[:n_trained])),
        config.attribute_weight**0.5 * _fit_regression(codes[:n_trained], normals / normals.var(0).sum().sqrt()),
    ]
    origin: dict[str, Any] = {
        "generator": generator.fingerprint,
        "codes": hash_weights([("w", data.w)]),
        "pictures": _hash_pixels(pixels),
        "scorer": data.scorer,
        "scores": hash_weights([("scores", data.scores)]),
    }
    if config.identity_weight:
        described = pixels[: min(config.described_faces, n_trained)]
        descriptors, origin["descriptors"] = _describe_pictures(folder, described, data.source.batch, cache, report)
        scaled = descriptors / descriptors.var(0).sum().sqrt()
        parts.append(config.identity_weight**0.5 * _fit_regression(codes[: len(scaled)], scaled))
    return EncoderData(pixels, data.w, mean.float(), whiten.float(), unwhiten.float(), torch.cat(parts, 1), origin)


def read_label_pictures(folder: Path, n: int, shard_size: int) -> Tensor:
    """Read the first ``n`` pictures of a label folder, (n, 3, SIDE, SIDE), uint8."""
    pixels = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
    for i, picture in enumerate(_iterate_pictures(folder, n, shard_size)):
        pixels[i] = to_bytes(downscale(picture, SIDE))[0].permute(2, 0, 1)
    return pixels


def _iterate_pictures(folder: Path, n: int, shard_size: int) -> Iterator[Tensor]:
    for start in range(0, n, shard_size):
        path = locate_images(folder, start // shard_size)
        if not path.exists():
            raise GanvasError(f"{folder} has no {path.name}: run `ganvas label --keep-images` there to its end.")
        tensors, _ = load_tensors(path)
        yield from decode_pictures(tensors, min(shard_size, n - start))


def _hash_pixels(pixels: Tensor) -> str:
    return hashlib.sha256(pixels.numpy().data).hexdigest()


def _principal_components(pixels: Tensor) -> Tensor:
    """Compute principal components of the pictures at a quarter of SIDE, (n, PICTURE_COMPONENTS), of total variance 1."""
    side = SIDE // 4
    small = torch.cat([downscale(part.float() / 127.5 - 1, side).flatten(1) for part in pixels.split(1024)])
    small -= small.mean(0)
    # Not ``fit_pca``, which refuses pictures that vary in fewer directions: components that are 0 everywhere do no harm.
    _, vectors = torch.linalg.eigh(torch.cov(small[:PCA_PICTURES].T))
    components = small @ vectors[:, -PICTURE_COMPONENTS:]
    return components / components.var(0).sum().sqrt()


def _fit_regression(codes: Tensor, values: Tensor) -> Tensor:
    """Fit a ridge regression from whitened codes to values; return its matrix (w_dim, values)."""
    gram = codes.T @ codes + RIDGE * torch.eye(codes.shape[1])
    return torch.linalg.solve(gram, codes.T @ (values - values.mean(0)))


@torch.no_grad()
def _describe_pictures(
    folder: Path, pixels: Tensor, shard_size: int, cache: Path, report: Callable[[str], object]
) -> tuple[Tensor, dict[str, Any]]:
    """Compute faceres' descriptors of a folder's first pictures, those of ``pixels``, and what they were made from.

    They take minutes, so ``cache`` keeps them; descriptors of other pictures or by other weights are replaced there.
    """
    network, n = load_faceres(), len(pixels)
    # The network is a part of a scorer, and has no fingerprint of its own.
    weights = hash_weights(network.state_dict().items())
    origin = {"kind": "descriptors", "pictures": _hash_pixels(pixels), "faceres": weights}
    # Not ``load_or_make``, which would leave those of each origin in a file of its own.
    store, rows = Store(cache.parent), []
    if stored := store.load(cache.name, origin, "descriptors", n):
        return stored["descriptors"], origin
    for i, picture in enumerate(_iterate_pictures(folder, n, shard_size), 1):
        rows.append(network.describe(picture))
        if i % 1000 == 0:
            report(f"{i} of {n} faces described")
    descriptors = torch.cat(rows)
    store.save(cache.name, {"descriptors": descriptors}, origin)
    return descriptors, origin


def _count_steps(n_trained: int, batch: int) -> int:
    """Count the whole batches of an epoch. Raises GanvasError where there is none."""
    if batch > n_trained:
        raise GanvasError(f"batch must be at most {n_trained}, the number of faces to train on, not {batch}.")
    return n_trained // batch


def train_encoder_network(
    data: EncoderData, generator: Generator, config: EncoderConfig, checkpoint: Path, report: Callable[[str], object]
) -> EncoderNetwork:
    """Train a network for ``config.epochs``, with one random generator an epoch: a resumed run draws the same numbers.

    The global random state is restored. Raises GanvasError for a batch of more faces than there are to train on.
    """
    n_trained = len(data.w) - HELD_OUT_FACES
    steps = _count_steps(n_trained, config.batch)
    with seed_random_state(config.seed):
        network = EncoderNetwork(generator.w_dim, generator.num_ws)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    codes = (data.w - data.mean) @ data.whiten
    run = {"options": asdict(config), "faces": len(codes), "origin": dict(data.origin)}

    def loss(step: int) -> Tensor:
        rows = epochs.select_rows(step, config.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
            features = network.compute_features(augment_faces(data.pixels[rows], epochs.random))
        error = network.base(features.float()) - codes[rows]
        return (error @ data.loss_projection).square().sum(1).mean()

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


def augment_faces(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Change pictures (n, 3, SIDE, SIDE) of 0 … 255 a little, as photographs differ from drawn faces; return them in [-1, 1].

    Each is moved by up to a pixel along both axes, where its edge is repeated, and its contrast changes by up to 5 %; 30 % are
    softened, and another 30 % get noise. None is mirrored or recoloured, which would change its code.
    """
    n, x = len(pixels), pixels.float() / 127.5 - 1
    down, right = (torch.randint(MAX_SHIFT_PIXELS * 2 + 1, (n,), generator=random).tolist() for _ in range(2))
    padded = F.pad(x, (MAX_SHIFT_PIXELS,) * 4, mode="replicate")
    x = torch.stack([each[:, i : i + SIDE, j : j + SIDE] for each, i, j in zip(padded, down, right, strict=True)])
    chance = torch.rand(n, generator=random)
    is_soft, is_noisy = chance < SOFT_SHARE, (chance >= SOFT_SHARE) & (chance < SOFT_SHARE + NOISY_SHARE)
    halved = F.avg_pool2d(x[is_soft], 2)
    x[is_soft] = F.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
    sharp = x[is_noisy]
    deviations = MAX_NOISE_DEVIATION * torch.rand(len(sharp), 1, 1, 1, generator=random)
    x[is_noisy] = sharp + deviations * torch.randn(sharp.shape, generator=random)
    contrast = 1 + CONTRAST_SPAN * (torch.rand(n, 1, 1, 1, generator=random) - 0.5)
    return (x * contrast).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _compute_held_out_loss(network: EncoderNetwork, data: EncoderData, codes: Tensor) -> float:
    """Compute the loss on the held-out faces, without augmentation."""
    network.eval()
    total = 0.0
    for rows in torch.arange(len(codes) - HELD_OUT_FACES, len(codes)).split(64):
        images = from_bytes(data.pixels[rows].permute(0, 2, 3, 1)).contiguous(memory_format=torch.channels_last)
        error = network.base(network.compute_features(images)) - codes[rows]
        total += float((error @ data.loss_projection).square().sum())
    return total / HELD_OUT_FACES


@torch.no_grad()
def fold_whitening(network: EncoderNetwork, mean: Tensor, unwhiten: Tensor) -> EncoderNetwork:
    """Fold the unwhitening into the last layer, in place: the network then returns ``mean + x @ unwhiten`` instead of x."""
    network.base.weight.copy_(unwhiten.T @ network.base.weight)
    network.base.bias.copy_(mean + network.base.bias @ unwhiten)
    return network.eval()
