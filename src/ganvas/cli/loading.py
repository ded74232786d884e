"""Load what the options of commands name, and make recipes of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ganvas import editors, generators, scorers
from ganvas.cli.options import print_warning
from ganvas.control.target_values import format_unit_range
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import find_shipped_labels, list_labels, load_labels, read_label_header
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.editors.published import count_components
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors
from ganvas.io.images import find_pictures
from ganvas.metrics import list_metrics, to_readable
from ganvas.photo.batch import InversionConfig, iterate_faces
from ganvas.progress import show_count
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import Sheet
from ganvas.recipe.rendering import (
    Tools,
    choose_editor,
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


def describe_attributes(name: str) -> list[str]:
    """List the attributes of an editor, and describe those that have a unit; nothing for the name or file of anything else."""
    path = Path(name)
    is_file = path.suffix == ".safetensors" and path.is_file() and load_tensors(path)[1].get("kind") == "editor"
    if not is_file and name not in editors.list_editors():
        return []
    editor = editors.load_editor(name)
    units = [f"{attribute}: {format_unit_range(editor, attribute)}" for attribute in editor.units]
    listed = []
    for unit, is_count in (("objects", True), ("σ", False)):
        names = [
            name for name, kind in zip(editor.attributes, editor.kinds, strict=True) if (kind == "count") is is_count
        ]
        if names:
            listed.append(f"{len(names)} attributes, in {unit}: {', '.join(names)}")
    return listed + units


def _describe_method(name: str) -> str:
    module = f"ganvas.editors.{name}"
    return f"{_first_line(module)} Needs {import_module(module).NEEDS}."


def _first_line(module: str) -> str:
    return (import_module(module).__doc__ or "").strip().split("\n")[0]


def load_generator_only(generator: str, device: str, dtype: str = "float32") -> Generator:
    """Load a generator without an editor or codes."""
    return load_tools(generator, dtype, device).generator


def load_compact_editor(
    editor: str, generator: str, scorer: str | None, device: str, dtype: str
) -> tuple[CompactEditor, Generator, Scorer]:
    """Load a compact editor, its generator and a scorer. Raises GanvasError for an editor of another method."""
    loaded = editors.load_editor(editor)
    if not isinstance(loaded, CompactEditor):
        raise GanvasError(f"Editor {editor!r} is of the method {loaded.method!r}: fit one with `ganvas fit compact`.")
    judge, network = load_scorer_for(generator, scorer, device), load_generator_only(generator, device, dtype)
    editors.check_generator(f"Editor {editor!r}", loaded.generator_name, loaded.generator, network)
    return loaded.to(network.device), network, judge


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
) -> tuple[Scorer, dict[str, dict[str, float]]]:
    """Score each picture of files and folders, or each face of a photograph; return the scorer, and name -> attribute -> value.

    ``scorer`` None: that of the generators that drew the pictures. Logits are returned as probabilities.

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
    return judge, rows


def _is_drawn(path: Path) -> bool:
    """Return whether a picture carries a recipe, so that it is framed as its generator's."""
    try:
        load_recipe(path)
    except GanvasError:
        return False
    return True
