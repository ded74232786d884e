"""Handlers of photographs: find faces, let one be chosen, show the encoder's picture, and refine it beside other work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import photographs, rendering
from ganvas.app.edit_handlers import EditHandlers
from ganvas.app.photographs import FacePhoto
from ganvas.app.request_checks import PHOTO_SUFFIXES, claim_upload, get_choice
from ganvas.app.resources import LoadedGenerator
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion import OptimizationConfig, invert, load_encoder
from ganvas.recipe.model import FromCodes
from ganvas.types import Images, WPlus

UPDATE_SECONDS = 0.5
"""Seconds between two updates of the progress."""
PICTURE_SECONDS = 4.0
"""Seconds between two pictures of an inversion under way."""
FIRST_CONFIG = OptimizationConfig(refine=1)
"""Options of the inversion for the first picture, which the visitor waits for."""
MAX_STEPS = 100
"""The most steps of a photograph's optimisation."""


class PhotoInversion:
    """One face's inversion. It ends once ``cancelled`` is set; once ``stopped`` is, with the best code so far.

    ``code``: the best one so far, at first the mean of W; ``is_shown``: whether the page has had its first picture.
    """

    def __init__(self, photo: FacePhoto, code: WPlus) -> None:
        self.photo, self.code = photo, code
        self.done, self.total, self.began = 0, MAX_STEPS, time.monotonic()
        self.cancelled, self.stopped, self.is_shown = False, False, False

    def run(self, loaded: LoadedGenerator) -> WPlus:
        """Return the code whose picture is most like the face. Raises Superseded once cancelled."""
        self.began = time.monotonic()
        return invert(
            self.photo.face.picture,
            loaded.generator,
            config=OptimizationConfig(steps=MAX_STEPS),
            distribution=loaded.distribution,
            on_step=self._follow_step,
        ).ws

    def format_progress(self) -> str:
        """Format how far it is, with the face that is inverted, as HTML."""
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done) if self.done else 0
        text = f"about {max(1, round(left))} s left" if self.done else "starting …"
        return _draw_progress(f"Getting closer to the photograph: {text}", self.done / self.total, self.photo)

    def _follow_step(self, done: int, total: int, picture: Images, ws: WPlus) -> bool:
        """Keep the best code so far, and return whether the visitor keeps it, too."""
        self.done, self.total, self.code = done, total, ws
        if self.cancelled:
            raise Superseded
        return self.stopped


class PhotoHandlers:
    """Handlers of photographs. Those that open one return values for the drop zone, the progress, the button that stops, the
    photograph with outlined faces, then for ``scene_outputs``, of which the last are the screens.
    """

    def __init__(self, edit_handlers: EditHandlers, num_others: int) -> None:
        self.edit_handlers, self.resources = edit_handlers, edit_handlers.resources
        self._others = [gr.skip()] * num_others

    @report_errors
    async def open_photo(self, file: Any, session: Session) -> AsyncIterator[Any]:
        """Find the faces of a photograph; one alone is taken, several are shown to choose from."""
        if not file:
            return
        async for updates in self._find_faces(claim_upload(file, self.edit_handlers.folder, PHOTO_SUFFIXES), session):
            yield updates

    @report_errors
    async def show_samples(self, session: Session) -> str:
        """Show the photographs to try, once they can be clicked."""
        return await asyncio.to_thread(rendering.draw_samples)

    @report_errors
    async def open_sample(self, session: Session, event: gr.EventData) -> AsyncIterator[Any]:
        """Find the faces of one of the photographs to try."""
        _, path = get_choice(event, photographs.list_samples())
        async for updates in self._find_faces(nullcontext(path), session):
            yield updates

    async def _find_faces(self, file: AbstractContextManager[Path], session: Session) -> AsyncIterator[Any]:
        is_stale = self._start_opening(session)
        yield self._make_updates("Looking for faces …")
        try:
            found, network = await self._read_faces(file, session, is_stale)
            matched = await self._match_photo(found, network, session, is_stale)
        except (GanvasError, Superseded):
            if not is_stale():
                yield self._make_updates("")
            raise
        if matched is not None:
            yield [*self._make_updates("", is_stale)[:4], *matched]
            return
        if len(found) == 1:
            async for updates in self._show_face(found[0], session, is_stale):
                yield updates
            return
        session.photos, session.screen = found, "chooser"
        screens = self.edit_handlers.make_screen_updates(session)
        yield [
            None,
            "",
            gr.update(visible=False),
            rendering.draw_faces(found),
            *self._others[: -len(screens)],
            *screens,
        ]

    async def _read_faces(
        self, file: AbstractContextManager[Path], session: Session, is_stale: Callable[[], bool]
    ) -> tuple[list[FacePhoto], Generator]:
        """Store a photograph, and find its faces for the scene's generator, which is returned, too."""
        with file as path:
            name, stored = path.name, self.edit_handlers.storage.save_photo(path)
        try:
            network = (await self._load(session)).generator
            found = await asyncio.to_thread(photographs.find_face_photos, stored, network.resolution)
            _check_newest(is_stale)
        except Superseded:
            stored.unlink(missing_ok=True)
            raise
        except GanvasError as error:
            stored.unlink(missing_ok=True)
            _check_newest(is_stale)
            raise GanvasError(str(error).replace(str(stored), name)) from None
        return found, network

    async def _match_photo(
        self, photos: list[FacePhoto], network: Generator, session: Session, is_stale: Callable[[], bool]
    ) -> list[Any] | None:
        """Show the scene in the photograph that its code was found for, if that is one of these; else return None."""
        sha256 = session.scene.missing_photo
        if not sha256:
            return None
        photo = await asyncio.to_thread(photographs.match_aligned, photos, sha256, network)
        _check_newest(is_stale)
        if session.scene.missing_photo != sha256:  # another picture was opened meanwhile
            return None
        if photo is None:
            text = "This isn't the photograph of the picture that you opened: its face is rebuilt anew."
            gr.Info(text, title="Photograph")
            return None
        session.add_photo(photo)
        scene = session.scene
        if scene.codes is not None and isinstance(scene.start, FromCodes):
            self.edit_handlers.storage.save_code(scene.codes, scene.start.row, photo)
        return await self.edit_handlers.show_all(session, session.set_scene(scene))

    @report_errors
    async def choose_face(self, session: Session, event: gr.EventData) -> AsyncIterator[Any]:
        """Take the face that was clicked."""
        photo = get_choice(event, session.photos)
        async for updates in self._show_face(photo, session, self._start_opening(session)):
            yield updates

    async def _show_face(self, photo: FacePhoto, session: Session, is_stale: Callable[[], bool]) -> AsyncIterator[Any]:
        """Show the encoder's picture of a face; where there is no encoder, the one that the search starts from."""
        yield [
            None,
            _draw_progress("Finding a picture like this face …", 0, photo),
            gr.skip(),
            gr.skip(),
            *self._others,
        ]
        before = session.scene.photo
        try:
            loaded = await self._load(session)
            _check_newest(is_stale)
            start = loaded.generator.expand(loaded.generator.w_avg[None])
            inversion = session.inversion = PhotoInversion(photo, start)
            encoder = await asyncio.to_thread(load_encoder, loaded.generator)
            if encoder is not None:
                inversion.code = await self.edit_handlers.run_with_generator(
                    session,
                    lambda: (
                        invert(
                            photo.face.picture, loaded.generator, method="encoder", config=FIRST_CONFIG, encoder=encoder
                        ).ws
                    ),
                )
            shown = await self._show_code(session, inversion, before)
        except (GanvasError, Superseded):
            if not is_stale():
                yield self._make_updates("")
            raise
        inversion.is_shown = True
        if is_stale():
            yield [*self._make_updates("", is_stale)[:4], *shown]
            return
        yield [None, inversion.format_progress(), gr.update(visible=True), gr.skip(), *shown]

    @report_errors
    async def refine_photo(self, session: Session) -> AsyncIterator[Any]:
        """Refine the code of the face that was shown, before the visitor's eyes, until it is stopped or another is opened."""
        inversion: PhotoInversion | None = session.inversion
        if inversion is None or not inversion.is_shown or inversion.done:
            return
        loaded = await self._load(session)
        task = asyncio.ensure_future(asyncio.to_thread(inversion.run, loaded))
        # An error of one whose visitor has left is nobody's.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        drawn = time.monotonic()
        try:
            while not task.done():
                _check_current(session, inversion, inversion.photo)
                others = self._others
                is_resting = session.rendered_version == session.version
                if time.monotonic() - drawn > PICTURE_SECONDS and inversion.done and is_resting:
                    others, drawn = await self._show_code(session, inversion, inversion.photo), time.monotonic()
                text = "" if inversion.stopped else inversion.format_progress()
                yield [gr.skip(), text, gr.skip(), gr.skip(), *others]
                await asyncio.wait([task], timeout=UPDATE_SECONDS)
            inversion.code = await task
            shown = await self._show_code(session, inversion, inversion.photo)
            yield [gr.skip(), "", gr.update(visible=False), gr.skip(), *shown]
        except (Superseded, GanvasError) as error:
            yield [gr.skip(), "", gr.update(visible=False), gr.skip(), *self._others]
            if isinstance(error, GanvasError):
                raise
        finally:
            inversion.cancelled = True

    @report_errors
    async def stop_refining(self, session: Session) -> Any:
        """Keep what is there."""
        if session.inversion is not None:
            session.inversion.stopped = True
        return ["", gr.update(visible=False)]

    async def _show_code(self, session: Session, inversion: PhotoInversion, before: FacePhoto | None) -> list[Any]:
        """Show a code in its photograph, with the edits that were made meanwhile.

        ``before``: the photograph that is shown now. Raises Superseded where the visitor opened another one since.
        """
        scene, photo, code = session.scene, inversion.photo, inversion.code
        _check_current(session, inversion, before)
        found = await self.edit_handlers.run_with_generator(
            session,
            lambda: rendering.make_code_scene(self.resources, scene, code, self.edit_handlers.storage, photo),
        )
        _check_current(session, inversion, before)
        session.commit()
        scene = session.scene
        if scene.photo is photo:
            found = replace(scene.without_refinement(), start=found.start, codes=found.codes)
            session.update_face(photo, found)
            if scene.codes is not None and scene.start != found.start:
                self.edit_handlers.storage.delete_code(scene.codes, 0)
        is_stale = session.set_scene(found)
        try:
            return await self.edit_handlers.show_all(session, is_stale)
        except Superseded:
            # Where a slider moved meanwhile, it shows the face, and this one's inversion goes on.
            _check_current(session, inversion, photo)
            return self._others

    async def _load(self, session: Session) -> LoadedGenerator:
        scene = session.scene
        return await self.edit_handlers.run_with_generator(session, lambda: self.resources.load(scene))

    def _start_opening(self, session: Session) -> Callable[[], bool]:
        """End the inversion under way, and all openings. Returns a function that says whether a newer one was started."""
        if session.inversion is not None:
            session.inversion.cancelled = True
            session.inversion = None
        session.opening += 1
        opening = session.opening
        return lambda: session.opening != opening

    def _make_updates(self, status: str, is_stale: Callable[[], bool] = lambda: False) -> list[Any]:
        """Return updates that show a status, or none; the upload isn't shown, since its file is moved.

        A newer opening's status stays.
        """
        if is_stale():
            return [gr.skip()] * (4 + len(self._others))
        text = _draw_progress(status, 0) if status else ""
        return [None, text, gr.update(visible=False), gr.skip(), *self._others]


def _check_current(session: Session, inversion: PhotoInversion, shown: FacePhoto | None) -> None:
    """Raise Superseded where an inversion was cancelled, or another photograph than ``shown`` is shown."""
    if inversion.cancelled or session.scene.photo is not shown:
        raise Superseded


def _check_newest(is_stale: Callable[[], bool]) -> None:
    """Raise Superseded where the visitor opened something else since."""
    if is_stale():
        raise Superseded


def _draw_progress(text: str, share: float, photo: FacePhoto | None = None) -> str:
    """Draw a line of text with a bar, and the face that it is about."""
    face = ""
    if photo is not None:
        crop = rendering.encode_picture(photo.small.cut_shown(photo.small.shown, 96))
        face = f"<img src='{rendering.to_url(crop)}' alt='The face in your photograph'>"
    bar = f"<progress max='1' value='{share:.3f}' aria-label='Progress'></progress>"
    return f"<div class='gv-progress'>{face}<div><p role='status'>{escape(text)}</p>{bar}</div></div>"
