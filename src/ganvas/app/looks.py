"""The tabs beside the picture: what is in them is drawn when they are open, and again when the picture changes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from ganvas.app import charts, compare, drawing, given, links, values
from ganvas.app.compare import MOST_CHANGE, Methods
from ganvas.app.desk import Desk
from ganvas.app.groups import grouped, matches
from ganvas.app.hands import MANY, PAGE, Hands, told
from ganvas.app.scene import MOST_PSI, Scene, describe, title_of
from ganvas.app.turns import Turns
from ganvas.errors import GanvasError
from ganvas.pictures import to_bytes
from ganvas.recipe_files import save_picture

AT_ONCE = 4
"""Faces of a gallery that appear together."""
LOOKED = ("wipe", "strip", "chart", "visited", "png", "json", "link", "command", "python")
"""What ``look`` gives values for: ``Wires.looked`` are the components."""
VIEWS, SIDES = ("picture", "wipe", "strip"), ("edit", "faces", "moved", "compare", "photo", "take")


class Looks:
    """Handlers of the tabs; ``lessons`` is where methods are learned."""

    def __init__(self, hands: Hands, methods: Methods, lessons: Turns) -> None:
        self.hands, self.methods, self.lessons = hands, methods, lessons

    def opened(self, tab: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A tab is opened, another of its row closed."""
        row = VIEWS if tab in VIEWS else SIDES

        async def select(desk: Desk | None, request: gr.Request) -> Any:
            # A narrow page selects its tabs while it is still opening: what opens it brings them up to date.
            if not isinstance(desk, Desk):
                return [gr.skip() for _ in LOOKED]
            desk.open = (desk.open - set(row)) | {tab}
            return await self.look(desk, request)

        return select

    @told
    async def look(self, desk: Desk | None, request: gr.Request) -> Any:
        """Values for ``LOOKED``; those of tabs that are open."""
        mine = self.hands.desk(desk)
        version, scene, shop = mine.version, mine.scene, self.hands.shop

        def stale() -> bool:
            return mine.version != version

        found: dict[str, Any] = {}
        if "wipe" in mine.open:
            both = await self.hands.ask(mine, lambda: drawing.pair(shop, scene), stale)
            # The component has no alternative text: its label says what both are.
            told = f"Before and after: {describe(scene, self.hands.labels)}"
            found["wipe"] = gr.update(value=[values.picture(data) for data in both], label=told)
        if "strip" in mine.open:
            found["strip"] = values.faces(await self._strip(mine, scene, stale))
        if "moved" in mine.open:
            found["chart"] = await self._moved(mine, scene, stale)
        if "faces" in mine.open:
            visited = list(mine.visited)
            found["visited"] = values.faces([await self._thumb(mine, face, stale) for face in visited])
            mine.shown_visited = visited
        if "take" in mine.open:
            found |= await self._take(mine, scene, stale, request)
        return [found.get(name, gr.skip()) for name in LOOKED]

    async def _moved(self, desk: Desk, scene: Scene, stale: Callable[[], bool]) -> str:
        """The chart. Faces are compared beside the worker."""
        shop = self.hands.shop
        if not scene.editor:
            return "<p>What moved is told in an editor's σ.</p>"
        found, before, after = await self.hands.ask(
            desk,
            lambda: (drawing.moved(shop, scene), shop.render(scene.plain).image, shop.render(scene).image),
            stale,
        )
        return charts.chart(
            await self.hands.ask_beside(desk, lambda: drawing.recognised(shop, found, before, after), stale)
        )

    async def _thumb(self, desk: Desk, scene: Scene, stale: Callable[[], bool]) -> tuple[bytes, str]:
        return await self.hands.ask(desk, lambda: drawing.thumb(self.hands.shop, scene), stale), title_of(scene)

    async def _strip(self, desk: Desk, scene: Scene, stale: Callable[[], bool]) -> list[tuple[bytes, str]]:
        shares = drawing.STRIP if scene.edits else ()
        return [((await self._thumb(desk, scene.at(share), stale))[0], f"{share:g} ×") for share in shares]

    async def _take(self, desk: Desk, scene: Scene, stale: Callable[[], bool], request: gr.Request) -> dict[str, Any]:
        shop, folder, version = self.hands.shop, self.hands.desks.files_of(desk) / "taken", desk.version
        recipe, done = await self.hands.ask(desk, lambda: (shop.recipe(scene), shop.render(scene)), stale)
        name = links.file_name(scene)
        # A name of its own each time: browsers keep what they fetched once.
        path = folder / f"{version}" / f"{name}.png"

        def write() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            save_picture(path, to_bytes(done.image)[0], recipe, scene.codes)

        await self.hands.ask_beside(desk, write, stale)
        editor = shop.paths.get(scene.editor, scene.editor)
        return {
            "png": values.file(path),
            "json": values.file(path.with_suffix(".json")),
            "link": _link(recipe, request),
            "command": links.command_of(recipe, editor, name),
            "python": links.python_of(recipe, editor, name),
        }

    # Faces to choose from.

    def gallery(
        self, faces: Callable[[Desk, int, float], list[Scene]]
    ) -> Callable[[Any, Any, Desk | None], AsyncIterator[Any]]:
        """A handler that fills the gallery, some at a time."""

        @told
        async def fill(seed: Any, psi: Any, desk: Desk | None) -> AsyncIterator[Any]:
            mine = self.hands.desk(desk)
            first = given.whole_number("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
            within = given.number("psi", psi, 0, MOST_PSI)
            mine.wanted = wanted = await self.hands.ask(mine, lambda: faces(mine, first, within))
            shown: list[tuple[bytes, str]] = []
            for i, face in enumerate(wanted):
                shown.append(await self._thumb(mine, face, lambda: mine.wanted is not wanted))
                if (i + 1) % AT_ONCE == 0 or i + 1 == len(wanted):
                    # Not before: until then the page shows other faces, and they are what is chosen.
                    mine.faces = wanted
                    yield values.faces(shown)

        return fill

    def of_seeds(self, desk: Desk, first: int, psi: float) -> list[Scene]:
        """A page of seeds."""
        return drawing.of_seeds(desk.scene, first, psi, PAGE)

    def alike(self, desk: Desk, first: int, psi: float) -> list[Scene]:
        """Faces like the one that is looked at."""
        return drawing.alike(self.hands.shop, desk.scene, desk.version * PAGE, PAGE, self.hands.desks.files_of(desk))

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
            faces = mine.shown_visited if visited else mine.faces
            if type(event.index) is not int or not 0 <= event.index < len(faces):
                raise GanvasError("That face isn't there any more: pick another.")
            face = faces[event.index]
            mine.keep()
            stale = mine.look(face)
            return [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]

        return choose

    # Finding sliders, and comparing methods.

    @told
    async def find(self, search: Any, desk: Desk | None) -> Any:
        """The sliders that are searched for: visibility of groups, then of sliders."""
        mine = self.hands.desk(desk)
        mine.search = given.text("The search", search)
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

    @told
    async def compare(self, attribute: Any, change: Any, methods: Any, desk: Desk | None) -> AsyncIterator[Any]:
        """Methods side by side, as they get ready."""
        mine = self.hands.desk(desk)
        scene, shop, names = mine.scene, self.hands.shop, given.names("Methods", methods)
        by = given.number("The change", change, -MOST_CHANGE, MOST_CHANGE)
        compare.check(shop, scene, given.text("Attribute", attribute), by, names)
        mine.comparing = this = object()

        def stale() -> bool:
            return mine.comparing is not this

        try:
            shown = [(await self.hands.ask(mine, lambda: drawing.thumb(shop, scene.plain), stale), "as drawn")]
            yield values.faces(shown)
            for name in names:
                done = await self._compared(mine, scene, name, compare.Asked(attribute, by), stale)
                if done.picture is None:
                    gr.Warning(escape(done.told, quote=False), title="Compare")
                    continue
                shown = [*shown, (done.picture, done.told)]
                yield values.faces(shown)
        finally:
            # Whoever left waits for no more of it.
            if not stale():
                mine.comparing = None

    async def _compared(
        self, desk: Desk, scene: Scene, name: str, asked: compare.Asked, stale: Callable[[], bool]
    ) -> compare.Compared:
        """One method. It learns and searches beside the worker, which draws one picture at a time for it."""
        shop = self.hands.shop

        def work() -> compare.Compared:
            def draw(run: Callable[[], Any]) -> Any:
                return self.hands.turns.ask(desk.name, run, stale).result()

            network = draw(lambda: shop.bench(scene).generator)
            editor = self.methods.learn(network, name, asked.attribute)
            return compare.compare(shop, scene, name, editor, asked, draw)

        try:
            return await asyncio.wrap_future(self.lessons.ask(desk.name, work, stale))
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
