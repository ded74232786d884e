"""Real images for the count report, the encoders that invert them, and their codes, stored under the context's ``work``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from experiments.multimnist.context import CountContext
from experiments.multimnist.figure_2 import MIN_SHOWN_SIDE
from experiments.multimnist.labelled_codes import (
    W_COUNTED,
    W_PLUS_COUNTED,
    W_PLUS_PIXELS,
    EncoderKind,
    load_inverted_codes,
    save_inverted_codes,
)
from experiments.multimnist.section import ReportSection, make_key
from ganvas.data.dataset import LatentDataset
from ganvas.data.multimnist_files import read_multimnist
from ganvas.errors import GanvasError
from ganvas.inversion.encoder import Encoder, make_encoder, read_encoder, save_encoder
from ganvas.inversion.object_loss import extract_counter_features
from ganvas.io.images import to_bytes
from ganvas.training.count_encoder import train_first_part, train_second_part
from ganvas.training.count_encoder_data import CountEncoderConfig, CountEncoderData, CountImages, read_count_images
from ganvas.types import Images, Scores, WPlus

BATCH_SIZE = 64
"""Pictures inverted or rendered at a time."""
COUNT_LOSS_WEIGHT = 0.5
"""The weight of the loss that keeps the count, where there is one."""
FIRST_PART_STEPS = 2
"""Steps of the part that all encoders share, for one step of the part that each has of its own."""
TRAINING_BIAS = (
    "Of the encoders of real images, the one that keeps the count learned from the cross-entropy of a counter on these same"
    " training images: how well its codes tell counts may be the encoder's doing, not the space's. The one of pixels alone never"
    " saw counts, nor what a counter sees."
)
"""What a section says where it reads counts off inverted codes."""
NO_REAL_IMAGES = "This needs real images, a MultiMNIST folder, and none was given: `ganvas make-multimnist` makes one."


ENCODER_KINDS = (EncoderKind("w", False), W_COUNTED, EncoderKind("w+", False), W_PLUS_COUNTED, W_PLUS_PIXELS)


@dataclass(frozen=True)
class RealImages:
    """Real images with their own labels in the counter's columns; unlabelled columns hold the counter's scores."""

    count_images: CountImages
    scores: Scores

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def images(self) -> Images:
        """(n, 3, side, side) in [-1, 1]."""
        return self.count_images.decode(slice(None))


def describe_training_bias(context: CountContext) -> str:
    """Return what to know of inverted codes, or why there are none."""
    return f"Inverted codes are missing. {NO_REAL_IMAGES}" if context.folder is None else TRAINING_BIAS


def missing_images_section(name: str, title: str) -> ReportSection:
    """Return the section on real images where there are none."""
    return ReportSection(name, title, NO_REAL_IMAGES)


def read_real_images(context: CountContext, part: str) -> RealImages:
    """Read the first images of the training part, or of the test part (held out).

    Raises GanvasError where no folder was given.
    """
    if context.folder is None:
        raise GanvasError(NO_REAL_IMAGES)
    data = read_multimnist(context.folder, part, context.config.images if part == "train" else context.config.held_out)
    count_images = read_count_images(data, context.generator)
    parts = [context.counter(count_images.decode(rows)).cpu() for rows in torch.arange(len(data)).split(BATCH_SIZE)]
    scores = torch.cat(parts)
    labels = {"count": data.counts} | {f"digit_{k}": data.per_class[:, k] for k in range(data.per_class.shape[1])}
    for k, name in enumerate(context.counter.attributes):
        if name in labels:
            scores[:, k] = labels[name].to(scores)
    return RealImages(count_images, scores)


def train_kind(context: CountContext, kind: EncoderKind, train: RealImages | None = None) -> Encoder:
    """Load the stored encoder of a kind, or train and store it; kinds share the part that learns from drawn pictures."""
    size = context.config.encoder
    options = CountEncoderConfig(
        kind.space,
        first=FIRST_PART_STEPS * size,
        steps=size,
        keep_count=COUNT_LOSS_WEIGHT * kind.keeps_count,
        features=float(kind.sees_features),
        seed=context.seed,
    )
    sources = [
        context.generator.fingerprint,
        context.counter.fingerprint,
        context.provenance["folder"],
        context.config.images,
    ]
    path = context.work_path("encoders", f"{make_key([sources, asdict(options)])}.safetensors")
    if path.exists():
        try:
            return read_encoder(path, context.generator)
        except GanvasError:
            pass  # damaged: trained again
    data = CountEncoderData(
        context.generator,
        extract_counter_features(context.network),
        (train or read_real_images(context, "train")).count_images,
    )
    context.log(f"Training the encoder {kind.name}: {options.first} steps that all share, then {options.steps} …")
    shared = path.with_name(
        f"first-{make_key([sources, asdict(replace(options, space='w', keep_count=0.0, features=1.0))])}.safetensors"
    )
    own = path.with_suffix(".checkpoint.safetensors")
    network = train_second_part(data, options, train_first_part(data, options, shared), own)
    save_encoder(make_encoder(context.generator, network), path, {"options": asdict(options)})
    own.unlink(missing_ok=True)
    return read_encoder(path, context.generator)


@torch.no_grad()
def invert_images(context: CountContext, network: Encoder, images: Images, space: str) -> WPlus:
    """Return codes (n, num_ws, w_dim) of images; in the space "w" with equal rows."""
    return torch.cat([network(part, space).contiguous() for part in images.split(BATCH_SIZE)]).float()


@torch.no_grad()
def draw_codes(context: CountContext, ws: WPlus) -> Images:
    """Render codes."""
    return torch.cat([context.generator.synthesis(part).float() for part in ws.split(BATCH_SIZE)])


def enlarge_pictures(images: Images) -> Tensor:
    """Return pictures as uint8 pixels (n, height, width, 3); small ones are enlarged by a whole number."""
    pixels, times = to_bytes(images), max(MIN_SHOWN_SIDE // images.shape[-1], 1)
    return pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)


def inverted_codes(
    context: CountContext, train: RealImages | None = None, kind: EncoderKind = W_PLUS_COUNTED
) -> LatentDataset:
    """Load the training images' codes with the images' own labels, or make and store them.

    Raises GanvasError where no folder of images was given.
    """
    codes = load_inverted_codes(context, kind)
    if codes is None:
        train = train or read_real_images(context, "train")
        ws = invert_images(context, train_kind(context, kind, train), train.images, kind.space)
        save_inverted_codes(context, ws, train.scores, kind)
        codes = load_inverted_codes(context, kind)
    if codes is None:
        raise GanvasError(f"The inverted codes in {context.work} can't be read back: check the disk, and run it again.")
    return codes
