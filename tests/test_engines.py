"""Engines: the same shards whatever makes them; workers that fail, die, or are interrupted."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from shard_workers import FileWorker, KilledOnce, UnreachableStore

from ganvas import engines, load_generator, sample
from ganvas.cli import main
from ganvas.data.label import LabelRun, label
from ganvas.data.label_files import load_labels
from ganvas.engines import run_shards
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.scorers.toy import ToyScorer

N, SHARD = 150, 16
SHARDS = dict.fromkeys(range(6), 2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def label_folder(folder: Path, **options) -> dict[str, bytes]:
    label(Toy(), ToyScorer(), N, out=folder, keep_images=True, shard_size=SHARD, threads=1, **options)
    return contents(folder)


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_shards_that_fail_are_tried_again(tmp_path: Path, engine: str) -> None:
    calls = []
    worker = FileWorker(tmp_path, broken=(3, 2))
    run_shards(worker, SHARDS, engine=engine, progress=lambda done, total: calls.append((done, total)))
    assert {path.name for path in tmp_path.glob("shard-*")} == {f"shard-{k}" for k in SHARDS}
    assert len(list(tmp_path.glob("attempt-3-*"))) == 3 and len(list(tmp_path.glob("attempt-2-*"))) == 1
    assert calls[0] == (0, 12) and calls[-1] == (12, 12)
    assert all(0 <= done <= total == 12 for done, total in calls)


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_a_failure_names_its_shard(tmp_path: Path, engine: str) -> None:
    with pytest.raises(GanvasError, match=r"^Shard 3 failed 2 times: RuntimeError: attempt 1 of two lines"):
        run_shards(FileWorker(tmp_path, broken=(3, 9)), SHARDS, engine=engine, retries=1)
    assert not (tmp_path / "shard-3").exists()


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_bad_input_is_not_tried_again(tmp_path: Path, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(GanvasError, match=r"^Shard 3 can't be made: attempt 0 of two lines"):
        run_shards(FileWorker(tmp_path, broken=(3, 1), error=GanvasError), SHARDS, engine=engine, workers=1)
    assert len(list(tmp_path.glob("attempt-3-*"))) == 1 and "again" not in caplog.text
    run_shards(FileWorker(tmp_path, broken=(4, 1), error=UnreachableStore), SHARDS, engine=engine, workers=1)
    assert "Shard 4 is tried again: attempt 0 of two lines" in caplog.text


def test_processes_need_the_gpus_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for workers in (None, 2):
        with pytest.raises(GanvasError, match="PyTorch finds no GPU"):
            run_shards(FileWorker(tmp_path), SHARDS, engine="processes", workers=workers, gpu=True)
    assert not contents(tmp_path)


def test_an_engine_that_leaves_shards_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_run_locally", lambda worker, queue, threads: queue.finish(2))
    with pytest.raises(GanvasError, match="'local' ended without 5 of 6 shards"):
        run_shards(FileWorker(tmp_path), SHARDS)


@pytest.mark.parametrize("connected", [False, True])
def test_ray_is_not_asked_for_actors_that_no_node_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    calls = []
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    ray = SimpleNamespace(
        cloudpickle=pickle,
        is_initialized=lambda: connected,
        init=lambda **_: calls.append("init"),
        shutdown=lambda: calls.append("shutdown"),
        nodes=lambda: nodes,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    for threads, gpu, message in ((16, False, r"16 CPUs \(at most 8 CPUs\)"), (4, True, "4 CPUs and a GPU")):
        with pytest.raises(GanvasError, match=f"No node of Ray's cluster has what a worker needs, {message}"):
            run_shards(FileWorker(tmp_path), SHARDS, engine="ray", threads=threads, gpu=gpu)
    assert calls == ([] if connected else ["init", "shutdown"] * 2) and not contents(tmp_path)
    monkeypatch.setattr(engines, "_run_actors", lambda ray, payload, queue, *_: [queue.finish(k) for k in SHARDS])
    for threads, gpu in ((8, False), (2, True)):
        run_shards(FileWorker(tmp_path), SHARDS, engine="ray", threads=threads, gpu=gpu)


def test_a_process_that_dies_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_shards(FileWorker(tmp_path, deadly=(1, 2)), SHARDS, engine="processes", workers=2)
    assert {path.name for path in tmp_path.glob("shard-*")} == {f"shard-{k}" for k in SHARDS}
    assert "Shard 1 is tried again: its process ended with code -9." in caplog.text
    with pytest.raises(GanvasError, match=r"Shard 4 failed 3 times: its process ended with code -9\."):
        run_shards(FileWorker(tmp_path, deadly=(4, 99)), {4: 2, 5: 2}, engine="processes", workers=1)


def test_no_shards_need_no_workers(tmp_path: Path) -> None:
    calls = []
    run_shards(FileWorker(tmp_path), {}, engine="processes", progress=lambda *counts: calls.append(counts))
    assert calls == [(0, 0)] and not contents(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "Unknown engine 'spark': pick one of local, processes, ray"),
        ({"engine": "processes", "workers": 0}, "number of workers must be at least 1, not 0"),
        ({"threads": -1}, "number of threads must be at least 1, not -1"),
        ({"workers": 2}, "'local' is one worker, not 2"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(GanvasError, match=message):
        run_shards(FileWorker(tmp_path), SHARDS, **options)
    assert not contents(tmp_path)


def test_a_worker_that_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(GanvasError, match=r"can't be sent to other processes .*: take the engine 'local'"):
        run_shards(lambda shard, advance: None, SHARDS, engine="processes")


def test_threads_are_those_asked_for_and_then_as_before(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), []
    run_shards(lambda shard, advance: seen.append(torch.get_num_threads()), {0: 1}, threads=3)
    assert seen == [3] and torch.get_num_threads() == before
    assert engines.count_workers("local") == 1 and engines.count_workers("processes", 5) == 5
    assert engines.count_workers("processes", threads=10**6) == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Labels made in this process."""
    return label_folder(tmp_path_factory.mktemp("alone"))


def test_processes_make_the_same_labels(tmp_path: Path, alone: dict[str, bytes]) -> None:
    assert label_folder(tmp_path / "processes", engine="processes", workers=2) == alone
    data = load_labels(tmp_path / "processes", Toy())
    assert len(data) == N


def test_labels_are_the_same_when_a_worker_is_killed(tmp_path: Path, alone: dict[str, bytes]) -> None:
    run = LabelRun(Toy(), ToyScorer(), N, out=tmp_path / "killed", keep_images=True, shard_size=SHARD).resume()
    killed = KilledOnce(run.make_shard, 2, tmp_path / "marker")
    run_shards(killed, run.find_missing(), engine="processes", workers=2)
    assert (tmp_path / "marker").exists()
    assert label_folder(tmp_path / "killed") == alone


def test_parts_make_the_same_labels(tmp_path: Path, alone: dict[str, bytes]) -> None:
    run = LabelRun(Toy(), ToyScorer(), N, out=tmp_path / "parts", keep_images=True, shard_size=SHARD).resume()
    calls = []
    for part in ((2, 3), (1, 3)):
        run.make_missing(part, threads=1, progress=lambda *counts: calls.append(counts))
    with pytest.raises(GanvasError, match=r"isn't finished: scores-00006\.safetensors is missing"):
        load_labels(tmp_path / "parts", Toy())
    run.make_missing((3, 3), threads=1)
    assert contents(tmp_path / "parts") == alone
    assert calls[0] == (0, 48) and calls[-1] == (48, 48)
    every = [shard for k in range(1, 8) for shard in run.count_rows((k, 7))]
    assert every == list(run.count_rows()) and sum(run.count_rows().values()) == N
    with pytest.raises(GanvasError, match="from 1/3|one of 1/3 to 3/3, not 4/3"):
        run.count_rows((4, 3))


def test_an_estimate_writes_nothing(tmp_path: Path) -> None:
    toy, scorer, out = Toy(), ToyScorer(), tmp_path / "out"
    run = LabelRun(toy, scorer, N, out=out, keep_images=True, shard_size=SHARD).resume()
    estimate = run.estimate(run.find_missing())
    assert not out.exists()
    assert (estimate.shards, estimate.pictures) == (10, N)
    run.make_missing()
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert estimate.bytes == pytest.approx(size, rel=0.5)
    assert 0 < estimate.hours < 1
    assert str(run.estimate(run.find_missing())).startswith("0 shards of 0 pictures")


def run_command(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_the_command_takes_parts_and_estimates(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["label", "toy", "-n", "100", "--shard-size", "32", "--out", str(tmp_path / "labels")]
    assert run_command([*command, "--dry-run"]) == 0
    assert "4 shards of 100 pictures to make: about 0.0" in capsys.readouterr().out
    assert not (tmp_path / "labels").exists()
    assert run_command([*command, "--part", "2/2"]) == 0
    assert "36 pictures with 5 attributes in" in capsys.readouterr().out
    assert run_command([*command, "--dry-run", "--engine", "processes", "--workers", "3"]) == 0
    assert "2 shards of 64 pictures" in (text := capsys.readouterr().out) and "with 3 workers (an estimate)" in text
    for wrong in ("3/2", "0/2", "half"):
        assert run_command([*command, "--part", wrong]) == 1
        assert f"'{wrong}' isn't a part like 3/64" in capsys.readouterr().err
    assert run_command([*command, "--part", "1/2", "--pack", str(tmp_path / "pack.safetensors")]) == 1
    assert "--pack needs all labels" in capsys.readouterr().err
    assert run_command([*command, "--pack", str(tmp_path / "pack.safetensors")]) == 0
    assert len(load_labels(tmp_path / "pack.safetensors", Toy())) == 100


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def interrupt(command: list[str], folder: Path, pattern: str) -> bytes:
    """Interrupt a command once two files are there, and wait for it and all of its processes; what it said."""
    # A run in a shell's background ignores interrupts, and hands that on.
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and len(list(folder.glob(pattern))) < 2:
        time.sleep(0.01)
    children = children_of(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode not in (0, None)
    assert len(children) >= 2 and not any(map(is_running, children))
    return errors


needs_proc = pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="needs /proc")


@needs_proc
def test_an_interrupt_ends_all_workers(tmp_path: Path) -> None:
    lines = (
        "import sys; from pathlib import Path; from shard_workers import FileWorker; from ganvas.engines import run_shards",
        "worker = FileWorker(Path(sys.argv[1]), seconds=0.1)",
        "run_shards(worker, {k: 2 for k in range(2000)}, engine='processes', workers=2)",
    )
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        errors = interrupt(["-c", "\n".join(lines), str(tmp_path)], tmp_path, "shard-*")
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


@needs_proc
@pytest.mark.slow
def test_an_interrupted_label_command_leaves_whole_shards(tmp_path: Path) -> None:
    out = tmp_path / "labels"
    command = ["-m", "ganvas", "label", "toy", "-n", "100000", "--shard-size", "32", "--keep-images"]
    errors = interrupt([*command, "--engine", "processes", "--workers", "2", "--out", str(out)], out, "scores-*")
    assert b"Traceback" not in errors
    names = {path.name for path in out.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    run = LabelRun(Toy(), ToyScorer(), 100_000, out=out, keep_images=True, shard_size=32).resume()
    whole = {k for k in range(200) if f"scores-{k:05d}.safetensors" in names}
    assert len(whole) >= 2 and not whole & run.find_missing().keys()


def test_a_generator_draws_the_same_after_it_was_sent() -> None:
    generator = load_generator("multimnist")
    copy = pickle.loads(pickle.dumps(generator))
    ws = sample(generator, 2)
    assert torch.equal(copy.synthesis(ws), generator.synthesis(ws)) and copy.fingerprint == generator.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_processes_makes_the_same_labels(tmp_path: Path, workers: int) -> None:
    assert label_folder(tmp_path / "a", engine="processes", workers=workers) == label_folder(tmp_path / "b")


@pytest.fixture(scope="module")
def cluster():
    """Ray's own cluster on this machine, whose workers import what tests import."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ray_makes_the_same_labels(cluster, tmp_path: Path, workers: int) -> None:
    assert label_folder(tmp_path / "a", engine="ray", workers=workers) == label_folder(tmp_path / "b")


@pytest.mark.slow
def test_ray_ends_at_once_where_it_can_not_go_on(cluster, tmp_path: Path) -> None:
    with pytest.raises(GanvasError, match="16 CPUs"):
        run_shards(FileWorker(tmp_path), SHARDS, engine="ray", threads=16)
    with pytest.raises(GanvasError, match=r"^Shard 3 can't be made: attempt 0"):
        run_shards(FileWorker(tmp_path, broken=(3, 9), error=GanvasError), SHARDS, engine="ray", workers=1)


@pytest.mark.slow
def test_ray_tries_again_and_replaces_dead_actors(cluster, tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    run_shards(FileWorker(tmp_path / "dead", broken=(3, 2), deadly=(1, 1)), SHARDS, engine="ray", workers=2)
    assert {path.name for path in (tmp_path / "dead").glob("shard-*")} == {f"shard-{k}" for k in SHARDS}
    with pytest.raises(GanvasError, match=r"Shard 3 failed 3 times: RuntimeError: attempt 2 of two lines"):
        run_shards(FileWorker(tmp_path, broken=(3, 9)), SHARDS, engine="ray", workers=5)  # more than there are cores
    with pytest.raises(GanvasError, match="Shard 1 failed 1 times: its actor died"):
        run_shards(FileWorker(tmp_path, deadly=(1, 9)), SHARDS, engine="ray", workers=2, retries=0)
    label_folder(tmp_path / "alone")
    run = LabelRun(Toy(), ToyScorer(), N, out=tmp_path / "killed", keep_images=True, shard_size=SHARD).resume()
    run_shards(KilledOnce(run.make_shard, 2, tmp_path / "marker"), run.find_missing(), engine="ray", workers=2)
    assert label_folder(tmp_path / "killed") == contents(tmp_path / "alone")
