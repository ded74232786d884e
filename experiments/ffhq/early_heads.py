"""Train the heads that draw early pictures of ``ffhq`` (256 and 512 pixels), and measure them.

    python -m experiments.ffhq.early_heads --out out/early --epochs 300     resumable; a minute or less an epoch
    python -m experiments.ffhq.early_heads --out out/early --measure        PSNR, agreement of scores, share of the time
    python -m experiments.ffhq.early_heads --out out/early --sheet FILE.png

An epoch draws ``CODES`` fresh codes, keeps features and whole pictures, and takes ``STEPS`` steps on random crops of them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from PIL import Image
from torch import Tensor, nn

from experiments.ffhq.face_attributes import measure_rank
from ganvas import load_generator, load_scorer
from ganvas.errors import GanvasError
from ganvas.generators.base import sample, shrink
from ganvas.generators.early_head import EarlyHead, save_heads
from ganvas.generators.mobilestylegan import MobileStyleGAN, invert_haar
from ganvas.io.images import to_bytes
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, warmup_cosine
from ganvas.types import Images

WIDTHS = {256: 64, 512: 32}
"""Resolution of the pictures -> channels inside of the head."""
CODES, STEPS = 24, 96
CROPS, CROP_SIDE = 6, 48
"""Crops of each step, and their side in pixels of the features."""
BORDER = 1
"""Pixels of a crop's edge that the depthwise convolution sees less of; they aren't compared."""
TRAINING_SEED, TEST_SEED = 5_000_000, 3_100_000
MIXED_SHARE, TRUNCATED_SHARE = 0.25, 0.25
"""Shares of codes that are mixed from two (by ranges of rows) or truncated; the others are drawn from all of W."""
LEARNING_RATE = 3e-3
STATISTICS_CODES = 256


def draw_codes(generator: MobileStyleGAN, n: int, seed: int) -> Tensor:
    """Draw codes of W+ (n, num_ws, w_dim): of W, truncated, or mixed."""
    random = torch.Generator().manual_seed(seed)
    ws = sample(generator, 2 * n, 1.0, seed)
    ws, others = ws[:n].clone(), ws[n:]
    kinds = torch.rand(n, generator=random)
    for i, kind in enumerate(kinds.tolist()):
        if kind < MIXED_SHARE:
            row = int(torch.randint(1, generator.num_ws, (1,), generator=random))
            ws[i, row:] = others[i, row:]
        elif kind < MIXED_SHARE + TRUNCATED_SHARE:
            psi = 0.4 + 0.6 * float(torch.rand((), generator=random))
            ws[i] = torch.lerp(generator.w_avg, ws[i], psi)
    return ws


@torch.no_grad()
def collect(generator: MobileStyleGAN, ws: Tensor) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Compute features, following styles and shrunken whole pictures, by resolution."""
    rows: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {size: [] for size in WIDTHS}
    for code in ws:
        found, picture = {}, torch.zeros(0)
        for x, following in generator.iterate_features(generator.compute_styles(code)):
            if 2 * x.shape[2] in WIDTHS and following:
                found[2 * x.shape[2]] = x, torch.cat(following)[None]
            picture = x
        for size, (x, styles) in found.items():
            rows[size].append((x, styles, shrink(picture.float(), size)))
    return {size: tuple(torch.cat(part) for part in zip(*items, strict=True)) for size, items in rows.items()}  # type: ignore[misc]


def make_heads(generator: MobileStyleGAN) -> nn.ModuleDict:
    """Make untrained heads, with the mean and spread of the styles that they see."""
    heads, styles = nn.ModuleDict(), collect(generator, draw_codes(generator, 2, TRAINING_SEED - 1))
    everything = [
        generator.compute_styles(code) for code in draw_codes(generator, STATISTICS_CODES, TRAINING_SEED - 1000)
    ]
    for size, width in WIDTHS.items():
        channels, number = styles[size][0].shape[1], styles[size][1].shape[1]
        head = EarlyHead(channels, number, width)
        following = torch.stack([torch.cat(rows)[-number:] for rows in everything])
        head.style_mean.copy_(following.mean(0))
        head.style_scale.copy_(following.std(0) * number**0.5)
        # Features of unit variance after the first layer, whatever the channels' own.
        seen = styles[size][0].float() * styles[size][1][:, :channels, None, None]
        head.enter.weight.data /= seen.pow(2).mean((0, 2, 3)).sqrt()[None, :, None, None]
        nn.init.zeros_(head.modulation.weight)
        nn.init.zeros_(head.modulation.bias)
        heads[str(size)] = head
    return heads


def crop(parts: tuple[Tensor, Tensor, Tensor], random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cut random crops of features, with their styles and the same parts of the pictures."""
    features, styles, pictures = parts
    inputs, targets, rows = [], [], torch.randint(len(features), (CROPS,), generator=random)
    for row in rows.tolist():
        y, x = torch.randint(features.shape[2] - CROP_SIDE + 1, (2,), generator=random).tolist()
        inputs.append(features[row, :, y : y + CROP_SIDE, x : x + CROP_SIDE])
        targets.append(pictures[row, :, 2 * y : 2 * (y + CROP_SIDE), 2 * x : 2 * (x + CROP_SIDE)])
    return torch.stack(inputs).float(), styles[rows], torch.stack(targets)


def compute_loss(head: nn.Module, parts: tuple[Tensor, Tensor, Tensor], random: torch.Generator) -> Tensor:
    """Compute the squared error of pictures at three scales: a false colour counts more than a lost pore."""
    features, styles, pictures = crop(parts, random)
    edge = 2 * BORDER
    drawn = invert_haar(head(features.contiguous(memory_format=torch.channels_last), styles))
    error = (drawn - pictures)[:, :, edge:-edge, edge:-edge]
    loss = error.square().mean()
    for scale in (4, 16):
        loss = loss + F.avg_pool2d(error, scale).square().mean()
    return loss


def train(generator: MobileStyleGAN, out: Path, epochs: int) -> nn.ModuleDict:
    """Train heads for a number of epochs, from a checkpoint where there is one."""
    torch.manual_seed(0)
    heads, data, start = make_heads(generator), {}, time.time()

    def loss(step: int) -> Tensor:
        epoch = step // STEPS
        if epoch not in data:
            data.clear()
            data[epoch] = collect(generator, draw_codes(generator, CODES, TRAINING_SEED + 2 * CODES * epoch))
        return torch.stack([compute_loss(heads[str(size)], data[epoch][size], plan.random) for size in WIDTHS]).sum()

    def end(epoch: int, mean_loss: float) -> None:
        print(f"epoch {epoch} of {epochs}: loss {mean_loss:.5f}, {(time.time() - start) / 60:.1f} min", flush=True)

    plan = Epochs(STEPS, 0, end=end)
    minimize(
        loss,
        torch.optim.AdamW(heads.parameters(), LEARNING_RATE, weight_decay=1e-3),
        epochs * STEPS,
        schedule=warmup_cosine,
        max_norm=1.0,
        epochs=plan,
        checkpoint=TrainingCheckpoint(out / "early-heads.checkpoint", heads, {"epochs": epochs, "widths": WIDTHS}),
    )
    save_heads(out / "ffhq-early.safetensors", read_parts(heads), generator.fingerprint)
    return heads


def read_parts(heads: nn.ModuleDict) -> dict[int, EarlyHead]:
    """Return the heads by resolution."""
    return {int(size): head for size, head in heads.items() if isinstance(head, EarlyHead)}


@torch.no_grad()
def measure(generator: MobileStyleGAN, scorer_name: str, n: int) -> None:
    """Print, for each resolution: PSNR, the scores' rank correlation with those of whole pictures, and the share of the time."""
    scorer, ws = load_scorer(scorer_name), sample(generator, n, 1.0, TEST_SEED)
    seconds = dict.fromkeys((*WIDTHS, generator.resolution), 0.0)
    errors: dict[int, list[float]] = {size: [] for size in WIDTHS}
    scores: dict[int, list[Tensor]] = {size: [] for size in seconds}
    for code in ws.split(1):
        pictures: dict[int, Images] = {}
        for size in seconds:
            start = time.process_time()
            pictures[size] = generator.synthesis(code, resolution=size)
            seconds[size] += time.process_time() - start
            scores[size].append(scorer(pictures[size]))
        for size, row in errors.items():
            row.append(
                float(
                    (pictures[size].clamp(-1, 1) - shrink(pictures[generator.resolution], size).clamp(-1, 1))
                    .square()
                    .mean()
                )
            )
    whole = torch.cat(scores[generator.resolution])
    for size, row in errors.items():
        psnr = -10 * torch.log10(torch.tensor(row) / 4)
        early = torch.cat(scores[size])
        ranks = [measure_rank(early[:, k], whole[:, k]) for k in range(early.shape[1])]
        worst = sorted(zip(ranks, scorer.attributes, strict=True))[:6]
        share = seconds[size] / seconds[generator.resolution]
        print(
            f"{size} px: PSNR {psnr.mean():.2f} dB (median {psnr.median():.2f}), {share:.3f}"
            f" of the whole picture's time; rank correlation of {scorer.name}'s scores: mean {sum(ranks) / len(ranks):.4f}, "
            + ", ".join(f"{name} {rank:.3f}" for rank, name in worst)
        )


@torch.no_grad()
def draw_sheet(generator: MobileStyleGAN, path: Path, n: int = 6) -> None:
    """Draw early pictures below whole ones."""
    ws = sample(generator, n, 1.0, TEST_SEED)
    rows = [
        torch.cat([shrink(generator.synthesis(code, resolution=size), 256) for code in ws.split(1)])
        for size in (1024, *WIDTHS)
    ]
    Image.fromarray(torch.cat([torch.cat(list(to_bytes(row)), 1) for row in rows]).numpy()).save(path)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint and the heads.")],
    epochs: Annotated[int, typer.Option(help="Epochs of the whole training.")] = 300,
    measure_only: Annotated[bool, typer.Option("--measure", help="Measure the heads that are there.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw a sheet of early pictures.")] = None,
    scorer: Annotated[str, typer.Option(help="Whose scores are compared.")] = "celeba40",
    n: Annotated[int, typer.Option("-n", help="Faces to measure on.")] = 500,
    dtype: Annotated[str, typer.Option(help="What the generator computes in.")] = "bfloat16",
) -> None:
    """Train heads, or measure them."""
    generator = load_generator("ffhq", dtype=dtype)
    if not isinstance(generator, MobileStyleGAN):
        raise GanvasError("The heads are those of ffhq.")
    out.mkdir(parents=True, exist_ok=True)
    if not measure_only and sheet is None:
        train(generator, out, epochs)
    from ganvas.generators.early_head import read_heads

    generator.add_heads(read_heads(out / "ffhq-early.safetensors", generator.fingerprint))
    if measure_only:
        measure(generator, scorer, n)
    if sheet is not None:
        draw_sheet(generator, sheet)


if __name__ == "__main__":
    typer.run(main)
