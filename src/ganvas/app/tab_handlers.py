"""Handlers of the tabs and galleries: a tab's contents are rendered when it opens, and again when the picture changes."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from ganvas.app import compare, rendering, request_checks, sharing
from ganvas.app.attribute_groups import group_attributes
from ganvas.app.attribute_words import get_sign, matches_search
from ganvas.app.compare import MAX_COMPARED_CHANGE, MethodEditors
from ganvas.app.edit_handlers import FACES_PER_PAGE, SAMPLED_FACES, EditHandlers
from ganvas.app.scene import MAX_PSI, Scene, format_title
from ganvas.app.session import Session, report_errors
from ganvas.errors import GanvasError
from ganvas.io.images import to_bytes
from ganvas.recipe.files import save_picture
from ganvas.types import Images

FACES_PER_UPDATE = 4
"""Faces of a gallery that appear together."""
TAB_OUTPUTS = ("wipe", "strip", "chart", "visited", "png", "json", "link", "command", "python")
"""Names of the values of ``refresh_tabs``; ``tab_outputs`` are the components."""
PICTURE_TABS, DETAIL_TABS = ("picture", "wipe", "strip"), ("edit", "faces", "moved", "compare", "photo", "take")


class TabHandlers:
    """Handlers of the tabs. ``methods``: the editors to compare."""

    def __init__(self, edit_handlers: EditHandlers, methods: MethodEditors) -> None:
        self.edit_handlers, self.resources, self.methods = edit_handlers, edit_handlers.resources, methods
        self.run_with_generator = edit_handlers.run_with_generator

    def make_open_handler(self, tab: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler of a tab that opens, and closes the others of its row."""
        row = PICTURE_TABS if tab in PICTURE_TABS else DETAIL_TABS

        async def select(session: Session | None, request: gr.Request) -> Any:
            # A narrow page selects its tabs while it is still opening; they are refreshed once it is open.
            if not isinstance(session, Session):
                return [gr.skip() for _ in TAB_OUTPUTS]
            session.open_tabs = (session.open_tabs - set(row)) | {tab}
            return await self.refresh_tabs(session, request)

        return select

    @report_errors
    async def refresh_tabs(self, session: Session, request: gr.Request) -> Any:
        """Return values for ``TAB_OUTPUTS``, updated for the tabs that are open."""
        version, scene, updates = session.version, session.scene, {}

        def is_stale() -> bool:
            return session.version != version

        if "wipe" in session.open_tabs:
            pair = await self.run_with_generator(
                session, lambda: rendering.render_pair(self.resources, scene), is_stale
            )
            # The component has no alternative text: its label says what both are.
            label = f"Before and after: {self.edit_handlers.describe(scene)}"
            updates["wipe"] = gr.update(value=[rendering.to_image_value(data) for data in pair], label=label)
        if "strip" in session.open_tabs:
            amounts = rendering.STRIP_AMOUNTS if scene.edits else ()
            strip = [
                (await self._render_thumbnail(session, scene.with_amount(amount), is_stale), f"{amount:g} ×")
                for amount in amounts
            ]
            updates["strip"] = rendering.to_gallery_value(strip)
        if "moved" in session.open_tabs:
            updates["chart"] = await self._draw_chart(session, scene, is_stale)
        if "faces" in session.open_tabs:
            faces = list(session.visited_faces)
            visited = [(await self._render_thumbnail(session, face, is_stale), format_title(face)) for face in faces]
            updates["visited"] = rendering.to_gallery_value(visited)
            session.shown_visited_faces = faces
        if "take" in session.open_tabs:
            updates |= await self._export(session, scene, is_stale, request)
        return [updates.get(name, gr.skip()) for name in TAB_OUTPUTS]

    async def _render_thumbnail(self, session: Session, scene: Scene, is_stale: Callable[[], bool]) -> bytes:
        return await self.run_with_generator(
            session, lambda: rendering.render_thumbnail(self.resources, scene), is_stale
        )

    async def _draw_chart(self, session: Session, scene: Scene, is_stale: Callable[[], bool]) -> str:
        """Draw the chart of the edit's effect. Faces are compared in the background."""
        resources = self.resources
        if not scene.editor:
            return "<p>What moved is measured with an editor: pick one.</p>"

        def measure() -> tuple[rendering.EditEffect, Images, Images]:
            images = resources.render(scene.unedited).image, resources.render(scene).image
            return rendering.measure_effect(resources, scene), *images

        effect, before, after = await self.run_with_generator(session, measure, is_stale)
        effect = await self.edit_handlers.run_in_background(
            session, lambda: rendering.add_identity(resources, effect, before, after), is_stale
        )
        return rendering.draw_chart(effect)

    async def _export(
        self, session: Session, scene: Scene, is_stale: Callable[[], bool], request: gr.Request
    ) -> dict[str, Any]:
        recipe, rendered = await self.run_with_generator(
            session, lambda: (self.resources.make_recipe(scene), self.resources.render(scene)), is_stale
        )
        name, folder = sharing.make_file_name(scene), self.edit_handlers.get_session_folder(session)
        # Another path each time: browsers cache what they fetched.
        path = folder / f"{session.version}" / f"{name}.png"

        def write() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            save_picture(path, to_bytes(rendered.image)[0], recipe, scene.codes)

        await self.edit_handlers.run_in_background(session, write, is_stale)
        editor = self.resources.editor_paths.get(scene.editor, scene.editor)
        return {
            "png": rendering.to_file_value(path),
            "json": rendering.to_file_value(path.with_suffix(".json")),
            "link": _make_link(recipe, request),
            "command": sharing.format_command(recipe, editor, name),
            "python": sharing.format_python(recipe, editor, name),
        }

    # Faces to choose from.

    def make_gallery_handler(
        self, list_faces: Callable[[Session, int, float], list[Scene]]
    ) -> Callable[[Any, Any, Session], AsyncIterator[Any]]:
        """Make a handler that fills the gallery with ``list_faces``, some at a time."""

        @report_errors
        async def fill(seed: Any, psi: Any, session: Session) -> AsyncIterator[Any]:
            first = request_checks.check_integer("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
            truncation = request_checks.check_number("The variety", psi, 0, MAX_PSI)
            session.pending_faces = pending = await self.run_with_generator(
                session, lambda: list_faces(session, first, truncation)
            )
            shown: list[tuple[bytes, str]] = []
            for i, face in enumerate(pending):
                thumbnail = await self._render_thumbnail(session, face, lambda: session.pending_faces is not pending)
                shown.append((thumbnail, format_title(face)))
                if (i + 1) % FACES_PER_UPDATE == 0 or i + 1 == len(pending):
                    # Not before: until then the page shows other faces, and a click chooses one of them.
                    session.gallery_faces = pending
                    yield rendering.to_gallery_value(shown)

        return fill

    def list_seeds(self, session: Session, first: int, psi: float) -> list[Scene]:
        """Return the faces of a page of seeds."""
        return rendering.make_seed_scenes(session.scene, first, psi, FACES_PER_PAGE)

    def list_similar(self, session: Session, first: int, psi: float) -> list[Scene]:
        """Return faces like the present one."""
        return rendering.make_similar_scenes(
            self.resources,
            session.scene,
            session.version * FACES_PER_PAGE,
            FACES_PER_PAGE,
            self.edit_handlers.folder,
        )

    def list_sampled(self, session: Session, first: int, psi: float) -> list[Scene]:
        """Return faces sampled at the sliders' values."""
        return rendering.make_slider_scenes(session.scene, first, SAMPLED_FACES)

    @report_errors
    async def check_sampling(self, session: Session) -> Any:
        """Open the tab of the gallery. Fails where no slider was moved."""
        rendering.make_slider_scenes(session.scene, 0, 1)
        return gr.update(selected="faces")

    def make_choice_handler(self, visited: bool) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler that shows a face chosen in a gallery."""

        @report_errors
        async def choose(session: Session, event: gr.SelectData) -> Any:
            faces = session.shown_visited_faces if visited else session.gallery_faces
            if type(event.index) is not int or not 0 <= event.index < len(faces):
                raise GanvasError("That face isn't in the gallery any more: pick another.")
            session.commit()
            return await self.edit_handlers.show_all(session, session.set_scene(faces[event.index]))

        return choose

    # Sliders and methods.

    @report_errors
    async def search_sliders(self, search: Any, session: Session) -> Any:
        """Return the visibility of groups and sliders for a search."""
        session.search = request_checks.check_text("The search", search)
        return self.make_visibility_updates(session)

    def make_visibility_updates(self, session: Session) -> list[Any]:
        """Return the visibility of groups, then of sliders: those that the editor has and the search matches."""
        choice = self.resources.choices.get(session.scene.editor)
        available = choice.shown_sliders if choice else ()
        groups = group_attributes(self.edit_handlers.slider_names)
        shown = {
            g: [n for n in names if n in available and matches_search(n, g, session.search)]
            for g, names in groups.items()
        }
        visible = {name for names in shown.values() for name in names}
        return [
            *(_update_group(bool(names), bool(session.search)) for names in shown.values()),
            *(self._update_slider(session.scene, name, name in visible) for name in self.edit_handlers.slider_names),
        ]

    def _update_slider(self, scene: Scene, name: str, visible: bool) -> dict[str, Any]:
        """Return the update of a slider, with its scale where it depends on the editor."""
        if not any(name in choice.editor.units for choice in self.resources.choices.values()):
            return gr.update(visible=visible)
        scale = self.resources.get_slider_scale(scene.editor, name)
        low, high, step = scale.ticks
        return gr.update(visible=visible, minimum=low, maximum=high, step=step, label=scale.label)

    @report_errors
    async def arrange_sliders(self, session: Session) -> Any:
        """Return the groups, sliders and methods to compare of the editor that was picked."""
        names = self.methods.list_methods(session.scene.generator)
        return [*self.make_visibility_updates(session), gr.update(choices=names, value=names[:3])]

    @report_errors
    async def compare_methods(self, attribute: Any, change: Any, methods: Any, session: Session) -> AsyncIterator[Any]:
        """Yield the pictures of methods, each as it gets ready."""
        scene, resources, ended = session.scene, self.resources, threading.Event()
        names = request_checks.check_names("Methods", methods)
        request_checks.check_text("Attribute", attribute)
        by = request_checks.check_number("The change", change, -MAX_COMPARED_CHANGE, MAX_COMPARED_CHANGE)
        by *= get_sign(attribute)
        compare.check_comparison(resources, scene, attribute, by, names)
        target = compare.ComparisonTarget(attribute, by)
        try:
            shown = [(await self._render_thumbnail(session, scene.unedited, ended.is_set), "unedited")]
            yield rendering.to_gallery_value(shown)
            for name in names:
                result = await asyncio.to_thread(self._compare_method, scene, name, target, ended.is_set)
                if result.picture is None:
                    gr.Warning(escape(result.caption, quote=False), title="Compare")
                    continue
                shown = [*shown, (result.picture, result.caption)]
                yield rendering.to_gallery_value(shown)
        finally:
            # Where the visitor left: the thread that compares for it ends.
            ended.set()

    def _compare_method(
        self, scene: Scene, name: str, target: compare.ComparisonTarget, is_stale: Callable[[], bool]
    ) -> compare.MethodResult:
        """Compare one method, beside the generator's thread, which renders one picture at a time for it."""

        def run_with_generator(work: Callable[[], Any]) -> Any:
            return self.edit_handlers.generator_queue.submit(work, is_stale).result()

        try:
            network = run_with_generator(lambda: self.resources.load(scene).generator)
            editor = self.methods.load_or_fit(network, name, target.attribute)
            return compare.compare_method(self.resources, scene, name, editor, target, run_with_generator)
        except GanvasError as error:
            return compare.MethodResult(name, None, f"{name}: {error}")


def _update_group(visible: bool, searched: bool) -> dict[str, Any]:
    """Return the update of a group of sliders, unfolded where a search matches some of them."""
    return gr.update(visible=visible, open=True) if visible and searched else gr.update(visible=visible)


def _make_link(recipe: Any, request: gr.Request) -> str:
    """Return the page's own address with the recipe; or why there is none."""
    try:
        token = sharing.encode_token(recipe)
    except GanvasError as error:
        return str(error)
    referer = urlsplit(request.headers.get("referer") or "")
    host = referer.netloc or request.headers.get("host") or "127.0.0.1"
    return urlunsplit(
        (referer.scheme or "http", host, referer.path or "/", urlencode({sharing.QUERY_PARAMETER: token}), "")
    )
