"""One visitor's place: what they look at, where they have been, and which of their requests is the newest.

Handlers run in one event loop, so nothing here is locked.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from ganvas.app.scene import Scene
from ganvas.errors import GanvasError

MAX_HISTORY = 200
"""Steps that can be undone."""
MAX_VISITED = 24
"""Faces that one can go back to."""


class Session:
    """Starts at a scene."""

    def __init__(self, scene: Scene) -> None:
        self.name = secrets.token_hex(8)
        """For turns: not the session's own name, which others could guess no less but might use."""
        self.scene = scene
        self.version = 0
        """Grows with every request: older ones are stale."""
        self.settled = -1
        """The version that was last shown in full."""
        self.search = ""
        self.counted = ""
        """What plus and minus count."""
        self.open: set[str] = set()
        """The tabs whose contents are kept up to date."""
        self.faces: list[Scene] = []
        """What the gallery shows."""
        self.wanted: list[Scene] = []
        """What it is being filled with."""
        self.visited: list[Scene] = [scene.plain]
        self.shown_visited: list[Scene] = []
        """What the gallery of visited faces shows."""
        self.comparing: object = None
        """The newest comparison of methods; others are stale."""
        self.uploading = False
        """Whether a photograph is being looked at: one at a time."""
        self._past: list[Scene] = []
        self._future: list[Scene] = []
        self._kept = scene

    def touch(self) -> Callable[[], bool]:
        """A new request: all before it are stale. Returns what says whether this one is."""
        self.version += 1
        mine = self.version
        return lambda: self.version != mine

    def look(self, scene: Scene) -> Callable[[], bool]:
        """Look at a scene, as a request: a slider on its way leaves no step to undo before ``keep`` is called."""
        self.scene = scene
        return self.touch()

    def keep(self) -> None:
        """What is looked at becomes a step that can be undone, unless it's the one before."""
        if self.scene == self._kept:
            return
        self._past = [*self._past, self._kept][-MAX_HISTORY:]
        self._future = []
        self._kept = self.scene
        face = self.scene.plain
        if face not in self.visited:
            self.visited = [face, *self.visited][:MAX_VISITED]

    def back(self) -> None:
        """Look again at what was shown last: what is looked at can't be drawn."""
        self.look(self._kept)

    def undo(self) -> Callable[[], bool]:
        """One step back. Raises GanvasError where there is none."""
        self.keep()
        if not self._past:
            raise GanvasError("There is nothing to undo.")
        self._future.append(self._kept)
        return self._jump(self._past.pop())

    def redo(self) -> Callable[[], bool]:
        """One step forward again. Raises GanvasError where there is none."""
        self.keep()
        if not self._future:
            raise GanvasError("There is nothing to redo.")
        self._past.append(self._kept)
        return self._jump(self._future.pop())

    @property
    def can_undo(self) -> bool:
        """Whether there is a step back."""
        return bool(self._past) or self.scene != self._kept

    @property
    def can_redo(self) -> bool:
        """Whether there is a step forward."""
        return bool(self._future) and self.scene == self._kept

    def _jump(self, scene: Scene) -> Callable[[], bool]:
        self._kept = scene
        return self.look(scene)
