"""The config of a GAN's training, and presets by resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from ganvas.errors import GanvasError, unknown
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.training.gan.discriminator import DiscriminatorArchitecture
from ganvas.types import Dtype
from ganvas.validation import Flag, Natural, NonNegative, Positive, PositiveInt, Share, validated


@validated
class GanConfig:
    """How to train a GAN. Losses, their weights and intervals are StyleGAN2's (https://arxiv.org/abs/1912.04958)."""

    widths: tuple[PositiveInt, ...] = (128, 128, 64, 32, 16)
    """The generator's channels at 4, 8, … up to the resolution: as many as there are blocks."""
    discriminator_widths: tuple[PositiveInt, ...] = (128, 128, 64, 32, 16)
    """The discriminator's."""
    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 512
    mapping_layers: PositiveInt = 2
    """StyleGAN2 has 8, and 2 in NVIDIA's settings for small sets."""
    mapping_rate: Positive = 0.01
    """The mapping network's learning rate as a share of the others', as published. In much shorter runs it hardly changes at
    0.01, and pictures become alike; at 1 the generator collapses."""
    batch: PositiveInt = 32
    """Pictures a step, of all processes together."""
    learning_rate: Positive = 0.002
    gamma: NonNegative = 0.1
    """The weight of R1; it grows with resolution² / batch."""
    r1_every: PositiveInt = 16
    """Steps from one R1 penalty to the next; its weight is multiplied by as much."""
    path_length: NonNegative = 0.0
    """The weight of the path length regularisation (StyleGAN2: 2); 0 leaves it out."""
    path_every: PositiveInt = 8
    mixing: Share = 0.9
    """The share of pictures with two codes, one for the coarse rows and one for the fine."""
    average_images: Positive = 10_000.0
    """The half-life, in pictures seen, of the weights in the average that is kept."""
    noise: Flag = True
    """Add noise to each picture, of learned strength. MultiMNIST's presets don't, so that codes alone determine pictures."""
    shuffled: Flag = False
    """Pack blocks of four pixels into channels, so that both networks work at half of the resolution: ``widths`` end there."""
    bounded: Flag = False
    """Apply tanh to pictures. Strokes on black need it: without, generated backgrounds are never exactly black, by which the
    discriminator recognises them, and the generator collapses."""
    flip: Flag = False
    """Mirror half of the pictures."""
    condition: Literal["", "count"] = ""
    """"count": the generator is conditional on the number of objects."""
    precision: Dtype = "float32"
    seed: Natural = 0

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.discriminator_widths):
            raise GanvasError(
                f"widths and discriminator_widths must be equally many, not {len(self.widths)}"
                f" and {len(self.discriminator_widths)}."
            )

    @property
    def resolution(self) -> int:
        """The side of the pictures in pixels."""
        return 4 << (len(self.widths) - 1 + self.shuffled)

    def build_generator_architecture(self, colours: int, num_labels: int) -> StyleGAN2Architecture:
        """Return the generator's architecture. Raises GanvasError for widths that make none."""
        return StyleGAN2Architecture(
            self.resolution,
            self.widths,
            self.z_dim,
            self.w_dim,
            num_labels,
            colours,
            self.mapping_layers,
            self.mapping_rate,
            shuffled=self.shuffled,
            bounded=self.bounded,
        )

    def build_discriminator_architecture(self, colours: int, num_labels: int) -> DiscriminatorArchitecture:
        """Return the discriminator's architecture."""
        return DiscriminatorArchitecture(self.resolution, self.discriminator_widths, colours, num_labels, self.shuffled)

    def to_json(self) -> dict[str, Any]:
        """Return the options as a JSON object."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


MULTIMNIST: dict[str, Any] = {
    "z_dim": 32,
    "batch": 16,
    "learning_rate": 0.003,
    "mapping_rate": 0.1,
    "gamma": 5.0,
    "mixing": 0.0,
    "noise": False,
    "shuffled": True,
    "bounded": True,
}
"""Small batches at a high rate learn more from as many pictures, which are expensive on a CPU. Without style mixing all rows
together determine a digit's place. Counts are easier to read from the codes of a narrow z."""
PRESETS = {
    "16": GanConfig(
        widths=(32, 32, 32), discriminator_widths=(32, 32, 32), z_dim=64, w_dim=64, mapping_layers=2, gamma=0.02
    ),
    "32": GanConfig(widths=(128, 128, 64, 32), discriminator_widths=(128, 128, 64, 32), gamma=1.0),
    "64": GanConfig(**MULTIMNIST, widths=(128, 128, 64, 32), discriminator_widths=(128, 128, 64, 32)),
    "128": GanConfig(**MULTIMNIST, widths=(128, 128, 64, 32, 16), discriminator_widths=(128, 128, 64, 32, 16)),
}
"""By resolution, for two cores: 64 and 128 are MultiMNIST's."""


RENAMED_OPTIONS = {"critic_widths": "discriminator_widths"}
"""Options by their former names, which older checkpoints have."""


def update_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename options that have their former names."""
    return {RENAMED_OPTIONS.get(name, name): value for name, value in options.items()}


def load_preset(name: str, changes: Mapping[str, Any]) -> GanConfig:
    """Return a preset with some options changed. Raises GanvasError for unknown names and invalid values."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return replace(PRESETS[name], **update_options(changes))
