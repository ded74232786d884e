"""A face and its edits as a value; a scene and the tools make a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ganvas.app.attribute_words import format_attribute, get_sign
from ganvas.app.photographs import FacePhoto
from ganvas.app.slider_scale import SliderScale
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.control.refinement import BINARY_ATTRIBUTES
from ganvas.data.codes import Codes
from ganvas.errors import GanvasError, unknown
from ganvas.generators.regions import Region, load_regions
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Mix, Recipe, Start
from ganvas.recipe.refinement import DECIMALS
from ganvas.recipe.rendering import EditMask, Tools, limit_to_mask, limit_to_regions
from ganvas.types import Dtype

MAX_PSI = 2.0
MAX_AMOUNT = 4.0
MAX_EDITS = 32
"""Bounds of a link's or a recipe's numbers: there are no useful pictures beyond them."""
AUTOMATIC_REGION, NO_REGION, PAINTED_REGION, SAVED_REGION = "auto", "off", "painted", "saved"
"""Where edits may change the picture, beside the names of the generator's regions."""


@dataclass(frozen=True)
class Scene:
    """A face and its edits.

    ``editor`` is the name of one that can be picked, or ""; the sliders stand for the last of ``edits``.
    """

    generator: str
    editor: str
    start: Start
    mix: Mix | None = None
    edits: tuple[EditStep, ...] = ()
    dtype: Dtype = "float32"
    region: str = AUTOMATIC_REGION
    """Where edits may change the picture: where their attributes show, anywhere, in one region, where it is painted, or where
    the recipe says that was opened."""
    regions: tuple[Region, ...] = ()
    """Those of a recipe that aren't the page's own, as ``SAVED_REGION``."""
    mask_sha256: str = ""
    """Of the painted ``mask``."""
    rows: tuple[int, ...] | None = None
    """The rows of W+ that the sliders move; None: all that the editor moves."""
    codes: Codes | None = field(default=None, compare=False)
    """The codes file that ``start`` is a row of, where it is a photograph's; ``start`` has its sha256."""
    photo: FacePhoto | None = field(default=None, compare=False)
    """The photograph with the face that the code stands for, where edits are shown in it."""
    mask: EditMask | None = field(default=None, compare=False)
    photo_sha256: str = field(default="", compare=False)
    """Of the aligned photograph that the code of an opened recipe was found for."""

    @property
    def slider_edit(self) -> EditStep:
        """The edit that the sliders stand for: the last one, where it is a whole edit as the page makes them."""
        last = self.edits[-1] if self.edits else EditStep()
        return last if last.amount == 1 and last.rows == self.rows and last.search_steps is None else EditStep()

    @property
    def changed_attributes(self) -> tuple[str, ...]:
        """The attributes that sliders and buttons changed, in that order."""
        return (*self.slider_edit.set, *self.slider_edit.shift)

    @property
    def unedited(self) -> Scene:
        """The face before all edits."""
        return replace(self, edits=())

    @property
    def missing_photo(self) -> str:
        """The sha256 of the aligned photograph that the picture was made from, where that isn't here; "" otherwise."""
        return self.photo_sha256 if self.photo is None and self.mix is None else ""

    def with_start(self, start: Start) -> Scene:
        """Return the unedited scene of another face."""
        return replace(
            self.unedited,
            start=start,
            mix=None,
            codes=None,
            photo=None,
            region=AUTOMATIC_REGION,
            regions=(),
            mask=None,
            mask_sha256="",
            rows=None,
            photo_sha256="",
        )

    def with_rows(self, rows: tuple[int, ...] | None) -> Scene:
        """Return the scene whose sliders move other rows."""
        step = self.slider_edit
        chosen = replace(self, rows=rows)
        if not self.edits or step is not self.edits[-1]:
            return chosen
        return replace(chosen, edits=(*self.edits[:-1], replace(step, rows=rows, refined=None)))

    def with_value(self, name: str, value: float, reading: float | None = None) -> Scene:
        """Return the scene with an attribute set to ``value``, in σ. Raises GanvasError for values without faces.

        ``reading``: the unedited face's, in σ, where it is known: other changes of an edit that was refined then stay as they
        are. An edit of what a face has or hasn't is to be refined anew.
        """
        check_value(name, value)
        shift = {key: change for key, change in self.slider_edit.shift.items() if key != name}
        refined = self.slider_edit.refined
        if reading is None or name in BINARY_ATTRIBUTES or refined is None or len(self.edits) > 1:
            refined = None
        else:
            refined = {**refined, name: round(value - reading, DECIMALS)}
        return self._with_slider_edit(EditStep({**self.slider_edit.set, name: float(value)}, shift, refined=refined))

    def with_shift(self, name: str, by: float) -> Scene:
        """Return the scene with an attribute changed by ``by`` more, in its own units (objects, for a count)."""
        change = self.slider_edit.shift.get(name, 0.0) + by
        check_value(name, change)
        values = {key: value for key, value in self.slider_edit.set.items() if key != name}
        shift = {key: value for key, value in self.slider_edit.shift.items() if key != name}
        return self._with_slider_edit(EditStep(values, shift | ({name: change} if change else {})))

    def without_changes(self, *names: str) -> Scene:
        """Return the scene with the changes of some attributes removed; other refined changes stay, as in ``with_value``."""
        set_, shift = (
            {key: value for key, value in values.items() if key not in names}
            for values in (self.slider_edit.set, self.slider_edit.shift)
        )
        refined = self.slider_edit.refined
        if refined is not None:
            is_kept = not BINARY_ATTRIBUTES & {*names}
            refined = {key: value for key, value in refined.items() if key not in names} if is_kept else None
        return self._with_slider_edit(EditStep(set_, shift, refined=refined))

    def without_refinement(self) -> Scene:
        """Return the scene with its edits as they were asked for: what was found for one code isn't exact for another."""
        return replace(self, edits=tuple(replace(step, refined=None) for step in self.edits))

    def with_amount(self, amount: float) -> Scene:
        """Return the scene with all its edits multiplied by ``amount``."""
        return replace(self, edits=tuple(replace(step, amount=step.amount * amount) for step in self.edits))

    def with_editor(self, editor: str, attributes: tuple[str, ...], is_extended: bool = False) -> Scene:
        """Return the scene with another editor; changes of attributes that it doesn't have are dropped.

        ``is_extended``: it moves these attributes as the former one does, so that refined changes stay.
        """
        unsupported = [name for name in self.changed_attributes if name not in attributes]
        scene = (self if is_extended else self.without_refinement()).without_changes(*unsupported)
        supported = all(name in attributes for step in scene.edits for name in (*step.set, *step.shift))
        return replace(scene, editor=editor, edits=scene.edits if supported else ())

    def make_recipe(self, tools: Tools) -> Recipe:
        """Return the recipe of the picture. Raises GanvasError for attributes that the editor doesn't have."""
        for step in self.edits:
            for name in (*step.set, *step.shift):
                if name not in tools.required_editor.attributes:
                    raise unknown("attribute", name, tools.required_editor.attributes)
        conditional = any(
            isinstance(start, FromConditions) for start in (self.start, *((self.mix.start,) if self.mix else ()))
        )
        editor = tools.editor_name if self.edits or conditional else None
        recipe = Recipe(tools.generator_name, self.start, tools.dtype, self.mix, editor, self.edits)
        return self._limit_to_region(recipe)

    def _limit_to_region(self, recipe: Recipe) -> Recipe:
        if self.region == AUTOMATIC_REGION or not recipe.edits:
            return limit_to_regions(recipe)
        if self.region == PAINTED_REGION and self.mask is not None and self.photo is None:
            return limit_to_mask(recipe, self.mask)
        return replace(recipe, regions=self.find_named_regions() or None)

    def find_named_regions(self) -> tuple[Region, ...]:
        """Return the regions that were chosen by name, or that the recipe had; none where there are others or none."""
        if self.region == SAVED_REGION:
            return self.regions
        named = load_regions(self.generator).get(self.region)
        return () if named is None else (named[0],)

    def _with_slider_edit(self, step: EditStep) -> Scene:
        earlier = self.edits[:-1] if self.edits and self.slider_edit is self.edits[-1] else self.edits
        step = replace(step, rows=self.rows)
        return replace(self, edits=(*earlier, step) if step.set or step.shift else earlier)


def check_value(name: str, value: float) -> None:
    """Raise GanvasError for a value beyond which there are no faces, and for NaN."""
    if not -MAX_DEVIATIONS <= value <= MAX_DEVIATIONS:
        raise GanvasError(f"{name!r} goes from {-MAX_DEVIATIONS:g} to {MAX_DEVIATIONS:g}, not to {value:g}.")


def check_scene(scene: Scene) -> Scene:
    """Return the scene where the page can show it. Raises GanvasError for numbers out of range."""
    if len(scene.edits) > MAX_EDITS:
        raise GanvasError(f"A recipe with {len(scene.edits)} edits is too long for this page: {MAX_EDITS} at most.")
    for step in scene.edits:
        _check_within("The amount of an edit", step.amount, MAX_AMOUNT)
        for name, value in (*step.set.items(), *step.shift.items()):
            check_value(name, value)
    if scene.mix is not None:
        _check_within("The amount of a mix", scene.mix.amount, MAX_AMOUNT)
    for start in (scene.start, *((scene.mix.start,) if scene.mix else ())):
        if not isinstance(start, FromCodes):
            _check_within("The variety (psi)", start.psi, MAX_PSI)
            if start.labels is not None:
                raise GanvasError(
                    "This page can't draw faces of conditional generators: draw the recipe with `ganvas render`."
                )
    return scene


def format_title(scene: Scene) -> str:
    """Describe the face in a few words."""
    start = scene.start
    if isinstance(start, FromCodes):
        title = "your photo"
    else:
        title = f"seed {start.seed}" if isinstance(start, FromSeed) else f"sampled face {start.seed}"
    if scene.mix is None:
        return title
    if scene.mix.amount == 1 and isinstance(scene.mix.start, FromSeed):
        return f"{title} mixed with seed {scene.mix.start.seed}"
    return f"like {title}"


def describe_scene(scene: Scene, scales: Mapping[str, SliderScale]) -> str:
    """Describe the picture in words, as its alternative text; ``scales``: those of the attributes with a slider."""
    changes = []
    for name, sigma in scene.slider_edit.set.items():
        value = scales.get(name, SliderScale(None, name)).format_value(sigma, "+.2g")
        changes.append(f"{format_attribute(name)} at {value}")
    shift = scene.slider_edit.shift
    changes += [f"{format_attribute(name)} {value * get_sign(name):+g}" for name, value in shift.items()]
    return f"The picture of {format_title(scene)}" + (f" with {', '.join(changes)}" if changes else "")


def _check_within(what: str, value: float, limit: float) -> None:
    if not -limit <= value <= limit:
        raise GanvasError(f"{what} goes from {-limit:g} to {limit:g} on this page, not to {value:g}.")
