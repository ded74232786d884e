"""Run an experiment: the steps of a TOML file, one command after the other.

    python -m experiments.run experiments/ffhq/ships.toml --out work/ffhq --input celeba=CELEBA

A step whose files are all there is passed over, and the commands themselves go on where they were stopped: started again, the
experiment continues. ``--list`` prints the steps with what each writes and about how long it takes, and runs nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ganvas.errors import GanvasError


@dataclass(frozen=True)
class ExperimentStep:
    """One command of an experiment and the files, relative to the output folder, that it leaves behind."""

    name: str
    run: tuple[str, ...]
    writes: tuple[str, ...]
    minutes: float


def read_steps(path: Path, out: Path, inputs: dict[str, str]) -> list[ExperimentStep]:
    """Read the steps of an experiment with its folder and inputs filled in.

    Raises GanvasError for a file that isn't an experiment, and for an input that is missing or unknown.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = table["step"]
    except (OSError, KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GanvasError(f"{path} is not an experiment: {error}.") from None
    wanted = table.get("inputs", {})
    if missing := sorted(wanted.keys() - inputs.keys()):
        raise GanvasError(f"The experiment needs --input {missing[0]}=PATH: {wanted[missing[0]]}.")
    if unknown := sorted(inputs.keys() - wanted.keys()):
        raise GanvasError(f"The experiment has no input {unknown[0]!r}; it takes {', '.join(wanted) or 'none'}.")
    places = {"out": str(out), "python": sys.executable, **inputs}
    return [
        ExperimentStep(
            row["name"],
            tuple(part.format(**places) for part in row["run"]),
            tuple(row["writes"]),
            float(row["minutes"]),
        )
        for row in rows
    ]


def run_steps(steps: list[ExperimentStep], out: Path) -> None:
    """Run every step whose files are not all in ``out``, in order.

    Raises GanvasError for a step that fails or that does not leave its files behind; later steps do not run.
    """
    out.mkdir(parents=True, exist_ok=True)
    for i, step in enumerate(steps, 1):
        head = f"[{i}/{len(steps)}] {step.name}"
        if all((out / name).exists() for name in step.writes):
            print(f"{head}: done before", flush=True)
            continue
        print(f"{head}: about {step.minutes:g} minutes of two cores\n  {' '.join(step.run)}", flush=True)
        code = subprocess.run(step.run, check=False).returncode
        if code:
            raise GanvasError(f"Step {step.name!r} ended with exit code {code}: run the same command to go on there.")
        if missing := [name for name in step.writes if not (out / name).exists()]:
            raise GanvasError(f"Step {step.name!r} did not write {missing[0]}.")


def main(
    experiment: Annotated[Path, typer.Argument(help="A TOML file with steps.")],
    out: Annotated[Path, typer.Option(help="The folder that all steps write into.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=PATH of what the experiment needs.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Print the steps, run nothing.")] = False,
) -> None:
    """Run an experiment, or go on with it."""
    try:
        pairs = dict(text.split("=", 1) for text in inputs or [] if "=" in text)
        steps = read_steps(experiment, out, pairs)
        if list_only:
            for step in steps:
                print(f"{step.name}: {' '.join(step.run)}\n  writes {', '.join(step.writes)}; {step.minutes:g} minutes")
        else:
            run_steps(steps, out)
    except GanvasError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    typer.run(main)
