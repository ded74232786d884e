"""One visitor's session: the scene that is shown, its history, and which request is the newest.

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
"""Faces in the gallery of visited ones."""


class Session:
    """A visitor's session, which starts at a scene."""

    def __init__(self, scene: Scene) -> None:
        self.key = secrets.token_hex(8)
        """Names the session in work queues and folders: not the browser's session hash, which gives access to it."""
        self.scene = scene
        self.version = 0
        """Grows with every request: older ones are stale."""
        self.rendered_version = -1
        """The version that was last shown in full."""
        self.search = ""
        self.counted_attribute = ""
        """The attribute that the buttons for plus and minus one change."""
        self.open_tabs: set[str] = set()
        """The tabs whose contents are kept up to date."""
        self.gallery_faces: list[Scene] = []
        """The faces in the gallery."""
        self.pending_faces: list[Scene] = []
        """The faces that the gallery is being filled with."""
        self.visited_faces: list[Scene] = [scene.unedited]
        self.shown_visited_faces: list[Scene] = []
        """The faces in the gallery of visited ones, which may lag behind ``visited_faces``."""
        self.comparison: object = None
        """The newest comparison of methods; others are stale."""
        self.uploading = False
        """Whether a photograph is being inverted: one at a time."""
        self._past: list[Scene] = []
        self._future: list[Scene] = []
        self._committed = scene

    def start_request(self) -> Callable[[], bool]:
        """Make all earlier requests stale. Returns a function that says whether this one has become stale."""
        self.version += 1
        version = self.version
        return lambda: self.version != version

    def set_scene(self, scene: Scene) -> Callable[[], bool]:
        """Replace the scene, as a request. It can be undone once it is committed, so that a moving slider makes one step."""
        self.scene = scene
        return self.start_request()

    def commit(self) -> None:
        """Make the current scene a step that can be undone, unless it is the last one."""
        if self.scene == self._committed:
            return
        self._past = [*self._past, self._committed][-MAX_HISTORY:]
        self._future = []
        self._committed = self.scene
        face = self.scene.unedited
        if face not in self.visited_faces:
            self.visited_faces = [face, *self.visited_faces][:MAX_VISITED]

    def restore(self) -> None:
        """Return to the scene that was committed last, as when the current one can't be drawn."""
        self.set_scene(self._committed)

    def undo(self) -> Callable[[], bool]:
        """Go one step back. Raises GanvasError where there is none."""
        self.commit()
        if not self._past:
            raise GanvasError("There is nothing to undo.")
        self._future.append(self._committed)
        return self._move_to(self._past.pop())

    def redo(self) -> Callable[[], bool]:
        """Go one step forward again. Raises GanvasError where there is none."""
        self.commit()
        if not self._future:
            raise GanvasError("There is nothing to redo.")
        self._past.append(self._committed)
        return self._move_to(self._future.pop())

    @property
    def can_undo(self) -> bool:
        """Whether there is a step back."""
        return bool(self._past) or self.scene != self._committed

    @property
    def can_redo(self) -> bool:
        """Whether there is a step forward."""
        return bool(self._future) and self.scene == self._committed

    def _move_to(self, scene: Scene) -> Callable[[], bool]:
        self._committed = scene
        return self.set_scene(scene)
