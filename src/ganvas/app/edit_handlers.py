"""Handlers of sliders and buttons: each changes a session's scene, renders it, and returns what the page shows.

Gradio calls them as coroutines of one event loop; they wait for a work queue without holding a thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from html import escape
from typing import Any, TypeVar

import gradio as gr

from ganvas.app import component_values, rendering, validation
from ganvas.app.attribute_groups import format_attribute
from ganvas.app.layout import SLIDER_LIMIT, SLIDER_STEP
from ganvas.app.rendering import RenderedView
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene, check_scene, describe_scene, format_title
from ganvas.app.session import Session
from ganvas.app.session_store import SessionStore
from ganvas.app.work_queue import Superseded, WorkQueue
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.errors import GanvasError, unknown
from ganvas.recipe.model import FromSeed

T = TypeVar("T")
REST_SECONDS = 0.06
"""Seconds without a newer position after which a slider counts as resting."""
FACES_PER_PAGE = 12
"""Faces on a page of the gallery."""
SAMPLED_FACES = 16
"""Faces that are sampled at the sliders' values."""
SESSION_ENDED = "This page's session has ended: reload the page."


def report_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler so that its errors are one clear message, and superseded work changes nothing."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with _convert_errors():
                try:
                    async with aclosing(handler(*args, **kwargs)) as results:
                        async for value in results:
                            yield value
                except Superseded:
                    yield gr.skip()

        return stream

    @functools.wraps(handler)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with _convert_errors():
            try:
                return await handler(*args, **kwargs)
            except Superseded:
                return gr.skip()

    return call


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Convert errors to Gradio's. Unexpected ones are logged: the server goes on for all others."""
    try:
        yield
    except (GanvasError, gr.Error) as error:
        raise (format_error(error) if isinstance(error, GanvasError) else error) from None
    except Exception:
        logging.getLogger(__name__).exception("A handler failed.")
        raise format_error(GanvasError("Something went wrong; the server's log has the details.")) from None


def format_error(error: GanvasError) -> gr.Error:
    """Format an error for the page."""
    text = escape(" ".join(str(error).split()), quote=False)
    return gr.Error(text, duration=10, title="That can't be done", print_exception=False)


class EditHandlers:
    """Handlers of edits, and what all handlers need: queues, sessions, and ways to show a scene.

    ``generator_queue`` runs what needs the generator, ``background_queue`` what doesn't; ``names``: attributes with a slider.
    """

    def __init__(
        self,
        resources: AppResources,
        generator_queue: WorkQueue,
        background_queue: WorkQueue,
        sessions: SessionStore,
        names: Sequence[str],
    ) -> None:
        self.resources, self.sessions, self.slider_names = resources, sessions, tuple(names)
        self.generator_queue, self.background_queue = generator_queue, background_queue
        self.labels = {name: format_attribute(name) for name in names}

    async def run_with_generator(
        self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool] = lambda: False
    ) -> T:
        """Run ``work`` in the generator's thread, at the session's turn."""
        return await asyncio.wrap_future(self.generator_queue.submit(session.key, work, is_stale))

    async def run_in_background(
        self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool] = lambda: False
    ) -> T:
        """Run ``work`` while the generator's thread works for others."""
        return await asyncio.wrap_future(self.background_queue.submit(session.key, work, is_stale))

    async def draw_or_restore(self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool]) -> T:
        """Render the session's scene; where that fails, the session returns to the scene that was shown last."""
        try:
            return await self.run_with_generator(session, work, is_stale)
        except GanvasError:
            if not is_stale():
                session.restore()
            raise

    def require_session(self, session: Session | None) -> Session:
        """Return the session. Raises GanvasError where it is gone."""
        if not isinstance(session, Session):
            raise GanvasError(SESSION_ENDED)
        return session

    # Showing scenes.

    async def show_scene(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Render the scene in full and make it a step that can be undone. Returns values for ``EventWiring.view_outputs``."""
        scene = session.scene
        shown = await self.draw_or_restore(session, lambda: rendering.render_full(self.resources, scene), is_stale)
        if is_stale():
            raise Superseded
        session.commit()
        session.rendered_version = session.version
        return self.make_view_updates(session, shown)

    async def show_all(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Show the scene and its pickers. Returns values for ``EventWiring.scene_outputs``."""
        return [*self.make_picker_updates(session), *await self.show_scene(session, is_stale)]

    def make_view_updates(self, session: Session, shown: RenderedView) -> list[Any]:
        """Return values for ``EventWiring.view_outputs``: picture, status, undo, redo, reset, changed, count, sliders."""
        scene = session.scene
        alt = describe_scene(scene, self.labels)
        return [
            gr.update(value=component_values.to_image_value(shown.picture), alt_text=alt),
            self._format_status(scene, shown),
            gr.update(interactive=session.can_undo),
            gr.update(interactive=session.can_redo),
            gr.update(interactive=bool(scene.edits)),
            [name for name in scene.changed_attributes if name in self.slider_names],
            self._format_count(session, shown),
            *(self._slider_value(scene, shown, name) for name in self.slider_names),
        ]

    def _slider_value(self, scene: Scene, shown: RenderedView, name: str) -> float:
        value = scene.slider_edit.set.get(name, shown.readings.get(name, 0.0))
        return round(max(-SLIDER_LIMIT, min(SLIDER_LIMIT, round(value / SLIDER_STEP) * SLIDER_STEP)), 2)

    def _format_status(self, scene: Scene, shown: RenderedView) -> str:
        parts = [format_title(scene)]
        if isinstance(scene.start, FromSeed):
            parts.append(f"psi {scene.start.psi:g}")
        parts += [f"{format_attribute(name)} at {value:+.2f} σ" for name, value in scene.slider_edit.set.items()]
        parts += [f"{format_attribute(name)} {change:+g}" for name, change in scene.slider_edit.shift.items()]
        text = f"<p class='gv-status' role='status'>{escape(' · '.join(parts))}</p>"
        if shown.distance > shown.bound:
            text += (
                "<p class='gv-warning' role='alert'>This code is outside of the generator's usual codes "
                f"(distance {shown.distance:.1f}, bound {shown.bound:.1f}): expect flaws, or somebody else.</p>"
            )
        return text

    def _format_count(self, session: Session, shown: RenderedView) -> str:
        if session.counted_attribute not in shown.counts:
            return ""
        name = session.counted_attribute
        change = session.scene.slider_edit.shift.get(name, 0.0)
        changed = f", changed by {change:+g}" if change else ""
        text = f"<b>{shown.counts[name]:g}</b> seen ({escape(format_attribute(name))}){changed}"
        return f"<p class='gv-count' role='status'>{text}</p>"

    # Sliders.

    def make_slider_handler(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler of one slider while it moves, which shows a preview."""

        @report_errors
        async def move(value: Any, session: Session | None) -> Any:
            current = self.require_session(session)
            number = validation.check_number(repr(format_attribute(name)), value, -MAX_DEVIATIONS, MAX_DEVIATIONS)
            self._check_attribute(current.scene, name)
            is_stale = current.set_scene(current.scene.with_value(name, number))
            scene = current.scene
            preview = await self.draw_or_restore(
                current, lambda: rendering.render_preview(self.resources, scene), is_stale
            )
            return gr.update(
                value=component_values.to_image_value(preview), alt_text=describe_scene(scene, self.labels)
            )

        return move

    def _check_attribute(self, scene: Scene, name: str) -> None:
        names = self.resources.choices[scene.editor].editor.attributes if scene.editor else ()
        if name not in names:
            raise unknown("attribute", name, names or ["none: there is no editor"])

    @report_errors
    async def render_at_rest(self, session: Session | None) -> Any:
        """Show the picture in full after a preview, where no newer request came meanwhile."""
        current = self.require_session(session)
        version = current.version
        await asyncio.sleep(REST_SECONDS)
        if current.version != version or current.rendered_version == version:
            return gr.skip()
        shown = await self.show_scene(current, lambda: current.version != version)
        # Moved sliders are left alone: they may be moving again, which the browser knows first.
        return shown[: -len(self.slider_names)] + [
            gr.skip() if name in current.scene.slider_edit.set else value
            for name, value in zip(self.slider_names, shown[-len(self.slider_names) :], strict=True)
        ]

    # Steps.

    def make_step_handler(self, change: Callable[[Session], Scene]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make a handler that shows another scene."""

        @report_errors
        async def show(session: Session | None) -> Any:
            current = self.require_session(session)
            current.commit()
            return await self.show_scene(current, current.set_scene(check_scene(change(current))))

        return show

    @report_errors
    async def undo(self, session: Session | None) -> Any:
        """Go one step back."""
        current = self.require_session(session)
        return await self.show_scene(current, current.undo())

    @report_errors
    async def redo(self, session: Session | None) -> Any:
        """Go one step forward."""
        current = self.require_session(session)
        return await self.show_scene(current, current.redo())

    @report_errors
    async def change_attributes(self, changed: Any, session: Session | None) -> Any:
        """Reset the attributes that aren't in ``changed`` any more, and hold new ones at their present value."""
        current, names = self.require_session(session), validation.check_names("What is changed", changed)
        scene = current.scene
        scene = scene.without_changes(*(name for name in scene.changed_attributes if name not in names))
        added = [name for name in names if name not in scene.changed_attributes]
        if added:
            for name in added:
                self._check_attribute(scene, name)
            shown = await self.run_with_generator(current, lambda: rendering.render_full(self.resources, current.scene))
            for name in added:
                scene = scene.with_value(name, self._slider_value(scene, shown, name))
        current.commit()
        return await self.show_scene(current, current.set_scene(scene))

    def make_count_handler(self, by: int) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler that changes the counted attribute by ``by``."""

        def change(session: Session) -> Scene:
            self._check_attribute(session.scene, session.counted_attribute)
            return session.scene.with_shift(session.counted_attribute, float(by))

        return self.make_step_handler(change)

    @report_errors
    async def pick_counted(self, name: Any, session: Session | None) -> Any:
        """Choose the attribute that plus and minus change."""
        current = self.require_session(session)
        self._check_attribute(current.scene, validation.check_text("What is counted", name))
        current.counted_attribute = name
        return await self.show_scene(current, current.start_request())

    def choose_random_face(self, session: Session) -> Scene:
        """Return the scene of a random seed."""
        psi = session.scene.start.psi if isinstance(session.scene.start, FromSeed) else 0.7
        face = replace(session.scene.unedited, mix=None, codes=None)
        return replace(face, start=FromSeed(secrets.randbelow(10**6), psi))

    # Pickers.

    def make_picker_updates(self, session: Session) -> list[Any]:
        """Return values for ``EventWiring.picker_outputs``: generator, editor, note, counting, what to count and to compare."""
        scene = session.scene
        installed = self.resources.find_editors(scene.generator)
        picked = installed.get(scene.editor)
        counts = picked.counts if picked else ()
        if session.counted_attribute not in counts:
            session.counted_attribute = counts[0] if counts else ""
        choices = [(f"{name}: {choice.description}", name) for name, choice in installed.items()]
        sliders = [(format_attribute(name), name) for name in (picked.sliders if picked else ())]
        return [
            scene.generator,
            gr.update(choices=choices, value=scene.editor or None, interactive=bool(choices)),
            gr.update(visible=not picked),
            gr.update(visible=bool(counts)),
            gr.update(
                choices=[(format_attribute(name), name) for name in counts], value=session.counted_attribute or None
            ),
            gr.update(choices=sliders, value=sliders[0][1] if sliders else None),
        ]
