"""One visitor's session, the queue in which all sessions' work is done, and what all handlers have in common.

Handlers run in one event loop, so nothing here is locked.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from html import escape
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import gradio as gr

from ganvas.app.photographs import FacePhoto
from ganvas.app.presets import Preset
from ganvas.app.scene import Scene
from ganvas.errors import GanvasError

T = TypeVar("T")
PICTURE_TABS, CONTROL_TABS = ("picture", "wipe", "strip"), ("edit", "faces", "history", "take")
DRAWER_TABS = ("setup", "moved", "compare", "closed")
TAB_ROWS = (PICTURE_TABS, CONTROL_TABS, DRAWER_TABS, ("explore", "explore-closed"))
"""Tabs of which one a row is open."""
MAX_HISTORY = 200
"""Steps that can be undone."""
MAX_VISITED = 24
"""Faces in the gallery of visited ones."""
MAX_WAITING = 24
"""Pieces of work that one session may have waiting."""


class Session:
    """A visitor's session, which starts at a scene: what is shown, its history, and which request is the newest."""

    def __init__(self, scene: Scene) -> None:
        self.key = secrets.token_hex(16)
        """Names the session's folder: not the browser's session hash, which gives access to it."""
        self.scene = scene
        self.version = 0
        """Grows with every request: older ones are stale."""
        self.rendered_version = -1
        """The version that was last shown in full."""
        self.compared_version = -1
        """The version whose face was compared with the unedited one last."""
        self.weakened_version = -1
        """The last version whose edit was weakened so that the person stays the same."""
        self.screen: Literal["start", "chooser", "picture"] = "start"
        """What the page shows: where photographs are dropped, the faces of one, or the picture."""
        self.shown_screen = ""
        """The one that the page shows already."""
        self.photos: list[FacePhoto] = []
        """The faces of the photograph that one is to be chosen from."""
        self.inversion: Any = None
        """The inversion that is under way."""
        self.opening = 0
        """Grows with every photograph, and every face of one, that is opened: older openings are stale."""
        self.person_locked = False
        """Whether edits are kept to a strength at which the face is the same person's."""
        self.shown_original: Scene | None = None
        """The unedited scene whose picture the page has, to show while the visitor holds the picture."""
        self.start_readings: tuple[Scene, Mapping[str, float]] = scene.unedited, {}
        """The unedited scene of the picture that was shown in full last, and its face's readings."""
        self.saved_presets: list[Preset] = []
        """The presets that the visitor saved, which the browser remembers."""
        self.shown_presets: Scene | None = None
        """The unedited scene whose presets the page shows."""
        self.num_moves = 0
        """The moves of sliders that arrived from the page."""
        self.counted_attribute = ""
        """The attribute that the buttons for plus and minus one change."""
        self.open_tabs: set[str] = {"picture"}
        """The tabs whose contents are kept up to date."""
        self.gallery_faces: list[Scene] = []
        """The faces in the gallery."""
        self.pending_faces: list[Scene] = []
        """The faces that the gallery is being filled with."""
        self.visited_faces: list[Scene] = [scene.unedited]
        self.shown_visited_faces: list[Scene] = []
        """The faces in the gallery of visited ones, which may lag behind ``visited_faces``."""
        self.shown_steps: list[Scene] = []
        """The steps in the gallery of the history."""
        self.pinned: list[Scene] = []
        """Pictures that are kept side by side."""
        self.own_editors: set[str] = set()
        """The names of the editors that the visitor made."""
        self.example_generator, self.num_examples = "", 0
        """The faces that the page shows to be marked: whose they are, and how many."""
        self.explored_method, self.explored_first = "sefa", 0
        """Whose components are explored, and the first of those that the page shows."""
        self.shown_components: tuple[Scene, str, int] | None = None
        """The face, the method and the first component whose small pictures the page has."""
        self.is_ended = False
        """Whether the visitor has left."""
        self.num_waiting = 0
        """Pieces of work that wait for their turn."""
        self._past: list[Scene] = []
        self._future: list[Scene] = []
        self._committed = scene

    def start_request(self) -> Callable[[], bool]:
        """Make all earlier requests stale. Returns a function that says whether this one has become stale."""
        self.version += 1
        version = self.version
        return lambda: self.version != version

    def get_start_readings(self, scene: Scene) -> Mapping[str, float]:
        """Return the readings of a scene's unedited face, in σ; none where another face was shown in full last."""
        unedited, readings = self.start_readings
        return readings if unedited == scene.unedited else {}

    def open_tab(self, tab: str) -> None:
        """Note that a tab is open, and the others of its row aren't."""
        row = next(tabs for tabs in TAB_ROWS if tab in tabs)
        self.open_tabs = (self.open_tabs - set(row)) | {tab}

    def resume(self, other: Session) -> None:
        """Take over another session's steps, where its page was reloaded."""
        self.scene, self._committed, self.screen = other.scene, other.scene, other.screen
        self._past, self._future = [*other._past], [*other._future]
        self.visited_faces, self.pinned = [*other.visited_faces], [*other.pinned]
        self.person_locked, self.counted_attribute = other.person_locked, other.counted_attribute
        self.own_editors = {*other.own_editors}

    @property
    def resting_scene(self) -> Scene:
        """The scene that was shown in full last."""
        return self._committed

    def list_steps(self) -> list[Scene]:
        """Return the scenes of the history, the first one first, those that can be redone last."""
        return [*self._past, self._committed, *reversed(self._future)]

    def set_scene(self, scene: Scene) -> Callable[[], bool]:
        """Replace the scene, as a request. It can be undone once it is committed, so that a moving slider makes one step."""
        self.scene, self.screen = scene, "picture"
        return self.start_request()

    def join_last_steps(self) -> None:
        """Make the step that was committed last and the one before it one step."""
        self._past = self._past[:-1]

    def commit(self) -> None:
        """Make the current scene a step that can be undone, unless it is the last one."""
        if self.scene == self._committed:
            return
        self._past = [*self._past, self._committed][-MAX_HISTORY:]
        self._future = []
        self._committed = self.scene
        face = self.scene.unedited
        if all(replace(each, editor=face.editor) != face for each in self.visited_faces):
            self.visited_faces = [face, *self.visited_faces][:MAX_VISITED]

    def update_face(self, photo: FacePhoto, better: Scene) -> None:
        """Give all steps with a photograph's face its better code, so that undoing an edit brings no worse one back."""

        def improve(scene: Scene) -> Scene:
            if scene.photo is not photo:
                return scene
            return replace(scene.without_refinement(), start=better.start, codes=better.codes)

        self._replace_scenes(improve)

    def add_photo(self, photo: FacePhoto) -> None:
        """Give the scene, and all steps of its face, the photograph that its code was found for."""
        sha256 = self.scene.missing_photo

        def add(scene: Scene) -> Scene:
            return replace(scene, photo=photo) if scene.missing_photo == sha256 else scene

        self.scene, self.pinned = add(self.scene), [add(scene) for scene in self.pinned]
        self._replace_scenes(add)
        self.shown_original = None

    def _replace_scenes(self, change: Callable[[Scene], Scene]) -> None:
        """Replace the steps and the visited faces."""
        self._past, self._future = ([change(scene) for scene in steps] for steps in (self._past, self._future))
        self._committed = change(self._committed)
        visited = [change(scene) for scene in self.visited_faces]
        self.visited_faces = [scene for i, scene in enumerate(visited) if scene not in visited[:i]]

    def restore(self) -> None:
        """Return to the scene that was committed last, as when the current one can't be drawn."""
        self.set_scene(self._committed)

    def undo(self) -> Callable[[], bool]:
        """Go one step back. Raises GanvasError where there is none."""
        self.commit()
        if not self._past:
            raise GanvasError("There is nothing to undo.")
        self._future.append(self._committed)
        return self._move_to(self._past.pop())

    def redo(self) -> Callable[[], bool]:
        """Go one step forward again. Raises GanvasError where there is none."""
        self.commit()
        if not self._future:
            raise GanvasError("There is nothing to redo.")
        self._past.append(self._committed)
        return self._move_to(self._future.pop())

    @property
    def can_undo(self) -> bool:
        """Whether there is a step back."""
        return bool(self._past) or self.scene != self._committed

    @property
    def can_redo(self) -> bool:
        """Whether there is a step forward."""
        return bool(self._future) and self.scene == self._committed

    def _move_to(self, scene: Scene) -> Callable[[], bool]:
        self._committed = scene
        return self.set_scene(scene)


class Superseded(Exception):
    """The visitor has moved on, or the server is ending, and the result isn't needed any more. No error."""


class NothingFollows(gr.Error):
    """There is nothing to show, and the events that follow an event's success are not to begin. No error."""

    def __init__(self) -> None:
        super().__init__("", visible=False, print_exception=False)


class WorkQueue:
    """One thread that works for all sessions, which take turns: each has one piece of work in line at a time.

    Gradio's own queue can't: it is first come, first served, so that a whole gallery would come before others' sliders.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ganvas-app")
        self._turns: WeakKeyDictionary[Session, asyncio.Lock] = WeakKeyDictionary()

    async def run(self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool] = lambda: False) -> T:
        """Run ``work`` in the thread when it is the session's turn, and return its result.

        Raises Superseded where it is stale by then, and GanvasError where the session has too much work waiting.
        """
        if session.num_waiting >= MAX_WAITING:
            raise GanvasError(f"You have {MAX_WAITING} pictures waiting already: one moment, please.")
        session.num_waiting += 1
        try:
            async with self._turns.setdefault(session, asyncio.Lock()):
                if is_stale():
                    raise Superseded
                return await asyncio.wrap_future(self.submit(work, is_stale))
        finally:
            session.num_waiting -= 1

    def submit(self, work: Callable[[], T], is_stale: Callable[[], bool] = lambda: False) -> Future[T]:
        """Put ``work`` in line: for other threads than the event loop's."""

        def run() -> T:
            if is_stale():
                raise Superseded
            return work()

        try:
            return self._thread.submit(run)
        except RuntimeError:  # closed
            raise Superseded from None

    def close(self) -> None:
        """Finish the work under way and drop what waits."""
        self._thread.shutdown(cancel_futures=True)


def report_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler so that its errors are one clear message, and superseded work changes nothing.

    Where it takes a ``session``, a page whose session has ended gets a message, too.
    """
    names = list(inspect.signature(handler).parameters)
    position = names.index("session") if "session" in names else None

    def check_session(args: tuple[Any, ...]) -> None:
        if position is not None and not isinstance(args[position], Session):
            raise GanvasError("This page's session has ended: reload the page.")

    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def stream(*args: Any) -> AsyncIterator[Any]:
            """Run the handler, and pass on what it yields; end in one line for bad input."""
            is_empty = True
            with _convert_errors():
                check_session(args)
                try:
                    async with aclosing(handler(*args)) as results:
                        async for value in results:
                            is_empty = False
                            yield value
                except Superseded:
                    pass
                if is_empty:  # Gradio would empty the outputs
                    yield gr.skip()

        return stream

    @functools.wraps(handler)
    async def call(*args: Any) -> Any:
        with _convert_errors():
            check_session(args)
            try:
                return await handler(*args)
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
