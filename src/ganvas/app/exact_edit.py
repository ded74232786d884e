"""Make an edit exact: refine it by its pictures, so that the editor's scorer reads nearer to what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import torch

from ganvas.app.attribute_words import format_attribute
from ganvas.app.edit_handlers import STATUS_OUTPUT, EditHandlers
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene
from ganvas.app.session import NothingFollows, Session, Superseded, report_errors
from ganvas.control.refinement import BINARY_ATTRIBUTES, DEFAULT_CORRECTIONS, RefinedChanges
from ganvas.data.label import EARLY_SIDE
from ganvas.errors import GanvasError
from ganvas.recipe.model import EditStep
from ganvas.recipe.refinement import choose_corrections, load_label_scorer, refine_step
from ganvas.recipe.rendering import compute_unedited_code, draw_code
from ganvas.types import Images, WPlus


class ExactEditHandlers:
    """The handlers that make an edit exact: asked, and unasked."""

    def __init__(self, edit_handlers: EditHandlers) -> None:
        self.edit_handlers, self.resources = edit_handlers, edit_handlers.resources

    @report_errors
    async def refine_edit(self, session: Session) -> list[Any]:
        """Refine the scene's edit, as one step. Returns values for ``view_outputs``, with what is read below the picture."""
        if is_inverting(session):
            raise GanvasError(
                "The photograph still comes nearer, and an edit is made exact for one face: wait, or press Stop."
            )
        return await self._refine(session)

    @report_errors
    async def refine_unasked(self, session: Session) -> list[Any]:
        """Refine an edit of what a face has or hasn't, such as glasses, once it rests; else nothing follows.

        At a change that draws glasses on most faces, some get none. Returns as ``refine_edit`` does.
        """
        step = session.scene.slider_edit
        is_due = (
            BINARY_ATTRIBUTES & {*step.set, *step.shift} and step.refined is None and session.scene.edits == (step,)
        )
        # A locked edit may not get stronger.
        if not is_due or session.person_locked or is_inverting(session):
            raise NothingFollows
        if session.rendered_version != session.version:
            raise NothingFollows
        choice, version = self.resources.require_choice(session.scene.editor), session.version
        try:
            corrections = await self.edit_handlers.run_in_background(
                session,
                lambda: choose_corrections(None, [step], choice.editor, refine_all=False),
                lambda: session.version != version,
            )
            if not corrections:
                raise NothingFollows
            shown = await self._refine(session)
        except Superseded:
            raise NothingFollows from None
        session.join_last_steps()
        return shown

    async def _refine(self, session: Session) -> list[Any]:
        """Refine the scene's edit, as a step of its own, and show it."""
        scene, version = session.scene, session.version

        def is_stale() -> bool:
            return session.version != version

        def run_with_generator(work: Callable[[], Any]) -> Any:
            return self.edit_handlers.generator_queue.submit(work, is_stale).result()

        step, found = await self.edit_handlers.run_in_background(
            session, lambda: refine_scene(self.resources, scene, run_with_generator), is_stale
        )
        if is_stale():
            raise Superseded
        session.commit()
        shown = await self.edit_handlers.show_scene(session, session.set_scene(replace(scene, edits=(step,))))
        shown[STATUS_OUTPUT] += f"<p class='gv-status' role='status'>{escape(self._format_found(scene, found))}</p>"
        return shown

    def _format_found(self, scene: Scene, found: RefinedChanges) -> str:
        """Format what was asked for and what is read, as the sliders show it."""
        parts = []
        for name, before in found.before.items():
            scale = self.resources.get_slider_scale(scene.editor, name)
            asked, read = (scale.format_value(before + change[name]) for change in (found.asked, found.measured))
            parts.append(f"{format_attribute(name)}: {asked} asked, {read} read")
        return " · ".join(parts)


def is_inverting(session: Session) -> bool:
    """Return whether the code of the photograph that is shown is being searched still."""
    inversion = session.inversion
    return inversion is not None and not inversion.cancelled and inversion.photo is session.scene.photo


def refine_scene(
    resources: AppResources, scene: Scene, run_with_generator: Callable[[Callable[[], Any]], Any]
) -> tuple[EditStep, RefinedChanges]:
    """Refine the only edit of a scene, by early pictures, beside the generator's thread.

    ``run_with_generator`` runs a function there, one picture at a time, so that other work comes between. Raises GanvasError
    where there is no edit or several, and where no scorer reads it.
    """
    steps = [*scene.edits]
    if not steps:
        raise GanvasError("Move a slider first: there is no edit that could be made exact.")
    if len(steps) > 1 or steps[0].amount != 1:
        raise GanvasError(
            "This picture has several edits, or a share of one, and a single whole one can be made exact: reset it, and move"
            " sliders."
        )
    step, choice = steps[0], resources.require_choice(scene.editor)
    scorer = load_label_scorer(choice.editor)
    unread = [format_attribute(name) for name in (*step.set, *step.shift) if name not in scorer.attributes]
    if unread:
        raise GanvasError(f"No scorer reads {', '.join(unread)}: take it back, and the rest can be made exact.")

    def prepare() -> tuple[Any, Any, WPlus]:
        tools = resources.make_tools(scene)
        recipe = scene.make_recipe(tools)
        return tools, recipe, compute_unedited_code(recipe, tools)

    tools, recipe, ws = run_with_generator(torch.no_grad()(prepare))
    early = min(EARLY_SIDE, tools.generator.resolution)

    def draw(edited: WPlus) -> Images:
        return run_with_generator(torch.no_grad()(lambda: draw_code(edited, recipe, tools, early)))

    return refine_step(steps, tools, draw, scorer.to(tools.generator.device), ws, DEFAULT_CORRECTIONS)
