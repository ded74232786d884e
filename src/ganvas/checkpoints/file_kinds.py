"""Files that are no checkpoints, recognised by their first bytes: failed downloads, pictures, and other programs' formats.

Web servers and Git LFS (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md) give small texts instead of large files. Magic
numbers are those of the formats' own specifications.
"""

from __future__ import annotations

import html
import re

from ganvas.checkpoints._budget import format_printable
from ganvas.errors import GanvasError

HEAD_BYTES = 4096
AGAIN = "download the checkpoint again"
UNPACK = "unpack it and give the checkpoint in it"
PYTORCH = "ganvas reads the weights that PyTorch saves"
MAGIC_NUMBERS = (
    (0, rb"\x89PNG", "a PNG picture", AGAIN),
    (0, rb"\xff\xd8\xff", "a JPEG picture", AGAIN),
    (0, rb"GIF8", "a GIF picture", AGAIN),
    (0, rb"RIFF....WEBP", "a WebP picture", AGAIN),
    (0, rb"BM....\0\0\0\0", "a BMP picture", AGAIN),
    (0, rb"(II\*\0|MM\0\*)", "a TIFF picture", AGAIN),
    (4, rb"ftyp", "a video or a picture (MP4, HEIC or AVIF)", AGAIN),
    (0, rb"%PDF", "a PDF document", AGAIN),
    (0, rb"7z\xbc\xaf\x27\x1c", "an archive of 7-Zip", UNPACK),
    (0, rb"Rar!\x1a\x07", "an archive of RAR", UNPACK),
    (0, rb"\xfd7zXZ\0", "packed by xz", UNPACK),
    (0, rb"BZh[1-9]1AY&SY", "packed by bzip2", UNPACK),
    (0, rb"\x28\xb5\x2f\xfd", "packed by Zstandard", UNPACK),
    (0, rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", PYTORCH),
    (4, rb"TFL3", "a TensorFlow Lite model", PYTORCH),
    (0, rb"\x08\x01\x12", "a TensorFlow SavedModel", PYTORCH),
    (0, rb"\x08[\x02-\x1e](\x12|:|B|\x1a|\x22)", "an ONNX model", PYTORCH),
    (0, rb"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "the index of a TensorFlow checkpoint", PYTORCH),
    (0, rb"GGUF", "a GGUF model", PYTORCH),
    (0, rb"\x93NUMPY", "an array of NumPy (.npy)", "codes of W are read by `ganvas import-codes`"),
    (0, rb"(MZ|\x7fELF)", "a program", AGAIN),
)
"""Place, first bytes (a regular expression), kind and what helps."""


def check_downloaded(head: bytes, size: int, origin: str) -> None:
    """Raise GanvasError where a file is empty or begins as no checkpoint does; ``head``: its first bytes."""
    if not size:
        raise GanvasError(f"{origin} is empty, not a checkpoint: {AGAIN}.")
    if not head.strip(b"\0"):
        raise GanvasError(f"{origin} begins with {len(head):,} zeros, so it's not a checkpoint: {AGAIN}.")
    for place, pattern, kind, hint in MAGIC_NUMBERS:
        if re.match(pattern, head[place:], re.DOTALL):
            raise GanvasError(f"{origin} is {kind}, not a checkpoint: {hint}.")
    if re.match(rb"\(?([dl]p\d|[(ldc]\w)", head) and head.rstrip().endswith(b"."):
        hint = "save it again with protocol 2 or a later one"
        raise GanvasError(f"{origin} is a pickle in an old form (protocol 0 or 1), which isn't read: {hint}.")
    if described := _describe_text(head, size):
        raise GanvasError(f"{origin} is {described}, not a checkpoint: {AGAIN}.")


def _describe_text(head: bytes, size: int) -> str | None:
    """Describe a text by what it says; None for other bytes."""
    try:
        text = head.decode(
            "utf-8-sig", "strict" if len(head) == size else "ignore"
        )  # a character may be cut at the end
    except UnicodeDecodeError:
        return None
    if any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text):
        return None
    plain = text.lstrip()
    if plain.startswith("version https://git-lfs"):
        stored = re.search(r"^size (\d{1,15})\s*$", text, re.MULTILINE)
        return (
            f"a pointer of Git LFS to the file{f' of {int(stored[1]):,} bytes' if stored else ''} (run `git lfs pull`)"
        )
    if "annex/objects/" in plain[:200]:
        return "a pointer of git-annex to the file (run `git annex get`)"
    if re.search(r"<(!doctype html|html|head|body|title)\b", plain, re.IGNORECASE):
        title = re.search(r"<title[^<>]*>([^<]*)", plain, re.IGNORECASE)
        return f"a web page{_quote(html.unescape(title[1])) if title else ''}"
    if re.search(r"<svg\b", plain):
        return "an SVG picture"
    if plain.startswith("<"):
        message = re.search(r"<(?:Code|Message)>([^<]*)", plain)
        return f"a server's answer in XML{_quote(message[1]) if message else ''}"
    if plain.startswith(("{", "[")):
        return f"a text in JSON{_quote(plain)}"
    if not plain:
        return "blank"
    kind = "a server's answer or another short text" if size <= len(head) else "a text"
    return f"{kind}{_quote(plain)}"


def _quote(text: str) -> str:
    line = format_printable(" ".join(text.split())[:60])
    return f" ('{line}')" if line else ""
