"""What engines cost: the time of 64 shards of 2 s on two one-thread workers, over the ideal time, the engine's start apart.

    python benchmarks/engines.py [--engine processes] [--engine ray] [--spin] [--shards 64] [--seconds 2] [--workers 2]

A worker sleeps, or with --spin computes, for the time of a shard. The clock starts when every worker has begun its first shard.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ganvas.engines import run_shards

MAX_OVERHEAD = 0.03


@dataclass(frozen=True)
class TimedWorker:
    """Takes ``seconds`` for a shard, and writes when it began and ended as a file."""

    folder: Path
    seconds: float
    spin: bool

    def __call__(self, shard: int, advance: Callable[[int], object]) -> str:
        began = time.time()
        if self.spin:
            end = time.process_time() + self.seconds  # processor time: what else the machine does isn't the engine's
            while time.process_time() < end:
                math.sqrt(2.0)
        else:
            time.sleep(self.seconds)
        advance(1)
        path = self.folder / f"shard-{shard}"
        path.write_text(f"{os.getpid()} {began!r} {time.time()!r}")
        return path.name


def measure_overhead(engine: str, shards: int, seconds: float, workers: int, spin: bool) -> float:
    """Run shards and return the time over the ideal time, less 1."""
    with tempfile.TemporaryDirectory() as folder:
        worker = TimedWorker(Path(folder), seconds, spin)
        run_shards(worker, dict.fromkeys(range(shards), 1), engine=engine, workers=workers, threads=1)
        rows = [path.read_text().split() for path in Path(folder).iterdir()]
    spans: dict[str, list[tuple[float, float]]] = {}
    for process, began, ended in rows:
        spans.setdefault(process, []).append((float(began), float(ended)))
    # Each worker from its own first shard on: how long it was at work for each shard it made.
    taken = sum(max(ended for _, ended in span) - min(began for began, _ in span) for span in spans.values())
    ideal = sum(sum(ended - began for began, ended in span) for span in spans.values()) if spin else shards * seconds
    return taken / ideal - 1


def main() -> None:
    """Print the overhead of each engine; exit with 1 where one takes more than is aimed at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=("processes", "ray"))
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spin", action="store_true", help="compute instead of sleeping")
    options = parser.parse_args()
    failed = False
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # for Ray's workers
    for engine in options.engine or ("processes", "ray"):
        overhead = measure_overhead(engine, options.shards, options.seconds, options.workers, options.spin)
        print(
            f"{engine}: {options.shards} shards of {options.seconds:g} s on {options.workers} workers took "
            f"{1 + overhead:.4f} of the ideal time (at most {1 + MAX_OVERHEAD} is aimed at)",
            flush=True,
        )
        failed |= overhead > MAX_OVERHEAD
    sys.exit(failed)


if __name__ == "__main__":
    main()
