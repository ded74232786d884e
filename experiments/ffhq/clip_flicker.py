"""How much an edit of a clip flickers: the change from frame to frame after the edit, beside that of the clip itself.

    python -m experiments.ffhq.clip_flicker --out DIR [--frames 24]

Clips are made of generated faces: a face's code moves towards another's, while the face moves through the frame, turns a little
and grows. Each clip is edited as `ganvas edit-photo` edits a clip. Printed, for each clip and edit: the mean |difference| of
neighbouring frames inside the face's outline, after the edit divided by before it; 1.5 at most is aimed at. DIR gets the
clips before and after, as MP4, and a PNG of every sixth frame.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from ganvas import load_generator, sample
from ganvas.errors import GanvasError
from ganvas.inversion.alignment import find_faces
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.io.figures import encode_mp4
from ganvas.io.files import atomic_write
from ganvas.io.images import downscale, encode_png, to_bytes
from ganvas.photo.batch import InversionConfig
from ganvas.photo.clip import Clip, ClipEdit
from ganvas.photo.edit import PhotoEdit
from ganvas.recipe.model import EditStep
from ganvas.recipe.rendering import choose_editor, load_tools

PAIRS = ((11, 23), (5, 42))
"""Seeds of the faces that each clip shows and moves towards."""
EDITS = ({"Smiling": 1.0}, {"Eyeglasses": 1.0})
HEIGHT, WIDTH, FACE = 480, 640, 400
"""The frame and the face's square in pixels."""
SHARE = 0.2
"""How far the code moves towards the other."""


def draw_clip(seeds: tuple[int, int], frames: int, rate: float) -> Clip:
    """Draw a clip of a generated face that moves."""
    generator = load_generator("ffhq", dtype="auto")
    first, second = (sample(generator, 1, psi=0.7, seed=seed) for seed in seeds)
    drawn = []
    for k in range(frames):
        phase = k / max(frames - 1, 1)
        with torch.no_grad():
            face = downscale(generator.synthesis(torch.lerp(first, second, SHARE * phase)).float(), FACE)
        angle, scale = 0.08 * math.sin(2 * math.pi * phase), 1 - 0.08 * phase
        x, y = 0.5 * (phase - 0.5), 0.1 * math.sin(math.pi * phase)
        # From the frame's coordinates to the face's, both from -1 to 1.
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = scale * turn @ torch.diag(torch.tensor([WIDTH / FACE, HEIGHT / FACE]))
        shift = -matrix @ torch.tensor([x, y])
        grid = F.affine_grid(torch.cat((matrix, shift[:, None]), 1)[None], [1, 3, HEIGHT, WIDTH], align_corners=False)
        frame = F.grid_sample(face, grid, padding_mode="reflection", align_corners=False)
        drawn.append(to_bytes(frame)[0].contiguous())
    return Clip(drawn, rate)


def find_box(clip: Clip, k: int) -> tuple[int, int, int, int]:
    """Find the box (left, top, right, bottom) of the first face in frame ``k``. Raises GanvasError where none is found."""
    found = find_faces(clip.get_picture(k))
    if not found:
        raise GanvasError(f"No face is found in frame {k + 1} of {len(clip.frames)}: choose other seeds in PAIRS.")
    low, high = found[0].amin(0).long().clamp(min=0), found[0].amax(0).long()
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def measure_changes(frames: list[Tensor], boxes: list[tuple[int, int, int, int]]) -> float:
    """Measure the mean |difference| of neighbouring frames inside each first one's box (left, top, right, bottom)."""
    changes = []
    for before, after, (left, top, right, bottom) in zip(frames, frames[1:], boxes, strict=False):
        parts = (frame[top:bottom, left:right].float() for frame in (before, after))
        changes.append(float(torch.sub(*parts).abs().mean()))
    return sum(changes) / len(changes)


def main(
    out: Annotated[Path, typer.Option(help="The folder.")],
    frames: Annotated[int, typer.Option(min=2, help="Frames of each clip.")] = 24,
    rate: Annotated[float, typer.Option(help="Frames a second.")] = 12.0,
    steps: Annotated[int, typer.Option(help="Steps of optimisation of the frame in the middle.")] = 60,
) -> None:
    """Print the flicker of each edit."""
    out.mkdir(parents=True, exist_ok=True)
    tools = load_tools("ffhq", "auto", "cpu", choose_editor("ffhq", None))
    settings = InversionConfig(options=OptimizationConfig(steps=steps))
    for seeds in PAIRS:
        clip = draw_clip(seeds, frames, rate)
        boxes = [find_box(clip, k) for k in range(frames)]
        source, rows = measure_changes(clip.frames, boxes), [clip.frames]
        for shift in EDITS:
            edit = ClipEdit(PhotoEdit(tools, (EditStep(shift=shift),), settings))
            edited = list(edit.edit_frames(clip, out / "codes", lambda: None))
            rows.append(edited)
            name = "-".join(shift)
            with atomic_write(out / f"{seeds[0]}-{name}.mp4") as path:
                path.write_bytes(encode_mp4(edited, rate))
            print(
                f"seed {seeds[0]}, {name}: {measure_changes(edited, boxes) / source:.3f} of the clip's own change",
                flush=True,
            )
        sheet = torch.cat([torch.cat(row[::6], 1) for row in rows])
        with atomic_write(out / f"{seeds[0]}.png") as path:
            path.write_bytes(encode_png(sheet))


if __name__ == "__main__":
    typer.run(main)
