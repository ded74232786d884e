"""The loop that all networks are trained with: a stopped run ends like one left alone, wherever it is stopped."""

import os
import signal
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from ganvas import training_loop
from ganvas.errors import GanvasError
from ganvas.io.shards import read_shard, save_shard
from ganvas.training_loop import (
    Epochs,
    TrainingCheckpoint,
    TrainingStopped,
    constant,
    minimize,
    one_cycle,
    solve_convex,
    train,
    warmup_cosine,
)

X = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
STEPS, EPOCH = 9, 4


@pytest.fixture(autouse=True)
def default_signals():
    """As in a terminal, whatever the shell that runs the tests does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Run:
    """A small network with batch norm and dropout, in epochs with an order of rows each."""

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.epochs = Epochs(EPOCH, 7, len(X), lambda epoch, loss: self.means.append((epoch, loss)))
        self.means: list[tuple[int, float]] = []

    def loss(self, step: int) -> torch.Tensor:
        x = X[self.epochs.select_rows(step, 6)]
        noise = torch.randn(x.shape, generator=self.epochs.random)
        return (self.network(x + 0.1 * noise)[:, 0] - x.sum(1)).square().mean()

    def train(self, path=None, progress=lambda done, steps: None, rate: float = 0.01) -> None:
        minimize(
            self.loss,
            torch.optim.AdamW(self.network.parameters(), rate),
            STEPS,
            epochs=self.epochs,
            checkpoint=TrainingCheckpoint(path, self.network, {"rate": rate}) if path else None,
            progress=progress,
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_a_run_stopped_at_any_step_ends_like_one_left_alone(tmp_path, stop, number):
    alone = Run()
    alone.train()

    def interrupt(done: int, steps: int) -> None:
        if done == stop:
            signal.raise_signal(number)

    with pytest.raises(TrainingStopped):
        Run().train(tmp_path / "c.safetensors", interrupt)
    again = Run(seed=1)
    done = []
    again.train(tmp_path / "c.safetensors", lambda step, steps: done.append(step))
    assert done == list(range(stop + 1, STEPS + 1))
    for (name, one), other in zip(alone.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert again.means == alone.means[len(alone.means) - len(again.means) :]
    assert len(again.means) == len(alone.means) - stop // EPOCH
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_a_killed_run_continues_after_its_last_epoch(tmp_path):
    class Killed(BaseException):
        pass

    def kill(done: int, steps: int) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        Run().train(tmp_path / "c.safetensors", kill)
    done = []
    Run().train(tmp_path / "c.safetensors", lambda step, steps: done.append(step))
    assert done[0] == 5


def test_a_second_interrupt_stops_at_once(tmp_path):
    def insist(done: int, steps: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        Run().train(tmp_path / "c.safetensors", insist)
    assert not isinstance(stopped.value, TrainingStopped) and not (tmp_path / "c.safetensors").exists()


def test_a_signal_between_two_questions_is_not_lost_and_the_state_is_saved(monkeypatch):
    answers = iter([False, True, True])
    monkeypatch.setattr(training_loop, "_catch_signals", lambda enabled: nullcontext(lambda: next(answers)))
    saved = []
    with pytest.raises(TrainingStopped):
        train(lambda step: None, 3, save=saved.append)
    assert saved == [2]


def test_what_saves_nothing_or_is_not_the_main_thread_is_interrupted_as_ever():
    def interrupt(done: int, steps: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(lambda step: None, 3, progress=interrupt)
    assert not isinstance(stopped.value, TrainingStopped)
    saved = []
    thread = threading.Thread(target=lambda: train(lambda step: None, 3, save=saved.append))
    thread.start()
    thread.join()
    assert saved == [3]


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    saved = []
    train(lambda step: os.kill(os.getpid(), signal.SIGTERM), 3, save=saved.append)
    assert saved == [3] and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_only_its_own_whole_checkpoint_is_continued(tmp_path):
    path = tmp_path / "c.safetensors"
    Run().train(path)
    refusal = "c.safetensors is damaged, or a checkpoint of another training"
    with pytest.raises(GanvasError, match=refusal):
        Run().train(path, rate=0.02)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(GanvasError, match=refusal):
        Run().train(path)


def test_a_loss_that_is_not_finite_is_an_error_and_not_saved(tmp_path):
    run = Run()
    run.loss = lambda step: run.network(X).mean() * float("nan")
    with pytest.raises(GanvasError, match=r"diverged \(loss nan\): choose a lower rate than 0.01"):
        run.train(tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_callers_random_state_is_left_as_it_was(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    for path in (None, tmp_path / "c.safetensors", tmp_path / "c.safetensors"):  # the last one resumes
        torch.manual_seed(3)
        Run().train(path)
        assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", ["random", "global_random", "step", "loss_sum"])
def test_a_state_of_another_dtype_or_shape_is_refused(tmp_path, name):
    path = tmp_path / "c.safetensors"
    Run().train(path)
    tensors, origin = read_shard(path)
    save_shard(path, tensors | {name: tensors[name].float().expand(2, *tensors[name].shape)}, origin)
    with pytest.raises(GanvasError, match="is damaged, or a checkpoint of another training"):
        Run().train(path)


def test_a_network_in_bfloat16_is_continued(tmp_path):
    def fit(progress=lambda done, steps: None):
        torch.manual_seed(0)
        network = nn.Linear(5, 1).bfloat16()
        minimize(
            lambda step: network(X.bfloat16()).square().mean(),
            torch.optim.Adam(network.parameters(), 0.01),
            4,
            checkpoint=TrainingCheckpoint(tmp_path / "c.safetensors", network, {}),
            progress=progress,
        )
        return network.weight.detach()

    def interrupt(done: int, steps: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    alone = fit()
    (tmp_path / "c.safetensors").unlink()
    with pytest.raises(TrainingStopped):
        fit(interrupt)
    assert torch.equal(fit(), alone)


def test_each_group_has_its_own_loss_and_rate():
    a, b, unused = (nn.Parameter(torch.ones(1)) for _ in range(3))
    optimizer = torch.optim.Adam([{"params": [a], "lr": 0.1}, {"params": [b, unused], "lr": 0.01}])
    # The second loss depends on the first group's parameter, which it must not move.
    minimize([lambda step: a.sum(), lambda step: (b - 9 * a).sum()], optimizer, 1, schedule=constant)
    assert float(a.detach()) == pytest.approx(0.9, abs=1e-4)
    assert float(b.detach()) == pytest.approx(0.99, abs=1e-4)
    assert float(unused.detach()) == 1


@pytest.mark.parametrize(("share", "steps"), [(0.2, 40), (0.15, 7), (0.2, 2), (0.2, 1)])
def test_one_cycle_is_pytorchs(share, steps):
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(1))], 0.3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps, pct_start=share)
    rate, momentum = one_cycle(share)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert 0.3 * rate(step, steps) == pytest.approx(group["lr"], rel=1e-12)
        assert momentum(step, steps) == pytest.approx(group["betas"][0], rel=1e-12)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_one_cycle_is_defined_where_its_top_is_the_first_step():
    assert one_cycle(0.2)[0](0, 5) == pytest.approx(1)


def test_the_rate_rises_over_a_tenth_and_falls_to_nothing():
    rates = [warmup_cosine(step, 100) for step in range(100)]
    assert max(rates) == rates[9] and rates[0] == pytest.approx(0.1, abs=0.01) and rates[-1] == 0
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_convex_losses_are_solved():
    x = torch.zeros(3, requires_grad=True)
    goal = torch.tensor([1.0, -2.0, 3.0])
    with torch.no_grad():
        solve_convex(lambda: (x - goal).square().sum(), [x], 50)
    torch.testing.assert_close(x.detach(), goal, atol=1e-4, rtol=0)
