"""Handlers of sliders and buttons: each changes a session's scene, renders it, and returns what the page shows.

Gradio calls them as coroutines of one event loop; they wait for a work queue without holding a thread. They get values as
requests have them, unchecked, and return values as the browser gets them.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from ganvas import generators
from ganvas.app import rendering, request_checks
from ganvas.app.attribute_words import format_attribute, get_sign
from ganvas.app.rendering import RenderedView
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene, check_scene, describe_scene, format_title
from ganvas.app.session import Session, Superseded, WorkQueue, report_errors
from ganvas.errors import GanvasError, unknown
from ganvas.generators.regions import load_regions
from ganvas.recipe.model import FromSeed

T = TypeVar("T")
REST_SECONDS = 0.06
"""Seconds without a newer position after which a slider counts as resting."""
FACES_PER_PAGE = 12
"""Faces on a page of the gallery."""
SAMPLED_FACES = 16
"""Faces that are sampled at the sliders' values."""


class EditHandlers:
    """Handlers of edits, and what all handlers need: queues, the server's folder, and ways to show a scene.

    ``generator_queue`` runs what needs the generator, ``background_queue`` what doesn't; ``names``: attributes with a slider.
    """

    def __init__(
        self,
        resources: AppResources,
        generator_queue: WorkQueue,
        background_queue: WorkQueue,
        folder: Path,
        names: Sequence[str],
    ) -> None:
        self.resources, self.folder, self.slider_names = resources, folder, tuple(names)
        self.run_with_generator, self.run_in_background = generator_queue.run, background_queue.run
        self.generator_queue = generator_queue

    def get_session_folder(self, session: Session) -> Path:
        """Return the path of the session's own folder."""
        return self.folder / f"{request_checks.SESSION_PREFIX}{session.key}"

    def delete_session(self, session: Session) -> None:
        """Delete the files of a session that has ended, and make what it has waiting stale."""
        session.start_request()
        shutil.rmtree(self.get_session_folder(session), ignore_errors=True)

    async def draw_or_restore(self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool]) -> T:
        """Render the session's scene; where that fails, the session returns to the scene that was shown last."""
        try:
            return await self.run_with_generator(session, work, is_stale)
        except GanvasError:
            if not is_stale():
                session.restore()
            raise

    # Showing scenes.

    async def show_scene(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Render the scene in full and make it a step that can be undone. Returns values for ``view_outputs``."""
        scene = session.scene
        shown = await self.draw_or_restore(session, lambda: rendering.render_full(self.resources, scene), is_stale)
        if is_stale():
            raise Superseded
        session.commit()
        session.rendered_version = session.version
        return self.make_view_updates(session, shown)

    async def show_all(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Show the scene and its pickers. Returns values for ``scene_outputs``."""
        return [*self.make_picker_updates(session), *await self.show_scene(session, is_stale)]

    def make_view_updates(self, session: Session, shown: RenderedView) -> list[Any]:
        """Return values for ``view_outputs``: session, picture, status, undo, redo, reset, changed, count, sliders.

        The session is among them since Gradio keeps it for a time after it was last returned.
        """
        scene = session.scene
        alt = self.describe(scene)
        return [
            session,
            gr.update(value=rendering.to_image_value(shown.picture), alt_text=alt),
            self._format_status(scene, shown),
            gr.update(interactive=session.can_undo),
            gr.update(interactive=session.can_redo),
            gr.update(interactive=bool(scene.edits)),
            [name for name in scene.changed_attributes if name in self.slider_names],
            self._format_count(session, shown),
            *(self._slider_value(scene, shown, name) for name in self.slider_names),
        ]

    def _slider_value(self, scene: Scene, shown: RenderedView, name: str) -> float:
        sigma = scene.slider_edit.set.get(name, shown.readings.get(name, 0.0))
        return self.resources.get_slider_scale(scene.editor, name).convert_to_slider(sigma)

    def describe(self, scene: Scene) -> str:
        """Describe the picture in words, with values as the sliders show them."""
        return describe_scene(
            scene, {name: self.resources.get_slider_scale(scene.editor, name) for name in self.slider_names}
        )

    def _format_status(self, scene: Scene, shown: RenderedView) -> str:
        parts = [format_title(scene)]
        if isinstance(scene.start, FromSeed):
            parts.append(f"variety {scene.start.psi:g}")
        for name, sigma in scene.slider_edit.set.items():
            value = self.resources.get_slider_scale(scene.editor, name).format_value(sigma)
            parts.append(f"{format_attribute(name)} at {value}")
        shift = scene.slider_edit.shift
        parts += [f"{format_attribute(name)} {change * get_sign(name):+g}" for name, change in shift.items()]
        text = f"<p class='gv-status' role='status'>{escape(' · '.join(parts))}</p>"
        if shown.distance > shown.bound:
            text += (
                "<p class='gv-warning' role='alert'>This is further from the usual pictures than the generator draws well "
                f"(distance {shown.distance:.1f}, usual up to {shown.bound:.1f}): expect flaws, or somebody else.</p>"
            )
        return text

    def _format_count(self, session: Session, shown: RenderedView) -> str:
        if session.counted_attribute not in shown.counts:
            return ""
        name = session.counted_attribute
        change = session.scene.slider_edit.shift.get(name, 0.0)
        changed = f", changed by {change:+g}" if change else ""
        text = f"<b>{shown.counts[name]:g}</b> seen ({escape(format_attribute(name))}){changed}"
        wanted = shown.start_counts[name] + change
        if change and shown.counts[name] != wanted:
            editor = self.resources.choices[session.scene.editor].editor
            low, high = (round(each) for each in editor.gaussianize.get_range(editor.attributes.index(name)))
            reason = "the picture doesn't follow" if low <= wanted <= high else f"this generator draws {low} to {high}"
            text += f"<br>{wanted:g} were asked for, but {reason}."
        return f"<p class='gv-count' role='status'>{text}</p>"

    # Sliders.

    def make_slider_handler(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler of one slider while it moves, which shows a preview."""

        @report_errors
        async def move(value: Any, session: Session) -> Any:
            scale = self.resources.get_slider_scale(session.scene.editor, name)
            number = request_checks.check_number(repr(format_attribute(name)), value, *scale.bounds)
            self._check_attribute(session.scene, name)
            is_stale = session.set_scene(session.scene.with_value(name, scale.convert_to_sigma(number)))
            scene = session.scene
            preview = await self.draw_or_restore(
                session, lambda: rendering.render_preview(self.resources, scene), is_stale
            )
            return gr.update(value=rendering.to_image_value(preview), alt_text=self.describe(scene))

        return move

    def _check_attribute(self, scene: Scene, name: str) -> None:
        names = self.resources.choices[scene.editor].editor.attributes if scene.editor else ()
        if name not in names:
            raise unknown("attribute", name, names or ["none: there is no editor"])

    @report_errors
    async def render_at_rest(self, session: Session) -> Any:
        """Show the picture in full after a preview, where no newer request came meanwhile."""
        version = session.version
        await asyncio.sleep(REST_SECONDS)
        if session.version != version or session.rendered_version == version:
            return gr.skip()
        shown = await self.show_scene(session, lambda: session.version != version)
        # Moved sliders are left alone: they may be moving again, which the browser knows first.
        return shown[: -len(self.slider_names)] + [
            gr.skip() if name in session.scene.slider_edit.set else value
            for name, value in zip(self.slider_names, shown[-len(self.slider_names) :], strict=True)
        ]

    # Steps.

    def make_step_handler(self, change: Callable[[Session], Scene]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make a handler that shows another scene."""

        @report_errors
        async def show(session: Session) -> Any:
            session.commit()
            return await self.show_scene(session, session.set_scene(check_scene(change(session))))

        return show

    @report_errors
    async def undo(self, session: Session) -> Any:
        """Go one step back."""
        return await self.show_scene(session, session.undo())

    @report_errors
    async def redo(self, session: Session) -> Any:
        """Go one step forward."""
        return await self.show_scene(session, session.redo())

    @report_errors
    async def change_attributes(self, changed: Any, session: Session) -> Any:
        """Reset the attributes that aren't in ``changed`` any more, and hold new ones at their present value."""
        names = request_checks.check_names("What is changed", changed)
        scene = session.scene
        scene = scene.without_changes(*(name for name in scene.changed_attributes if name not in names))
        added = [name for name in names if name not in scene.changed_attributes]
        if added:
            for name in added:
                self._check_attribute(scene, name)
            shown = await self.run_with_generator(session, lambda: rendering.render_full(self.resources, session.scene))
            for name in added:
                scale = self.resources.get_slider_scale(scene.editor, name)
                scene = scene.with_value(name, scale.convert_to_sigma(self._slider_value(scene, shown, name)))
        session.commit()
        return await self.show_scene(session, session.set_scene(scene))

    def make_count_handler(self, by: int) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler that changes the counted attribute by ``by``."""

        def change(session: Session) -> Scene:
            self._check_attribute(session.scene, session.counted_attribute)
            return session.scene.with_shift(session.counted_attribute, float(by))

        return self.make_step_handler(change)

    @report_errors
    async def pick_counted(self, name: Any, session: Session) -> Any:
        """Choose the attribute that plus and minus change."""
        self._check_attribute(session.scene, request_checks.check_text("What is counted", name))
        session.counted_attribute = name
        return await self.show_scene(session, session.start_request())

    @report_errors
    async def choose_region(self, regional: Any, session: Session) -> Any:
        """Keep edits to where their attributes show, or not."""
        session.commit()
        return await self.show_scene(session, session.set_scene(replace(session.scene, regional=regional is True)))

    def choose_random_face(self, session: Session) -> Scene:
        """Return the scene of a random seed."""
        psi = session.scene.start.psi if isinstance(session.scene.start, FromSeed) else 0.7
        face = replace(session.scene.unedited, mix=None, codes=None)
        return replace(face, start=FromSeed(secrets.randbelow(10**6), psi))

    # Pickers.

    @report_errors
    async def refresh_pickers(self, session: Session) -> Any:
        """Return the values of the pickers as they are."""
        return self.make_picker_updates(session)

    def make_picker_updates(self, session: Session) -> list[Any]:
        """Return values for ``picker_outputs``: generator, editor, note, counting, what to count and to compare, regions,
        search and sampling.
        """
        scene = session.scene
        installed = self.resources.find_editors(scene.generator)
        picked = installed.get(scene.editor)
        counts = picked.counts if picked else ()
        if session.counted_attribute not in counts:
            session.counted_attribute = counts[0] if counts else ""
        choices = [(f"{name}: {choice.description}", name) for name, choice in installed.items()]
        sliders = [(format_attribute(name), name) for name in (picked.shown_sliders if picked else ())]
        return [
            scene.generator,
            gr.update(choices=choices, value=scene.editor or None, interactive=bool(choices)),
            gr.update(visible=not picked),
            gr.update(visible=bool(counts)),
            gr.update(
                choices=[(format_attribute(name), name) for name in counts], value=session.counted_attribute or None
            ),
            gr.update(choices=sliders, value=sliders[0][1] if sliders else None),
            gr.update(value=scene.regional, visible=bool(load_regions(scene.generator))),
            gr.update(placeholder=format_search_hint([label for label, _ in sliders]), visible=bool(sliders)),
            gr.update(value=f"Draw {SAMPLED_FACES} such {self._name_pictures(scene)}", visible=bool(sliders)),
        ]

    def _name_pictures(self, scene: Scene) -> str:
        """Return what the generator draws, in the plural."""
        shipped = scene.generator in generators.list_generators()
        return "faces" if shipped and generators.find_card(scene.generator).faces else "pictures"


def format_search_hint(labels: Sequence[str]) -> str:
    """Format examples of what can be searched for: some of the sliders' labels."""
    return ", ".join([*(label.lower() for label in labels[:3]), "…"])
