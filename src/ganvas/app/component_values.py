"""Pictures and files as the values of Gradio's components, with WebP pictures in the message itself.

Handlers return components' values as the browser gets them (``postprocess=False``): Gradio itself writes a file for each picture.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradio.data_classes import FileData, ImageData
from PIL import Image

from ganvas.io.images import to_bytes
from ganvas.types import Images

WEBP_QUALITY = 85
WEBP_METHOD = 0
"""The fastest: a slider's preview is waited for, and slower methods save few bytes."""


def encode_webp(image: Images) -> bytes:
    """Encode one picture, (1, 3, height, width) in [-1, 1], as WebP for a screen."""
    buffer = io.BytesIO()
    Image.fromarray(to_bytes(image)[0].contiguous().numpy()).save(
        buffer, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD
    )
    return buffer.getvalue()


def to_image_value(data: bytes) -> dict[str, Any]:
    """Return the value of a ``gr.Image`` for an encoded picture; two of them in a list are a ``gr.ImageSlider``'s."""
    url = "data:image/webp;base64," + base64.b64encode(data).decode()
    return ImageData(url=url, mime_type="image/webp").model_dump()


def to_gallery_value(shown: Iterable[tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Return the value of a ``gr.Gallery`` for encoded pictures and their captions."""
    return [{"image": to_image_value(data), "caption": caption} for data, caption in shown]


def to_file_value(path: Path) -> dict[str, Any]:
    """Return the value of a ``gr.DownloadButton`` for a file."""
    return FileData(path=str(path), orig_name=path.name).model_dump()
