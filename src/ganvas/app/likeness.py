"""Likeness in words: how alike two pictures of a face are, and the strength within which an edit keeps the person."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

from torch import Tensor

from ganvas.app.resources import DRAFT_SIDE, AppResources
from ganvas.app.scene import Scene
from ganvas.identity import SAME_PERSON_DISTANCE, compute_distance, read_strangers
from ganvas.types import Images

SHOWN_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99)
"""The shares of strangers than whom a face is said to be nearer."""
ALIKE_DISTANCE = 0.665
"""The distance up to which another person still looks alike."""
KEPT_DISTANCE = 0.9 * SAME_PERSON_DISTANCE
"""The distance up to which the lock lets an edit go: it compares smaller pictures than the one that is shown."""
MAX_LIMITED_SHARE = 0.999
"""The largest share of an edit that has to be changed."""
LOCK_STEPS = 5
"""Steps of the bisection of a locked edit's strength."""


def format_likeness(distance: float | None) -> str:
    """Format how alike two faces are, by dlib's distance; "" where there aren't two faces (None and NaN)."""
    if distance is None or math.isnan(distance):
        return ""
    kind = "Same person" if distance < SAME_PERSON_DISTANCE else "Somebody else"
    if SAME_PERSON_DISTANCE <= distance < ALIKE_DISTANCE:
        kind = "Somebody like that"
    farther = float((read_strangers("dlib") > distance).float().mean())
    shares = [share for share in SHOWN_SHARES if share <= farther]
    return f"{kind}, nearer than {100 * shares[-1]:g} % of strangers" if shares else kind


def limit_share(measure_distance: Callable[[float], float | None]) -> float:
    """Return the largest share of an edit that keeps the person, from 0 to 1, by bisection.

    ``measure_distance`` takes a share and returns dlib's distance, or None where no face is found, which is no limit.
    """
    if _keeps_person(measure_distance(1.0)):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(LOCK_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _keeps_person(measure_distance(middle)) else (low, middle)
    return low


def _keeps_person(distance: float | None) -> bool:
    return distance is None or math.isnan(distance) or distance <= KEPT_DISTANCE


class LikenessMeter:
    """Measures how alike a scene's face stays to the unedited one, in any thread: ``run_with_generator`` runs what draws."""

    def __init__(
        self, resources: AppResources, scene: Scene, run_with_generator: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self.resources, self.scene, self.run_with_generator = resources, scene, run_with_generator
        self._start: Tensor | None = None

    def measure_distance(self, scene: Scene) -> float | None:
        """Return dlib's distance of a scene's face to the unedited one; None without dlib, NaN without two faces."""
        if self._start is None:
            self._start = self._embed(self.scene.unedited)
        if self._start is None or (edited := self._embed(scene)) is None:
            return None
        return float(compute_distance(self._start, edited))

    def limit_share(self) -> float:
        """Return the largest share of the scene's edit that keeps the person; less than 1 where one that was refined doesn't."""
        plain = self.scene.without_refinement()
        is_refined = plain != self.scene
        if is_refined and _keeps_person(self.measure_distance(self.scene)):
            return 1.0
        # A share of changes that were refined for the whole edit isn't exact any more.
        share = limit_share(lambda share: self.measure_distance(plain.with_amount(share)))
        return min(share, MAX_LIMITED_SHARE) if is_refined else share

    def limit_scene(self, share: float) -> Scene:
        """Return the scene with its sliders at a share of their way from the unedited face. In the generator's thread."""
        scene, editor = self.scene, self.resources.require_choice(self.scene.editor).editor
        starts = dict(zip(editor.attributes, editor.read(self.resources.compute_start(scene))[0].tolist(), strict=True))
        for name, value in scene.slider_edit.set.items():
            scene = scene.with_value(name, starts[name] + share * (value - starts[name]))
        return scene

    def _embed(self, scene: Scene) -> Tensor | None:
        return self.resources.embed_face(self.run_with_generator(lambda: self._draw_face(scene)))

    def _draw_face(self, scene: Scene) -> Images:
        if scene.photo is None:
            return self.resources.render_small(scene, DRAFT_SIDE)
        return scene.photo.small.cut_shown(self.resources.render_preview(scene), DRAFT_SIDE)


def draw_likeness(text: str) -> str:
    """Draw the words beside the picture, as HTML; they are announced when they change."""
    escaped = escape(text).replace(" %", "&nbsp;%")
    return f"<p class='gv-likeness' data-same='{text.startswith('Same')}' role='status'>{escaped}</p>"
