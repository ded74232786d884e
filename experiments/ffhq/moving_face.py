"""Draw the moving picture of the documentation's first page: a face whose smile and age move, with the two changes below.

``python -m experiments.ffhq.moving_face docs/images/moving-face.webp``
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import ganvas
from ganvas.io.files import atomic_write
from ganvas.io.images import downscale, to_bytes

LABELS = {"Smiling": ("Smile", 1.5, 1), "Young": ("Age", 1.1, -1)}
"""Attribute -> its text, the largest change in standard deviations, and the sign with which the text grows."""
STRIP = 56
"""The height in pixels of the strip with the sliders."""


def draw_moving_face(out: Path, seed: int, frames: int, size: int, rate: float, quality: int) -> None:
    """Write a WebP of ``frames`` pictures on a circle in the plane of the two changes, which repeats."""
    generator = ganvas.load_generator("ffhq", dtype="auto")
    editor = ganvas.load_editor("ffhq/compact", generator)
    ws = ganvas.sample(generator, 1, psi=0.7, seed=seed)
    pictures = []
    for i in range(frames):
        angle = 2 * math.pi * i / frames
        shares = dict(zip(LABELS, (math.sin(angle), math.cos(angle)), strict=True))
        changes = {name: LABELS[name][1] * share for name, share in shares.items()}
        with torch.no_grad():
            face = to_bytes(downscale(generator.synthesis(editor.edit(ws, changes)), size))[0]
        pictures.append(_add_sliders(face, shares))
    settings = {"duration": round(1000 / rate), "loop": 0, "quality": quality, "method": 6}
    with atomic_write(out) as path:
        pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:], **settings)


def _add_sliders(face: Tensor, shares: dict[str, float]) -> Image.Image:
    """Draw a face (size, size, 3) above one slider for each attribute, at a share from -1 to 1."""
    size = len(face)
    sheet = Image.new("RGB", (size, size + STRIP), "white")
    sheet.paste(Image.fromarray(face.numpy()), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for k, (name, share) in enumerate(shares.items()):
        text, _, sign = LABELS[name]
        y, left, right = size + 16 + 24 * k, 70, size - 16
        middle = (left + right) / 2 + sign * share * (right - left) / 2
        draw.text((12, y), text, "#333333", anchor="lm", font_size=15)
        draw.line((left, y, right, y), "#cccccc", 3)
        draw.ellipse((middle - 7, y - 7, middle + 7, y + 7), "#3366cc")
    return sheet


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the picture (.webp)")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=384, help="the side of the face in pixels")
    parser.add_argument("--rate", type=float, default=12, help="pictures a second")
    parser.add_argument("--quality", type=int, default=60)
    arguments = parser.parse_args()
    draw_moving_face(**vars(arguments))


if __name__ == "__main__":
    main()
