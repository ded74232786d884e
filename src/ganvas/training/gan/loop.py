"""Trains a StyleGAN2 on pictures: ``train`` is the loop; losses, data and checkpoints have modules of their own.

A run is a folder: checkpoints (all that is needed to go on exactly), ``generators.base.safetensors`` (the averaged weights), a
sheet of samples a checkpoint, and ``log.jsonl``. A step depends on options, pictures and its own number alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Adam

from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import StyleGAN2, save_generator
from ganvas.io.files import atomic_write, write_text
from ganvas.io.images import encode_png, to_bytes
from ganvas.training.gan import checkpoint as gan_checkpoint
from ganvas.training.gan import distributed
from ganvas.training.gan import losses as gan_losses
from ganvas.training.gan.config import GanConfig
from ganvas.training.gan.config import load_preset as load_preset
from ganvas.training.gan.distances import DistanceFunction
from ganvas.training.gan.distances import distance_function as distance_function
from ganvas.training.gan.distributed import Processes
from ganvas.training.gan.export import export_generator as export_generator
from ganvas.training.gan.images import TrainingImages
from ganvas.training.gan.images import read_pictures as read_pictures
from ganvas.training.gan.losses import GanBatch, GanNetworks
from ganvas.training.gan.tensorboard_log import TensorBoardLog
from ganvas.types import Labels

LOG, GENERATOR = "log.jsonl", "generator.safetensors"
SHEET = 8
"""Rows and columns of a sheet of samples."""
SHEET_SEED = 77


@dataclass(frozen=True)
class GanSchedule:
    """How long to train, in pictures seen, and after how many to write and to report."""

    images: int = 1_000_000
    checkpoint: int = 50_000
    report: int = 2_000

    def __post_init__(self) -> None:
        for name in ("images", "checkpoint", "report"):
            if getattr(self, name) < 1:
                raise GanvasError(f"The number of images ({name}) must be at least 1, not {getattr(self, name)}.")


@dataclass(frozen=True)
class GanCallbacks:
    """Who is told: ``say`` gets a line for the user; ``judge`` measures the generator at each checkpoint."""

    say: Callable[[str], object] = print
    judge: DistanceFunction | None = None
    tensorboard: bool = False


@dataclass
class GanRun:
    """A training under way: what it learns from, how, and where it stands."""

    pictures: TrainingImages
    options: GanConfig
    folder: Path
    processes: Processes
    networks: GanNetworks
    optimizers: dict[str, Adam]
    watch: GanCallbacks
    board: TensorBoardLog
    step: int = 0
    logged: list[dict[str, float]] = field(default_factory=list)
    """The losses since the last report."""

    @property
    def seen(self) -> int:
        """Pictures seen, by all processes."""
        return self.step * self.options.batch


def train(
    pictures: TrainingImages,
    out: str | Path,
    options: GanConfig,
    schedule: GanSchedule = GanSchedule(),
    watch: GanCallbacks = GanCallbacks(),
) -> Path:
    """Train, or go on where a stopped run stood, and return the path of the generator.

    Under torchrun every process calls this; the batch is shared among them. Raises GanvasError for a folder with
    another run, pictures that don't fit the options, and a training that diverged; KeyboardInterrupt after a step in which the
    user stopped it, with all that was learned kept.
    """
    with distributed.join_processes() as processes:
        run = _begin(pictures, Path(out), options, processes, watch)
        _say(run, _beginning(run, schedule))
        start, began = run.step, time.monotonic()
        with distributed.catch_interrupt(processes) as stopped:
            while run.seen < schedule.images:
                run.logged.append(train_step(run))
                last = run.seen >= schedule.images
                if last or _passed(run, schedule.report):
                    _log(run, (run.step - start) * options.batch / (time.monotonic() - began))
                if last or _passed(run, schedule.checkpoint):
                    save_milestone(run)
                elif stopped():
                    _save(run)
                if stopped():
                    _say(run, f"kept as it is after {run.seen:,} images")
                    raise KeyboardInterrupt
                if not run.logged:
                    start, began = run.step, time.monotonic()
        run.board.close()
        return run.folder / GENERATOR


def _beginning(run: GanRun, schedule: GanSchedule) -> str:
    """What a run begins with, in words."""
    told = (
        f", told labels ({run.options.condition} {', '.join(map(str, run.pictures.values))})"
        if run.pictures.values
        else ""
    )
    if not run.step:
        return f"begins{told}"
    if run.seen >= schedule.images:
        return f"has seen {run.seen:,} images already: nothing is trained; ask for more than these with --images"
    return f"goes on after {run.seen:,} images{told}"


def _say(run: GanRun, text: str) -> None:
    if run.processes.first:
        run.watch.say(text)


def _passed(run: GanRun, every: int) -> bool:
    """Whether the last step went over a multiple of ``every`` pictures."""
    return run.seen // every > (run.seen - run.options.batch) // every


def _begin(
    pictures: TrainingImages, folder: Path, options: GanConfig, processes: Processes, watch: GanCallbacks
) -> GanRun:
    """A run at its last checkpoint, or at its start."""
    if options.batch % processes.count:
        raise GanvasError(f"A batch of {options.batch} can't be shared by {processes.count} processes.")
    if pictures.pixels.shape[-1] != options.resolution:
        raise GanvasError(
            f"The pictures have {pictures.pixels.shape[-1]} pixels a side, and the generator {options.resolution}."
        )
    networks = gan_losses.initial_networks(options, pictures.num_labels, *pictures.moments)
    rate, betas = options.learning_rate, (0.0, 0.99)
    learned = [networks.generator[name] for name in networks.learned]
    optimizers = {
        "generator": Adam(learned, rate, betas, fused=True),
        "critic": Adam(list(networks.critic.values()), rate, betas, fused=True),
    }
    board = TensorBoardLog(folder, watch.tensorboard and processes.first)
    run = GanRun(pictures, options, folder, processes, networks, optimizers, watch, board)
    run.step, run.logged = gan_checkpoint.load_checkpoint(folder, networks, optimizers, _about(run))
    if processes.first:
        _trim_log(folder / LOG, run.step)
    return run


def _about(run: GanRun) -> dict[str, Any]:
    """All that a run depends on, as JSON."""
    return run.options.as_json() | run.pictures.sha256 | {"processes": run.processes.count}


def train_step(run: GanRun) -> dict[str, float]:
    """One step of each network, the generator first; returns the losses.

    Raises GanvasError where they are no numbers any more.
    """
    batch, losses = _batch(run), {}
    for name, gradients in (
        ("generator", gan_losses.generator_gradients),
        ("critic", gan_losses.discriminator_gradients),
    ):
        found, optimizer = gradients(run.networks, run.options, batch, run.step), run.optimizers[name]
        losses |= found.losses
        if not all(math.isfinite(value) for value in losses.values()):
            raise GanvasError(
                f"The training diverged at step {run.step}: try a lower learning rate, or a larger gamma."
            )
        together = distributed.average_gradients(found.values, run.processes)
        for parameter, gradient in zip(optimizer.param_groups[0]["params"], together, strict=True):
            # Fused Adam on a CPU reads memory in the parameter's order, whatever the gradient's strides are.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()
        optimizer.zero_grad()
    # Each process saw other codes: their mean of W is shared, as gradients are.
    means = [run.networks.generator["mapping.w_avg"], run.networks.path_mean]
    for mean, shared in zip(means, distributed.average_gradients(means, run.processes), strict=True):
        mean.copy_(shared)
    run.step += 1
    gan_losses.update_average(run.networks, run.options, run.seen)
    return losses


def _batch(run: GanRun) -> GanBatch:
    """This process's share of the pictures of the next step."""
    options, processes = run.options, run.processes
    n = options.batch // processes.count
    index = run.pictures.rows(run.step * options.batch + processes.index * n, n, options.seed)
    random = gan_losses.step_random(options.seed, run.step, processes.index)
    real = run.pictures.pixels[index].float().div_(127.5).sub_(1)
    if options.flip:
        mirrored = torch.rand(n, 1, 1, 1, generator=random) < 0.5
        real = torch.where(mirrored, real.flip(3), real)
    labels = None if run.pictures.labels is None else run.pictures.labels[index]
    return GanBatch(real, labels, random)


def _save(run: GanRun) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    where = {"step": run.step, "seen": run.seen, "logged": [list(losses.items()) for losses in run.logged]}
    gan_checkpoint.save_checkpoint(run.folder, run.networks, run.optimizers, where, _about(run))


def save_milestone(run: GanRun) -> None:
    """Write the generator and a sheet of its samples, measure it, and write a checkpoint. The first process alone does."""
    if run.processes.first:
        state, shape = run.networks.average, run.networks.shape
        training = {"images": run.seen, "options": run.options.as_json(), "labels": list(run.pictures.values)}
        save_generator(run.folder / GENERATOR, state, shape, training=training)
        generator = StyleGAN2(state, shape)
        sheet = draw_sample_sheet(generator)
        with atomic_write(run.folder / f"samples-{run.seen:09d}.png") as path:
            path.write_bytes(encode_png(sheet))
        run.board.picture(sheet, run.seen)
        if run.watch.judge is not None:
            _write_log(run, {name: float(value) for name, value in run.watch.judge(generator).items()})
        _save(run)  # the last: a run that is killed before this makes the others again
    distributed.wait_for_all(run.processes)


@torch.no_grad()
def draw_sample_sheet(generator: StyleGAN2, side: int = SHEET) -> torch.Tensor:
    """A sheet (height, width, 3) uint8 of side × side untruncated samples; of a conditional one, a label a column."""
    z = torch.randn(side * side, generator.z_dim, generator=torch.Generator().manual_seed(SHEET_SEED))
    w = generator.mapping(z, columns_labels(generator.num_labels, side))
    pictures = torch.cat([to_bytes(generator.synthesis(generator.expand(part))) for part in w.split(side)])
    rows = pictures.unflatten(0, (side, side)).permute(0, 2, 1, 3, 4)
    return rows.reshape(side * pictures.shape[1], side * pictures.shape[2], 3)


def columns_labels(num_labels: int, side: int) -> Labels | None:
    """One-hot labels for a sheet, going round along each row; None where there are none."""
    if not num_labels:
        return None
    index = torch.arange(side) % num_labels
    return torch.nn.functional.one_hot(index, num_labels).float().repeat(side, 1)


def _log(run: GanRun, rate: float) -> None:
    """Report and write the mean losses since the last report."""
    names = dict.fromkeys(name for losses in run.logged for name in losses)
    rows = {name: [losses[name] for losses in run.logged if name in losses] for name in names}
    means = {name: sum(values) / len(values) for name, values in rows.items()}
    run.logged.clear()
    _write_log(run, means | {"images_per_second": rate})


def _write_log(run: GanRun, values: Mapping[str, float]) -> None:
    if not run.processes.first:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    line = {"step": run.step, "images": run.seen, **{name: float(f"{value:.6g}") for name, value in values.items()}}
    with (run.folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    run.board.numbers(values, run.seen)
    _say(run, f"{run.seen:,} images: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def _trim_log(path: Path, step: int) -> None:
    """Forget what was logged after the checkpoint that a run goes on from: it will be logged again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in lines))
