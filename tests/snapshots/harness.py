"""Snapshots of behaviour: what a case gives is compared with what was recorded, each value at its own tolerance.

Tolerances stand in the cases, what was recorded under ``data/``. Nothing here knows ganvas: ``cases.py`` does.

Tolerances, and why:

- ``SAME``, 1e-5 of the recorded range: codes. It is what is promised between processors and numbers of threads.
- ``CLOSED``, 1e-3, and ``TRAINED``, 1e-2, of the recorded norm: what comes out of a fit. A closed form amplifies rounding by the
  condition of its matrix, a training at every step.
- 1e-4 of the range, a fortieth of a level of 255: pictures, readings and scores, for which processors sum in another order.
- a level of 255: pictures in files, which are rounded.
- of texts: words and whole numbers exactly, other numbers at a relative and an absolute tolerance of the case.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"
SAVED = Path(__file__).parent / "saved"
SAME, CLOSED, TRAINED = 1e-5, 1e-3, 1e-2


@dataclass(frozen=True)
class Exact:
    """A JSON value that must be the same."""

    value: Any

    def differences(self, recorded: Any) -> Iterator[str]:
        if (found := json.loads(json.dumps(self.value))) != recorded:
            yield f"{found!r} instead of {recorded!r}"


@dataclass(frozen=True)
class Near:
    """Numbers, none of them farther from the recorded ones than ``tolerance`` of these's range."""

    values: Any
    tolerance: float = SAME

    def differences(self, recorded: np.ndarray) -> Iterator[str]:
        values = as_array(self.values)
        if values.shape != recorded.shape:
            yield f"shape {values.shape} instead of {recorded.shape}"
            return
        span = float(np.ptp(recorded)) or float(np.abs(recorded).max()) or 1.0
        away = float(np.abs(values.astype(np.float64) - recorded).max()) / span
        if not away <= self.tolerance:
            yield f"{away:.2g} of the range away, {self.tolerance:g} at most"


@dataclass(frozen=True)
class Alike:
    """Rows of numbers, each no farther from the recorded one than ``tolerance`` of that one's norm."""

    values: Any
    tolerance: float = TRAINED

    def differences(self, recorded: np.ndarray) -> Iterator[str]:
        values = as_array(self.values)
        if values.shape != recorded.shape:
            yield f"shape {values.shape} instead of {recorded.shape}"
            return
        flat, wanted = (a.reshape(len(a), -1).astype(np.float64) for a in (values, recorded))
        away = np.linalg.norm(flat - wanted, axis=1) / np.maximum(np.linalg.norm(wanted, axis=1), 1e-12)
        if not (away <= self.tolerance).all():
            yield f"{away.max():.2g} of the norm away, {self.tolerance:g} at most"


@dataclass(frozen=True)
class Pixels:
    """Pixels from 0 to 255: no pixel farther away than ``levels``, on average no farther than ``mean``."""

    values: Any
    levels: float = 1.0
    mean: float = 0.05

    def differences(self, recorded: np.ndarray) -> Iterator[str]:
        values = as_array(self.values)
        if values.shape != recorded.shape:
            yield f"shape {values.shape} instead of {recorded.shape}"
            return
        away = np.abs(values.astype(np.float64) - recorded)
        if away.max() > self.levels + 1e-3 or away.mean() > self.mean:
            yield (
                f"{away.max():.2f} levels away ({self.levels:g} at most),"
                f" {away.mean():.3f} on average ({self.mean:g} at most)"
            )


@dataclass(frozen=True)
class Text:
    """A text whose times and paths are masked; where ``trained``, so are hashes, and whole numbers are near, too."""

    text: str
    relative: float = 1e-3
    absolute: float = 2e-3
    trained: bool = False

    def differences(self, recorded: str) -> Iterator[str]:
        mine, theirs = (
            [mask(line, self.trained) for line in text.strip().splitlines()] for text in (self.text, recorded)
        )
        if len(mine) != len(theirs):
            yield f"{len(mine)} lines instead of {len(theirs)}:\n{self.text}"
            return
        for found, wanted in zip(mine, theirs, strict=True):
            if not self._same(found, wanted):
                yield f"{found!r} instead of {wanted!r}"

    def _same(self, found: str, wanted: str) -> bool:
        mine, theirs = NUMBER.split(found), NUMBER.split(wanted)
        if len(mine) != len(theirs) or mine[::2] != theirs[::2]:
            return False
        return all(self._near(a, b) for a, b in zip(mine[1::2], theirs[1::2], strict=True))

    def _near(self, a: str, b: str) -> bool:
        x, y = (float(text.replace(",", "")) for text in (a, b))
        if not self.trained and a.lstrip("-").isdigit() and b.lstrip("-").isdigit():
            return x == y
        digit = 1.01 * 10.0 ** -min(len(text.partition(".")[2]) for text in (a, b))  # as rounded for people
        return abs(x - y) <= max(self.absolute + self.relative * abs(y), digit * ("." in a and "." in b))


Value = Exact | Near | Alike | Pixels | Text
NUMBER = re.compile(r"((?<![A-Za-z0-9_.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?![A-Za-z0-9_]))")
MASKS = (
    (re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+"), "<path>/"),
    (re.compile(r"Computes with torch .*"), "Computes with torch <build>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"(images_per_second\"?:? )[\d.]+"), r"\1<rate>"),
    (re.compile(r"(?:about )?[\d.]+ (?:seconds?|minutes?|ms|s)\b(?! per)"), "<time>"),
    (re.compile(r"[\d.]+ a second"), "<rate>"),
    (re.compile(r"\s+"), " "),
)
PASSING = re.compile(r"Triggered internally|no instructions for bfloat16|^[A-Z][\w ]*: [\d,]+ of [\d,]+")
HASH = re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{12,64}\b")


def mask(line: str, trained: bool) -> str:
    """A line without what differs from run to run."""
    for pattern, word in MASKS:
        line = pattern.sub(word, line)
    return HASH.sub("<hash>", line).strip() if trained else line.strip()


def as_array(values: Any) -> np.ndarray:
    """Tensors and arrays alike; float64 as float32."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    return array.astype(np.float32) if array.dtype == np.float64 else array


# Cases.


@dataclass(frozen=True)
class Case:
    """``make`` is given an empty folder, the working folder meanwhile. ``needs``: modules, or "ffhq" for its weights."""

    name: str
    make: Callable[[Path], Mapping[str, Value]]
    slow: bool = False
    needs: tuple[str, ...] = ()


CASES: dict[str, Case] = {}


def snapshot(name: str, slow: bool = False, needs: Iterable[str] = ()) -> Callable[[Callable], Callable]:
    """Register a case."""

    def register(make: Callable[[Path], Mapping[str, Value]]) -> Callable:
        assert name not in CASES, name
        CASES[name] = Case(name, make, slow, tuple(needs))
        return make

    return register


def chosen(patterns: Iterable[str]) -> list[Case]:
    """The cases whose names match one of the patterns, like ``cli/*``; without a pattern all."""
    patterns = list(patterns) or ["*"]
    return [case for case in CASES.values() if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]


def files_of(name: str) -> tuple[Path, Path]:
    """Where a snapshot's texts and arrays lie."""
    return DATA / f"{name}.json", DATA / f"{name}.npz"


def record(case: Case, values: Mapping[str, Value]) -> None:
    """Write what a case gives as what it must give from now on."""
    texts, arrays = files_of(case.name)
    texts.parent.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {}
    numbers: dict[str, np.ndarray] = {}
    for key, value in values.items():
        if isinstance(value, Exact):
            plain[key] = value.value
        elif isinstance(value, Text):
            plain[key] = "\n".join(mask(line, False) for line in value.text.splitlines())
        else:
            numbers[key] = as_array(value.values)
    for path in (texts, arrays):
        path.unlink(missing_ok=True)
    if plain:
        texts.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if numbers:
        np.savez_compressed(arrays, **numbers)  # type: ignore[arg-type]


def compare(case: Case, values: Mapping[str, Value]) -> list[str]:
    """A line for each difference between what a case gives and what was recorded."""
    texts, arrays = files_of(case.name)
    recorded: dict[str, Any] = json.loads(texts.read_text(encoding="utf-8")) if texts.exists() else {}
    if arrays.exists():
        with np.load(arrays) as file:
            recorded |= dict(file)
    if not recorded:
        return [f"{case.name} was never recorded: python tests/snapshots/record.py {case.name}"]
    lines = [f"{key}: nothing instead of what was recorded" for key in recorded.keys() - values.keys()]
    lines += [f"{key}: wasn't there when this was recorded" for key in values.keys() - recorded.keys()]
    for key, value in values.items():
        if key in recorded:
            lines += [f"{key}: {line}" for line in value.differences(recorded[key])]
    return lines


# Files.


def shrunken(picture: np.ndarray, most: int = 48) -> np.ndarray:
    """A picture (height, width, channels) as means of equal blocks, so that no side is longer than about ``most``."""
    step = max(1, -(-max(picture.shape[:2]) // most))
    height, width = (side // step * step for side in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // step, step, width // step, step, -1)
    return blocks.astype(np.float64).mean((1, 3)).astype(np.float32 if step > 1 else picture.dtype)


def frames_of(path: Path) -> np.ndarray:
    """The pixels of a picture or of an animation's frames, shrunken, (frames, height, width, 3)."""
    from PIL import Image, ImageSequence

    with Image.open(path) as file:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
    return np.stack([shrunken(frame) for frame in frames])


def names_in(folder: Path) -> set[str]:
    """All files in a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


OF_THE_RUN = {"command", "ganvas", "machine", "made", "seconds", "sources", "versions"}
"""Keys of JSON files that say when, where and with what they were made."""


def plain_json(path: Path) -> str:
    """A JSON file without what differs from run to run."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items() if key not in OF_THE_RUN}
        return [cut(item) for item in value] if isinstance(value, list) else value

    return json.dumps(cut(json.loads(path.read_text(encoding="utf-8"))), indent=1)


def outline(path: Path) -> Any:
    """What kinds of tensors a safetensors file holds, and what keys its header has."""
    size = int.from_bytes(path.read_bytes()[:8], "little")
    head = json.loads(path.read_bytes()[8 : 8 + size])
    about = sorted(head.pop("__metadata__", {}))
    return {"about": about, **{key: [value["dtype"], value["shape"]] for key, value in sorted(head.items())}}


# Commands.


class Captured(io.StringIO):
    """Standard output of a command, no terminal."""

    def isatty(self) -> bool:
        return False


def run_command(main: Callable[[list[str]], None], arguments: Iterable[object]) -> tuple[int, str, str]:
    """Exit code, standard output and errors of a command, run in this process."""
    import contextlib

    out, errors = Captured(), Captured()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    # Some warnings of torch come once a process, others with a processor; how far work is stands there on a slow machine only.
    told = [line for line in errors.getvalue().splitlines(True) if not PASSING.search(line)]
    return code, out.getvalue(), "".join(told)


if __name__ == "__main__":
    sys.exit("This is a library: record.py records snapshots.")
