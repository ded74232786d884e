"""Which component calls which handler, and what the handler's values are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from ganvas.app import validation
from ganvas.app.edit_handlers import PAGE, EditHandlers, report_errors
from ganvas.app.layout import Page
from ganvas.app.navigation_handlers import NavigationHandlers
from ganvas.app.photo_handlers import PhotoHandlers
from ganvas.app.scene import Scene
from ganvas.app.session import Session
from ganvas.app.tab_handlers import SIDES, TAB_OUTPUTS, VIEWS, TabHandlers

SILENT_EVENT: dict[str, Any] = {
    "show_progress": "hidden",
    "concurrency_limit": None,
    "api_visibility": "private",
    "preprocess": False,
    "postprocess": False,
    "trigger_mode": "multiple",
}
"""Of events that answer at once: nothing spins. Each holds one of Gradio's jobs until ``work_queue`` has done its
work. Handlers get what the request gave, as it is, and give what the browser gets.

By default Gradio drops an event while the one before it is under way: the full picture of a slider's last position would be
dropped for one that is out of date already, and so would a second press of a button."""
NEWEST_WINS: dict[str, Any] = SILENT_EVENT | {"trigger_mode": "always_last"}
"""Of events of which the newest waits in the browser until the one before is done."""
SLOW_EVENT: dict[str, Any] = SILENT_EVENT | {"show_progress": "minimal"}


class EventWiring:
    """Wires a page."""

    def __init__(
        self, page: Page, hands: EditHandlers, doors: NavigationHandlers, looks: TabHandlers, photos: PhotoHandlers
    ) -> None:
        self.page, self.hands, self.doors, self.looks, self.photos = page, hands, doors, looks, photos
        stage, edit, further = page.stage, page.sliders, page.further
        self.shown: list[Any] = [
            stage.picture,
            stage.status,
            stage.undo,
            stage.redo,
            stage.reset,
            edit.changed,
            edit.count,
            *edit.sliders.values(),
        ]
        self.picked: list[Any] = [
            page.top.generator,
            page.top.editor,
            edit.nothing,
            edit.counting,
            edit.what,
            further.attribute,
        ]
        self.visible: list[Any] = [*edit.groups.values(), *edit.sliders.values()]
        looked = {
            "wipe": stage.wipe,
            "strip": stage.strip,
            "chart": further.chart,
            "visited": page.choose.visited,
            "png": further.png,
            "json": further.json,
            "link": further.link,
            "command": further.command,
            "python": further.python,
        }
        self.looked: list[Any] = [looked[name] for name in TAB_OUTPUTS]

    def wire(self, demo: gr.Blocks) -> None:
        """All of it."""
        opened = self._on(demo.load, self.doors.open, None, [*self.picked, *self.shown])
        seeds = self.looks.gallery(self.looks.of_seeds)
        self._on(self._arranged(opened).success, seeds, self._faces, self.page.choose.gallery)
        self._edit()
        self._stage()
        self._choose()
        self._further()
        for picker, handler in (
            (self.page.top.generator, self.doors.pick_generator),
            (self.page.top.editor, self.doors.pick_editor),
        ):
            picked = self._on(picker.input, handler, picker, [*self.picked, *self.shown], SLOW_EVENT)
            self._arranged(picked)
            # What can't be drawn isn't what is looked at: the picker says so again.
            self._on(picked.failure, _again(self.hands), None, self.picked)

    def _on(self, event: Any, handler: Any, inputs: Any, outputs: Any, how: dict[str, Any] = SILENT_EVENT) -> Any:
        """Wire one event: the handler gets the inputs, then the visitor's desk."""
        return event(self.hands.desks.seated(handler), inputs, outputs, **how)

    @property
    def _faces(self) -> list[Any]:
        return [self.page.choose.seed, self.page.choose.psi]

    def _arranged(self, event: Any) -> Any:
        """After an editor was picked."""
        return self._look(self._on(event.success, self.looks.arrange, None, [*self.visible, self.page.further.methods]))

    def _look(self, event: Any) -> Any:
        """Then the open tabs are brought up to date."""
        self._on(event.success, self.looks.look, None, self.looked)
        return event

    def _edit(self) -> None:
        edit, hands = self.page.sliders, self.hands
        for name, slider in edit.sliders.items():
            moved = self._on(slider.input, hands.mover(name), slider, self.page.stage.picture, NEWEST_WINS)
            self._look(self._on(moved.success, hands.settle, None, self.shown))
        self._on(edit.search.change, self.looks.find, edit.search, self.visible, NEWEST_WINS)
        self._look(self._on(edit.changed.input, hands.change, edit.changed, self.shown))
        self._look(self._on(edit.what.input, hands.count_what, edit.what, self.shown))
        for button, by in ((edit.minus, -1), (edit.plus, 1)):
            self._look(self._on(button.click, hands.counter(by), None, self.shown))

    def _stage(self) -> None:
        stage, hands = self.page.stage, self.hands
        for button, handler in ((stage.undo, hands.undo), (stage.redo, hands.redo)):
            # Undo may bring back another generator or editor: pickers follow.
            done = self._on(button.click, handler, None, self.shown)
            self._arranged(self._on(done.success, _again(hands), None, self.picked))
        self._look(self._on(stage.reset.click, hands.step(_reset), None, self.shown))
        self._look(self._on(stage.surprise.click, hands.step(hands.surprise), None, self.shown))
        for tab, name in zip(stage.tabs, VIEWS, strict=True):
            self._on(tab.select, self.looks.opened(name), None, self.looked)

    def _choose(self) -> None:
        choose, looks = self.page.choose, self.looks
        seeds = looks.gallery(looks.of_seeds)
        for event in (choose.psi.release, choose.seed.submit, choose.seed.blur):
            self._on(event, seeds, self._faces, choose.gallery)
        for button, by in ((choose.back, -PAGE), (choose.more, PAGE)):
            turned = self._on(button.click, _turner(by), choose.seed, choose.seed)
            self._on(turned.success, seeds, self._faces, choose.gallery)
        self._on(choose.alike.click, looks.gallery(looks.alike), self._faces, choose.gallery)
        outputs = [*self.picked, *self.shown]
        for gallery, visited in ((choose.gallery, False), (choose.visited, True)):
            self._arranged(self._on(gallery.select, looks.chosen(visited), None, outputs))

    def _further(self) -> None:
        further, looks, choose = self.page.further, self.looks, self.page.choose
        tabs = (
            self.page.sliders.tab,
            choose.tab,
            further.moved_tab,
            further.compare_tab,
            further.photo_tab,
            further.take_tab,
        )
        for tab, name in zip(tabs, SIDES, strict=True):
            self._on(tab.select, looks.opened(name), None, self.looked)
        asked = self._on(self.page.sliders.asked.click, looks.check_asked, None, self.page.tabs)
        self._on(asked.success, looks.gallery(looks.asked), self._faces, choose.gallery)
        compared = [further.attribute, further.change, further.methods]
        self._on(further.compare.click, looks.compare, compared, further.compared, SLOW_EVENT)
        outputs = [*self.picked, *self.shown]
        for part in (further.photo, further.load):
            # What comes is looked at by ``server_folder.claim_upload``; Gradio's own model of it fails without a message.
            part.data_model = RawPayload
        upload = self.photos.upload(len(outputs))
        self._arranged(
            self._on(further.photo.upload, upload, further.photo, [further.photo, further.inverted, *outputs])
        )
        self._arranged(self._on(further.load.upload, self.doors.upload, further.load, outputs, SLOW_EVENT))


class RawPayload(GradioRootModel):
    """What came, as it came."""

    root: Any


def _reset(desk: Session) -> Scene:
    return replace(desk.scene, edits=())


def _turner(by: int) -> Any:
    @report_errors
    async def turn(seed: Any) -> int:
        last = 2**32 - PAGE
        first = validation.check_integer("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
        return max(0, min(first + by, last))

    return turn


def _again(hands: EditHandlers) -> Any:
    async def pick(desk: Session | None) -> Sequence[Any]:
        return hands.pickers(hands.desk(desk))

    return report_errors(pick)
