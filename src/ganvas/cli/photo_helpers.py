"""What the commands about photographs share: errors, edits, tables, and the photographs of recipes."""

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
    """Prints an error for each photograph that is refused, and exits with 1 in the end if there was one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, line: str) -> None:
        self.count += 1
        print("Error: " + " ".join(line.split()), file=sys.stderr)

    def exit(self) -> None:
        """Raise SystemExit(1) where something was refused."""
        if self.count:
            sys.exit(1)


def parse_edits(set_: list[str] | None, shift: list[str] | None, recipe: Path | None) -> tuple[EditStep, ...]:
    """Return the edits of a recipe, then that of --set and --shift. Raises GanvasError for a sheet's recipe."""
    edit = loading.parse_step(set_, shift)
    if recipe is None:
        return edit
    base, _ = load_recipe(recipe)
    if isinstance(base, Sheet):
        raise GanvasError(f"{recipe} is the recipe of {len(base.pictures)} pictures: give that of a single picture.")
    return (*base.edits, *edit)


def train_count_encoder(
    folder: Path, generator: str, out: Path, *, space: str, keep_count: float, steps: int | None, dtype: str, seed: int
) -> None:
    """Train an encoder on a MultiMNIST folder; ``keep_count`` weighs the loss of the count; ``steps`` None: the default."""
    from ganvas.scorers.count import Counter
    from ganvas.training import count_encoder

    network = loading.load_generator_only(generator, "cpu", dtype)
    counter = loading.load_scorer_for(generator, None, "cpu")
    if not isinstance(counter, Counter):
        raise GanvasError(
            f"Scorer {counter.name!r} of generator {generator!r} doesn't count digits: choose another --generator."
        )
    config = count_encoder.CountEncoderConfig(space, keep_count=keep_count, dtype=dtype, seed=seed)
    if steps is not None:
        config = replace(config, first=2 * steps, steps=steps)
    with show_count("Training") as progress:
        count_encoder.train_count_encoder(folder, network, counter, out, config, progress)


def format_quality(face: InvertedFace) -> tuple[str, ...]:
    """Format the quality of a face's inversion as a row of a table."""
    quality = face.measures
    lpips, identity = ("-" if value is None else f"{value:.2f}" for value in (quality.lpips, quality.identity))
    distance = f"{quality.mahalanobis:.1f} of {quality.bound:.1f}"
    return face.name, f"{quality.psnr:.1f}", f"{quality.ssim:.3f}", lpips, identity, distance


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
