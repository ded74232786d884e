"""Edit a face in a short clip: invert the frame in the middle, follow the face from frame to frame, and put each edit back.

A frame's code starts from its neighbour's, so that the generator draws one person who moves. Landmarks and codes are smoothed
over time: what jitters from frame to frame would make the edit flicker.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.alignment import Face, align, cut_face, find_faces, find_square
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.pipeline import invert
from ganvas.inversion.tuning import Tuning
from ganvas.io.figures import encode_mp4, find_ffmpeg
from ganvas.io.files import atomic_write
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import MAX_PIXELS, from_bytes, to_bytes
from ganvas.io.store import Store
from ganvas.photo.edit import PhotoEdit, RebuiltFace, order_faces
from ganvas.photo.recipe import hash_picture
from ganvas.progress import Progress
from ganvas.recipe.rendering import Photo
from ganvas.types import Images, WPlus

CLIP_FORMATS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska"}
"""Suffix -> the kind of file, as ffmpeg names it."""
MAX_BYTES = 2 << 30
"""The most bytes of a clip's frames, three a pixel: they are held in memory, and edited ones are written one by one."""
FOLLOWING_STEPS, FOLLOWING_RATE = 12, 0.03
"""Steps of optimisation from a neighbour's code, and their learning rate."""
SMOOTHING_SIGMA = 1.5
"""The standard deviation, in frames, of the Gaussian that smooths landmarks and codes over time."""
MAX_MISSING = 5
"""The most frames in a row without the face: they are interpolated."""
STREAM_PATTERN = re.compile(r"\s*Stream #.* Video: (?!.*\(attached pic\))")
"""A line of what ffmpeg prints about a file: a stream of pictures that isn't its cover."""
RATE_PATTERN = re.compile(r", (\d+(?:\.\d+)?)(k?) fps")
"""The average rate in such a line."""


@dataclass(frozen=True)
class Clip:
    """Frames (height, width, 3), uint8, at ``rate`` frames a second."""

    frames: list[Tensor]
    rate: float

    def get_picture(self, k: int) -> Images:
        """Return frame ``k`` as a picture (1, 3, height, width)."""
        return from_bytes(self.frames[k][None])


def is_clip(path: Path) -> bool:
    """Return whether a file's name is that of a clip."""
    return path.suffix.lower() in CLIP_FORMATS


def list_input_options(path: Path) -> list[str]:
    """List ffmpeg's options that open a clip.

    ffmpeg is told the kind, and may open no other file: a playlist or a script in a file's place is refused.
    """
    return ["-protocol_whitelist", "file", "-f", CLIP_FORMATS[path.suffix.lower()], "-i", str(path.resolve())]


def read_clip(path: Path, max_pixels: int = MAX_PIXELS) -> Clip:
    """Read the frames of a clip, at its average rate.

    Raises GanvasError for a file that is no clip of CLIP_FORMATS, or can't be decoded, for frames of more than ``max_pixels``
    pixels, or of more than MAX_BYTES together, and where ffmpeg isn't installed.
    """
    ffmpeg = find_ffmpeg("Clips need ffmpeg, which isn't found: pip install 'ganvas[video]'.")
    rate = _read_rate(path, ffmpeg)
    # At one rate, which frames and sound are then written at: those of a phone come at uneven times.
    output = f"-map 0:V:0 -fps_mode cfr -r {rate:g} -pix_fmt rgb24 -c:v ppm -f image2pipe -".split()
    command = [ffmpeg, "-loglevel", "error", "-nostdin", *list_input_options(path), *output]
    frames: list[Tensor] = []
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            while (frame := _read_frame(process.stdout, path, max_pixels)) is not None:
                max_frames = MAX_BYTES // frame.numel()
                if len(frames) == max_frames:
                    raise GanvasError(
                        f"{path} is too long: of {frame.shape[1]}×{frame.shape[0]} pixels at most {max_frames} frames can be"
                        " edited. Give a part of it."
                    )
                frames.append(frame)
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            lines = errors.read().decode(errors="replace").split("\n")
            reason = next((line.strip() for line in reversed(lines) if line.strip()), f"status {process.returncode}")
            raise GanvasError(f"{path} can't be decoded: ffmpeg says {reason!r}.")
    if not frames:
        raise GanvasError(f"{path} has no pictures.")
    return Clip(frames, rate)


def _read_rate(path: Path, ffmpeg: str) -> float:
    """Read the average number of frames a second. Raises GanvasError for what is no clip."""
    command = [ffmpeg, "-hide_banner", "-nostdin", *list_input_options(path)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    streams = [line for line in result.stderr.decode(errors="replace").splitlines() if STREAM_PATTERN.match(line)]
    if not streams:
        raise GanvasError(f"{path} isn't a clip that can be read: MP4, MOV, WebM and Matroska can.")
    found = RATE_PATTERN.search(streams[0])
    rate = float(found[1]) * (1000 if found[2] else 1) if found else 0.0
    if not rate > 0:
        raise GanvasError(
            f"{path} doesn't say how many frames a second it has: convert it, such as by ffmpeg -i {path.name} -r 25 new.mp4."
        )
    return rate


def _read_frame(stream: Any, path: Path, max_pixels: int) -> Tensor | None:
    """Read a frame (height, width, 3), uint8, from a stream of PPM pictures; None at its end."""
    if not stream.readline():
        return None
    width, height = map(int, stream.readline().split())
    if width * height > max_pixels:
        raise GanvasError(f"{path} has {width}×{height} pixels: {max_pixels:,} at most.")
    stream.readline()
    data = bytearray(stream.read(3 * width * height))
    if len(data) < 3 * width * height:
        return None
    return torch.frombuffer(data, dtype=torch.uint8).reshape(height, width, 3)


def follow_face(clip: Clip, chosen: Tensor, advance: Callable[[], object] = lambda: None) -> Float[Tensor, "n 68 2"]:
    """Find the landmarks (68, 2) of one face in all frames, from ``chosen``, those of the frame in the middle.

    Frames in which it isn't found are interpolated. Raises GanvasError where it is lost for more than MAX_MISSING frames.
    """
    n, middle = len(clip.frames), len(clip.frames) // 2
    found: list[Tensor | None] = [None] * n
    found[middle] = chosen
    for side, frames in zip(("after", "before"), _go_outwards(n), strict=True):
        last, last_frame = chosen, middle
        for k in frames:
            found[k] = nearest = _find_nearest(find_faces(clip.get_picture(k)), last)
            if nearest is not None:
                last, last_frame = nearest, k
            elif abs(k - last_frame) > MAX_MISSING:
                raise GanvasError(
                    f"The face isn't found {side} {last_frame / clip.rate:.1f} s: it may turn away or be covered. Give a part of"
                    " the clip."
                )
            advance()
    return _fill_missing(found)


def _go_outwards(n: int) -> tuple[range, range]:
    """Return the frames after the one in the middle, and those before it, from the middle on."""
    return range(n // 2 + 1, n), range(n // 2 - 1, -1, -1)


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
class FrameInversion:
    """The inversion of a clip's frames, as ``edit`` inverts photographs; ``store`` keeps what was found."""

    edit: PhotoEdit
    store: Store

    @cached_property
    def _encoder_hash(self) -> str:
        return "" if self.edit.encoder is None else hash_weights(self.edit.encoder.state_dict().items())

    def rebuild_face(self, face: Face, number: int) -> tuple[RebuiltFace, Generator]:
        """Rebuild the face of the frame in the middle, as ``PhotoEdit.rebuild_face`` does."""
        generator, settings = self.edit.tools.generator, self.edit.settings

        def make() -> dict[str, Tensor]:
            rebuilt, _ = self.edit.rebuild_face(face, number)
            return {"ws": rebuilt.ws, **(rebuilt.tuning.factors if rebuilt.tuning else {})}

        origin = self._describe("middle", face, settings.method, settings.options)
        stored = self.store.load_or_make({**origin, "tuning": asdict(self.edit.tuning)}, make)
        tensors = {name: value.to(generator.device) for name, value in stored.items()}
        ws = tensors.pop("ws")
        rebuilt = RebuiltFace(number, ws, Tuning(tensors) if self.edit.tuning.steps else None)
        return rebuilt, rebuilt.apply_tuning(generator)

    def find_code(self, face: Face, start: WPlus, generator: Generator, tuning: Tuning | None) -> WPlus:
        """Find the code of a face from its neighbour's, with ``generator``, which has ``tuning``."""
        settings = self.edit.settings
        method = "optimize" if settings.method == "optimize" else "both"
        options = replace(settings.options, seconds=0.0, steps=FOLLOWING_STEPS, learning_rate=FOLLOWING_RATE)

        def make() -> dict[str, Tensor]:
            """Invert the face of a frame; return its code."""
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

        origin = self._describe("frame", face, method, options)
        origin |= {"start": hash_weights([("ws", start)]), "tuning": tuning.sha256 if tuning else ""}
        return self.store.load_or_make(origin, make)["ws"].to(start)

    def _describe(self, kind: str, face: Face, method: str, options: OptimizationConfig) -> dict[str, Any]:
        """Return all that the code of a face depends on."""
        return {
            "kind": kind,
            "face": hash_picture(face.picture),
            "generator": self.edit.tools.generator.fingerprint,
            "encoder": self._encoder_hash,
            "dtype": str(self.edit.tools.generator.dtype),
            "space": self.edit.settings.space,
            "method": method,
            "options": asdict(options),
        }


@dataclass(frozen=True)
class ClipEdit:
    """An edit of one face in clips, as ``PhotoEdit`` edits it in photographs."""

    edit: PhotoEdit

    def __post_init__(self) -> None:
        if self.edit.face == "all":
            raise GanvasError("One face of a clip is edited at a time: give its number, counted from left to right.")

    def edit_file(self, path: Path, out: Path, progress: Progress | None = None) -> str:
        """Edit a clip and write it to an MP4 file, with its sound; return a line about it.

        The codes of frames are kept beside ``out`` until it is written: a run that was stopped goes on. A tuning isn't kept.
        Raises GanvasError for a clip that can't be read, where its face is lost, and where it can't be edited.
        """
        clip = read_clip(path, self.edit.settings.max_pixels)
        total, done = 3 * len(clip.frames), 0

        def advance() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, total)

        frames = self.edit_frames(clip, _locate_codes(out), advance)
        content = encode_mp4(frames, clip.rate, sound=list_input_options(path))
        with atomic_write(out) as temporary:
            temporary.write_bytes(content)
        shutil.rmtree(_locate_codes(out), ignore_errors=True)
        return f"{out}: {len(clip.frames)} frames at {clip.rate:g} a second, H.264, so that all pixels are coded anew"

    @torch.no_grad()
    def edit_frames(self, clip: Clip, codes_folder: Path, advance: Callable[[], object]) -> Iterator[Tensor]:
        """Find the codes of a clip's frames; return an iterator that edits the frames, (height, width, 3) each, uint8.

        ``advance`` is called three times a frame: for its landmarks, its code and its edit. ``codes_folder`` keeps the frames'
        codes. Raises GanvasError as ``edit_file``.
        """
        middle = len(clip.frames) // 2
        limit = self.edit.check_settings(clip.get_picture(middle))
        number, chosen = self._choose_face(clip.get_picture(middle))
        advance()
        landmarks = smooth_over_time(follow_face(clip, chosen, advance))
        inversion = FrameInversion(self.edit, Store(codes_folder))
        rebuilt, generator = inversion.rebuild_face(self._cut(clip, middle, landmarks[middle]), number)
        rebuilt = self.edit.refine(rebuilt, generator)
        advance()
        codes = {middle: rebuilt.ws}
        for frames in _go_outwards(len(clip.frames)):
            ws = rebuilt.ws
            for k in frames:
                face = self._cut(clip, k, landmarks[k])
                ws = codes[k] = inversion.find_code(face, ws, generator, rebuilt.tuning)
                advance()
        smoothed = smooth_over_time(torch.cat([ws for _, ws in sorted(codes.items())]))

        def draw() -> Iterator[Tensor]:
            for k, ws in enumerate(smoothed.split(1)):
                face = self._cut(clip, k, landmarks[k])
                edited = self.edit.paste_edit(clip.get_picture(k), face, replace(rebuilt, ws=ws), generator, limit)
                advance()
                yield to_bytes(edited)[0]

        return draw()

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


def _locate_codes(out: Path) -> Path:
    """Return the folder in which the codes of a clip's frames are kept until it is written."""
    return out.with_name(f".{out.stem}-codes")
