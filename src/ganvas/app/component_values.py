"""Pictures as Gradio's components take them in messages: WebP in the message itself, so nothing of a visitor's lies in files.

Handlers give components what the browser gets (``postprocess=False``): Gradio's own way with pictures is a file for each.
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

QUALITY = 85
METHOD = 0
"""WebP's fastest: 4 takes four times as long for files 5 % smaller."""


def encode_webp(image: Images) -> bytes:
    """One picture (1, 3, height, width) as WebP, for screens."""
    buffer = io.BytesIO()
    Image.fromarray(to_bytes(image)[0].contiguous().numpy()).save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()


def image_value(data: bytes) -> dict[str, Any]:
    """For ``gr.Image``; two of them in a list for ``gr.ImageSlider``."""
    url = "data:image/webp;base64," + base64.b64encode(data).decode()
    return ImageData(url=url, mime_type="image/webp").model_dump()


def gallery_value(shown: Iterable[tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Pictures with captions, for ``gr.Gallery``."""
    return [{"image": image_value(data), "caption": caption} for data, caption in shown]


def file_value(path: Path) -> dict[str, Any]:
    """For ``gr.DownloadButton``."""
    return FileData(path=str(path), orig_name=path.name).model_dump()
