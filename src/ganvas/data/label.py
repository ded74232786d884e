"""label(): a generator seen through a scorer, in shards that survive a kill at any moment.

A folder holds ``index.json`` (what is labelled, by whom), ``scores-00000.safetensors`` … and, where pictures are kept,
``images-00000.safetensors`` …: ``jpeg``, JPEG files one after another, and ``sizes``, their lengths in bytes. Each
shard says in its metadata what it was made of, and is taken up only by a run that would make the same; a damaged one
is made again.
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
    read_about,
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

SHARD = 256
"""Faces a file: what a kill loses at most, and how many codes are drawn at a time."""
BATCH = 32
"""Pictures scored at a time: what any memory holds."""

LabelProgress = Callable[[int], None]


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
    _shard: int = SHARD,
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
    _check(n, psi, seed)
    view = _View(generator, scorer, Source(seed, float(psi), None, _shard))
    if out is not None:
        _open(_Folder(view, Path(out), keep_images), n).make(n, progress)
        return load_labels(out, generator)
    if keep_images:
        raise GanvasError("Pictures can only be kept in a folder: give out=….")
    with _progress(n, n, progress) as tick:
        starts = range(0, n, _shard)
        scores = torch.cat([view.score(view.render(start, min(_shard, n - start), tick)) for start in starts])
    codes, names = (draw_codes(generator, n, view.source), (scorer.attributes, scorer.kinds))
    return make_dataset(codes, scores, *names, view.source, generator.fingerprint, view.scored_by)


def render_batch(device: torch.device) -> int:
    """Codes that are rendered at a time: one on a CPU, whose caches hold no more, and a batch where it takes that to be busy."""
    return 1 if device.type == "cpu" else BATCH


@dataclass(frozen=True)
class _View:
    """A generator seen through a scorer."""

    generator: Generator
    scorer: Scorer
    source: Source

    @property
    def scored_by(self) -> str:
        return f"{self.scorer.name}:{self.scorer.fingerprint}"

    @property
    def size(self) -> int:
        """The side of the pictures that are scored; small ones aren't enlarged."""
        return min(LABEL_SIDE, self.generator.resolution)

    @property
    def dtype(self) -> str:
        return str(self.generator.dtype).removeprefix("torch.")

    @torch.no_grad()
    def render(self, start: int, rows: int, tick: LabelProgress) -> Iterator[Images]:
        """Pictures (1, 3, size, size), one after the other."""
        ws = draw_batch(self.generator, self.source, start)[:rows]
        for codes in ws.split(render_batch(self.generator.device)):
            for picture in downscale(self.generator.synthesis(codes), self.size).split(1):
                yield picture
                tick(1)

    @torch.no_grad()
    def score(self, pictures: Iterable[Images]) -> Scores:
        """Scores (rows, attributes), ``BATCH`` pictures at a time. Raises GanvasError where one isn't finite."""
        rows, batch = [], []
        for picture in pictures:
            batch.append(picture)
            if len(batch) == BATCH:
                rows.append(self._score_batch(batch))
                batch = []
        scores = torch.cat([*rows, self._score_batch(batch)] if batch else rows)
        if not torch.isfinite(scores).all():
            raise GanvasError(f"Scorer {self.scorer.name!r} gave scores that aren't finite: they can't be labels.")
        return scores

    def _score_batch(self, batch: list[Tensor]) -> Tensor:
        return self.scorer(torch.cat(batch).to(self.generator.device)).float().cpu()


@dataclass(frozen=True)
class _Folder:
    """Where shards go, with pictures or without."""

    view: _View
    path: Path
    kept: bool

    def index(self, n: int) -> dict[str, Any]:
        """``index.json`` for ``n`` faces."""
        view, generator, scorer = self.view, self.view.generator, self.view.scorer
        names = (scorer.attributes, scorer.kinds)
        labels = LabelScores(n, view.source, generator.name, generator.fingerprint, view.scored_by, *names)
        return labels.about() | {"dtype": view.dtype, "keep_images": self.kept}

    def about_images(self, k: int) -> dict[str, Any]:
        """What the pictures of shard ``k`` depend on: equal descriptions, equal bytes."""
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

    def about_scores(self, k: int) -> dict[str, Any]:
        """What the scores of shard ``k`` depend on."""
        scorer = {"scorer": self.view.scored_by, "attributes": list(self.view.scorer.attributes), "batch": BATCH}
        return self.about_images(k) | scorer | {"kind": "scores", "keep_images": self.kept}

    def make(self, n: int, progress: bool) -> None:
        """Make what is missing or damaged of ``n`` faces."""
        batch = self.view.source.batch
        rows = {k: min(batch, n - k * batch) for k in range(-(-n // batch))}
        todo = [k for k in rows if not self._is_done(k, rows[k])]
        with _progress(n, sum(rows[k] for k in todo), progress) as tick:
            for k in todo:
                self._make_shard(k, rows[k], tick)

    def _is_done(self, k: int, rows: int) -> bool:
        scores = load_shard(scores_path(self.path, k), "scores", self.about_scores(k), rows)
        return scores is not None and (not self.kept or self._load_images(k, rows) is not None)

    def _load_images(self, k: int, rows: int) -> dict[str, Tensor] | None:
        """The kept pictures of shard ``k``, if they are whole. Raises GanvasError where they are other pictures."""
        path, about = images_path(self.path, k), self.about_images(k)
        images = load_shard(path, "sizes", about, rows)
        if images is None:
            check_shard_owner(path, about)
        return images

    def _make_shard(self, k: int, rows: int, tick: LabelProgress) -> None:
        """Pictures first, if they are kept and not there, then scores."""
        view, start = self.view, k * self.view.source.batch
        if not self.kept:
            scores = view.score(view.render(start, rows, tick))
        elif images := self._load_images(k, rows):
            scores = view.score(decode_pictures(images, rows))
            tick(rows)
        else:
            images = encode_pictures(view.render(start, rows, tick))
            save_shard(images_path(self.path, k), images, self.about_images(k))
            scores = view.score(decode_pictures(images, rows))
        save_shard(scores_path(self.path, k), {"scores": scores}, self.about_scores(k))


def _check(n: int, psi: float, seed: int) -> None:
    if n < 1:
        raise GanvasError(f"The number of faces must be at least 1, not {n}.")
    if not abs(psi) < MAX_PSI:
        raise GanvasError(f"psi must be a number, 1 or less for natural faces, not {psi}.")
    if seed < 0 or label_seeds(1, seed, n - 1)[0] >= 2**32:
        raise GanvasError(f"Seeds go from 0 to {2**32 - 1}: {n} of them can't start at {seed}.")


def _open(folder: _Folder, n: int) -> _Folder:
    """The folder with its index written; one that has pictures goes on keeping them.

    Raises GanvasError where it can't be written or holds other labels.
    """
    path = folder.path / INDEX
    if path.exists():
        old = read_json(path)
        read_about(old, path)
        folder = _Folder(folder.view, folder.path, folder.kept or old.get("keep_images") is True)
        _compare(old, folder.index(n), folder.path)
    write_json(path, folder.index(n))
    # What a killed run was writing; the names are those of files.whole.
    for pattern in ("scores-*", "images-*", INDEX):
        for leftover in folder.path.glob(f".{pattern}.*"):
            leftover.unlink(missing_ok=True)
    return folder


def _compare(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    rest = [] if old.get("keep_images") else ["scorer", "attributes"]
    for key in ["generator", "seed", "psi", "shard", "dtype", "keep_images", *rest]:
        was, now = (_show(value.get(key)) for value in (old, new))
        if was != now:
            raise GanvasError(f"{folder} holds labels whose {key} is {was}, not {now}: use another folder.")


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['name']} ({value['fingerprint'][:12]})"
    return ", ".join(value) if isinstance(value, list) else str(value)


@contextmanager
def _progress(n: int, todo: int, shown: bool) -> Iterator[LabelProgress]:
    """``tick(k)`` says that ``k`` more of the ``todo`` faces are done."""
    if not shown:
        yield lambda k: None
        return
    with show_advance("Faces", n, n - todo) as tick:
        yield tick
