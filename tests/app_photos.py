"""Photographs for tests of the web editor: a wall with painted squares, and planted landmarks of faces in them."""

from __future__ import annotations

from pathlib import Path

import torch
from planted_faces import plant_landmarks
from planted_truth import TOY

from ganvas.app import photographs
from ganvas.app.edit_handlers import EditHandlers
from ganvas.io.images import encode_png

PLACES = ((90.0, 100.0), (250.0, 110.0))
"""The middles of two faces."""
HEIGHT, WIDTH = 220, 340


def write_photo(path: Path) -> Path:
    """Write a photograph."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    pixels = torch.stack((120 + x // 6, 100 + y // 6, 140 + 0 * x), 2).to(torch.uint8)
    for left, top in PLACES:
        pixels[int(top) - 40 : int(top) + 40, int(left) - 40 : int(left) + 40] = torch.tensor(
            [190, 150, 130], dtype=torch.uint8
        )
    path.write_bytes(encode_png(pixels))
    return path


def find_planted_faces(photo: torch.Tensor) -> list[torch.Tensor]:
    """Find the faces as ``find_faces`` does: both in a photograph of ``write_photo``, the first in others of its height.

    One in each sample, too.
    """
    if photo.shape[2] in (600, 1024):
        return [plant_landmarks((250.0, 200.0), 176.0)]
    if photo.shape[2] != HEIGHT:
        return []
    return [plant_landmarks(place) for place in (PLACES if photo.shape[3] == WIDTH else PLACES[:1])]


def make_face_photo(edit_handlers: EditHandlers) -> photographs.FacePhoto:
    """Return the first face of a photograph that is stored."""
    path = edit_handlers.storage.save_photo(write_photo(edit_handlers.folder / "wall.png"))
    return photographs.load_face_photo(path, plant_landmarks(PLACES[0]), TOY.resolution)
