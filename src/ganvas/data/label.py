"""Label codes of a generator by a scorer, in shards, so that a run can be stopped at any moment.

A folder holds ``index.json`` (the generator, scorer and seeds), ``scores-00000.safetensors`` … and, where pictures are kept,
``images-00000.safetensors`` …: ``jpeg``, JPEG files one after another, and ``sizes``, their lengths in bytes. Each
shard's metadata says what it depends on, and only a run that would make the same shard reuses it; a damaged one is made
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.data.label_files import (
    INDEX,
    MAX_PSI,
    VERSION,
    LabelScores,
    draw_batch,
    draw_codes,
    load_labels,
    parse_header,
)
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import read_json, write_json
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.io.shards import (
    check_shard_owner,
    decode_pictures,
    encode_pictures,
    images_path,
    load_shard,
    save_shard,
    scores_path,
)
from ganvas.progress import show_advance
from ganvas.scorers.base import Scorer
from ganvas.seeds import LABEL_SEED, label_seeds
from ganvas.types import Images, Scores

SHARD_SIZE = 256
"""Faces a file: the most that a stopped run loses, and how many codes are drawn at a time."""
BATCH_SIZE = 32
"""Pictures scored at a time: they fit into any memory."""

Advance = Callable[[int], None]
"""Takes how many more faces are done."""


def label(
    generator: Generator,
    scorer: Scorer,
    n: int,
    *,
    psi: float = 1.0,
    seed: int = LABEL_SEED,
    out: str | Path | None = None,
    keep_images: bool = False,
    progress: bool = False,
    _shard: int = SHARD_SIZE,
) -> LatentDataset:
    """Label the codes of ``n`` seeds with the scores of their pictures.

    With ``out``, scores are written in shards, so that a later call resumes an earlier one: a larger ``n`` adds codes, a smaller
    one lists fewer and deletes nothing. A folder takes one run at a time.

    Args:
        generator: The generator whose pictures are scored.
        scorer: The scorer, on the generator's device.
        n: The number of codes, at least 1: those of ``ganvas.seeds.label_seeds(n, seed)``.
        psi: The truncation of the codes; 1 draws them from all of W.
        seed: The first seed.
        out: The folder that keeps the labels; without it they are kept in memory only.
        keep_images: Whether ``out`` also keeps the pictures, as JPEG of 256 pixels (or the generator's own size, if smaller). The
            decoded pictures are scored, and another scorer on the same folder takes them, too, instead of rendering them. A
            folder that has pictures keeps them.
        progress: Whether progress is shown on stderr.

    Returns:
        The codes (n, w_dim) with their scores (n, attributes).

    Raises:
        GanvasError: ``n``, ``psi`` or a seed is out of range, the folder can't be written or holds other labels (before anything
            is written), or scores aren't finite or have the same value everywhere.
    """
    _check_arguments(n, psi, seed)
    view = _ScoredGenerator(generator, scorer, Source(seed, float(psi), None, _shard))
    if out is not None:
        _open_folder(_Folder(view, Path(out), keep_images), n).label_missing(n, progress)
        return load_labels(out, generator)
    if keep_images:
        raise GanvasError("keep_images needs a folder for the pictures: give out=….")
    with _show_progress(n, n, progress) as advance:
        starts = range(0, n, _shard)
        scores = torch.cat([view.score(view.render(start, min(_shard, n - start), advance)) for start in starts])
    codes, names = (draw_codes(generator, n, view.source), (scorer.attributes, scorer.kinds))
    return make_dataset(codes, scores, *names, view.source, generator.fingerprint, view.scorer_id)


def render_batch(device: torch.device) -> int:
    """Return how many codes to render at a time: one on a CPU, whose caches hold no more, else a batch."""
    return 1 if device.type == "cpu" else BATCH_SIZE


@dataclass(frozen=True)
class _ScoredGenerator:
    """A generator whose pictures a scorer scores."""

    generator: Generator
    scorer: Scorer
    source: Source

    @property
    def scorer_id(self) -> str:
        return f"{self.scorer.name}:{self.scorer.fingerprint}"

    @property
    def size(self) -> int:
        """The side of the pictures that are scored; small ones aren't enlarged."""
        return min(LABEL_SIDE, self.generator.resolution)

    @property
    def dtype(self) -> str:
        return str(self.generator.dtype).removeprefix("torch.")

    @torch.no_grad()
    def render(self, start: int, rows: int, advance: Advance) -> Iterator[Images]:
        """Yield pictures (1, 3, size, size), one after the other."""
        ws = draw_batch(self.generator, self.source, start)[:rows]
        for codes in ws.split(render_batch(self.generator.device)):
            for picture in downscale(self.generator.synthesis(codes), self.size).split(1):
                yield picture
                advance(1)

    @torch.no_grad()
    def score(self, pictures: Iterable[Images]) -> Scores:
        """Score pictures, (rows, attributes), ``BATCH_SIZE`` at a time. Raises GanvasError where a score isn't finite."""
        rows, batch = [], []
        for picture in pictures:
            batch.append(picture)
            if len(batch) == BATCH_SIZE:
                rows.append(self._score_batch(batch))
                batch = []
        scores = torch.cat([*rows, self._score_batch(batch)] if batch else rows)
        if not torch.isfinite(scores).all():
            raise GanvasError(f"Scorer {self.scorer.name!r} gave scores that aren't finite: check its weights.")
        return scores

    def _score_batch(self, batch: list[Tensor]) -> Tensor:
        return self.scorer(torch.cat(batch).to(self.generator.device)).float().cpu()


@dataclass(frozen=True)
class _Folder:
    """A folder of shards, with pictures or without."""

    view: _ScoredGenerator
    path: Path
    keep_images: bool

    def describe(self, n: int) -> dict[str, Any]:
        """Return the content of ``index.json`` for ``n`` faces."""
        view, generator, scorer = self.view, self.view.generator, self.view.scorer
        names = (scorer.attributes, scorer.kinds)
        labels = LabelScores(n, view.source, generator.name, generator.fingerprint, view.scorer_id, *names)
        return labels.describe() | {"dtype": view.dtype, "keep_images": self.keep_images}

    def describe_images(self, k: int) -> dict[str, Any]:
        """Describe all that the pictures of shard ``k`` depend on: equal descriptions, equal bytes."""
        source = self.view.source
        return {
            "kind": "images",
            "version": VERSION,
            "generator": self.view.generator.fingerprint,
            "dtype": self.view.dtype,
            "psi": source.psi,
            "seed": (source.seed or 0) + k * source.batch,
            "shard": source.batch,
            "size": self.view.size,
        }

    def describe_scores(self, k: int) -> dict[str, Any]:
        """Describe all that the scores of shard ``k`` depend on."""
        scorer = {"scorer": self.view.scorer_id, "attributes": list(self.view.scorer.attributes), "batch": BATCH_SIZE}
        return self.describe_images(k) | scorer | {"kind": "scores", "keep_images": self.keep_images}

    def label_missing(self, n: int, progress: bool) -> None:
        """Make the shards of ``n`` faces that are missing or damaged."""
        batch = self.view.source.batch
        rows = {k: min(batch, n - k * batch) for k in range(-(-n // batch))}
        remaining = [k for k in rows if not self._is_done(k, rows[k])]
        with _show_progress(n, sum(rows[k] for k in remaining), progress) as advance:
            for k in remaining:
                self._make_shard(k, rows[k], advance)

    def _is_done(self, k: int, rows: int) -> bool:
        scores = load_shard(scores_path(self.path, k), "scores", self.describe_scores(k), rows)
        return scores is not None and (not self.keep_images or self._load_images(k, rows) is not None)

    def _load_images(self, k: int, rows: int) -> dict[str, Tensor] | None:
        """Load the pictures of shard ``k``, None if missing or damaged. Raises GanvasError where they are other pictures."""
        path, metadata = images_path(self.path, k), self.describe_images(k)
        images = load_shard(path, "sizes", metadata, rows)
        if images is None:
            check_shard_owner(path, metadata)
        return images

    def _make_shard(self, k: int, rows: int, advance: Advance) -> None:
        """Make the pictures, if they are kept and missing, then the scores."""
        view, start = self.view, k * self.view.source.batch
        if not self.keep_images:
            scores = view.score(view.render(start, rows, advance))
        elif images := self._load_images(k, rows):
            scores = view.score(decode_pictures(images, rows))
            advance(rows)
        else:
            images = encode_pictures(view.render(start, rows, advance))
            save_shard(images_path(self.path, k), images, self.describe_images(k))
            scores = view.score(decode_pictures(images, rows))
        save_shard(scores_path(self.path, k), {"scores": scores}, self.describe_scores(k))


def _check_arguments(n: int, psi: float, seed: int) -> None:
    if n < 1:
        raise GanvasError(f"The number of faces must be at least 1, not {n}.")
    if not abs(psi) < MAX_PSI:
        raise GanvasError(f"psi must be a finite number, 1 or less for natural faces, not {psi}.")
    if seed < 0 or label_seeds(1, seed, n - 1)[0] >= 2**32:
        raise GanvasError(f"Seeds must be from 0 to {2**32 - 1}: {n} of them can't start at {seed}.")


def _open_folder(folder: _Folder, n: int) -> _Folder:
    """Write the folder's index and return the folder; one that has pictures goes on keeping them.

    Raises GanvasError where it can't be written or holds other labels.
    """
    path = folder.path / INDEX
    if path.exists():
        stored_index = read_json(path)
        parse_header(stored_index, path)
        folder = _Folder(folder.view, folder.path, folder.keep_images or stored_index.get("keep_images") is True)
        _check_same_labels(stored_index, folder.describe(n), folder.path)
    write_json(path, folder.describe(n))
    # Temporary files of a run that was stopped, as io.files.atomic_write names them.
    for pattern in ("scores-*", "images-*", INDEX):
        for leftover in folder.path.glob(f".{pattern}.*"):
            leftover.unlink(missing_ok=True)
    return folder


def _check_same_labels(stored_index: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    more = [] if stored_index.get("keep_images") else ["scorer", "attributes"]
    for key in ["generator", "seed", "psi", "shard", "dtype", "keep_images", *more]:
        stored, given = (_format_value(value.get(key)) for value in (stored_index, new))
        if stored != given:
            raise GanvasError(f"{folder} holds labels whose {key} is {stored}, not {given}: use another folder.")


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['name']} ({value['fingerprint'][:12]})"
    return ", ".join(value) if isinstance(value, list) else str(value)


@contextmanager
def _show_progress(n: int, remaining: int, shown: bool) -> Iterator[Advance]:
    """Yield a function that takes how many more of the ``remaining`` faces are done, and shows it."""
    if not shown:
        yield lambda k: None
        return
    with show_advance("Faces", n, n - remaining) as advance:
        yield advance
