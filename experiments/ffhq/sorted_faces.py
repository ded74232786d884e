"""Draw 64 faces of a label folder sorted by each of some attributes, to be looked at.

    python -m experiments.ffhq.sorted_faces LABELS --out docs/images/sorted-faces.jpg

LABELS: a folder that `ganvas label --keep-images` wrote. Faces are evenly spaced in rank: of each attribute's
rows the lowest is at the top left and the highest at the bottom right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image, ImageDraw

from ganvas import load_generator
from ganvas.data.label_files import load_labels
from ganvas.io.files import load_tensors
from ganvas.io.images import decode_jpeg
from ganvas.io.shards import locate_images

ATTRIBUTES = "Age,Weight,Long_Hair,Hair_Lightness,Skin_Lightness,Sunglasses,Eyeglasses,Smiling"
ACROSS, ROWS, SIDE, TITLE_HEIGHT = 16, 4, 64, 18


def read_picture(folder: Path, row: int, shard: int) -> Image.Image:
    """Read the picture of a row of the labels, SIDE pixels wide."""
    tensors, _ = load_tensors(locate_images(folder, row // shard))
    ends = tensors["sizes"].cumsum(0).tolist()
    place = row % shard
    data = tensors["jpeg"][ends[place - 1] if place else 0 : ends[place]]
    return Image.fromarray(decode_jpeg(data.numpy().tobytes()).numpy()).resize((SIDE, SIDE))


def main(
    labels: Annotated[Path, typer.Argument(help="A label folder with pictures.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")],
    attributes: Annotated[str, typer.Option(help="The attributes to draw.")] = ATTRIBUTES,
) -> None:
    """Draw the sheet."""
    data, names = load_labels(labels, load_generator("ffhq")), attributes.split(",")
    height = TITLE_HEIGHT + ROWS * SIDE
    sheet = Image.new("RGB", (ACROSS * SIDE, len(names) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        scores = data.scores[:, data.attributes.index(name)]
        order = scores.argsort()
        rows = order[torch.linspace(0, len(order) - 1, ACROSS * ROWS).long()].tolist()
        draw.text(
            (4, k * height + 3),
            f"{name.replace('_', ' ')}: {scores[rows[0]]:.2f} to {scores[rows[-1]]:.2f}",
            fill="black",
        )
        for i, row in enumerate(rows):
            place = (i % ACROSS * SIDE, k * height + TITLE_HEIGHT + i // ACROSS * SIDE)
            sheet.paste(read_picture(labels, row, data.source.batch), place)
    sheet.save(out, quality=80)


if __name__ == "__main__":
    typer.run(main)
