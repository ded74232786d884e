"""Render recipes: load the generator, editor and codes that they name, compute the code, draw the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from ganvas.control.target_values import solve_changes
from ganvas.data.codes import Codes, check_generator, load_codes
from ganvas.editors.base import Editor, fingerprint
from ganvas.editors.masked import mask_editor
from ganvas.errors import GanvasError
from ganvas.generators import choose_dtype, find_card
from ganvas.generators.base import Generator, sample
from ganvas.generators.parts import Parts
from ganvas.generators.regions import Mask, blend_edit, blend_pictures, draw_for_regions, find_regions, pair_parts
from ganvas.generators.stylegan3 import StyleGAN3
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.recipe.model import EditStep, FromCodes, FromSeed, Mix, NamedTool, Recipe, Start
from ganvas.types import Dtype, Images, WPlus


@dataclass(frozen=True)
class Photo:
    """An aligned photograph, (1, 3, resolution, resolution), known by the sha256 of its bytes as a picture."""

    picture: Images
    sha256: str

    @classmethod
    def from_picture(cls, picture: Images, generator: Generator) -> Photo:
        """Return a square picture at the generator's resolution. Raises GanvasError where it isn't one square picture."""
        if len(picture) != 1 or picture.shape[2] != picture.shape[3]:
            size = f"{picture.shape[3]}×{picture.shape[2]}"
            raise GanvasError(
                f"A photograph of {size} pixels isn't aligned: `ganvas align` cuts out the square that the generator needs."
            )
        pixels = to_bytes(downscale(picture.float(), generator.resolution))
        aligned = from_bytes(pixels).to(generator.device)
        return cls(aligned, hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest())


@dataclass(frozen=True)
class EditMask:
    """A grey picture that says where edits may change pixels, (1, 1, height, width) from 0 to 1, known by its sha256."""

    mask: Mask
    sha256: str

    @classmethod
    def from_picture(cls, picture: Images) -> EditMask:
        """Return the mask of a picture: white where edits show. Raises GanvasError where it is black all over."""
        pixels = to_bytes(picture.float().mean(1, keepdim=True).expand(-1, 3, -1, -1))[0, :, :, 0].contiguous()
        if not pixels.any():
            raise GanvasError("The mask is black: it must be white where edits may change the picture.")
        shape = "×".join(map(str, pixels.shape)).encode()
        return cls(pixels[None, None].float() / 255, hashlib.sha256(shape + pixels.numpy().tobytes()).hexdigest())


@dataclass(frozen=True)
class Tools:
    """The generator, editor, codes, photograph and mask that recipes are rendered with, loaded once for many pictures."""

    generator: Generator
    dtype: Dtype
    editor: Editor | None = None
    editor_name: NamedTool | None = None
    codes: Codes | None = None
    photo: Photo | None = None
    mask: EditMask | None = None
    last_unedited: dict[str, tuple[Images, Parts | None]] = field(default_factory=dict, compare=False, repr=False)
    """The last picture that edits were blended into and its parts, by its code: the pictures of a grid have few starts."""

    @property
    def generator_name(self) -> NamedTool:
        """The generator's name and fingerprint, as recipes store them."""
        return NamedTool(self.generator.name, self.generator.fingerprint)

    def with_codes(self, codes: Codes) -> Tools:
        """Return the same tools with these codes."""
        return replace(self, codes=codes)

    @property
    def has_other_editor(self) -> Literal[True] | None:
        """True where the editor was fitted for another generator, else None, as recipes store it."""
        return True if self.editor is not None and self.editor.generator != self.generator.fingerprint else None

    @property
    def required_editor(self) -> Editor:
        """The editor. Raises GanvasError where there is none."""
        if self.editor is None:
            raise GanvasError(f"Generator {self.generator.name!r} needs an editor for this: name one.")
        return self.editor


def load_tools(
    generator: str,
    dtype: str = "float32",
    device: str = "cpu",
    editor: str | Path | None = None,
    codes: str | Path | None = None,
    *,
    allow_other_generator: bool = False,
) -> Tools:
    """Load a generator by name, an editor by name or path, and a codes file.

    ``allow_other_generator``: the editor may belong to another generator, if its shapes match (a fine-tuned one's do).

    Raises GanvasError where one doesn't exist, is damaged, or belongs to another generator.
    """
    dtype = choose_dtype(dtype, device)
    from ganvas.checkpoints.load import load_generator

    network = load_generator(generator, device, dtype)
    tools = Tools(network, dtype, codes=None if codes is None else load_codes(codes, network))
    if editor is None:
        return tools
    loaded, named = load_editor_for(network, editor, allow_other_generator)
    return replace(tools, editor=loaded, editor_name=named)


def choose_editor(generator: str, editor: str | Path | None) -> str | Path:
    """Return the named editor, else the one of the generator's card. Raises GanvasError where there is none."""
    name = editor or find_card(generator).editor
    if not name:
        raise GanvasError(f"Generator {generator!r} has no editor of its own: name one with --editor NAME or FILE.")
    return name


def load_editor_for(
    generator: Generator, editor: str | Path, allow_other_generator: bool = False
) -> tuple[Editor, NamedTool]:
    """Load an editor by name or path onto the generator's device, and return it with its name in recipes.

    Raises GanvasError where there is none, or it belongs to another generator (both are named).
    """
    from ganvas import editors

    loaded = editors.load_editor(editor, generator, allow_other_generator=allow_other_generator)
    return loaded, NamedTool(build_editor_reference(editor), fingerprint(loaded))


def build_editor_reference(editor: str | Path) -> str:
    """Return the name that recipes store for an editor given by name or path."""
    # A path means nothing elsewhere, so a recipe keeps the file's name only; the fingerprint says which file it was.
    return Path(editor).name if Path(editor).suffix else str(editor)


@torch.no_grad()
def compute_code(recipe: Recipe, tools: Tools) -> WPlus:
    """Compute the finished code of a recipe, (1, num_ws, w_dim).

    Raises GanvasError where ``tools`` aren't those that the recipe names, or lack one of its attributes or rows.
    """
    return apply_edits(compute_unedited_code(recipe, tools), recipe.edits, tools)


@torch.no_grad()
def apply_edits(ws: WPlus, edits: Sequence[EditStep], tools: Tools) -> WPlus:
    """Return codes with edits applied, one after another. Raises GanvasError as ``compute_code`` does."""
    for step in edits:
        editor = prepare_editor(step, tools)
        ws = editor.edit_quietly(ws, compute_changes(step, editor, ws))
    return ws


def prepare_editor(step: EditStep, tools: Tools) -> Editor:
    """Return the editor as a step asks for it: with its rows and its steps of search.

    Raises GanvasError for rows that the generator doesn't have, and for steps where the editor doesn't search.
    """
    editor = tools.required_editor
    editor = editor if step.search_steps is None else editor.with_search_steps(step.search_steps)
    return mask_editor(editor, step.rows, tools.generator)


@torch.no_grad()
def compute_unedited_code(recipe: Recipe, tools: Tools) -> WPlus:
    """Compute the code of a recipe before its edits, (1, num_ws, w_dim). Raises GanvasError as ``compute_code`` does."""
    _check_tools(recipe, tools)
    ws = _load_start(recipe.start, tools)
    return ws if recipe.mix is None else _mix_codes(ws, _load_start(recipe.mix.start, tools), recipe.mix)


@torch.no_grad()
def render(recipe: Recipe, tools: Tools) -> Images:
    """Render the picture of a recipe, (1, 3, height, width). Raises GanvasError as ``compute_code`` does."""
    return draw_code(compute_code(recipe, tools), recipe, tools)


@torch.no_grad()
def draw_code(ws: WPlus, recipe: Recipe, tools: Tools, resolution: int | None = None) -> Images:
    """Draw the picture of a recipe whose finished code is ``ws``.

    Edits are blended into the picture before them where the recipe keeps them to a region; if it names a photograph, the
    inversion's residual is added. ``resolution``: of a smaller picture, drawn early; not with a photograph.
    Raises GanvasError where ``tools`` hold another photograph or mask, or none.
    """
    generator, moved = tools.generator, recipe.transform
    if moved is not None and isinstance(generator, StyleGAN3):
        generator = generator.with_transform(moved.angle, moved.x, moved.y)
    mask = _find_mask(recipe, tools)
    if not recipe.edits or (recipe.regions is None and mask is None):
        picture = generator.synthesis(ws, resolution=resolution)
    else:
        before, parts = _draw_unedited(recipe, generator, tools, resolution)
        picture, after = draw_for_regions(generator, ws, recipe.regions or (), resolution)
        if mask is not None:
            picture = blend_pictures(before, picture, mask)
        elif recipe.regions is not None:
            picture = blend_edit(before, picture, recipe.regions, pair_parts(parts, after))
    if recipe.photo is None:
        return picture
    if tools.photo is None:
        raise GanvasError(
            f"The recipe adds the residual of a photograph (sha256 {recipe.photo[:12]}…): give it with --photo FILE."
        )
    if tools.photo.sha256 != recipe.photo:
        given = tools.photo.sha256[:12]
        raise GanvasError(
            f"The recipe needs the aligned photograph with sha256 {recipe.photo[:12]}…, but this one has {given}…."
        )
    from ganvas.inversion.residual import add_residual

    return add_residual(picture, tools.generator.synthesis(_load_start(recipe.start, tools)), tools.photo.picture)


def limit_to_regions(recipe: Recipe) -> Recipe:
    """Return the recipe with its edits kept to where their attributes show, if the generator's regions name all of them."""
    attributes = [name for step in recipe.edits for name in (*step.set, *step.shift)]
    return replace(recipe, regions=find_regions(recipe.generator.name, attributes) or None, mask=None)


def limit_to_mask(recipe: Recipe, mask: EditMask) -> Recipe:
    """Return the recipe with its edits, if there are any, kept to a mask."""
    return replace(recipe, regions=None, mask=mask.sha256) if recipe.edits else recipe


def _find_mask(recipe: Recipe, tools: Tools) -> Mask | None:
    """Return the mask of a picture that edits are kept to, None where there is none."""
    if recipe.mask is None:
        return None
    if tools.mask is None:
        raise GanvasError(f"The recipe keeps edits to a mask (sha256 {recipe.mask[:12]}…): give it with --region FILE.")
    if tools.mask.sha256 != recipe.mask:
        given = tools.mask.sha256[:12]
        raise GanvasError(f"The recipe needs the mask with sha256 {recipe.mask[:12]}…, but this one has {given}….")
    return tools.mask.mask


def _draw_unedited(
    recipe: Recipe, generator: Generator, tools: Tools, resolution: int | None
) -> tuple[Images, Parts | None]:
    """Draw the picture before the edits, and read its parts where the recipe's regions need them."""
    ws = compute_unedited_code(recipe, tools)
    needs_parts = any(region.reads_parts for region in recipe.regions or ())
    digest = hashlib.sha256(ws.float().cpu().contiguous().numpy().tobytes()).hexdigest()
    key = f"{resolution} {recipe.transform} {needs_parts} {digest}"
    if key not in tools.last_unedited:
        drawn = draw_for_regions(generator, ws, recipe.regions or (), resolution)
        tools.last_unedited.clear()
        tools.last_unedited[key] = drawn
    return tools.last_unedited[key]


def compute_changes(step: EditStep, editor: Editor, ws: WPlus) -> dict[str, torch.Tensor | float]:
    """Compute the changes that apply the shifts of ``step`` and bring codes to the values that it sets, both times ``amount``."""
    step = step.apply_refinement()
    solved = solve_changes(editor, ws, step.set, step.shift) if step.set else {}
    return {name: step.amount * change for name, change in (*step.shift.items(), *solved.items())}


def _check_tools(recipe: Recipe, tools: Tools) -> None:
    check_generator("The recipe", recipe.generator.name, recipe.generator.fingerprint, tools.generator)
    if recipe.dtype != tools.dtype:
        raise GanvasError(f"The recipe was rendered in {recipe.dtype}, not in {tools.dtype}.")
    if recipe.transform is not None and not isinstance(tools.generator, StyleGAN3):
        raise GanvasError(f"Generator {tools.generator.name!r} isn't a StyleGAN3: only those turn and move pictures.")
    if recipe.editor is None:
        return
    if tools.editor_name is None or tools.editor_name.fingerprint != recipe.editor.fingerprint:
        given = tools.editor_name
        other = f"not {given.name!r} ({given.fingerprint[:12]})" if given else "and none is given"
        expected = f"{recipe.editor.name!r} ({recipe.editor.fingerprint[:12]})"
        raise GanvasError(f"The recipe needs editor {expected}, {other}.")


def _load_start(start: Start, tools: Tools) -> WPlus:
    if not isinstance(start, FromCodes):
        labels = None if start.labels is None else torch.tensor([start.labels], device=tools.generator.device)
        if isinstance(start, FromSeed):
            return sample(tools.generator, 1, start.psi, start.seed, labels)
        from ganvas.control.sampling import sample_where

        editor, where = tools.required_editor, start.where
        return sample_where(tools.generator, editor, where, 1, start.seed, psi=start.psi, labels=labels)
    if tools.codes is None:
        raise GanvasError(
            f"The recipe starts from a codes file (sha256 {start.codes[:12]}…): give it with --codes FILE."
        )
    if tools.codes.sha256 != start.codes:
        given = tools.codes.sha256[:12]
        raise GanvasError(f"The recipe starts from the codes file with sha256 {start.codes[:12]}…, not {given}….")
    return tools.codes.get_code(start.row)


def _mix_codes(ws: WPlus, other: WPlus, mix: Mix) -> WPlus:
    if max(mix.rows) >= ws.shape[1]:
        raise GanvasError(f"There is no row {max(mix.rows)}: codes of this generator have rows 0 to {ws.shape[1] - 1}.")
    ws, rows = ws.clone(), list(mix.rows)
    ws[:, rows] = other[:, rows] if mix.amount == 1 else torch.lerp(ws[:, rows], other[:, rows], mix.amount)
    return ws
