"""Workers that other processes import: they write small files, and fail or die when they are asked to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ganvas.errors import GanvasError


class UnreachableStore(GanvasError, OSError):
    """As of a store at a URL."""


@dataclass(frozen=True)
class FileWorker:
    """Writes the number of its shard; the attempts that ``broken`` counts for a shard raise, those of ``deadly`` die."""

    folder: Path
    broken: tuple[int, int] = (-1, 0)
    deadly: tuple[int, int] = (-1, 0)
    seconds: float = 0.0
    error: type[Exception] = RuntimeError

    def __call__(self, shard: int, advance: Callable[[int], object]) -> str:
        attempt = len(list(self.folder.glob(f"attempt-{shard}-*")))
        (self.folder / f"attempt-{shard}-{attempt}").touch()
        advance(1)
        time.sleep(self.seconds)
        if shard == self.deadly[0] and attempt < self.deadly[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if shard == self.broken[0] and attempt < self.broken[1]:
            raise self.error(f"attempt {attempt}\nof two lines")
        advance(1)
        (self.folder / f"shard-{shard}").write_text(str(shard))
        return f"shard-{shard}"


@dataclass(frozen=True)
class KilledOnce:
    """Another worker; the process of the first one that has made some of ``shard`` is killed."""

    worker: Callable[[int, Callable[[int], object]], object]
    shard: int
    marker: Path

    def __call__(self, shard: int, advance: Callable[[int], object]) -> object:
        def advance_or_die(rows: int) -> None:
            if shard == self.shard and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            advance(rows)

        return self.worker(shard, advance_or_die)
