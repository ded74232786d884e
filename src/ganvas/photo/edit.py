"""Edit faces in photographs and put them back: find their codes, edit these, and paste what changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ganvas.control.refinement import check_corrections
from ganvas.data.distribution import Distribution
from ganvas.data.label import EARLY_SIDE
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.generators.regions import (
    EditedParts,
    Mask,
    Region,
    blend_edit,
    build_edit_mask,
    draw_for_regions,
    find_regions,
    pair_parts,
)
from ganvas.identity import format_distance, load_judge
from ganvas.inversion.alignment import Face, align, estimate_yaw, measure_face_width
from ganvas.inversion.encoder import Encoder
from ganvas.inversion.optimization import StepCallback
from ganvas.inversion.pipeline import invert, load_encoder, make_loss
from ganvas.inversion.quality import fit_w_distribution
from ganvas.inversion.tuning import Tuning, TuningConfig, fit_tuning, list_tuned_weights, save_tuning
from ganvas.io.files import atomic_write
from ganvas.io.images import JPEG_SUFFIXES, read_exif, read_picture, to_bytes
from ganvas.photo.batch import REPORTED_ERRORS, ErrorReporter, InversionConfig, format_error
from ganvas.photo.file_names import FileNames
from ganvas.photo.paste import draw_face, paste_face
from ganvas.photo.recipe import (
    TUNING_SUFFIX,
    PhotoRecipe,
    encode_photo,
    hash_picture,
    is_recipe_too_long,
    pack_rows,
)
from ganvas.progress import Progress
from ganvas.recipe.model import EditStep
from ganvas.recipe.refinement import format_refined, load_label_scorer, refine_step
from ganvas.recipe.rendering import EditMask, Photo, Tools, apply_edits
from ganvas.scorers.base import Scorer
from ganvas.types import Images, WPlus

SUFFIXES = (".png", *JPEG_SUFFIXES)
MIN_FACE_PIXELS = 64
"""The least width of a face, from jaw to jaw."""
NEAR_DISTANCE = 0.3
"""dlib's distance beyond which a line says that tuning brings a face nearer to the photograph."""
MAX_YAW_DEGREES = 40.0
"""Faces that are turned further to the side aren't edited: generators drew few of them."""
HEAD = Region((0.5, 0.52, 0.43, 0.46), softness=0.3)
"""Where a whole face is pasted, and edits that change the whole picture."""


@dataclass(frozen=True)
class RebuiltFace:
    """A face of a photograph, by its number from left to right, as the generator draws it."""

    number: int
    ws: WPlus
    tuning: Tuning | None = None
    steps: int = 0
    """The steps of optimisation that give the same code again."""
    edits: tuple[EditStep, ...] | None = None
    """The edit with its changes refined for this face; None: as all faces are edited."""
    readings: str = ""
    """What was asked for and what was read, where the edit was refined."""
    distance: float = math.nan
    """dlib's distance between the face and the generator's picture of it, where it was measured."""

    def apply_tuning(self, generator: Generator) -> Generator:
        """Return the generator that draws this face: a copy with its tuning, where there is one."""
        return generator if self.tuning is None else self.tuning.apply(generator)


@dataclass(frozen=True)
class EditedPhoto:
    """An edited photograph, a line that says which faces were edited, and these faces."""

    picture: Images
    note: str
    faces: tuple[RebuiltFace, ...]


def _format_steps(faces: Sequence[RebuiltFace]) -> str:
    """Format the steps that give the same codes without a budget of time, "" where nothing was optimised."""
    steps = [(face.number, face.steps) for face in faces if face.steps]
    if len(steps) < 2:
        return "".join(f"; --steps {count} gives the same" for _, count in steps)
    return "; " + ", ".join(f"face {number}: --steps {count}" for number, count in steps) + " give the same"


def order_faces(faces: Sequence[Face]) -> list[Face]:
    """Order faces from left to right."""
    return sorted(faces, key=lambda face: float(face.quad[:, 0].mean()))


@dataclass(frozen=True)
class PhotoEdit:
    """An edit of photographs: the tools and settings, and which faces and pixels it may change."""

    tools: Tools
    edits: tuple[EditStep, ...] = ()
    settings: InversionConfig = field(default_factory=InversionConfig)
    face: int | Literal["all"] | None = None
    """A number, counted from left to right from 1; None: the largest."""
    whole: bool = False
    """Paste the generated face, not only what the edit changed."""
    region: str | Path = "auto"
    """Where the photograph may change: "auto" (where the attributes show), "off" (the head), or a picture of the photograph's
    shape that is white there."""
    tuning: TuningConfig = field(default_factory=TuningConfig)
    """How the generator's weights are fitted to each face; by default they aren't."""
    corrections: int = 0
    """How often the changes are corrected, at most, by what the editor's scorer reads; see ``refine_changes``."""

    @cached_property
    def encoder(self) -> Encoder | None:
        """The encoder that ships for the generator."""
        return load_encoder(self.tools.generator)

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution of W, within which codes are found."""
        return fit_w_distribution(self.tools.generator)

    @cached_property
    def _label_scorer(self) -> Scorer:
        return load_label_scorer(self.tools.required_editor).to(self.tools.generator.device)

    def edit_file(self, path: Path, out: Path, progress: Progress | None = None) -> str:
        """Edit a photograph and write it to a PNG or JPEG file, with its EXIF data; return a line about it.

        It carries its recipe; tunings are written beside it, one file a face.
        Raises GanvasError for a photograph that can't be read or has no such face, and a face that can't be edited.
        """
        content, edited = self._edit_to_bytes(path, out.suffix, progress)
        return self._write(out, content, edited)

    def edit_files(
        self, paths: Sequence[Path], out: Path, report: ErrorReporter, progress: Progress | None = None
    ) -> list[str]:
        """Edit photographs into a folder, those in JPEG to JPEG, others to PNG; ``report`` a line for each that fails."""
        names, lines = FileNames(out, paths, SUFFIXES), []
        for path in paths:
            suffix = ".jpg" if path.suffix.lower() in JPEG_SUFFIXES else ".png"
            try:
                content, edited = self._edit_to_bytes(path, suffix, progress)
                target = out / f"{names.choose(path.stem, content=content)}{suffix}"
                lines.append(self._write(target, content, edited))
            except REPORTED_ERRORS as error:
                report(format_error(path, error))
        return lines

    def _edit_to_bytes(self, path: Path, suffix: str, progress: Progress | None) -> tuple[bytes, EditedPhoto]:
        photo = read_picture(path, self.settings.max_pixels)
        edited = self.edit_faces(photo, progress)
        pixels, recipe = to_bytes(edited.picture)[0].contiguous(), self.make_recipe(photo, edited.faces)
        if is_recipe_too_long(recipe, suffix):
            kind = "JPEG: write a PNG" if suffix.lower() in JPEG_SUFFIXES else "PNG"
            edited = replace(edited, note=f"{edited.note}; without its recipe, which is too long for a {kind}")
        return encode_photo(pixels, read_exif(path), recipe, suffix), edited

    def _write(self, out: Path, content: bytes, edited: EditedPhoto) -> str:
        for face in edited.faces:
            if face.tuning is not None:
                save_tuning(
                    out.with_name(f"{out.stem}-{face.number}{TUNING_SUFFIX}"), face.tuning, self.tools.generator
                )
        with atomic_write(out) as temporary:
            temporary.write_bytes(content)
        is_jpeg = out.suffix.lower() in JPEG_SUFFIXES
        note = "; JPEG of quality 95, 4:4:4, so that all pixels are rounded anew" if is_jpeg else ""
        budget = _format_steps(edited.faces) if self.settings.options.seconds else ""
        return f"{out}: {edited.note}{budget}{note}"

    def edit_picture(
        self, photo: Images, progress: Progress | None = None, on_step: StepCallback | None = None
    ) -> tuple[Images, str]:
        """Edit faces of a photograph (1, 3, height, width); return it, and which faces were edited.

        ``progress`` and ``on_step`` as ``invert`` calls them: the second may show a face while it is rebuilt, and stop that.
        Raises GanvasError where there is no such face, or none can be edited.
        """
        edited = self.edit_faces(photo, progress, on_step)
        return edited.picture, edited.note

    def edit_faces(
        self, photo: Images, progress: Progress | None = None, on_step: StepCallback | None = None
    ) -> EditedPhoto:
        """Edit faces as ``edit_picture`` does; return their codes and tunings, too."""
        limit = self.check_settings(photo)
        largest_first = align(photo, self.tools.generator.resolution)
        faces = order_faces(largest_first)
        edited, errors = [], []
        result = photo
        for number, face in enumerate(faces, 1):
            if self.face not in ("all", number) and not (self.face is None and face is largest_first[0]):
                continue
            try:
                rebuilt, generator = self.rebuild_face(face, number, progress, on_step)
                rebuilt = self.refine(rebuilt, generator)
                result = self.paste_edit(result, face, rebuilt, generator, limit)
                edited.append(rebuilt)
            except GanvasError as error:
                errors.append(str(error) if len(faces) == 1 else f"face {number} of {len(faces)}: {error}")
        if errors and not edited:
            raise GanvasError(errors[0])
        if not edited:
            raise GanvasError(
                f"There is no face {self.face}: this photograph has {len(faces)}, numbered from left to right."
            )
        note = f"face {', '.join(str(each.number) for each in edited)} of {len(faces)}"
        if self.face is None and len(faces) > 1:
            note += " (the largest; --face N takes another)"
        if near := [face.distance for face in edited if not math.isnan(face.distance)]:
            hint = "; --tune 60 comes nearer" if max(near) > NEAR_DISTANCE and not self.tuning.steps else ""
            note += f", rebuilt at {format_distance('dlib', max(near))} by dlib{hint}"
        note = "; ".join((note, *(each.readings for each in edited if each.readings)))
        return EditedPhoto(result, "; left as it was, ".join([note, *errors]), tuple(edited))

    def check_settings(self, photo: Images) -> Tensor | None:
        """Check all that can be checked before the slow work; return what ``read_limit`` does. Raises GanvasError."""
        limit = self.read_limit(photo)
        if self.tuning.steps:
            list_tuned_weights(self.tools.generator)
        check_corrections(self.corrections)
        if self.corrections and len(self.edits) != 1:
            raise GanvasError("There is no edit to refine: give --set or --shift.")
        if self.corrections:
            load_label_scorer(self.tools.required_editor)
        return limit

    def draw_faces(self, photo: Images, faces: Sequence[RebuiltFace]) -> Images:
        """Draw the edit of faces that were rebuilt before into their photograph again. Raises GanvasError as ``align`` does."""
        found, limit = order_faces(align(photo, self.tools.generator.resolution)), self.read_limit(photo)
        for rebuilt in faces:
            if rebuilt.number > len(found):
                raise GanvasError(f"There is no face {rebuilt.number}: this photograph has {len(found)}.")
            generator = rebuilt.apply_tuning(self.tools.generator)
            photo = self.paste_edit(photo, found[rebuilt.number - 1], rebuilt, generator, limit)
        return photo

    def make_recipe(self, photo: Images, faces: Sequence[RebuiltFace]) -> PhotoRecipe:
        """Make the recipe that ``draw_photo_recipe`` draws these faces in ``photo`` by."""
        tools, limit = self.tools, self.read_limit(photo)
        refined = tuple(step.refined for face in faces for step in face.edits or () if step.refined is not None)
        tunings = tuple("" if face.tuning is None else face.tuning.sha256 for face in faces)
        return PhotoRecipe(
            tools.generator_name,
            hash_picture(photo),
            tuple(face.number for face in faces),
            pack_rows(torch.cat([face.ws for face in faces]), tools.generator),
            tools.dtype,
            tools.editor_name,
            self.edits,
            self.whole,
            str(self.region) if limit is None else hash_picture(limit),
            tunings if any(tunings) else None,
            refined if len(refined) == len(faces) else None,
        )

    @torch.no_grad()
    def rebuild_face(
        self, face: Face, number: int, progress: Progress | None = None, on_step: StepCallback | None = None
    ) -> tuple[RebuiltFace, Generator]:
        """Find the code of a face and the tuning of its picture, and the generator with that tuning.

        Raises GanvasError where it can't be rebuilt.
        """
        width = measure_face_width(face.landmarks)
        if width < MIN_FACE_PIXELS:
            raise GanvasError(
                f"This face has {width:.0f} pixels: at least {MIN_FACE_PIXELS} are needed, so use a larger photograph."
            )
        if (yaw := estimate_yaw(face.landmarks)) > MAX_YAW_DEGREES:
            raise GanvasError(
                f"This face is turned {yaw:.0f}° to the side: at most {MAX_YAW_DEGREES:.0f}° can be edited, so use a photograph"
                " from the front."
            )
        generator, settings = self.tools.generator, self.settings
        target = Photo.from_picture(face.picture, generator).picture
        with torch.enable_grad():
            found = invert(
                target,
                generator,
                settings.space,
                settings.method,
                settings.options,
                encoder=self.encoder,
                distribution=None if settings.method == "encoder" else self.distribution,
                progress=progress,
                on_step=on_step,
            )
        rebuilt, pictures = RebuiltFace(number, found.ws, None, found.planned_steps[0]), found.pictures
        if self.tuning.steps:
            loss = make_loss(target, generator, self.encoder, settings.options)
            rebuilt = replace(rebuilt, tuning=fit_tuning(loss, generator, found.ws, self.tuning, progress, on_step))
            generator = rebuilt.apply_tuning(generator)
            pictures = generator.synthesis(found.ws)
        judge = load_judge("dlib")
        distance = float(judge.measure_distance(pictures.float().cpu(), target.cpu()))
        if distance > (median := float(judge.strangers.median())):  # not where dlib finds no face: nan
            raise GanvasError(
                f"This face could not be rebuilt: something may cover it (dlib's distance is {distance:.2f}, that of half of all"
                f" strangers at most {median:.2f})."
            )
        return replace(rebuilt, distance=distance), generator

    def refine(self, rebuilt: RebuiltFace, generator: Generator) -> RebuiltFace:
        """Refine a face's edit, as ``generator`` draws it in the edit's regions. Raises GanvasError as ``refine_changes``."""
        if not self.corrections:
            return rebuilt
        side, kept = min(EARLY_SIDE, generator.resolution), self.find_regions()
        before, parts = draw_for_regions(generator, rebuilt.ws, kept, side)

        def draw(ws: WPlus) -> Images:
            after, after_parts = draw_for_regions(generator, ws, kept, side)
            return blend_edit(before, after, kept, pair_parts(parts, after_parts)) if kept else after

        step, found = refine_step(self.edits, self.tools, draw, self._label_scorer, rebuilt.ws, self.corrections)
        read = ", ".join(format_refined(found, name, self.tools.required_editor) for name in found.asked)
        return replace(rebuilt, edits=(step,), readings=read)

    @torch.no_grad()
    def paste_edit(
        self, photo: Images, face: Face, rebuilt: RebuiltFace, generator: Generator, limit: Tensor | None
    ) -> Images:
        """Return the photograph with one face edited, as ``generator`` draws it."""
        regions, edits = self.find_regions(), self.edits if rebuilt.edits is None else rebuilt.edits
        ws = apply_edits(rebuilt.ws, edits, self.tools)
        (inverted, parts), (edited, edited_parts) = (
            draw_for_regions(generator, each, regions) for each in (rebuilt.ws, ws)
        )
        inverted, edited = inverted.float().cpu(), edited.float().cpu()
        edited, mask = limit_face_edit(face, inverted, edited, regions, pair_parts(parts, edited_parts))
        return paste_face(photo, face.quad, inverted, edited, mask, limit=limit, whole=self.whole)

    def find_regions(self) -> tuple[Region, ...]:
        """Return the regions of the edits; none where they change the whole face."""
        attributes = [name for step in self.edits for name in (*step.set, *step.shift)]
        return () if self.whole or self.region != "auto" else find_regions(self.tools.generator.name, attributes)

    def read_limit(self, photo: Images) -> Tensor | None:
        """Read the picture that is white where the photograph may change, (1, 1, height, width), if there is one."""
        if str(self.region) in ("auto", "off"):
            return None
        mask = EditMask.from_picture(read_picture(self.region)).mask
        if mask.shape[2:] != photo.shape[2:]:
            sizes = [f"{each.shape[3]}×{each.shape[2]}" for each in (mask, photo)]
            raise GanvasError(
                f"{self.region} has {sizes[0]} pixels, but the photograph {sizes[1]}: they must be equal."
            )
        return mask


def limit_face_edit(
    face: Face, inverted: Images, edited: Images, regions: Sequence[Region], parts: EditedParts | None
) -> tuple[Images, Mask]:
    """Limit the edit of a face's square (1, 3, side, side) to regions, or to the head where there are none.

    Returns the edited square and the mask of what it may change of the photograph, (1, 1, side, side).
    """
    size, kept = edited.shape[-1], regions or (HEAD,)
    masks = []
    for region in kept:
        mask = build_edit_mask([region], parts, size, size)
        if parts is not None:  # what was uncovered is drawn in full, and the mask's soft edge is of the blending
            mask = (2 * mask).clamp(max=1)
        # The outline in the photograph is surer than the inversion's: what lies inside of a face ends there.
        is_inside = region.hole is None and not region.covered and region.ellipse[2] < 0.5
        masks.append(mask * draw_face(face, size) if regions and is_inside else mask)
    if parts is not None:
        edited = blend_edit(inverted, edited, kept, parts)
    return edited, torch.stack(masks).amax(0)
