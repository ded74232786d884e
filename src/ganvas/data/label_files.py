"""Label files: a folder of shards, which can grow, or a pack in one file. Codes are redrawn from their seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor

from ganvas.data.codes import check_generator, load_codes
from ganvas.data.dataset import LatentDataset, Source, find_columns, make_dataset
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, encode_label, map_seeds
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import NamedTool
from ganvas.io.shards import format_scores_name
from ganvas.io.store import Store, is_url
from ganvas.scorers.base import Kind, Unit
from ganvas.seeds import label_seeds
from ganvas.types import Scores, W
from ganvas.validation import parse, validated

VERSION = 1
INDEX = "index.json"
PACK_BITS = (8, 16)
MAX_SHARD_SIZE = 2**16
MAX_CONDITION = 4096
MAX_PSI = 1e6
"""A file with a larger psi is damaged."""
ASSETS = Path(str(files("ganvas").joinpath("assets", "labels")))
SHORT_NAMES = {"face_attributes": "faces"}
"""What packs of a scorer are called where it isn't the scorer's own name."""


@validated
class LabelHeader:
    """What both kinds of files state of their labels; there is more, which depends on the kind."""

    n: Annotated[int, Field(strict=True, ge=1, le=2**32)]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] | None
    psi: Annotated[float, Field(strict=True, gt=-MAX_PSI, lt=MAX_PSI)]
    codes: str | None
    shard: Annotated[int, Field(strict=True, ge=1, le=MAX_SHARD_SIZE)]
    generator: NamedTool
    scorer: NamedTool
    attributes: Annotated[tuple[str, ...], Field(min_length=1)]
    kinds: tuple[Kind, ...]
    condition: Annotated[int, Field(strict=True, ge=0, le=MAX_CONDITION)] | None = None
    """The label that a conditional generator draws all codes with; None: each seed's own."""
    units: dict[str, Unit] | None = None
    """The units of attributes that have one; older files have none."""
    WRITTEN_IF_SET: ClassVar = ("condition", "units")

    def __post_init__(self) -> None:
        if self.codes is None and (self.seed is None or self.seed + self.n > 2**32):
            raise GanvasError(f"there are no {self.n} seeds from {self.seed} on.")
        if len(set(self.attributes)) != len(self.attributes) or len(self.kinds) != len(self.attributes):
            raise GanvasError("the attributes must differ, and have one kind each.")

    @property
    def source(self) -> Source:
        """The source of the codes."""
        return Source(None if self.codes else self.seed, self.psi, self.codes, self.shard, self.condition)

    @property
    def scorer_id(self) -> str:
        """The scorer's name and fingerprint, "name:sha256"."""
        return f"{self.scorer.name}:{self.scorer.fingerprint}"

    def describe(self) -> dict[str, Any]:
        """Return the header as JSON."""
        unset = [key for key in self.WRITTEN_IF_SET if getattr(self, key) is None]
        values = {key: value for key, value in asdict(self).items() if key not in unset}
        return {"version": VERSION, **values}


@dataclass(frozen=True)
class PackingError:
    """The error of packing: the largest and the root mean square error of a score, in its own unit (logits, objects)."""

    path: Path
    faces: int
    bits: int
    largest: float
    rms: float

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        error = f"storage error {self.largest:.2g} at most, {self.rms:.2g} RMS (logits)"
        return f"{self.path}: {self.faces:,} pictures, {size:.2f} MB, {self.bits} bits a score, {error}"


def load_labels(
    path: str | Path,
    generator: Generator,
    *,
    codes: str | Path | None = None,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LatentDataset:
    """Load the labelled codes of a label folder or a label pack, by path or by the name of a pack that ships.

    Codes are redrawn from their seeds, or read from the codes file ``codes`` where they came from one.
    ``attributes`` selects some before anything is fitted, since others may have the same score everywhere.

    Raises GanvasError for labels of another generator (both are named), a folder whose labelling isn't finished, a
    file that is damaged or no label file, a missing or another codes file, and an unknown attribute.
    """
    path = find_labels(path)
    labels, scores = _read_pack(path, generator) if Path(path).is_file() else _read_folder(Store(path), generator)
    columns = find_columns(attributes or labels.attributes, labels.attributes)
    source_codes = _load_codes(labels, path, generator, codes)
    names, kinds = (tuple(values[k] for k in columns) for values in (labels.attributes, labels.kinds))
    origin = (labels.source, labels.generator.fingerprint, labels.scorer_id)
    return make_dataset(source_codes, scores[:, columns], names, kinds, *origin, labels.units)


def find_following_seed(header: LabelHeader, path: str | Path) -> int:
    """Return the seed with which labels that follow a pack's or folder's begin.

    Raises GanvasError where none can follow: codes from a file, a last shard that isn't full, and seeds that reach reports' own.
    """
    if header.codes is not None or header.seed is None:
        raise GanvasError(f"{path} labels a codes file, which no seeds follow.")
    if header.n % header.shard:
        raise GanvasError(
            f"{path} has {header.n} labels, no whole number of shards of {header.shard}: none can follow."
        )
    following = header.seed + header.n
    if label_seeds(1, header.seed, header.n)[0] != following:
        raise GanvasError(f"The seeds that follow {path} are those of reports: start another folder with --seed.")
    return following


def join_labels(first: LatentDataset, second: LatentDataset) -> LatentDataset:
    """Join labels with those that follow them; scores of a pack are as exact as it keeps them.

    Raises GanvasError where they are of another generator or scorer, or the seeds of the second don't follow those of the first.
    """
    one, two = first.source, second.source
    same = (first.generator, first.scorer, first.attributes) == (second.generator, second.scorer, second.attributes)
    if not same or replace(one, seed=two.seed) != two:
        raise GanvasError("Labels can be joined that are of one generator, scorer, psi, condition and size of shards.")
    if one.seed is None or two.seed != one.seed + len(first) or len(first) % one.batch:
        raise GanvasError(f"Labels from seed {two.seed} don't follow {len(first)} from seed {one.seed}.")
    codes, scores = torch.cat((first.codes, second.codes)), torch.cat((first.scores, second.scores))
    origin = (one, first.generator, first.scorer)
    return make_dataset(codes, scores, first.attributes, first.kinds, *origin, first.units)


def list_labels() -> list[str]:
    """Return the names of the label packs that ship."""
    return sorted(path.name.removesuffix(".safetensors") for path in ASSETS.iterdir() if path.suffix == ".safetensors")


def find_labels(path: str | Path) -> str | Path:
    """Find labels by their path or URL, or by the name of a pack that ships. Raises GanvasError if there are none."""
    if is_url(path):
        return str(path)
    path = Path(path)
    if path.is_dir() and not (path / INDEX).exists():
        raise GanvasError(f"{path} isn't a label folder: `ganvas label` makes one.")
    if path.exists():
        return path
    if str(path) in list_labels():
        return ASSETS / f"{path}.safetensors"
    raise GanvasError(
        f"There are no labels {path}: give a label folder, a label pack, or one of {', '.join(list_labels())}."
    )


def read_label_header(path: str | Path) -> LabelHeader:
    """Read what labels state of themselves, by path or by the name of a pack that ships; no generator is needed.

    Raises GanvasError where there are none, and for a file that is damaged or no label file.
    """
    path = find_labels(path)
    if Path(path).is_file():
        return _parse_pack_header(load_tensors(path)[1], path)
    store = Store(path)
    return parse_header(store.read_json(INDEX), store.locate(INDEX))


def find_shipped_labels(generator: str, scorer: str) -> Path:
    """Return the path of the pack that ships for a generator and a scorer, by name; it exists only where one does."""
    return ASSETS / f"{generator}-{SHORT_NAMES.get(scorer, scorer)}.safetensors"


def draw_codes(generator: Generator, n: int, source: Source) -> W:
    """Draw the codes (n, w_dim) of a source's seeds, on the CPU, in whole batches, so that ``n`` changes no bit."""
    if source.seed is None:
        raise GanvasError("These codes have no seeds to redraw them from: give their codes file.")
    batches = [draw_batch(generator, source, start)[:, 0].cpu() for start in range(0, n, source.batch)]
    return torch.cat(batches)[:n]


def draw_batch(generator: Generator, source: Source, start: int) -> Tensor:
    """Draw the W+ codes (batch, num_ws, w_dim) of the labels from number ``start`` on; fewer where the seeds end."""
    seeds = [seed for seed in label_seeds(source.batch, source.seed or 0, start) if seed < 2**32]
    labels = None
    if source.condition is not None:
        labels = torch.tensor([encode_label(generator, source.condition)] * len(seeds), device=generator.device)
    with torch.no_grad():
        return generator.expand(generator.truncate(map_seeds(generator, seeds, labels), source.psi))


def pack_labels(data: LatentDataset, path: str | Path, *, bits: int = 16, generator: str = "unnamed") -> PackingError:
    """Write scores as one safetensors file of ``bits`` a score, with the seeds of the codes; ``generator`` is its name.

    16 bits are even from an attribute's lowest score to its highest. 8 bits are 256 scores that are even in the normal
    score, since even logits would spend most of them on a few faces far out; attributes of at most 256 different scores
    are stored exactly. The error is returned, and written into the file's metadata.

    Raises GanvasError for other bits, and for codes that have neither seeds nor a codes file.
    """
    if bits not in PACK_BITS:
        raise GanvasError(f"bits must be {' or '.join(map(str, PACK_BITS))}, not {bits}.")
    if data.source.seed is None and data.source.codes is None:
        raise GanvasError(
            "Selected rows of labels can't be packed, since their codes couldn't be redrawn: pack all rows."
        )
    stored, table = _quantize_evenly(data.scores) if bits == 16 else _quantize_by_table(data)
    error = (_decode(stored, table) - data.scores).double().abs()
    storage = PackingError(Path(path), len(data), bits, error.max().item(), error.square().mean().sqrt().item())
    source, kinds = data.source, cast("tuple[Kind, ...]", data.kinds)
    tools = (NamedTool(generator, data.generator), NamedTool(*data.scorer.rsplit(":", 1)))
    header = LabelHeader(
        len(data),
        source.seed,
        source.psi,
        source.codes,
        source.batch,
        *tools,
        data.attributes,
        kinds,
        source.condition,
        dict(data.units) or None,
    )
    metadata = header.describe() | {
        "kind": "labels",
        "bits": bits,
        "error": {"max": storage.largest, "rms": storage.rms},
    }
    save_tensors(path, {"scores": stored, "table": table}, metadata)
    return storage


def _quantize_evenly(scores: Scores) -> tuple[Tensor, Tensor]:
    table = torch.stack((scores.min(0).values, scores.max(0).values)).float()
    low, high = table.double()
    steps = ((scores.double() - low) / (high - low) * (2**16 - 1)).round()
    return steps.to(torch.int32).to(torch.uint16), table


def _quantize_by_table(data: LatentDataset) -> tuple[Tensor, Tensor]:
    size = 2**8
    normals = data.normals().double()
    low, high = normals.min(0).values, normals.max(0).values
    table = data.gaussianize.inverse(low + (high - low) * torch.linspace(0, 1, size, dtype=low.dtype)[:, None]).float()
    stored = torch.empty(data.scores.shape, dtype=torch.uint8)
    for k in range(table.shape[1]):
        values = data.scores[:, k].unique()
        if len(values) <= size:
            table[:, k] = torch.cat((values, values[-1:].expand(size - len(values))))
        middles = (table[1:, k].double() + table[:-1, k]) / 2
        stored[:, k] = torch.bucketize(data.scores[:, k].double(), middles.contiguous())
    return stored, table


def _decode(stored: Tensor, table: Tensor) -> Scores:
    """Decode stored numbers, from 0 to their type's largest, as places along the columns of ``table``, linear in between."""
    place = stored.double() * ((len(table) - 1) / torch.iinfo(stored.dtype).max)
    below = place.floor().clamp(max=len(table) - 2).long()
    low, high = table.double().gather(0, below), table.double().gather(0, below + 1)
    return torch.lerp(low, high, place - below).float()


def _read_pack(path: str | Path, generator: Generator) -> tuple[LabelHeader, Scores]:
    tensors, metadata = load_tensors(path)
    labels = _parse_pack_header(metadata, path)
    check_generator(path, labels.generator.name, labels.generator.fingerprint, generator)
    stored, table = tensors.get("scores"), tensors.get("table")
    if stored is None or table is None or stored.shape != (labels.n, len(labels.attributes)):
        raise GanvasError(f"{path} is damaged: its scores aren't {labels.n} × {len(labels.attributes)}.")
    if stored.dtype not in (torch.uint8, torch.uint16) or table.dtype != torch.float32 or table.ndim != 2:
        raise GanvasError(f"{path} is damaged: its scores have the wrong type or shape.")
    if len(table) < 2 or table.shape[1] != stored.shape[1]:
        raise GanvasError(f"{path} is damaged: the shape of its table doesn't fit its attributes.")
    return labels, _decode(stored, table)


def _parse_pack_header(metadata: dict[str, Any], path: str | Path) -> LabelHeader:
    if metadata.get("kind") != "labels":
        raise GanvasError(f"{path} isn't a label pack.")
    return parse_header(metadata, path)


def _read_folder(store: Store, generator: Generator) -> tuple[LabelHeader, Scores]:
    index = store.locate(INDEX)
    labels = parse_header(store.read_json(INDEX), index)
    check_generator(store.target, labels.generator.name, labels.generator.fingerprint, generator)
    source, names, rows = labels.source, store.list_names(), []
    origin = {"generator": labels.generator.fingerprint, "psi": source.psi, "shard": source.batch}
    origin["condition"] = source.condition
    origin |= {"scorer": labels.scorer_id, "attributes": list(labels.attributes)}
    for start in range(0, labels.n, source.batch):
        name, needed = format_scores_name(start // source.batch), min(source.batch, labels.n - start)
        tensors, stored = store.read(name) or ({}, {})
        scores, expected = tensors.get("scores"), origin | {"seed": (source.seed or 0) + start}
        if scores is None or any(stored.get(key) != value for key, value in expected.items()) or len(scores) < needed:
            state = "is damaged or has other codes or labels" if name in names else "is missing"
            raise GanvasError(
                f"{store.target} isn't finished: {name} {state}. Run `ganvas label` again with the same --out."
            )
        if scores.shape[1:] != (len(labels.attributes),):
            raise GanvasError(f"{store.target} is damaged: {name} has scores of the wrong shape.")
        rows.append(scores[:needed].float())
    return labels, torch.cat(rows)


def parse_header(metadata: Any, origin: str | Path) -> LabelHeader:
    """Parse the header of a labels file. Raises GanvasError where it isn't one, is damaged, or has an unknown version."""
    if not isinstance(metadata, dict) or "version" not in metadata:
        raise GanvasError(f"{origin} isn't a label file: it has no version.")
    if metadata["version"] != VERSION:
        raise GanvasError(
            f"{origin} has version {metadata['version']!r} of labels: this version of ganvas reads {VERSION}."
        )
    names = [each.name for each in fields(LabelHeader)]
    return parse(LabelHeader, {key: metadata[key] for key in names if key in metadata}, origin, complete=True)


def _load_codes(labels: LabelHeader, path: str | Path, generator: Generator, codes: str | Path | None) -> Tensor:
    expected = labels.source.codes
    if expected is None:
        if codes is not None:
            raise GanvasError(f"{path} has the seeds of its codes, so it takes no codes file: leave out {codes}.")
        return draw_codes(generator, labels.n, labels.source)
    if codes is None:
        raise GanvasError(f"{path} labels a codes file (sha256 {expected[:12]}): give it with codes=….")
    file = load_codes(codes, generator)
    if file.sha256 != expected or len(file.ws) != labels.n:
        raise GanvasError(f"{path} labels the codes file of sha256 {expected[:12]}, not {codes} ({file.sha256[:12]}).")
    return file.ws.cpu()
