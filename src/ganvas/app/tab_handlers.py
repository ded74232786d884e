"""Handlers of the tabs and galleries: a tab's contents are rendered when it opens, and again when the picture changes."""

from __future__ import annotations

import asyncio
import shutil
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from ganvas.app import compare, rendering, request_checks, sharing
from ganvas.app.attribute_words import get_sign
from ganvas.app.compare import MAX_COMPARED_CHANGE, MethodEditors
from ganvas.app.counting import CountHandlers
from ganvas.app.edit_handlers import FACES_PER_PAGE, SAMPLED_FACES, EditHandlers
from ganvas.app.exact_edit import ExactEditHandlers
from ganvas.app.explore import ExploreHandlers
from ganvas.app.own_slider import OwnSliderHandlers
from ganvas.app.presets import (
    MAX_SAVED_PRESETS,
    Preset,
    has_attributes,
    list_presets,
    make_preset,
    toggle_preset,
)
from ganvas.app.region_handlers import RegionHandlers
from ganvas.app.rendering import to_file_value
from ganvas.app.scene import MAX_PSI, Scene, format_title
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.app.slider_scale import SliderScale
from ganvas.app.storage import encode_mask
from ganvas.errors import GanvasError
from ganvas.io.figures import encode_mp4
from ganvas.io.images import to_bytes
from ganvas.recipe.files import save_picture
from ganvas.types import Images

FACES_PER_UPDATE = 4
"""Faces of a gallery that appear together."""
TAB_OUTPUTS = (
    *("presets", "wipe", "strip", "chart", "visited", "steps", "pinned", "components", "method"),
    *("photo_file", "png", "json", "archive", "editor_file", "film", "link", "command", "python"),
)
"""Names of the values of ``refresh_tabs``; ``tab_outputs`` are the components."""
MAX_PINNED = 6
"""Pictures that are kept side by side."""
FILM_FRAMES, FILM_SIDE, FILM_RATE = 24, 512, 12.0
"""Of the way from the unedited picture to the edited one: its frames, their side in pixels, and frames a second."""


class TabHandlers:
    """Handlers of the tabs. ``methods``: the editors to compare."""

    def __init__(self, edit_handlers: EditHandlers, methods: MethodEditors) -> None:
        self.own_slider = OwnSliderHandlers(edit_handlers, methods)
        self.explore = ExploreHandlers(self.own_slider)
        self.exact_edit, self.counting = ExactEditHandlers(edit_handlers), CountHandlers(edit_handlers)
        self.regions = RegionHandlers(edit_handlers)
        self.edit_handlers, self.resources, self.methods = edit_handlers, edit_handlers.resources, methods
        self.run_with_generator = edit_handlers.run_with_generator

    def make_open_handler(self, tab: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler of a tab that opens, and closes the others of its row."""

        async def select(session: Session | None, request: gr.Request) -> Any:
            # A narrow page selects its tabs while it is still opening; they are refreshed once it is open.
            if not isinstance(session, Session):
                return [gr.skip() for _ in TAB_OUTPUTS]
            session.open_tab(tab)
            return await self.refresh_tabs(session, request)

        return select

    @report_errors
    async def refresh_tabs(self, session: Session, request: gr.Request) -> Any:
        """Return values for ``TAB_OUTPUTS``, updated for the tabs that are open."""
        return await self._refresh_tabs(session, request)

    async def _refresh_or_leave(self, session: Session, request: gr.Request) -> list[Any]:
        """Do as ``refresh_tabs``; where a newer request came, which refreshes tabs itself, leave them as they are."""
        try:
            return await self._refresh_tabs(session, request)
        except Superseded:
            return [gr.skip() for _ in TAB_OUTPUTS]

    async def _refresh_tabs(self, session: Session, request: gr.Request) -> list[Any]:
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
            session.shown_visited_faces = list(session.visited_faces)
            visited = await self._list_pictures(session, session.shown_visited_faces, is_stale)
            updates["visited"] = rendering.draw_choices(visited)
        if "history" in session.open_tabs:
            session.shown_steps = session.list_steps()
            steps = await self._list_pictures(session, session.shown_steps, is_stale)
            updates["steps"] = rendering.draw_choices(steps)
            pinned = rendering.to_gallery_value(await self._list_pictures(session, session.pinned, is_stale))
            updates["pinned"] = gr.update(value=pinned, visible=bool(pinned))
        if "take" in session.open_tabs:
            updates |= await self._export(session, scene, is_stale, request)
        if {"edit", "explore"} <= session.open_tabs:
            updates |= await self.explore.describe_components(session, scene, is_stale)
        if "edit" in session.open_tabs and session.shown_presets != scene.unedited:
            updates["presets"] = await self._draw_presets(session, scene, is_stale)
            session.shown_presets = scene.unedited
        return [updates.get(name, gr.skip()) for name in TAB_OUTPUTS]

    async def _list_pictures(
        self, session: Session, scenes: list[Scene], is_stale: Callable[[], bool]
    ) -> list[tuple[bytes, str]]:
        return [(await self._render_thumbnail(session, each, is_stale), format_title(each)) for each in scenes]

    async def _draw_presets(self, session: Session, scene: Scene, is_stale: Callable[[], bool]) -> str:
        """Draw the presets of the unedited face as buttons with small pictures."""
        if not scene.editor:
            return ""
        readings = await self._read_start(session, scene)
        shown = []
        for preset in self._list_presets(session, scene):
            edited = toggle_preset(scene.unedited, preset, readings, self._make_scales(scene))
            shown.append((await self._render_thumbnail(session, edited, is_stale), preset.name))
        return rendering.draw_choices(shown)

    def _list_presets(self, session: Session, scene: Scene) -> list[Preset]:
        """List the visitor's own presets, then those of all."""
        if not scene.editor:
            return []
        choice = self.resources.require_choice(scene.editor)
        own = [preset for preset in session.saved_presets if has_attributes(preset, choice.sliders)]
        return [*own, *list_presets(choice.shown_sliders)]

    def _make_scales(self, scene: Scene) -> Callable[[str], SliderScale]:
        return partial(self.resources.get_slider_scale, scene.editor)

    async def _read_start(self, session: Session, scene: Scene) -> dict[str, float]:
        """Read the attributes of the unedited face, in σ."""
        editor = self.resources.require_choice(scene.editor).editor
        start = await self.run_with_generator(session, lambda: self.resources.compute_start(scene))
        return dict(zip(editor.attributes, editor.read(start)[0].tolist(), strict=True))

    @report_errors
    async def choose_preset(self, session: Session, event: gr.EventData) -> Any:
        """Give the face a preset, or take it away again."""
        preset = request_checks.get_choice(event, self._list_presets(session, session.scene))
        readings = await self._read_start(session, session.scene)
        session.commit()
        scene = toggle_preset(session.scene, preset, readings, self._make_scales(session.scene))
        return await self.edit_handlers.show_scene(session, session.set_scene(scene))

    @report_errors
    async def save_preset(self, name: Any, session: Session) -> Any:
        """Save the sliders as a preset of the visitor's, in place of one of that name."""
        if not session.scene.editor:
            raise GanvasError("There is no editor whose sliders could be saved.")
        made = make_preset(name, session.scene, await self._read_start(session, session.scene))
        others = [preset for preset in session.saved_presets if preset.name != made.name]
        if len(others) == MAX_SAVED_PRESETS:
            raise GanvasError(f"{MAX_SAVED_PRESETS} looks are saved already: delete one of them.")
        session.saved_presets, session.shown_presets = [made, *others], None
        return await self.edit_handlers.show_scene(session, session.start_request())

    @report_errors
    async def delete_preset(self, name: Any, session: Session) -> Any:
        """Delete a preset of the visitor's by its name."""
        others = [preset for preset in session.saved_presets if preset.name != name]
        if len(others) == len(session.saved_presets):
            saved = ", ".join(preset.name for preset in session.saved_presets) or "none"
            raise GanvasError(f"No look is called so. Saved: {saved}.")
        session.saved_presets, session.shown_presets = others, None
        return await self.edit_handlers.show_scene(session, session.start_request())

    @report_errors
    async def open_downloads(self, session: Session, request: gr.Request) -> Any:
        """Open the tab with the files. Returns values for the tabs and for ``TAB_OUTPUTS``."""
        session.open_tab("take")
        return [gr.update(selected="take"), *await self._refresh_or_leave(session, request)]

    @report_errors
    async def pin_picture(self, session: Session, request: gr.Request) -> Any:
        """Keep the picture beside others, or take it away where it is one of them. Returns as ``open_downloads`` does."""
        scene = session.scene
        if scene in session.pinned:
            session.pinned = [each for each in session.pinned if each != scene]
        elif len(session.pinned) == MAX_PINNED:
            raise GanvasError(f"{MAX_PINNED} pictures are pinned already: pin one of them again to take it away.")
        else:
            session.pinned = [*session.pinned, scene]
        session.open_tab("history")
        return [gr.update(selected="history"), *await self._refresh_or_leave(session, request)]

    @report_errors
    async def make_film(self, session: Session) -> Any:
        """Make a film of the way from the unedited picture to the edited one."""
        scene = session.scene
        if not scene.edits:
            raise GanvasError("A film shows the way to an edit: edit the picture first.")
        frames = []
        for i in range(FILM_FRAMES):
            part = scene.with_amount(i / (FILM_FRAMES - 1))
            draw = partial(self.resources.render_small, part, FILM_SIDE) if part.photo is None else None
            image = await self.run_with_generator(session, draw or partial(self.resources.render_preview, part))
            frames.append(to_bytes(image)[0])
        path = self.edit_handlers.get_session_folder(session) / f"film-{session.version}.mp4"

        def write() -> None:
            path.parent.mkdir(exist_ok=True)
            for earlier in path.parent.glob("film-*.mp4"):
                earlier.unlink()
            path.write_bytes(encode_mp4([*frames, *frames[::-1]], FILM_RATE))

        await self.edit_handlers.run_in_background(session, write)
        return gr.update(value=rendering.to_file_value(path), visible=True)

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
        resources, photo = self.resources, scene.photo
        recipe, rendered = await self.run_with_generator(
            session, lambda: (resources.make_recipe(scene), resources.render(scene)), is_stale
        )
        name, folder = sharing.make_file_name(scene), self.edit_handlers.get_session_folder(session)
        # Another path each time: browsers cache what they fetched.
        path = folder / f"{session.version}" / f"{name}.png"
        files = [path, path.with_suffix(".json")]
        if photo is not None:
            files.insert(0, path.with_name(f"edited{photo.suffix}"))
            inverted, edited, mask, limit = await self.run_with_generator(
                session, lambda: resources.draw_face_edit(scene), is_stale
            )

        choice = resources.require_choice(scene.editor) if scene.editor else None
        own = self.edit_handlers.storage.find_editor(choice.tool.fingerprint) if choice and choice.is_own else None

        def write() -> None:
            """Write the export's files, and remove those of exports before the last."""
            # The last files stay: their download may be under way.
            exports = sorted(folder.glob("*/"), key=lambda each: each.stat().st_mtime)
            for each in exports[:-1]:
                shutil.rmtree(each, ignore_errors=True)
            save_picture(path, to_bytes(rendered.image)[0], recipe, scene.codes)
            if photo is not None:
                files[0].write_bytes(photo.encode_edited(inverted, edited, mask, limit))
            if own is not None:
                files.append(Path(shutil.copyfile(own, path.with_name(scene.editor))))
            if scene.mask is not None:
                files.append(path.with_name("mask.png"))
                files[-1].write_bytes(encode_mask(scene.mask))
            with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
                for file in files:
                    archive.write(file, file.name)

        await self.edit_handlers.run_in_background(session, write, is_stale)
        editor = resources.editor_paths.get(scene.editor, scene.editor)
        hidden = gr.update(visible=False)
        pasted = hidden if photo is None else gr.update(value=to_file_value(files[0]), visible=True)
        saved = hidden if own is None else gr.update(value=to_file_value(path.with_name(scene.editor)), visible=True)
        return {
            "photo_file": pasted,
            "png": to_file_value(path),
            "json": to_file_value(path.with_suffix(".json")),
            "archive": to_file_value(path.with_suffix(".zip")),
            "editor_file": saved,
            "film": hidden,
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
            """Draw the faces of a page, and show some at a time."""
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
                    yield rendering.draw_choices(shown)

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
            self.edit_handlers.storage,
        )

    def list_sampled(self, session: Session, first: int, psi: float) -> list[Scene]:
        """Return faces sampled at the sliders' values."""
        return rendering.make_slider_scenes(session.scene, first, SAMPLED_FACES)

    @report_errors
    async def check_sampling(self, session: Session) -> Any:
        """Open the tab of the gallery. Fails where no slider was moved."""
        rendering.make_slider_scenes(session.scene, 0, 1)
        session.open_tab("faces")
        return gr.update(selected="faces")

    def make_choice_handler(self, shown: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler that shows a picture chosen in a gallery; ``shown``: the session's list of what it shows."""

        @report_errors
        async def choose(session: Session, event: gr.EventData) -> Any:
            chosen = request_checks.get_choice(event, getattr(session, shown))
            session.commit()
            return await self.edit_handlers.show_all(session, session.set_scene(chosen))

        return choose

    @report_errors
    async def mix_faces(self, seed: Any, parts: Any, session: Session) -> Any:
        """Take parts of another face."""
        other = request_checks.check_integer("The other face's seed", seed, 0, 2**32 - 1)
        names, scene, storage = (
            request_checks.check_names("What comes from it", parts),
            session.scene,
            self.edit_handlers.storage,
        )
        mixed = await self.run_with_generator(
            session, lambda: rendering.make_mixed_scene(self.resources, scene, other, names, storage)
        )
        session.commit()
        return await self.edit_handlers.show_all(session, session.set_scene(mixed))

    # Methods.

    @report_errors
    async def list_methods(self, session: Session) -> Any:
        """Return the methods that can be compared."""
        names = self.methods.list_methods(session.scene.generator)
        return gr.update(choices=names, value=names[:3])

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
