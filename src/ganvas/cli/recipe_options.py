"""Make recipes of what the options of commands say: edits, conditions, where a picture starts, photographs and regions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ganvas import editors
from ganvas.cli.options import parse_numbers, parse_targets, parse_values
from ganvas.control.conditions import Condition, compute_condition_ranges, parse_condition
from ganvas.control.target_values import convert_to_sigma, replace_units
from ganvas.editors.masked import parse_rows
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, encode_label
from ganvas.io.images import read_picture
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, InputTransform, Mix, Recipe, Sheet, Start
from ganvas.recipe.rendering import (
    EditMask,
    Photo,
    Tools,
    choose_editor,
    limit_to_mask,
    limit_to_regions,
)


def parse_step(
    set_: list[str] | None, shift: list[str] | None, generator: str, editor: str | None
) -> tuple[EditStep, ...]:
    """Return the edit of --set and --shift, or none; the editor converts values in units, like Age=60y, to σ.

    Raises GanvasError for values that are no numbers, and as ``convert_to_sigma``.
    """
    targets = parse_targets(set_)
    values = {name: value for name, value in targets.items() if not isinstance(value, str)}
    if len(values) < len(targets):
        loaded = editors.load_editor(choose_editor(generator, editor))
        values = {name: convert_to_sigma(loaded, name, value) for name, value in targets.items()}
    step = EditStep(values, parse_values(shift))
    return (step,) if step.set or step.shift else ()


def parse_conditions(texts: Iterable[str], generator: str, editor: str | None) -> list[Condition]:
    """Parse conditions; the editor converts values in units, like Age>60y, to σ. Raises GanvasError as ``parse_condition``."""
    found = []
    for text in texts:
        if re.search(r"[0-9]\s*[^\W\d_]+\s*$", text):
            text = replace_units(text, editors.load_editor(choose_editor(generator, editor)))
        found.append(parse_condition(text))
    return found


def parse_edits(
    set_: list[str] | None, shift: list[str] | None, generator: str, editor: str | None, recipe: Path | None
) -> tuple[EditStep, ...]:
    """Return the edits of a recipe, then that of --set and --shift. Raises GanvasError for a sheet's recipe."""
    edit = parse_step(set_, shift, generator, editor)
    if recipe is None:
        return edit
    base, _ = load_recipe(recipe)
    if isinstance(base, Sheet):
        raise GanvasError(f"{recipe} is the recipe of {len(base.pictures)} pictures: give that of a single picture.")
    return (*(replace(step, refined=None) for step in base.edits), *edit)  # refined for another picture


def limit_rows(steps: tuple[EditStep, ...], rows: str | None, tools: Tools) -> tuple[EditStep, ...]:
    """Return edits that move only ``rows``, like "0-3,7" or "4-32px", of W+; None: as they are.

    Raises GanvasError for rows that the generator doesn't have, and rows without an edit.
    """
    if rows is None:
        return steps
    if not steps:
        raise GanvasError(f"There is no edit for rows {rows!r}: give --set or --shift, too.")
    numbers = parse_rows(rows, tools.generator)
    return tuple(replace(step, rows=numbers) for step in steps)


def limit_search(edits: tuple[EditStep, ...], steps: int | None, tools: Tools) -> tuple[EditStep, ...]:
    """Return edits whose editor searches for ``steps`` steps; None: for as many as it does by itself.

    Raises GanvasError for steps without an edit, for a number that the editor doesn't take, and where it doesn't search.
    """
    if steps is None:
        return edits
    if not edits:
        raise GanvasError(f"There is no edit to search for in {steps} steps: give --set or --shift, too.")
    tools.required_editor.with_search_steps(steps)
    return tuple(replace(edit, search_steps=steps) for edit in edits)


def collect_attributes(steps: tuple[EditStep, ...], conditions: Iterable[Condition] = ()) -> list[str]:
    """Collect the attributes that edits and conditions name."""
    return [name for step in steps for name in (*step.set, *step.shift)] + [c.attribute for c in conditions]


def parse_transform(rotate: float, translate: str | None) -> InputTransform | None:
    """Parse how a StyleGAN3's picture is turned and moved, by ``X,Y`` in widths; None where it isn't.

    Raises GanvasError for anything but two numbers.
    """
    values = [0.0, 0.0] if translate is None else parse_numbers(translate)
    if len(values) != 2:
        raise GanvasError(f"--translate takes two numbers, like 0.1,-0.2, not {translate!r}.")
    x, y = values
    return InputTransform(rotate, x, y) if rotate or x or y else None


def make_recipe(
    tools: Tools,
    start: Start,
    edits: tuple[EditStep, ...] = (),
    mix: Mix | None = None,
    transform: InputTransform | None = None,
) -> Recipe:
    """Make a recipe with these tools."""
    named, dtype, other = tools.generator_name, tools.dtype, tools.has_other_editor
    return Recipe(named, start, dtype, mix, tools.editor_name, edits, other_generator=other, transform=transform)


def parse_label(generator: Generator, text: str | None) -> int | None:
    """Parse a label of a generator: its number, from 0, or the name of its class; None for None.

    Raises GanvasError for anything else, and for a number that is the name of another class.
    """
    if text is None or not re.fullmatch(r"-?[0-9]{1,9}", text):
        return None if text is None else generator.find_label(text)
    label = int(text)
    if text in generator.label_names and generator.find_label(text) != label:
        raise GanvasError(f"{text!r} is a label and the name of label {generator.find_label(text)}: rename that class.")
    return label


def encode_label_option(generator: Generator, text: str | None) -> tuple[float, ...] | None:
    """Encode what ``parse_label`` parses as a one-hot vector. Raises GanvasError for a label that doesn't exist."""
    label = parse_label(generator, text)
    return None if label is None else encode_label(generator, label)


def create_start(tools: Tools, seed: int, psi: float, row: int, label: str | None = None) -> Start:
    """Return row ``row`` of the codes file if there is one, else the face of the seed, with a conditional generator's ``label``.

    Raises GanvasError for a row or label that doesn't exist, and a label for a row.
    """
    if tools.codes is None:
        return FromSeed(seed, psi, encode_label_option(tools.generator, label))
    if label is not None:
        raise GanvasError("Give only one of --label and --codes: codes already depend on a label.")
    tools.codes.get_code(row)
    return FromCodes(tools.codes.sha256, row)


def create_starts(
    tools: Tools, seeds: Sequence[int], psi: float, conditions: list[Condition], label: str | None = None
) -> list[Start]:
    """Return a face for each seed, all meeting the conditions if any are given; or every row of the codes file.

    Raises GanvasError for a ``label`` that the generator doesn't have, and a label for codes.
    """
    if label is not None and tools.codes is not None:
        raise GanvasError("Give only one of --label and --codes: codes already depend on a label.")
    labels = encode_label_option(tools.generator, label)
    if tools.codes is not None:
        return [FromCodes(tools.codes.sha256, row) for row in tools.codes.rows]
    if conditions:
        where = compute_condition_ranges(conditions, tools.required_editor)
        return [FromConditions(where, seed, psi, labels) for seed in seeds]
    return [FromSeed(seed, psi, labels) for seed in seeds]


def parse_other_face(tools: Tools, text: str, psi: float, label: str | None = None) -> Start:
    """Parse a second face: ``8`` is a seed, with a conditional generator's ``label``, ``row:3`` a row of the codes file.

    Raises GanvasError for anything else.
    """
    match = re.fullmatch(r"(row:)?([0-9]{1,10})", text)
    if match is None:
        raise GanvasError(f"{text!r} isn't a picture: give a seed like 8, or row:3 of --codes FILE.")
    if match[1] is None:
        return FromSeed(int(match[2]), psi, encode_label_option(tools.generator, label))
    if tools.codes is None:
        raise GanvasError(f"{text!r} is a row of a codes file: give that with --codes FILE.")
    return create_start(tools, 0, psi, int(match[2]))


def attach_photo(recipe: Recipe, tools: Tools, path: Path | None) -> tuple[Recipe, Tools]:
    """Return a recipe that adds the residual of the photograph at ``path``, and tools with that photograph.

    Raises GanvasError where the recipe doesn't start from codes, or the picture isn't aligned.
    """
    if path is None:
        return recipe, tools
    if not isinstance(recipe.start, FromCodes):
        raise GanvasError(f"--photo {path} needs the codes of its inversion: give them with --codes FILE.")
    tools = attach_photo_file(tools, path)
    return (recipe if tools.photo is None else replace(recipe, photo=tools.photo.sha256)), tools


def attach_photo_file(tools: Tools, path: Path | None) -> Tools:
    """Return the same tools with the aligned photograph at ``path``, if there is one."""
    return tools if path is None else replace(tools, photo=Photo.from_picture(read_picture(path), tools.generator))


def parse_region(region: str, tools: Tools) -> tuple[Callable[[Recipe], Recipe], Tools]:
    """Return what keeps the edits of a recipe to ``region``, and tools with its mask where that is the path of a picture.

    Raises GanvasError for a picture that doesn't exist.
    """
    if region == "off":
        return lambda recipe: recipe, tools
    if region == "auto":
        return limit_to_regions, tools
    if not Path(region).is_file():
        raise GanvasError(f"There is no picture {region!r} to keep edits to: --region takes off, auto or a picture.")
    mask = EditMask.from_picture(read_picture(Path(region)))
    return lambda recipe: limit_to_mask(recipe, mask), replace(tools, mask=mask)


def attach_mask_file(tools: Tools, path: Path | None) -> Tools:
    """Return the same tools with the mask in the picture at ``path``, if there is one."""
    return tools if path is None else replace(tools, mask=EditMask.from_picture(read_picture(path)))


def format_file_stem(start: Start) -> str:
    """Format a file name for the face: ``seed0007`` or ``row0003``."""
    return f"row{start.row:04d}" if isinstance(start, FromCodes) else f"seed{start.seed:04d}"


def format_title(start: Start) -> str:
    """Format a short title of the face: ``seed 7`` or ``row 3``."""
    return f"row {start.row}" if isinstance(start, FromCodes) else f"seed {start.seed}"
