"""Read which parts of a generated face lie where: clusters of the generator's own features, named by eye.

Clusters of the features of a middle layer are semantic, as Collins et al. (*Editing in Style: Uncovering the Local Semantics of
GANs*, 2020, https://arxiv.org/abs/2004.14367) found of StyleGAN: hair, skin and background fall into different ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_generator_tensors, save_tensors

KIND = "face parts"
PARTS = ("hair", "face", "outline")
"""The parts: hair and beards; skin, eyes and mouth; and the outline between these and what is neither."""
SHARPNESS = 12.0
"""The inverse temperature of the softmax over cosine similarities to clusters."""
Parts = Float[Tensor, "n parts part_rows part_columns"]
"""How much a place belongs to each of PARTS, from 0 to 1; the rest, such as background and clothes, is what is left to 1."""


class PartReader(nn.Module):
    """Assigns each place of a feature map to PARTS, by the cosine similarity of standardised features to ``clusters``.

    ``means`` and ``scales`` (channels,) standardise; ``clusters`` (clusters, channels); ``members`` (PARTS, clusters) is 1 where
    a cluster belongs to a part; ``side``: the resolution of the features, in pixels.
    """

    def __init__(self, means: Tensor, scales: Tensor, clusters: Tensor, members: Tensor, side: int) -> None:
        super().__init__()
        self.means, self.scales, self.clusters = nn.Buffer(means), nn.Buffer(scales), nn.Buffer(clusters)
        self.members, self.side = nn.Buffer(members), side

    def normalize(self, features: Tensor) -> Tensor:
        """Return features (n, channels, height, width) in float32, of unit length at each place."""
        return F.normalize((features.float() - self.means[:, None, None]) / self.scales[:, None, None], dim=1)

    def forward(self, features: Tensor) -> Parts:
        """Read the parts of features (n, channels, height, width)."""
        likeness = torch.einsum("nchw,kc->nkhw", self.normalize(features), self.clusters)
        parts = torch.einsum("nkhw,pk->nphw", (SHARPNESS * likeness).softmax(1), self.members)
        # At the border of pictures zero padding makes features look like an outline: the next row replaces them.
        parts = F.pad(parts[:, :, 1:-1, 1:-1], (1, 1, 1, 1), mode="replicate")
        hair, face, outline = parts.split(1, 1)
        # A 3×3 opening: hair under three places wide is a wrinkle, a nostril or a frame of glasses, and counts as face.
        thick = F.max_pool2d(-F.max_pool2d(-hair, 3, 1, 1), 3, 1, 1)
        return torch.cat((thick, face + hair - thick, outline), 1)


def save_part_reader(path: str | Path, reader: PartReader, fingerprint: str) -> None:
    """Write the reader of a generator's parts, in float16."""
    tensors = {name: value.half() for name, value in reader.state_dict().items()}
    save_tensors(path, tensors, {"kind": KIND, "version": 1, "fingerprint": fingerprint, "side": str(reader.side)})


def load_part_reader(path: str | Path, fingerprint: str) -> PartReader:
    """Read the reader of a generator's parts.

    Raises GanvasError for a file that is damaged, holds something else, or belongs to another generator.
    """
    tensors, metadata = load_generator_tensors(path, KIND, fingerprint)
    try:
        state = {name: tensors[name].float() for name in ("means", "scales", "clusters", "members")}
        clusters, channels = state["clusters"].shape
        shapes = {"means": (channels,), "scales": (channels,), "members": (len(PARTS), clusters)}
        if any(tuple(state[name].shape) != shape for name, shape in shapes.items()):
            raise KeyError("its tensors don't fit together")
        reader = PartReader(**state, side=int(metadata["side"]))
    except (KeyError, ValueError) as error:
        raise GanvasError(f"{path} is damaged: {str(error).splitlines()[0]}.") from None
    return reader.eval().requires_grad_(False)


def select_members(names: Mapping[str, Sequence[int]], clusters: int) -> Tensor:
    """Return what ``PartReader`` takes as ``members``: by the name of a part, the clusters that it has."""
    members = torch.zeros(len(PARTS), clusters)
    for row, name in enumerate(PARTS):
        members[row, list(names[name])] = 1.0
    return members
