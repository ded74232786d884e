"""Edit a face in a short clip: invert the frame in the middle, follow the face from frame to frame, and put each edit back.

A frame's code starts from its neighbour's, so that the generator draws one person who moves. Landmarks and codes are smoothed
over time: what jitters from frame to frame would make the edit flicker.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.alignment import Face, align, cut_face, find_faces, find_square
from ganvas.inversion.pipeline import invert
from ganvas.io.figures import encode_mp4
from ganvas.io.files import atomic_write
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import from_bytes, to_bytes
from ganvas.io.store import Store
from ganvas.photo.edit import PhotoEdit, RebuiltFace, order_faces
from ganvas.photo.recipe import hash_picture
from ganvas.progress import Progress
from ganvas.recipe.rendering import Photo
from ganvas.types import Images, WPlus

SUFFIXES = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska"}
"""Suffix -> the kind of file, as ffmpeg names it."""
MAX_BYTES = 2 << 30
"""The most bytes of all frames, three a pixel: they are held in memory."""
FOLLOWING_STEPS, FOLLOWING_RATE = 12, 0.03
"""Steps of optimisation from a neighbour's code, and their learning rate."""
SMOOTHING_SIGMA = 1.5
"""The standard deviation, in frames, of the Gaussian that smooths landmarks and codes over time."""
MAX_MISSING = 5
"""The most frames in a row without the face: they are interpolated."""


@dataclass(frozen=True)
class Clip:
    """Frames (height, width, 3), uint8, at ``rate`` frames a second."""

    frames: list[Tensor]
    rate: float

    def get_picture(self, k: int) -> Images:
        """Return frame ``k`` as a picture (1, 3, height, width)."""
        return from_bytes(self.frames[k][None])


def read_clip(path: Path) -> Clip:
    """Read the frames of a clip.

    Raises GanvasError for a file that is no clip of SUFFIXES, or can't be decoded, for one of more than MAX_BYTES, and where
    imageio-ffmpeg isn't installed.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise GanvasError("Clips need imageio-ffmpeg, which isn't installed: pip install 'ganvas[video]'.") from None
    # ffmpeg is told the kind, and may open no other file: a playlist or a script in a file's place is refused.
    options = ["-protocol_whitelist", "file", "-f", SUFFIXES[path.suffix.lower()]]
    frames: list[Tensor] = []
    try:
        stream = imageio_ffmpeg.read_frames(
            str(path.resolve()), input_params=options, output_params=["-fps_mode", "cfr"]
        )
        about = next(stream)
        width, height = about["size"]
        most = MAX_BYTES // (3 * width * height)
        for data in stream:
            if len(frames) == most:
                raise GanvasError(
                    f"{path} is too long: of {width}×{height} pixels at most {most} frames can be edited. Give a part of it."
                )
            frames.append(torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(height, width, 3))
    except (OSError, RuntimeError, KeyError, ZeroDivisionError, StopIteration):
        raise GanvasError(f"{path} isn't a clip that can be read: MP4, MOV, WebM and Matroska can.") from None
    if not frames or not about["fps"] > 0:
        raise GanvasError(f"{path} has no pictures.")
    return Clip(frames, float(about["fps"]))


def follow_face(clip: Clip, chosen: Tensor, advance: Callable[[], object] = lambda: None) -> Float[Tensor, "n 68 2"]:
    """Find the landmarks (68, 2) of one face in all frames, from ``chosen``, those of the frame in the middle.

    Frames in which it isn't found are interpolated. Raises GanvasError where it is lost for more than MAX_MISSING frames.
    """
    n, middle = len(clip.frames), len(clip.frames) // 2
    found: list[Tensor | None] = [None] * n
    found[middle] = chosen
    for frames in (range(middle + 1, n), range(middle - 1, -1, -1)):
        last, missing = chosen, 0
        for k in frames:
            found[k] = nearest = _find_nearest(find_faces(clip.get_picture(k)), last)
            last, missing = (last, missing + 1) if nearest is None else (nearest, 0)
            if missing > MAX_MISSING:
                raise GanvasError(
                    f"The face is lost after {k / clip.rate:.1f} s: it may turn away or be covered. Give a part of the clip."
                )
            advance()
    return _fill_missing(found)


def _find_nearest(faces: Sequence[Tensor], last: Tensor) -> Tensor | None:
    """Return the landmarks nearest to ``last``; None where none are within half of the face's width."""
    width = (last.amax(0) - last.amin(0))[0]
    distances = [float((face.mean(0) - last.mean(0)).norm()) for face in faces]
    return faces[distances.index(min(distances))] if distances and min(distances) < width / 2 else None


def _fill_missing(found: Sequence[Tensor | None]) -> Tensor:
    """Interpolate landmarks linearly between the frames that have some; before the first and after the last, repeat them."""
    known = [k for k, landmarks in enumerate(found) if landmarks is not None]
    stacked = torch.stack([landmarks for landmarks in found if landmarks is not None])
    filled = []
    for k in range(len(found)):
        right = next((i for i, number in enumerate(known) if number >= k), len(known) - 1)
        left = right if known[right] <= k else max(right - 1, 0)
        gap = known[right] - known[left]
        filled.append(torch.lerp(stacked[left], stacked[right], (k - known[left]) / gap if gap else 0.0))
    return torch.stack(filled)


def smooth_over_time(values: Tensor, sigma: float = SMOOTHING_SIGMA) -> Tensor:
    """Smooth values (frames, ...) by a Gaussian over time; what moves at a constant speed stays as it is."""
    n = len(values)
    radius = min(round(3 * sigma), n - 1)
    weights = torch.exp(-torch.arange(-radius, radius + 1).to(values).square() / (2 * sigma**2))
    rows = values.flatten(1)
    # Beyond its ends a path is continued by its reflection in the end point.
    before, after = 2 * rows[:1] - rows[1 : radius + 1].flip(0), 2 * rows[-1:] - rows[n - 1 - radius : n - 1].flip(0)
    padded = torch.cat((before, rows, after)).T[:, None]
    return F.conv1d(padded, (weights / weights.sum())[None, None])[:, 0].T.reshape(values.shape)


@dataclass(frozen=True)
class ClipEdit:
    """An edit of one face in clips, as ``PhotoEdit`` edits it in photographs."""

    edit: PhotoEdit

    def __post_init__(self) -> None:
        if self.edit.face == "all":
            raise GanvasError("One face of a clip is edited at a time: give its number, counted from left to right.")

    def edit_file(self, path: Path, out: Path, progress: Progress | None = None) -> str:
        """Edit a clip and write it to an MP4 file, with its sound; return a line about it.

        The codes of frames are kept beside ``out`` until it is written: a run that was stopped goes on.
        Raises GanvasError for a clip that can't be read, where its face is lost, and where it can't be edited.
        """
        clip = read_clip(path)
        steps = 3 * len(clip.frames)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, steps), steps)

        frames = self.edit_frames(clip, _locate_codes(out), advance)
        content = encode_mp4(frames, clip.rate, sound=path)
        with atomic_write(out) as temporary:
            temporary.write_bytes(content)
        shutil.rmtree(_locate_codes(out), ignore_errors=True)
        return f"{out}: {len(frames)} frames at {clip.rate:g} a second, H.264, so that all pixels are coded anew"

    @torch.no_grad()
    def edit_frames(self, clip: Clip, codes_folder: Path, advance: Callable[[], object]) -> list[Tensor]:
        """Edit the frames of a clip, (height, width, 3) each, uint8; ``advance`` is called three times a frame.

        ``codes_folder`` keeps the frames' codes. Raises GanvasError as ``edit_file``.
        """
        middle = len(clip.frames) // 2
        number, chosen = self._choose_face(clip.get_picture(middle))
        landmarks = smooth_over_time(follow_face(clip, chosen, advance))
        rebuilt, generator = self.edit.rebuild_face(self._cut(clip, middle, landmarks[middle]), number)
        rebuilt = self.edit.refine(rebuilt, generator)
        codes = smooth_over_time(self._follow_code(clip, landmarks, rebuilt, generator, codes_folder, advance))
        limit = self.edit.read_limit(clip.get_picture(middle))
        frames = []
        for k, ws in enumerate(codes.split(1)):
            face = self._cut(clip, k, landmarks[k])
            edited = self.edit.paste_edit(clip.get_picture(k), face, replace(rebuilt, ws=ws), generator, limit)
            frames.append(to_bytes(edited)[0])
            advance()
        return frames

    def _choose_face(self, photo: Images) -> tuple[int, Tensor]:
        """Return the number of the face that is edited, and its landmarks."""
        largest_first = align(photo, 16)
        faces = order_faces(largest_first)
        number = faces.index(largest_first[0]) + 1 if self.edit.face is None else int(self.edit.face)
        if not 1 <= number <= len(faces):
            raise GanvasError(
                f"There is no face {number}: the frame in the middle has {len(faces)}, numbered from left to right."
            )
        return number, faces[number - 1].landmarks

    def _cut(self, clip: Clip, k: int, landmarks: Tensor) -> Face:
        quad = find_square(landmarks)
        return Face(cut_face(clip.get_picture(k), quad, self.edit.tools.generator.resolution), landmarks, quad)

    def _follow_code(
        self,
        clip: Clip,
        landmarks: Float[Tensor, "n 68 2"],
        rebuilt: RebuiltFace,
        generator: Generator,
        codes_folder: Path,
        advance: Callable[[], object],
    ) -> WPlus:
        """Find the codes of all frames, each from its neighbour's, from the middle outwards."""
        n, middle = len(clip.frames), len(clip.frames) // 2
        settings, store = self.edit.settings, Store(codes_folder)
        method = "optimize" if settings.method == "optimize" else "both"
        options = replace(settings.options, seconds=0.0, steps=FOLLOWING_STEPS, learning_rate=FOLLOWING_RATE)
        codes: dict[int, WPlus] = {middle: rebuilt.ws}
        for frames in (range(middle + 1, n), range(middle - 1, -1, -1)):
            previous = rebuilt.ws
            for k in frames:
                face = self._cut(clip, k, landmarks[k])

                def make(face: Face = face, start: WPlus = previous) -> dict[str, Any]:
                    target = Photo.from_picture(face.picture, generator).picture
                    with torch.enable_grad():
                        found = invert(
                            target,
                            generator,
                            settings.space,
                            method,
                            options,
                            encoder=self.edit.encoder,
                            distribution=self.edit.distribution,
                            start=start,
                        )
                    return {"ws": found.ws}

                origin = {
                    "kind": "frame",
                    "face": hash_picture(face.picture),
                    "start": hash_weights([("ws", previous)]),
                    "generator": generator.fingerprint,
                    "tuning": rebuilt.tuning.sha256 if rebuilt.tuning else "",
                    "dtype": str(generator.dtype),
                    "space": settings.space,
                    "method": method,
                    "options": asdict(options),
                }
                previous = codes[k] = store.load_or_make(origin, make)["ws"]
                advance()
        return torch.cat([codes[k] for k in range(n)])


def _locate_codes(out: Path) -> Path:
    """Return the folder in which the codes of a clip's frames are kept until it is written."""
    return out.with_name(f".{out.stem}-codes")
