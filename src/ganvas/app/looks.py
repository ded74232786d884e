"""The tabs beside the picture: what is in them is drawn when they are open, and again when the picture changes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from ganvas.app import charts, compare, drawing, links, values
from ganvas.app.compare import Methods
from ganvas.app.desk import Desk
from ganvas.app.groups import grouped, matches
from ganvas.app.hands import MANY, PAGE, Hands, message, told
from ganvas.app.scene import Scene, title_of
from ganvas.app.turns import Superseded
from ganvas.errors import GanvasError
from ganvas.pictures import to_bytes
from ganvas.recipe_files import save_picture

AT_ONCE = 4
"""Faces of a gallery that appear together."""
VIEWS, SIDES = ("picture", "wipe", "strip"), ("edit", "faces", "moved", "compare", "photo", "take")


class Looks:
    """Handlers of the tabs."""

    def __init__(self, hands: Hands, methods: Methods) -> None:
        self.hands, self.methods = hands, methods

    def opened(self, tab: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A tab is opened, another of its row closed."""
        row = VIEWS if tab in VIEWS else SIDES

        async def select(desk: Desk | None, request: gr.Request) -> Any:
            if isinstance(desk, Desk):
                desk.open = (desk.open - set(row)) | {tab}
            return await self.look(desk, request)

        return select

    @told
    async def look(self, desk: Desk | None, request: gr.Request) -> Any:
        """Values for ``Wires.looked``: wipe, strip, chart, visited, then what is taken along; those that are open."""
        mine = self.hands.desk(desk)
        version, scene, shop = mine.version, mine.scene, self.hands.shop

        def stale() -> bool:
            return mine.version != version

        found: list[Any] = [gr.skip() for _ in range(9)]
        if "wipe" in mine.open:
            both = await self.hands.ask(mine, lambda: drawing.pair(shop, scene), stale)
            found[0] = [values.picture(data) for data in both]
        if "strip" in mine.open:
            found[1] = values.faces(await self._strip(mine, scene, stale))
        if "moved" in mine.open:
            moved = await self.hands.ask(mine, lambda: drawing.moved(shop, scene), stale) if scene.editor else None
            found[2] = charts.chart(moved) if moved else "<p>What moved is told in an editor's σ.</p>"
        if "faces" in mine.open:
            found[3] = values.faces([await self._thumb(mine, face, stale) for face in list(mine.visited)])
        if "take" in mine.open:
            found[4:] = await self._take(mine, scene, stale, request)
        return found

    async def _thumb(self, desk: Desk, scene: Scene, stale: Callable[[], bool]) -> tuple[bytes, str]:
        return await self.hands.ask(desk, lambda: drawing.thumb(self.hands.shop, scene), stale), title_of(scene)

    async def _strip(self, desk: Desk, scene: Scene, stale: Callable[[], bool]) -> list[tuple[bytes, str]]:
        shares = drawing.STRIP if scene.edits else ()
        return [((await self._thumb(desk, scene.at(share), stale))[0], f"{share:g} ×") for share in shares]

    async def _take(self, desk: Desk, scene: Scene, stale: Callable[[], bool], request: gr.Request) -> list[Any]:
        shop, folder = self.hands.shop, self.hands.files_of(desk)

        def write() -> list[Any]:
            recipe, name = shop.recipe(scene), links.file_name(scene)
            shutil.rmtree(folder, ignore_errors=True)
            # A name of its own each time: browsers keep what they fetched once.
            path = folder / f"{desk.version}" / f"{name}.png"
            save_picture(path, to_bytes(shop.render(scene).image)[0], recipe, scene.codes)
            editor = shop.paths.get(scene.editor, scene.editor)
            command, python = links.command_of(recipe, editor, name), links.python_of(recipe, editor, name)
            return [values.file(path), values.file(path.with_suffix(".json")), _link(recipe, request), command, python]

        return await self.hands.ask(desk, write, stale)

    # Faces to choose from.

    def gallery(
        self, faces: Callable[[Desk, int, float], list[Scene]]
    ) -> Callable[[int | None, float, Desk | None], AsyncIterator[Any]]:
        """A handler that fills the gallery, some at a time."""

        async def fill(seed: int | None, psi: float, desk: Desk | None) -> AsyncIterator[Any]:
            try:
                mine = self.hands.desk(desk)
                first = int(seed or 0)
                mine.faces = await self.hands.ask(mine, lambda: faces(mine, first, float(psi)))
                wanted, shown = mine.faces, []

                def stale() -> bool:
                    return mine.faces is not wanted

                for i, face in enumerate(wanted):
                    shown.append(await self._thumb(mine, face, stale))
                    if (i + 1) % AT_ONCE == 0 or i + 1 == len(wanted):
                        yield values.faces(shown)
            except Superseded:
                yield gr.skip()
            except GanvasError as error:
                raise message(error) from None

        return fill

    def of_seeds(self, desk: Desk, first: int, psi: float) -> list[Scene]:
        """A page of seeds."""
        return drawing.of_seeds(desk.scene, first, psi, PAGE)

    def alike(self, desk: Desk, first: int, psi: float) -> list[Scene]:
        """Faces like the one that is looked at."""
        return drawing.alike(self.hands.shop, desk.scene, desk.version * PAGE, PAGE, self.hands.files_of(desk))

    def asked(self, desk: Desk, first: int, psi: float) -> list[Scene]:
        """Faces as the sliders say."""
        return drawing.as_asked(desk.scene, first, MANY)

    @told
    async def check_asked(self, desk: Desk | None) -> Any:
        """The tab of the gallery, where the sliders ask for something."""
        drawing.as_asked(self.hands.desk(desk).scene, 0, 1)
        return gr.update(selected="faces")

    def chosen(self, visited: bool) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A face of a gallery is looked at."""

        @told
        async def choose(desk: Desk | None, event: gr.SelectData) -> Any:
            mine = self.hands.desk(desk)
            faces = mine.visited if visited else mine.faces
            if type(event.index) is not int or not 0 <= event.index < len(faces):
                raise GanvasError("That face isn't there any more: pick another.")
            face = faces[event.index]
            mine.keep()
            stale = mine.look(face)
            return [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]

        return choose

    # Finding sliders, and comparing methods.

    @told
    async def find(self, search: str, desk: Desk | None) -> Any:
        """The sliders that are searched for: visibility of groups, then of sliders."""
        mine = self.hands.desk(desk)
        mine.search = str(search)[:100]
        return self.visible(mine)

    def visible(self, desk: Desk) -> list[Any]:
        """Groups, then sliders: those that the editor has and the search names."""
        found = self.hands.shop.choices.get(desk.scene.editor)
        known = found.sliders if found else ()
        groups = grouped(self.hands.names)
        shown = {g: [n for n in names if n in known and matches(n, g, desk.search)] for g, names in groups.items()}
        every = {name for names in shown.values() for name in names}
        return [
            *(_unfolded(bool(names), bool(desk.search)) for names in shown.values()),
            *(gr.update(visible=name in every) for name in self.hands.names),
        ]

    @told
    async def arrange(self, desk: Desk | None) -> Any:
        """After another editor was picked: groups, sliders, and the methods to compare."""
        mine = self.hands.desk(desk)
        names = self.methods.names(mine.scene.generator)
        return [*self.visible(mine), gr.update(choices=names, value=names[:3])]

    async def compare(self, attribute: str, change: float, names: list[str], desk: Desk | None) -> AsyncIterator[Any]:
        """Methods side by side, as they get ready."""
        try:
            mine = self.hands.desk(desk)
            scene, shop = mine.scene, self.hands.shop
            compare.check(shop, scene, attribute, change, names)
            shown = [(await self.hands.ask(mine, lambda: drawing.thumb(shop, scene.plain)), "as drawn")]
            yield values.faces(shown)
            network = await self.hands.ask(mine, lambda: shop.bench(scene).generator)
            for name in names:
                done = await self._compared(mine, scene, network, name, attribute, change)
                if done.picture is None:
                    gr.Warning(done.told, title="Compare")
                    continue
                shown = [*shown, (done.picture, done.told)]
                yield values.faces(shown)
        except Superseded:
            yield gr.skip()
        except GanvasError as error:
            raise message(error) from None

    async def _compared(
        self, desk: Desk, scene: Scene, network: Any, name: str, attribute: str, change: float
    ) -> compare.Compared:
        try:
            editor = await asyncio.to_thread(self.methods.learn, network, name, attribute)
            work = lambda: compare.compare(self.hands.shop, scene, name, editor, attribute, change)  # noqa: E731
            return await self.hands.ask(desk, work)
        except GanvasError as error:
            return compare.Compared(name, None, f"{name}: {error}")


def _unfolded(visible: bool, searched: bool) -> dict[str, Any]:
    """A group of sliders; unfolded where it has what is searched for."""
    return gr.update(visible=visible, open=True) if visible and searched else gr.update(visible=visible)


def _link(recipe: Any, request: gr.Request) -> str:
    """The page's own address with the recipe; or why there is none."""
    try:
        token = links.token_of(recipe)
    except GanvasError as error:
        return str(error)
    came = urlsplit(request.headers.get("referer") or "")
    host = came.netloc or request.headers.get("host") or "127.0.0.1"
    return urlunsplit((came.scheme or "http", host, came.path or "/", urlencode({links.QUERY: token}), ""))
