"""Connect the page's components and the handlers: which event calls which, with which inputs and outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from ganvas.app import request_checks
from ganvas.app.edit_handlers import FACES_PER_PAGE, EditHandlers
from ganvas.app.layout import Page
from ganvas.app.photo_handlers import PhotoHandlers
from ganvas.app.scene import Scene
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import CONTROL_TABS, DRAWER_TABS, PICTURE_TABS, Session, report_errors
from ganvas.app.tab_handlers import TAB_OUTPUTS, TabHandlers

SILENT_EVENT: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
    "postprocess": False,
    "trigger_mode": "multiple",
}
"""Options of events that show no progress. Each holds one of Gradio's jobs until the work queue has done its work. Handlers
get the request's values unchecked, and return values as the browser gets them.

By default Gradio drops an event while the one before it is under way: the full picture of a slider's last position would be
dropped for one that is out of date already, and so would a second press of a button."""
NEWEST_WINS: dict[str, Any] = SILENT_EVENT | {"trigger_mode": "always_last"}
"""Options of events of which the newest waits in the browser until the one before is done."""
SLOW_EVENT: dict[str, Any] = SILENT_EVENT | {"show_progress": "minimal"}
COMPARISON: dict[str, Any] = SLOW_EVENT | {"trigger_mode": "once", "concurrency_id": "compare", "concurrency_limit": 1}
INVERSION: dict[str, Any] = SILENT_EVENT | {"concurrency_id": "photo", "concurrency_limit": 1}
"""Options of events that take a thread for a while: one after another, all visitors together."""


class RawPayload(GradioRootModel):
    """An upload's payload, unchecked."""

    root: Any


class EventWiring:
    """The connections between a page's components and the handlers."""

    def __init__(
        self, page: Page, edit_handlers: EditHandlers, scene_handlers: SceneHandlers, tab_handlers: TabHandlers
    ) -> None:
        self.page, self.edit_handlers = page, edit_handlers
        self.scene_handlers, self.tab_handlers = scene_handlers, tab_handlers
        shown: list[Any] = [page.session, page.remembered, page.picture, page.original, page.status]
        buttons: list[Any] = [page.undo, page.redo, page.reset]
        screens: list[Any] = [page.start, page.chooser, page.shown, page.tabs]
        self.view_outputs = [*shown, *buttons, page.count, page.panel, page.region, page.rows, *screens]
        self.picker_outputs: list[Any] = [
            page.generator,
            page.editor,
            page.no_editor,
            page.counting,
            page.counted,
            page.attribute,
            page.sample,
            page.lock,
            page.own,
        ]
        self.scene_outputs = [*self.picker_outputs, *self.view_outputs]
        self.tab_outputs: list[Any] = [getattr(page, name) for name in TAB_OUTPUTS]

    def connect_all(self, demo: gr.Blocks) -> None:
        """Connect every event of the page."""
        page, scene_handlers = self.page, self.scene_handlers
        opened = demo.load(scene_handlers.open_page, [page.remembered], self.scene_outputs, **SILENT_EVENT)
        self._connect_gallery(self._then_list_methods(opened).success, self.tab_handlers.list_seeds)
        self._connect_controls()
        self._connect_bar()
        self._connect_galleries()
        self._connect_uploads(opened)
        rows = (
            (page.picture_tabs, PICTURE_TABS, SLOW_EVENT),  # nothing is there before they are drawn
            (page.control_tabs, CONTROL_TABS, SILENT_EVENT),
            (page.drawer_tabs, DRAWER_TABS[:3], SILENT_EVENT),
        )
        for tabs, names, options in rows:
            for tab, name in zip(tabs, names, strict=True):
                self._connect(tab.select, self.tab_handlers.make_open_handler(name), [], self.tab_outputs, options)
        self._connect(page.drawer.collapse, self.tab_handlers.make_open_handler("closed"), [], self.tab_outputs)
        compared = [page.attribute, page.change, page.methods]
        self._connect(page.compare.click, self.tab_handlers.compare_methods, compared, page.compared, COMPARISON)
        for picker, handler in (
            (page.generator, scene_handlers.pick_generator),
            (page.editor, scene_handlers.pick_editor),
        ):
            picked = self._connect(picker.input, handler, [picker], self.scene_outputs, SLOW_EVENT)
            self._then_list_methods(picked)
            # Where the new choice can't be drawn, the picker shows the old one again.
            self._connect(picked.failure, self.edit_handlers.refresh_pickers, [], self.picker_outputs)
        # Another generator's faces.
        self._connect_gallery(page.generator.input, self.tab_handlers.list_seeds)

    def _connect(
        self, event: Any, handler: Any, inputs: list[Any], outputs: Any, options: dict[str, Any] = SILENT_EVENT
    ) -> Any:
        """Connect one event: the handler gets the inputs, then the visitor's session."""
        return event(handler, [*inputs, self.page.session], outputs, **options)

    def _connect_view(self, event: Any, handler: Any, inputs: list[Any] | None = None) -> Any:
        """Connect an event whose handler shows the picture in full; what depends on it follows."""
        return self._then_refresh(self._connect(event, handler, inputs or [], self.view_outputs))

    def _connect_scene(self, event: Any, handler: Any, inputs: list[Any] | None = None) -> Any:
        """Connect an event whose handler shows another scene with its pickers; what depends on it follows."""
        return self._then_list_methods(self._connect(event, handler, inputs or [], self.scene_outputs))

    def _connect_gallery(self, event: Any, list_faces: Any) -> None:
        """Connect an event that fills the gallery of faces."""
        fill = self.tab_handlers.make_gallery_handler(list_faces)
        self._connect(event, fill, [self.page.seed, self.page.psi], self.page.gallery)

    def _then_list_methods(self, event: Any) -> Any:
        """List the methods to compare after an event that may bring another generator, then refresh what depends on it."""
        return self._then_refresh(self._connect(event.success, self.tab_handlers.list_methods, [], self.page.methods))

    def _then_refresh(self, event: Any) -> Any:
        """Refresh the open tabs and the words for likeness after an event. Returns the event."""
        self._connect(event.success, self.tab_handlers.refresh_tabs, [], self.tab_outputs)
        compared = self._connect(event.success, self.edit_handlers.add_likeness, [], self.page.likeness)
        self._then_show_weakened(compared)
        return event

    def _then_refine_unasked(self, event: Any) -> None:
        """Refine an edit of what a face has or hasn't, after an event that shows it."""
        refine = self.tab_handlers.exact_edit.refine_unasked
        self._then_refresh(self._connect(event.success, refine, [], self.view_outputs))

    def _then_show_weakened(self, event: Any) -> None:
        """Show a locked edit that was weakened by an event, and refresh the open tabs."""
        shown = self._connect(event.success, self.edit_handlers.show_weakened, [], self.view_outputs)
        self._connect(shown.success, self.tab_handlers.refresh_tabs, [], self.tab_outputs)

    def _connect_controls(self) -> None:
        page, edit_handlers = self.page, self.edit_handlers
        moved = self._connect(page.panel.input, edit_handlers.move_slider, [page.panel], page.picture, NEWEST_WINS)
        self._then_refine_unasked(self._connect_view(moved.success, edit_handlers.render_at_rest))
        self._then_refine_unasked(self._connect_view(page.presets.select, self.tab_handlers.choose_preset))
        self._connect_view(page.save_preset.click, self.tab_handlers.save_preset, [page.preset_name])
        self._connect_view(page.delete_preset.click, self.tab_handlers.delete_preset, [page.preset_name])
        exact = self.tab_handlers.exact_edit.refine_edit
        self._then_refresh(
            self._connect(page.exact.click, exact, [], self.view_outputs, SLOW_EVENT | {"trigger_mode": "once"})
        )
        counting = self.tab_handlers.counting
        self._connect_view(page.counted.input, counting.pick_counted, [page.counted])
        regions = self.tab_handlers.regions
        self._connect_view(page.region.input, regions.choose_region, [page.region])
        self._connect_view(page.painter.input, regions.paint_region, [page.painter])
        self._connect_view(page.rows.input, self.edit_handlers.choose_rows, [page.rows])
        self._then_show_weakened(self._connect(page.lock.input, edit_handlers.lock_person, [page.lock], page.likeness))
        for button, by in ((page.minus, -1), (page.plus, 1)):
            self._connect_view(button.click, counting.make_count_handler(by))
        once = SLOW_EVENT | {"trigger_mode": "once"}
        self._connect(page.make_batch.click, counting.make_batch, [page.batch_size], page.batch, once)
        own, explore = self.tab_handlers.own_slider, self.tab_handlers.explore
        for event in (page.own.expand, page.more_examples.click):
            self._connect(event, own.show_faces, [], page.examples)
        learned = [page.learned, *self.scene_outputs]
        self._then_list_methods(
            self._connect(page.examples.input, own.make_slider, [page.examples], learned, SLOW_EVENT)
        )
        for event, tab in ((page.explore.expand, "explore"), (page.explore.collapse, "explore-closed")):
            self._connect(event, self.tab_handlers.make_open_handler(tab), [], self.tab_outputs)
        explored = [page.components, page.method]
        self._connect(page.next_components.click, explore.show_next, [], explored, SLOW_EVENT)
        self._connect(page.method.input, explore.choose_method, [page.method], explored, SLOW_EVENT)
        moved = self._connect(page.components.input, explore.move_slider, [page.components], page.picture, NEWEST_WINS)
        rested = self._connect(moved.success, edit_handlers.render_at_rest, [], self.view_outputs)
        # A component that moves for the first time brings another editor.
        self._then_refresh(self._connect(rested.success, edit_handlers.refresh_pickers, [], self.picker_outputs))
        self._connect_scene(page.components.submit, explore.save_slider, [page.components])
        checked = self._connect(page.sample.click, self.tab_handlers.check_sampling, [], page.tabs)
        self._connect_gallery(checked.success, self.tab_handlers.list_sampled)

    def _connect_bar(self) -> None:
        page, edit_handlers = self.page, self.edit_handlers
        for button, handler in ((page.undo, edit_handlers.undo), (page.redo, edit_handlers.redo)):
            # Undo may bring back another generator or editor: pickers follow.
            done = self._connect(button.click, handler, [], self.view_outputs)
            self._then_list_methods(self._connect(done.success, edit_handlers.refresh_pickers, [], self.picker_outputs))
        self._connect_view(page.reset.click, edit_handlers.make_step_handler(_reset))
        self._connect_view(page.surprise.click, edit_handlers.make_step_handler(edit_handlers.choose_random_face))
        screens = [page.start, page.chooser, page.shown, page.tabs]
        self._connect(page.new.click, edit_handlers.show_start, [], screens)
        self._connect(page.save.click, self.tab_handlers.open_downloads, [], [page.tabs, *self.tab_outputs])
        self._connect(page.pin.click, self.tab_handlers.pin_picture, [], [page.tabs, *self.tab_outputs])

    def _connect_galleries(self) -> None:
        page, tab_handlers = self.page, self.tab_handlers
        for event in (page.psi.release, page.seed.submit, page.seed.blur):
            self._connect_gallery(event, tab_handlers.list_seeds)
        for button, by in ((page.earlier, -FACES_PER_PAGE), (page.later, FACES_PER_PAGE)):
            turned = self._connect(button.click, _make_page_turner(by), [page.seed], page.seed)
            self._connect_gallery(turned.success, tab_handlers.list_seeds)
        self._connect_gallery(page.similar.click, tab_handlers.list_similar)
        galleries = (
            (page.gallery, "gallery_faces"),
            (page.visited, "shown_visited_faces"),
            (page.steps, "shown_steps"),
        )
        for gallery, shown in galleries:
            self._connect_scene(gallery.select, tab_handlers.make_choice_handler(shown))
        self._connect_scene(page.mix.click, tab_handlers.mix_faces, [page.other_seed, page.parts])
        self._connect(page.make_film.click, tab_handlers.make_film, [], page.film, SLOW_EVENT)

    def _connect_uploads(self, opened: Any) -> None:
        page, scene_handlers = self.page, self.scene_handlers
        for part in (page.drop, page.load):
            # ``claim_upload`` checks what comes; Gradio's own model of it fails without a message.
            part.data_model = RawPayload
        photo_handlers = PhotoHandlers(self.edit_handlers, len(self.scene_outputs))
        self._connect(opened.success, photo_handlers.show_samples, [], page.samples)
        outputs = [page.drop, page.progress, page.stop, page.outlined, *self.scene_outputs]
        for event, handler, inputs in (
            (page.drop.input, photo_handlers.open_photo, [page.drop]),
            (page.samples.select, photo_handlers.open_sample, []),
            (page.outlined.select, photo_handlers.choose_face, []),
        ):
            found = self._connect(event, handler, inputs, outputs)
            self._then_list_methods(found)
            refined = self._connect(found.success, photo_handlers.refine_photo, [], outputs, INVERSION)
            self._then_refine_unasked(self._then_refresh(refined))
        self._connect(page.stop.click, photo_handlers.stop_refining, [], [page.progress, page.stop])
        loaded = self._connect(
            page.load.upload, scene_handlers.upload_recipe, [page.load], self.scene_outputs, SLOW_EVENT
        )
        self._then_list_methods(loaded)


def _reset(session: Session) -> Scene:
    return replace(session.scene, edits=())


def _make_page_turner(by: int) -> Any:
    @report_errors
    async def turn(seed: Any, session: Session) -> int:
        first = request_checks.check_integer("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
        return max(0, min(first + by, 2**32 - FACES_PER_PAGE))

    return turn
