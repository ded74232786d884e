"""Handlers of sliders and buttons: each changes a session's scene, renders it, and returns what the page shows.

Gradio calls them as coroutines of one event loop; they wait for a work queue without holding a thread. They get values as
requests have them, unchecked, and return values as the browser gets them.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from ganvas import generators
from ganvas.app import rendering, request_checks
from ganvas.app.attribute_words import format_attribute, get_sign
from ganvas.app.compare import has_labels
from ganvas.app.likeness import LikenessMeter, draw_likeness, format_likeness
from ganvas.app.rendering import RenderedView
from ganvas.app.resources import AppResources
from ganvas.app.scene import (
    AUTOMATIC_REGION,
    NO_REGION,
    PAINTED_REGION,
    SAVED_REGION,
    Scene,
    check_scene,
    describe_scene,
    format_title,
)
from ganvas.app.session import NothingFollows, Session, Superseded, WorkQueue, report_errors
from ganvas.app.slider_panel import encode_panel, list_slider_groups, parse_move
from ganvas.app.storage import AppStorage
from ganvas.errors import GanvasError
from ganvas.generators.regions import load_regions
from ganvas.recipe.model import FromSeed, Recipe, to_json

T = TypeVar("T")
REST_SECONDS = 0.06
"""Seconds without a newer position after which a slider counts as resting."""
FACES_PER_PAGE = 12
"""Faces on a page of the gallery."""
SAMPLED_FACES = 16
"""Faces that are sampled at the sliders' values."""
PICTURE_OUTPUT, STATUS_OUTPUT = 2, 4
"""Which of ``view_outputs`` are the picture and the status."""


class EditHandlers:
    """Handlers of edits, and what all handlers need: queues, folders, and ways to show a scene.

    ``generator_queue`` runs what needs the generator, ``background_queue`` what doesn't. ``folder`` is deleted with the server,
    ``storage`` outlasts it.
    """

    def __init__(
        self,
        resources: AppResources,
        generator_queue: WorkQueue,
        background_queue: WorkQueue,
        folder: Path,
        storage: AppStorage,
    ) -> None:
        self.resources, self.folder, self.storage = resources, folder, storage
        self.run_with_generator, self.run_in_background = generator_queue.run, background_queue.run
        self.generator_queue = generator_queue

    def get_session_folder(self, session: Session) -> Path:
        """Return the path of the session's own folder."""
        return self.folder / f"{request_checks.SESSION_PREFIX}{session.key}"

    def delete_session(self, session: Session) -> None:
        """Delete the files of a session that has ended, and make what it has waiting stale."""
        session.is_ended = True
        session.start_request()
        shutil.rmtree(self.get_session_folder(session), ignore_errors=True)

    async def draw_or_restore(self, session: Session, work: Callable[[], T], is_stale: Callable[[], bool]) -> T:
        """Render the session's scene; where that fails, the session returns to the scene that was shown last."""
        try:
            return await self.run_with_generator(session, work, is_stale)
        except GanvasError:
            if not is_stale():
                session.restore()
            raise

    # Showing scenes.

    async def show_scene(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Render the scene in full and make it a step that can be undone. Returns values for ``view_outputs``."""
        scene = session.scene

        def draw() -> tuple[RenderedView, bytes, Recipe]:
            shown = rendering.render_full(self.resources, scene)
            original = b""
            if scene.edits and session.shown_original != scene.unedited:
                original = rendering.encode_picture(self.resources.render_shown(scene.unedited))
            return shown, original, self.resources.make_recipe(scene)

        shown, original, recipe = await self.draw_or_restore(session, draw, is_stale)
        if is_stale():
            raise Superseded
        session.commit()
        session.rendered_version = session.version
        session.start_readings = scene.unedited, shown.start_readings
        # What the page shows while the visitor holds the picture; none before an edit.
        image = gr.skip() if scene.edits else ""
        if original:
            image = f"<img src='{rendering.to_url(original)}' alt='The picture before all edits'>"
        session.shown_original = scene.unedited if scene.edits else None
        return self.make_view_updates(session, shown, image, recipe)

    async def show_all(self, session: Session, is_stale: Callable[[], bool]) -> list[Any]:
        """Show the scene and its pickers. Returns values for ``scene_outputs``."""
        return [*self.make_picker_updates(session), *await self.show_scene(session, is_stale)]

    def make_view_updates(self, session: Session, shown: RenderedView, original: Any, recipe: Recipe) -> list[Any]:
        """Return values for ``view_outputs``: session, browser's state, picture, original, status, undo, redo, reset, count,
        sliders, region, rows, and ``make_screen_updates``.

        The session is among them since Gradio keeps it for a time after it was last returned.
        """
        scene = session.scene
        return [
            session,
            {
                "key": session.key,
                "recipe": to_json(recipe),
                "region": scene.region,
                "mask": scene.mask_sha256,
                "photo": scene.photo_sha256,
                "presets": [preset._asdict() for preset in session.saved_presets],
            }
            if session.screen == "picture"
            else gr.skip(),
            gr.update(value=rendering.to_image_value(shown.picture), alt_text=self.describe(scene)),
            original,
            self._format_status(scene, shown),
            gr.update(interactive=session.can_undo),
            gr.update(interactive=session.can_redo),
            gr.update(interactive=bool(scene.edits)),
            self._format_count(session, shown),
            encode_panel(list_slider_groups(self.resources, scene, shown), session.num_moves),
            gr.update(
                choices=list_regions(scene),
                value=scene.region,
                visible=bool(load_regions(scene.generator) or scene.regions),
            ),
            self._make_rows_update(scene),
            *self.make_screen_updates(session),
        ]

    def _make_rows_update(self, scene: Scene) -> Any:
        """Return the choices of what sliders change, and which is chosen."""
        named = {name: tuple(rendering.find_rows(self.resources, scene, name)) for name in rendering.MIXED_PARTS}
        choices = [("All", rendering.ALL_ROWS), *((name, name) for name, rows in named.items() if rows)]
        value = rendering.ALL_ROWS
        if scene.rows is not None:
            value = next((name for name, rows in named.items() if rows == scene.rows), rendering.SAVED_ROWS)
        if value == rendering.SAVED_ROWS:
            choices.append(("As it was saved", value))
        return gr.update(choices=choices, value=value)

    @report_errors
    async def choose_rows(self, part: Any, session: Session) -> Any:
        """Let sliders change all of the code, or the rows of it that draw one part."""
        scene, rows = session.scene, None
        if part == rendering.SAVED_ROWS and scene.rows is not None:
            return gr.skip()
        if part != rendering.ALL_ROWS:
            rows = tuple(
                await self.run_with_generator(session, lambda: rendering.find_rows(self.resources, scene, part))
            )
            if not rows:
                raise GanvasError(f"This generator has no rows that draw {part!r}: choose another part, or all.")
            if session.scene.generator != scene.generator:
                raise Superseded
        if rows == session.scene.rows:
            return gr.skip()
        session.commit()
        # The scene of now: a slider may have moved meanwhile.
        return await self.show_scene(session, session.set_scene(session.scene.with_rows(rows)))

    def make_screen_updates(self, session: Session) -> list[Any]:
        """Return the visibility of the start, the choice of faces and the picture, and which tab of controls is open."""
        tab = gr.skip()
        if session.screen != session.shown_screen:
            name = "edit" if session.screen == "picture" else "faces"
            session.open_tab(name)
            tab = gr.update(selected=name)
        session.shown_screen = session.screen
        return [*(gr.update(visible=session.screen == name) for name in ("start", "chooser", "picture")), tab]

    @report_errors
    async def show_start(self, session: Session) -> Any:
        """Show where photographs are dropped, and faces to choose from."""
        session.screen = "start"
        return self.make_screen_updates(session)

    def describe(self, scene: Scene) -> str:
        """Describe the picture in words, with values as the sliders show them."""
        names = (*scene.slider_edit.set, *scene.slider_edit.shift)
        return describe_scene(scene, {name: self.resources.get_slider_scale(scene.editor, name) for name in names})

    def _format_status(self, scene: Scene, shown: RenderedView) -> str:
        parts = [format_title(scene)]
        if isinstance(scene.start, FromSeed):
            parts.append(f"variety {scene.start.psi:g}")
        for name, sigma in scene.slider_edit.set.items():
            value = self.resources.get_slider_scale(scene.editor, name).format_value(sigma)
            parts.append(f"{format_attribute(name)} at {value}")
        shift = scene.slider_edit.shift
        parts += [f"{format_attribute(name)} {change * get_sign(name):+g}" for name, change in shift.items()]
        text = f"<p class='gv-status' role='status'>{escape(' · '.join(parts))}</p>"
        if scene.missing_photo:
            missing = "Its photograph isn't here: press New and drop it."
            text = f"<p class='gv-missing' role='status'>{missing}</p>{text}"
        if shown.distance > shown.bound:
            text += (
                "<p class='gv-warning' role='alert'>This is further from the usual pictures than the generator draws well "
                f"(distance {shown.distance:.1f}, usual up to {shown.bound:.1f}): expect flaws, or somebody else.</p>"
            )
        return text

    def _format_count(self, session: Session, shown: RenderedView) -> str:
        if session.counted_attribute not in shown.counts:
            return ""
        name = session.counted_attribute
        change = session.scene.slider_edit.shift.get(name, 0.0)
        changed = f", changed by {change:+g}" if change else ""
        text = f"<b>{shown.counts[name]:g}</b> seen ({escape(format_attribute(name))}){changed}"
        wanted = shown.start_counts[name] + change
        if change and shown.counts[name] != wanted:
            editor = self.resources.require_choice(session.scene.editor).editor
            low, high = (round(each) for each in editor.gaussianize.get_range(editor.attributes.index(name)))
            reason = "the picture doesn't follow" if low <= wanted <= high else f"this generator draws {low} to {high}"
            text += f"<br>{wanted:g} were asked for, but {reason}."
        return f"<p class='gv-count' role='status'>{text}</p>"

    # Sliders.

    @report_errors
    async def move_slider(self, move: Any, session: Session) -> Any:
        """Preview the picture while a slider moves."""
        if isinstance(move, dict) and "groups" in move:  # the panel as the server drew it: nothing moved since
            return gr.skip()
        is_stale = session.set_scene(
            parse_move(self.resources, session.scene, move, session.get_start_readings(session.scene))
        )
        record_move(session, move)
        scene, resting = session.scene, session.resting_scene
        preview = await self.draw_or_restore(
            session, lambda: rendering.render_preview(self.resources, scene, resting), is_stale
        )
        return gr.update(value=rendering.to_image_value(preview), alt_text=self.describe(scene))

    @report_errors
    async def render_at_rest(self, session: Session) -> Any:
        """Show the picture in full after a preview, where no newer request came meanwhile; else nothing follows."""
        version = session.version
        await asyncio.sleep(REST_SECONDS)
        if session.version != version or session.rendered_version == version:
            raise NothingFollows
        try:
            return await self.show_scene(session, lambda: session.version != version)
        except Superseded:
            raise NothingFollows from None

    @report_errors
    async def add_likeness(self, session: Session) -> str:
        """Return words for how alike the face is, once the picture rests.

        A locked edit that makes another person of the face is weakened first; ``show_weakened`` then shows it.
        """
        if session.rendered_version != session.version or session.compared_version == session.version:
            raise NothingFollows
        return await self._compare_faces(session)

    @report_errors
    async def show_weakened(self, session: Session) -> Any:
        """Show a locked edit that ``add_likeness`` weakened, where no newer request came meanwhile; else nothing follows."""
        version = session.version
        if session.weakened_version != version or session.rendered_version == version:
            raise NothingFollows
        shown = await self.show_scene(session, lambda: session.version != version)
        session.join_last_steps()
        return shown

    async def _compare_faces(self, session: Session) -> str:
        """Weaken a locked edit that makes another person of the face, and return words for how alike it is."""
        scene, version = session.scene, session.version

        def is_stale() -> bool:
            return session.version != version

        if not scene.edits:
            return ""
        measure = LikenessMeter(
            self.resources, scene, lambda work: self.generator_queue.submit(work, is_stale).result()
        )
        if session.person_locked and scene.slider_edit.set:
            share = await self.run_in_background(session, lambda: measure.limit_share(), is_stale)
            if share < 1:
                scene = await self.run_with_generator(session, lambda: measure.limit_scene(share), is_stale)
        distance = await self.run_in_background(session, lambda: measure.measure_distance(scene), is_stale)
        if is_stale():
            raise Superseded
        if scene is not session.scene:
            session.set_scene(scene)
            session.weakened_version = session.version
        session.compared_version = session.version
        return draw_likeness(format_likeness(distance))

    @report_errors
    async def lock_person(self, locked: Any, session: Session) -> str:
        """Keep edits to the same person from now on, or not. Returns the words for likeness."""
        session.person_locked = locked is True
        return await self._compare_faces(session)

    # Steps.

    def make_step_handler(self, change: Callable[[Session], Scene]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make a handler that shows another scene."""

        @report_errors
        async def show(session: Session) -> Any:
            session.commit()
            return await self.show_scene(session, session.set_scene(check_scene(change(session))))

        return show

    @report_errors
    async def undo(self, session: Session) -> Any:
        """Go one step back."""
        return await self.show_scene(session, session.undo())

    @report_errors
    async def redo(self, session: Session) -> Any:
        """Go one step forward."""
        return await self.show_scene(session, session.redo())

    def choose_random_face(self, session: Session) -> Scene:
        """Return the scene of a random seed."""
        psi = session.scene.start.psi if isinstance(session.scene.start, FromSeed) else 0.7
        return session.scene.with_start(FromSeed(secrets.randbelow(10**6), psi))

    # Pickers.

    @report_errors
    async def refresh_pickers(self, session: Session) -> Any:
        """Return the values of the pickers as they are."""
        return self.make_picker_updates(session)

    def make_picker_updates(self, session: Session) -> list[Any]:
        """Return values for ``picker_outputs``: generator, editor, note, counting, what to count and to compare,
        sampling, the lock, and sliders of one's own.
        """
        scene = session.scene
        session.own_editors.add(scene.editor)
        if scene.editor:
            with suppress(GanvasError):  # where it isn't there any more, drawing says so
                self.resources.require_choice(scene.editor)
        installed = self.resources.find_editors(scene.generator, session.own_editors)
        picked = installed.get(scene.editor)
        shown = picked.base if picked and picked.base in installed else scene.editor
        counts = picked.counts if picked else ()
        if session.counted_attribute not in counts:
            session.counted_attribute = counts[0] if counts else ""
        choices = [
            (f"{name}: {choice.description}", name)
            for name, choice in installed.items()
            if name == shown or not choice.has_unnamed
        ]
        sliders = [(format_attribute(name), name) for name in (picked.shown_sliders if picked else ())]
        return [
            scene.generator,
            gr.update(choices=choices, value=shown or None, interactive=bool(choices)),
            gr.update(visible=not picked),
            gr.update(visible=bool(counts)),
            gr.update(
                choices=[(format_attribute(name), name) for name in counts], value=session.counted_attribute or None
            ),
            gr.update(choices=sliders, value=sliders[0][1] if sliders else None),
            gr.update(value=f"Draw {SAMPLED_FACES} such {self._name_pictures(scene)}", visible=bool(sliders)),
            gr.update(value=session.person_locked, visible=self._draws_faces(scene)),
            gr.update(visible=bool(sliders) and not counts and has_labels(scene.generator)),
        ]

    def _name_pictures(self, scene: Scene) -> str:
        """Return what the generator draws, in the plural."""
        return "faces" if self._draws_faces(scene) else "pictures"

    def _draws_faces(self, scene: Scene) -> bool:
        shipped = scene.generator in generators.list_generators()
        return shipped and generators.find_card(scene.generator).faces


def record_move(session: Session, move: dict[str, Any]) -> None:
    """Record that a slider's move arrived: the page leaves its sliders alone until the server knows all their moves."""
    number = request_checks.check_integer("A slider's number", move.get("number", 0), 0, 2**53)
    session.num_moves = max(session.num_moves, number)


def list_regions(scene: Scene) -> list[tuple[str, str]]:
    """Return the regions that edits of a scene can be kept to, with their labels."""
    named = [(name.capitalize(), name) for name in load_regions(scene.generator)]
    painted = [("Painted", PAINTED_REGION)] if scene.mask else []
    saved = [("As it was saved", SAVED_REGION)] if scene.regions else []
    return [("Where it shows", AUTOMATIC_REGION), ("Anywhere", NO_REGION), *named, *painted, *saved]
