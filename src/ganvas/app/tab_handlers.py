"""The tabs beside the picture: what is in them is drawn when they are open, and again when the picture changes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from html import escape
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from ganvas.app import charts, compare, component_values, rendering, sharing, validation
from ganvas.app.attribute_groups import group_attributes, matches
from ganvas.app.compare import MOST_CHANGE, MethodEditors
from ganvas.app.edit_handlers import FACES_SHOWN, PAGE, EditHandlers, report_errors
from ganvas.app.scene import MAX_PSI, Scene, describe_scene, title_of
from ganvas.app.session import Session
from ganvas.app.work_queue import WorkQueue
from ganvas.errors import GanvasError
from ganvas.io.images import to_bytes
from ganvas.recipe.files import save_picture

METHODS_AT_ONCE = 4
"""Faces of a gallery that appear together."""
TAB_OUTPUTS = ("wipe", "strip", "chart", "visited", "png", "json", "link", "command", "python")
"""What ``look`` gives values for: ``Wires.looked`` are the components."""
VIEWS, SIDES = ("picture", "wipe", "strip"), ("edit", "faces", "moved", "compare", "photo", "take")


class TabHandlers:
    """Handlers of the tabs; ``lessons`` is where methods are learned."""

    def __init__(self, hands: EditHandlers, methods: MethodEditors, lessons: WorkQueue) -> None:
        self.hands, self.methods, self.lessons = hands, methods, lessons

    def opened(self, tab: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A tab is opened, another of its row closed."""
        row = VIEWS if tab in VIEWS else SIDES

        async def select(desk: Session | None, request: gr.Request) -> Any:
            # A narrow page selects its tabs while it is still opening: what opens it brings them up to date.
            if not isinstance(desk, Session):
                return [gr.skip() for _ in TAB_OUTPUTS]
            desk.open = (desk.open - set(row)) | {tab}
            return await self.look(desk, request)

        return select

    @report_errors
    async def look(self, desk: Session | None, request: gr.Request) -> Any:
        """Values for ``TAB_OUTPUTS``; those of tabs that are open."""
        mine = self.hands.desk(desk)
        version, scene, shop = mine.version, mine.scene, self.hands.shop

        def stale() -> bool:
            return mine.version != version

        found: dict[str, Any] = {}
        if "wipe" in mine.open:
            both = await self.hands.ask(mine, lambda: rendering.render_pair(shop, scene), stale)
            # The component has no alternative text: its label says what both are.
            told = f"Before and after: {describe_scene(scene, self.hands.labels)}"
            found["wipe"] = gr.update(value=[component_values.image_value(data) for data in both], label=told)
        if "strip" in mine.open:
            found["strip"] = component_values.gallery_value(await self._strip(mine, scene, stale))
        if "moved" in mine.open:
            found["chart"] = await self._moved(mine, scene, stale)
        if "faces" in mine.open:
            visited = list(mine.visited)
            found["visited"] = component_values.gallery_value(
                [await self._thumb(mine, face, stale) for face in visited]
            )
            mine.shown_visited = visited
        if "take" in mine.open:
            found |= await self._take(mine, scene, stale, request)
        return [found.get(name, gr.skip()) for name in TAB_OUTPUTS]

    async def _moved(self, desk: Session, scene: Scene, stale: Callable[[], bool]) -> str:
        """The chart. Faces are compared beside the worker."""
        shop = self.hands.shop
        if not scene.editor:
            return "<p>What moved is told in an editor's σ.</p>"
        found, before, after = await self.hands.ask(
            desk,
            lambda: (rendering.measure_effect(shop, scene), shop.render(scene.plain).image, shop.render(scene).image),
            stale,
        )
        return charts.draw_chart(
            await self.hands.ask_beside(desk, lambda: rendering.add_identity(shop, found, before, after), stale)
        )

    async def _thumb(self, desk: Session, scene: Scene, stale: Callable[[], bool]) -> tuple[bytes, str]:
        return await self.hands.ask(desk, lambda: rendering.render_thumbnail(self.hands.shop, scene), stale), title_of(
            scene
        )

    async def _strip(self, desk: Session, scene: Scene, stale: Callable[[], bool]) -> list[tuple[bytes, str]]:
        shares = rendering.STRIP if scene.edits else ()
        return [((await self._thumb(desk, scene.at(share), stale))[0], f"{share:g} ×") for share in shares]

    async def _take(
        self, desk: Session, scene: Scene, stale: Callable[[], bool], request: gr.Request
    ) -> dict[str, Any]:
        shop, folder, version = self.hands.shop, self.hands.desks.files_of(desk) / "taken", desk.version
        recipe, done = await self.hands.ask(desk, lambda: (shop.recipe(scene), shop.render(scene)), stale)
        name = sharing.file_name(scene)
        # A name of its own each time: browsers keep what they fetched once.
        path = folder / f"{version}" / f"{name}.png"

        def write() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            save_picture(path, to_bytes(done.image)[0], recipe, scene.codes)

        await self.hands.ask_beside(desk, write, stale)
        editor = shop.paths.get(scene.editor, scene.editor)
        return {
            "png": component_values.file_value(path),
            "json": component_values.file_value(path.with_suffix(".json")),
            "link": _link(recipe, request),
            "command": sharing.command_of(recipe, editor, name),
            "python": sharing.python_of(recipe, editor, name),
        }

    # Faces to choose from.

    def gallery(
        self, faces: Callable[[Session, int, float], list[Scene]]
    ) -> Callable[[Any, Any, Session | None], AsyncIterator[Any]]:
        """A handler that fills the gallery, some at a time."""

        @report_errors
        async def fill(seed: Any, psi: Any, desk: Session | None) -> AsyncIterator[Any]:
            mine = self.hands.desk(desk)
            first = validation.check_integer("The first seed", 0 if seed is None else seed, 0, 2**32 - 1)
            within = validation.check_number("psi", psi, 0, MAX_PSI)
            mine.wanted = wanted = await self.hands.ask(mine, lambda: faces(mine, first, within))
            shown: list[tuple[bytes, str]] = []
            for i, face in enumerate(wanted):
                shown.append(await self._thumb(mine, face, lambda: mine.wanted is not wanted))
                if (i + 1) % METHODS_AT_ONCE == 0 or i + 1 == len(wanted):
                    # Not before: until then the page shows other faces, and they are what is chosen.
                    mine.faces = wanted
                    yield component_values.gallery_value(shown)

        return fill

    def of_seeds(self, desk: Session, first: int, psi: float) -> list[Scene]:
        """A page of seeds."""
        return rendering.render_seeds(desk.scene, first, psi, PAGE)

    def alike(self, desk: Session, first: int, psi: float) -> list[Scene]:
        """Faces like the one that is looked at."""
        return rendering.mix_similar(
            self.hands.shop, desk.scene, desk.version * PAGE, PAGE, self.hands.desks.files_of(desk)
        )

    def asked(self, desk: Session, first: int, psi: float) -> list[Scene]:
        """Faces as the sliders say."""
        return rendering.sample_at_sliders(desk.scene, first, FACES_SHOWN)

    @report_errors
    async def check_asked(self, desk: Session | None) -> Any:
        """The tab of the gallery, where the sliders ask for something."""
        rendering.sample_at_sliders(self.hands.desk(desk).scene, 0, 1)
        return gr.update(selected="faces")

    def chosen(self, visited: bool) -> Callable[..., Coroutine[Any, Any, Any]]:
        """A face of a gallery is looked at."""

        @report_errors
        async def choose(desk: Session | None, event: gr.SelectData) -> Any:
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

    @report_errors
    async def find(self, search: Any, desk: Session | None) -> Any:
        """The sliders that are searched for: visibility of groups, then of sliders."""
        mine = self.hands.desk(desk)
        mine.search = validation.check_text("The search", search)
        return self.visible(mine)

    def visible(self, desk: Session) -> list[Any]:
        """Groups, then sliders: those that the editor has and the search names."""
        found = self.hands.shop.choices.get(desk.scene.editor)
        known = found.sliders if found else ()
        groups = group_attributes(self.hands.names)
        shown = {g: [n for n in names if n in known and matches(n, g, desk.search)] for g, names in groups.items()}
        every = {name for names in shown.values() for name in names}
        return [
            *(_unfolded(bool(names), bool(desk.search)) for names in shown.values()),
            *(gr.update(visible=name in every) for name in self.hands.names),
        ]

    @report_errors
    async def arrange(self, desk: Session | None) -> Any:
        """After another editor was picked: groups, sliders, and the methods to compare."""
        mine = self.hands.desk(desk)
        names = self.methods.names(mine.scene.generator)
        return [*self.visible(mine), gr.update(choices=names, value=names[:3])]

    @report_errors
    async def compare(self, attribute: Any, change: Any, methods: Any, desk: Session | None) -> AsyncIterator[Any]:
        """Methods side by side, as they get ready."""
        mine = self.hands.desk(desk)
        scene, shop, names = mine.scene, self.hands.shop, validation.check_names("Methods", methods)
        by = validation.check_number("The change", change, -MOST_CHANGE, MOST_CHANGE)
        compare.check_comparison(shop, scene, validation.check_text("Attribute", attribute), by, names)
        mine.comparing = this = object()

        def stale() -> bool:
            return mine.comparing is not this

        try:
            shown = [
                (await self.hands.ask(mine, lambda: rendering.render_thumbnail(shop, scene.plain), stale), "as drawn")
            ]
            yield component_values.gallery_value(shown)
            for name in names:
                done = await self._compared(mine, scene, name, compare.ComparisonTarget(attribute, by), stale)
                if done.picture is None:
                    gr.Warning(escape(done.told, quote=False), title="Compare")
                    continue
                shown = [*shown, (done.picture, done.told)]
                yield component_values.gallery_value(shown)
        finally:
            # Whoever left waits for no more of it.
            if not stale():
                mine.comparing = None

    async def _compared(
        self, desk: Session, scene: Scene, name: str, asked: compare.Asked, stale: Callable[[], bool]
    ) -> compare.Compared:
        """One method. It learns and searches beside the worker, which draws one picture at a time for it."""
        shop = self.hands.shop

        def work() -> compare.MethodResult:
            def draw(run: Callable[[], Any]) -> Any:
                return self.hands.turns.ask(desk.name, run, stale).result()

            network = draw(lambda: shop.bench(scene).generator)
            editor = self.methods.learn(network, name, asked.attribute)
            return compare.compare(shop, scene, name, editor, asked, draw)

        try:
            return await asyncio.wrap_future(self.lessons.ask(desk.name, work, stale))
        except GanvasError as error:
            return compare.MethodResult(name, None, f"{name}: {error}")


def _unfolded(visible: bool, searched: bool) -> dict[str, Any]:
    """A group of sliders; unfolded where it has what is searched for."""
    return gr.update(visible=visible, open=True) if visible and searched else gr.update(visible=visible)


def _link(recipe: Any, request: gr.Request) -> str:
    """The page's own address with the recipe; or why there is none."""
    try:
        token = sharing.token_of(recipe)
    except GanvasError as error:
        return str(error)
    came = urlsplit(request.headers.get("referer") or "")
    host = came.netloc or request.headers.get("host") or "127.0.0.1"
    return urlunsplit((came.scheme or "http", host, came.path or "/", urlencode({sharing.QUERY: token}), ""))
