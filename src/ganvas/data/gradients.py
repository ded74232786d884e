"""Gradients of scores in W: how much each attribute changes, to first order, when a face's code moves, for three groups of rows.

Where a label says what a picture shows, a gradient says what would change it. Gradients are taken through synthesis (of early
pictures, where the generator draws them) and scorer, summed over the rows of a group, and kept in whitened principal components
of W, in which a step of length 1 is as likely in every direction.

A folder holds ``gradients-00000.safetensors`` … (8-bit numbers with a scale, resumable as labels are), and in
``gradients.safetensors`` their mean and the principal part of their second moment, for each attribute and group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import find_columns
from ganvas.data.pca import PCA, fit_pca
from ganvas.engines import run_shards
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.io.shards import read_shard
from ganvas.io.store import Store
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.seeds import LABEL_SEED, label_seeds
from ganvas.types import W, WPlus

KIND, VERSION = "gradients", 1
SUMMARY = "gradients.safetensors"
GROUP_BOUNDS = (32, 128)
"""The resolutions at which the second and the third group of rows begin."""
SHARD_SIZE = 8
"""Faces a shard: the most that a stopped run loses."""
COMPONENTS = 200
PCA_CODES = 10_000
"""Codes that the principal components are fitted on."""
MOMENT_RANK = 16
"""Principal directions of the second moment that a summary keeps."""


def group_rows(generator: Generator) -> list[list[int]]:
    """Return the numbers of the rows of each group: coarse, middle and fine; a group without rows is left out."""
    groups: list[list[int]] = [[] for _ in range(len(GROUP_BOUNDS) + 1)]
    for row, resolution in enumerate(generator.row_resolutions):
        groups[sum(resolution >= bound for bound in GROUP_BOUNDS)].append(row)
    return [rows for rows in groups if rows]


@dataclass(frozen=True)
class WhitenedBasis:
    """Whitened principal components of W: w = mean + u @ directions, with u of unit variance."""

    mean: Tensor
    directions: Tensor

    @classmethod
    def fit(cls, generator: Generator, components: int = COMPONENTS) -> WhitenedBasis:
        """Fit the basis on the codes of labels."""
        with torch.no_grad():
            pca: PCA = fit_pca(map_seeds(generator, label_seeds(PCA_CODES)), components)
        return cls(pca.mean, pca.components * pca.variances[:components, None].sqrt())


def compute_gradients(
    generator: Generator, scorer: Scorer, ws: WPlus, basis: WhitenedBasis, resolution: int
) -> tuple[Float[Tensor, "n attributes"], Float[Tensor, "n attributes groups components"]]:
    """Compute scores of codes and their gradients, summed over the rows of each group, in whitened components."""
    scores, gradients = [], []
    groups = group_rows(generator)
    for code in ws.split(1):
        with torch.enable_grad():
            leaf = code.detach().clone().requires_grad_()
            row = scorer(downscale(generator.synthesis(leaf, resolution=resolution), resolution))[0]
            rows = [torch.autograd.grad(row[k], leaf, retain_graph=k + 1 < len(row))[0][0] for k in range(len(row))]
        scores.append(row.detach())
        summed = torch.stack([torch.stack([one[group].sum(0) for group in groups]) for one in rows])
        gradients.append(summed @ basis.directions.to(summed).T)
    return torch.stack(scores), torch.stack(gradients)


@dataclass(frozen=True)
class GradientRun:
    """The gradients of ``n`` faces; ``make_shard`` is the worker of engines."""

    generator: Generator
    scorer: Scorer
    n: int
    out: str | Path
    seed: int = LABEL_SEED
    components: int = COMPONENTS

    def __post_init__(self) -> None:
        if self.n < 1:
            raise GanvasError(f"The number of faces must be at least 1, not {self.n}.")
        if not 1 <= self.components <= self.generator.w_dim:
            raise GanvasError(
                f"The number of components must be from 1 to {self.generator.w_dim}, not {self.components}."
            )

    @property
    def resolution(self) -> int:
        """The side of the pictures that are scored."""
        return min(LABEL_SIDE, self.generator.resolution)

    @cached_property
    def basis(self) -> WhitenedBasis:
        """The basis of the gradients, the same in every process."""
        return WhitenedBasis.fit(self.generator, self.components)

    def describe(self) -> dict[str, Any]:
        """Describe all that a shard depends on."""
        return {
            "kind": KIND,
            "version": VERSION,
            "generator": self.generator.fingerprint,
            "scorer": self.scorer.fingerprint,
            "attributes": list(self.scorer.attributes),
            "dtype": str(self.generator.dtype).removeprefix("torch."),
            "resolution": self.resolution,
            "seed": self.seed,
            "components": self.components,
            "shard": SHARD_SIZE,
        }

    def count_missing(self) -> dict[int, int]:
        """Count the faces of each shard that is missing, damaged or has another origin."""
        rows = {k: min(SHARD_SIZE, self.n - k * SHARD_SIZE) for k in range(-(-self.n // SHARD_SIZE))}
        store, origin = Store(self.out), self.describe()
        return {k: count for k, count in rows.items() if store.load(name_shard(k), origin, "scores", count) is None}

    def make_missing(self, progress: Progress | None = None, **engine: Any) -> None:
        """Make the missing shards; ``engine``: options of ``run_shards``."""
        missing = self.count_missing()
        before = self.n - sum(missing.values())
        callback = None if progress is None else lambda done, _: progress(before + done, self.n)
        run_shards(self.make_shard, missing, gpu=self.generator.device.type == "cuda", progress=callback, **engine)

    def make_shard(self, k: int, advance: Callable[[int], object]) -> str:
        """Make shard ``k``, and return its name."""
        scores, gradients = [], []
        for seed in label_seeds(min(SHARD_SIZE, self.n - k * SHARD_SIZE), self.seed, k * SHARD_SIZE):
            with torch.no_grad():
                code = self.generator.expand(map_seeds(self.generator, [seed]))
            one = compute_gradients(self.generator, self.scorer, code, self.basis, self.resolution)
            scores.append(one[0])
            gradients.append(one[1])
            advance(1)
        values = torch.cat(gradients).cpu()
        scales = values.abs().amax(3, keepdim=True).clamp(min=1e-12) / 127
        tensors = {"scores": torch.cat(scores).cpu(), "scales": scales[..., 0]}
        Store(self.out).save(
            name_shard(k), tensors | {"values": (values / scales).round().to(torch.int8)}, self.describe()
        )
        return name_shard(k)

    def load(self) -> Float[Tensor, "n attributes groups components"]:
        """Load the gradients of all faces. Raises GanvasError where shards are missing."""
        parts = []
        for k in range(-(-self.n // SHARD_SIZE)):
            rows = min(SHARD_SIZE, self.n - k * SHARD_SIZE)
            tensors = Store(self.out).load(name_shard(k), self.describe(), "scores", rows)
            if tensors is None:
                raise GanvasError(
                    f"{self.out} has no whole {name_shard(k)}: run `ganvas label --gradients` there again."
                )
            parts.append(tensors["values"][:rows].float() * tensors["scales"][:rows, ..., None])
        return torch.cat(parts)

    def compute_summary(self) -> GradientSummary:
        """Compute the mean and the principal part of the second moment."""
        gradients = self.load()
        moments = torch.einsum("nagi,nagj->agij", gradients, gradients) / len(gradients)
        values, vectors = torch.linalg.eigh(moments.double())
        values, vectors = values.float(), vectors.float()
        rank = min(MOMENT_RANK, self.components)
        factors = (vectors * values.clamp(min=0).sqrt()[..., None, :]).flip(-1)[..., :rank]
        return GradientSummary(
            self.scorer.attributes,
            self.basis,
            gradients.mean(0),
            factors.transpose(2, 3),
            len(gradients),
            self.describe(),
        )


@dataclass(frozen=True)
class GradientSummary:
    """What the gradients of many faces have in common.

    ``mean`` (attributes, groups, components), and ``factors`` (attributes, groups, rank, components), whose products
    ``factors.T @ factors`` are the principal part of the second moment.
    """

    attributes: Sequence[str]
    basis: WhitenedBasis
    mean: Tensor
    factors: Tensor
    n: int
    origin: dict[str, Any]

    def save(self, folder: str | Path) -> str:
        """Write the summary to a folder or URL, in float16 except for the scales; return its place."""
        scale = self.factors.abs().amax((2, 3), keepdim=True).clamp(min=1e-12)
        tensors = {
            "basis_mean": self.basis.mean,
            "basis": self.basis.directions.half(),
            "scale": scale[..., 0, 0],
            "mean": (self.mean / scale[..., 0]).half(),
            "factors": (self.factors / scale).half(),
        }
        Store(folder).save(SUMMARY, tensors, {**self.origin, "n": self.n})
        return Store(folder).locate(SUMMARY)


def load_summary(path: str | Path, generator: Generator) -> GradientSummary:
    """Load a summary. Raises GanvasError for a damaged file, one of something else, or another generator's."""
    tensors, origin = read_shard(Path(path)) or ({}, {})
    if origin.get("kind") != KIND or tensors.keys() != {"basis_mean", "basis", "scale", "mean", "factors"}:
        raise GanvasError(f"{path} is missing or damaged, or isn't a summary of gradients.")
    if origin.get("generator") != generator.fingerprint:
        raise GanvasError(f"{path} belongs to another generator than {generator.name!r}.")
    scale = tensors["scale"][..., None]
    basis = WhitenedBasis(tensors["basis_mean"].float(), tensors["basis"].float())
    mean, factors = tensors["mean"].float() * scale, tensors["factors"].float() * scale[..., None]
    return GradientSummary(tuple(origin["attributes"]), basis, mean, factors, int(origin.pop("n")), origin)


def name_shard(k: int) -> str:
    """Return the name of a shard."""
    return f"gradients-{k:05d}.safetensors"


def load_gradients(
    folder: str | Path, generator: Generator, attributes: Sequence[str]
) -> tuple[W, Float[Tensor, "n chosen w_dim"]]:
    """Load the codes of the faces of a folder, and the gradients of ``attributes`` in W, summed over all rows.

    The faces are those of the shards up to the first that is missing or damaged. Beyond the components of their basis
    gradients are 0.
    Raises GanvasError where there is no shard, for another generator's, and attributes without gradients.
    """
    parts: list[Tensor] = []
    origin: dict[str, Any] = {}
    while shard := read_shard(Path(folder) / name_shard(len(parts))):
        tensors, origin = shard
        if origin.get("kind") != KIND or not {"values", "scales"} <= tensors.keys():
            raise GanvasError(f"{Path(folder) / name_shard(len(parts))} isn't a shard of gradients.")
        parts.append((tensors["values"].float() * tensors["scales"][..., None]).sum(2))
    if not parts:
        raise GanvasError(f"{folder} has no gradients: make some with `ganvas label --gradients`.")
    if origin.get("generator") != generator.fingerprint:
        raise GanvasError(f"{folder} belongs to another generator than {generator.name!r}.")
    columns = find_columns(tuple(attributes), tuple(origin["attributes"]))
    gradients = torch.cat(parts)[:, columns].to(generator.device)
    basis = WhitenedBasis.fit(generator, int(origin["components"]))
    seeds = label_seeds(len(gradients), int(origin["seed"]))
    with torch.no_grad():
        codes = map_seeds(generator, seeds)
    return codes, gradients @ torch.linalg.pinv(basis.directions).T.to(gradients)
