"""Labels as files: a folder of shards, which grows, or a pack, which ships. Codes are redrawn from their seeds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.data.codes import check_generator, load_codes
from ganvas.data.dataset import LatentDataset, Source, find_columns, make_dataset
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds, truncate
from ganvas.io.files import load_tensors, read_json, save_tensors
from ganvas.io.shards import scores_path
from ganvas.scorers.base import KINDS
from ganvas.seeds import label_seeds
from ganvas.types import Scores, W

VERSION = 1
INDEX = "index.json"
BITS = (8, 16)
MAX_SOURCE = {"n": 2**32, "shard": 2**16}
"""A file that says more is damaged; so is one of a psi beyond ``MAX_PSI``."""
MAX_PSI = 1e6
ASSETS = Path(str(files("ganvas").joinpath("assets", "labels")))


@dataclass(frozen=True)
class LabelScores:
    """Scores of ``n`` codes, without the codes: what both kinds of files say at their head."""

    n: int
    source: Source
    generator: str
    """The generator's name; its identity is the fingerprint."""
    fingerprint: str
    scorer: str
    """The scorer's "name:fingerprint"."""
    attributes: tuple[str, ...]
    kinds: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """As JSON."""
        scorer, _, scorer_fingerprint = self.scorer.rpartition(":")
        return {
            "version": VERSION,
            "n": self.n,
            "seed": self.source.seed,
            "psi": self.source.psi,
            "codes": self.source.codes,
            "shard": self.source.batch,
            "generator": {"name": self.generator, "fingerprint": self.fingerprint},
            "scorer": {"name": scorer, "fingerprint": scorer_fingerprint},
            "attributes": list(self.attributes),
            "kinds": list(self.kinds),
        }


@dataclass(frozen=True)
class PackingError:
    """What a pack lost: the largest and the root mean square error of a score, in its own unit (logits, objects)."""

    path: Path
    faces: int
    bits: int
    largest: float
    rms: float

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        error = f"storage error {self.largest:.2g} at most, {self.rms:.2g} RMS (logits)"
        return f"{self.path}: {self.faces:,} faces, {size:.2f} MB, {self.bits} bits a score, {error}"


def load_labels(
    path: str | Path,
    generator: Generator,
    *,
    codes: str | Path | None = None,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LatentDataset:
    """The labelled codes of a label folder or a label pack; one that ships goes by its name, too.

    Codes are redrawn from their seeds, or read from the codes file ``data.codes`` where they came from one.
    ``attributes`` selects some before anything is fitted: the others may be useless.

    Raises GanvasError for labels of another generator (both are named), a folder whose labelling isn't finished, a
    file that is cut short or foreign, a missing or another codes file, and an unknown attribute.
    """
    path = find_labels(path)
    labels, scores = (_read_folder if path.is_dir() else _read_pack)(path, generator)
    columns = find_columns(attributes or labels.attributes, labels.attributes)
    drawn = _load_source(labels, path, generator, codes)
    names, kinds = (tuple(values[k] for k in columns) for values in (labels.attributes, labels.kinds))
    return make_dataset(drawn, scores[:, columns], names, kinds, labels.source, labels.fingerprint, labels.scorer)


def label_names() -> list[str]:
    """The names of the label packs that ship."""
    return sorted(path.name.removesuffix(".safetensors") for path in ASSETS.iterdir() if path.suffix == ".safetensors")


def find_labels(path: str | Path) -> Path:
    """A label folder or pack: as it lies there, or the one of this name that ships. Raises GanvasError for neither."""
    path = Path(path)
    if path.is_dir() and not (path / INDEX).exists():
        raise GanvasError(f"{path} isn't a label folder: `ganvas label` makes one.")
    if path.exists():
        return path
    if str(path) in label_names():
        return ASSETS / f"{path}.safetensors"
    raise GanvasError(
        f"There are no labels {path}: name a label folder, a label pack, or one of {', '.join(label_names())}."
    )


def shipped_labels(generator: str, scorer: str) -> Path:
    """Where the label pack that ships for a generator and a scorer lies, if there is one; both by name."""
    return ASSETS / f"{generator}-{scorer}.safetensors"


def draw_codes(generator: Generator, n: int, source: Source) -> W:
    """The codes (n, w_dim) of a source's seeds, on the CPU; whole batches are drawn, so that ``n`` changes no bit."""
    if source.seed is None:
        raise GanvasError("These codes have no seeds that redraw them.")
    batches = [draw_batch(generator, source, start)[:, 0].cpu() for start in range(0, n, source.batch)]
    return torch.cat(batches)[:n]


def draw_batch(generator: Generator, source: Source, start: int) -> Tensor:
    """The W+ codes (batch, num_ws, w_dim) of the labels from number ``start`` on; fewer where the seeds end."""
    seeds = [seed for seed in label_seeds(source.batch, source.seed or 0, start) if seed < 2**32]
    with torch.no_grad():
        return generator.expand(truncate(map_seeds(generator, seeds), generator.w_avg, source.psi))


def pack_labels(data: LatentDataset, path: str | Path, *, bits: int = 16, generator: str = "unnamed") -> PackingError:
    """Write scores as one safetensors file of ``bits`` a score, with what redraws the codes; ``generators.base``: its name.

    16 bits are even from an attribute's lowest score to its highest. 8 bits stand for 256 scores, even in the
    normal score, where even logits would spend most of them on a few faces far out; attributes of at most 256
    different scores are kept exactly. What is lost is returned, and stands in the file's metadata.

    Raises GanvasError for other bits, and for codes that neither seeds nor a codes file give back.
    """
    if bits not in BITS:
        raise GanvasError(f"A score is packed into {' or '.join(map(str, BITS))} bits, not {bits}.")
    if data.source.seed is None and data.source.codes is None:
        raise GanvasError("Selected rows of labels can't be packed: nothing would redraw their codes. Pack the whole.")
    stored, table = _even(data.scores) if bits == 16 else _looked_up(data)
    error = (_decode(stored, table) - data.scores).double().abs()
    storage = PackingError(Path(path), len(data), bits, error.max().item(), error.square().mean().sqrt().item())
    labels = LabelScores(len(data), data.source, generator, data.generator, data.scorer, data.attributes, data.kinds)
    about = labels.about() | {"kind": "labels", "bits": bits, "error": {"max": storage.largest, "rms": storage.rms}}
    save_tensors(path, {"scores": stored, "table": table}, about)
    return storage


def _even(scores: Scores) -> tuple[Tensor, Tensor]:
    table = torch.stack((scores.min(0).values, scores.max(0).values)).float()
    low, high = table.double()
    steps = ((scores.double() - low) / (high - low) * (2**16 - 1)).round()
    return steps.to(torch.int32).to(torch.uint16), table


def _looked_up(data: LatentDataset) -> tuple[Tensor, Tensor]:
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
    """Stored numbers, from 0 to their type's largest, as places along the columns of ``table``, linear in between."""
    place = stored.double() * ((len(table) - 1) / torch.iinfo(stored.dtype).max)
    below = place.floor().clamp(max=len(table) - 2).long()
    low, high = table.double().gather(0, below), table.double().gather(0, below + 1)
    return torch.lerp(low, high, place - below).float()


def _read_pack(path: Path, generator: Generator) -> tuple[LabelScores, Scores]:
    tensors, about = load_tensors(path)
    if about.get("kind") != "labels":
        raise GanvasError(f"{path} isn't a label pack.")
    labels = read_about(about, path)
    check_generator(path, labels.generator, labels.fingerprint, generator)
    stored, table = tensors.get("scores"), tensors.get("table")
    if stored is None or table is None or stored.shape != (labels.n, len(labels.attributes)):
        raise GanvasError(f"{path} is damaged: its scores aren't {labels.n} × {len(labels.attributes)}.")
    if stored.dtype not in (torch.uint8, torch.uint16) or table.dtype != torch.float32 or table.ndim != 2:
        raise GanvasError(f"{path} is damaged: its scores are stored in an unknown way.")
    if len(table) < 2 or table.shape[1] != stored.shape[1]:
        raise GanvasError(f"{path} is damaged: its table of scores doesn't fit its attributes.")
    return labels, _decode(stored, table)


def _read_folder(path: Path, generator: Generator) -> tuple[LabelScores, Scores]:
    labels = read_about(read_json(path / INDEX), path / INDEX)
    check_generator(path, labels.generator, labels.fingerprint, generator)
    rows = []
    for start in range(0, labels.n, labels.source.batch):
        shard = scores_path(path, start // labels.source.batch)
        if not shard.exists():
            raise GanvasError(f"{path} isn't finished: {shard.name} is missing. Label on with the same --out.")
        wanted, (tensors, about) = (min(labels.source.batch, labels.n - start), load_tensors(shard))
        scores = tensors.get("scores")
        mine = about.get("scorer") == labels.scorer and about.get("attributes") == list(labels.attributes)
        if scores is None or not mine or scores.shape[1:] != (len(labels.attributes),) or len(scores) < wanted:
            raise GanvasError(
                f"{path} isn't finished: {shard.name} has other faces or labels. Label on with the same --out."
            )
        rows.append(scores[:wanted].float())
    return labels, torch.cat(rows)


def read_about(about: Any, origin: Path) -> LabelScores:
    """The head of a labels file. Raises GanvasError where it isn't one, is damaged, or has an unknown version."""
    if not isinstance(about, dict) or "version" not in about:
        raise GanvasError(f"{origin} doesn't describe labels.")
    if about["version"] != VERSION:
        raise GanvasError(f"{origin} has version {about['version']!r} of labels: this ganvas reads {VERSION}.")
    names: Any = about.get("attributes")
    kinds: Any = about.get("kinds")
    numbers = all(type(about.get(key)) is int and 1 <= about[key] <= most for key, most in MAX_SOURCE.items())
    texts = all(isinstance(x, list) and x and all(isinstance(t, str) for t in x) for x in (names, kinds))
    owners: list[Any] = [about.get(key) for key in ("generator", "scorer")]
    named = all(isinstance(x, dict) and all(isinstance(x.get(k), str) for k in ("name", "fingerprint")) for x in owners)
    if not (numbers and texts and named and _is_source(about)):
        raise GanvasError(f"{origin} is damaged: its description of the labels isn't complete.")
    if len(names) != len(set(names)) or len(kinds) != len(names) or not set(kinds) <= set(KINDS):
        raise GanvasError(f"{origin} is damaged: its attributes and kinds don't fit together.")
    codes = about.get("codes")
    source = Source(None if codes else about["seed"], float(about["psi"]), codes, about["shard"])
    (name, fingerprint), (scorer, own) = ((x["name"], x["fingerprint"]) for x in owners)
    return LabelScores(about["n"], source, name, fingerprint, f"{scorer}:{own}", tuple(names), tuple(kinds))


def _is_source(about: dict[str, Any]) -> bool:
    seed, psi, codes = (about.get(key) for key in ("seed", "psi", "codes"))
    given = type(seed) is int and 0 <= seed <= 2**32 - about["n"] if codes is None else isinstance(codes, str)
    return given and isinstance(psi, int | float) and abs(psi) < MAX_PSI


def _load_source(labels: LabelScores, path: Path, generator: Generator, codes: str | Path | None) -> Tensor:
    known = labels.source.codes
    if known is None:
        if codes is not None:
            raise GanvasError(f"{path} has the seeds of its codes: leave out the codes file {codes}.")
        return draw_codes(generator, labels.n, labels.source)
    if codes is None:
        raise GanvasError(f"{path} labels a codes file (sha256 {known[:12]}): give it with codes=….")
    file = load_codes(codes, generator)
    if file.sha256 != known or len(file.ws) != labels.n:
        raise GanvasError(f"{path} labels the codes file of sha256 {known[:12]}, not {codes} ({file.sha256[:12]}).")
    return file.ws.cpu()
