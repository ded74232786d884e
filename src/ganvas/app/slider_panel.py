"""The panel of sliders: what the page's own script draws, and what comes back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ganvas.app.attribute_groups import OPEN_GROUPS, OTHER_GROUP, RARE_ATTRIBUTES, group_attributes
from ganvas.app.attribute_words import format_search_words, get_words
from ganvas.app.components import UNNAMED_COMPONENT
from ganvas.app.rendering import RenderedView
from ganvas.app.request_checks import check_number, check_text
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene
from ganvas.errors import GanvasError, unknown


def encode_panel(groups: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """Return the value of a panel of sliders, drawn after move ``number``.

    Groups are one text: Gradio's page copies each number of a value on its own, several times an event.
    """
    return {"groups": json.dumps(groups, ensure_ascii=False), "number": number}


def list_slider_groups(resources: AppResources, scene: Scene, shown: RenderedView) -> list[dict[str, Any]]:
    """List the groups of sliders of a scene, each slider with its scale, words, start, reach and present value."""
    choice = resources.require_choice(scene.editor) if scene.editor else None
    unnamed = [name for name in choice.sliders if UNNAMED_COMPONENT.fullmatch(name)] if choice else []
    moved = [name for name in unnamed if name in scene.changed_attributes]
    groups = group_attributes((*choice.shown_sliders, *moved) if choice else ())
    if choice and choice.is_own and OTHER_GROUP in groups:  # the visitor's own sliders first
        groups = {OTHER_GROUP: groups[OTHER_GROUP]} | groups
    return [
        {
            "name": group,
            "open": group in OPEN_GROUPS,
            "sliders": [
                describe_slider(
                    resources,
                    scene,
                    name,
                    group,
                    shown.start_readings.get(name, 0.0),
                    shown.readings.get(name, 0.0),
                    shown.reach.get(name, ()),
                )
                for name in members
            ],
        }
        for group, members in groups.items()
    ]


def describe_slider(
    resources: AppResources,
    scene: Scene,
    name: str,
    group: str,
    start: float,
    value: float,
    reach: Sequence[float] = (),
) -> dict[str, Any]:
    """Describe a slider for the page: ``start``, ``value`` and ``reach`` are in σ."""
    scale, words = resources.get_slider_scale(scene.editor, name), get_words(name)
    low, high, step = scale.ticks
    return {
        "name": name,
        "label": scale.label,
        "unit": scale.unit_name,
        "less": words.less,
        "more": words.more,
        "search": format_search_words(name, group),
        "low": low,
        "high": high,
        "step": step,
        "start": scale.convert_to_slider(start),
        "reach": sorted(map(scale.convert_to_slider, reach)),
        "value": scale.convert_to_slider(scene.slider_edit.set.get(name, value)),
        "changed": name in scene.changed_attributes,
        "rare": name in RARE_ATTRIBUTES,
    }


def parse_move(resources: AppResources, scene: Scene, move: Any, readings: Mapping[str, float] | None = None) -> Scene:
    """Return the scene in which a slider has moved; a value of None resets it.

    ``readings``: those of the unedited face, in σ, where they are known.

    Raises GanvasError for anything else than a slider's name and a value of its scale.
    """
    if not isinstance(move, dict):
        raise GanvasError("A slider sends its name and value.")
    name = check_text("A slider", move.get("name"))
    check_attribute(resources, scene, name)
    if move.get("value") is None and "value" in move:
        return scene.without_changes(name)
    scale = resources.get_slider_scale(scene.editor, name)
    number = check_number(repr(get_words(name).label), move.get("value"), *scale.bounds)
    return scene.with_value(name, scale.convert_to_sigma(number), (readings or {}).get(name))


def check_attribute(resources: AppResources, scene: Scene, name: str) -> None:
    """Raise GanvasError for an attribute that the scene's editor doesn't have."""
    names = resources.require_choice(scene.editor).editor.attributes if scene.editor else ()
    if name not in names:
        raise unknown("attribute", name, names or ["none: there is no editor"])
