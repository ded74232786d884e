"""Real pictures of digits, inverted from samples with the same digits in the same places, then given one digit more and one less.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.train_detector m64 --out detector.safetensors
    python -m experiments.multimnist.invert_real m64 --detector detector.safetensors --work DIR

Inverts held-out pictures by ``multimnist/composed``, the generator as it is, and prints: the mean squared error (pixels from -1
to 1); the share of the pictures' digits, by their own labels, that the counter finds, and that the detector finds in place; and
how many the detector finds in the pictures themselves. Then the generator is tuned to each of the first ``--tuned`` pictures, as
in Roich et al., *Pivotal Tuning*, 2021, https://arxiv.org/abs/2106.05744, and the same is printed. Then the codes of the first
``--edited`` are asked for one digit more and one less: right by the counter against the label, and right and kept by components
and the detector against the real picture. ``--work`` keeps what was inverted: a stopped run goes on there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from experiments.multimnist.judges import (
    Digit,
    DigitDetector,
    DigitJudge,
    find_components,
    is_kept,
    measure_kept,
    measure_right,
    read_detector,
)
from experiments.multimnist.keeping import write_rows
from experiments.multimnist.section import make_key
from experiments.multimnist.train_detector import list_digits, to_grey
from experiments.multimnist.trials import MAX_COUNT, MIN_COUNT
from ganvas import editors
from ganvas.checkpoints.load import load_generator
from ganvas.data.codes import load_codes, save_codes
from ganvas.data.distribution import fit_distribution
from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.editors.composed import ComposedEditor, ObjectInversionConfig
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import format_estimate
from ganvas.generators.base import Generator
from ganvas.io.fingerprints import hash_weights
from ganvas.progress import show_count
from ganvas.scorers import load_scorer
from ganvas.scorers.count import Counter
from ganvas.stats import bootstrap_mean, estimate_proportion
from ganvas.types import Images, WPlus

BATCH_SIZE = 50
TUNING_STEPS, TUNING_RATE = 100, 2e-3
SHEET_PICTURES = 16


@dataclass(frozen=True)
class RealDigits:
    """Held-out pictures: grey from -1 to 1 (n, 64, 64), with their true digits and counts of classes (n, 10)."""

    pictures: Tensor
    digits: list[list[Digit]]
    per_class: Tensor

    @staticmethod
    def of(data: MultiMnist) -> RealDigits:
        """Take the pictures and labels of a set."""
        return RealDigits(to_grey(data.pixels), list_digits(data), data.per_class)

    def select(self, rows: Sequence[int]) -> RealDigits:
        """Return some of the pictures."""
        return RealDigits(self.pictures[list(rows)], [self.digits[i] for i in rows], self.per_class[list(rows)])

    @property
    def images(self) -> Images:
        """(n, 3, 64, 64)."""
        return self.pictures[:, None].expand(-1, 3, -1, -1)


def invert_pictures(real: RealDigits, editor: ComposedEditor, generator: Generator, work: Path) -> WPlus:
    """Invert pictures part by part, and go on after those whose codes are kept in a folder."""
    # All that the codes of the first pictures depend on, of however many there are.
    inputs = [hash_weights([("first", real.pictures[:BATCH_SIZE])]), editors.fingerprint(editor)]
    kept = work / f"codes-{make_key([*inputs, asdict(ObjectInversionConfig())])}.safetensors"
    done = [load_codes(kept, generator).ws] if kept.exists() else []
    with show_count("Inverting") as progress:
        while (n := sum(map(len, done))) < len(real.pictures):
            progress(n, len(real.pictures))
            done.append(editor.invert(real.images[n : n + BATCH_SIZE]))
            work.mkdir(parents=True, exist_ok=True)
            save_codes(kept, torch.cat(done), generator)
    return torch.cat(done)[: len(real.pictures)]


def tune_generator(generator: Generator, ws: WPlus, picture: Tensor) -> Generator:
    """Return a copy whose synthesis weights were fitted to one picture (1, 64, 64) of code ``ws`` (1, rows, w_dim)."""
    tuned = deepcopy(generator)
    # Not the kernels' powers, by which styles are divided: they must stay positive.
    frozen = ("mapping", "affine", "power", "noise")
    weights = [value for name, value in tuned.named_parameters() if not any(part in name for part in frozen)]
    # In shares of each kernel's size: kernels hold their gains.
    sizes = [float(value.square().mean().sqrt()) for value in weights]
    optimizer = torch.optim.Adam(
        [{"params": [value], "lr": TUNING_RATE * size} for value, size in zip(weights, sizes, strict=True)]
    )
    with torch.enable_grad():
        for value in weights:
            value.requires_grad_(True)
        for _ in range(TUNING_STEPS):
            loss = (tuned.synthesis(ws)[:, 0] - picture).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return tuned.requires_grad_(False)


def print_inversion(name: str, drawn: Tensor, real: RealDigits, counter: Counter, detector: DigitDetector) -> None:
    """Print the errors of pictures, and which digits are found again."""
    images = drawn[:, None].expand(-1, 3, -1, -1)
    by_class = torch.cat([counter(part) for part in images.split(BATCH_SIZE)])[:, 1 : 1 + real.per_class.shape[1]]
    found = detector.find_digits(drawn)
    truth = real.per_class
    rows = {
        "mean squared error": (drawn - real.pictures).square().mean((1, 2)),
        "classes kept by the counter": torch.minimum(by_class, truth).sum(1) / truth.sum(1),
        "digits found in place by the detector": torch.tensor(
            [sum(is_kept(d, new) for d in old) / max(len(old), 1) for old, new in zip(real.digits, found, strict=True)]
        ),
    }
    print(f"\n{name}, {len(drawn)} pictures")
    for measure, values in rows.items():
        print(f"  {measure:40} {format_estimate(vars(bootstrap_mean(values)), 4)}, median {float(values.median()):.4f}")


def print_edits(
    name: str,
    moved: dict[int, Tensor],
    able: dict[int, list[int]],
    real: RealDigits,
    counter: Counter,
    judges: dict[str, DigitJudge],
) -> None:
    """Print how many pictures of changed codes are right, and keep the real picture's digits."""
    columns: dict[str, list[Tensor]] = {}
    for alpha, pictures in moved.items():
        start = real.select(able[alpha])
        images, change = pictures[:, None].expand(-1, 3, -1, -1), torch.full((len(pictures),), alpha)
        counts = torch.cat([counter(part)[:, 0] for part in images.split(BATCH_SIZE)])
        found = {"right by counter": (counts == start.per_class.sum(1) + alpha).float()}
        for judge_name, judge in judges.items():
            before, after = judge(start.pictures), judge(pictures)
            found[f"right by {judge_name}"] = measure_right(before, after, change)
            found[f"kept by {judge_name}"] = measure_kept(before, after, change)
        for measure, values in found.items():
            columns.setdefault(measure, []).append(values)
    print(f"\n{name}: one more ({len(able[1])}), one less ({len(able[-1])})")
    codes = torch.tensor([i for rows in able.values() for i in rows])
    for measure, parts in columns.items():
        estimate = estimate_proportion if measure.startswith("right") else bootstrap_mean
        both = format_estimate(vars(estimate(torch.cat(parts), codes)), 3)
        print(f"  {measure:24} {both}; " + ", ".join(f"{float(part.nanmean()):.3f}" for part in parts))


def draw(generator: Generator, ws: WPlus) -> Tensor:
    """Draw codes, grey (n, 64, 64)."""
    with torch.no_grad():
        return torch.cat([generator.synthesis(part)[:, 0] for part in ws.split(BATCH_SIZE)])


def move_codes(editor: ComposedEditor, ws: WPlus, alpha: int) -> WPlus:
    """Ask the editor for ``alpha`` digits more."""
    return torch.cat([editor.edit_quietly(part, {"count": float(alpha)}) for part in ws.split(BATCH_SIZE)])


def main(
    folder: Annotated[Path, typer.Argument(help="A MultiMNIST folder, 64×64.")],
    detector: Annotated[Path, typer.Option(help="A detector by train_detector.")],
    work: Annotated[Path, typer.Option(help="The folder that keeps the codes.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Held-out pictures.")] = 500,
    edited: Annotated[int, typer.Option(min=1, help="How many of them are edited, at most.")] = 500,
    tuned: Annotated[int, typer.Option(min=1, help="To how many of them the generator is tuned, at most.")] = 100,
    sheet: Annotated[Path | None, typer.Option(help="A PNG of the first pictures.")] = None,
) -> None:
    """Invert and edit real pictures of digits."""
    generator, counter = load_generator("multimnist"), load_scorer("count")
    editor = editors.load_editor("multimnist/composed", generator)
    if not isinstance(editor, ComposedEditor) or not isinstance(counter, Counter):
        raise GanvasError("The editor or the scorer that ships is another.")
    finder, real = read_detector(detector), RealDigits.of(read_multimnist(folder, "test", n))
    print_inversion("the pictures themselves", real.pictures, real, counter, finder)
    mean = real.pictures.mean(0).expand_as(real.pictures)
    print(f"the mean picture's error: {float((mean - real.pictures).square().mean()):.4f}")
    n = len(real.pictures)
    ws = invert_pictures(real, editor, generator, work)
    drawn = draw(generator, ws)
    print_inversion("inverted in W+", drawn, real, counter, finder)
    print(f"  left W: {float((~fit_distribution(generator).contains(ws)).float().mean()):.3f}")
    judges: dict[str, DigitJudge] = {"components": find_components, "detector": finder.find_digits}
    first = real.select(range(min(edited, n)))
    wanted = {alpha: first.per_class.sum(1) + alpha for alpha in (1, -1)}
    able = {a: ((c >= MIN_COUNT) & (c <= MAX_COUNT)).nonzero()[:, 0].tolist() for a, c in wanted.items()}
    moved = {alpha: move_codes(editor, ws[rows], alpha) for alpha, rows in able.items()}
    pictures = {alpha: draw(generator, moved[alpha]) for alpha in moved}
    print_edits("edited", pictures, able, real, counter, judges)
    if sheet:
        kept = sorted(set(able[1]) & set(able[-1]))[:SHEET_PICTURES]
        changed = [pictures[alpha][[able[alpha].index(i) for i in kept]] for alpha in (1, -1)]
        write_rows([real.pictures[kept], drawn[kept], *changed], sheet)
    with show_count("Tuning") as progress:
        networks = []
        for i in range(min(tuned, n)):
            networks.append(tune_generator(generator, ws[i : i + 1], real.pictures[i : i + 1]))
            progress(i + 1, min(tuned, n))
    few = real.select(range(len(networks)))
    print_inversion("tuned", torch.cat([draw(g, ws[i : i + 1]) for i, g in enumerate(networks)]), few, counter, finder)
    few_able = {alpha: [i for i in rows if i < len(networks)] for alpha, rows in able.items()}
    again = {
        alpha: torch.cat([draw(networks[i], moved[alpha][[able[alpha].index(i)]]) for i in rows])
        for alpha, rows in few_able.items()
    }
    print_edits("edited, drawn by the tuned generators", again, few_able, few, counter, judges)


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
