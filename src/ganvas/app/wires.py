"""Which component calls which handler, and what the handler's values are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ganvas.app.desk import Desk
from ganvas.app.doors import Doors
from ganvas.app.hands import PAGE, Hands
from ganvas.app.looks import SIDES, VIEWS, Looks
from ganvas.app.page import Page
from ganvas.app.photo import Photos
from ganvas.app.scene import Scene

QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "concurrency_limit": None,
    "api_visibility": "private",
    "postprocess": False,
    "trigger_mode": "multiple",
}
"""Of events that answer at once: nothing spins, nobody waits in Gradio's own queue but in ``turns``.

By default Gradio drops an event while the one before it is under way: the full picture of a slider's last position would be
dropped for one that is out of date already, and so would a second press of a button."""
LAST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
"""Of events of which the newest waits in the browser until the one before is done."""
SLOW: dict[str, Any] = QUIET | {"show_progress": "minimal"}


class Wires:
    """Wires a page."""

    def __init__(self, page: Page, hands: Hands, doors: Doors, looks: Looks, photos: Photos) -> None:
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
        self.looked: list[Any] = [
            stage.wipe,
            stage.strip,
            further.chart,
            page.choose.visited,
            further.png,
            further.json,
            further.link,
            further.command,
            further.python,
        ]

    def wire(self, demo: gr.Blocks) -> None:
        """All of it."""
        desk = self.page.desk
        opened = demo.load(self.doors.open, None, [desk, *self.picked, *self.shown], **QUIET)
        self._arranged(opened).success(
            self.looks.gallery(self.looks.of_seeds), self._faces, self.page.choose.gallery, **QUIET
        )
        self._edit()
        self._stage()
        self._choose()
        self._further()
        for picker, handler in (
            (self.page.top.generator, self.doors.pick_generator),
            (self.page.top.editor, self.doors.pick_editor),
        ):
            self._arranged(picker.input(handler, [picker, desk], [*self.picked, *self.shown], **SLOW))

    @property
    def _faces(self) -> list[Any]:
        return [self.page.choose.seed, self.page.choose.psi, self.page.desk]

    def _arranged(self, event: Any) -> Any:
        """After an editor was picked."""
        outputs = [*self.visible, self.page.further.methods]
        return self._look(event.success(self.looks.arrange, self.page.desk, outputs, **QUIET))

    def _look(self, event: Any) -> Any:
        """Then the open tabs are brought up to date."""
        event.success(self.looks.look, self.page.desk, self.looked, **QUIET)
        return event

    def _edit(self) -> None:
        edit, hands, desk = self.page.sliders, self.hands, self.page.desk
        for name, slider in edit.sliders.items():
            moved = slider.input(hands.mover(name), [slider, desk], self.page.stage.picture, **LAST)
            self._look(moved.success(hands.settle, desk, self.shown, **QUIET))
        edit.search.change(self.looks.find, [edit.search, desk], self.visible, **LAST)
        self._look(edit.changed.input(hands.change, [edit.changed, desk], self.shown, **QUIET))
        self._look(edit.what.input(hands.count_what, [edit.what, desk], self.shown, **QUIET))
        for button, by in ((edit.minus, -1), (edit.plus, 1)):
            self._look(button.click(hands.counter(by), desk, self.shown, **QUIET))

    def _stage(self) -> None:
        stage, hands, desk = self.page.stage, self.hands, self.page.desk
        for button, handler in (
            (stage.undo, hands.undo),
            (stage.redo, hands.redo),
        ):
            self._arranged_after(button.click(handler, desk, self.shown, **QUIET))
        self._look(stage.reset.click(hands.step(_reset), desk, self.shown, **QUIET))
        self._look(stage.surprise.click(hands.step(hands.surprise), desk, self.shown, **QUIET))
        for tab, name in zip(stage.tabs, VIEWS, strict=True):
            tab.select(self.looks.opened(name), desk, self.looked, **QUIET)

    def _choose(self) -> None:
        choose, looks, desk = self.page.choose, self.looks, self.page.desk
        seeds = looks.gallery(looks.of_seeds)
        for event in (choose.psi.release, choose.seed.submit, choose.seed.blur):
            event(seeds, self._faces, choose.gallery, **QUIET)
        for button, by in ((choose.back, -PAGE), (choose.more, PAGE)):
            turned = button.click(_turner(by), choose.seed, choose.seed, **QUIET)
            turned.success(seeds, self._faces, choose.gallery, **QUIET)
        choose.alike.click(looks.gallery(looks.alike), self._faces, choose.gallery, **QUIET)
        outputs = [*self.picked, *self.shown]
        for gallery, visited in ((choose.gallery, False), (choose.visited, True)):
            self._arranged(gallery.select(looks.chosen(visited), desk, outputs, **QUIET))

    def _further(self) -> None:
        further, looks, desk = self.page.further, self.looks, self.page.desk
        choose = self.page.choose
        tabs = (
            self.page.sliders.tab,
            choose.tab,
            further.moved_tab,
            further.compare_tab,
            further.photo_tab,
            further.take_tab,
        )
        for tab, name in zip(tabs, SIDES, strict=True):
            tab.select(looks.opened(name), desk, self.looked, **QUIET)
        asked = self.page.sliders.asked.click(looks.check_asked, desk, self.page.tabs, **QUIET)
        asked.success(looks.gallery(looks.asked), self._faces, choose.gallery, **QUIET)
        compared = [further.attribute, further.change, further.methods, desk]
        further.compare.click(looks.compare, compared, further.compared, **SLOW)
        outputs = [further.photo, further.inverted, *self.picked, *self.shown]
        self._arranged(further.photo.upload(self.photos.upload, [further.photo, desk], outputs, **QUIET))
        loaded = further.load.upload(self.doors.upload, [further.load, desk], [*self.picked, *self.shown], **SLOW)
        self._arranged(loaded)

    def _arranged_after(self, event: Any) -> None:
        """Undo may bring back another generator or editor: pickers follow."""
        again = event.success(_again(self.hands), self.page.desk, self.picked, **QUIET)
        self._arranged(again)


def _reset(desk: Desk) -> Scene:
    return replace(desk.scene, edits=())


def _turner(by: int) -> Any:
    async def turn(seed: int | None) -> int:
        return max(0, min(int(seed or 0) + by, 2**32 - PAGE))

    return turn


def _again(hands: Hands) -> Any:
    async def pick(desk: Desk | None) -> Sequence[Any]:
        return hands.pickers(hands.desk(desk))

    return pick
