"""Looks: edits that take one tap, each with a small picture of how the face would look."""

from __future__ import annotations

from typing import NamedTuple

from ganvas.app.scene import Scene
from ganvas.app.slider_scale import SliderScale


class Look(NamedTuple):
    """One of an attribute's values, ``by`` σ from the face's own, as far as the slider goes."""

    name: str
    attribute: str
    by: float


LOOKS = (
    Look("Smile", "Smiling", 1.5),
    Look("Serious", "Smiling", -1.5),
    Look("Older", "Age", 1.5),
    Look("Younger", "Age", -1.2),
    Look("Older", "Young", -1.5),
    Look("Younger", "Young", 1.2),
    Look("Glasses", "Eyeglasses", 1.5),
    Look("Sunglasses", "Sunglasses", 1.5),
    Look("Beard", "No_Beard", -1.8),
    Look("Blond hair", "Blond_Hair", 1.8),
    Look("Dark hair", "Black_Hair", 1.5),
    Look("Gray hair", "Gray_Hair", 1.5),
    Look("Lighter hair", "Hair_Lightness", 1.5),
    Look("Darker hair", "Hair_Lightness", -1.5),
    Look("Makeup", "Heavy_Makeup", 1.5),
)
MAX_LOOKS = 9


def list_looks(attributes: tuple[str, ...]) -> list[Look]:
    """Return the looks for the attributes with a slider, at most ``MAX_LOOKS``; for others than of faces, two of each."""
    by_name = {look.name: look for look in reversed(LOOKS) if look.attribute in attributes}
    found = [look for look in LOOKS if by_name.get(look.name) == look]
    if not found:
        found = [
            Look(SliderScale(None, name).label + sign, name, by)
            for name in attributes
            for sign, by in ((" +", 1.5), (" −", -1.5))
        ]
    return found[:MAX_LOOKS]


def apply_look(scene: Scene, look: Look, reading: float, scale: SliderScale) -> Scene:
    """Return the scene with a look, or without it where the scene has it already.

    ``reading``: the attribute's reading of the unedited face, in σ.
    """
    # At one of the slider's ticks, as if it had been moved there.
    value = scale.convert_to_sigma(scale.convert_to_slider(reading + look.by))
    if scene.slider_edit.set.get(look.attribute) == value:
        return scene.without_changes(look.attribute)
    return scene.with_value(look.attribute, value)
