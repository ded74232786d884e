"""Archives around a checkpoint: gzip, tar and zip, unpacked in memory where they hold exactly one file that may be one.

Nothing is written: paths in an archive only name what is in it. What it unpacks to is bounded before and while it's unpacked.
https://www.rfc-editor.org/rfc/rfc1952 (gzip), https://www.gnu.org/software/tar/manual/html_node/Standard.html (tar).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import PurePosixPath

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._torch import open_zip
from ganvas.errors import GanvasError

GZIP, ZIP, TAR = b"\x1f\x8b\x08", b"PK\x03\x04", b"ustar"
TAR_PLACE, TAR_BLOCK_BYTES = 257, 512
MAX_RATIO = 20
"""How many times its size an archive may unpack to: weights hardly shrink."""
MIN_LIMIT_BYTES = 1 << 20
MAX_TAR_FILES = 10_000
TEXT_SUFFIXES = frozenset(
    ".txt .md .rst .json .yaml .yml .toml .csv .tsv .log .py .ipynb .sh .pdf .html .png .jpg .jpeg .gif .mp4 .license".split()
)
"""What may lie beside a checkpoint."""


def unpack(data: memoryview, limit: int, budget: ReadBudget) -> tuple[str, memoryview] | None:
    """Unpack the one file in an archive that may be a checkpoint: its name ("" in gzip) and content; None for what is no archive.

    Raises GanvasError where there is none or several, or it would have more than ``limit`` bytes.
    """
    limit = min(limit, max(MIN_LIMIT_BYTES, MAX_RATIO * len(data)))
    if bytes(data[: len(GZIP)]) == GZIP:
        return "", memoryview(_unpack_gzip(data, limit, budget))
    if bytes(data[TAR_PLACE : TAR_PLACE + len(TAR)]) == TAR:
        return _unpack_tar(data, budget)
    if bytes(data[: len(ZIP)]) == ZIP:
        return _unpack_zip(data, limit, budget)
    return None


def _unpack_gzip(data: memoryview, limit: int, budget: ReadBudget) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        content = machine.decompress(data, limit + 1)
    except zlib.error as error:
        raise budget.damage(f"it's packed by gzip, and damaged ({format_printable(error)})") from None
    if len(content) > limit:
        raise budget.refusal(f"unpacks to more than {limit:,} bytes")
    if not machine.eof:
        raise budget.damage("it's packed by gzip, and cut short: download it again")
    return content


def _unpack_tar(data: memoryview, budget: ReadBudget) -> tuple[str, memoryview]:
    files: dict[str, memoryview] = {}
    at = 0
    while at + TAR_BLOCK_BYTES <= len(data) and (head := bytes(data[at : at + TAR_BLOCK_BYTES])).strip(b"\0"):
        budget.spend(1)
        digits = head[124:136].strip(b"\0 ")
        if not digits.isdigit() or len(files) >= MAX_TAR_FILES:
            raise budget.damage("its archive (tar) is damaged, or has too many files")
        try:
            size = int(digits, 8)
        except ValueError:
            raise budget.damage("its archive (tar) has an impossible size") from None
        start, end = at + TAR_BLOCK_BYTES, at + TAR_BLOCK_BYTES + size
        if end > len(data):
            raise budget.damage("its archive (tar) is cut short: download it again")
        if head[156:157] in (b"0", b"\0"):  # a plain file
            files[head[:100].rstrip(b"\0").decode("utf-8", "replace")] = data[start:end]
        at = start + -(-size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    name = _choose(list(files), budget)
    return name, files[name]


def _unpack_zip(data: memoryview, limit: int, budget: ReadBudget) -> tuple[str, memoryview]:
    archive = open_zip(data, budget)
    names = [info.filename for info in archive.infolist() if not info.filename.endswith("/")]
    if names and all(name.endswith(".npy") for name in names):
        raise GanvasError(
            f"{budget.origin} holds arrays of NumPy (.npz), not a checkpoint: codes of W are read by `ganvas import-codes`."
        )
    info = archive.getinfo(_choose(names, budget))
    if info.file_size > limit:
        raise budget.refusal(f"is an archive that unpacks to {info.file_size:,} bytes: at most {limit:,} are read")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise GanvasError(f"{budget.origin} is an archive with a password or an unusual packing: unpack it first.")
    try:
        return info.filename, memoryview(archive.read(info))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError) as error:
        raise budget.damage(f"its archive can't be read ({format_printable(error)})") from None


def _choose(names: list[str], budget: ReadBudget) -> str:
    """Choose the one file that may be a checkpoint. Raises GanvasError where there is none, or more than one."""
    paths = [(name, PurePosixPath(name)) for name in names]
    possible = [
        name
        for name, path in paths
        if path.suffix.lower() not in TEXT_SUFFIXES
        and not path.name.startswith(".")
        and "__MACOSX" not in path.parts
        and path.name not in ("README", "LICENSE", "NOTICE")
    ]
    if len(possible) == 1:
        return possible[0]
    held = ", ".join(map(format_printable, (possible or names)[:3])) or "nothing"
    more = ", …" if len(possible or names) > 3 else ""
    if possible:
        raise GanvasError(
            f"{budget.origin} is an archive of {len(possible)} files ({held}{more}): unpack it, and give one of them."
        )
    raise GanvasError(f"{budget.origin} is an archive without a checkpoint: it holds {held}{more}.")
