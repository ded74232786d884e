"""A count-conditional generator, beside an editor that moves the count of an unconditional one.

Saseendran, Skubch and Keuper, *Multi-Class Multi-Instance Count Conditioned Adversarial Image Generation*, ICCV 2021,
https://arxiv.org/abs/2103.16795, condition a StyleGAN2 on counts; Doubinsky et al. (https://cea.hal.science/cea-04852483)
name it as the other way to have them. ``ganvas train-gan --condition count`` gives such a generator (the count as one-hot
label beside z; their network that predicts counts of generated pictures isn't part of it). The editor's way to a picture
of a count is: draw one, count, move by what is lacking.

Diversity is the mean distance of pairs of pictures of one count in the counter's features. Digit distance is the Fréchet
distance in these features, between all pictures of a way and as many real test pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.multimnist.context import CONDITIONAL, CountContext
from experiments.multimnist.editors import fit_best
from experiments.multimnist.section import ReportSection, SectionTable
from experiments.multimnist.trials import BATCH_SIZE, MAX_COUNT, MIN_COUNT, SURE_PROBABILITY
from ganvas.checkpoints.load import load_generator
from ganvas.data.multimnist_files import read_multimnist
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import format_estimate
from ganvas.fid import compute_frechet_distance
from ganvas.generators.base import Generator, sample
from ganvas.io.figures import draw_grid
from ganvas.io.files import load_tensors
from ganvas.io.images import downscale, to_bytes
from ganvas.seeds import CONDITIONAL_SEED, EVALUATION_SEED
from ganvas.stats import estimate_proportion
from ganvas.types import Images, Scores, WPlus

NAME, TITLE = "conditional", "A count-conditional GAN, and an editor of one without"
PICTURES_SHOWN = 8
Features = Float[Tensor, "n features"]


@dataclass(frozen=True)
class GeneratedCounts:
    """Pictures that were to have one count: the counter's scores and features, and the first pictures."""

    scores: Scores
    features: Features
    shown: Images


CodeSource = Callable[[int, int], WPlus]
"""A count and how many codes, to codes."""


def run(context: CountContext) -> ReportSection:
    """Compare the conditional generator in the context's ``work``. Raises GanvasError where there is none."""
    path = context.work_path(CONDITIONAL)
    if not path.exists():
        raise GanvasError(describe_missing(path))
    editor = fit_best(context)
    section = compare_generators(
        context, *load_conditional(path), lambda ws, change: editor.edit(ws, {"count": change})
    )
    images = read_training(path).get("images")
    return (
        replace(section, intro=f"{section.intro} The conditional generator saw {images:,} pictures.")
        if type(images) is int
        else section
    )


def read_training(path: Path) -> Mapping[str, Any]:
    """Read how a file's generator was trained; nothing where the file doesn't say."""
    training = load_tensors(path)[1].get("training") if path.suffix == ".safetensors" else None
    return training if isinstance(training, dict) else {}


def load_conditional(path: Path) -> tuple[Generator, tuple[int, ...]]:
    """Load a conditional generator, with the count that each of its labels stands for. Raises GanvasError for any other."""
    generator = load_generator(str(path))
    if not generator.num_labels:
        raise GanvasError(f"{path} isn't conditional: `ganvas train-gan --condition count` makes one that is.")
    counts = read_training(path).get("labels") or range(MIN_COUNT, MIN_COUNT + generator.num_labels)
    if (
        not isinstance(counts, list | range)
        or len(counts) != generator.num_labels
        or not all(type(k) is int for k in counts)
    ):
        raise GanvasError(f"{path} is damaged: it doesn't say what its {generator.num_labels} labels stand for.")
    return generator, tuple(counts)


def compare_generators(
    context: CountContext, conditional: Generator, counts: tuple[int, ...], move: Callable[[WPlus, Tensor], WPlus]
) -> ReportSection:
    """Compare pictures of each count by the conditional generator, by the editor, and by drawing alone."""
    asked = [k for k in counts if MIN_COUNT <= k <= MAX_COUNT]
    n, count_objects = max(context.config.moves // max(len(asked), 1), 2), make_counter(context)
    seed = context.seed - EVALUATION_SEED + CONDITIONAL_SEED

    def sample_conditional(count: int, n: int) -> WPlus:
        one_hot = torch.eye(conditional.num_labels)[counts.index(count)].expand(n, -1)
        return sample(conditional, n, 1.0, seed + n * count, one_hot)

    def sample_and_move(count: int, n: int) -> WPlus:
        ws = sample(context.generator, n, 1.0, seed + n * count)
        return move(ws, count - count_objects(ws))

    ways: dict[str, tuple[Generator, CodeSource]] = {
        "told the count": (conditional, sample_conditional),
        "drawn, counted, moved": (context.generator, sample_and_move),
        "drawn": (context.generator, lambda count, n: sample(context.generator, n, 1.0, seed + n * count)),
    }
    generated: dict[str, dict[int, GeneratedCounts]] = {}
    for name, (generator, way) in ways.items():
        context.log(f"Pictures of each count: {name} …")
        generated[name] = {count: score_pictures(context, generator, way(count, n)) for count in asked}
    data = {name: summarise_counts(context, by_count) for name, by_count in generated.items()}
    distances = measure_distances(context, generated, n * len(asked))
    tables = (counts_table(context, data, asked, n), overall_table(data, distances))
    pictures = {"conditional": draw_samples({name: generated[name] for name in list(ways)[:2]})}
    captions = {"conditional": "Not chosen: each row was asked for the count at its left."}
    return ReportSection(NAME, TITLE, INTRO, tables, pictures, {"ways": data, "digit_distance": distances}, captions)


INTRO = (
    "Saseendran et al. tell a generator the count. Here our trainer's (`ganvas train-gan --condition count`, gone on with from a"
    " run that began without labels) is asked for each count, beside the cardinality editor on the generator without a"
    " condition: a picture is drawn, counted, and moved by what is lacking. Drawing alone says how often a picture has a count"
    " by chance."
)


def describe_missing(path: Path) -> str:
    """Return the commands that make a conditional generator."""
    return (
        "No count-conditional generator to compare with: `ganvas train-gan MULTIMNIST --out RUN --images 360000`, the same with"
        f" `--condition count --images 560000`, and `ganvas finish-gan RUN --out {path.name}` in the report's work folder."
    )


def make_counter(context: CountContext) -> Callable[[WPlus], Tensor]:
    """Return a function of codes to the counts in their pictures, (n,)."""
    column = context.counter.column("count")
    return lambda ws: score_pictures(context, context.generator, ws).scores[:, column].to(ws)


@torch.no_grad()
def score_pictures(context: CountContext, generator: Generator, ws: WPlus) -> GeneratedCounts:
    """Render codes and count what they show."""
    scores, features, shown = [], [], []
    for part in ws.split(BATCH_SIZE):
        pictures = generator.synthesis(part).float()
        scores.append(context.counter(pictures).cpu())
        features.append(context.network.compute_features(pictures).cpu())
        shown.append(pictures[: PICTURES_SHOWN if not shown else 0])
    return GeneratedCounts(torch.cat(scores), torch.cat(features), torch.cat(shown))


def measure_diversity(features: Features) -> float:
    """Return the mean distance of pairs; nan of fewer than two."""
    return float(torch.pdist(features).mean()) if len(features) > 1 else float("nan")


def summarise_counts(context: CountContext, by_count: Mapping[int, GeneratedCounts]) -> dict[str, Any]:
    """Return, by count, the share of pictures that have it, of those that surely do, and the diversity of all."""
    count, sure = context.counter.column("count"), context.counter.column("sure")
    rows = {}
    for k, made in by_count.items():
        right = made.scores[:, count] == k
        surely = right & (made.scores[:, sure].sigmoid() >= SURE_PROBABILITY)
        rows[k] = {
            "right": estimate_proportion(right.float()),
            "surely": float(surely.float().mean()),
            "diversity": measure_diversity(made.features),
            "diversity_right": measure_diversity(made.features[right]),
        }
    every = torch.cat([(made.scores[:, count] == k).float() for k, made in by_count.items()])
    return {"counts": rows, "right": estimate_proportion(every)}


def measure_distances(
    context: CountContext, generated: Mapping[str, Mapping[int, GeneratedCounts]], n: int
) -> dict[str, float | None]:
    """Return the digit distance of each row, and of training pictures, to real test pictures; None without a folder."""
    names = [*generated, "real"]
    if context.folder is None:
        return dict.fromkeys(names)
    test, train = (read_multimnist(context.folder, part, n).pixels for part in ("test", "train"))
    there, own = (collect_real_features(context, pixels) for pixels in (test, train))
    features = {name: torch.cat([part.features for part in parts.values()]) for name, parts in generated.items()}
    return {name: compute_frechet_distance(there, values) for name, values in {**features, "real": own}.items()}


@torch.no_grad()
def collect_real_features(context: CountContext, pixels: Tensor) -> Features:
    """Return the counter's features of real pictures (n, height, width) uint8."""
    parts = [part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1 for part in pixels.split(BATCH_SIZE)]
    return torch.cat([context.network.compute_features(part).cpu() for part in parts])


def counts_table(context: CountContext, data: Mapping[str, Any], asked: Sequence[int], n: int) -> SectionTable:
    """Return the table of rates and diversity, by count."""
    rows = []
    for name, shares in data.items():
        for k in asked:
            row = shares["counts"][k]
            spread = (f"{row[key]:.2f}" for key in ("diversity", "diversity_right"))
            rows.append((name, str(k), format_estimate(vars(row["right"]), 3), f"{row['surely']:.3f}", *spread))
    head = (
        "way",
        "asked for",
        "right",
        f"right and sure (p ≥ {SURE_PROBABILITY:g})",
        "diversity",
        "diversity of the right ones",
    )
    note = f"{n} pictures each, untruncated, none chosen; counted by {context.counter.name}. Brackets: 95 % intervals, Wilson's."
    return SectionTable("Pictures of each count", head, rows, note)


def overall_table(data: Mapping[str, Any], distances: Mapping[str, float | None]) -> SectionTable:
    """Return the table of all counts together."""
    rows = []
    for name, distance in distances.items():
        right = format_estimate(vars(data[name]["right"]), 3) if name in data else "-"
        rows.append((name, right, "-" if distance is None else f"{distance:.2f}"))
    note = "To as many real test pictures; the row of real ones is of training pictures. It's no FID: its scale is another."
    return SectionTable("All counts together", ("way", "right", "digit distance"), rows, note)


def draw_samples(generated: Mapping[str, Mapping[int, GeneratedCounts]]) -> Tensor:
    """Draw a row for each generator and count."""
    rows = {f"{name}: {k}": part.shown for name, by_count in generated.items() for k, part in by_count.items()}
    columns, side = min(map(len, rows.values())), min(shown.shape[-1] for shown in rows.values())
    cells = [picture for shown in rows.values() for picture in to_bytes(downscale(shown, side))[:columns]]
    return draw_grid(cells, list(rows), [""] * columns, size=11)
