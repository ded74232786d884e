"""Presets: edits that take one tap, each with a small picture of how the face would be, and those that visitors saved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ganvas.app.attribute_words import format_attribute
from ganvas.app.request_checks import check_number, check_text
from ganvas.app.scene import Scene
from ganvas.app.slider_scale import SliderScale
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.errors import GanvasError

MAX_SAVED_PRESETS = 24
"""Presets of one visitor."""


class Preset(NamedTuple):
    """Changes of attributes in σ, from the face's own values and as far as the sliders go."""

    name: str
    changes: Mapping[str, float]


PRESETS = (
    Preset("Smile", {"Smiling": 1.5}),
    Preset("Serious", {"Smiling": -1.5}),
    Preset("Older", {"Age": 1.5}),
    Preset("Younger", {"Age": -1.2}),
    Preset("Older", {"Young": -1.5}),
    Preset("Younger", {"Young": 1.2}),
    Preset("Glasses", {"Eyeglasses": 1.5}),
    Preset("Sunglasses", {"Sunglasses": 1.5}),
    Preset("Beard", {"No_Beard": -1.8}),
    Preset("Blond hair", {"Blond_Hair": 1.8}),
    Preset("Dark hair", {"Black_Hair": 1.5}),
    Preset("Gray hair", {"Gray_Hair": 1.5}),
    Preset("Lighter hair", {"Hair_Lightness": 1.5}),
    Preset("Darker hair", {"Hair_Lightness": -1.5}),
    Preset("Makeup", {"Heavy_Makeup": 1.5}),
)
MAX_PRESETS = 9


def list_presets(attributes: tuple[str, ...]) -> list[Preset]:
    """Return the presets for the attributes with a slider, at most ``MAX_PRESETS``, and of one name only the first.

    Where none fits, as for other pictures than faces, there is one up and one down for each attribute.
    """
    found: dict[str, Preset] = {}
    for preset in PRESETS:
        if has_attributes(preset, attributes):
            found.setdefault(preset.name, preset)
    if not found:
        for name in attributes:
            for sign, by in ((" +", 1.5), (" −", -1.5)):
                label = format_attribute(name) + sign
                found[label] = Preset(label, {name: by})
    return list(found.values())[:MAX_PRESETS]


def has_attributes(preset: Preset, attributes: Collection[str]) -> bool:
    """Return whether all that a preset changes is among the attributes."""
    return set(preset.changes) <= set(attributes)


def toggle_preset(
    scene: Scene, preset: Preset, readings: Mapping[str, float], get_scale: Callable[[str], SliderScale]
) -> Scene:
    """Return the scene with a preset, or without it where the scene has it already.

    ``readings``: those of the unedited face, in σ; ``get_scale`` returns an attribute's scale.
    """
    values = {}
    for name, by in preset.changes.items():
        # At one of the slider's ticks, as if it had been moved there.
        scale = get_scale(name)
        values[name] = scale.convert_to_sigma(scale.convert_to_slider(readings[name] + by))
    if all(scene.slider_edit.set.get(name) == value for name, value in values.items()):
        return scene.without_changes(*values)
    for name, value in values.items():
        scene = scene.with_value(name, value, readings[name])
    return scene


def make_preset(name: Any, scene: Scene, readings: Mapping[str, float]) -> Preset:
    """Make a preset of how far a scene's sliders were moved. Raises GanvasError without a name, and where none was moved."""
    text = check_text("The name", name).strip()
    if not text:
        raise GanvasError("Give the look a name.")
    if not scene.slider_edit.set:
        raise GanvasError("Move sliders first: a look is how far they were moved.")
    if scene.slider_edit.shift:
        steps = ", ".join(map(format_attribute, scene.slider_edit.shift))
        raise GanvasError(f"A look keeps sliders, not plus and minus: undo those of {steps} first.")
    return Preset(text, {each: value - readings[each] for each, value in scene.slider_edit.set.items()})


def parse_presets(value: Any) -> list[Preset]:
    """Return the presets that a browser has saved, without entries that are damaged; of one name, only the first."""
    found: dict[str, Preset] = {}
    for each in value[:MAX_SAVED_PRESETS] if isinstance(value, list) else ():
        try:
            name, changes = check_text("A name", each["name"]), dict(each["changes"])
            changes = {
                check_text("An attribute", key): check_number("A change", by, -2 * MAX_DEVIATIONS, 2 * MAX_DEVIATIONS)
                for key, by in changes.items()
            }
        except (GanvasError, KeyError, TypeError, ValueError):
            continue
        if name.strip() and changes:
            found.setdefault(name, Preset(name, changes))
    return list(found.values())
