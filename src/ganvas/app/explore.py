"""Explore: components that a generator varies most, as sliders that have numbers until the visitor names them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import gradio as gr

from ganvas import editors
from ganvas.app import rendering, request_checks
from ganvas.app.attribute_words import format_attribute
from ganvas.app.components import METHOD_NAMES, UNNAMED_COMPONENT, select_components, split_unnamed
from ganvas.app.edit_handlers import record_move
from ganvas.app.own_slider import OwnSliderHandlers, parse_name
from ganvas.app.scene import Scene
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.app.slider_panel import describe_slider, encode_panel
from ganvas.editors.base import Editor, LinearEditor
from ganvas.errors import GanvasError, unknown

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
        return {"components": encode_panel([group], session.num_moves), "method": update}

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
        """Preview the picture while an unnamed slider moves; the first one of a page brings all of it to the scene's editor."""
        name, scene = str(move.get("name")) if isinstance(move, dict) else "", session.scene
        if UNNAMED_COMPONENT.fullmatch(name) and name not in self._get_attributes(scene):
            if move.get("value") is None:  # it is reset, and hasn't moved
                record_move(session, move)
                return gr.skip()
            is_stale = session.start_request()
            extended = await self._join_page(session, scene, name)
            if is_stale():
                raise Superseded
            session.scene = extended
        return await self.edit_handlers.move_slider(move, session)

    @report_errors
    async def save_slider(self, named: Any, session: Session) -> list[Any]:
        """Give an unnamed slider a name, under which it joins the others. Returns values for ``scene_outputs``."""
        if not isinstance(named, dict) or not UNNAMED_COMPONENT.fullmatch(
            request_checks.check_text("A slider", named.get("name"))
        ):
            raise GanvasError("What is named is a slider without a name.")
        label, version = parse_name(named.get("label")), session.version
        scene = await self._name_component(session, session.scene, named["name"], label)
        if session.version != version:
            raise GanvasError("The picture changed while the slider was saved: save it again.")
        session.commit()
        shown = await self.edit_handlers.show_all(session, session.set_scene(scene))
        gr.Info(f"{format_attribute(label)} is a slider now.", title="Explore")
        return shown

    def _get_attributes(self, scene: Scene) -> tuple[str, ...]:
        editor = self._get_editor(scene)
        return editor.attributes if editor else ()

    def _get_editor(self, scene: Scene) -> Editor | None:
        return self.resources.require_choice(scene.editor).editor if scene.editor else None

    async def _fit_components(self, session: Session, scene: Scene, name: str) -> LinearEditor:
        """Return the components of which one has this name."""
        components = await self.edit_handlers.run_with_generator(
            session, lambda: self.resources.fit_components(scene, name.partition("_")[0])
        )
        if name not in components.attributes:
            raise unknown("component", name, components.attributes)
        return components

    async def _join_page(self, session: Session, scene: Scene, name: str) -> Scene:
        """Return the scene whose editor has the components of a page, too.

        All of them at once, and in one order, so that few editors are made, and visitors share them.
        """
        base, unnamed = split_unnamed(self._get_editor(scene))
        components = await self._fit_components(session, scene, name)
        k = components.attributes.index(name) // COMPONENTS_PER_PAGE * COMPONENTS_PER_PAGE
        page = components.attributes[k : k + COMPONENTS_PER_PAGE]
        extended = await self._extend_editor(session, scene, base, {*unnamed, *page})
        return replace(scene, editor=await self.own.add_editor(session, extended, "explored"))

    async def _name_component(self, session: Session, scene: Scene, name: str, label: str) -> Scene:
        """Return the scene with a component among its editor's attributes, under a label.

        Of the unnamed components those stay that the scene changes, in an editor of their own.
        """
        base, unnamed = split_unnamed(self._get_editor(scene))
        added = select_components(await self._fit_components(session, scene, name), [name], [label])
        named = added if base is None else editors.extend_editor(base, added)
        picked = await self.own.add_editor(session, named, label)
        session.own_editors.add(picked)
        changed = {key for step in scene.edits for key in (*step.set, *step.shift)} - {name}
        extended: Editor = named
        if changed & {*unnamed}:
            extended = await self._extend_editor(session, scene, named, changed & {*unnamed})
            picked = await self.own.add_editor(session, extended, "explored")
        return replace(_rename_attribute(scene, name, label), editor=picked)

    async def _extend_editor(
        self, session: Session, scene: Scene, base: Editor | None, names: Collection[str]
    ) -> Editor:
        """Return an editor with unnamed components, those of one method after those of another."""
        extended = base
        for method in METHOD_NAMES:
            numbers = sorted(int(name.rpartition("_")[2]) for name in names if name.startswith(f"{method}_"))
            if not numbers:
                continue
            attributes = [f"{method}_{number}" for number in numbers]
            components = await self._fit_components(session, scene, attributes[-1])
            added = select_components(components, attributes, attributes)
            extended = added if extended is None else editors.extend_editor(extended, added)
        if extended is None:
            raise GanvasError("There are no components to explore.")
        return extended


def _rename_attribute(scene: Scene, name: str, label: str) -> Scene:
    """Return the scene whose edits change ``label`` in place of ``name``."""

    def rename(values: Any) -> Any:
        return values and {label if key == name else key: value for key, value in values.items()}

    edits = (
        replace(step, set=rename(step.set), shift=rename(step.shift), refined=rename(step.refined))
        for step in scene.edits
    )
    return replace(scene, edits=tuple(edits))
