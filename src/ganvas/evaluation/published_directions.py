"""Agreement of linear editors with directions that others published, for users who have their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.editors.base import Editor, LinearEditor
from ganvas.editors.published import read_direction
from ganvas.errors import GanvasError

FILES = {"Smiling": "smile.pt", "Young": "age.pt"}
"""File names of encoder4editing (https://github.com/omertov/encoder4editing, MIT), for StyleGAN2-FFHQ's W."""
AIMED_COSINES = {"Smiling": 0.55, "Young": 0.4}
"""|cos| that the SVM boundary is to reach."""


def read_published(folder: Path, width: int) -> dict[str, Tensor]:
    """Read the directions in ``folder``, by attribute.

    Raises GanvasError where a file is missing, damaged or of another width.
    """
    directions = {}
    for name, file in FILES.items():
        direction = read_direction(folder / file).mean(0)
        if len(direction) != width:
            raise GanvasError(f"{folder / file} has {len(direction)} numbers, and the generator's codes have {width}.")
        directions[name] = direction
    return directions


@torch.no_grad()
def measure_agreement(editor: Editor, directions: Mapping[str, Tensor]) -> dict[str, float]:
    """Return |cos| of the editor's directions with the published ones by attribute; empty for an editor not linear."""
    if not isinstance(editor, LinearEditor):
        return {}
    rows: dict[str, Any] = {
        name: editor.get_buffer("directions")[editor.attributes.index(name)]
        for name in directions
        if name in editor.attributes
    }
    return {
        name: round(
            float(
                torch.cosine_similarity(
                    row.reshape(-1, len(directions[name])).mean(0), directions[name].to(row), dim=0
                ).abs()
            ),
            4,
        )
        for name, row in rows.items()
    }
