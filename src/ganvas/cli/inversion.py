"""From a command's options to photographs and what is done with them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from ganvas.cli import loading
from ganvas.errors import GanvasError
from ganvas.io.images import read_picture
from ganvas.photo.batch import InvertedFace
from ganvas.progress import show_count
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Photo, Tools
from ganvas.recipe.sheet import Sheet


class RefusalLog:
    """Says what was refused, one line each, while the rest goes on; then ends the command with 1 if anything was."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, line: str) -> None:
        self.count += 1
        print("Error: " + " ".join(line.split()), file=sys.stderr)

    def end(self) -> None:
        """Raises SystemExit(1) where something was refused."""
        if self.count:
            sys.exit(1)


def edit_steps(set_: list[str] | None, shift: list[str] | None, recipe: Path | None) -> tuple[EditStep, ...]:
    """The edits of a recipe, then the one that --set and --shift ask for. Raises GanvasError for a sheet's recipe."""
    own = loading.parse_step(set_, shift)
    if recipe is None:
        return own
    found, _ = load_recipe(recipe)
    if isinstance(found, Sheet):
        raise GanvasError(f"{recipe} is the recipe of {len(found.pictures)} pictures: give one picture's.")
    return (*found.edits, *own)


def train_count_encoder(folder: Path, generator: str, out: Path, told: tuple[str, float, int | None, str, int]) -> None:
    """Train an encoder on a MultiMNIST folder; ``told``: space, weight of the count, steps (None: the usual), dtype, seed."""
    from ganvas.scorers.count import Counter
    from ganvas.training import count_encoder

    space, keep_count, steps, dtype, seed = told
    network = loading.load_generator_only(generator, "cpu", dtype)
    counter = loading.load_scorer_for(generator, None, "cpu")
    if not isinstance(counter, Counter):
        raise GanvasError(
            f"Generator {generator!r} has scorer {counter.name!r}, which counts no digits: see `ganvas list`."
        )
    settings = count_encoder.CountEncoderConfig(space, keep_count=keep_count, dtype=dtype, seed=seed)
    if steps is not None:
        settings = replace(settings, first=2 * steps, steps=steps)
    with show_count("Training") as watch:
        count_encoder.train_encoder(folder, network, counter, out, settings, watch)


def measures_row(face: InvertedFace) -> tuple[str, ...]:
    """A face's measures for a table."""
    told = face.measures
    seen, who = ("-" if value is None else f"{value:.2f}" for value in (told.lpips, told.identity))
    return face.name, f"{told.psnr:.1f}", f"{told.ssim:.3f}", seen, who, f"{told.mahalanobis:.1f} of {told.bound:.1f}"


def with_photo(recipe: Recipe, tools: Tools, path: Path | None) -> tuple[Recipe, Tools]:
    """A recipe that puts back what an inversion missed of the photograph at ``path``, and tools that have it.

    Raises GanvasError where the recipe doesn't start from codes, or the picture isn't aligned.
    """
    if path is None:
        return recipe, tools
    if not isinstance(recipe.start, FromCodes):
        raise GanvasError(f"{path} goes with the codes of its inversion: give them with --codes FILE.")
    found = with_photo_file(tools, path)
    return (recipe if found.photo is None else replace(recipe, photo=found.photo.sha256)), found


def with_photo_file(tools: Tools, path: Path | None) -> Tools:
    """The same tools with the aligned photograph at ``path``, if there is one."""
    return tools if path is None else replace(tools, photo=Photo.from_picture(read_picture(path), tools.generator))
