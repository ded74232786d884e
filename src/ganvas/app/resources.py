"""The generator in memory, the editors, and caches of what was rendered last, shared by all visitors.

The generator's thread alone calls what touches a network.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ganvas import editors as shipped
from ganvas import generators, scorers
from ganvas.app.attribute_words import REPLACEMENTS
from ganvas.app.components import UNNAMED_COMPONENT, split_unnamed
from ganvas.app.photographs import FacePhoto
from ganvas.app.scene import AUTOMATIC_REGION, NO_REGION, PAINTED_REGION, Scene
from ganvas.app.slider_scale import SliderScale
from ganvas.checkpoints.load import load_generator
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.editors.base import Editor, LinearEditor, collect_metadata, fingerprint
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.generators.parts import Parts
from ganvas.generators.regions import Mask, find_edited_parts
from ganvas.identity import FaceEmbedder
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.photo.edit import PhotoEdit, limit_face_edit
from ganvas.recipe.model import NamedTool, Recipe, to_json
from ganvas.recipe.rendering import Tools, build_editor_reference, compute_code, compute_unedited_code, draw_code
from ganvas.scorers.base import Scorer
from ganvas.types import Dtype, Images, WPlus

T = TypeVar("T")
Reach = Mapping[str, tuple[float, float]]
"""Attribute -> how far it reaches down and up, in σ."""
MAX_CACHED_PICTURES = 8
"""Renderings that are cached, at full size."""
MAX_CACHED_THUMBNAILS = 512
"""Encoded thumbnails that are cached: some 3 MB."""
MAX_OWN_EDITORS = 64
"""Editors of visitors that are kept in memory."""
DRAFT_SIDE = 256
"""The side in pixels at which previews, and faces to compare, are drawn: smaller than for labels, since somebody waits."""
DISTRIBUTION_CODES = 4096
"""Codes that the distribution is fitted on, and as many that give its bound: fewer than an evaluation takes, since somebody
waits."""


@dataclass(frozen=True)
class ToolSources:
    """Where generators and scorers come from; tests have their own."""

    descriptions: Mapping[str, str]
    """One line for each generator, by name."""
    load_generator: Callable[[str, str], Generator]
    """Takes the generator's name and dtype."""
    load_scorer: Callable[[str], Scorer]
    """Takes the generator's name."""
    dtype: Dtype = "float32"
    """The dtype of a visitor's first picture; a recipe names its own."""


def discover_tools(dtype: str = "float32", device: str = "cpu") -> ToolSources:
    """Return the sources of all generators that ganvas has. Raises GanvasError for an unknown device or dtype."""
    target = generators.check_device(device)
    descriptions = {name: generators.find_card(name).about for name in generators.list_generators()}
    return ToolSources(
        descriptions,
        lambda name, dtype: load_generator(name, target, dtype),
        lambda name: scorers.load_scorer(generators.find_card(name).scorer).to(target),
        generators.choose_dtype(dtype, target),
    )


@dataclass(frozen=True)
class EditorChoice:
    """An editor that can be picked."""

    editor: Editor
    tool: NamedTool
    """Its name and fingerprint in recipes."""
    description: str
    is_own: bool = False
    """Whether a visitor made it, and others don't pick it."""
    base: str = ""
    """The name of the same editor without the unnamed components of Explore, where it has some: that one is picked."""

    @property
    def has_unnamed(self) -> bool:
        """Whether a visitor explored with it: it has components that have no name."""
        return self.is_own and bool(split_unnamed(self.editor)[1])

    @property
    def sliders(self) -> tuple[str, ...]:
        """The attributes with a slider: all but counts."""
        return tuple(name for name, kind in zip(self.editor.attributes, self.kinds, strict=True) if kind != "count")

    @property
    def shown_sliders(self) -> tuple[str, ...]:
        """The sliders without those that another one replaces, and without components that have no name."""
        return tuple(
            name
            for name in self.sliders
            if REPLACEMENTS.get(name) not in self.sliders and not UNNAMED_COMPONENT.fullmatch(name)
        )

    @property
    def counts(self) -> tuple[str, ...]:
        """The attributes that are counts."""
        return tuple(name for name in self.editor.attributes if name not in self.sliders)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its attributes; "value" for all where the editor doesn't say."""
        return self.editor.kinds or ("value",) * len(self.editor.attributes)


def load_choice(name: str) -> EditorChoice:
    """Load an editor by name or file. Raises GanvasError where there is none."""
    editor = shipped.load_editor(name)
    description = f"{len(editor.attributes)} controls"
    return EditorChoice(editor, NamedTool(build_editor_reference(name), fingerprint(editor)), description)


@dataclass(frozen=True)
class Rendering:
    """A picture with its code."""

    ws: WPlus
    image: Tensor
    """(1, 3, height, width)"""

    def resize(self, size: int) -> Tensor:
        """Return the picture at ``size`` pixels, or its own where that is less."""
        return downscale(self.image, min(size, self.image.shape[-1]))


class AppResources:
    """What all visitors share. ``files``: editors beside those that ship; ``sources``: where generators come from."""

    def __init__(self, sources: ToolSources, files: Sequence[str] = (), choices: Sequence[EditorChoice] = ()) -> None:
        """Load the editors. Raises GanvasError for one that is missing, and for two of one name."""
        self.sources = sources
        self.choices: dict[str, EditorChoice] = {}
        for choice in (*(load_choice(name) for name in (*shipped.list_editors(), *files)), *choices):
            if choice.tool.name in self.choices:
                raise GanvasError(f"Two editors are called {choice.tool.name!r}: give one of them another name.")
            self.choices[choice.tool.name] = choice
        self.editor_paths = {build_editor_reference(file): str(file) for file in files}
        self.own_paths: dict[str, Path] = {}
        """The files of visitors' editors by name, also of those that aren't in memory any more."""
        self._adding = threading.Lock()
        self._loaded: LoadedGenerator | None = None
        self._distributions: dict[str, Distribution] = {}
        self._row_resolutions: dict[str, tuple[int, ...]] = {}
        self._rendered: OrderedDict[str, Rendering] = OrderedDict()
        self._pasted: OrderedDict[str, Images] = OrderedDict()
        self._early: OrderedDict[str, Tensor] = OrderedDict()
        self._last_unedited: dict[int, dict[str, tuple[Images, Parts | None]]] = {}
        self._reaches: dict[str, Reach] = {}
        self._components: dict[tuple[str, str], LinearEditor] = {}
        self._thumbnails: OrderedDict[str, bytes] = OrderedDict()
        self._embedder: FaceEmbedder | None = None

    def find_editors(self, generator: str, own: Collection[str] = ()) -> dict[str, EditorChoice]:
        """Return the editors that were fitted for a generator, by name; of those that visitors made, only ``own``."""
        return {
            name: choice
            for name, choice in self.choices.items()
            if choice.editor.generator_name == generator and (not choice.is_own or name in own)
        }

    def add_own_editor(self, path: Path, name: str) -> str:
        """Add an editor that a visitor made, and return its name: ``name``, if that is a file's and no other editor has it.

        The oldest of too many is removed, until it is required. Any thread may call it.
        """
        return self._add_own(path, name).tool.name

    def _add_own(self, path: Path, name: str) -> EditorChoice:
        editor = shipped.load_editor(path)
        sha256 = fingerprint(editor)
        with self._adding:
            same = name not in self.choices or self.choices[name].tool.fingerprint == sha256
            if Path(name).name != name or not same or self.own_paths.get(name, path) != path:
                name = f"{sha256[:12]}.safetensors"
            inner, unnamed = split_unnamed(editor)
            base = self._find_by_fingerprint(fingerprint(inner)) if unnamed and inner is not None else ""
            choice = EditorChoice(editor, NamedTool(name, sha256), "with your slider", is_own=True, base=base)
            # Replaced as a whole: other threads may be listing the present ones.
            choices = {each: other for each, other in self.choices.items() if each != name} | {name: choice}
            own = [each for each, other in choices.items() if other.is_own]
            for each in own[:-MAX_OWN_EDITORS]:
                del choices[each]
            self.choices = choices
        self.editor_paths[name], self.own_paths[name] = name, path
        return choice

    def _find_by_fingerprint(self, sha256: str) -> str:
        """Return the name of the editor with this fingerprint; "" where it isn't in memory."""
        return next((name for name, choice in self.choices.items() if choice.tool.fingerprint == sha256), "")

    def require_choice(self, name: str) -> EditorChoice:
        """Return an editor that can be picked; a visitor's that was removed from memory is loaded again. Any thread may call it.

        Raises GanvasError for an unknown one, and for one whose file isn't stored any more.
        """
        if (choice := self.choices.get(name)) is not None:
            return choice
        path = self.own_paths.get(name)
        if path is None:
            raise unknown("editor", name, [each for each, choice in self.choices.items() if not choice.is_own])
        if not path.is_file():
            raise GanvasError(
                f"Editor {name!r} isn't stored here any more: it is for a day. Choose another step in the history, or pick"
                " another editor."
            )
        os.utime(path)
        return self._add_own(path, name)

    def get_default_editor(self, generator: str) -> str:
        """Return the name of the editor on the generator's card, else of one named after it, else of any, else ""."""
        names = list(self.find_editors(generator))
        if generator in generators.list_generators() and generators.find_card(generator).editor in names:
            return generators.find_card(generator).editor
        return next((name for name in names if name.startswith(f"{generator}/")), names[0] if names else "")

    def get_slider_scale(self, editor: str, name: str) -> SliderScale:
        """Return the scale of an attribute's slider for an editor by name, or for "", which is none."""
        choice = self.require_choice(editor) if editor else None
        return SliderScale(choice.editor if choice and name in choice.sliders else None, name)

    def check_names(self, generator: str, editor: str) -> None:
        """Raise GanvasError for a generator or editor that can't be picked."""
        if generator not in self.sources.descriptions:
            raise unknown("generator", generator, self.sources.descriptions)
        if editor and self.require_choice(editor).editor.generator_name != generator:
            names = list(self.find_editors(generator)) or [f"none: there is no editor for {generator!r}"]
            raise unknown("editor", editor, names)

    # Called by the generator's thread alone.

    def get_row_resolutions(self, scene: Scene) -> tuple[int, ...]:
        """Return at which resolutions the rows of a generator act; it is loaded only where it never was."""
        if scene.generator not in self._row_resolutions:
            self.load(scene)
        return self._row_resolutions[scene.generator]

    def load(self, scene: Scene) -> LoadedGenerator:
        """Return the scene's generator with its scorer and distribution, loaded where another is in memory."""
        key = (scene.generator, scene.dtype)
        if self._loaded is None or self._loaded.key != key:
            self.check_names(scene.generator, "")
            self._loaded = None  # before another is loaded: one at a time
            for cache in (self._rendered, self._pasted, self._early, self._last_unedited):
                cache.clear()
            network = self.sources.load_generator(*key)
            self._row_resolutions[scene.generator] = tuple(network.row_resolutions)
            # W is the same in any dtype, and takes a while to measure.
            if network.fingerprint not in self._distributions:
                self._distributions[network.fingerprint] = fit_distribution(
                    network, max(DISTRIBUTION_CODES, 2 * network.w_dim)
                )
            distribution = self._distributions[network.fingerprint]
            self._loaded = LoadedGenerator(key, network, self.sources.load_scorer(scene.generator), distribution)
        return self._loaded

    def fit_components(self, scene: Scene, method: str) -> LinearEditor:
        """Fit a method without labels for the scene's generator, once; its attributes are the method's name and a number.

        Raises GanvasError for a generator that the method can't learn from.
        """
        network = self.load(scene).generator
        key = (network.fingerprint, method)
        if key not in self._components:
            fitted = shipped.fit_unlabelled(method, network)
            names = tuple(f"{method}_{k}" for k in range(len(fitted.attributes)))
            metadata = replace(collect_metadata(fitted), attributes=names, report={})
            self._components[key] = LinearEditor(metadata, fitted.get_buffer("directions"))
        return self._components[key]

    def make_tools(self, scene: Scene) -> Tools:
        """Return the tools that render the scene's recipe. Raises GanvasError for another generator's editor."""
        network = self.load(scene).generator
        tools = Tools(network, scene.dtype, codes=scene.codes, mask=scene.mask)
        if not scene.editor:
            return tools
        self.check_names(scene.generator, scene.editor)
        choice = self.require_choice(scene.editor)
        if choice.editor.generator != network.fingerprint:
            raise GanvasError(
                f"Editor {scene.editor!r} was fitted for other weights of {scene.generator!r} than these: pick another."
            )
        choice.editor.to(network.device)
        return replace(tools, editor=choice.editor, editor_name=choice.tool)

    def make_recipe(self, scene: Scene) -> Recipe:
        """Return the recipe of a scene."""
        return scene.make_recipe(self.make_tools(scene))

    def compute_start(self, scene: Scene) -> WPlus:
        """Compute the code of a scene before all edits, (1, num_ws, w_dim)."""
        return compute_unedited_code(self.make_recipe(scene), self.make_tools(scene))

    @torch.no_grad()
    def render(self, scene: Scene) -> Rendering:
        """Render a scene, exactly as its recipe does. The last pictures are cached."""
        tools = self.make_tools(scene)
        recipe = scene.make_recipe(tools)

        def make() -> Rendering:
            ws = compute_code(recipe, tools)
            return Rendering(ws, draw_code(ws, recipe, self._keep_unedited(tools, tools.generator.resolution)))

        return _get_or_make(self._rendered, MAX_CACHED_PICTURES, recipe, make)

    @torch.no_grad()
    def render_early(self, scene: Scene, size: int) -> Tensor:
        """Render the generator's picture of a scene early, at ``size`` pixels or the next size above it; cached.

        Generators that draw at one size alone draw that.
        """
        tools = self.make_tools(scene)
        recipe, early = scene.make_recipe(tools), find_early_side(tools.generator, size)
        if early == tools.generator.resolution:
            return self.render(scene).image
        tools = self._keep_unedited(tools, early)
        return _get_or_make(
            self._early,
            MAX_CACHED_PICTURES,
            recipe,
            lambda: draw_code(compute_code(recipe, tools), recipe, tools, early),
            early,
        )

    def _keep_unedited(self, tools: Tools, side: int) -> Tools:
        """Return tools that keep one unedited picture of a side, in which the edits of a region are blended."""
        return replace(tools, last_unedited=self._last_unedited.setdefault(side, {}))

    def render_small(self, scene: Scene, size: int) -> Tensor:
        """Render the generator's picture at ``size`` pixels (or its own, where that is less): early, unless it was in full."""
        if json.dumps(to_json(self.make_recipe(scene))) in self._rendered:
            return self.render(scene).resize(size)
        picture = self.render_early(scene, size)
        return downscale(picture, min(size, picture.shape[-1]))

    @torch.no_grad()
    def render_shown(self, scene: Scene) -> Images:
        """Render what the page shows of a scene: its photograph with the edited face, or the generator's picture."""
        if scene.photo is None:
            return self.render(scene).image
        make = partial(self._paste_face, scene, scene.photo)
        return _get_or_make(self._pasted, MAX_CACHED_PICTURES, self.make_recipe(scene), make)

    def is_shown_cached(self, scene: Scene) -> bool:
        """Return whether ``render_shown`` takes no time."""
        cache = self._rendered if scene.photo is None else self._pasted
        return json.dumps(to_json(self.make_recipe(scene))) in cache

    @torch.no_grad()
    def render_preview(self, scene: Scene) -> Images:
        """Render the same early and smaller."""
        if scene.photo is None:
            return self.render_early(scene, DRAFT_SIDE)
        make = partial(self._paste_face, scene, scene.photo.small, DRAFT_SIDE)
        return _get_or_make(self._pasted, MAX_CACHED_PICTURES, self.make_recipe(scene), make, DRAFT_SIDE)

    def _paste_face(self, scene: Scene, photo: FacePhoto, size: int | None = None) -> Images:
        if not scene.edits:
            return photo.shown
        return photo.paste(*self.draw_face_edit(scene, size or math.ceil(photo.shown_side)))

    def draw_face_edit(self, scene: Scene, size: int | None = None) -> tuple[Images, Images, Mask, Tensor | None]:
        """Draw the generator's pictures of a photograph's face before and after its edits, at ``size`` early.

        Returns these, and the masks of what edits may change: of the face's square, and of the photograph where it is painted.
        """
        if scene.photo is None:
            raise GanvasError("This picture isn't of a photograph.")
        free = replace(scene, region=NO_REGION)
        before, after = (
            (self.render(each).image if size is None else self.render_early(each, size)).float().cpu()
            for each in (free.unedited, free)
        )
        tools, regions = self.make_tools(scene), scene.find_named_regions()
        if not regions:
            region = AUTOMATIC_REGION if scene.region == AUTOMATIC_REGION else NO_REGION
            regions = PhotoEdit(tools, scene.edits, region=region).find_regions()
        codes = (compute_code(self.make_recipe(each), tools) for each in (free.unedited, free))
        parts = find_edited_parts(tools.generator, regions, *codes)
        limit = scene.mask.mask if scene.region == PAINTED_REGION and scene.mask else None
        return before, *limit_face_edit(scene.photo.face, before, after, regions, parts), limit

    def cache_reach(self, scene: Scene, make: Callable[[], Reach]) -> Reach:
        """Return how far an unedited scene's attributes reach, computed where it isn't cached."""
        key = f"{scene.editor} {json.dumps(to_json(self.make_recipe(scene)))}"
        if key not in self._reaches:
            self._reaches = {key: make()} | dict(list(self._reaches.items())[: MAX_CACHED_PICTURES - 1])
        return self._reaches[key]

    def cache_thumbnail(self, scene: Scene, make: Callable[[], bytes]) -> bytes:
        """Return the scene's thumbnail, made where it isn't cached."""
        return _get_or_make(self._thumbnails, MAX_CACHED_THUMBNAILS, self.make_recipe(scene), make)

    @torch.no_grad()
    def score(self, scene: Scene) -> Tensor:
        """Score the picture of a scene, (1, attributes)."""
        return self.load(scene).scorer(self.render(scene).resize(LABEL_SIDE))

    def embed_face(self, image: Images) -> Tensor | None:
        """Return the face's embedding, (1, 128), NaN where no face is detected; None where dlib isn't installed.

        It needs no generator, so one other thread than the generator's may call it.
        """
        if self._embedder is None:
            try:
                self._embedder = FaceEmbedder()
            except GanvasError:
                return None
        return self._embedder(image)


def find_early_side(generator: Generator, size: int) -> int:
    """Find the side, in pixels, at which pictures of ``size`` are drawn early: that or the next above it."""
    early = generator.resolution
    while early % 2 == 0 and early // 2 >= size:
        early //= 2
    return early


def _get_or_make(
    cache: OrderedDict[str, T], size: int, recipe: Recipe, make: Callable[[], T], resolution: int | None = None
) -> T:
    """Return a recipe's value, at a resolution, from a cache of the last ``size``."""
    key = json.dumps(to_json(recipe)) + (f" {resolution}" if resolution else "")
    if key not in cache:
        cache[key] = make()
        while len(cache) > size:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator, its scorer, and the distribution of its codes."""

    key: tuple[str, str]
    generator: Generator
    scorer: Scorer
    distribution: Distribution
