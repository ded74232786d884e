"""Train the celeba40 scorer in two rounds: on CelebA's labels, then on generated faces with smoothed scores too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ganvas.data import probe
from ganvas.data.codes import check_generator
from ganvas.data.label_files import INDEX, LabelHeader, draw_codes, parse_header
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, read_json, save_tensors
from ganvas.io.images import downscale
from ganvas.io.shards import decode_pictures, load_shard, locate_images
from ganvas.scorers.celeba40 import (
    BLUR_PIXELS,
    MAX_NETWORKS,
    SIZE,
    AttributeNetwork,
    Network,
    NetworkEnsemble,
    build_network,
    read,
)
from ganvas.scorers.networks.dlib_features import FrozenNetwork
from ganvas.training import scorer
from ganvas.training.celeba import CALIBRATION_TENTH, TEST_TENTH, FaceSet, read_faces
from ganvas.training.scorer import GeneratedFaces, ScorerConfig
from ganvas.training_loop import seed_random_state

SEPARATION_STRENGTH = 0.6
"""How far correlated errors are separated before scores are smoothed: 0 leaves them, 1 makes them uncorrelated."""
SMOOTHED_SHARE = 0.5
"""The share of the smoothed scores in the second round's targets. Smoothing removes the errors of single pictures, but scores
of different attributes then correlate more."""
SECOND_ROUND_SHARE = 0.8
"""The share of the second round's weights in the final network, the first round's being the rest: the average of the weights
of a network and its fine-tuned copy ranks held-out faces better than either (Wortsman et al., https://arxiv.org/abs/2109.01903)."""
FIRST_ROUND = ScorerConfig()
FIRST_ROUNDS = {"cnn": ScorerConfig(epochs=18, learning_rate=2e-3, weight_decay=0.05)}
"""The first round of an architecture that isn't pretrained and needs more steps than FIRST_ROUND."""
SECOND_ROUND = ScorerConfig(epochs=4, learning_rate=7e-4, penalty=0.01)
READING_PENALTY = 2.0
"""The weight of the squared coefficients, for standardised features divided by the root of their number."""
READING_STEEPNESS = 8.0
"""Logits for each 1 of the regression's prediction, before they are calibrated."""
MIN_READING_FACES = 100
"""The fewest faces that a linear layer is trained on."""


def build_separation_matrix(logits: Tensor, labels: Tensor, strength: float = SEPARATION_STRENGTH) -> Tensor:
    """Fit a matrix (attributes, attributes) that separates the correlated errors of logits, on real faces.

    The error of a logit is its residual when it is predicted from all labels; errors of different attributes correlate
    (by light, pose and skin). With R their correlation matrix, the matrix is R^(-strength / 2), which is near the
    identity, so that each attribute keeps its meaning.
    """
    centred, y = (logits - logits.mean(0)).double(), (labels - labels.mean(0)).double()
    ridge = 20 * torch.eye(y.shape[1], dtype=torch.double)
    errors = centred - y @ torch.linalg.solve(y.T @ y + ridge, y.T @ centred)
    spread = errors.std(0)
    values, vectors = torch.linalg.eigh(torch.corrcoef((errors / spread).T))
    root = vectors * values.clamp(min=0.02) ** (-strength / 2) @ vectors.T
    return (root * spread[:, None] / spread).float()


def check_generated(folder: Path, generator: Generator) -> LabelHeader:
    """Read the index of a label folder. Raises GanvasError for another generator's, and for one without pictures."""
    index = read_json(folder / INDEX)
    labels = parse_header(index, folder / INDEX)
    check_generator(folder, labels.generator.name, labels.generator.fingerprint, generator)
    if index.get("keep_images") is not True or labels.source.seed is None:
        raise GanvasError(f"{folder} holds no pictures of seeds: make it with `ganvas label --keep-images`.")
    return labels


def read_generated(
    folder: Path, generator: Generator, size: int, report: Callable[[str], None]
) -> tuple[Tensor, Tensor]:
    """Read the pictures of a label folder, (n, 3, size, size) uint8, and their codes (n, w_dim).

    Raises GanvasError as ``check_generated`` does, and where a shard is missing, damaged, or has other pictures.
    """
    labels, pixels = check_generated(folder, generator), []
    batch = labels.source.batch
    for start in range(0, labels.n, batch):
        images = _load_images(locate_images(folder, start // batch), labels, start)
        pictures = torch.cat(
            [downscale(picture, size) for picture in decode_pictures(images, min(batch, labels.n - start))]
        )
        pixels.append(pictures.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8))
        if len(pixels) % 20 == 0:
            report(f"read {sum(map(len, pixels))} generated faces")
    return torch.cat(pixels), draw_codes(generator, labels.n, labels.source)


def _load_images(path: Path, labels: LabelHeader, start: int) -> dict[str, Tensor]:
    """Load the shard of pictures that begins with row ``start``."""
    source = labels.source
    seed = (source.seed or 0) + start
    expected = {
        "kind": "images",
        "generator": labels.generator.fingerprint,
        "psi": source.psi,
        "seed": seed,
        "shard": source.batch,
    }
    _, metadata = load_tensors(path)
    others = {key: value for key, value in metadata.items() if key != "sha256"}
    images = load_shard(path, "sizes", others | expected, min(source.batch, labels.n - start))
    if images is None:
        raise GanvasError(f"{path} is damaged or has other pictures: delete it, and `ganvas label` makes it again.")
    return images


def smooth_targets(network: Network, faces: FaceSet, pixels: Tensor, w: Tensor) -> Tensor:
    """Compute the second round's targets for generated faces: separated logits, mixed with a regression from W, out of fold."""
    real = faces.select(faces.tenths != TEST_TENTH)
    matrix = build_separation_matrix(scorer.predict_logits(network, real.pixels), real.labels)
    separated = scorer.predict_logits(network, pixels, BLUR_PIXELS * network.size / SIZE) @ matrix.T
    mixed = torch.lerp(separated, probe.predict_out_of_fold(w, separated), SMOOTHED_SHARE)
    # Smoothing shrinks scores towards their mean: without their former spread no face would be surely old.
    return separated.mean(0) + (mixed - mixed.mean(0)) * separated.std(0) / mixed.std(0)


def train_celeba40(
    path: str | Path,
    out: str | Path,
    generated: Path | None = None,
    generator: Generator | None = None,
    *,
    arch: str = AttributeNetwork.arch,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Train a network ``arch`` on the faces in ``path`` and write the scorer to ``out``; checkpoints lie beside it.

    ``generated``: a folder that ``ganvas label --keep-images`` made of ``generator``, for the second round.
    Stopped and started again, it goes on.
    """
    out = Path(out)
    if generated is not None and generator is not None:
        check_generated(generated, generator)  # now, not hours later
    with seed_random_state(seed):
        network = build_network(arch)
    if isinstance(network, NetworkEnsemble):
        raise GanvasError(
            f"Can't train {arch!r} at once: train each network by itself, then join them with `ganvas join-scorers`."
        )
    faces = read_faces(path, network.size)
    if isinstance(network, AttributeNetwork):
        network.features.load_imagenet()
    report(f"{len(faces.labels)} real faces")
    if isinstance(network, FrozenNetwork):
        if generated is not None:
            raise GanvasError(f"The network {arch!r} is trained on real faces alone: leave out --generated.")
        # Without augmentation, so features are computed once.
        scale, offset = fit_reading(extract_features(network, faces.pixels, report), faces, network)
        save_scorer(network, scale, offset, out)
        return
    first = out.with_suffix(".round-1.safetensors")
    network = scorer.train_network(
        faces, network, replace(FIRST_ROUNDS.get(arch, FIRST_ROUND), seed=seed), checkpoint=first, report=report
    )
    checkpoints = [first]
    if generated is not None and generator is not None:
        pixels, w = read_generated(generated, generator, network.size, report)
        targets = smooth_targets(network, faces, pixels, w)
        checkpoints.append(out.with_suffix(".round-2.safetensors"))
        generated_faces = GeneratedFaces(pixels, targets)
        start = {key: value.clone() for key, value in network.state_dict().items()}
        network = scorer.train_network(
            faces, network, replace(SECOND_ROUND, seed=seed), generated_faces, checkpoints[-1], report
        )
        network.load_state_dict(average_networks(start, network.state_dict()))
    scale, offset = scorer.calibrate_network(network, faces)
    save_scorer(network, scale, offset, out)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)


def join_celeba40(
    path: str | Path, files: Sequence[str | Path], out: str | Path, weights: Sequence[float] | None = None
) -> None:
    """Write the scorer whose logits are the mean of those of the scorers in ``files``, calibrated anew on the faces in ``path``.

    ``weights``: how much each counts in the mean; equally by default.
    Raises GanvasError for fewer than two files, for one that holds no scorer of a single network, and for weights that
    aren't one positive number a file.
    """
    shares = torch.tensor([1.0] * len(files) if weights is None else list(weights))
    if len(shares) != len(files) or not ((shares > 0) & shares.isfinite()).all():
        raise GanvasError(
            f"Weights are one positive number for each scorer, {len(files)} in all, not {list(weights or ())}."
        )
    scorers = [read(file) for file in files]
    single = [one.network for one in scorers if not isinstance(one.network, NetworkEnsemble)]
    if not 2 <= len(files) <= MAX_NETWORKS or len(single) < len(files):
        raise GanvasError(
            f"Give 2 to {MAX_NETWORKS} scorers of a single network each: {len(single)} of these {len(files)} are such."
        )
    network = NetworkEnsemble(single).eval()
    shares = (shares / shares.mean())[:, None]
    network.scales.copy_(torch.stack([one.scale for one in scorers]) * shares)
    network.offsets.copy_(torch.stack([one.offset for one in scorers]) * shares)
    scale, offset = scorer.calibrate_network(network, read_faces(path, network.size))
    save_scorer(network, scale, offset, Path(out))


def average_networks(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float = SECOND_ROUND_SHARE
) -> dict[str, Tensor]:
    """Interpolate two networks' weights, ``share`` of the way to the second's; integer tensors are the second's."""
    return {
        key: torch.lerp(first[key], value, share) if value.is_floating_point() else value
        for key, value in second.items()
    }


def save_scorer(network: Network, scale: Tensor, offset: Tensor, out: Path) -> None:
    """Write a scorer that ``scorers.celeba40.read`` reads: float16 safetensors."""
    state = {k: v.half() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_tensors(
        out, state | {"scale": scale.float(), "offset": offset.float()}, {"scorer": "celeba40", "arch": network.arch}
    )


def extract_features(network: FrozenNetwork, pixels: Tensor, report: Callable[[str], None], batch: int = 64) -> Tensor:
    """Compute the features (n, WIDTH), float16, of uint8 pictures (n, 3, size, size)."""
    features = []
    with torch.no_grad():
        for part in pixels.split(batch):
            features.append(network.describe(part.float() / 127.5 - 1).half())
            if len(features) % 20 == 0:
                report(f"computed the features of {sum(map(len, features))} faces")
    return torch.cat(features)


@torch.no_grad()
def fit_reading(features: Tensor, faces: FaceSet, network: FrozenNetwork) -> tuple[Tensor, Tensor]:
    """Fit ``network.reading`` on the features of the faces outside the test and calibration tenths, by ridge regression.

    Returns scale and offset as ``fit_platt``. Raises GanvasError for too few faces.
    """
    trained, held_out = (
        (faces.tenths != TEST_TENTH) & (faces.tenths != CALIBRATION_TENTH),
        faces.tenths == CALIBRATION_TENTH,
    )
    if int(trained.sum()) < MIN_READING_FACES:
        raise GanvasError(
            f"Training takes at least {MIN_READING_FACES} faces outside the held-out tenths, not {int(trained.sum())}."
        )
    x, labels = features[trained].float(), faces.labels[trained]
    # The 0.05 keeps a feature that hardly varies small.
    mean, spread = x.mean(0), (x.std(0) + 0.05) * x.shape[1] ** 0.5
    x, y = (x - mean) / spread, labels - labels.mean(0)
    # With more features than faces the dual system is the smaller one.
    factor = torch.linalg.cholesky(x @ x.T + READING_PENALTY * torch.eye(len(x)))
    weight = (x.T @ torch.cholesky_solve(y, factor)).T / spread
    # Ridge regression predicts about a probability, from 0 to 1: logits are steeper.
    network.reading.weight.copy_(READING_STEEPNESS * weight)
    network.reading.bias.copy_(READING_STEEPNESS * (labels.mean(0) - 0.5 - weight @ mean))
    return scorer.fit_platt(network.reading(features[held_out].float()), faces.labels[held_out])
