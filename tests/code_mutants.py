"""Change the library's code at random places, one at a time, and count how many changes the tests notice.

    python tests/code_mutants.py                 200 mutants, resumable; hours
    python tests/code_mutants.py -n 20 --seed 1

Operators are cosmic-ray's (https://cosmic-ray.readthedocs.io). Each mutant is tried on a copy of the checkout, by the test
files that import its module and by those of its package. Results are in out/mutants/results.jsonl: survivors with their diff.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).parent.parent
TESTS = {
    "data": ("dataset", "gaussianize", "label", "label_files", "multimnist", "seeds"),
    "editors": ("linear", "editors", "compact", "nonlinear", "cardinality", "published_directions"),
    "control": ("control", "sampling"),
    "checkpoints": ("checkpoints", "hostile_checkpoints", "hostile_sizes"),
}
"""Package -> the test files, besides those that import the module, that must notice its mutants."""
TIMEOUT_SECONDS = 900
"""A mutant that takes longer, as in an endless loop, is caught."""
AIM = 0.85


def copy_checkout(target: Path) -> None:
    """Copy the tracked files, so that the checkout itself stays as it is."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def list_mutants() -> list[MutationSpec]:
    """List all mutants of the packages, without those in annotations, which nothing evaluates."""
    paths = [path for package in TESTS for path in sorted(Path("src/ganvas", package).rglob("*.py"))]
    with tempfile.TemporaryDirectory() as folder:
        database = WorkDB(Path(folder) / "session.sqlite", WorkDB.Mode.create)
        init(paths, database, {})
        mutants = [mutant for item in database.work_items for mutant in item.mutations]
        database.close()
    spans = {path: list(_find_annotations(path)) for path in paths}
    kept = [m for m in mutants if not any(a <= m.start_pos < b for a, b in spans[m.module_path])]
    return sorted(kept, key=_name_mutant)


def _find_annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations begin and end, as (line, column)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                found.append(((part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)))
    return found


def _name_mutant(mutant: MutationSpec) -> str:
    return (
        f"{mutant.module_path}:{mutant.start_pos[0]}:{mutant.start_pos[1]}:{mutant.operator_name}:{mutant.occurrence}"
    )


def select_tests(path: Path) -> list[str]:
    """Return the test files for a module's mutants: those that import it first."""
    package, module = path.parts[2], path.stem
    pattern = re.compile(rf"ganvas\.{package}(\.\w+)*\.{module}\b|from ganvas\.{package} import .*\b{module}\b")
    importers = [
        str(p) for p in sorted(Path("tests").glob("test_*.py")) if pattern.search(p.read_text(encoding="utf-8"))
    ]
    others = [f"tests/test_{name}.py" for name in TESTS[package]]
    return [name for name in dict.fromkeys([*importers, *others]) if Path(name).exists()]


def try_mutant(mutant: MutationSpec) -> dict[str, object]:
    """Return what became of a mutant."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-x",
        *select_tests(mutant.module_path),
    ]
    result = mutate_and_test([mutant], " ".join(command), TIMEOUT_SECONDS)
    survived = result.test_outcome == TestOutcome.SURVIVED
    return {"mutant": _name_mutant(mutant), "survived": survived, "diff": result.diff if survived else ""}


def main() -> int:
    """Return 1 where fewer mutants than ``AIM`` were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/mutants"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    names = {row["mutant"] for row in done}
    with tempfile.TemporaryDirectory() as folder:
        copy_checkout(Path(folder))
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(Path(folder, "src")), "OMP_NUM_THREADS": "1"}
        chosen = Random(arguments.seed).sample(list_mutants(), arguments.n)
        for i, mutant in enumerate(chosen, 1):
            if _name_mutant(mutant) in names:
                continue
            row = try_mutant(mutant)
            done.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{i} of {arguments.n}: {row['mutant']} {'SURVIVED' if row['survived'] else 'caught'}", flush=True)
    chosen_names = {_name_mutant(mutant) for mutant in chosen}
    rows = [row for row in done if row["mutant"] in chosen_names]
    survivors = [row for row in rows if row["survived"]]
    for row in survivors:
        print(f"\n{row['mutant']}\n{row['diff']}")
    share = 1 - len(survivors) / len(rows)
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants were caught: {share:.3f} (the aim is {AIM}).")
    return int(share < AIM)


if __name__ == "__main__":
    raise SystemExit(main())
