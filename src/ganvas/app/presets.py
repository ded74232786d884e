"""Presets: edits that take one tap, each with a small picture of how the face would be."""

from __future__ import annotations

from typing import NamedTuple

from ganvas.app.scene import Scene
from ganvas.app.slider_scale import SliderScale


class Preset(NamedTuple):
    """One of an attribute's values, ``by`` σ from the face's own, as far as the slider goes."""

    name: str
    attribute: str
    by: float


PRESETS = (
    Preset("Smile", "Smiling", 1.5),
    Preset("Serious", "Smiling", -1.5),
    Preset("Older", "Age", 1.5),
    Preset("Younger", "Age", -1.2),
    Preset("Older", "Young", -1.5),
    Preset("Younger", "Young", 1.2),
    Preset("Glasses", "Eyeglasses", 1.5),
    Preset("Sunglasses", "Sunglasses", 1.5),
    Preset("Beard", "No_Beard", -1.8),
    Preset("Blond hair", "Blond_Hair", 1.8),
    Preset("Dark hair", "Black_Hair", 1.5),
    Preset("Gray hair", "Gray_Hair", 1.5),
    Preset("Lighter hair", "Hair_Lightness", 1.5),
    Preset("Darker hair", "Hair_Lightness", -1.5),
    Preset("Makeup", "Heavy_Makeup", 1.5),
)
MAX_PRESETS = 9


def list_presets(attributes: tuple[str, ...]) -> list[Preset]:
    """Return the presets for the attributes with a slider, at most ``MAX_PRESETS``; for others than of faces, two of each."""
    by_name = {preset.name: preset for preset in reversed(PRESETS) if preset.attribute in attributes}
    found = [preset for preset in PRESETS if by_name.get(preset.name) == preset]
    if not found:
        found = [
            Preset(SliderScale(None, name).label + sign, name, by)
            for name in attributes
            for sign, by in ((" +", 1.5), (" −", -1.5))
        ]
    return found[:MAX_PRESETS]


def apply_preset(scene: Scene, preset: Preset, reading: float, scale: SliderScale) -> Scene:
    """Return the scene with a preset, or without it where the scene has it already.

    ``reading``: the attribute's reading of the unedited face, in σ.
    """
    # At one of the slider's ticks, as if it had been moved there.
    value = scale.convert_to_sigma(scale.convert_to_slider(reading + preset.by))
    if scene.slider_edit.set.get(preset.attribute) == value:
        return scene.without_changes(preset.attribute)
    return scene.with_value(preset.attribute, value)
