"""Load what the options of commands name, and make recipes of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ganvas import editors, generators, scorers
from ganvas.cli.options import parse_numbers, parse_targets, parse_values, print_warning
from ganvas.control.conditions import Condition, compute_condition_ranges, parse_condition
from ganvas.control.target_values import convert_to_sigma, format_unit_range, replace_units
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import find_shipped_labels, list_labels, load_labels, read_label_header
from ganvas.editors.base import Editor
from ganvas.editors.masked import parse_rows
from ganvas.editors.published import count_components
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator, encode_label
from ganvas.io.files import load_tensors
from ganvas.io.images import find_pictures, read_picture
from ganvas.metrics import list_metrics, to_readable
from ganvas.photo.batch import InversionConfig, iterate_faces
from ganvas.progress import show_count
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, InputTransform, Mix, Recipe, Sheet, Start
from ganvas.recipe.rendering import (
    EditMask,
    Photo,
    Tools,
    choose_editor,
    limit_to_mask,
    limit_to_regions,
    load_tools,
)
from ganvas.scorers.base import Scorer

ASSETS = Path(str(files("ganvas"))) / "assets"
FACE_SIDE = 1024
"""The side of the faces that are cut out for a scorer."""
FIRST_COMPONENTS = 10
"""How many components of a file are taken where none is chosen."""
ATTRIBUTE_SETTINGS = ("conditional", "against")
"""Settings of methods that name attributes beside those that are fitted."""


def load_cli_tools(
    generator: str,
    dtype: str,
    device: str,
    *,
    editor: str | None,
    attributes: Iterable[str],
    codes: Path | None,
    allow_other_generator: bool = False,
) -> Tools:
    """Load a generator, a codes file, and an editor if one is named or ``attributes`` need one (by default the card's).

    Raises GanvasError for what doesn't exist, a card without an editor, and an editor that lacks an attribute; the last
    two before the generator is loaded, which is slow.
    """
    wanted = list(attributes)
    name = choose_editor(generator, editor) if wanted else editor
    if wanted and name is not None:
        known = editors.load_editor(name).attributes
        for attribute in wanted:
            if attribute not in known:
                raise unknown("attribute", attribute, known)
    tools = load_tools(generator, dtype, device, name, codes, allow_other_generator=allow_other_generator)
    if tools.editor is not None and tools.has_other_editor:
        print_warning(
            f"Editor {name!r} was fitted for another generator than {tools.generator.name!r}: changes aren't calibrated for it."
        )
    return tools


def select_attributes(names: Sequence[str] | None, settings: Mapping[str, Any]) -> list[str] | None:
    """Return the attributes to read from labels: ``names``, and those in the ATTRIBUTE_SETTINGS; None for all of them.

    Names are only parsed from texts: for settings that are lists or mappings, all attributes are read.
    """
    texts = [settings[key] for key in ATTRIBUTE_SETTINGS if settings.get(key)]
    if names is None or "all" in texts or not all(isinstance(text, str) for text in texts):
        return None
    others = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    return list(dict.fromkeys([*names, *others]))


def fit_with_progress(
    method: str,
    data: LatentDataset,
    generator: Generator,
    settings: dict[str, Any],
    attributes: Sequence[str] | None = None,
) -> Editor:
    """Fit an editor as ``editors.fit`` does, with a progress bar where the method reports progress.

    ``attributes``: fit only these of ``data``; settings may name the others.

    Raises GanvasError for unknown settings, and values of another type.
    """
    known = inspect.signature(import_module(f"ganvas.editors.{method}").fit).parameters
    for name, value in settings.items():
        _check_setting(name, value, known[name].default if name in known else None)
    with show_count("Learning") as progress:
        only = {} if attributes is None or tuple(attributes) == data.attributes else {"attributes": list(attributes)}
        return editors.fit(method, data, generator, progress=progress, **settings, **only)


def _check_setting(name: str, value: Any, default: Any) -> None:
    if name in ("attributes", "progress"):
        raise GanvasError(f"{name!r} isn't a setting of a method: choose attributes with --attributes.")
    same = type(value) is type(default) or (type(default), type(value)) == (float, int)
    if isinstance(default, bool | int | float | str) and not same:
        raise GanvasError(f"Option {name!r} takes a value like {default!r}, not {value!r}.")


def choose_components(files: Sequence[Path], numbers: Sequence[int] | None) -> tuple[list[Path], list[int]]:
    """Return a file for each chosen component of a GANSpace or SeFa file, and their numbers; none for other files.

    ``numbers`` None: the first FIRST_COMPONENTS. Raises GanvasError where there are several such files, or none for ``numbers``.
    """
    counts = [count_components(path) for path in files]
    if not any(counts) and numbers is None:
        return list(files), []
    if len(files) != 1 or not counts[0]:
        raise GanvasError(
            "Components are taken from one file at a time, GANSpace's (.npz) or SeFa's (eigvec): give only that."
        )
    chosen = list(range(min(FIRST_COMPONENTS, counts[0]))) if numbers is None else list(numbers)
    return [files[0]] * len(chosen), chosen


def name_components(numbers: Sequence[int]) -> list[str] | None:
    """Name components by their numbers; None where there are none."""
    return [f"component{number}" for number in numbers] or None


def name_directions(files: Sequence[Path], names: Sequence[str] | None) -> dict[str, Path]:
    """Map ``names``, by default the files' own, to files. Raises GanvasError for too many, too few, or equal names."""
    names = [path.stem for path in files] if not names else [name.strip() for name in names]
    if len(names) != len(files) or len(set(names)) != len(names) or not all(names):
        raise GanvasError(
            f"{len(files)} files need as many different names, not {', '.join(names)}: give --name for each."
        )
    return dict(zip(names, files, strict=True))


def load_labels_for(generator: Generator, path: Path | None) -> LatentDataset | None:
    """Load the labels at ``path``, else those that ship for the generator, else None."""
    if path is None and generator.name in generators.list_generators():
        shipped = find_shipped_labels(generator.name, generators.find_card(generator.name).scorer)
        path = shipped if shipped.exists() else None
    return None if path is None else load_labels(path, generator)


def choose_generator(generator: str | None, labels: str | Path | None) -> str:
    """Return the named generator, else that of the labels, which only their header is read for, else "ffhq".

    Raises GanvasError for labels that don't exist, and of a generator that has to be given as a file.
    """
    if generator is not None or labels is None:
        return generator or "ffhq"
    owner = read_label_header(labels).generator
    if owner.name not in generators.list_generators():
        raise GanvasError(
            f"{labels} is for generator {owner.name!r} ({owner.fingerprint[:12]}), which doesn't come with ganvas:"
            " give its file with --generator FILE."
        )
    return owner.name


def is_generator(name: str) -> bool:
    """Return whether this names a generator that ships, or a file that holds one, rather than labels."""
    if name in generators.list_generators():
        return True
    path = Path(name)
    return path.is_file() and not (path.suffix == ".safetensors" and load_tensors(path)[1].get("kind") == "labels")


def check_method(method: str) -> None:
    """Raise GanvasError for an unknown method, before a generator is loaded."""
    if method not in editors.list_methods():
        raise unknown("method", method, editors.list_methods())


def list_available() -> dict[str, list[tuple[str, str]]]:
    """List what is available, by kind: names, and a line about each."""
    return {
        "Generators": [(name, generators.find_card(name).about) for name in generators.list_generators()],
        "Scorers": [(name, _first_line(f"ganvas.scorers.{name}")) for name in scorers.list_scorers()],
        "Methods": [(name, _describe_method(name)) for name in editors.list_methods()],
        "Metrics": [(name, each.text) for name, each in list_metrics().items()],
        "Labels": [(name, "") for name in list_labels()],
        "Editors": [(name, editors.describe_editor(name)) for name in editors.list_editors()],
    }


def find_model_card(name: str) -> str:
    """Return the model card of a generator, scorer, editor, encoder or labels that ship or are fetched, "" for another name.

    A card says what something learned from, its licence, the command that made it and its measured quality.
    """
    kinds = [kind for kind in ASSETS.iterdir() if kind.is_dir()]
    # Compared, not joined: a name such as ../x reads nothing.
    texts = [
        path.read_text(encoding="utf-8").strip()
        for kind in sorted(kinds)
        for path in kind.rglob("*.md")
        if path.relative_to(kind).with_suffix("").as_posix() == name
    ]
    fetched = [scorers.read_cards()[name]] if name in scorers.read_cards() else []
    fetched += [generators.find_card(name)] if name in generators.list_generators() else []
    texts += [f"# {card.name}\n\n- **Licence**: {card.licence}\n- **Source**: {card.source}" for card in fetched]
    return "\n\n".join(texts)


def describe_units(name: str) -> list[str]:
    """Describe the attributes of an editor that have a unit, one line each; none for the name or file of anything else."""
    path = Path(name)
    is_file = path.suffix == ".safetensors" and path.is_file() and load_tensors(path)[1].get("kind") == "editor"
    if not is_file and name not in editors.list_editors():
        return []
    editor = editors.load_editor(name)
    return [f"{attribute}: {format_unit_range(editor, attribute)}" for attribute in editor.units]


def _describe_method(name: str) -> str:
    module = f"ganvas.editors.{name}"
    return f"{_first_line(module)} Needs {import_module(module).NEEDS}."


def _first_line(module: str) -> str:
    return (import_module(module).__doc__ or "").strip().split("\n")[0]


def load_generator_only(generator: str, device: str, dtype: str = "float32") -> Generator:
    """Load a generator without an editor or codes."""
    return load_tools(generator, dtype, device).generator


def check_draws_faces(generator: str) -> None:
    """Raise GanvasError, saying what to give, for a generator that comes with ganvas and draws other things than faces."""
    if not generators.has_faces(generator):
        raise GanvasError(
            f"Generator {generator!r} doesn't draw faces, so none are searched for it: give square pictures that are"
            " framed as its own are, with --aligned."
        )


def load_scorer_for(generator: str, scorer: str | None, device: str) -> Scorer:
    """Load the named scorer, else the one of the generator's card. Raises GanvasError where there is none."""
    name = scorer or generators.find_card(generator).scorer
    if not name:
        raise GanvasError(f"Generator {generator!r} has no scorer of its own: name one with --scorer.")
    return scorers.load_scorer(name).to(generators.check_device(device))


def choose_scorer(images: list[Path]) -> str:
    """Return the scorer of the generators that the pictures' recipes name, celeba40 for pictures without a recipe.

    Raises GanvasError for pictures of generators with different scorers.
    """
    found_names = set()
    for path in images:
        try:
            recipe, _ = load_recipe(path)
            single = recipe.pictures[0] if isinstance(recipe, Sheet) else recipe
            found_names.add(generators.find_card(single.generator.name).scorer or "celeba40")
        except GanvasError:
            found_names.add("celeba40")
    if len(found_names) > 1:
        raise GanvasError(
            f"The pictures are of generators with scorers {', '.join(sorted(found_names))}: name one with --scorer."
        )
    return found_names.pop() if found_names else "celeba40"


def score_pictures(
    images: Sequence[Path], scorer: str | None, device: str, report: Callable[[str], object], aligned: bool = False
) -> dict[str, dict[str, float]]:
    """Score each picture of files and folders, or each face of a photograph: its name -> attribute -> its value.

    ``scorer`` None: that of the generators that drew the pictures.

    Where the scorer reads faces they are found and aligned first, but in pictures that ganvas drew, or with ``aligned``.
    ``report`` is called with a line for each picture that fails.
    """
    target = generators.check_device(device)
    judge = None if scorer is None else scorers.load_scorer(scorer).to(target)  # before any file: its name may be wrong
    paths, rows = find_pictures(images), {}
    judge = judge or scorers.load_scorer(choose_scorer(paths)).to(target)
    for path in paths:
        config = InversionConfig(aligned=aligned or not judge.reads_faces or _is_drawn(path), any_shape=True)
        faces = iterate_faces([path], FACE_SIDE, config, report)
        for _, stem, picture in faces:
            name = str(path) if stem in ("", path.stem) else f"{path} {stem.removeprefix(path.stem)[1:]}"
            with torch.no_grad():
                values = to_readable(judge(picture.to(device)), judge.kinds)[0].tolist()
            rows[name] = dict(zip(judge.attributes, values, strict=True))
    return rows


def _is_drawn(path: Path) -> bool:
    """Return whether a picture carries a recipe, so that it is framed as its generator's."""
    try:
        load_recipe(path)
    except GanvasError:
        return False
    return True


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
