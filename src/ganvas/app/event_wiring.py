"""Connect the page's components and the handlers: which event calls which, with which inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from ganvas.app import validation
from ganvas.app.edit_handlers import FACES_PER_PAGE, EditHandlers, report_errors
from ganvas.app.layout import Page
from ganvas.app.navigation_handlers import NavigationHandlers
from ganvas.app.photo_handlers import PhotoHandlers
from ganvas.app.scene import Scene
from ganvas.app.session import Session
from ganvas.app.tab_handlers import DETAIL_TABS, PICTURE_TABS, TAB_OUTPUTS, TabHandlers

SILENT_EVENT: dict[str, Any] = {
    "show_progress": "hidden",
    "concurrency_limit": None,
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


class EventWiring:
    """The connections between a page's components and the handlers."""

    def __init__(
        self,
        page: Page,
        edit_handlers: EditHandlers,
        navigation_handlers: NavigationHandlers,
        tab_handlers: TabHandlers,
        photo_handlers: PhotoHandlers,
    ) -> None:
        self.page, self.edit_handlers, self.navigation_handlers = page, edit_handlers, navigation_handlers
        self.tab_handlers, self.photo_handlers = tab_handlers, photo_handlers
        picture, panel, details = page.picture_area, page.slider_panel, page.details
        self.view_outputs: list[Any] = [
            picture.picture,
            picture.status,
            picture.undo,
            picture.redo,
            picture.reset,
            panel.changed,
            panel.count,
            *panel.sliders.values(),
        ]
        self.picker_outputs: list[Any] = [
            page.top_bar.generator,
            page.top_bar.editor,
            panel.no_editor,
            panel.counting,
            panel.counted,
            details.attribute,
        ]
        self.scene_outputs = [*self.picker_outputs, *self.view_outputs]
        self.visibility_outputs: list[Any] = [*panel.groups.values(), *panel.sliders.values()]
        self.gallery_inputs: list[Any] = [page.face_picker.seed, page.face_picker.psi]
        components = {
            "wipe": picture.wipe,
            "strip": picture.strip,
            "chart": details.chart,
            "visited": page.face_picker.visited,
            "png": details.png,
            "json": details.json,
            "link": details.link,
            "command": details.command,
            "python": details.python,
        }
        self.tab_outputs: list[Any] = [components[name] for name in TAB_OUTPUTS]

    def connect_all(self, demo: gr.Blocks) -> None:
        """Connect every event of the page."""
        opened = self._connect(demo.load, self.navigation_handlers.open_page, None, self.scene_outputs)
        arranged = self._then_arrange_sliders(opened)
        self._connect_gallery(arranged.success, self.tab_handlers.list_seeds)
        self._connect_sliders()
        self._connect_picture_area()
        self._connect_face_picker()
        self._connect_details()
        for picker, handler in (
            (self.page.top_bar.generator, self.navigation_handlers.pick_generator),
            (self.page.top_bar.editor, self.navigation_handlers.pick_editor),
        ):
            picked = self._connect(picker.input, handler, picker, self.scene_outputs, SLOW_EVENT)
            self._then_arrange_sliders(picked)
            # Where the new choice can't be drawn, the picker shows the old one again.
            self._connect(picked.failure, _make_picker_refresh(self.edit_handlers), None, self.picker_outputs)

    def _connect(
        self, event: Any, handler: Any, inputs: Any, outputs: Any, options: dict[str, Any] = SILENT_EVENT
    ) -> Any:
        """Connect one event: the handler gets the inputs, then the visitor's session."""
        return event(self.edit_handlers.sessions.bind_session(handler), inputs, outputs, **options)

    def _connect_view(self, event: Any, handler: Any, inputs: Any = None) -> None:
        """Connect an event whose handler shows the picture in full; the open tabs follow."""
        self._then_refresh_tabs(self._connect(event, handler, inputs, self.view_outputs))

    def _connect_gallery(self, event: Any, list_faces: Any) -> None:
        """Connect an event that fills the gallery of faces."""
        fill = self.tab_handlers.make_gallery_handler(list_faces)
        self._connect(event, fill, self.gallery_inputs, self.page.face_picker.gallery)

    def _then_arrange_sliders(self, event: Any) -> Any:
        """Show the editor's sliders and methods after an event that may bring another one, then refresh the open tabs."""
        outputs = [*self.visibility_outputs, self.page.details.methods]
        return self._then_refresh_tabs(self._connect(event.success, self.tab_handlers.arrange_sliders, None, outputs))

    def _then_refresh_tabs(self, event: Any) -> Any:
        """Refresh the open tabs after an event. Returns the event."""
        self._connect(event.success, self.tab_handlers.refresh_tabs, None, self.tab_outputs)
        return event

    def _connect_sliders(self) -> None:
        panel, edit_handlers, picture = self.page.slider_panel, self.edit_handlers, self.page.picture_area.picture
        for name, slider in panel.sliders.items():
            preview = edit_handlers.make_slider_handler(name)
            moved = self._connect(slider.input, preview, slider, picture, NEWEST_WINS)
            self._connect_view(moved.success, edit_handlers.render_at_rest)
        search = self.tab_handlers.search_sliders
        self._connect(panel.search.change, search, panel.search, self.visibility_outputs, NEWEST_WINS)
        self._connect_view(panel.changed.input, edit_handlers.change_attributes, panel.changed)
        self._connect_view(panel.counted.input, edit_handlers.pick_counted, panel.counted)
        for button, by in ((panel.minus, -1), (panel.plus, 1)):
            self._connect_view(button.click, edit_handlers.make_count_handler(by))

    def _connect_picture_area(self) -> None:
        area, edit_handlers = self.page.picture_area, self.edit_handlers
        for button, handler in ((area.undo, edit_handlers.undo), (area.redo, edit_handlers.redo)):
            # Undo may bring back another generator or editor: pickers follow.
            done = self._connect(button.click, handler, None, self.view_outputs)
            refresh = _make_picker_refresh(edit_handlers)
            self._then_arrange_sliders(self._connect(done.success, refresh, None, self.picker_outputs))
        self._connect_view(area.reset.click, edit_handlers.make_step_handler(_reset))
        self._connect_view(area.surprise.click, edit_handlers.make_step_handler(edit_handlers.choose_random_face))
        for tab, name in zip(area.tabs, PICTURE_TABS, strict=True):
            self._connect(tab.select, self.tab_handlers.make_open_handler(name), None, self.tab_outputs)

    def _connect_face_picker(self) -> None:
        picker, tab_handlers = self.page.face_picker, self.tab_handlers
        for event in (picker.psi.release, picker.seed.submit, picker.seed.blur):
            self._connect_gallery(event, tab_handlers.list_seeds)
        for button, by in ((picker.earlier, -FACES_PER_PAGE), (picker.later, FACES_PER_PAGE)):
            turned = self._connect(button.click, _make_page_turner(by), picker.seed, picker.seed)
            self._connect_gallery(turned.success, tab_handlers.list_seeds)
        self._connect_gallery(picker.similar.click, tab_handlers.list_similar)
        for gallery, visited in ((picker.gallery, False), (picker.visited, True)):
            choose = tab_handlers.make_choice_handler(visited)
            self._then_arrange_sliders(self._connect(gallery.select, choose, None, self.scene_outputs))

    def _connect_details(self) -> None:
        details, tab_handlers, panel = self.page.details, self.tab_handlers, self.page.slider_panel
        tabs = (
            panel.tab,
            self.page.face_picker.tab,
            details.moved_tab,
            details.compare_tab,
            details.photo_tab,
            details.take_tab,
        )
        for tab, name in zip(tabs, DETAIL_TABS, strict=True):
            self._connect(tab.select, tab_handlers.make_open_handler(name), None, self.tab_outputs)
        checked = self._connect(panel.sample.click, tab_handlers.check_sampling, None, self.page.tabs)
        self._connect_gallery(checked.success, tab_handlers.list_sampled)
        compared = [details.attribute, details.change, details.methods]
        self._connect(details.compare.click, tab_handlers.compare_methods, compared, details.compared, SLOW_EVENT)
        for part in (details.photo, details.load):
            # ``server_folder.claim_upload`` checks what comes; Gradio's own model of it fails without a message.
            part.data_model = RawPayload
        upload = self.photo_handlers.make_upload_handler(len(self.scene_outputs))
        outputs = [details.photo, details.inverted, *self.scene_outputs]
        self._then_arrange_sliders(self._connect(details.photo.upload, upload, details.photo, outputs))
        load = self.navigation_handlers.upload_recipe
        self._then_arrange_sliders(
            self._connect(details.load.upload, load, details.load, self.scene_outputs, SLOW_EVENT)
        )


class RawPayload(GradioRootModel):
    """An upload's payload, unchecked."""

    root: Any


def _reset(session: Session) -> Scene:
    return replace(session.scene, edits=())


def _make_page_turner(by: int) -> Any:
    @report_errors
    async def turn(seed: Any) -> int:
        first = validation.check_integer("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
        return max(0, min(first + by, 2**32 - FACES_PER_PAGE))

    return turn


def _make_picker_refresh(edit_handlers: EditHandlers) -> Any:
    async def refresh(session: Session | None) -> Sequence[Any]:
        return edit_handlers.make_picker_updates(edit_handlers.require_session(session))

    return report_errors(refresh)
