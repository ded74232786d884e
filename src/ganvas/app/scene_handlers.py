"""Handlers that bring another scene: opening the page, links, recipe files, other generators and editors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from ganvas.app import request_checks, sharing
from ganvas.app.edit_handlers import EditHandlers
from ganvas.app.photographs import FacePhoto
from ganvas.app.presets import parse_presets
from ganvas.app.request_checks import RECIPE_SUFFIXES, claim_upload
from ganvas.app.scene import AUTOMATIC_REGION, NO_REGION, PAINTED_REGION, SAVED_REGION, Scene, check_scene
from ganvas.app.session import Session, report_errors
from ganvas.data import codes as code_files
from ganvas.data.codes import Codes
from ganvas.errors import GanvasError
from ganvas.generators.regions import load_regions
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromCodes, FromSeed, Recipe, from_json
from ganvas.recipe.rendering import limit_to_regions


class SceneHandlers:
    """Handlers of changes beyond an edit. ``first``: the scene of a visitor without a link."""

    def __init__(self, edit_handlers: EditHandlers, first: Scene) -> None:
        self.edit_handlers, self.resources, self.first = edit_handlers, edit_handlers.resources, first
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()

    @report_errors
    async def open_page(self, remembered: Any, request: gr.Request) -> Any:
        """Start a session, at a link's scene, where this browser was before, or at the first. Returns values for
        ``scene_outputs``.
        """
        session = Session(self.first)
        self._sessions[session.key] = session
        if isinstance(remembered, dict):
            session.saved_presets = parse_presets(remembered.get("presets"))
        token = request.query_params.get(sharing.QUERY_PARAMETER)
        try:
            if token:
                _start_at(session, self.make_scene(sharing.decode_token(token)))
            elif isinstance(remembered, dict):
                await self._recall(session, remembered)
            return await self.edit_handlers.show_all(session, session.start_request())
        except GanvasError as error:
            title = "The link" if token else "Where you were"
            gr.Warning(escape(str(error), quote=False), title=title, duration=10)
        session.resume(Session(self.first))
        return await self.edit_handlers.show_all(session, session.start_request())

    async def _recall(self, session: Session, remembered: dict[str, Any]) -> None:
        """Go on where this browser was: with all steps on the same server, with the picture after a restart."""
        other = self._sessions.get(str(remembered.get("key")))
        if other is not None and other is not session:
            session.resume(other)
            return
        recipe = sharing.require_single_picture(from_json(remembered.get("recipe"), "in this browser"))
        region = remembered.get("region")
        scene = self.make_scene(replace(recipe, photo=None, mask=None))
        scene = replace(scene, photo_sha256=str(remembered.get("photo", "")))
        if region == PAINTED_REGION:
            mask = self.edit_handlers.storage.load_mask(str(remembered.get("mask")))
            scene = replace(scene, region=PAINTED_REGION, mask=mask, mask_sha256=mask.sha256)
        elif region in (NO_REGION, *load_regions(scene.generator)):
            scene = replace(scene, region=region)
        if isinstance(start := recipe.start, FromCodes):
            codes, photo = await self.edit_handlers.run_with_generator(session, lambda: self._load_code(scene, start))
            scene = replace(scene, codes=codes, photo=photo)
        _start_at(session, scene)

    def _load_code(self, scene: Scene, start: FromCodes) -> tuple[Codes, FacePhoto | None]:
        network = self.resources.load(scene).generator
        return self.edit_handlers.storage.load_code(start.codes, start.row, network)

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
        scene = session.scene.with_editor(name, self.resources.require_choice(name).editor.attributes)
        return await self.edit_handlers.show_all(session, session.set_scene(scene))

    def make_scene(self, recipe: Recipe) -> Scene:
        """Return the scene of a recipe. Raises GanvasError where the recipe needs what isn't installed."""
        self.resources.check_names(recipe.generator.name, "")
        if recipe.transform is not None:
            raise GanvasError(
                "The recipe turns or moves the picture, which this page doesn't: draw it with `ganvas render`."
            )
        editor = self.resources.get_default_editor(recipe.generator.name)
        if recipe.editor is not None:
            installed = self.resources.find_editors(recipe.generator.name, self.resources.choices)
            matching = [
                name for name, choice in installed.items() if choice.tool.fingerprint == recipe.editor.fingerprint
            ]
            if not matching and (stored := self.edit_handlers.storage.find_editor(recipe.editor.fingerprint)):
                matching = [self.resources.add_own_editor(stored, recipe.editor.name)]
            if not matching:
                missing = f"{recipe.editor.name!r} ({recipe.editor.fingerprint[:12]})"
                raise GanvasError(
                    f"The recipe needs editor {missing}: start the page with --editor FILE, the editor's file."
                )
            editor = matching[0]
        region = find_region(recipe)
        scene = Scene(
            recipe.generator.name,
            editor,
            recipe.start,
            recipe.mix,
            recipe.edits,
            recipe.dtype,
            region,
            recipe.regions or () if region == SAVED_REGION else (),
        )
        # The sliders go on from the last edit, whichever rows it moves.
        return check_scene(replace(scene, rows=recipe.edits[-1].rows if recipe.edits else None))

    async def load_recipe_file(self, session: Session, path: Path) -> Callable[[], bool]:
        """Set the session's scene to that of a recipe's file. Returns whether the request has become stale, as a
        function.
        """
        try:
            loaded, carried = load_recipe(path)
            recipe = sharing.require_single_picture(loaded)
            free = replace(recipe, photo=None)
            scene = self.make_scene(free)

            def unpack() -> Any:
                if carried is None:
                    return None
                return code_files.unpack_codes(carried, "The picture", self.resources.load(scene).generator)

            codes = await self.edit_handlers.run_with_generator(session, unpack)
            scene = replace(scene, codes=codes, photo_sha256=recipe.photo or "")
            # Rendered before anything changes: it fails for another generator's recipe, or without its codes.
            await self.edit_handlers.run_with_generator(session, lambda: self.resources.render(scene))
        except GanvasError as error:
            raise GanvasError(str(error).replace(str(path), path.name)) from None
        if codes is not None and isinstance(recipe.start, FromCodes):
            self.edit_handlers.storage.save_code(codes, recipe.start.row, None)
        if recipe.photo is not None and recipe.mix is not None:
            gr.Info("The picture's photograph isn't in its file: you see the generated face alone.", title="Photograph")
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


def _start_at(session: Session, scene: Scene) -> None:
    """Start a session at a scene, which can't be undone."""
    other = Session(scene)
    other.screen = "picture"
    session.resume(other)


def find_region(recipe: Recipe) -> str:
    """Return the page's name of the region that a recipe keeps its edits to. Raises GanvasError for a mask."""
    if recipe.mask is not None:
        raise GanvasError(
            "The recipe keeps its edits to a painted place, which isn't in its file: draw it with `ganvas render --region`."
        )
    if limit_to_regions(recipe) == recipe:
        return AUTOMATIC_REGION
    if recipe.regions is None:
        return NO_REGION
    named = (name for name, (region, _) in load_regions(recipe.generator.name).items() if recipe.regions == (region,))
    return next(named, SAVED_REGION)
