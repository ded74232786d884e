"""Pictures for people: contact sheets, labelled grids, heat maps, animations. Equal input gives equal bytes."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError

GAP = 4
"""Pixels between pictures."""
MARGIN = 8
"""Pixels around texts."""
MIN_TILE_SIDE = 128
"""The least side of pictures with texts beside them, in pixels: texts need room."""


def draw_grid(pictures: Sequence[Tensor], rows: Sequence[str], columns: Sequence[str], *, size: int = 0) -> Tensor:
    """Draw pictures (height, width, 3), uint8, row by row, with a text before each row and above each column.

    Returns one picture (height, width, 3), uint8. ``size`` is the height of texts in pixels; 0 derives it from the pictures, and
    enlarges small ones that have texts by a whole number.
    Raises GanvasError where there aren't as many pictures as cells, or they differ in size.
    """
    from PIL import Image, ImageDraw

    if not pictures or len(pictures) != len(rows) * len(columns):
        raise GanvasError(f"A grid of {len(rows)}×{len(columns)} doesn't fit {len(pictures)} pictures.")
    height, width = pictures[0].shape[:2]
    if any(picture.shape != (height, width, 3) for picture in pictures):
        raise GanvasError("The pictures of a grid must all have the same size.")
    if not size and any((*rows, *columns)) and (times := MIN_TILE_SIDE // height) > 1:
        pictures = [picture.repeat_interleave(times, 0).repeat_interleave(times, 1) for picture in pictures]
        height, width = height * times, width * times
    font = _load_font(size or max(12, min(height // 12, 40)))
    left = max(_measure_text(font, text)[0] for text in rows)
    top = max(_measure_text(font, text)[1] for text in columns)
    sheet = Image.new("RGB", (left + (width + GAP) * len(columns), top + (height + GAP) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(columns):
        draw.text((left + i * (width + GAP) + width // 2, top // 2), text, "black", font, anchor="mm")
    for j, text in enumerate(rows):
        draw.text((left - MARGIN, top + j * (height + GAP) + height // 2), text, "black", font, anchor="rm")
    for k, picture in enumerate(pictures):
        j, i = divmod(k, len(columns))
        sheet.paste(Image.fromarray(picture.numpy()), (left + i * (width + GAP), top + j * (height + GAP)))
    return torch.from_numpy(np.array(sheet))


def draw_contact_sheet(pictures: Sequence[Tensor], columns: int = 8) -> Tensor:
    """Draw pictures (height, width, 3), uint8, of one size, ``columns`` a row; the last row is filled with white."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    blank = torch.full_like(pictures[0], 255) if pictures else torch.zeros(1, 1, 3, dtype=torch.uint8)
    filled = [*pictures, *[blank] * (rows * columns - len(pictures))]
    return draw_grid(filled, [""] * rows, [""] * columns)


def draw_heat_map(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str = "", limit: float = 0
) -> bytes:
    """Draw a matrix (rows, columns) as PNG: red above 0, blue below, white at 0, full colour at ``limit``.

    ``limit`` 0 takes the largest absolute value. Numbers are written into the cells of small matrices.
    """
    from matplotlib.figure import Figure

    if values.shape != (len(rows), len(columns)):
        raise GanvasError(f"A heat map of {len(rows)}×{len(columns)} doesn't fit values {tuple(values.shape)}.")
    matrix = values.detach().cpu().double().numpy()
    limit = limit or float(np.abs(matrix).max()) or 1.0
    figure = Figure((2.5 + 0.3 * len(columns), 2 + 0.3 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize=9)
    if max(matrix.shape) <= 12:
        for (j, i), value in np.ndenumerate(matrix):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            axes.text(i, j, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return encode_figure(figure)


def encode_figure(figure) -> bytes:
    """Encode a matplotlib figure as PNG without a date or a version, so that equal figures give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def encode_gif(frames: Sequence[Tensor], rate: float) -> bytes:
    """Encode frames (height, width, 3), uint8, as a GIF that repeats, at ``rate`` frames a second.

    GIF counts time in hundredths of a second.
    """
    from PIL import Image

    # One palette for all frames, or still parts of the face would flicker.
    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    palette = pictures[len(pictures) // 2].quantize(256, method=Image.Quantize.MEDIANCUT)
    paletted = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    buffer = io.BytesIO()
    paletted[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=paletted[1:],
        duration=round(100 / rate) * 10,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return buffer.getvalue()


def encode_webp(frames: Sequence[Tensor], rate: float) -> bytes:
    """Encode frames (height, width, 3), uint8, as a WebP that repeats, at ``rate`` frames a second."""
    from PIL import Image

    pictures, buffer = [Image.fromarray(frame.numpy()) for frame in frames], io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=round(1000 / rate), loop=0, quality=90
    )
    return buffer.getvalue()


def encode_mp4(frames: Iterable[Tensor], rate: float, sound: Sequence[str] = ()) -> bytes:
    """Encode frames (height, width, 3), uint8, as H.264 in MP4, at ``rate`` frames a second.

    Frames are taken one by one as they are encoded. ``sound``: ffmpeg's options that open a clip, whose sound is kept, if any.
    Raises GanvasError where ffmpeg isn't installed or fails.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = (side // 2 * 2 for side in first.shape[:2])  # H.264 halves the colours' resolution
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {rate:g} -i -"
    chosen = "-map 0:v -map 1:a:0? -c:a aac -b:a 192k" if sound else ""
    coded = "-c:v libx264 -crf 18 -pix_fmt yuv420p -map_metadata -1 -fflags +bitexact -flags:v +bitexact -f mp4"
    with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:  # MP4 can't be written to a pipe
        path, log = Path(folder, "film.mp4"), Path(folder, "errors.txt")
        options = [*raw.split(), *sound, *chosen.split(), *coded.split(), str(path)]
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                [find_ffmpeg(), "-y", "-loglevel", "error", *options], stdin=subprocess.PIPE, stderr=errors
            ) as process,
        ):
            try:
                _write_frames(process.stdin, (frame[:height, :width] for frame in chain([first], frames)))
            except BrokenPipeError:  # ffmpeg has failed, and says why
                pass
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise GanvasError(f"ffmpeg couldn't write the MP4: {' '.join(last) or process.returncode}")
        return path.read_bytes()


def _write_frames(pipe: Any, frames: Iterable[Tensor]) -> None:
    with pipe:
        for frame in frames:
            pipe.write(frame.contiguous().numpy().tobytes())


def find_ffmpeg(
    error: str = "MP4 needs ffmpeg: pip install 'ganvas[video]', or write a GIF (--out animation.gif).",
) -> str:
    """Find an ffmpeg program: imageio-ffmpeg's, or the one on PATH. Raises GanvasError, of this text, where there is none."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        found = shutil.which(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = None
    found = found or shutil.which("ffmpeg")
    if found is None:
        raise GanvasError(error)
    return found


def _load_font(size: int):
    """Load DejaVu Sans, which comes with matplotlib and has σ; Pillow's own font hasn't."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _measure_text(font, text: str) -> tuple[int, int]:
    """Measure the width and height in pixels of a text with its margins; an empty text takes a gap only."""
    from PIL import Image, ImageDraw

    if not text:
        return GAP, GAP
    # A font alone measures one line; drawing measures all of them.
    left, top, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font)
    return int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN
