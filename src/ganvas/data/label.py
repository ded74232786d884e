"""Label codes of a generator by a scorer, in shards, so that a run can be stopped at any moment and be shared by many machines.

A folder holds ``index.json`` (the generator, scorer and seeds), ``scores-00000.safetensors`` … and, where pictures are kept,
``images-00000.safetensors`` …: ``jpeg``, JPEG files one after another, and ``sizes``, their lengths in bytes. Each
shard's metadata says what it depends on, and only a run that would make the same shard reuses it; a damaged one is made
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.data.label_files import (
    INDEX,
    MAX_PSI,
    MAX_SHARD_SIZE,
    VERSION,
    LabelHeader,
    draw_batch,
    draw_codes,
    find_following_seed,
    load_labels,
    parse_header,
    read_label_header,
)
from ganvas.engines import run_shards, use_threads
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, encode_label
from ganvas.io.fingerprints import NamedTool
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.io.shards import decode_pictures, encode_pictures, format_images_name, format_scores_name
from ganvas.io.store import Store, is_url
from ganvas.progress import Progress
from ganvas.scorers.base import Kind, Scorer
from ganvas.seeds import LABEL_SEED, label_seeds
from ganvas.types import Images, Scores, WPlus

SHARD_SIZE = 256
"""Pictures a shard: the most that a stopped run loses, and how many codes are drawn at a time."""
BATCH_SIZE = 32
"""Pictures scored at a time: they fit into any memory."""
EARLY_SIDE = 2 * LABEL_SIDE
"""The side in pixels of early pictures that are scored: at half of it some scores rank pictures otherwise (docs/measured.md)."""
HEADER_BYTES = 2048
"""About the bytes of a shard's header, for estimates."""

Advance = Callable[[int], object]
"""Takes how many more pictures are done."""


def label(
    generator: Generator,
    scorer: Scorer,
    n: int,
    *,
    psi: float = 1.0,
    seed: int = LABEL_SEED,
    out: str | Path | None = None,
    keep_images: bool = False,
    early: bool = False,
    condition: int | None = None,
    shard_size: int = SHARD_SIZE,
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LatentDataset:
    """Label the codes of ``n`` seeds with the scores of their pictures.

    With ``out``, scores are written in shards, so that a later call resumes an earlier one: a larger ``n`` adds codes, a smaller
    one lists fewer and deletes nothing. Another scorer on a folder with pictures replaces all scores of the one before it.

    Args:
        generator: The generator whose pictures are scored.
        scorer: The scorer, on the generator's device.
        n: The number of codes, at least 1: those of ``ganvas.seeds.label_seeds(n, seed)``.
        psi: The truncation of the codes; 1 draws them from all of W.
        seed: The first seed.
        out: The folder or fsspec URL that keeps the labels; without it they are kept in memory only.
        keep_images: Whether ``out`` also keeps the pictures, as JPEG of 256 pixels (or the generator's own size, if smaller). The
            decoded pictures are scored, and another scorer on the same folder takes them, too, instead of rendering them; its
            scores replace the earlier ones. A folder that has pictures keeps them.
        early: Whether to score pictures that the generator draws early, at 512 pixels, which hardly changes scores. That is
            sooner where the generator stops there, not where it shrinks whole pictures; up to 512 pixels it changes nothing.
        condition: The label that a conditional generator draws all pictures with, from 0; by default ``seed % num_labels``.
        shard_size: The number of pictures a shard.
        engine: What makes the shards of ``out``: "local", "processes" or "ray" (see ``ganvas.engines.run_shards``).
        workers: The number of processes or Ray actors.
        threads: The threads of each worker.
        progress: Is called with the pictures that are done and with ``n``.

    Returns:
        The codes (n, w_dim) with their scores (n, attributes).

    Raises:
        GanvasError: ``n``, ``psi``, a seed or ``shard_size`` is out of range, the generator has no such ``condition``, the folder
            can't be written or holds other labels (before anything is written), ``engine``, ``workers`` or ``threads`` are as
            ``run_shards`` refuses them, or need ``out``, a shard fails repeatedly, or scores aren't finite or have the same value
            everywhere.
    """
    run = LabelRun(generator, scorer, n, psi, seed, out, keep_images, shard_size, early, condition)
    if out is not None:
        run.make_missing(progress=progress, engine=engine, workers=workers, threads=threads)
        return load_labels(out, generator)
    if keep_images or engine != "local":
        name = "keep_images" if keep_images else f"The engine {engine!r}"
        raise GanvasError(f"{name} needs a folder for the shards: give out=….")
    parts: dict[int, Scores] = {}

    def keep_scores(shard: int, advance: Advance) -> None:
        parts[shard] = run.score_shard(shard, advance)

    run_shards(keep_scores, run.count_rows(), workers=workers, threads=threads, progress=progress)
    return make_dataset(
        codes=draw_codes(generator, n, run.source),
        scores=torch.cat([parts[k] for k in sorted(parts)]),
        attributes=scorer.attributes,
        kinds=scorer.kinds,
        source=run.source,
        generator=generator.fingerprint,
        scorer=run.header.scorer_id,
        units=scorer.units,
    )


def render_batch(device: torch.device) -> int:
    """Return how many codes to render at a time: one on a CPU, whose caches hold no more, else a batch."""
    return 1 if device.type == "cpu" else BATCH_SIZE


@dataclass(frozen=True)
class LabelEstimate:
    """The size of the shards that are missing, from a short timed run."""

    shards: int
    pictures: int
    bytes: int
    hours: float
    """With all workers, each as fast as the one that was timed."""

    def __str__(self) -> str:
        size = f"{self.bytes / 1e9:.2f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:.2f} MB"
        return f"{self.shards:,} shards of {self.pictures:,} pictures to make: about {size} and {self.hours:.2g} hours"


@dataclass(frozen=True)
class LabelRun:
    """The labelling of ``n`` codes; the fields are the arguments of ``label``, and ``make_shard`` is the worker of engines."""

    generator: Generator
    scorer: Scorer
    n: int
    psi: float = 1.0
    seed: int = LABEL_SEED
    out: str | Path | None = None
    keep_images: bool = False
    shard_size: int = SHARD_SIZE
    early: bool = False
    condition: int | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise GanvasError(f"The number of pictures must be at least 1, not {self.n}.")
        if not abs(self.psi) < MAX_PSI:
            raise GanvasError(
                f"psi must be a number between -{MAX_PSI:,.0f} and {MAX_PSI:,.0f}, 1 or less for natural pictures, "
                f"not {self.psi}."
            )
        if self.seed < 0 or label_seeds(1, self.seed, self.n - 1)[0] >= 2**32:
            raise GanvasError(f"Seeds must be from 0 to {2**32 - 1}: {self.n} of them can't start at {self.seed}.")
        if self.condition is not None:
            encode_label(self.generator, self.condition)
        if not 1 <= self.shard_size <= MAX_SHARD_SIZE:
            raise GanvasError(f"A shard has 1 to {MAX_SHARD_SIZE:,} pictures, not {self.shard_size}.")

    @property
    def source(self) -> Source:
        """The source of the codes."""
        return Source(self.seed, float(self.psi), None, self.shard_size, self.condition)

    @property
    def header(self) -> LabelHeader:
        """The header of the labels."""
        return LabelHeader(
            n=self.n,
            seed=self.seed,
            psi=float(self.psi),
            codes=None,
            shard=self.shard_size,
            generator=NamedTool(self.generator.name, self.generator.fingerprint),
            scorer=NamedTool(self.scorer.name, self.scorer.fingerprint),
            attributes=self.scorer.attributes,
            kinds=cast(tuple[Kind, ...], self.scorer.kinds),
            condition=self.condition,
            units=dict(self.scorer.units) or None,
        )

    @property
    def store(self) -> Store:
        """The store of the shards. Raises GanvasError where there is none."""
        if self.out is None:
            raise GanvasError("These labels have no folder: give out=….")
        return Store(self.out)

    def describe(self) -> dict[str, Any]:
        """Return the content of ``index.json``."""
        return self.header.describe() | {"dtype": self._dtype, "keep_images": self.keep_images} | self._describe_early()

    def follow(self, path: str | Path) -> LabelRun:
        """Return the run of the labels that are still to make after those of a pack or folder, ``n`` in all.

        Raises GanvasError where there are ``n`` already, they were made otherwise, or no seeds follow theirs; a pack doesn't say
        whether its pictures were early, or of what dtype.
        """
        made = read_label_header(path)
        if made.n >= self.n:
            raise GanvasError(f"{path} has {made.n} labels already: ask for more than that.")
        run = replace(self, n=self.n - made.n, seed=find_following_seed(made, path))
        for name, here, there in (
            ("generator", run.header.generator.fingerprint, made.generator.fingerprint),
            ("scorer", run.header.scorer_id, made.scorer_id),
            ("psi", run.psi, made.psi),
            ("size of shards", run.shard_size, made.shard),
            ("condition", run.condition, made.condition),
        ):
            if here != there:
                raise GanvasError(f"{path} has another {name}: {there}, not {here}.")
        if is_url(path) or Path(path).is_dir():  # a pack doesn't say more
            stored, wanted = Store(path).read_json(INDEX), run.describe()
            for name in ("dtype", "early"):
                if stored.get(name) != wanted.get(name):
                    raise GanvasError(f"{path} has another {name}: {stored.get(name)}, not {wanted.get(name)}.")
        return run

    def resume(self) -> LabelRun:
        """Return this run as it goes on in its store: one that has pictures keeps them. Nothing is written.

        Raises GanvasError where the store holds other labels.
        """
        if INDEX not in self.store.list_names():
            return self
        stored_index = self.store.read_json(INDEX)
        parse_header(stored_index, self.store.locate(INDEX))
        run = replace(self, keep_images=self.keep_images or stored_index.get("keep_images") is True)
        _check_same_labels(stored_index, run.describe(), self.store.target)
        return run

    def count_rows(self, part: tuple[int, int] = (1, 1)) -> dict[int, int]:
        """Count the pictures of each shard; ``part`` (k, m) selects the k-th of m ranges of shards, from 1."""
        batch, (k, m) = self.shard_size, part
        if not 1 <= k <= m:
            raise GanvasError(f"A part is one of 1/{m} to {m}/{m}, not {k}/{m}.")
        shards = -(-self.n // batch)
        return {i: min(batch, self.n - i * batch) for i in range(shards * (k - 1) // m, shards * k // m)}

    def find_missing(self, part: tuple[int, int] = (1, 1)) -> dict[int, int]:
        """Count the pictures of each shard that is missing, damaged or has another origin."""
        return {k: rows for k, rows in self.count_rows(part).items() if not self._is_done(k, rows)}

    def make_missing(self, part: tuple[int, int] = (1, 1), *, progress: Progress | None = None, **engine: Any) -> None:
        """Make the missing shards of a part; several parts of one run may be made at the same time.

        It goes on as ``resume`` says. ``progress`` is called with the pictures that are done and those of the part; ``engine``:
        options of ``run_shards``. Raises GanvasError as ``label`` does.
        """
        run, device = self.resume(), self.generator.device
        store, rows = run.store, run.count_rows(part)
        if engine.get("engine", "local") != "local" and device.index:
            raise GanvasError(f"The engine {engine['engine']!r} takes every GPU: give the device cuda, not {device}.")
        store.write_json(INDEX, run.describe())
        # A temporary index may be another part's, which is being written.
        names = [name(k) for k in rows for name in (format_scores_name, format_images_name)] + [INDEX] * (
            part == (1, 1)
        )
        store.remove_leftovers(names)
        missing, total = run.find_missing(part), sum(rows.values())
        before = total - sum(missing.values())
        callback = None if progress is None else lambda done, _: progress(before + done, total)
        try:
            run_shards(run.make_shard, missing, gpu=device.type == "cuda", progress=callback, **engine)
        finally:
            store.remove_leftovers(names)

    def make_shard(self, k: int, advance: Advance) -> str:
        """Make shard ``k``: the pictures, if they are kept and missing, then the scores, whose name is returned."""
        store, rows = self.store, min(self.shard_size, self.n - k * self.shard_size)
        if not self.keep_images:
            scores = self.score_shard(k, advance)
        else:
            images = self._load_images(k, rows)
            if images is None:
                images = encode_pictures(self._render(k, rows, advance))
                store.save(format_images_name(k), images, self._describe_images(k))
            else:
                advance(rows)
            scores = self._score(decode_pictures(images, rows))
        store.save(format_scores_name(k), {"scores": scores}, self._describe_scores(k))
        return format_scores_name(k)

    def score_shard(self, k: int, advance: Advance) -> Scores:
        """Render and score the pictures of shard ``k``, (rows, attributes)."""
        return self._score(self._render(k, min(self.shard_size, self.n - k * self.shard_size), advance))

    def estimate(self, missing: dict[int, int], workers: int = 1, threads: int | None = None) -> LabelEstimate:
        """Estimate how many bytes and hours shards take, by labelling a few pictures of one shard of each kind.

        Shards whose pictures are kept already only have them decoded and scored. Raises GanvasError where the kept pictures are
        others.
        """
        names = self.store.list_names() if self.keep_images and missing else set()
        kept = {k for k in missing if format_images_name(k) in names}
        hours, size = 0.0, 0.0
        for shards in (kept, missing.keys() - kept):
            if not shards:
                continue
            writes_images = self.keep_images and shards is not kept
            with use_threads(threads):
                seconds, jpeg_bytes = self._time_picture(min(shards), missing[min(shards)], shards is kept)
            pictures = sum(missing[k] for k in shards)
            hours += seconds * pictures / workers / 3600
            size += pictures * (4 * len(self.scorer.attributes) + (jpeg_bytes + 8) * writes_images)
            size += len(shards) * HEADER_BYTES * (1 + writes_images)
        return LabelEstimate(len(missing), sum(missing.values()), round(size), hours)

    def _time_picture(self, k: int, rows: int, is_kept: bool) -> tuple[float, float]:
        """Label a few pictures of shard ``k`` twice, the first time to warm up; return seconds and bytes of JPEG of each."""
        timed, seconds, jpeg_bytes = min(BATCH_SIZE, rows), 0.0, 0
        images = self._load_images(k, rows) if is_kept else None
        for _ in range(2):
            start = time.perf_counter()
            if images is not None:
                pictures = decode_pictures(images, timed)
            else:
                # Only their own codes: those of the whole shard may be many more.
                source = replace(self.source, batch=timed)
                pictures = self._render_codes(draw_batch(self.generator, source, k * self.shard_size))
                if self.keep_images:
                    encoded = encode_pictures(pictures)
                    jpeg_bytes, pictures = len(encoded["jpeg"]), decode_pictures(encoded, timed)
            self._score(pictures)
            seconds = time.perf_counter() - start
        return seconds / timed, jpeg_bytes / timed

    @property
    def _size(self) -> int:
        """The side of the pictures that are scored; small ones aren't enlarged."""
        return min(LABEL_SIDE, self.generator.resolution)

    @property
    def _dtype(self) -> str:
        return str(self.generator.dtype).removeprefix("torch.")

    def _describe_early(self) -> dict[str, Any]:
        """Describe early pictures; shards of whole ones say nothing, as before there were early ones."""
        return {"early": EARLY_SIDE} if self.early and self.generator.resolution > EARLY_SIDE else {}

    def _describe_images(self, k: int) -> dict[str, Any]:
        """Describe all that the pictures of shard ``k`` depend on: equal descriptions, equal bytes."""
        return {
            "kind": "images",
            "version": VERSION,
            "generator": self.generator.fingerprint,
            "dtype": self._dtype,
            "psi": float(self.psi),
            "seed": self.seed + k * self.shard_size,
            "shard": self.shard_size,
            "size": self._size,
            **({} if self.condition is None else {"condition": self.condition}),
            **self._describe_early(),
        }

    def _describe_scores(self, k: int) -> dict[str, Any]:
        """Describe all that the scores of shard ``k`` depend on."""
        scorer = {"scorer": self.header.scorer_id, "attributes": list(self.scorer.attributes), "batch": BATCH_SIZE}
        return self._describe_images(k) | scorer | {"kind": "scores", "keep_images": self.keep_images}

    def _is_done(self, k: int, rows: int) -> bool:
        scores = self.store.load(format_scores_name(k), self._describe_scores(k), "scores", rows)
        return scores is not None and (not self.keep_images or self._load_images(k, rows) is not None)

    def _load_images(self, k: int, rows: int) -> dict[str, Tensor] | None:
        """Load the pictures of shard ``k``, None if missing or damaged. Raises GanvasError where they are other pictures.

        Pictures may have taken hours, so that others are never replaced.
        """
        store, name, origin = self.store, format_images_name(k), self._describe_images(k)
        images = store.load(name, origin, "sizes", rows)
        if images is None:
            store.check_origin(name, origin)
        return images

    def _render(self, k: int, rows: int, advance: Advance) -> Iterator[Images]:
        """Yield the first ``rows`` pictures (1, 3, size, size) of shard ``k``, one after the other."""
        ws = draw_batch(self.generator, self.source, k * self.shard_size)[:rows]
        return self._render_codes(ws, advance)

    @torch.no_grad()
    def _render_codes(self, ws: WPlus, advance: Advance = lambda rows: None) -> Iterator[Images]:
        """Yield the pictures (1, 3, size, size) of codes, one after the other."""
        for codes in ws.split(render_batch(self.generator.device)):
            drawn = self.generator.synthesis(codes, **({"resolution": EARLY_SIDE} if self._describe_early() else {}))
            for picture in downscale(drawn, self._size).split(1):
                yield picture
                advance(1)

    @torch.no_grad()
    def _score(self, pictures: Iterable[Images]) -> Scores:
        """Score pictures, (rows, attributes), ``BATCH_SIZE`` at a time. Raises GanvasError where a score isn't finite."""
        rows, pictures = [], iter(pictures)
        while batch := list(islice(pictures, BATCH_SIZE)):
            rows.append(self.scorer(torch.cat(batch).to(self.generator.device)).float().cpu())
        scores = torch.cat(rows)
        if not torch.isfinite(scores).all():
            raise GanvasError(f"Scorer {self.scorer.name!r} gave scores that aren't finite: check its weights.")
        return scores


def _check_same_labels(stored_index: dict[str, Any], new: dict[str, Any], folder: str | Path) -> None:
    more = [] if stored_index.get("keep_images") else ["scorer", "attributes"]
    for key in ["generator", "seed", "psi", "shard", "dtype", "keep_images", "early", "condition", *more]:
        stored, given = (_format_value(value.get(key)) for value in (stored_index, new))
        if stored != given:
            raise GanvasError(f"{folder} holds labels whose {key} is {stored}, not {given}: use another folder.")


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['name']} ({value['fingerprint'][:12]})"
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)
