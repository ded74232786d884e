"""Explore: components that a generator varies most, as sliders that have numbers until the visitor names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from ganvas import editors
from ganvas.app import rendering, request_checks
from ganvas.app.attribute_words import format_attribute
from ganvas.app.own_slider import OwnSliderHandlers, parse_name
from ganvas.app.scene import Scene
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.app.slider_panel import describe_slider
from ganvas.editors.base import Editor, LinearEditor, collect_metadata
from ganvas.editors.extended import ExtendedEditor
from ganvas.errors import GanvasError, unknown

METHOD_NAMES = {"sefa": "SeFa", "ganspace": "GANSpace"}
NUMBERED = re.compile(rf"({'|'.join(METHOD_NAMES)})_\d+")
"""The attribute of a component that has no name yet."""
COMPONENTS_PER_PAGE = 6


class ExploreHandlers:
    """Handlers of unnamed sliders. ``own``: those of sliders that visitors make, whose editors these join."""

    def __init__(self, own: OwnSliderHandlers) -> None:
        self.own, self.edit_handlers, self.resources = own, own.edit_handlers, own.resources

    async def describe_components(self, session: Session, scene: Scene, is_stale: Callable[[], bool]) -> dict[str, Any]:
        """Return the values of the sliders, with their strips where the face is another one, and of the method."""
        run, resources, update = self.edit_handlers.run_with_generator, self.resources, gr.skip()

        def fit() -> tuple[LinearEditor, str]:
            try:
                return resources.fit_components(scene, session.explored_method), ""
            except GanvasError as error:  # a generator without style weights
                return resources.fit_components(scene, "ganspace"), str(error)

        components, problem = await run(session, fit, is_stale)
        if problem:
            gr.Info(problem, title="Explore")
            session.explored_method = "ganspace"
            update = gr.update(value=session.explored_method)
        if problem or session.explored_first >= len(components.attributes):  # another generator may have fewer
            session.explored_first = 0
        method, first = session.explored_method, session.explored_first
        starts, values = await run(
            session,
            lambda: [
                components.read(ws)[0].tolist() for ws in (resources.compute_start(scene), resources.render(scene).ws)
            ],
            is_stale,
        )
        shown, sliders = (replace(scene.unedited, editor=""), method, first), []
        for k in range(first, min(first + COMPONENTS_PER_PAGE, len(components.attributes))):
            name = components.attributes[k]
            slider = describe_slider(resources, scene, name, METHOD_NAMES[method], starts[k], values[k])
            slider |= {"unnamed": True, "by": rendering.STRIP_SIGMA}
            if session.shown_components != shown:
                draw = lambda name=name: rendering.render_component(resources, scene, components, name)  # noqa: E731
                slider["strip"] = [rendering.to_url(data) for data in await run(session, draw, is_stale)]
            sliders.append(slider)
        session.shown_components = shown
        group = {"name": METHOD_NAMES[method], "open": True, "sliders": sliders}
        return {"components": {"groups": [group], "number": session.num_moves}, "method": update}

    @report_errors
    async def choose_method(self, method: Any, session: Session) -> list[Any]:
        """Show another method's first components. Returns values for the sliders and the method."""
        if method not in METHOD_NAMES:
            raise unknown("method", method, METHOD_NAMES)
        session.explored_method, session.explored_first = method, 0
        return await self._show(session)

    @report_errors
    async def show_next(self, session: Session) -> list[Any]:
        """Show the next components, after the last ones the first. Returns as ``choose_method`` does."""
        scene, method = session.scene, session.explored_method
        components = await self.edit_handlers.run_with_generator(
            session, lambda: self.resources.fit_components(scene, method)
        )
        following = session.explored_first + COMPONENTS_PER_PAGE
        session.explored_first = following if following < len(components.attributes) else 0
        return await self._show(session)

    async def _show(self, session: Session) -> list[Any]:
        version = session.version
        updates = await self.describe_components(session, session.scene, lambda: session.version != version)
        return [updates["components"], updates["method"]]

    @report_errors
    async def move_slider(self, move: Any, session: Session) -> Any:
        """Preview the picture while an unnamed slider moves; a component that moves first joins the scene's editor."""
        name, scene = str(move.get("name")) if isinstance(move, dict) else "", session.scene
        is_new = NUMBERED.fullmatch(name) and name not in self._get_attributes(scene)
        if is_new and move.get("value") is not None:
            is_stale = session.start_request()
            extended = await self._extend_scene(session, scene, name)
            if is_stale():
                raise Superseded
            session.scene = extended
        return await self.edit_handlers.move_slider(move, session)

    @report_errors
    async def save_slider(self, named: Any, session: Session) -> list[Any]:
        """Give an unnamed slider a name, under which it joins the others. Returns values for ``scene_outputs``."""
        if not isinstance(named, dict) or not NUMBERED.fullmatch(
            request_checks.check_text("A slider", named.get("name"))
        ):
            raise GanvasError("What is named is a slider without a name.")
        label = parse_name(named.get("label"))
        scene = await self._extend_scene(session, session.scene, named["name"], label)
        session.commit()
        shown = await self.edit_handlers.show_all(session, session.set_scene(scene))
        gr.Info(f"{format_attribute(label)} is a slider now.", title="Explore")
        return shown

    def _get_attributes(self, scene: Scene) -> tuple[str, ...]:
        return self.resources.choices[scene.editor].editor.attributes if scene.editor else ()

    async def _extend_scene(self, session: Session, scene: Scene, name: str, label: str = "") -> Scene:
        """Return the scene with a component among its editor's attributes, under a label if one is given.

        Of the other unnamed components those stay that the scene changes.
        """
        editor, numbered = split_numbered(self.resources.choices[scene.editor].editor if scene.editor else None)
        changed = {key for step in scene.edits for key in (*step.set, *step.shift)}
        labels = {name: label or name} | {each: each for each in numbered if each in changed and each != name}
        for each, attribute in labels.items():
            added = await self.edit_handlers.run_with_generator(
                session, lambda each=each, attribute=attribute: self._pick_component(scene, each, attribute)
            )
            editor = added if editor is None else editors.extend_editor(editor, added)
        if editor is None:
            raise unknown("component", name, ())
        made = editor
        path = await self.edit_handlers.run_in_background(session, lambda: self.own.add_editor(made, label or name))
        return _rename_attribute(scene, name, label or name).with_editor(path, made.attributes)

    def _pick_component(self, scene: Scene, name: str, attribute: str) -> LinearEditor:
        components = self.resources.fit_components(scene, name.partition("_")[0])
        if name not in components.attributes:
            raise unknown("component", name, components.attributes)
        k, metadata = components.attributes.index(name), collect_metadata(components)
        metadata = replace(
            metadata,
            attributes=(attribute,),
            kinds=("value",),
            gaussianize=metadata.gaussianize.select([k]),
            probe=metadata.probe.select([k]),
            report={},
        )
        return LinearEditor(metadata, components.get_buffer("directions")[[k]])


def split_numbered(editor: Editor | None) -> tuple[Editor | None, list[str]]:
    """Return an editor without the unnamed components that joined it last, and their names; None where nothing is left."""
    names = []
    while editor is not None and NUMBERED.fullmatch(editor.attributes[-1]):
        inner = editor.inner if isinstance(editor, ExtendedEditor) else None
        if len(editor.attributes) != 1 + (len(inner.attributes) if inner else 0):
            break
        names.append(editor.attributes[-1])
        editor = inner
    return editor, names


def _rename_attribute(scene: Scene, name: str, label: str) -> Scene:
    """Return the scene whose edits change ``label`` in place of ``name``."""

    def rename(values: Any) -> Any:
        return values and {label if key == name else key: value for key, value in values.items()}

    edits = (
        replace(step, set=rename(step.set), shift=rename(step.shift), refined=rename(step.refined))
        for step in scene.edits
    )
    return replace(scene, edits=tuple(edits))
