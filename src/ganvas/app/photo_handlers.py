"""Handlers of photographs: a photograph is aligned and inverted, and its code is then edited like any other.

Inversion runs beside the generator's thread, one photograph at a time: others go on editing meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import rendering
from ganvas.app.edit_handlers import EditHandlers, report_errors
from ganvas.app.scene import Scene
from ganvas.app.server_folder import PHOTO_SUFFIXES, claim_upload
from ganvas.app.session import Session
from ganvas.app.work_queue import Superseded
from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.images import read_picture
from ganvas.progress import Progress
from ganvas.types import Images, WPlus

UPDATE_SECONDS = 0.5
"""Seconds between two updates of the status."""
MAX_STEPS = 100
"""Steps of optimisation."""


def read_face(path: Path, generator: Generator) -> Images:
    """Read and align the largest face of a photograph. Raises GanvasError for no picture, and where it shows no face."""
    from ganvas.inversion import align

    return align(read_picture(path), generator.resolution, max_faces=1)[0].picture


def invert_face(face: Images, generator: Generator, distribution: Distribution, progress: Progress) -> WPlus:
    """Return the code, (1, num_ws, w_dim), whose picture is most like the face."""
    from ganvas.inversion import OptimizationConfig, invert

    return invert(
        face, generator, config=OptimizationConfig(steps=MAX_STEPS), distribution=distribution, progress=progress
    ).ws


class _Inversion:
    """One photograph's inversion. ``status`` says how far it is; it ends once ``cancelled`` is set."""

    def __init__(self) -> None:
        self.status, self.cancelled = "Waiting for its turn …", False

    def report_progress(self, done: int, total: int | None) -> None:
        """Update the status. Raises Superseded once the inversion is cancelled."""
        self.check_cancelled()
        self.status = f"Searching for its code: step {done} of at most {total}"

    def check_cancelled(self) -> None:
        """Raise Superseded once the inversion is cancelled."""
        if self.cancelled:
            raise Superseded


class PhotoHandlers:
    """Handlers of photographs that are uploaded."""

    def __init__(self, edit_handlers: EditHandlers) -> None:
        self.edit_handlers = edit_handlers
        self._one_at_a_time = asyncio.Semaphore(1)
        self._running: dict[asyncio.Task[WPlus], _Inversion] = {}

    def close(self) -> None:
        """Cancel the inversions under way."""
        for inversion in list(self._running.values()):
            inversion.cancelled = True

    def make_upload_handler(self, num_others: int) -> Callable[[Any, Session | None], AsyncIterator[Any]]:
        """Make the handler. It yields values for the upload, the status, and ``num_others`` as ``EditHandlers.show_all`` does."""
        rest = [gr.skip()] * num_others

        @report_errors
        async def upload(file: Any, session: Session | None) -> AsyncIterator[Any]:
            if not file:
                return
            with claim_upload(file, self.edit_handlers.sessions.folder, PHOTO_SUFFIXES) as path:
                current = self.edit_handlers.require_session(session)
                if current.uploading:
                    raise GanvasError("One photo at a time: your last one is still being inverted.")
                current.uploading, inversion, scene = True, _Inversion(), current.scene
                task = self._start(current, scene, path, inversion)
                try:
                    status = ""
                    while not task.done():
                        if inversion.status != status:
                            status = inversion.status
                            yield [gr.skip(), _format_status(status), *rest]
                        await asyncio.wait([task], timeout=UPDATE_SECONDS)
                    shown = await self._show_code(current, scene, await task)
                    yield [
                        None,
                        _format_status("Here is the face: edit it like any other. The photo is deleted."),
                        *shown,
                    ]
                except Superseded:
                    yield [None, _format_status("Another face was chosen meanwhile; the photo is deleted."), *rest]
                finally:
                    current.uploading, inversion.cancelled = False, True

        return upload

    def _start(self, session: Session, scene: Scene, path: Path, inversion: _Inversion) -> asyncio.Task[WPlus]:
        task = asyncio.create_task(self._invert(session, scene, path, inversion))
        self._running[task] = inversion

        def remove(done: asyncio.Task[WPlus]) -> None:
            del self._running[done]
            if not done.cancelled():
                done.exception()  # retrieved, so that asyncio doesn't log an error that nobody awaits

        task.add_done_callback(remove)
        return task

    async def _invert(self, session: Session, scene: Scene, path: Path, inversion: _Inversion) -> WPlus:
        """Return the photograph's code. An inversion's thread ends before the next one starts, even where it was cancelled."""
        async with self._one_at_a_time:
            inversion.check_cancelled()
            loaded = await self.edit_handlers.run_with_generator(
                session, lambda: self.edit_handlers.resources.load(scene)
            )
            network, distribution = loaded.generator, loaded.distribution
            inversion.status = "Looking for a face …"
            face = await asyncio.to_thread(_read_once, path, network)
            inversion.check_cancelled()
            return await asyncio.to_thread(invert_face, face, network, distribution, inversion.report_progress)

    async def _show_code(self, session: Session, scene: Scene, ws: WPlus) -> list[Any]:
        folder = self.edit_handlers.sessions.get_folder(session)
        inverted = await self.edit_handlers.run_with_generator(
            session, lambda: rendering.make_code_scene(self.edit_handlers.resources, scene, ws, folder)
        )
        session.commit()
        return await self.edit_handlers.show_all(session, session.set_scene(inverted))


def _read_once(path: Path, generator: Generator) -> Images:
    """Read the face, and delete the file whatever is in it."""
    try:
        return read_face(path, generator)
    except GanvasError as error:
        raise GanvasError(str(error).replace(str(path), path.name)) from None
    finally:
        path.unlink(missing_ok=True)


def _format_status(text: str) -> str:
    return f"<p role='status'>{escape(text)}</p>"
