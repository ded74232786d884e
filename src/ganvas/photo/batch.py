"""Align, invert and edit many photographs, one after another; one that fails is reported, and the others go on.

A face NAME becomes ``NAME-photo.png`` (aligned), ``NAME.safetensors`` (its code), ``NAME.png`` (the inversion, which carries
recipe and code) and, with edits, ``NAME-edited.png``. ``inversions.json`` has the measures; a run that was stopped reuses
the files of the same photographs and settings. Nothing else of a photograph's file, such as its metadata, is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ganvas.data.codes import Codes, load_codes, save_codes
from ganvas.data.distribution import Distribution
from ganvas.editors.composed import ObjectInversionConfig
from ganvas.errors import GanvasError
from ganvas.inversion.alignment import align
from ganvas.inversion.encoder import Encoder
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.pipeline import invert, load_encoder
from ganvas.inversion.quality import InversionQuality, fit_w_distribution, measure_inversion
from ganvas.io.files import atomic_write, read_json, write_json
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import MAX_PIXELS, encode_png, read_picture, to_bytes
from ganvas.photo.file_names import ALIGNED_ENDINGS, INVERTED_ENDINGS, FileNames
from ganvas.photo.file_names import SUMMARY_FILE as SUMMARY_FILE
from ganvas.progress import Progress
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Photo, Tools, compute_code, draw_code, limit_to_regions
from ganvas.types import Images

VERSION = 1
REPORTED_ERRORS = (GanvasError, MemoryError, RuntimeError)
"""Errors of one photograph that are reported while the others go on; RuntimeError comes from dlib and torch."""
ErrorReporter = Callable[[str], Any]


@dataclass(frozen=True)
class InversionConfig:
    """Settings of the inversion of photographs."""

    space: str = "w+"
    method: str = "both"
    options: OptimizationConfig = field(default_factory=OptimizationConfig)
    aligned: bool = False
    """The pictures are squares aligned like the generator's: no faces are searched."""
    max_faces: int | None = None
    """Only so many faces of a photograph, the largest ones; None: all."""
    max_pixels: int = MAX_PIXELS
    any_shape: bool = False
    """Aligned pictures needn't be squares: scorers take any."""


@dataclass(frozen=True)
class InvertedFace:
    """A face that was inverted, and how well."""

    name: str
    measures: InversionQuality


@dataclass(frozen=True)
class PhotoBatch:
    """A run over photographs: the tools and settings, the edits, and the folder of the results."""

    tools: Tools
    out: Path
    settings: InversionConfig
    edits: tuple[EditStep, ...] = ()
    residual: bool = True
    encoder: Encoder | None = None
    """None: the encoder that ships, if any does."""
    limit: Callable[[Recipe], Recipe] = limit_to_regions
    """Keeps the edits of a recipe to a region."""

    @cached_property
    def _loaded_encoder(self) -> Encoder | None:
        return self.encoder or load_encoder(self.tools.generator)

    @cached_property
    def _fitted_distribution(self) -> Distribution:
        return fit_w_distribution(self.tools.generator)

    def run(self, paths: Sequence[Path], report: ErrorReporter, progress: Progress | None = None) -> list[InvertedFace]:
        """Process every face of every photograph. ``report`` is called with a line for each photograph that fails."""
        done: list[InvertedFace] = []
        names = FileNames(self.out, paths, INVERTED_ENDINGS, self._read_summary())
        for path, stem, face in iterate_faces(paths, self.tools.generator.resolution, self.settings, report):
            try:
                photo = Photo.from_picture(face, self.tools.generator)
                name = names.choose(stem, photo.sha256)
                done.append(InvertedFace(name, self._process_face(name, photo, progress)))
            except REPORTED_ERRORS as error:
                report(format_error(path, error))
        return done

    def _process_face(self, name: str, photo: Photo, progress: Progress | None) -> InversionQuality:
        inputs = self._describe_inputs(photo)
        previous = self._load_previous(name, inputs)
        if previous is None:  # before any of its files, so that a run that goes on knows whose they are
            self._record(name, inputs)
        aligned_path = self.out / f"{name}-photo.png"
        if previous is None or not aligned_path.exists():
            with atomic_write(aligned_path) as temporary:
                temporary.write_bytes(encode_png(to_bytes(photo.picture)[0]))
        codes, measures, steps = (*previous, 0) if previous else self._invert(name, photo, progress)
        self._save(
            f"{name}.png", Recipe(self.tools.generator_name, FromCodes(codes.sha256, 0), self.tools.dtype), codes
        )
        if self.edits:
            recipe = Recipe(
                self.tools.generator_name,
                FromCodes(codes.sha256, 0),
                self.tools.dtype,
                editor=self.tools.editor_name,
                edits=self.edits,
                photo=photo.sha256 if self.residual else None,
                other_generator=self.tools.has_other_editor,
            )
            self._save(f"{name}-edited.png", self.limit(recipe), codes, photo)
        if previous is None:
            self._record(name, inputs | {"codes": codes.sha256, "measures": asdict(measures), "steps": steps})
        return measures

    def _invert(self, name: str, photo: Photo, progress: Progress | None) -> tuple[Codes, InversionQuality, int]:
        """Find the code of a photograph; return it, its measures, and the ``steps`` that give it again."""
        generator, settings = self.tools.generator, self.settings
        found = invert(
            photo.picture,
            generator,
            settings.space,
            settings.method,
            settings.options,
            encoder=self._loaded_encoder,
            distribution=self._fitted_distribution,
            editor=self.tools.editor,
            progress=progress,
        )
        save_codes(self.out / f"{name}.safetensors", found.ws, generator)
        codes = load_codes(self.out / f"{name}.safetensors", generator)
        measured = measure_inversion(found.ws, found.pictures, photo.picture, generator, self._fitted_distribution)
        return codes, measured[0], found.planned_steps[0]

    def _save(self, name: str, recipe: Recipe, codes: Codes, photo: Photo | None = None) -> None:
        tools = replace(self.tools, codes=codes, photo=photo)
        with torch.no_grad():
            picture = draw_code(compute_code(recipe, tools), recipe, tools)
        save_picture(self.out / name, to_bytes(picture)[0], recipe, codes)

    def _describe_inputs(self, photo: Photo) -> dict[str, Any]:
        """Return all that a code depends on."""
        settings, editor = self.settings, self.tools.editor
        return {
            "photo": photo.sha256,
            "generator": self.tools.generator.fingerprint,
            "dtype": self.tools.dtype,
            "space": settings.space,
            "method": settings.method,
            "options": asdict(ObjectInversionConfig() if settings.method == "objects" else settings.options),
            **(
                {"editor": hash_weights(editor.state_dict().items())} if editor and settings.method == "objects" else {}
            ),
            **({} if self.encoder is None else {"encoder": hash_weights(self.encoder.network.state_dict().items())}),
        }

    def _load_previous(self, name: str, inputs: dict[str, Any]) -> tuple[Codes, InversionQuality] | None:
        """Load the code and measures of an earlier run for this photograph and these settings, if there are any."""
        entry = self._read_summary().get(name)
        path = self.out / f"{name}.safetensors"
        if not isinstance(entry, dict) or not path.exists() or any(entry.get(k) != v for k, v in inputs.items()):
            return None
        try:
            codes = load_codes(path, self.tools.generator)
            return (codes, InversionQuality(**entry["measures"])) if codes.sha256 == entry["codes"] else None
        except (GanvasError, KeyError, TypeError):
            return None

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        write_json(self.out / SUMMARY_FILE, {"version": VERSION, "faces": self._read_summary() | {name: entry}})

    def _read_summary(self) -> dict[str, Any]:
        if not (self.out / SUMMARY_FILE).exists():
            return {}
        found = read_json(self.out / SUMMARY_FILE)
        faces = found.get("faces") if isinstance(found, dict) and found.get("version") == VERSION else None
        if not isinstance(faces, dict):
            raise GanvasError(
                f"{self.out / SUMMARY_FILE} isn't a summary that this version of ganvas wrote: use another folder."
            )
        return faces


def iterate_faces(
    paths: Sequence[Path], size: int, settings: InversionConfig, report: ErrorReporter
) -> Iterator[tuple[Path, str, Images]]:
    """Yield the faces of photographs with their paths and names; report photographs that fail."""
    for path in paths:
        try:
            pictures = align_file(path, size, settings)
        except REPORTED_ERRORS as error:
            report(format_error(path, error))
            continue
        for i, picture in enumerate(pictures):
            yield path, path.stem if len(pictures) == 1 else f"{path.stem}-{i + 1}", picture


def format_error(path: Path, error: BaseException) -> str:
    """Format the error of one photograph as a line that names it."""
    message = "there isn't enough memory for it" if isinstance(error, MemoryError) else " ".join(str(error).split())
    return message if str(path) in message else f"{path}: {message}"


def align_file(path: Path, size: int, settings: InversionConfig) -> list[Images]:
    """Return the aligned faces of a file, the largest first, each (1, 3, size, size); or the picture if it is aligned."""
    photo = read_picture(path, settings.max_pixels)
    if not settings.aligned:
        return [face.picture for face in align(photo, size, settings.max_faces)]
    height, width = photo.shape[2:]
    if height != width and not settings.any_shape:
        raise GanvasError(
            f"{path} has {width}×{height} pixels, but an aligned picture is a square: leave out --aligned."
        )
    return [photo]


def align_files(paths: Sequence[Path], out: Path, size: int, settings: InversionConfig, report: ErrorReporter) -> int:
    """Write the faces of photographs as PNG files without metadata; return their number."""
    count, names = 0, FileNames(out, paths, ALIGNED_ENDINGS)
    for path, stem, face in iterate_faces(paths, size, settings, report):
        try:
            content = encode_png(to_bytes(face)[0])
            with atomic_write(out / f"{names.choose(stem, content=content)}.png") as temporary:
                temporary.write_bytes(content)
            count += 1
        except REPORTED_ERRORS as error:
            report(format_error(path, error))
    return count
