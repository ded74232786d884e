"""A photograph becomes a face of the generator: aligned, inverted with progress, then a code like any other.

It runs beside the worker, one photograph at a time: others go on editing meanwhile.
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
from ganvas.app.server_folder import PHOTOS, claim_upload
from ganvas.app.session import Session
from ganvas.app.work_queue import Superseded
from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.images import read_picture
from ganvas.types import Images, WPlus

UPDATE_SECONDS = 0.5
"""Seconds between two words of progress."""
STEPS = 100
"""Of optimisation at most."""


def read_face(path: Path, generator: Generator) -> Images:
    """The largest face of a photograph, aligned. Raises GanvasError for a file that is no picture, or shows no face."""
    from ganvas.inversion import align

    return align(read_picture(path), generator.resolution, max_faces=1)[0].picture


def invert_face(face: Images, generator: Generator, within: Distribution, watch: Callable[[int, int], Any]) -> WPlus:
    """The code whose picture looks like the face, (1, num_ws, w_dim)."""
    from ganvas.inversion import OptimizationConfig
    from ganvas.inversion import invert as search

    return search(face, generator, config=OptimizationConfig(steps=STEPS), distribution=within, progress=watch).ws


class _Search:
    """One photograph on its way to a code; ``said`` is how far it is, ``stop`` ends it."""

    def __init__(self) -> None:
        self.said, self.stop = "Waiting for its turn …", False

    def watch(self, done: int, total: int) -> None:
        """As ``invert_face`` calls it. Raises Superseded once nobody waits for it."""
        self.check()
        self.said = f"Searching for its code: step {done} of {total} at most"

    def check(self) -> None:
        """Raises Superseded once nobody waits for it."""
        if self.stop:
            raise Superseded


class PhotoHandlers:
    """Handlers of uploads."""

    def __init__(self, hands: EditHandlers) -> None:
        self.hands = hands
        self._one = asyncio.Semaphore(1)
        self._under_way: dict[asyncio.Task[WPlus], _Search] = {}

    def close(self) -> None:
        """End what is under way."""
        for search in list(self._under_way.values()):
            search.stop = True

    def upload(self, others: int) -> Callable[[Any, Session | None], AsyncIterator[Any]]:
        """The handler. Its values: for the upload, the words of progress, then ``others`` of ``Hands.pickers`` and ``show``."""
        rest = [gr.skip()] * others

        @report_errors
        async def look(file: Any, desk: Session | None) -> AsyncIterator[Any]:
            if not file:
                return
            with claim_upload(file, self.hands.desks.folder, PHOTOS) as path:
                mine = self.hands.desk(desk)
                if mine.uploading:
                    raise GanvasError("One photo at a time: yours before is still being looked at.")
                mine.uploading, search, scene = True, _Search(), mine.scene
                task = self._start(mine, scene, path, search)
                try:
                    said = ""
                    while not task.done():
                        if search.said != said:
                            said = search.said
                            yield [gr.skip(), _words(said), *rest]
                        await asyncio.wait([task], timeout=UPDATE_SECONDS)
                    shown = await self._show(mine, scene, await task)
                    yield [
                        None,
                        _words("Here it is, with its code: edit it like any other face. The photo is deleted."),
                        *shown,
                    ]
                except Superseded:
                    yield [None, _words("Another face was chosen meanwhile; the photo is deleted."), *rest]
                finally:
                    mine.uploading, search.stop = False, True

        return look

    def _start(self, desk: Session, scene: Scene, path: Path, search: _Search) -> asyncio.Task[WPlus]:
        task = asyncio.create_task(self._find(desk, scene, path, search))
        self._under_way[task] = search

        def ended(done: asyncio.Task[WPlus]) -> None:
            del self._under_way[done]
            if not done.cancelled():
                done.exception()  # whoever waited heard of it; where nobody does, it's no error

        task.add_done_callback(ended)
        return task

    async def _find(self, desk: Session, scene: Scene, path: Path, search: _Search) -> WPlus:
        """The code. Nobody else's search starts before this one's thread has ended, even where nobody waits for it."""
        async with self._one:
            search.check()
            network, within = await self.hands.ask(desk, lambda: self._tools(scene))
            search.said = "Looking for a face …"
            face = await asyncio.to_thread(_read_once, path, network)
            search.check()
            return await asyncio.to_thread(invert_face, face, network, within, search.watch)

    async def _show(self, desk: Session, scene: Scene, ws: WPlus) -> list[Any]:
        folder = self.hands.desks.files_of(desk)
        found = await self.hands.ask(desk, lambda: rendering.view_code(self.hands.shop, scene, ws, folder))
        desk.keep()
        stale = desk.look(found)
        return [*self.hands.pickers(desk), *await self.hands.show(desk, stale)]

    def _tools(self, scene: Scene) -> tuple[Generator, Distribution]:
        bench = self.hands.shop.bench(scene)
        return bench.generator, bench.within


def _read_once(path: Path, generator: Generator) -> Images:
    """The face; the file is deleted whatever is in it."""
    try:
        return read_face(path, generator)
    except GanvasError as error:
        raise GanvasError(str(error).replace(str(path), path.name)) from None
    finally:
        path.unlink(missing_ok=True)


def _words(text: str) -> str:
    return f"<p role='status'>{escape(text)}</p>"
