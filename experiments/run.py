"""Run an experiment: the steps of a TOML file, one command after the other.

    python -m experiments.run experiments/ffhq/ships.toml --out work/ffhq --input celeba=CELEBA

A step that ended well is noted in OUT/done.json and passed over as long as its files are there; a step that was stopped runs
again, and its command goes on where it was. So the same line, typed again, continues the experiment. Steps after one that ran
run, too, since they may continue its files. ``--list`` prints the steps with what each writes and about how long it takes.
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
from ganvas.io.files import read_json, write_json

DONE_FILE = "done.json"
"""The file with the steps that ended well: name -> ``ExperimentStep.key``."""


@dataclass(frozen=True)
class ExperimentStep:
    """One command of an experiment and the files, relative to the output folder, that it leaves behind.

    ``key``: the command with its inputs filled in, but not the output folder; a step with another key is another step.
    """

    name: str
    run: tuple[str, ...]
    key: str
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
    needed = table.get("inputs", {})
    if missing := sorted(needed.keys() - inputs.keys()):
        raise GanvasError(f"The experiment needs --input {missing[0]}=PATH: {needed[missing[0]]}.")
    if unknown := sorted(inputs.keys() - needed.keys()):
        raise GanvasError(f"The experiment has no input {unknown[0]!r}; it takes {', '.join(needed) or 'none'}.")
    places = {"out": str(out), "python": sys.executable, **inputs}
    return [
        ExperimentStep(
            row["name"],
            tuple(part.format(**places) for part in row["run"]),
            " ".join(part.format(**places | {"out": "{out}", "python": "python"}) for part in row["run"]),
            tuple(row["writes"]),
            float(row["minutes"]),
        )
        for row in rows
    ]


def run_steps(steps: list[ExperimentStep], out: Path) -> None:
    """Run the first step that has not ended well in ``out`` before, or whose files are gone, and all after it.

    Raises GanvasError for a step that fails or that does not leave its files behind; later steps do not run.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = read_json(out / DONE_FILE) if (out / DONE_FILE).exists() else {}
    for i, step in enumerate(steps, 1):
        head = f"[{i}/{len(steps)}] {step.name}"
        if done.get(step.name) == step.key and all((out / name).exists() for name in step.writes):
            print(f"{head}: done before", flush=True)
            continue
        done = {earlier.name: earlier.key for earlier in steps[: i - 1]}
        write_json(out / DONE_FILE, done)
        print(f"{head}: about {step.minutes:g} minutes of two cores\n  {' '.join(step.run)}", flush=True)
        code = subprocess.run(step.run, check=False).returncode
        if code:
            raise GanvasError(f"Step {step.name!r} ended with exit code {code}: run the same command to go on there.")
        if missing := [name for name in step.writes if not (out / name).exists()]:
            raise GanvasError(f"Step {step.name!r} did not write {missing[0]}.")
        write_json(out / DONE_FILE, done | {step.name: step.key})


def parse_inputs(texts: list[str]) -> dict[str, str]:
    """Parse NAME=PATH pairs; paths become absolute. Raises GanvasError for a text without an equals sign."""
    inputs = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            raise GanvasError(f"--input takes NAME=PATH, not {text!r}.")
        inputs[name] = str(Path(path).absolute())
    return inputs


def main(
    experiment: Annotated[Path, typer.Argument(help="A TOML file with steps.")],
    out: Annotated[Path, typer.Option(help="The folder that all steps write into.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=PATH of what the experiment needs.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Print the steps, run nothing.")] = False,
) -> None:
    """Run an experiment, or go on with it."""
    try:
        steps = read_steps(experiment, out, parse_inputs(inputs or []))
        if list_only:
            for step in steps:
                files = ", ".join(step.writes) or "nothing"
                print(f"{step.name}: {' '.join(step.run)}\n  writes {files}; {step.minutes:g} minutes")
        else:
            run_steps(steps, out)
    except GanvasError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    typer.run(main)
