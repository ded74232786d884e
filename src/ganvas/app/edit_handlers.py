"""What visitors do, as Gradio calls it: each handler changes a desk, has the worker draw, and says what the page shows.

Handlers are coroutines of one event loop; they wait for the worker without holding a thread.
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
from ganvas.app.attribute_groups import label_of
from ganvas.app.layout import SPAN, STEP
from ganvas.app.rendering import RenderedView
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene, check_scene, describe_scene, title_of
from ganvas.app.session import Session
from ganvas.app.session_store import SessionStore
from ganvas.app.work_queue import Superseded, WorkQueue
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.errors import GanvasError, unknown
from ganvas.recipe.model import FromSeed

T = TypeVar("T")
REST_SECONDS = 0.06
"""Seconds without a newer position after which a slider counts as resting."""
PAGE = 12
"""Faces of a gallery's page."""
FACES_SHOWN = 16
"""Faces that are drawn as asked."""
SESSION_ENDED = "This page has lost its session: reload it."


def report_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors are one clear message, and whose superseded work changes nothing."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def shown(*given: Any, **named: Any) -> AsyncIterator[Any]:
            with _telling():
                try:
                    async with aclosing(handler(*given, **named)) as results:
                        async for value in results:
                            yield value
                except Superseded:
                    yield gr.skip()

        return shown

    @functools.wraps(handler)
    async def done(*given: Any, **named: Any) -> Any:
        with _telling():
            try:
                return await handler(*given, **named)
            except Superseded:
                return gr.skip()

    return done


@contextmanager
def _telling() -> Iterator[None]:
    """Errors become what the page says. Those that nobody foresaw are logged: the server goes on for all others."""
    try:
        yield
    except (GanvasError, gr.Error) as error:
        raise (format_error(error) if isinstance(error, GanvasError) else error) from None
    except Exception:
        logging.getLogger(__name__).exception("A handler failed.")
        raise format_error(GanvasError("Something went wrong here; the server's log says what.")) from None


def format_error(error: GanvasError) -> gr.Error:
    """The error as the page says it."""
    text = escape(" ".join(str(error).split()), quote=False)
    return gr.Error(text, duration=10, title="That can't be done", print_exception=False)


class EditHandlers:
    """``work_queue`` draw; ``beside`` does what needs no generator, so that nobody waits for it; ``names`` have a slider."""

    def __init__(
        self, shop: AppResources, turns: WorkQueue, beside: WorkQueue, desks: SessionStore, names: Sequence[str]
    ) -> None:
        self.shop, self.turns, self.beside, self.desks, self.names = shop, turns, beside, desks, tuple(names)
        self.labels = {name: label_of(name) for name in names}

    async def ask(self, desk: Session, work: Callable[[], T], stale: Callable[[], bool] = lambda: False) -> T:
        """Have the worker do it."""
        return await asyncio.wrap_future(self.turns.ask(desk.name, work, stale))

    async def ask_beside(self, desk: Session, work: Callable[[], T], stale: Callable[[], bool] = lambda: False) -> T:
        """Have it done while the worker draws for others."""
        return await asyncio.wrap_future(self.beside.ask(desk.name, work, stale))

    async def draw(self, desk: Session, work: Callable[[], T], stale: Callable[[], bool]) -> T:
        """Have the worker draw what the desk looks at; where that can't be drawn, the desk looks at what it showed last."""
        try:
            return await self.ask(desk, work, stale)
        except GanvasError:
            if not stale():
                desk.back()
            raise

    def desk(self, desk: Session | None) -> Session:
        """The visitor's desk. Raises GanvasError where the session is gone."""
        if not isinstance(desk, Session):
            raise GanvasError(SESSION_ENDED)
        return desk

    # Showing.

    async def show(self, desk: Session, stale: Callable[[], bool]) -> list[Any]:
        """The picture in full and all that stands beside it; what is shown becomes a step that can be undone."""
        scene = desk.scene
        shown = await self.draw(desk, lambda: rendering.render_full(self.shop, scene), stale)
        if stale():
            raise Superseded
        desk.keep()
        desk.settled = desk.version
        return self.updates(desk, shown)

    def updates(self, desk: Session, shown: RenderedView) -> list[Any]:
        """Values for ``Wires.shown``: picture, status, undo, redo, reset, changed, count, sliders."""
        scene = desk.scene
        alt = describe_scene(scene, self.labels)
        return [
            gr.update(value=component_values.image_value(shown.picture), alt_text=alt),
            self._status(scene, shown),
            gr.update(interactive=desk.can_undo),
            gr.update(interactive=desk.can_redo),
            gr.update(interactive=bool(scene.edits)),
            [name for name in scene.touched if name in self.names],
            self._count(desk, shown),
            *(self._place(scene, shown, name) for name in self.names),
        ]

    def _place(self, scene: Scene, shown: RenderedView, name: str) -> float:
        value = scene.step.set.get(name, shown.readings.get(name, 0.0))
        return round(max(-SPAN, min(SPAN, round(value / STEP) * STEP)), 2)

    def _status(self, scene: Scene, shown: RenderedView) -> str:
        parts = [title_of(scene)]
        if isinstance(scene.start, FromSeed):
            parts.append(f"psi {scene.start.psi:g}")
        parts += [f"{label_of(name)} at {value:+.2f} σ" for name, value in scene.step.set.items()]
        parts += [f"{label_of(name)} {change:+g}" for name, change in scene.step.shift.items()]
        text = f"<p class='gv-status' role='status'>{escape(' · '.join(parts))}</p>"
        if shown.distance > shown.bound:
            text += (
                "<p class='gv-warning' role='alert'>This code has left what the generator draws "
                f"(distance {shown.distance:.1f}, bound {shown.bound:.1f}): expect flaws, or somebody else.</p>"
            )
        return text

    def _count(self, desk: Session, shown: RenderedView) -> str:
        if desk.counted not in shown.seen:
            return ""
        change = desk.scene.step.shift.get(desk.counted, 0.0)
        asked = f", changed by {change:+g}" if change else ""
        seen = f"<b>{shown.seen[desk.counted]:g}</b> seen ({escape(label_of(desk.counted))}){asked}"
        return f"<p class='gv-count' role='status'>{seen}</p>"

    # The picture follows while a slider moves.

    def mover(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The handler of one slider on its way."""

        @report_errors
        async def move(value: Any, desk: Session | None) -> Any:
            mine = self.desk(desk)
            wanted = validation.check_number(repr(label_of(name)), value, -MAX_DEVIATIONS, MAX_DEVIATIONS)
            self._known(mine.scene, name)
            stale = mine.look(mine.scene.setting(name, wanted))
            scene = mine.scene
            seen = await self.draw(mine, lambda: rendering.render_preview(self.shop, scene), stale)
            return gr.update(value=component_values.image_value(seen), alt_text=describe_scene(scene, self.labels))

        return move

    def _known(self, scene: Scene, name: str) -> None:
        names = self.shop.choices[scene.editor].editor.attributes if scene.editor else ()
        if name not in names:
            raise unknown("attribute", name, names or ["none: there is no editor"])

    @report_errors
    async def settle(self, desk: Session | None) -> Any:
        """After a preview: the full picture, where nothing newer came meanwhile."""
        mine = self.desk(desk)
        version = mine.version
        await asyncio.sleep(REST_SECONDS)
        if mine.version != version or mine.settled == version:
            return gr.skip()
        shown = await self.show(mine, lambda: mine.version != version)
        # Sliders that were moved stay where they are: the hand may be on its way again, which its browser knows first.
        return shown[: -len(self.names)] + [
            gr.skip() if name in mine.scene.step.set else value
            for name, value in zip(self.names, shown[-len(self.names) :], strict=True)
        ]

    # Steps.

    def step(self, change: Callable[[Session], Scene]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A handler that looks at another scene."""

        @report_errors
        async def go(desk: Session | None) -> Any:
            mine = self.desk(desk)
            mine.keep()
            return await self.show(mine, mine.look(check_scene(change(mine))))

        return go

    @report_errors
    async def undo(self, desk: Session | None) -> Any:
        """One step back."""
        mine = self.desk(desk)
        return await self.show(mine, mine.undo())

    @report_errors
    async def redo(self, desk: Session | None) -> Any:
        """One step forward."""
        mine = self.desk(desk)
        return await self.show(mine, mine.redo())

    @report_errors
    async def change(self, changed: Any, desk: Session | None) -> Any:
        """What is taken out of the changed ones is as it was; what is put in is held where it stands."""
        mine, names = self.desk(desk), validation.check_names("What is changed", changed)
        scene = mine.scene
        scene = scene.without(*(name for name in scene.touched if name not in names))
        held = [name for name in names if name not in scene.touched]
        if held:
            for name in held:
                self._known(scene, name)
            shown = await self.ask(mine, lambda: rendering.render_full(self.shop, mine.scene))
            for name in held:
                scene = scene.setting(name, self._place(scene, shown, name))
        mine.keep()
        return await self.show(mine, mine.look(scene))

    def counter(self, by: int) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Plus or minus one."""

        def change(desk: Session) -> Scene:
            self._known(desk.scene, desk.counted)
            return desk.scene.shifting(desk.counted, float(by))

        return self.step(change)

    @report_errors
    async def count_what(self, name: Any, desk: Session | None) -> Any:
        """Plus and minus are about this now."""
        mine = self.desk(desk)
        self._known(mine.scene, validation.check_text("What is counted", name))
        mine.counted = name
        return await self.show(mine, mine.touch())

    def surprise(self, desk: Session) -> Scene:
        """A face at random."""
        psi = desk.scene.start.psi if isinstance(desk.scene.start, FromSeed) else 0.7
        face = replace(desk.scene.plain, mix=None, codes=None)
        return replace(face, start=FromSeed(secrets.randbelow(10**6), psi))

    # What goes with a scene.

    def pickers(self, desk: Session) -> list[Any]:
        """Values for ``Wires.picked``: generator, editor, compare's, counting's; visibility of sliders and groups."""
        scene = desk.scene
        here = self.shop.editors_of(scene.generator)
        found = here.get(scene.editor)
        counts = found.counts if found else ()
        if desk.counted not in counts:
            desk.counted = counts[0] if counts else ""
        choices = [(f"{name}: {one.about}", name) for name, one in here.items()]
        sliders = [(label_of(name), name) for name in (found.sliders if found else ())]
        return [
            scene.generator,
            gr.update(choices=choices, value=scene.editor or None, interactive=bool(choices)),
            gr.update(visible=not found),
            gr.update(visible=bool(counts)),
            gr.update(choices=[(label_of(name), name) for name in counts], value=desk.counted or None),
            gr.update(choices=sliders, value=sliders[0][1] if sliders else None),
        ]
