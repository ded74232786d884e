"""Engines make the missing shards of a store with one worker function: in this process, in several processes, or on Ray.

A worker writes its shard to the store itself; between processes go the worker (pickled once), numbers of shards, counts
of rows and messages of failures. A shard that fails is tried again, and a process or actor that dies is replaced.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from ganvas.errors import GanvasError, unknown
from ganvas.progress import Progress

ENGINES = ("local", "processes", "ray")
"""Where workers run: in this process, in processes of this machine, or as actors of Ray."""
RETRIES = 2
"""How often a shard that failed is tried again."""
STOP_SECONDS = 5.0
"""How long a process may take to end before it is killed."""
Worker = Callable[[int, Callable[[int], object]], object]
"""Makes the shard of a number and writes it; calls back with how many more rows are done."""


def run_shards(
    worker: Worker,
    missing: Mapping[int, int],
    *,
    engine: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    gpu: bool = False,
    retries: int = RETRIES,
    progress: Progress | None = None,
) -> None:
    """Make shards with a worker function.

    Args:
        worker: The worker, which other engines than "local" pickle.
        missing: The shards to make, by number, and how many rows each has.
        engine: "local" (this process), "processes" (of this machine) or "ray" (the cluster that Ray is connected to, else one
            on this machine).
        workers: The number of processes or actors; by default one a GPU, or as many as the cores allow.
        threads: The threads of each worker; by default 1, and for "local" as many as this process has.
        gpu: Whether each worker takes a GPU of its own.
        retries: How often a shard that failed is tried again.
        progress: Is called with the rows that are done and the rows of all missing shards.

    Raises:
        GanvasError: An option is out of range, a package, a GPU or CPUs are missing, or a shard failed too often, or once by a
            GanvasError (it is named).
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise GanvasError(f"The number of {name} must be at least 1, not {value}.")
    if engine == "local" and (workers or 1) > 1:
        raise GanvasError(f"The engine 'local' is one worker, not {workers}: take 'processes' or 'ray'.")
    queue = _ShardQueue(missing, retries, progress)
    if not missing:
        return
    if engine == "local":
        _run_locally(worker, queue, threads)
    else:
        run = {"processes": _run_processes, "ray": _run_on_ray}[engine]
        run(worker, queue, workers, threads or 1, gpu)
    if queue.unfinished:
        raise GanvasError(
            f"The engine {engine!r} ended without {len(queue.unfinished)} of {len(missing)} shards: try again."
        )


def count_workers(engine: str, workers: int | None = None, threads: int | None = None, gpu: bool = False) -> int:
    """Count the workers of a run on this machine: ``workers``, by default one a GPU, or as many as the cores allow."""
    if workers is not None or engine == "local":
        return workers or 1
    return len(_list_gpus()) if gpu else max(1, _count_cores() // (threads or 1))


@contextmanager
def use_threads(threads: int | None) -> Iterator[None]:
    """Let PyTorch compute in so many threads within the block; None leaves them as they are."""
    import torch

    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads or threads_before)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)


class _ShardQueue:
    """The shards that wait, how often each failed, and how many rows are done."""

    def __init__(self, missing: Mapping[int, int], retries: int, progress: Progress | None) -> None:
        self.rows, self.waiting, self.retries, self.progress = dict(missing), deque(missing), retries, progress
        self.failures, self.unfinished = Counter[int](), set(missing)
        self.done, self.total = 0, sum(missing.values())
        self.partly_done = Counter[int]()
        self._report()

    def take(self) -> int | None:
        """Take the next shard; None where none waits."""
        return self.waiting.popleft() if self.waiting else None

    def advance(self, shard: int, rows: int) -> None:
        self.partly_done[shard] += rows
        self._report()

    def finish(self, shard: int) -> None:
        self.partly_done.pop(shard, None)
        self.unfinished.discard(shard)
        self.done += self.rows[shard]
        self._report()

    def fail(self, shard: int, reason: str, error: BaseException | None = None, is_final: bool = False) -> None:
        """Let a shard wait once more. Raises GanvasError where it has failed too often, or would fail again."""
        self.partly_done.pop(shard, None)
        self.failures[shard] += 1
        summary, _, details = reason.partition("\n")
        if is_final or self.failures[shard] > self.retries:
            what = "can't be made" if is_final else f"failed {self.failures[shard]} times"
            failure = GanvasError(f"Shard {shard} {what}: {summary}")
            if details:
                failure.add_note(details)
            raise failure from error
        logging.getLogger(__name__).warning("Shard %d is tried again: %s", shard, summary)
        self.waiting.append(shard)

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.done + self.partly_done.total(), self.total)


class _ShardRunner:
    """The worker in a process of its own; also the class of Ray's actors."""

    def __init__(self, payload: bytes, threads: int) -> None:
        self.payload, self.threads, self.worker = payload, threads, None
        os.environ["OMP_NUM_THREADS"] = str(threads)  # PyTorch reads it when it is imported

    def check(self) -> None:
        """Do nothing: an actor that answers has been started."""

    def run(self, shard: int, advance: Callable[[int], object] = lambda rows: None) -> tuple[str, bool]:
        """Make a shard; return the reason of its failure (a line, then the traceback; "" for none), and whether it is final."""
        try:
            if self.worker is None:
                self.worker = pickle.loads(self.payload)  # from the process that started this one, by no file
                if "torch" in sys.modules:  # which takes seconds to import, and not every worker needs
                    sys.modules["torch"].set_num_threads(self.threads)
            self.worker(shard, advance)
        except Exception as error:
            return f"{_describe_error(error)}\n{traceback.format_exc()}", _is_final(error)
        return "", False


def _is_final(error: BaseException) -> bool:
    """Return whether a worker would fail again: bad input stays bad, but a store that can't be reached (OSError) may return."""
    return isinstance(error, GanvasError) and not isinstance(error, OSError)


def _describe_error(error: BaseException) -> str:
    text = " ".join(str(error).splitlines())
    return text if isinstance(error, GanvasError) else f"{type(error).__name__}: {text}"


def _pickle_worker(worker: Worker, dumps: Callable[[Any], bytes]) -> bytes:
    try:
        return dumps(worker)
    except Exception as error:  # pickle passes on whatever the object's own methods raise
        raise GanvasError(
            f"The worker can't be sent to other processes ({_describe_error(error)}): take the engine 'local'."
        ) from error


def _run_locally(worker: Worker, queue: _ShardQueue, threads: int | None) -> None:
    with use_threads(threads):
        while (shard := queue.take()) is not None:
            try:
                worker(shard, partial(queue.advance, shard))
            except Exception as error:
                queue.fail(shard, _describe_error(error), error, _is_final(error))
            else:
                queue.finish(shard)


def _run_processes(worker: Worker, queue: _ShardQueue, workers: int | None, threads: int, gpu: bool) -> None:
    payload = _pickle_worker(worker, pickle.dumps)
    context = get_context("spawn")  # a fork of a process with threads or a GPU may hang
    gpus = _list_gpus() if gpu else []
    workers = count_workers("processes", workers, threads, gpu)
    processes: dict[Connection, tuple[Any, int, int]] = {}  # the process, its slot, its shard
    started: list[Any] = []

    def start(slot: int) -> None:
        """Start a process for the next shard in a slot; do nothing where no shard is left."""
        shard = queue.take()
        if shard is None:
            return
        connection, child_connection = context.Pipe()
        device = gpus[slot % len(gpus)] if gpus else None
        process = context.Process(target=_serve_shards, args=(child_connection, threads, device), daemon=True)
        process.start()
        child_connection.close()  # so that the connection ends with the process
        started.append(process)
        processes[connection] = (process, slot, shard)
        with suppress(OSError):  # of a process that is dead already: its connection says so
            connection.send_bytes(payload)
            connection.send(shard)

    try:
        for slot in range(min(workers, len(queue.waiting))):
            start(slot)
        while processes:
            ready = wait(list(processes))
            for connection in [each for each in processes if each in ready]:
                process, slot, shard = processes[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    del processes[connection]
                    process.join()
                    queue.fail(shard, f"its process ended with code {process.exitcode}.")
                    start(slot)
                    continue
                if isinstance(message, int):
                    queue.advance(shard, message)
                    continue
                reason, is_final = message
                if reason:
                    queue.fail(shard, reason, is_final=is_final)
                else:
                    queue.finish(shard)
                shard = queue.take()
                if shard is None:
                    del processes[connection]
                else:
                    processes[connection] = (process, slot, shard)
                with suppress(OSError):
                    connection.send(shard)
    finally:
        _end_processes(started)


def _end_processes(processes: list[Any]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(STOP_SECONDS)
        process.kill()
        process.join()


def _serve_shards(connection: Connection, threads: int, gpu: str | None) -> None:
    """Make the shards that a connection names, until it names none or closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary files are deleted on the way out
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        runner = _ShardRunner(connection.recv_bytes(), threads)
        while (shard := connection.recv()) is not None:
            connection.send(runner.run(shard, connection.send))
    except (EOFError, OSError):
        return  # the other end is gone


def _count_cores() -> int:
    # Not on every system may a process ask which cores it is allowed.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _list_gpus() -> list[str]:
    import torch

    visible, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    if not count:
        raise GanvasError("PyTorch finds no GPU on this machine: give the device cpu.")
    return visible.split(",") if visible else [str(i) for i in range(count)]


def _check_nodes(nodes: list[dict[str, Any]], threads: int, gpu: bool) -> None:
    """Check that a node of Ray's cluster can hold an actor, for which Ray would wait for ever."""
    needs = {"CPU": threads, "GPU": int(gpu)}
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(all(node.get(name, 0) >= count for name, count in needs.items()) for node in alive):
        max_cpus = max((int(node.get("CPU", 0)) for node in alive), default=0)
        needed = f"{threads} CPUs and a GPU" if gpu else f"{threads} CPUs"
        raise GanvasError(
            f"No node of Ray's cluster has what a worker needs, {needed} (at most {max_cpus} CPUs): "
            "take fewer threads or another device."
        )


def _run_on_ray(worker: Worker, queue: _ShardQueue, workers: int | None, threads: int, gpu: bool) -> None:
    try:
        import ray
    except ImportError:
        raise GanvasError("The engine 'ray' needs a package: pip install 'ganvas[ray]'.") from None
    dumps = ray.cloudpickle.dumps  # pyright: ignore[reportAttributeAccessIssue]
    payload = _pickle_worker(worker, dumps)  # classes of the user's own script, too
    starts_ray = not ray.is_initialized()
    if starts_ray:
        ray.init(log_to_driver=False)
    try:
        _check_nodes(ray.nodes(), threads, gpu)
        _run_actors(ray, payload, queue, workers, threads, gpu)
    finally:
        if starts_ray:
            ray.shutdown()


def _run_actors(ray: Any, payload: bytes, queue: _ShardQueue, workers: int | None, threads: int, gpu: bool) -> None:
    resources = ray.cluster_resources()
    workers = workers or max(1, int(resources.get("GPU", 0) if gpu else resources.get("CPU", 0) // threads))
    actor_class = ray.remote(_ShardRunner).options(num_cpus=threads, num_gpus=int(gpu))
    stored = ray.put(payload)
    running: dict[Any, tuple[Any, int | None]] = {}  # the result -> the actor and its shard, None while it starts
    lost_starts = 0

    def start() -> None:
        actor = actor_class.remote(stored, threads)
        running[actor.check.remote()] = (actor, None)

    try:
        for _ in range(min(workers, len(queue.waiting))):
            start()
        while queue.unfinished:
            done, _ = ray.wait(list(running))
            actor, shard = running.pop(done[0])
            try:
                message = ray.get(done[0])
            except ray.exceptions.RayError as error:
                if shard is not None:
                    queue.fail(shard, f"its actor died ({type(error).__name__}).")
                elif (lost_starts := lost_starts + 1) > queue.retries * workers:
                    raise GanvasError(f"Ray's actors don't start: {_describe_error(error)[:500]}") from error
                start()
                continue
            if shard is not None and message[0]:
                queue.fail(shard, message[0], is_final=message[1])
            elif shard is not None:
                queue.finish(shard)
            shard = queue.take()
            if shard is not None:
                running[actor.run.remote(shard)] = (actor, shard)
    finally:
        for actor, _ in running.values():
            ray.kill(actor)
