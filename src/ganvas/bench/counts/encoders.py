"""Real images for the count report, the encoders that invert them, and their codes; all of it kept under the stage's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from ganvas.bench.counts.kept import COUNTED, PIXELS, SAME, Kind, inverted, keep_inverted
from ganvas.bench.counts.pictures import SMALL
from ganvas.bench.counts.section import Section, key_of
from ganvas.bench.counts.stage import Stage
from ganvas.dataset import LatentDataset
from ganvas.errors import GanvasError
from ganvas.inversion.encoder import Encoder, encoder_for, read_encoder, save_encoder
from ganvas.inversion.likeness import eye_of
from ganvas.multimnist_files import read_multimnist
from ganvas.pictures import to_bytes
from ganvas.training.count_encoder import Lesson, Material, Options, begin, learn, material_of
from ganvas.types import Images, Scores, WPlus

BATCH = 64
"""Pictures inverted or drawn at a time."""
KEEP = 0.5
"""The weight of the loss that keeps the count, where there is one."""
FIRST = 2
"""Steps of the part that all encoders share, for one step of the part that each has of its own."""
CAUTION = (
    "Of the encoders of real images, the one that keeps the count learned from the cross-entropy of a counter on these same"
    " training images: how well its codes tell counts may be the encoder's doing, not the space's. The one of pixels alone never"
    " saw counts, nor what a counter sees."
)
"""What is said wherever counts are read off inverted codes."""
MISSING = "This needs real images, a MultiMNIST folder, and none was given: `ganvas make-multimnist` makes one."


KINDS = (Kind("w", False), SAME, Kind("w+", False), COUNTED, PIXELS)


@dataclass(frozen=True)
class Real:
    """Real images with their own labels in the counter's columns; what isn't known of them is what the counter says."""

    material: Material
    scores: Scores

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def images(self) -> Images:
        """(n, 3, side, side) in [-1, 1]."""
        return self.material.images(slice(None))


def caution(stage: Stage) -> str:
    """What to know of inverted codes, or why there are none."""
    return f"Inverted codes are missing. {MISSING}" if stage.folder is None else CAUTION


def missing(name: str, title: str) -> Section:
    """What a section on real images says where there are none."""
    return Section(name, title, MISSING)


def real(stage: Stage, part: str) -> Real:
    """The first images of the training part (to learn from) or of the test part (held out). Raises GanvasError without."""
    if stage.folder is None:
        raise GanvasError(MISSING)
    data = read_multimnist(stage.folder, part, stage.size.images if part == "train" else stage.size.held_out)
    material = material_of(data, stage.generator)
    parts = [stage.counter(material.images(rows)).cpu() for rows in torch.arange(len(data)).split(BATCH)]
    scores = torch.cat(parts)
    known = {"count": data.counts} | {f"digit_{k}": data.per_class[:, k] for k in range(data.per_class.shape[1])}
    for k, name in enumerate(stage.counter.attributes):
        if name in known:
            scores[:, k] = known[name].to(scores)
    return Real(material, scores)


def encoder(stage: Stage, kind: Kind, train: Real | None = None) -> Encoder:
    """The encoder of a kind, trained or as it was kept; the part that learns from drawn pictures is shared."""
    size = stage.size.encoder
    options = Options(
        kind.space,
        first=FIRST * size,
        steps=size,
        keep_count=KEEP * kind.keeps,
        features=float(kind.features),
        seed=stage.seed,
    )
    made_of = [stage.generator.fingerprint, stage.counter.fingerprint, stage.about["folder"], stage.size.images]
    path = stage.place("encoders", f"{key_of([made_of, asdict(options)])}.safetensors")
    if path.exists():
        try:
            return read_encoder(path, stage.generator)
        except GanvasError:
            pass  # damaged: trained anew
    lesson = Lesson(stage.generator, eye_of(stage.network), (train or real(stage, "train")).material)
    stage.watch(f"Training the encoder {kind.name}: {options.first} steps that all share, then {options.steps} …")
    shared = path.with_name(
        f"first-{key_of([made_of, asdict(replace(options, space='w', keep_count=0.0, features=1.0))])}.safetensors"
    )
    own = path.with_suffix(".checkpoint.safetensors")
    network = learn(lesson, options, begin(lesson, options, shared), own)
    save_encoder(encoder_for(stage.generator, network), path, {"options": asdict(options)})
    own.unlink(missing_ok=True)
    return read_encoder(path, stage.generator)


@torch.no_grad()
def invert(stage: Stage, network: Encoder, images: Images, space: str) -> WPlus:
    """Codes (n, num_ws, w_dim); in the space "w" with equal rows."""
    return torch.cat([network(part, space).contiguous() for part in images.split(BATCH)]).float()


@torch.no_grad()
def draw(stage: Stage, ws: WPlus) -> Images:
    """Pictures of codes."""
    return torch.cat([stage.generator.synthesis(part).float() for part in ws.split(BATCH)])


def enlarged(images: Images) -> Tensor:
    """Pictures as people see them, uint8 (n, height, width, 3); small ones larger by a whole number."""
    pixels, times = to_bytes(images), max(SMALL // images.shape[-1], 1)
    return pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)


def inverted_codes(stage: Stage, train: Real | None = None, kind: Kind = COUNTED) -> LatentDataset:
    """The training images' codes with the images' own labels; made where they aren't kept. Raises GanvasError without."""
    found = inverted(stage, kind)
    if found is None:
        train = train or real(stage, "train")
        codes = invert(stage, encoder(stage, kind, train), train.images, kind.space)
        keep_inverted(stage, codes, train.scores, kind)
        found = inverted(stage, kind)
    if found is None:
        raise GanvasError(f"The inverted codes in {stage.work} can't be read back.")
    return found
