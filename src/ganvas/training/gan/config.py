"""What a GAN's training depends on, and the sizes that are known to work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ganvas.errors import GanvasError, unknown
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.training.gan.discriminator import DiscriminatorArchitecture
from ganvas.types import DTYPES


@dataclass(frozen=True)
class GanConfig:
    """How to train. Losses, their weights and intervals are StyleGAN2's (https://arxiv.org/abs/1912.04958)."""

    widths: tuple[int, ...] = (128, 128, 64, 32, 16)
    """The generator's channels at 4, 8, … up to the resolution: as many as there are blocks."""
    critic_widths: tuple[int, ...] = (128, 128, 64, 32, 16)
    """The discriminator's."""
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    """StyleGAN2 has 8, and 2 in NVIDIA's settings for small sets."""
    mapping_rate: float = 0.01
    """The mapping network's share of the learning rate, as published. In a run a hundredth as long as theirs it hardly learns
    at 0.01, and pictures become a few kinds; at 1 they become one."""
    batch: int = 32
    """Pictures a step, of all processes together."""
    learning_rate: float = 0.002
    gamma: float = 0.1
    """The weight of R1; it grows with resolution² / batch."""
    r1_every: int = 16
    """Steps from one R1 penalty to the next; its weight makes up for those without."""
    path_length: float = 0.0
    """The weight of the path length regularisation (StyleGAN2: 2); 0 leaves it out."""
    path_every: int = 8
    mixing: float = 0.9
    """The share of pictures with two codes, one for the coarse rows and one for the fine."""
    average_images: float = 10_000.0
    """The half-life, in pictures seen, of the weights in the average that is kept."""
    noise: bool = True
    """Learn how much noise to add, anew for each picture. MultiMNIST's presets learn without, so that codes alone say what is
    drawn."""
    shuffled: bool = False
    """Draw and judge four pixels a place, at half of the resolution: ``widths`` then are those up to it."""
    bounded: bool = False
    """Let pictures go through tanh. Strokes on black need it: without, the discriminator sees every drawn background
    ripple, and the generator, which can only answer with less of everything, draws all pictures alike."""
    flip: bool = False
    """Show half of the pictures mirrored."""
    condition: str = ""
    """"count": the generator is told how many objects to draw."""
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise unknown("precision", self.precision, DTYPES)
        if self.condition not in ("", "count"):
            raise unknown("condition", self.condition, ("count",))
        if len(self.widths) != len(self.critic_widths):
            raise GanvasError(
                f"Generator and discriminator need as many widths: there are {len(self.widths)} and {len(self.critic_widths)}."
            )
        for name in ("batch", "r1_every", "path_every", "learning_rate", "mapping_rate", "average_images"):
            if not 0 < getattr(self, name) < float("inf"):
                raise GanvasError(f"{name} must be more than 0, not {getattr(self, name)}.")
        for name in ("gamma", "path_length"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise GanvasError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not 0 <= self.mixing <= 1:
            raise GanvasError(f"mixing is a share from 0 to 1, not {self.mixing}.")

    @property
    def resolution(self) -> int:
        """The side of the pictures."""
        return 4 << (len(self.widths) - 1 + self.shuffled)

    def shape(self, colours: int, num_labels: int) -> StyleGAN2Architecture:
        """The generator. Raises GanvasError for widths that make none."""
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

    def critic(self, colours: int, num_labels: int) -> DiscriminatorArchitecture:
        """The discriminator."""
        return DiscriminatorArchitecture(self.resolution, self.critic_widths, colours, num_labels, self.shuffled)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON has them."""
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
"""On a CPU pictures are dear: small batches at a high rate learn more from as many, and codes that aren't mixed leave the place
of a digit to all rows together. Of 512 directions of z each tells next to nothing: counts are read off a narrow one's codes
better."""
PRESETS = {
    "16": GanConfig(widths=(32, 32, 32), critic_widths=(32, 32, 32), z_dim=64, w_dim=64, mapping_layers=2, gamma=0.02),
    "32": GanConfig(widths=(128, 128, 64, 32), critic_widths=(128, 128, 64, 32), gamma=1.0),
    "64": GanConfig(**MULTIMNIST, widths=(128, 128, 64, 32), critic_widths=(128, 128, 64, 32)),
    "128": GanConfig(**MULTIMNIST, widths=(128, 128, 64, 32, 16), critic_widths=(128, 128, 64, 32, 16)),
}
"""By resolution, for two cores: 64 and 128 are those of MultiMNIST."""


def load_preset(name: str, changes: dict[str, Any]) -> GanConfig:
    """A preset with some options changed. Raises GanvasError for names that aren't known and values that can't be."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    known = {field.name: type(getattr(PRESETS[name], field.name)) for field in fields(GanConfig)}
    for key, value in changes.items():
        if key not in known:
            raise unknown("option", key, known)
        kind = known[key]
        if kind is tuple:
            good = isinstance(value, list | tuple) and all(type(x) is int for x in value)
        else:
            good = type(value) is kind or (kind is float and type(value) is int)
        if not good:
            raise GanvasError(f"Option {key} takes a value like {getattr(PRESETS[name], key)!r}, not {value!r}.")
    return replace(PRESETS[name], **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()})
