"""Import codes of others: of the generator itself exactly, of another StyleGAN2 with rows mapped by their resolution.

MobileStyleGAN keeps StyleGAN2's mapping network, so a row means the same in both, but its blocks have three rows where
StyleGAN2's have two (and a third for the picture's colours, which shares its row with the next block's first).
It was distilled on codes with equal rows, though: rows that differ as much as those of most inversions give no face.
``shrink_to_w`` moves such codes to where the generator can draw them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log2
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.checkpoints import read_nested_tensors
from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.generators.stylegan2.rows import MAX_ROWS, MIN_ROWS, is_stylegan2, list_row_resolutions
from ganvas.inversion.optimization import WhitenedCoordinates
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.files import load_tensors, read_npy, read_npz
from ganvas.types import WPlus

MAX_CODES = 100_000
CODE_KEYS = ("w_plus", "wplus", "ws", "w", "latent", "latents", "dlatent", "dlatents", "codes")
"""The names that projectors give to codes, beside pictures and noise."""
NPY, ZIP, PICKLE = b"\x93NUMPY", b"PK", b"\x80"
"""What files begin with."""
SPREAD, REACH = 0.15, 15.0
"""Defaults of ``shrink_to_w``, chosen by eye on the 68 codes that StyleCLIP publishes, in ``ffhq``."""


@dataclass(frozen=True)
class ImportedCodes:
    """Codes for a generator, and lines for the user: how the file was read, and what was left out."""

    ws: WPlus
    notes: tuple[str, ...]


def import_codes(
    path: str | Path,
    generator: Generator,
    *,
    read_as: str | None = None,
    spread: float | None = None,
    reach: float | None = None,
) -> ImportedCodes:
    """Read a file of codes for ``generator``: exactly where they are of W or have the generator's own rows, else shrunk.

    ``read_as`` decides between "w" and "w+" where an array of two axes can be both. ``spread`` and ``reach``, where given, are
    those of ``shrink_to_w`` whatever the rows are.
    Raises GanvasError for a file that ``load_imported_codes`` refuses.
    """
    codes, notes = _read_codes(Path(path), generator, read_as)
    rows = codes.shape[1]
    exact = rows in (1, generator.num_ws)
    ws = _fit_rows(codes, generator)
    if not exact:
        notes.append(f"rows were mapped from {rows} to {generator.num_ws} by the resolution that they act at")
    if exact and spread is None and reach is None:
        return ImportedCodes(ws, (*notes, "taken over exactly"))
    spread, reach = (
        (spread, reach) if exact else (SPREAD if spread is None else spread, REACH if reach is None else reach)
    )
    distribution = fit_w_distribution(generator)
    spread, reach = 1.0 if spread is None else spread, inf if reach is None else reach
    shrunk = shrink_to_w(ws, generator, spread, reach, distribution)
    if spread < 1:
        notes.append(f"{spread:.0%} of the differences between rows are kept, the rest is left out (--spread)")
    nearer = int((shrunk.mean(1) - ws.mean(1)).abs().amax(1).gt(1e-4).sum())
    if nearer:
        notes.append(
            f"{nearer} of {len(ws)} codes were brought to {reach:g} standard deviations from the mean of W (--reach)"
        )
    return ImportedCodes(shrunk, tuple(notes))


def load_imported_codes(path: str | Path, generator: Generator, read_as: str | None = None) -> WPlus:
    """Load the codes in a file as codes (n, num_ws, w_dim) for ``generator``, without shrinking them.

    Files, recognised by content: .npy, NumPy's .npz, what torch.save wrote (a tensor, or a mapping from names to tensors or to
    mappings, as projectors write them), and .safetensors. Of named arrays the one called "w", "latent" or the like is
    taken, else all that are as wide as the generator's codes. Codes are of W, (w_dim,) or (n, w_dim), or of W+, (rows, w_dim) or
    (n, rows, w_dim). Rows are the generator's own or, where these mean something to it, a StyleGAN2's: one at 4, then two a
    resolution, and one for the colours at the end: 18 rows are 1024.
    Raises GanvasError for a file that is missing, damaged, would have to run code to be read, or holds codes of other shapes.
    """
    return _fit_rows(_read_codes(Path(path), generator, read_as)[0], generator)


def shrink_to_w(
    ws: WPlus,
    generator: Generator,
    spread: float = SPREAD,
    reach: float = REACH,
    distribution: Distribution | None = None,
) -> WPlus:
    """Shrink codes towards W: scale the differences between their rows by ``spread``, and bring their mean row to at most
    ``reach`` standard deviations (Mahalanobis) from the mean of W.

    Raises GanvasError for a spread outside 0 … 1, or a reach that isn't above 0.
    """
    if not 0 <= spread <= 1 or not reach > 0:
        raise GanvasError(f"The spread must be from 0 to 1 and the reach above 0, not {spread} and {reach}.")
    coordinates = WhitenedCoordinates.from_distribution(distribution or fit_w_distribution(generator), ws.device)
    mean = ws.mean(1, keepdim=True)
    whitened = coordinates.whiten(mean)
    nearer = coordinates.unwhiten(whitened * (reach / whitened.norm(dim=-1, keepdim=True)).clamp(max=1))
    return nearer + spread * (ws - mean)


def map_rows(ws: Tensor, source: tuple[int, ...], target: tuple[int, ...]) -> WPlus:
    """Map codes from rows at ``source`` resolutions to rows at ``target``.

    Each row takes the row at the same share of the rows of its own resolution, or of the nearest one.
    """
    places = []
    for i, resolution in enumerate(target):
        nearest = min(source, key=lambda other: abs(log2(other / resolution)))
        candidates = [k for k, other in enumerate(source) if other == nearest]
        same = [k for k, own in enumerate(target) if own == resolution]
        places.append(candidates[same.index(i) * len(candidates) // len(same)])
    return ws[:, places]


def _fit_rows(codes: Float[Tensor, "n rows w_dim"], generator: Generator) -> WPlus:
    rows = codes.shape[1]
    codes = codes.to(generator.device)
    if rows in (1, generator.num_ws):
        return codes.repeat(1, generator.num_ws // rows, 1)
    return map_rows(codes, list_row_resolutions(rows), generator.row_resolutions)


def _read_codes(
    path: Path, generator: Generator, read_as: str | None
) -> tuple[Float[Tensor, "n rows w_dim"], list[str]]:
    """Read codes as the file has them (of W: with one row), and notes on how it was read."""
    if read_as not in (None, "w", "w+"):
        raise unknown("space", read_as, ("w", "w+"))
    notes: list[str] = []
    parts = _select_tensors(_read_tensors(path), generator, path)
    codes = [_read_axes(part, generator, read_as, path, notes) for part in parts]
    if len({each.shape[1] for each in codes}) > 1:
        shapes = ", ".join(sorted({str(tuple(part.shape)) for part in parts}))
        raise GanvasError(f"{path} holds codes of different rows, {shapes}: give files of one kind each.")
    joined = torch.cat(codes)
    if not 0 < len(joined) <= MAX_CODES or not torch.isfinite(joined).all():
        raise GanvasError(f"{path} must hold 1 to {MAX_CODES:,} codes of finite numbers.")
    space = "of W" if joined.shape[1] == 1 else f"of W+ with {joined.shape[1]} rows"
    return joined, [f"read as {len(joined)} code{'s' * (len(joined) != 1)} {space}", *dict.fromkeys(notes)]


def _read_axes(
    codes: Tensor, generator: Generator, read_as: str | None, path: Path, notes: list[str]
) -> Float[Tensor, "n rows w_dim"]:
    """Return an array as codes (n, rows, w_dim), those of W with one row; note where it could be read otherwise, too."""
    shape, own = tuple(codes.shape), _list_own_rows(generator)
    while codes.ndim > 3 and 1 in codes.shape[:-1]:
        codes = codes.squeeze([*codes.shape].index(1))
    wide = bool(codes.ndim) and codes.shape[-1] == generator.w_dim
    if wide and codes.ndim == 3 and codes.shape[1] != 1 and read_as == "w":
        raise GanvasError(f"{path} holds {shape}: these are codes of W+, leave out --read-as w.")
    if wide and codes.ndim == 1:
        codes = codes[None]
    if wide and codes.ndim == 2:
        n = len(codes)
        if n in own and n > 1 and read_as is None:
            notes.append(f"{shape} could also be {n} codes of W: --read-as w reads it so, --read-as w+ as one code")
        codes = codes[None] if read_as == "w+" or (n in own and n > 1 and read_as is None) else codes[:, None]
    rows = codes.shape[1] if wide and codes.ndim == 3 else 0
    if rows not in (1, generator.num_ws) and not (generator.has_stylegan2_rows and is_stylegan2(rows)):
        width, others = generator.w_dim, ""
        if generator.has_stylegan2_rows:
            others = f" or a StyleGAN2's, which are an even number of rows from {MIN_ROWS} to {MAX_ROWS}"
        raise GanvasError(
            f"{path} holds {shape}: codes for {generator.name!r} are (n, {width}) in W, or (n, rows, {width}) in W+, with "
            f"its own {generator.num_ws} rows{others}."
        )
    return codes.float()


def _list_own_rows(generator: Generator) -> tuple[int, ...]:
    """List the rows that a code of this generator has: its own, and those of a StyleGAN2 of the same resolution."""
    others = (2 * generator.resolution.bit_length() - 4,) if generator.has_stylegan2_rows else ()
    return generator.num_ws, *others


def _select_tensors(tensors: Mapping[tuple[str, ...], Tensor], generator: Generator, path: Path) -> list[Tensor]:
    """Select the tensors that are codes: those under one of CODE_KEYS, else all of the codes' width."""
    for key in CODE_KEYS:
        if named := [tensor for keys, tensor in tensors.items() if keys and keys[-1] == key]:
            return named
    if len(tensors) == 1:
        return list(tensors.values())
    wide = [tensor for tensor in tensors.values() if tensor.ndim and tensor.shape[-1] == generator.w_dim]
    if not wide:
        listed = ", ".join(f"{'.'.join(keys)} {tuple(tensor.shape)}" for keys, tensor in list(tensors.items())[:4])
        raise GanvasError(
            f"{path} holds no codes of {generator.w_dim} numbers as {generator.name!r} has, but {listed or 'no numbers'}."
        )
    return wide


def _read_tensors(path: Path) -> dict[tuple[str, ...], Tensor]:
    """Read all tensors in a file by the keys that lead to them."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
        arrays = head.startswith(ZIP) and _is_npz(path)
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except OSError as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    if head.startswith(NPY) or path.suffix == ".npy":
        return {(): torch.from_numpy(read_npy(path).astype("float32"))}
    if arrays:
        return {(name,): torch.from_numpy(each.astype("float32")) for name, each in read_npz(path).items()}
    if head.startswith((ZIP, PICKLE)):
        return read_nested_tensors(path)
    if head[8:] == b"{":
        return {(name,): tensor for name, tensor in load_tensors(path)[0].items() if tensor.is_floating_point()}
    raise GanvasError(f"{path} isn't a file of codes: .npy, .npz, .pt and .safetensors files are read.")


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
