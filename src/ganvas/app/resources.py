"""What pictures are made with: one generator in memory for all visitors, the editors, and what was rendered last.

Everything here that touches a network is called by the worker of ``work_queue`` alone.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ganvas import editors as shipped
from ganvas import generators, scorers
from ganvas.app.scene import Scene
from ganvas.checkpoints.load import load_generator
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.editors.base import Editor, fingerprint
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.identity import FaceEmbedder
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.recipe.json_format import to_json
from ganvas.recipe.model import NamedTool, Recipe
from ganvas.recipe.rendering import Tools, compute_code, editor_reference
from ganvas.scorers.base import Scorer
from ganvas.types import Images, WPlus

T = TypeVar("T")
MAX_CACHED_PICTURES = 8
"""Renderings that are remembered, at full size: a preview's picture is the full picture's."""
MAX_CACHED_THUMBNAILS = 512
"""Small pictures that are remembered: some 3 MB."""
MAX_CACHED_CODES = 4096
"""Codes that W is measured on, and as many that give its bound: fewer than a benchmark takes, since somebody waits."""


@dataclass(frozen=True)
class ToolSources:
    """Where generators and scorers come from; tests have their own."""

    abouts: Mapping[str, str]
    """A line about each generator."""
    load: Callable[[str, str], Generator]
    """By name and dtype."""
    judge: Callable[[str], Scorer]
    """The scorer of a generator's card."""
    dtype: str = "float32"
    """What a visitor's first picture is drawn in; a recipe names its own."""


def discover_tools(dtype: str = "float32", device: str = "cpu") -> ToolSources:
    """All generators that ganvas knows. Raises GanvasError for a device or dtype that isn't there."""
    if dtype not in ("float32", "bfloat16"):
        raise unknown("dtype", dtype, ("float32", "bfloat16"))
    place = generators.check_device(device)
    abouts = {name: generators.find_card(name).about for name in generators.list_generators()}
    return ToolSources(
        abouts,
        lambda name, dtype: load_generator(name, place, getattr(torch, dtype)),
        lambda name: scorers.load_scorer(generators.find_card(name).scorer).to(place),
        dtype,
    )


@dataclass(frozen=True)
class EditorChoice:
    """An editor that can be picked."""

    editor: Editor
    named: NamedTool
    """What recipes call it."""
    about: str

    @property
    def sliders(self) -> tuple[str, ...]:
        """The attributes that are no counts."""
        return tuple(name for name, kind in zip(self.editor.attributes, self.kinds, strict=True) if kind != "count")

    @property
    def counts(self) -> tuple[str, ...]:
        """What can be counted."""
        return tuple(name for name in self.editor.attributes if name not in self.sliders)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of its attributes; those of an editor that doesn't say are no counts."""
        return self.editor.kinds or ("value",) * len(self.editor.attributes)


def choose_editor(name: str) -> EditorChoice:
    """An editor by name or file. Raises GanvasError where there is none."""
    editor = shipped.load_editor(name)
    about = f"{editor.method}, {len(editor.attributes)} attributes, for {editor.generator_name}"
    return EditorChoice(editor, NamedTool(editor_reference(name), fingerprint(editor)), about)


@dataclass(frozen=True)
class Rendering:
    """A picture with its code."""

    ws: WPlus
    image: Tensor
    """(1, 3, height, width)"""

    def at(self, size: int) -> Tensor:
        """The picture at ``size`` pixels, or its own where that is less."""
        return downscale(self.image, min(size, self.image.shape[-1]))


class AppResources:
    """``io.files``: editors beside those that ship. ``place``: where generators come from."""

    def __init__(self, place: ToolSources, files: Sequence[str] = (), choices: Sequence[EditorChoice] = ()) -> None:
        """Raises GanvasError for an editor that isn't there, or two of one name."""
        self.place = place
        self.choices: dict[str, EditorChoice] = {}
        for found in (*(choose_editor(name) for name in (*shipped.editor_names(), *files)), *choices):
            if found.named.name in self.choices:
                raise GanvasError(f"Two editors are called {found.named.name!r}: give one of them another name.")
            self.choices[found.named.name] = found
        self.paths = {editor_reference(file): str(file) for file in files}
        self._bench: _Bench | None = None
        self._within: dict[str, Distribution] = {}
        self._rendered: OrderedDict[str, Rendering] = OrderedDict()
        self._thumbs: OrderedDict[str, bytes] = OrderedDict()
        self._embedder: FaceEmbedder | None = None

    def editors_of(self, generator: str) -> dict[str, EditorChoice]:
        """The editors that are made for a generator, by name."""
        return {name: found for name, found in self.choices.items() if found.editor.generator_name == generator}

    def default_editor(self, generator: str) -> str:
        """The one of its card where that is among them, else the first, else ""."""
        names = list(self.editors_of(generator))
        return next((name for name in names if name.startswith(f"{generator}/")), names[0] if names else "")

    def attributes(self) -> list[str]:
        """All that any editor has a slider for."""
        return list(dict.fromkeys(name for found in self.choices.values() for name in found.sliders))

    def check(self, generator: str, editor: str) -> None:
        """Raises GanvasError for a generator or editor that can't be picked."""
        if generator not in self.place.abouts:
            raise unknown("generator", generator, self.place.abouts)
        if editor and editor not in self.editors_of(generator):
            names = list(self.editors_of(generator)) or [f"none: no editor for {generator!r} is here"]
            raise unknown("editor", editor, names)

    # What follows is the worker's.

    def bench(self, scene: Scene) -> _Bench:
        """The scene's generator with what belongs to it, loaded where it isn't the one in memory."""
        wanted = (scene.generator, scene.dtype)
        if self._bench is None or self._bench.key != wanted:
            self.check(scene.generator, "")
            self._bench = None  # before another is loaded: one at a time
            self._rendered.clear()
            network = self.place.load(*wanted)
            # W is the same in any dtype, and takes a while to measure.
            if network.fingerprint not in self._within:
                self._within[network.fingerprint] = fit_distribution(network, max(MAX_CACHED_CODES, 2 * network.w_dim))
            within = self._within[network.fingerprint]
            self._bench = _Bench(wanted, network, self.place.judge(scene.generator), within)
        return self._bench

    def tools(self, scene: Scene) -> Tools:
        """What the scene's recipe is rendered with. Raises GanvasError for an editor of another generator."""
        network = self.bench(scene).generator
        tools = Tools(network, scene.dtype, codes=scene.codes)
        if not scene.editor:
            return tools
        self.check(scene.generator, scene.editor)
        found = self.choices[scene.editor]
        if found.editor.generator != network.fingerprint:
            raise GanvasError(f"Editor {scene.editor!r} is for another {scene.generator!r} than the one that is here.")
        found.editor.to(network.device)
        return Tools(network, tools.dtype, found.editor, found.named, scene.codes)

    def recipe(self, scene: Scene) -> Recipe:
        """The recipe of a scene."""
        return scene.recipe(self.tools(scene))

    @torch.no_grad()
    def render(self, scene: Scene) -> Rendering:
        """The picture of a scene: exactly its recipe's. The last few are remembered."""
        tools = self.tools(scene)
        recipe = scene.recipe(tools)

        def make() -> Rendering:
            ws = compute_code(recipe, tools)
            return Rendering(ws, tools.generator.synthesis(ws))

        return _remembered(self._rendered, MAX_CACHED_PICTURES, recipe, make)

    def thumb(self, scene: Scene, make: Callable[[], bytes]) -> bytes:
        """A small picture of a scene, made where it isn't remembered."""
        return _remembered(self._thumbs, MAX_CACHED_THUMBNAILS, self.recipe(scene), make)

    @torch.no_grad()
    def scores(self, scene: Scene) -> Tensor:
        """What the generator's scorer reads off the picture, (1, attributes)."""
        return self.scorer(scene)(self.render(scene).at(LABEL_SIDE))

    def scorer(self, scene: Scene) -> Scorer:
        """The scorer of the scene's generator."""
        return self.bench(scene).scorer

    def faces(self, image: Images) -> Tensor | None:
        """The embedding of the face, (1, 128), nan where none is found; None where dlib isn't installed.

        It needs no generator, so another thread than the worker may call it, but only one.
        """
        if self._embedder is None:
            try:
                self._embedder = FaceEmbedder()
            except GanvasError:
                return None
        return self._embedder(image)


def _remembered(kept: OrderedDict[str, T], most: int, recipe: Recipe, make: Callable[[], T]) -> T:
    """The value for a recipe among the last ``most``."""
    key = json.dumps(to_json(recipe))
    if key not in kept:
        kept[key] = make()
        while len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


@dataclass(frozen=True)
class _Bench:
    """A generator, its scorer, and where its codes lie."""

    key: tuple[str, str]
    generator: Generator
    scorer: Scorer
    within: Distribution
