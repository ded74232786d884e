"""How visitors come to a scene from elsewhere: by opening the page, by a link, a recipe's file, another generator or editor."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import sharing, validation
from ganvas.app.edit_handlers import EditHandlers, report_errors
from ganvas.app.scene import Scene, check_scene
from ganvas.app.server_folder import RECIPES, claim_upload
from ganvas.app.session import Session
from ganvas.data import codes as code_files
from ganvas.errors import GanvasError
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromSeed, Recipe


class NavigationHandlers:
    """Handlers of what changes more than an edit; ``first`` is what a visitor without a link sees."""

    def __init__(self, hands: EditHandlers, first: Scene) -> None:
        self.hands, self.shop, self.first = hands, hands.shop, first

    @report_errors
    async def open(self, request: gr.Request) -> Any:
        """A visitor comes, with a link or without: they get a desk. Values are pickers, then what ``updates`` gives."""
        token, session = request.query_params.get(sharing.QUERY), request.session_hash
        if token:
            try:
                return await self._enter(Session(self.scene_of(sharing.recipe_of_token(token))), session)
            except GanvasError as error:
                gr.Warning(escape(str(error), quote=False), title="The link", duration=10)
        return await self._enter(Session(self.first), session)

    async def _enter(self, desk: Session, session: str | None) -> list[Any]:
        shown = [*self.hands.pickers(desk), *await self.hands.show(desk, desk.touch())]
        self.hands.desks.sit(session, desk)
        return shown

    @report_errors
    async def pick_generator(self, name: Any, desk: Session | None) -> Any:
        """Another generator: its first face."""
        mine = self.hands.desk(desk)
        self.shop.check(validation.check_text("The generator", name), "")
        if name == mine.scene.generator:
            return gr.skip()
        start = mine.scene.start if isinstance(mine.scene.start, FromSeed) else FromSeed(0)
        stale = mine.look(Scene(name, self.shop.default_editor(name), start, dtype=self.first.dtype))
        mine.faces = mine.wanted = []
        return [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]

    @report_errors
    async def pick_editor(self, name: Any, desk: Session | None) -> Any:
        """Another editor for the same face; changes that it knows, too, are kept."""
        mine = self.hands.desk(desk)
        self.shop.check(mine.scene.generator, validation.check_text("The editor", name) or "none")
        stale = mine.look(mine.scene.with_editor(name, self.shop.choices[name].editor.attributes))
        return [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]

    def scene_of(self, recipe: Recipe, codes: Any = None) -> Scene:
        """The scene of a recipe. Raises GanvasError where it needs what isn't here."""
        self.shop.check(recipe.generator.name, "")
        if recipe.photo is not None:
            raise GanvasError("The recipe puts back parts of a photograph, which isn't here: `ganvas render` draws it.")
        editor = self.shop.default_editor(recipe.generator.name)
        if recipe.editor is not None:
            here = self.shop.editors_of(recipe.generator.name)
            same = [name for name, one in here.items() if one.named.fingerprint == recipe.editor.fingerprint]
            if not same:
                whose = f"{recipe.editor.name!r} ({recipe.editor.fingerprint[:12]})"
                raise GanvasError(f"The recipe needs editor {whose}: start the page with --editor FILE for it.")
            editor = same[0]
        return check_scene(
            Scene(recipe.generator.name, editor, recipe.start, recipe.mix, recipe.edits, recipe.dtype, codes)
        )

    async def load(self, desk: Session, path: Path) -> Callable[[], bool]:
        """Look at the picture of a recipe's file."""
        try:
            found, carried = load_recipe(path)
            recipe = sharing.picture_of(found)
            self.shop.check(recipe.generator.name, "")

            def unpack() -> Any:
                if carried is None:
                    return None
                network = self.shop.bench(self.scene_of(recipe)).generator
                return code_files.unpack_codes(carried, "The picture", network)

            codes = await self.hands.ask(desk, unpack)
            scene = self.scene_of(recipe, codes)
            # Whether it's the right generator, and has the codes: before anything changes.
            await self.hands.ask(desk, lambda: self.shop.render(scene))
        except GanvasError as error:
            raise GanvasError(str(error).replace(str(path), path.name)) from None
        desk.keep()
        return desk.look(scene)

    @report_errors
    async def upload(self, file: Any, desk: Session | None) -> Any:
        """A recipe is loaded; its file is deleted."""
        if not file:
            return gr.skip()
        with claim_upload(file, self.hands.desks.folder, RECIPES) as path:
            mine = self.hands.desk(desk)
            stale = await self.load(mine, path)
        return [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]
