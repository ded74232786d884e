"""Change the library's code at random places, one at a time, and count how many changes the tests notice.

    python tests/code_mutants.py                 200 mutants, resumable; hours
    python tests/code_mutants.py -n 20 --seed 1 --seconds 120
    python tests/code_mutants.py --workers 2     two processes at once, each with a copy of the checkout

Operators are cosmic-ray's (https://cosmic-ray.readthedocs.io); everything happens on a copy of the checkout. First all test
files that import of the packages run once, each in a process of its own, which records the lines that each test executes. A
mutant is then tried until a test fails: first by the tests that execute the changed statement, those of the quickest file
first, then by the others of their files, which may share what was made by it. A test that executes it in another process only
isn't asked. With --seconds no mutant is tried for longer, and one that isn't caught by then counts as survived. Results are in
out/mutants/results.jsonl: what caught a mutant, and the diffs of survivors.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from difflib import unified_diff
from functools import cache
from hashlib import sha256
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec
from coverage import Coverage

ROOT = Path(__file__).parent.parent
PACKAGES = ("checkpoints", "control", "data", "editors")
SHARED_IMPORTS = (
    "torch._dynamo torch.utils.data scipy.stats sklearn.linear_model pandas pyarrow.parquet matplotlib.pyplot transformers "
    "zuko onnxruntime gradio jaxtyping beartype typer rich.console PIL.Image safetensors.torch pydantic jinja2"
).split()
"""What tests import besides the library itself: imported once, before the processes of the tests are forked."""
SPARE_SECONDS = 60
SLOWER = 5
"""A test has ``SPARE_SECONDS`` and so many times what its file took unchanged; a longer one, as in an endless loop, fails."""
MEMORY_BYTES = 16 << 30
"""Address space of a process of tests."""
TIME_IS_OVER = "time is over"
AIM = 0.85


def copy_checkout(target: Path) -> None:
    """Copy the tracked files, so that the checkout itself stays as it is."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_pytest(arguments: list[str], plugin: object, log: Path) -> int:
    """Run pytest in a forked process with a process group of its own; return its exit status, negative for a signal."""
    process = os.fork()
    if not process:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Processes that tests start would import this script as the main module.
        sys.modules["__main__"] = importlib.import_module("pytest.__main__")
        status = 1
        try:
            options = ["-p", "no:xdist", "-p", "no:cacheprovider", "--tb=line"]
            status = int(pytest.main([*options, *arguments], plugins=[plugin]))
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(process, 0)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # the servers that its tests started
    return os.waitstatus_to_exitcode(status)


class LineRecorder:
    """Writes down which lines of the packages each test of a file executes, how long they took, and which tests fail."""

    def __init__(self, out: Path, digest: str) -> None:
        self.out, self.digest = out, digest
        self.tests: list[str] = []
        self.failed: set[str] = set()

    def pytest_configure(self) -> None:
        self.begin = time.monotonic()
        include = [f"src/ganvas/{package}/*" for package in PACKAGES]
        self.coverage = Coverage(data_file=None, include=include, config_file=False, messages=False)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(str(len(self.tests)))
        self.tests.append(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        data, lines = self.coverage.get_data(), {}
        for name in data.measured_files():
            # Lines that run while tests are collected have no number.
            found = {n: sorted(int(c) for c in contexts if c) for n, contexts in data.contexts_by_lineno(name).items()}
            lines[os.path.relpath(name)] = found
        record = {"digest": self.digest, "seconds": time.monotonic() - self.begin, "tests": self.tests, "lines": lines}
        self.out.write_text(json.dumps(record | {"failed": sorted(self.failed)}))


class MutantTrial:
    """Runs first the tests that execute a mutant's statement, leaves out those that fail unchanged, limits each one's time."""

    def __init__(self, files: dict[str, set[str]], left_out: set[str], limit: int, seconds: float, out: Path) -> None:
        self.files, self.left_out, self.limit, self.out = files, left_out, limit, out
        self.end = time.monotonic() + seconds

    def pytest_configure(self) -> None:
        signal.alarm(self.limit)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.left_out]
        order = {name: i for i, name in enumerate(self.files)}
        items.sort(key=lambda item: self._rank_test(item.nodeid, order))

    def _rank_test(self, name: str, order: dict[str, int]) -> tuple[bool, int]:
        file = name.partition("::")[0]
        return name not in self.files[file], order[file]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        signal.alarm(self.limit)
        if time.monotonic() > self.end:
            self.out.write_text(TIME_IS_OVER)
            pytest.exit("The mutant's time is over.", 0)
        self.out.write_text(item.nodeid)


class Queue:
    """Numbers that workers take one at a time."""

    def __init__(self) -> None:
        self.next = multiprocessing.get_context("fork").Value("i", 0)

    def take(self, size: int) -> Iterator[int]:
        """Yield numbers below ``size`` that no other worker was given."""
        while True:
            with self.next.get_lock():
                number = self.next.value
                self.next.value += 1
            if number >= size:
                return
            yield number


def list_test_files() -> list[Path]:
    """List the test files that import of the packages."""
    names = "|".join(PACKAGES)
    pattern = re.compile(rf"ganvas\.({names})\b|from ganvas import .*\b({names})\b")
    return [p for p in sorted(Path("tests").glob("test_*.py")) if pattern.search(p.read_text(encoding="utf-8"))]


def record_tests(out: Path, queue: Queue) -> None:
    """Run the test files that the queue gives unchanged, if not yet recorded, and write down what they execute."""
    sources = b"".join(path.read_bytes() for path in sorted(Path("src").rglob("*.py")))
    paths = list_test_files()
    for i in queue.take(len(paths)):
        path = paths[i]
        digest = sha256(sources + path.read_bytes()).hexdigest()
        file = out / f"{path.stem}.json"
        if not file.exists() or json.loads(file.read_text())["digest"] != digest:
            print(f"Recording {path}", flush=True)
            status = run_pytest([str(path)], LineRecorder(file, digest), file.with_suffix(".log"))
            if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
                raise SystemExit(f"{path} can't be run unchanged: see {file.with_suffix('.log')}")
        if failed := json.loads(file.read_text())["failed"]:
            print(f"Fail unchanged, so left out: {failed}", flush=True)


def list_mutants(out: Path) -> list[MutationSpec]:
    """List all mutants of the packages, without those in annotations, which nothing evaluates; ``out`` keeps the list."""
    paths = [path for package in PACKAGES for path in sorted(Path("src/ganvas", package).rglob("*.py"))]
    digest = sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:8]
    database = WorkDB(out / f"mutants-{digest}.sqlite", WorkDB.Mode.create)
    if not database.num_work_items:
        init(paths, database, {})
    mutants = [mutant for item in database.work_items for mutant in item.mutations]
    database.close()
    spans = {path: list(_find_annotations(path)) for path in paths}
    kept = [m for m in mutants if not any(a <= m.start_pos < b for a, b in spans[m.module_path])]
    return sorted(kept, key=_name_mutant)


def _find_annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations begin and end, as (line, column)."""
    found = []
    for node in ast.walk(_parse_module(path)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                found.append(((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)))
    return found


@cache
def _parse_module(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name_mutant(mutant: MutationSpec) -> str:
    digest = sha256(mutant.module_path.read_bytes()).hexdigest()[:8]
    line, column = mutant.start_pos
    return f"{mutant.module_path}:{line}:{column}:{mutant.operator_name}:{mutant.occurrence}:{digest}"


def find_lines(path: Path, line: int) -> set[int] | None:
    """Return the lines of the statement (of a compound one, its head) around a line; None where importing executes it."""
    inside, lines = False, {line}
    for node in ast.walk(_parse_module(path)):
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or 0
        if line <= last:
            lines = set(range(node.lineno, max(node.lineno, last) + 1))
        elif isinstance(node, ast.FunctionDef):
            inside = True
    return lines if inside else None


def select_tests(mutant: MutationSpec, recorded: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return the tests that execute a mutant's statement, by file, the quickest file first."""
    path = str(mutant.module_path)
    lines = find_lines(mutant.module_path, mutant.start_pos[0])
    selected = {}
    for file, record in sorted(recorded.items(), key=lambda each: each[1]["seconds"]):
        executed = record["lines"].get(path, {})
        # What importing executes concerns every test that executes anything of the module.
        hit = [numbers for n, numbers in executed.items() if lines is None or int(n) in lines]
        tests = {record["tests"][i] for numbers in hit for i in numbers}
        if hit and (tests or lines is not None):
            selected[file] = tests
    return selected


def try_mutant(
    mutant: MutationSpec, recorded: dict[str, dict[str, Any]], folder: Path, limit_seconds: float
) -> dict[str, object]:
    """Return what became of a mutant."""
    begin, files, path = time.monotonic(), select_tests(mutant, recorded), mutant.module_path
    current, survived = folder / "current", True
    current.write_text("import")
    operator = get_operator(mutant.operator_name)(**mutant.operator_args)
    times = path.stat()
    with use_mutation(path, operator, mutant.occurrence) as (before, after):
        # Bytecode is kept by a file's time: that of the unchanged file isn't used.
        os.utime(path, (times.st_atime, times.st_mtime - 1))
        if files:
            left_out = {name for file in files for name in recorded[file]["failed"]}
            limit = SPARE_SECONDS + SLOWER * max(recorded[file]["seconds"] for file in files)
            trial = MutantTrial(files, left_out, int(min(limit, limit_seconds)), limit_seconds, current)
            status = run_pytest(["-x", *files], trial, folder / "log")
            survived = status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
            survived |= current.read_text() == TIME_IS_OVER or (status == -signal.SIGALRM and limit_seconds < limit)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    diff = unified_diff(before.splitlines(), (after or before).splitlines(), str(path), str(path), lineterm="")
    result: dict[str, object] = {"mutant": _name_mutant(mutant), "survived": survived}
    result["seconds"] = round(time.monotonic() - begin, 1)
    if survived:
        return result | {"files": len(files), "diff": "\n".join(diff)}
    return result | {"caught_by": current.read_text()}


def work(
    mutants: list[MutationSpec], out: Path, limit_seconds: float, files: Queue, trials: Queue, all_recorded: Barrier
) -> None:
    """Record tests, then try mutants, as the queues give them, on a copy of the checkout; append to ``out``/results.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(Path(folder, "src"))
        # The bytecode of unchanged files is kept, that of mutants never.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False
        sys.path.insert(0, os.environ["PYTHONPATH"])
        try:
            record_tests(out / "tests", files)
        except BaseException:
            all_recorded.abort()
            raise
        all_recorded.wait()
        recorded = {
            str(path): json.loads((out / "tests" / f"{path.stem}.json").read_text()) for path in list_test_files()
        }
        run_pytest(["--collect-only"], object(), Path(folder, "log"))
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for i in trials.take(len(mutants)):
            row = try_mutant(mutants[i], recorded, Path(folder), limit_seconds)
            with (out / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            outcome = "SURVIVED" if row["survived"] else f"caught by {row['caught_by']}"
            print(f"{i + 1} of {len(mutants)}: {row['mutant']} {outcome}, {row['seconds']} s", flush=True)


def main() -> int:
    """Return 1 where fewer mutants than ``AIM`` were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e6, help="the longest trial of one mutant")
    parser.add_argument("--workers", type=int, default=1, help="how many processes at once")
    parser.add_argument("--out", type=Path, default=Path("out/mutants"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    (out / "tests").mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {row["mutant"]: row for row in rows}
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        os.chdir(folder)
        chosen = Random(arguments.seed).sample(list_mutants(out), arguments.n)
        names = [_name_mutant(mutant) for mutant in chosen]
        os.chdir(ROOT)
    left = [mutant for mutant, name in zip(chosen, names, strict=True) if name not in done]
    for name in SHARED_IMPORTS:
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    shared = Queue(), Queue(), context.Barrier(arguments.workers)
    workers = [
        context.Process(target=work, args=(left, out, arguments.seconds, *shared)) for _ in range(arguments.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("A worker failed: see above. What was tried is kept.")
    done = {row["mutant"]: row for row in map(json.loads, results.read_text().splitlines())}
    # Only now, when no process is forked any more.
    from ganvas.stats import estimate_proportion

    caught = estimate_proportion(torch.tensor([1.0 - done[name]["survived"] for name in names]))
    survivors = [done[name] for name in names if done[name]["survived"]]
    for row in survivors:
        print(f"\n{row['mutant']}, tried by {row['files']} test files\n{row['diff']}")
    share = f"{caught.mean:.3f} [{caught.low:.3f}, {caught.high:.3f}]"
    print(f"{len(names) - len(survivors)} of {len(names)} mutants were caught: {share} (the aim is {AIM}).")
    return int(caught.mean < AIM)


if __name__ == "__main__":
    raise SystemExit(main())
