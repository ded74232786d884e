"""Invert pictures to codes: by encoder, by optimisation, by both, or from samples with the same objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.codes import check_generator
from ganvas.data.distribution import Distribution
from ganvas.editors.base import Editor
from ganvas.editors.composed import ComposedEditor
from ganvas.errors import GanvasError, unknown
from ganvas.generators import has_faces, list_generators
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import Encoder, find_shipped_encoder, read_encoder
from ganvas.inversion.optimization import (
    OptimizationConfig,
    StepCallback,
    WhitenedCoordinates,
    optimize_code,
    refine_code,
)
from ganvas.inversion.perceptual_loss import SIDES, PerceptualLoss
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.images import downscale
from ganvas.progress import Progress
from ganvas.types import Images, WPlus

METHODS = ("encoder", "optimize", "both", "objects")
SPACES = ("w", "w+")
OBJECT_BATCH_SIZE = 64


@dataclass(frozen=True)
class Inversion:
    """The result of ``invert``, one row a picture."""

    ws: WPlus
    pictures: Images
    """The generator's pictures of the codes."""
    steps: tuple[int, ...]
    """Steps of optimisation for each picture; 0 by encoder alone."""
    planned_steps: tuple[int, ...] = ()
    """The ``OptimizationConfig.steps`` that give the same code again, for each picture; 0 by encoder alone."""


def load_encoder(generator: Generator) -> Encoder | None:
    """Load the encoder that ships for a generator; None where none does."""
    path = find_shipped_encoder(generator)
    if not path.exists():
        return None
    # A generator of that name with other weights (a toy in a test, a user's own) has no encoder.
    try:
        return read_encoder(path, generator)
    except GanvasError:
        return None


def invert(
    images: Images,
    generator: Generator,
    space: str = "w+",
    method: str = "both",
    config: OptimizationConfig | None = None,
    *,
    encoder: Encoder | None = None,
    distribution: Distribution | None = None,
    editor: Editor | None = None,
    start: WPlus | None = None,
    progress: Progress | None = None,
    on_step: StepCallback | None = None,
) -> Inversion:
    """Find codes whose pictures look like ``images`` (n, 3, side, side), which are aligned as the generator's are.

    ``space``: "w" (all rows equal) or "w+". ``method``: "encoder", "optimize" (from w_avg),
    "both" (from the encoder's code; "optimize" where the generator has no encoder) or "objects" (for pictures of digits and
    the like: from samples with the same objects in the same places, which an ``editor`` like "multimnist/composed" knows, in
    "w+" and with settings of its own: ``config``, ``encoder``, ``distribution`` and
    ``on_step`` aren't used).
    ``encoder``: by default the one that ships. ``distribution``: of W, fitted here if it is needed and not given.
    ``start``: the codes (n, num_ws, w_dim) that optimisation starts from, instead of the method's.
    ``progress`` is called with the steps done and the steps of all pictures. ``on_step`` is called after each step with the
    steps done and the most steps of one picture, its picture, and the best code so far; True stops that optimisation.
    Pictures are inverted one by one, so their number changes no bit of any code, except by "objects", whose progress is of
    pictures. Gradients flow through the generator in its own dtype.
    Raises GanvasError for another space or method, pictures that aren't square, and a missing encoder.
    """
    config = config or OptimizationConfig()
    _check(images, space, method)
    if start is not None and method in ("encoder", "objects"):
        raise GanvasError(f"start is where optimisation starts from, and the method {method!r} has none: leave it out.")
    if method == "objects":
        return invert_objects(images, check_composing(editor, generator, space), progress)
    if start is not None and start.shape != (len(images), generator.num_ws, generator.w_dim):
        shape = f"({len(images)}, {generator.num_ws}, {generator.w_dim})"
        raise GanvasError(f"start has shape {tuple(start.shape)}: {len(images)} pictures need {shape}.")
    encoder = None if method == "optimize" else encoder or load_encoder(generator)
    if method == "encoder" and encoder is None:
        raise GanvasError(f"No encoder ships for generator {generator.name!r}: use the method 'optimize'.")
    coordinates = None
    if method != "encoder":
        fitted = distribution or fit_w_distribution(generator)
        coordinates = WhitenedCoordinates.from_distribution(fitted, generator.device)
    job = _InversionJob(generator, space, method, config, encoder, coordinates)
    total = len(images) * (1 if method == "encoder" else config.steps)
    each = total // len(images)
    rows = []
    for i, image in enumerate(images.to(generator.device)):

        def report_step(step: int, steps: int, picture: Images, ws: WPlus, i: int = i) -> object:
            if progress:
                progress(i * each + step * each // steps, total)
            return on_step and on_step(step, steps, picture, ws)

        code = None if start is None else start[i : i + 1]
        rows.append(job.invert_picture(image[None], report_step, code))
        if progress:
            progress((i + 1) * each, total)
    codes, pictures, steps, planned_steps = zip(*rows, strict=True)
    return Inversion(torch.cat(codes), torch.cat(pictures), steps, planned_steps)


def check_composing(editor: Editor | None, generator: Generator, space: str = "w+") -> ComposedEditor:
    """Return the editor if it knows samples of the generator by their objects, as the method "objects" needs.

    Raises GanvasError for another editor, another generator's, and the space "w", where objects can't be moved one by one.
    """
    if not isinstance(editor, ComposedEditor):
        given = "none was given" if editor is None else f"this one is of the method {editor.method!r}"
        raise GanvasError(f"The method 'objects' needs an editor like 'multimnist/composed', and {given}.")
    check_generator("The editor", editor.generator_name, editor.generator, generator)
    if space != "w+":
        raise GanvasError(f"The method 'objects' finds codes of W+, not of {space!r}: leave the space out.")
    return editor


def invert_objects(images: Images, editor: ComposedEditor, progress: Progress | None = None) -> Inversion:
    """Invert pictures of objects by the samples that an editor knows."""
    ws = editor.invert(images, progress=progress or (lambda done, total: None))
    with torch.no_grad():
        pictures = torch.cat([editor.tools[0].synthesis(part) for part in ws.split(OBJECT_BATCH_SIZE)])
    return Inversion(ws, pictures, (0,) * len(ws), (0,) * len(ws))


@dataclass(frozen=True)
class _InversionJob:
    """The generator, encoder and settings that all pictures are inverted with."""

    generator: Generator
    space: str
    method: str
    config: OptimizationConfig
    encoder: Encoder | None
    coordinates: WhitenedCoordinates | None

    def invert_picture(
        self, image: Tensor, on_step: StepCallback, start: WPlus | None = None
    ) -> tuple[WPlus, Tensor, int, int]:
        """Invert one picture; return its code, the code's picture, the number of steps, and of those that were planned.

        ``start``: see ``invert``.
        """
        target = image.float() if image.shape[-1] <= SIDES[0] else downscale(image.float(), SIDES[0])
        encoder, config = self.encoder, self.config
        if start is None and encoder is not None:
            with torch.no_grad():
                encoded = encoder(target, self.space)
            refined, picture = refine_code(
                target, self.generator, lambda x: encoder(x, self.space), encoded, config.refine
            )
            if self.coordinates is None:
                return refined, picture, 0, 0
            start = refined
        if self.coordinates is None:
            raise GanvasError(f"Method {self.method!r} needs the distribution of W.")
        loss = make_loss(target, self.generator, encoder, config)
        start = self.generator.expand(self.generator.w_avg[None]) if start is None else start
        ws, steps, planned = optimize_code(loss, self.generator, start, self.space, self.coordinates, config, on_step)
        with torch.no_grad():
            return ws, self.generator.synthesis(ws), steps, planned


def make_loss(
    target: Images, generator: Generator, encoder: Encoder | None, config: OptimizationConfig
) -> PerceptualLoss:
    """Make the loss that pictures are fitted to ``target`` (1, 3, side, side) by, with identity for generators of faces."""
    # A generator from a file may draw anything: the descriptor is of faces.
    draws_faces = generator.name in list_generators() and has_faces(generator.name)
    weights = (config.pixels, config.features, config.seen, config.identity if draws_faces else 0)
    return PerceptualLoss(target, encoder, weights)


def _check(images: Images, space: str, method: str) -> None:
    if space not in SPACES:
        raise unknown("space", space, SPACES)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not len(images) or images.shape[-1] != images.shape[-2]:
        size = f"{images.shape[-1]}×{images.shape[-2]}"
        raise GanvasError(
            f"Inversion takes at least one square picture (align makes them), not {len(images)} of {size}."
        )
