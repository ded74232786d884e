"""What a visitor looks at: a face and what was changed about it, as a value. A scene and the tools make a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.data.codes import Codes
from ganvas.errors import GanvasError, unknown
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Mix, Recipe, Start
from ganvas.recipe.rendering import Tools

MAX_PSI = 2.0
MAX_CHANGE = 4.0
MAX_STEPS = 32
"""Bounds of what a link or a recipe may ask of a page: beyond them are no pictures."""


@dataclass(frozen=True)
class Scene:
    """``editor`` is a name among those that can be picked, or "". The sliders hold the last of ``edits``."""

    generator: str
    editor: str
    start: Start
    mix: Mix | None = None
    edits: tuple[EditStep, ...] = ()
    dtype: str = "float32"
    codes: Codes | None = field(default=None, compare=False)
    """What ``start`` is a row of, where it's a photograph; its sha256 stands in ``start``."""

    @property
    def step(self) -> EditStep:
        """What the sliders say: the last edit, where it's whole."""
        return self.edits[-1] if self.edits and self.edits[-1].amount == 1 else EditStep()

    @property
    def touched(self) -> tuple[str, ...]:
        """The attributes that the sliders and buttons changed, in that order."""
        return (*self.step.set, *self.step.shift)

    @property
    def plain(self) -> Scene:
        """The face itself, before all edits."""
        return replace(self, edits=())

    def setting(self, name: str, value: float) -> Scene:
        """The same with an attribute brought to ``value``, in σ. Raises GanvasError beyond what faces go to."""
        check_value(name, value)
        shift = {key: change for key, change in self.step.shift.items() if key != name}
        return self._with(EditStep({**self.step.set, name: float(value)}, shift))

    def shifting(self, name: str, by: float) -> Scene:
        """The same with an attribute changed by ``by`` more, in its own units (objects, for a count)."""
        change = self.step.shift.get(name, 0.0) + by
        check_value(name, change)
        kept = {key: value for key, value in self.step.set.items() if key != name}
        shift = {key: value for key, value in self.step.shift.items() if key != name}
        return self._with(EditStep(kept, shift | ({name: change} if change else {})))

    def without(self, *names: str) -> Scene:
        """The same with some attributes as they were."""
        set_, shift = (
            {key: value for key, value in values.items() if key not in names}
            for values in (self.step.set, self.step.shift)
        )
        return self._with(EditStep(set_, shift))

    def at(self, amount: float) -> Scene:
        """The same with its edits made by this share."""
        return replace(self, edits=tuple(replace(step, amount=step.amount * amount) for step in self.edits))

    def with_editor(self, editor: str, attributes: tuple[str, ...]) -> Scene:
        """The same under another editor; changes of what it doesn't know are dropped."""
        lost = [name for name in self.touched if name not in attributes]
        kept = self.without(*lost)
        known = all(name in attributes for step in kept.edits for name in (*step.set, *step.shift))
        return replace(kept, editor=editor, edits=kept.edits if known else ())

    def recipe(self, tools: Tools) -> Recipe:
        """Everything about the picture. Raises GanvasError for what the editor doesn't have."""
        for step in self.edits:
            for name in (*step.set, *step.shift):
                if name not in tools.required_editor.attributes:
                    raise unknown("attribute", name, tools.required_editor.attributes)
        conditional = any(
            isinstance(start, FromConditions) for start in (self.start, *((self.mix.start,) if self.mix else ()))
        )
        named = tools.editor_name if self.edits or conditional else None
        return Recipe(tools.generator_name, self.start, tools.dtype, self.mix, named, self.edits)

    def _with(self, step: EditStep) -> Scene:
        earlier = self.edits[:-1] if self.edits and self.edits[-1].amount == 1 else self.edits
        return replace(self, edits=(*earlier, step) if step.set or step.shift else earlier)


def check_value(name: str, value: float) -> None:
    """Raises GanvasError for a value beyond which there are no faces, and for NaN."""
    if not -MAX_DEVIATIONS <= value <= MAX_DEVIATIONS:
        raise GanvasError(f"{name!r} goes from {-MAX_DEVIATIONS:g} to {MAX_DEVIATIONS:g}, not to {value:g}.")


def check_scene(scene: Scene) -> Scene:
    """The scene, where a page can show it. Raises GanvasError where numbers are beyond any picture."""
    if len(scene.edits) > MAX_STEPS:
        raise GanvasError(f"A recipe with {len(scene.edits)} edits is too long for this page: {MAX_STEPS} at most.")
    for step in scene.edits:
        _check_within("The amount of an edit", step.amount, MAX_CHANGE)
        for name, value in (*step.set.items(), *step.shift.items()):
            check_value(name, value)
    if scene.mix is not None:
        _check_within("The amount of a mix", scene.mix.amount, MAX_CHANGE)
    for start in (scene.start, *((scene.mix.start,) if scene.mix else ())):
        if not isinstance(start, FromCodes):
            _check_within("psi", start.psi, MAX_PSI)
            if start.labels is not None:
                raise GanvasError("This page draws no faces of conditional generators.")
    return scene


def title_of(scene: Scene) -> str:
    """The face in a few words."""
    start = scene.start
    if isinstance(start, FromCodes):
        title = "your photo"
    else:
        title = f"seed {start.seed}" if isinstance(start, FromSeed) else f"as asked, {start.seed}"
    return title if scene.mix is None else f"like {title}"


def describe_scene(scene: Scene, labels: Mapping[str, str]) -> str:
    """The picture in words, for those who don't see it."""
    changes = [f"{labels.get(name, name)} at {value:+.2g} σ" for name, value in scene.step.set.items()]
    changes += [f"{labels.get(name, name)} {value:+g}" for name, value in scene.step.shift.items()]
    return f"The picture of {title_of(scene)}" + (f" with {', '.join(changes)}" if changes else "")


def _check_within(what: str, value: float, most: float) -> None:
    if not -most <= value <= most:
        raise GanvasError(f"{what} is at most {most:g} on this page, not {value:g}.")
