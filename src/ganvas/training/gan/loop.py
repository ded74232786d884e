"""Train a StyleGAN2 on pictures.

A run is a folder: checkpoints, from which it continues exactly, ``generator.safetensors`` (the averaged weights), a sheet
of samples a checkpoint, and ``log.jsonl``. A step depends only on the config, the pictures and its own number.
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

from ganvas import training_loop
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import StyleGAN2, save_generator
from ganvas.io.files import atomic_write, write_text
from ganvas.io.images import encode_png
from ganvas.training.gan import checkpoint as gan_checkpoint
from ganvas.training.gan import distributed
from ganvas.training.gan import losses as gan_losses
from ganvas.training.gan.config import GanConfig
from ganvas.training.gan.distributed import Processes
from ganvas.training.gan.images import TrainingImages
from ganvas.training.gan.losses import GanBatch, GanNetworks
from ganvas.training.gan.outputs import DistanceFunction, TensorBoardLog, draw_sample_sheet
from ganvas.validation import PositiveInt, validated

LOG, GENERATOR = "log.jsonl", "generator.safetensors"


@validated
class GanSchedule:
    """How long to train, in pictures seen, and after how many to write and to report."""

    images: PositiveInt = 1_000_000
    checkpoint: PositiveInt = 50_000
    report: PositiveInt = 2_000


@dataclass(frozen=True)
class GanCallbacks:
    """Callbacks: ``report_line`` takes lines for the user; ``measure`` measures the generator at each checkpoint."""

    report_line: Callable[[str], object] = print
    measure: DistanceFunction | None = None
    tensorboard: bool = False


@dataclass
class GanRun:
    """The state of a training."""

    images: TrainingImages
    config: GanConfig
    folder: Path
    processes: Processes
    networks: GanNetworks
    optimizers: dict[str, Adam]
    callbacks: GanCallbacks
    tensorboard: TensorBoardLog
    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)
    """The losses since the last report."""

    @property
    def images_seen(self) -> int:
        """The number of pictures seen by all processes."""
        return self.step * self.config.batch


def train_gan(
    images: TrainingImages,
    out: str | Path,
    config: GanConfig,
    schedule: GanSchedule = GanSchedule(),
    callbacks: GanCallbacks = GanCallbacks(),
) -> Path:
    """Train, or continue a stopped run, and return the path of the generator.

    Under torchrun every process calls this; the batch is shared among them. Raises GanvasError for a folder with
    another run, pictures that don't fit the config, and a training that diverged; TrainingStopped, after a checkpoint, where
    SIGINT or SIGTERM arrived.
    """
    with distributed.join_processes() as processes:
        run = _start_run(images, Path(out), config, processes, callbacks)
        _report_line(run, _describe_start(run, schedule))
        steps, clock = -(-schedule.images // config.batch), (run.step, time.monotonic())

        def step(_: int) -> None:
            nonlocal clock
            if not run.losses:
                clock = run.step, time.monotonic()
            run.losses.append(train_step(run))
            if run.step == steps or _has_passed(run, schedule.report):
                _log_losses(run, (run.step - clock[0]) * config.batch / (time.monotonic() - clock[1]))

        def save(done: int) -> None:
            if done == steps or _has_passed(run, schedule.checkpoint):
                save_milestone(run)
            else:
                _save_checkpoint(run)

        try:
            training_loop.train(
                step,
                steps,
                start=run.step,
                save=save,
                is_due=lambda done: _has_passed(run, schedule.checkpoint),
                # Several processes may not be at the same step.
                interruptible=processes.count == 1,
            )
        except training_loop.TrainingStopped:
            _report_line(run, f"stopped and saved after {run.images_seen:,} images")
            raise
        run.tensorboard.close()
        return run.folder / GENERATOR


def _describe_start(run: GanRun, schedule: GanSchedule) -> str:
    """Describe the start of a run in a line for the user."""
    values = ", ".join(map(str, run.images.values))
    labels = f", with labels ({run.config.condition} {values})" if values else ""
    if not run.step:
        return f"begins{labels}"
    if run.images_seen >= schedule.images:
        return f"has seen {run.images_seen:,} images already: nothing is trained; give a larger --images to go on"
    return f"goes on after {run.images_seen:,} images{labels}"


def _report_line(run: GanRun, text: str) -> None:
    if run.processes.is_first:
        run.callbacks.report_line(text)


def _has_passed(run: GanRun, every: int) -> bool:
    """Return whether the last step passed a multiple of ``every`` pictures."""
    return run.images_seen // every > (run.images_seen - run.config.batch) // every


def _start_run(
    images: TrainingImages, folder: Path, config: GanConfig, processes: Processes, callbacks: GanCallbacks
) -> GanRun:
    """Create a run at its newest checkpoint, or at its start."""
    if config.batch % processes.count:
        raise GanvasError(f"A batch of {config.batch} pictures doesn't divide into {processes.count} processes.")
    if images.pixels.shape[-1] != config.resolution:
        raise GanvasError(
            f"The pictures have {images.pixels.shape[-1]} pixels a side, and the generator {config.resolution}."
        )
    networks = gan_losses.initialize_networks(config, images.num_labels, *images.moments)
    rate, betas = config.learning_rate, (0.0, 0.99)
    trainable = [networks.generator[name] for name in networks.trainable]
    optimizers = {
        "generator": Adam(trainable, rate, betas, fused=True),
        "discriminator": Adam(list(networks.discriminator.values()), rate, betas, fused=True),
    }
    tensorboard = TensorBoardLog(folder, callbacks.tensorboard and processes.is_first)
    run = GanRun(images, config, folder, processes, networks, optimizers, callbacks, tensorboard)
    run.step, run.losses = gan_checkpoint.load_checkpoint(folder, networks, optimizers, _run_metadata(run))
    if processes.is_first:
        _trim_log(folder / LOG, run.step)
    return run


def _run_metadata(run: GanRun) -> dict[str, Any]:
    """Describe all that a run depends on, as a JSON object."""
    return run.config.to_json() | run.images.sha256 | {"processes": run.processes.count}


def train_step(run: GanRun) -> dict[str, float]:
    """Train one step of each network, the generator first, and return the losses.

    Raises GanvasError where they are not finite.
    """
    batch, losses = _draw_batch(run), {}
    for name, gradients in (
        ("generator", gan_losses.compute_generator_gradients),
        ("discriminator", gan_losses.compute_discriminator_gradients),
    ):
        result, optimizer = gradients(run.networks, run.config, batch, run.step), run.optimizers[name]
        losses |= result.losses
        if not all(math.isfinite(value) for value in losses.values()):
            raise GanvasError(
                f"The training diverged at step {run.step}: try a lower learning rate, or a larger gamma."
            )
        averaged = distributed.average_gradients(result.values, run.processes)
        for parameter, gradient in zip(optimizer.param_groups[0]["params"], averaged, strict=True):
            # Fused Adam on a CPU reads memory in the parameter's order, whatever the gradient's strides are.
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()
        optimizer.zero_grad()
    # Each process drew other codes: their means of W are averaged, as gradients are.
    means = [run.networks.generator["mapping.w_avg"], run.networks.path_mean]
    for mean, shared in zip(means, distributed.average_gradients(means, run.processes), strict=True):
        mean.copy_(shared)
    run.step += 1
    gan_losses.update_average(run.networks, run.config, run.images_seen)
    return losses


def _draw_batch(run: GanRun) -> GanBatch:
    """Draw this process's share of the pictures of the next step."""
    config, processes = run.config, run.processes
    n = config.batch // processes.count
    index = run.images.draw_rows(run.step * config.batch + processes.index * n, n, config.seed)
    random = gan_losses.create_random(config.seed, run.step, processes.index)
    real = run.images.pixels[index].float().div_(127.5).sub_(1)
    if config.flip:
        mirrored = torch.rand(n, 1, 1, 1, generator=random) < 0.5
        real = torch.where(mirrored, real.flip(3), real)
    labels = None if run.images.labels is None else run.images.labels[index]
    return GanBatch(real, labels, random)


def _save_checkpoint(run: GanRun) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    position = {"step": run.step, "seen": run.images_seen, "logged": [list(losses.items()) for losses in run.losses]}
    gan_checkpoint.save_checkpoint(run.folder, run.networks, run.optimizers, position, _run_metadata(run))


def save_milestone(run: GanRun) -> None:
    """Write the generator and a sheet of its samples, measure it, and write a checkpoint, in the first process."""
    if run.processes.is_first:
        state, architecture = run.networks.average, run.networks.generator_architecture
        training = {"images": run.images_seen, "options": run.config.to_json(), "labels": list(run.images.values)}
        save_generator(run.folder / GENERATOR, state, architecture, training=training)
        generator = StyleGAN2(state, architecture)
        sheet = draw_sample_sheet(generator)
        with atomic_write(run.folder / f"samples-{run.images_seen:09d}.png") as path:
            path.write_bytes(encode_png(sheet))
        run.tensorboard.add_image(sheet, run.images_seen)
        if run.callbacks.measure is not None:
            _write_log(run, {name: float(value) for name, value in run.callbacks.measure(generator).items()})
        _save_checkpoint(run)  # last: a run that is killed before this writes the others again
    distributed.wait_for_all(run.processes)


def _log_losses(run: GanRun, rate: float) -> None:
    """Report and write the mean losses since the last report."""
    names = dict.fromkeys(name for losses in run.losses for name in losses)
    rows = {name: [losses[name] for losses in run.losses if name in losses] for name in names}
    means = {name: sum(values) / len(values) for name, values in rows.items()}
    run.losses.clear()
    _write_log(run, means | {"images_per_second": rate})


def _write_log(run: GanRun, values: Mapping[str, float]) -> None:
    if not run.processes.is_first:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    line = {
        "step": run.step,
        "images": run.images_seen,
        **{name: float(f"{value:.6g}") for name, value in values.items()},
    }
    with (run.folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    run.tensorboard.add_scalars(values, run.images_seen)
    _report_line(
        run, f"{run.images_seen:,} images: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    )


def _trim_log(path: Path, step: int) -> None:
    """Delete the lines that were logged after the checkpoint that a run continues from: they will be logged again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
        write_text(path, "".join(f"{line}\n" for line in lines))
