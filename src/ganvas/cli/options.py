"""Options that several commands share, the parsers of their values, and printing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from ganvas.errors import GanvasError

GeneratorName = Annotated[str, Argument(metavar="GENERATOR", help="A generator of `ganvas list`, or a file.")]
Seed = Annotated[int, Option(help="The random seed; a seed is the same picture on any device.")]
Psi = Annotated[float, Option(help="Truncation: 1 draws all of the generator's pictures, less draws more usual ones.")]
Label = Annotated[
    str | None,
    Option(
        "--label",
        "--class",
        metavar="K|NAME",
        help="A conditional generator's label, from 0, or the name of its class; by default by seed.",
    ),
]
Device = Annotated[str, Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Option(help="What networks compute in; auto: bfloat16 where the device has instructions for it, which is faster."),
]
EditorName = Annotated[
    str | None, Option("--editor", metavar="NAME|FILE", help="An editor; by default the generator's own.")
]
CodesFile = Annotated[Path | None, Option("--codes", metavar="FILE", help="Start from codes in this file.")]
Row = Annotated[int, Option(help="Which of the codes in --codes, counted from 0.")]
PhotoFile = Annotated[
    Path | None,
    Option(
        "--photo", metavar="FILE", help="Put back what the inversion missed of this aligned photograph: NAME-photo.png."
    ),
]
Rotate = Annotated[float, Option(metavar="DEGREES", help="Turn what a StyleGAN3 draws anticlockwise.")]
Translate = Annotated[
    str | None,
    Option(metavar="X,Y", help="Then move it right and down, in widths of the picture: 0.1,-0.2."),
]
SaveCodes = Annotated[Path | None, Option(metavar="FILE", help="Write the finished codes, too (safetensors).")]
SetValues = Annotated[
    list[str] | None,
    Option(
        "--set", metavar="NAME=VALUE", help="Bring an attribute to a value, in σ or its own unit (60y). Repeatable."
    ),
]
ShiftValues = Annotated[
    list[str] | None, Option("--shift", metavar="NAME=CHANGE", help="Change an attribute, in σ. Repeatable.")
]
EditRows = Annotated[
    str | None,
    Option(
        "--edit-rows", "--rows", metavar="ROWS", help="Edit only these rows of W+: 0-3,7, or by resolution, 4-32px."
    ),
]
MixEditRows = Annotated[
    str | None,
    Option("--edit-rows", metavar="ROWS", help="Edit only these rows of W+: 0-3,7, or by resolution, 4-32px."),
]
Region = Annotated[
    str,
    Option(
        metavar="off|auto|FILE",
        help="Keep edits to where their attributes show (auto), or to the white of a picture (FILE).",
    ),
]
SearchSteps = Annotated[
    int | None,
    Option(
        "--search-steps",
        metavar="N",
        help="Of an editor that searches each code: its steps. multimnist/composed: 60 by itself, 0 is instant and keeps less;"
        " multimnist/cardinality: 1 to 1000.",
    ),
]
Refinements = Annotated[
    int | None,
    Option(
        "--refine",
        metavar="N",
        help="Correct the changes up to N times by what the editor's scorer reads off the picture, so that it reads as asked; by"
        " default 4 times in photographs, for values in units, like Age=60y, and for glasses and hats, else 0.",
    ),
]
MaskFile = Annotated[
    Path | None, Option("--region", metavar="FILE", help="The picture that edits are kept to, where one is named.")
]
AllowOtherGenerator = Annotated[
    bool,
    Option("--allow-other-generator", help="The editor may be another generator's of these shapes: a fine-tuned one."),
]
MethodSettings = Annotated[
    list[str] | None,
    Option("--option", metavar="KEY=VALUE", help="A setting of the method, like epochs=40. Repeatable."),
]
Size = Annotated[int, Option(help="The side of each picture in pixels.")]

MAX_SEEDS = 1_000_000
"""The most seeds of one option."""


class RefusalLog:
    """Prints an error for each picture that is refused, and exits with 1 in the end if there was one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, line: str) -> None:
        self.count += 1
        typer.echo("Error: " + " ".join(line.split()), err=True)

    def exit(self) -> None:
        """Exit with 1 where something was refused."""
        if self.count:
            raise typer.Exit(1)


def parse_seeds(text: str) -> list[int]:
    """Parse ``0-99``, ``7`` or ``1,5,10-12`` as numbers, each once. Raises GanvasError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})(?:-([0-9]{1,10}))?\s*", part)
        if match is None:
            raise GanvasError(f"{text!r} isn't a list of whole numbers like 0-99 or 1,5,10-12.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise GanvasError(f"The range {part.strip()!r} ends before it starts.")
        if len(numbers) + last - first >= MAX_SEEDS:
            raise GanvasError(f"{text!r} has more than {MAX_SEEDS:,} numbers.")
        numbers.extend(range(first, last + 1))
    return list(dict.fromkeys(numbers))


def parse_range(text: str) -> tuple[int, int]:
    """Parse ``1-4`` as its two ends; ``3`` is 3-3. Raises GanvasError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", text)
    if match is None:
        raise GanvasError(f"{text!r} isn't a range of whole numbers like 1-4.")
    return int(match[1]), int(match[2] or match[1])


def parse_part(text: str) -> tuple[int, int]:
    """Parse ``3/64``, the third of 64 parts. Raises GanvasError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise GanvasError(f"{text!r} isn't a part like 3/64, from 1/64 to 64/64.")
    return int(match[1]), int(match[2])


def parse_face(text: str | None) -> int | Literal["all"] | None:
    """Parse ``2`` as a number, counted from 1, or ``all``; None is None. Raises GanvasError for anything else."""
    if text is None or text == "all":
        return text
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise GanvasError(f"--face takes a number, counted from left to right from 1, or all, not {text!r}.")
    return int(text)


def parse_seconds(text: str | None) -> float:
    """Parse ``15s`` or ``15`` as seconds; None is 0. Raises GanvasError for anything else."""
    if text is None:
        return 0.0
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?s?", text) or not float(text.rstrip("s")):
        raise GanvasError(f"--budget takes seconds, such as 15s, not {text!r}.")
    return float(text.rstrip("s"))


def parse_numbers(text: str) -> list[float]:
    """Parse ``-2,0,2.5`` as numbers. Raises GanvasError for anything else."""
    return [_parse_number(part, text) for part in text.split(",")]


def parse_names(text: str) -> list[str]:
    """Parse ``Male,Smiling`` as names, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def parse_values(items: Iterable[str] | None) -> dict[str, float]:
    """Parse ``["Smiling=1", …]`` as a mapping. Raises GanvasError for values that aren't finite numbers and repeated names."""
    return {name: _parse_number(value, f"{name}={value}") for name, value in _split_values(items).items()}


def has_units(items: Iterable[str] | None) -> bool:
    """Return whether one of --set's values is in an attribute's own unit."""
    return any(isinstance(value, str) for value in parse_targets(items).values())


def parse_targets(items: Iterable[str] | None) -> dict[str, float | str]:
    """Parse as ``parse_values``, but keep a number with letters behind it, like ``60y``, as a text: a value in a unit."""
    return {
        name: value if re.fullmatch(r"\s*[-+.0-9]+\s*[^\W\d_]+\s*", value) else _parse_number(value, f"{name}={value}")
        for name, value in _split_values(items).items()
    }


def _split_values(items: Iterable[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        name = name.strip()
        if not (name and equals):
            raise GanvasError(f"{item!r} isn't NAME=NUMBER, like Smiling=1.")
        if name in values:
            raise GanvasError(f"Attribute {name!r} is given twice: give it once.")
        values[name] = value
    return values


def parse_aliases(items: Iterable[str] | None, names: Sequence[str]) -> dict[str, str]:
    """Parse ``["age=Young", …]`` as a mapping, with a single name also ``["Young"]``. Raises GanvasError for anything else."""
    aliases: dict[str, str] = {}
    for item in items or ():
        name, equals, attribute = item.partition("=") if "=" in item or len(names) != 1 else (names[0], "=", item)
        if not (name.strip() and equals and attribute.strip()) or name.strip() in aliases:
            raise GanvasError(f"{item!r} isn't NAME=ATTRIBUTE, once for a direction, like age=Young.")
        aliases[name.strip()] = attribute.strip()
    return aliases


def parse_options(items: Iterable[str] | None) -> dict[str, Any]:
    """Parse ``["epochs=40", "residual=false", …]`` as a mapping: values are JSON where they can be, else texts."""
    options: dict[str, Any] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if not (key.strip().isidentifier() and equals):
            raise GanvasError(f"{item!r} isn't KEY=VALUE, like epochs=40.")
        try:
            options[key.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            options[key.strip()] = value
    return options


def print_line(text: object) -> None:
    """Print one line for the user."""
    typer.echo(text)


def print_warning(text: object) -> None:
    """Print one line of warning for the user, on stderr."""
    typer.echo(f"Warning: {text}", err=True)


def print_passed_over(paths: Sequence[Path]) -> None:
    """Print on stderr what is passed over in the folders among ``paths``."""
    from ganvas.io.images import list_passed_over

    for line in list_passed_over(paths):
        typer.echo(line, err=True)


def print_json(value: Any) -> None:
    """Print a JSON value for another program."""
    typer.echo(json.dumps(value, indent=2))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column holds names and whose others hold numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(soft_wrap=True).print(table)


def _parse_number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise GanvasError(f"{text.strip()!r} in {whole!r} isn't a finite number.")
    return value
