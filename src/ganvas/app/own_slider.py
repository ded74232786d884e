"""A slider of the visitor's own, learned from faces that were marked to have something or to lack it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from ganvas.app import rendering, request_checks
from ganvas.app.attribute_words import format_attribute
from ganvas.app.compare import MethodEditors
from ganvas.app.components import UNNAMED_COMPONENT
from ganvas.app.edit_handlers import EditHandlers
from ganvas.app.session import Session, report_errors
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.recipe.model import FromSeed
from ganvas.seeds import label_seeds

FACES_PER_UPDATE = 4
"""Faces to mark that appear together."""
FACES_PER_PAGE = 24
"""Faces that a click adds."""
MAX_FACES = 240
"""The most faces that are shown."""


class OwnSliderHandlers:
    """Handlers of the visitor's own sliders. ``methods``: where labels are."""

    def __init__(self, edit_handlers: EditHandlers, methods: MethodEditors) -> None:
        self.edit_handlers, self.resources, self.methods = edit_handlers, edit_handlers.resources, methods

    @report_errors
    async def show_faces(self, session: Session) -> AsyncIterator[Any]:
        """Show faces to mark, which have labels; more each time."""
        scene, run = session.scene, self.edit_handlers.run_with_generator
        if session.example_generator != scene.generator:
            session.example_generator, session.num_examples = scene.generator, 0
        network = await run(session, lambda: self.resources.load(scene).generator)
        # Loaded while the visitor marks faces; errors are raised once a slider is made.
        asyncio.ensure_future(asyncio.to_thread(self.methods.load_labels, network)).add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )
        first = session.num_examples
        last, faces = min(first + FACES_PER_PAGE, MAX_FACES), []
        for row, seed in enumerate(label_seeds(last - first, start=first), first):
            face = replace(scene.unedited.with_start(FromSeed(seed, 1.0)), editor="")
            data = await run(session, lambda face=face: rendering.render_thumbnail(self.resources, face))
            faces.append({"row": row, "url": rendering.to_url(data)})
            session.num_examples = row + 1
            if len(faces) % FACES_PER_UPDATE == 0 or row + 1 == last:
                yield {"generator": scene.generator, "faces": faces}

    @report_errors
    async def make_slider(self, marked: Any, session: Session) -> list[Any]:
        """Learn a slider from the marked faces. Returns values for a line about it, then for ``scene_outputs``."""
        scene = session.scene
        if not isinstance(marked, dict) or not scene.editor:
            raise GanvasError("A slider is made from a name and faces, and joins an editor's.")
        if session.example_generator != scene.generator:
            raise GanvasError("The marked faces are another generator's: show faces again.")
        name = parse_name(marked.get("name"))
        rows = [_parse_rows(marked.get(side), session.num_examples) for side in ("positive", "negative")]
        base = self.resources.require_choice(scene.editor).editor
        network = await self.edit_handlers.run_with_generator(session, lambda: self.resources.load(scene).generator)
        editor, accuracy = await self.edit_handlers.run_in_background(
            session, lambda: self.methods.learn_attribute(network, base, name, *rows)
        )
        picked = await self.add_editor(session, editor, name)
        if (session.scene.generator, session.scene.editor) != (scene.generator, scene.editor):
            raise GanvasError("Another editor was chosen while the slider was made: make it again.")
        session.commit()
        shown = await self.edit_handlers.show_all(
            session, session.set_scene(session.scene.with_editor(picked, editor.attributes, is_extended=True))
        )
        count = sum(map(len, rows))
        text = (
            f"<b>{format_attribute(name)}</b> is a slider now. Of {count} marked faces, {round(accuracy * count)} are told"
            " right by a slider that learned from the others; half would be chance."
        )
        return [f"<p role='status'>{text}</p>", *shown]

    async def add_editor(self, session: Session, editor: Editor, name: str) -> str:
        """Keep an editor for a day, and return the name under which it can be picked."""
        storage = self.edit_handlers.storage
        path = await self.edit_handlers.run_in_background(session, lambda: storage.save_editor(editor))
        return self.resources.add_own_editor(path, f"{name}-{path.stem[:8]}.safetensors")


def parse_name(text: Any) -> str:
    """Return a slider's name as an attribute's. Raises GanvasError for none, and for that of a component without a name."""
    name = re.sub(r"\W+", "_", request_checks.check_text("The slider's name", text)).strip("_")
    if not name:
        raise GanvasError("Give the slider a name: a word for what the marked faces have.")
    if UNNAMED_COMPONENT.fullmatch(name.lower()):
        raise GanvasError(f"{name!r} is what Explore calls a slider without a name: give this one another name.")
    return name


def _parse_rows(rows: Any, limit: int) -> list[int]:
    """Return the rows of marked faces. Raises GanvasError for others than are shown."""
    if not isinstance(rows, list) or len(rows) > MAX_FACES:
        raise GanvasError("A slider is made from faces that are shown.")
    return [request_checks.check_integer("A face", row, 0, limit - 1) for row in rows]
