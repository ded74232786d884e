"""Handlers that bring another scene: opening the page, links, recipe files, other generators and editors."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import sharing, validation
from ganvas.app.edit_handlers import EditHandlers, report_errors
from ganvas.app.scene import Scene, check_scene
from ganvas.app.server_folder import RECIPE_SUFFIXES, claim_upload
from ganvas.app.session import Session
from ganvas.data import codes as code_files
from ganvas.errors import GanvasError
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromSeed, Recipe


class NavigationHandlers:
    """Handlers of changes beyond an edit. ``first``: the scene of a visitor without a link."""

    def __init__(self, edit_handlers: EditHandlers, first: Scene) -> None:
        self.edit_handlers, self.resources, self.first = edit_handlers, edit_handlers.resources, first

    @report_errors
    async def open_page(self, request: gr.Request) -> Any:
        """Start a session, at a link's scene or the first. Returns values for ``EventWiring.scene_outputs``."""
        token, session_hash = request.query_params.get(sharing.QUERY_PARAMETER), request.session_hash
        if token:
            try:
                return await self._start_session(Session(self.make_scene(sharing.decode_token(token))), session_hash)
            except GanvasError as error:
                gr.Warning(escape(str(error), quote=False), title="The link", duration=10)
        return await self._start_session(Session(self.first), session_hash)

    async def _start_session(self, session: Session, session_hash: str | None) -> list[Any]:
        updates = await self.edit_handlers.show_all(session, session.start_request())
        self.edit_handlers.sessions.add(session_hash, session)
        return updates

    @report_errors
    async def pick_generator(self, name: Any, session: Session | None) -> Any:
        """Change to another generator, at its first face."""
        current = self.edit_handlers.require_session(session)
        self.resources.check_names(validation.check_text("The generator", name), "")
        if name == current.scene.generator:
            return gr.skip()
        start = current.scene.start if isinstance(current.scene.start, FromSeed) else FromSeed(0)
        is_stale = current.set_scene(
            Scene(name, self.resources.get_default_editor(name), start, dtype=self.first.dtype)
        )
        current.gallery_faces = current.pending_faces = []
        return await self.edit_handlers.show_all(current, is_stale)

    @report_errors
    async def pick_editor(self, name: Any, session: Session | None) -> Any:
        """Change to another editor for the same face; changes of attributes that it has are kept."""
        current = self.edit_handlers.require_session(session)
        self.resources.check_names(current.scene.generator, validation.check_text("The editor", name) or "none")
        is_stale = current.set_scene(current.scene.with_editor(name, self.resources.choices[name].editor.attributes))
        return await self.edit_handlers.show_all(current, is_stale)

    def make_scene(self, recipe: Recipe, codes: Any = None) -> Scene:
        """Return the scene of a recipe. Raises GanvasError where the recipe needs what isn't installed."""
        self.resources.check_names(recipe.generator.name, "")
        if recipe.photo is not None:
            raise GanvasError(
                "The recipe puts back parts of a photograph, which this page doesn't have: draw it with `ganvas render`."
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
        return check_scene(
            Scene(recipe.generator.name, editor, recipe.start, recipe.mix, recipe.edits, recipe.dtype, codes)
        )

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
    async def upload_recipe(self, file: Any, session: Session | None) -> Any:
        """Load an uploaded recipe; its file is deleted."""
        if not file:
            return gr.skip()
        with claim_upload(file, self.edit_handlers.sessions.folder, RECIPE_SUFFIXES) as path:
            current = self.edit_handlers.require_session(session)
            is_stale = await self.load_recipe_file(current, path)
        return await self.edit_handlers.show_all(current, is_stale)
