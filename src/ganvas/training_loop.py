"""The training loop of all networks: steps, schedules, and checkpoints that continue to the same bytes.

It stands below the packages because ``editors`` train networks, too; what is trained by itself is in ``training``.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganvas.errors import GanvasError
from ganvas.io.shards import load_shard, save_shard
from ganvas.progress import Progress

KIND, VERSION = "checkpoint", 2
MOMENT_NAMES = ("exp_avg", "exp_avg_sq", "step")
"""Adam's state of a parameter (with β₁ = 0, exp_avg is the last gradient)."""
WARMUP_SHARE = 0.1
"""The share of the steps over which ``warmup_cosine`` rises."""
Schedule = Callable[[int, int], float]
"""From the number of a step, from 0, and the number of all steps to a factor of learning rates (or to Adam's β₁)."""
LossFunction = Callable[[int], Tensor]
"""From the number of a step to its loss."""


@contextmanager
def fork_random_state() -> Iterator[None]:
    """Restore the global random state at the end, of the processor and, where CUDA is in use, of its devices."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        yield


@contextmanager
def seed_random_state(seed: int) -> Iterator[None]:
    """Seed the global random state, and restore it at the end."""
    with fork_random_state():
        torch.default_generator.manual_seed(seed)
        # Before its first use CUDA would be seeded later, when this block is left.
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        yield


class TrainingStopped(KeyboardInterrupt):
    """SIGINT or SIGTERM stopped a training, after its state was saved."""


def train(
    step: Callable[[int], object],
    steps: int,
    *,
    start: int = 0,
    save: Callable[[int], object] | None = None,
    is_due: Callable[[int], bool] = lambda done: False,
    interruptible: bool = True,
    progress: Progress = lambda done, steps: None,
) -> None:
    """Call ``step`` with the numbers from ``start`` to ``steps - 1``.

    Args:
        step: Trains one step.
        steps: The number of all steps.
        start: The number of steps that an earlier run has finished.
        save: Called with the number of finished steps, to write all that later ones depend on: after the last step, after
            those that ``is_due`` accepts, and after the one during which SIGINT or SIGTERM arrived.
        is_due: From the number of finished steps to whether to save.
        interruptible: Whether to finish a step before a signal stops the process; a second signal stops it at once.
        progress: Called after each step.

    Raises:
        TrainingStopped: A signal arrived, and the state was saved.
    """
    with _catch_signals(interruptible and save is not None) as is_stopped:
        for done in range(start + 1, steps + 1):
            step(done - 1)
            progress(done, steps)
            if save is not None and (done == steps or is_due(done) or is_stopped()):
                save(done)
                if is_stopped():  # a signal that arrives after the condition waits for the next step, which is saved
                    raise TrainingStopped


def minimize(
    loss: LossFunction | Sequence[LossFunction],
    optimizer: Optimizer,
    steps: int,
    *,
    schedule: Schedule | None = None,
    momentum: Schedule | None = None,
    max_norm: float | None = None,
    epochs: Epochs | None = None,
    checkpoint: TrainingCheckpoint | None = None,
    progress: Progress = lambda done, steps: None,
) -> None:
    """Minimise a loss, or a loss of its own for each of the optimizer's groups, one after the other in each step.

    Gradients are computed under ``torch.no_grad``, too. Equal arguments give equal bytes on one machine, and so does a run
    that continues from its ``checkpoint``.

    Args:
        loss: The loss of a step, or one for each group of parameters.
        optimizer: Adam or AdamW.
        steps: The number of all steps.
        schedule: The factor of the groups' learning rates; None: ``warmup_cosine``.
        momentum: Adam's β₁, where it changes.
        max_norm: The norm that each loss's gradient is clipped to.
        epochs: The parts that are seeded one by one; after each of them a checkpoint is due.
        checkpoint: The file to continue from, and to write.
        progress: Called after each step.

    Raises:
        GanvasError: The loss isn't finite at a checkpoint or at the end, or the checkpoint is damaged or another run's.
        TrainingStopped: As for ``train``.
    """
    losses = [loss] if callable(loss) else list(loss)
    groups, schedule = optimizer.param_groups, schedule or warmup_cosine
    rates, parts = [group["lr"] for group in groups], [group["params"] for group in groups]
    if len(losses) == 1:
        parts = [[parameter for part in parts for parameter in part]]
    last = torch.zeros(())

    def step(number: int) -> None:
        """Take one step: set the rates, and descend on the loss."""
        nonlocal last
        if epochs:
            epochs.enter_step(number)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * schedule(number, steps)
            if momentum:
                group["betas"] = (momentum(number, steps), group["betas"][1])
        optimizer.zero_grad()
        last = torch.zeros(())
        for function, parameters in zip(losses, parts, strict=True):
            last = last + _compute_gradients(function, number, parameters)
            if max_norm is not None:
                nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        if epochs:
            epochs.leave_step(number, float(last))

    def check() -> None:
        if not torch.isfinite(last):
            raise GanvasError(f"The training diverged (loss {float(last)}): choose a lower rate than {max(rates):g}.")

    def save(done: int) -> None:
        check()
        if checkpoint:
            checkpoint.save(done, optimizer, epochs)

    with fork_random_state() if epochs else nullcontext():
        start = checkpoint.load(optimizer, epochs) if checkpoint else 0
        if epochs and start % epochs.length:
            epochs.resume(start)
        train(
            step,
            steps,
            start=start,
            save=save if checkpoint else None,
            is_due=lambda done: bool(epochs) and done % epochs.length == 0,
            progress=progress,
        )
    check()


def _compute_gradients(loss: LossFunction, step: int, parameters: Sequence[Tensor]) -> Tensor:
    """Compute a loss and its gradients, zeros where it doesn't depend on a parameter; return the loss, detached."""
    with torch.enable_grad():
        value = loss(step)
        value.backward(inputs=list(parameters))
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return value.detach()


def solve_convex(loss: Callable[[], Tensor], parameters: Sequence[Tensor], iterations: int) -> None:
    """Minimise a smooth convex loss of a few parameters by L-BFGS."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)


def constant(step: int, steps: int) -> float:
    """Keep learning rates as they are."""
    return 1.0


def warmup_cosine(step: int, steps: int) -> float:
    """Return a factor that rises over ``WARMUP_SHARE`` of the steps, and falls to 0 as a cosine over all of them."""
    done = (step + 1) / steps
    return min(done / WARMUP_SHARE, 1) * (1 + math.cos(math.pi * done)) / 2


def one_cycle(share: float) -> tuple[Schedule, Schedule]:
    """Return the one-cycle policy (Smith and Topin, https://arxiv.org/abs/1708.07120), as PyTorch has it: factor and β₁.

    The learning rate rises over ``share`` of the steps and then falls, both as cosines; β₁ does the opposite.
    """

    def cycle(start: float, middle: float, end: float) -> Schedule:
        def value(step: int, steps: int) -> float:
            top = share * steps - 1
            if step < top:
                return middle + (start - middle) / 2 * (math.cos(math.pi * step / top) + 1)
            return end + (middle - end) / 2 * (math.cos(math.pi * (step - top) / (steps - 1 - top)) + 1)

        return value

    return cycle(1 / 25, 1.0, 1 / 250_000), cycle(0.95, 0.85, 0.95)


@dataclass
class Epochs:
    """Parts of ``length`` steps, each of which is seeded by ``seed`` plus its number, and has its own order of ``rows``.

    ``random`` draws all else. ``end`` takes the number of finished epochs and the mean loss of the last one.
    """

    length: int
    seed: int
    rows: int = 0
    end: Callable[[int, float], object] = lambda epoch, loss: None
    random: torch.Generator = field(default_factory=torch.Generator)
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    loss_sum: float = 0.0

    def select_rows(self, step: int, batch: int) -> Tensor:
        """Return the row numbers of a step's batch."""
        return self.order[step % self.length * batch :][:batch]

    def enter_step(self, step: int) -> None:
        """Seed the first step of an epoch."""
        if step % self.length == 0:
            self._begin(step)

    def leave_step(self, step: int, loss: float) -> None:
        """Add a step's loss, and end the epoch after its last step."""
        self.loss_sum += loss
        if (step + 1) % self.length == 0:
            self.end((step + 1) // self.length, self.loss_sum / self.length)

    def resume(self, step: int) -> None:
        """Begin the epoch of ``step`` again, and restore random states and losses as they were before that step."""
        states, loss_sum = [self.random.get_state(), torch.get_rng_state()], self.loss_sum
        self._begin(step)
        self.random.set_state(states[0])
        torch.set_rng_state(states[1])
        self.loss_sum = loss_sum

    def _begin(self, step: int) -> None:
        seed = self.seed + step // self.length
        self.random.manual_seed(seed)
        torch.manual_seed(seed)
        self.loss_sum = 0.0
        if self.rows:
            self.order = torch.randperm(self.rows, generator=self.random)


@dataclass(frozen=True)
class TrainingCheckpoint:
    """The file of a training as it stands: weights, Adam's state, random states. ``run`` (JSON): all that it depends on."""

    path: Path
    network: nn.Module
    run: Mapping[str, Any]

    def save(self, step: int, optimizer: Optimizer, epochs: Epochs | None) -> None:
        """Write the file after ``step`` steps."""
        tensors: dict[str, Tensor] = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= collect_moments(optimizer, "optimizer", _number_parameters(optimizer))
        tensors["step"] = torch.tensor([step])
        if epochs:
            tensors |= {"random": epochs.random.get_state(), "global_random": torch.get_rng_state()}
            tensors["loss_sum"] = torch.tensor([epochs.loss_sum], dtype=torch.double)
        save_shard(self.path, tensors, self._metadata)

    def load(self, optimizer: Optimizer, epochs: Epochs | None) -> int:
        """Restore all, and return the number of finished steps; 0 where there is no file.

        Raises GanvasError for a file that is damaged or of another run.
        """
        if not self.path.exists():
            return 0
        tensors = load_shard(self.path, "step", self._metadata, 1)
        try:
            if tensors is None:
                raise KeyError
            restore_moments(optimizer, "optimizer", _number_parameters(optimizer), tensors)
            self.network.load_state_dict({key: tensors[f"network.{key}"] for key in self.network.state_dict()})
            if epochs:
                epochs.random.set_state(tensors["random"])
                epochs.loss_sum = float(tensors["loss_sum"])
                torch.set_rng_state(tensors["global_random"])
            return int(tensors["step"])
        except (KeyError, RuntimeError, TypeError, ValueError):
            raise GanvasError(
                f"{self.path} is damaged, or a checkpoint of another training: delete it, or choose another --out."
            ) from None

    @property
    def _metadata(self) -> dict[str, Any]:
        # As it is read from JSON: with lists, not tuples.
        return {"kind": KIND, "version": VERSION, "run": json.loads(json.dumps(dict(self.run)))}


def collect_moments(optimizer: Optimizer, prefix: str, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Adam's state of named parameters, by their names in a file."""
    return {
        f"{prefix}.{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in parameters.items()
        for key in MOMENT_NAMES
    }


def restore_moments(
    optimizer: Optimizer, prefix: str, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Restore Adam's state from a file. Raises KeyError for missing tensors, ValueError for other shapes."""
    for name, parameter in parameters.items():
        state = {key: tensors[f"{prefix}.{name}.{key}"] for key in MOMENT_NAMES}
        if state["step"].ndim:
            raise ValueError("another shape")
        for key in MOMENT_NAMES[:2]:
            # In the parameter's own memory order: another order may change the last bits.
            state[key] = copy_checked(torch.empty_like(parameter), state[key])
        optimizer.state[parameter] = state


@torch.no_grad()
def copy_checked(to: Tensor, value: Tensor) -> Tensor:
    """Copy ``value`` into ``to``. Raises ValueError for another shape."""
    if to.shape != value.shape:
        raise ValueError("another shape")
    return to.copy_(value)


def _number_parameters(optimizer: Optimizer) -> dict[str, Tensor]:
    return {str(i): p for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}


@contextmanager
def _catch_signals(enabled: bool) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM arrived; a second one of them stops the process at once."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    # Processes that ignore a signal, like a shell's background jobs, or have a handler of their own, keep it.
    in_main = threading.current_thread() is threading.main_thread()
    caught = [number for number, handler in defaults.items() if signal.getsignal(number) is handler]
    caught = caught if enabled and in_main else []
    arrived: list[int] = []

    def handle_signal(number: int, frame: object) -> None:
        if arrived:
            raise KeyboardInterrupt
        arrived.append(number)

    for number in caught:
        signal.signal(number, handle_signal)
    try:
        yield lambda: bool(arrived)
    finally:
        for number in caught:
            signal.signal(number, defaults[number])
