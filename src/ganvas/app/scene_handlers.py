"""Handlers that bring another scene: opening the page, links, recipe files, photographs, other generators and editors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import rendering, request_checks, sharing
from ganvas.app.edit_handlers import EditHandlers
from ganvas.app.request_checks import PHOTO_SUFFIXES, RECIPE_SUFFIXES, claim_upload
from ganvas.app.resources import LoadedGenerator
from ganvas.app.scene import Scene, check_scene
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.data import codes as code_files
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.images import read_picture
from ganvas.progress import Progress
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromSeed, Recipe
from ganvas.recipe.rendering import limit_to_regions
from ganvas.types import Images, WPlus

UPDATE_SECONDS = 0.5
"""Seconds between two updates of a photograph's status."""
MAX_STEPS = 100
"""Steps of a photograph's optimisation."""


class SceneHandlers:
    """Handlers of changes beyond an edit. ``first``: the scene of a visitor without a link."""

    def __init__(self, edit_handlers: EditHandlers, first: Scene) -> None:
        self.edit_handlers, self.resources, self.first = edit_handlers, edit_handlers.resources, first

    @report_errors
    async def open_page(self, request: gr.Request) -> Any:
        """Start a session, at a link's scene or the first. Returns values for ``scene_outputs``."""
        token = request.query_params.get(sharing.QUERY_PARAMETER)
        if token:
            try:
                return await self._start_session(self.make_scene(sharing.decode_token(token)))
            except GanvasError as error:
                gr.Warning(escape(str(error), quote=False), title="The link", duration=10)
        return await self._start_session(self.first)

    async def _start_session(self, scene: Scene) -> list[Any]:
        session = Session(scene)
        return await self.edit_handlers.show_all(session, session.start_request())

    @report_errors
    async def pick_generator(self, name: Any, session: Session) -> Any:
        """Change to another generator, at its first face."""
        self.resources.check_names(request_checks.check_text("The generator", name), "")
        if name == session.scene.generator:
            return gr.skip()
        start = session.scene.start if isinstance(session.scene.start, FromSeed) else FromSeed(0)
        scene = Scene(name, self.resources.get_default_editor(name), start, dtype=self.first.dtype)
        session.gallery_faces = session.pending_faces = []
        return await self.edit_handlers.show_all(session, session.set_scene(scene))

    @report_errors
    async def pick_editor(self, name: Any, session: Session) -> Any:
        """Change to another editor for the same face; changes of attributes that it has are kept."""
        self.resources.check_names(session.scene.generator, request_checks.check_text("The editor", name) or "none")
        scene = session.scene.with_editor(name, self.resources.choices[name].editor.attributes)
        return await self.edit_handlers.show_all(session, session.set_scene(scene))

    def make_scene(self, recipe: Recipe, codes: Any = None) -> Scene:
        """Return the scene of a recipe. Raises GanvasError where the recipe needs what isn't installed."""
        self.resources.check_names(recipe.generator.name, "")
        if recipe.photo is not None:
            raise GanvasError(
                "The recipe puts back parts of a photograph, which this page doesn't have: draw it with `ganvas render`."
            )
        if recipe.transform is not None:
            raise GanvasError(
                "The recipe turns or moves the picture, which this page doesn't: draw it with `ganvas render`."
            )
        editor = self.resources.get_default_editor(recipe.generator.name)
        if recipe.editor is not None:
            installed = self.resources.find_editors(recipe.generator.name)
            matching = [
                name for name, choice in installed.items() if choice.tool.fingerprint == recipe.editor.fingerprint
            ]
            if not matching:
                missing = f"{recipe.editor.name!r} ({recipe.editor.fingerprint[:12]})"
                raise GanvasError(
                    f"The recipe needs editor {missing}: start the page with --editor FILE, the editor's file."
                )
            editor = matching[0]
        regional = limit_to_regions(recipe) == recipe
        if not regional and (recipe.regions or recipe.mask):
            raise GanvasError(
                "The recipe keeps its edits to a region of its own, which this page can't: draw it with `ganvas render`."
            )
        scene = Scene(
            recipe.generator.name, editor, recipe.start, recipe.mix, recipe.edits, recipe.dtype, regional, codes
        )
        return check_scene(scene)

    async def load_recipe_file(self, session: Session, path: Path) -> Callable[[], bool]:
        """Set the session's scene to that of a recipe's file. Returns whether the request has become stale, as a
        function.
        """
        try:
            loaded, carried = load_recipe(path)
            recipe = sharing.require_single_picture(loaded)
            self.resources.check_names(recipe.generator.name, "")

            def unpack() -> Any:
                if carried is None:
                    return None
                network = self.resources.load(self.make_scene(recipe)).generator
                return code_files.unpack_codes(carried, "The picture", network)

            codes = await self.edit_handlers.run_with_generator(session, unpack)
            scene = self.make_scene(recipe, codes)
            # Rendered before anything changes: it fails for another generator's recipe, or without its codes.
            await self.edit_handlers.run_with_generator(session, lambda: self.resources.render(scene))
        except GanvasError as error:
            raise GanvasError(str(error).replace(str(path), path.name)) from None
        session.commit()
        return session.set_scene(scene)

    @report_errors
    async def upload_recipe(self, file: Any, session: Session) -> Any:
        """Load an uploaded recipe; its file is deleted."""
        if not file:
            return gr.skip()
        with claim_upload(file, self.edit_handlers.folder, RECIPE_SUFFIXES) as path:
            is_stale = await self.load_recipe_file(session, path)
        return await self.edit_handlers.show_all(session, is_stale)

    # Photographs. Inversion runs beside the generator's thread: others go on editing meanwhile.

    def make_photo_handler(self, num_others: int) -> Callable[[Any, Session], AsyncIterator[Any]]:
        """Make the handler. It yields values for the upload, the status, and ``num_others`` as ``EditHandlers.show_all`` does."""
        rest = [gr.skip()] * num_others

        @report_errors
        async def upload(file: Any, session: Session) -> AsyncIterator[Any]:
            if not file:
                return
            with claim_upload(file, self.edit_handlers.folder, PHOTO_SUFFIXES) as path:
                scene, inversion = session.scene, _Inversion()
                loaded = await self.edit_handlers.run_with_generator(session, lambda: self.resources.load(scene))
                task = asyncio.ensure_future(asyncio.to_thread(inversion.run, path, loaded))
                # An error of one whose visitor has left is nobody's.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                try:
                    while not task.done():
                        yield [gr.skip(), _format_status(inversion.status), *rest]
                        await asyncio.wait([task], timeout=UPDATE_SECONDS)
                    shown = await self._show_code(session, scene, await task)
                    done = "Here is the face: edit it like any other. The photo is deleted."
                    yield [None, _format_status(done), *shown]
                except Superseded:
                    yield [None, _format_status("Another face was chosen meanwhile; the photo is deleted."), *rest]
                finally:
                    inversion.cancelled = True

        return upload

    async def _show_code(self, session: Session, scene: Scene, ws: WPlus) -> list[Any]:
        inverted = await self.edit_handlers.run_with_generator(
            session, lambda: rendering.make_code_scene(self.resources, scene, ws, self.edit_handlers.folder)
        )
        session.commit()
        return await self.edit_handlers.show_all(session, session.set_scene(inverted))


class _Inversion:
    """One photograph's inversion. ``status`` says how far it is; it ends once ``cancelled`` is set."""

    def __init__(self) -> None:
        self.status, self.cancelled = "Looking for a face …", False

    def run(self, path: Path, loaded: LoadedGenerator) -> WPlus:
        """Return the photograph's code, and delete the file whatever is in it. Raises Superseded once cancelled."""
        try:
            face = read_face(path, loaded.generator)
        except GanvasError as error:
            raise GanvasError(str(error).replace(str(path), path.name)) from None
        finally:
            path.unlink(missing_ok=True)
        return invert_face(face, loaded, self._report_progress)

    def _report_progress(self, done: int, total: int | None) -> None:
        if self.cancelled:
            raise Superseded
        self.status = f"Searching for a picture like it: step {done} of at most {total}"


def read_face(path: Path, generator: Generator) -> Images:
    """Read and align the largest face of a photograph. Raises GanvasError for no picture, and where it shows no face."""
    from ganvas.inversion import align

    return align(read_picture(path), generator.resolution, max_faces=1)[0].picture


def invert_face(face: Images, loaded: LoadedGenerator, progress: Progress) -> WPlus:
    """Return the code, (1, num_ws, w_dim), whose picture is most like the face."""
    from ganvas.inversion import OptimizationConfig, invert

    config = OptimizationConfig(steps=MAX_STEPS)
    return invert(face, loaded.generator, config=config, distribution=loaded.distribution, progress=progress).ws


def _format_status(text: str) -> str:
    return f"<p role='status'>{escape(text)}</p>"
