"""Many photographs, one after another: aligned, inverted, edited by one recipe; a bad one is one line, the rest goes on.

A face NAME leaves ``NAME-photo.png`` (as it was aligned), ``NAME.safetensors`` (its code), ``NAME.png`` (the inversion, which
carries recipe and code) and, with edits, ``NAME-edited.png``. ``inversions.json`` has the measures; a run that was stopped
takes up what lies there of the same photograph and settings. Nothing else of a photograph's file is written.
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
from ganvas.errors import GanvasError
from ganvas.inversion.alignment import align
from ganvas.inversion.encoder import Encoder
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.pipeline import Watch, invert, load_encoder
from ganvas.inversion.quality import InversionQuality, fit_w_distribution, measure_inversion
from ganvas.io.files import atomic_write, read_json, write_json
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import MAX_PIXELS, encode_png, read_picture, to_bytes
from ganvas.photo.file_names import ALIGNED, INVERTED, FileNames
from ganvas.photo.file_names import SUMMARY_FILE as SUMMARY_FILE
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Photo, Tools, compute_code, draw_code
from ganvas.types import Images

VERSION = 1
REPORTED_ERRORS = (GanvasError, MemoryError, RuntimeError)
"""What one photograph may raise while the rest goes on; the last one is dlib's and torch's."""
LineReporter = Callable[[str], Any]


@dataclass(frozen=True)
class InversionConfig:
    """How photographs become codes."""

    space: str = "w+"
    method: str = "both"
    options: OptimizationConfig = field(default_factory=OptimizationConfig)
    aligned: bool = False
    """The pictures are squares that show what the generator shows: no face is looked for."""
    most: int | None = None
    """Faces of a photograph."""
    most_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class InvertedFace:
    """A face that was done."""

    name: str
    measures: InversionQuality


@dataclass(frozen=True)
class PhotoBatch:
    """What faces are inverted and edited with, and where their files go."""

    tools: Tools
    out: Path
    settings: InversionConfig
    edits: tuple[EditStep, ...] = ()
    residual: bool = True
    encoder: Encoder | None = None
    """None: the one that ships, if any does."""

    @cached_property
    def _encoder(self) -> Encoder | None:
        return self.encoder or load_encoder(self.tools.generator)

    @cached_property
    def _distribution(self) -> Distribution:
        return fit_w_distribution(self.tools.generator)

    def run(self, paths: Sequence[Path], report: LineReporter, watch: Watch | None = None) -> list[InvertedFace]:
        """Every face of every photograph. ``report`` hears one line for each photograph that is refused."""
        done: list[InvertedFace] = []
        names = FileNames(self.out, paths, INVERTED, self._summary())
        for path, stem, face in each_face(paths, self.tools.generator.resolution, self.settings, report):
            try:
                photo = Photo.from_picture(face, self.tools.generator)
                name = names.of(stem, photo.sha256)
                done.append(InvertedFace(name, self._one(name, photo, watch)))
            except REPORTED_ERRORS as error:
                report(_line(path, error))
        return done

    def _one(self, name: str, photo: Photo, watch: Watch | None) -> InversionQuality:
        about = self._about(photo)
        known = self._known(name, about)
        if known is None:  # before any of its files: a run that is stopped finds its own again
            self._note(name, about)
        beside = self.out / f"{name}-photo.png"
        if known is None or not beside.exists():
            with atomic_write(beside) as temporary:
                temporary.write_bytes(encode_png(to_bytes(photo.picture)[0]))
        codes, measures = known or self._invert(name, photo, watch)
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
            )
            self._save(f"{name}-edited.png", recipe, codes, photo)
        if known is None:
            self._note(name, about | {"codes": codes.sha256, "measures": asdict(measures)})
        return measures

    def _invert(self, name: str, photo: Photo, watch: Watch | None) -> tuple[Codes, InversionQuality]:
        generator, settings = self.tools.generator, self.settings
        found = invert(
            photo.picture,
            generator,
            settings.space,
            settings.method,
            settings.options,
            encoder=self._encoder,
            distribution=self._distribution,
            watch=watch,
        )
        save_codes(self.out / f"{name}.safetensors", found.ws, generator)
        codes = load_codes(self.out / f"{name}.safetensors", generator)
        return codes, measure_inversion(found.ws, found.pictures, photo.picture, generator, self._distribution)[0]

    def _save(self, name: str, recipe: Recipe, codes: Codes, photo: Photo | None = None) -> None:
        tools = replace(self.tools, codes=codes, photo=photo)
        with torch.no_grad():
            picture = draw_code(compute_code(recipe, tools), recipe, tools)
        save_picture(self.out / name, to_bytes(picture)[0], recipe, codes)

    def _about(self, photo: Photo) -> dict[str, Any]:
        """All that a code depends on."""
        settings = self.settings
        return {
            "photo": photo.sha256,
            "generator": self.tools.generator.fingerprint,
            "dtype": self.tools.dtype,
            "space": settings.space,
            "method": settings.method,
            "options": asdict(settings.options),
            **({} if self.encoder is None else {"encoder": hash_weights(self.encoder.network.state_dict().items())}),
        }

    def _known(self, name: str, about: dict[str, Any]) -> tuple[Codes, InversionQuality] | None:
        """What an earlier run found for this photograph and these settings."""
        entry = self._summary().get(name)
        path = self.out / f"{name}.safetensors"
        if not isinstance(entry, dict) or not path.exists() or any(entry.get(k) != v for k, v in about.items()):
            return None
        try:
            codes = load_codes(path, self.tools.generator)
            return (codes, InversionQuality(**entry["measures"])) if codes.sha256 == entry["codes"] else None
        except (GanvasError, KeyError, TypeError):
            return None

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        write_json(self.out / SUMMARY_FILE, {"version": VERSION, "faces": self._summary() | {name: entry}})

    def _summary(self) -> dict[str, Any]:
        if not (self.out / SUMMARY_FILE).exists():
            return {}
        found = read_json(self.out / SUMMARY_FILE)
        faces = found.get("faces") if isinstance(found, dict) and found.get("version") == VERSION else None
        if not isinstance(faces, dict):
            raise GanvasError(f"{self.out / SUMMARY_FILE} wasn't written here: use another folder.")
        return faces


def each_face(
    paths: Sequence[Path], size: int, settings: InversionConfig, report: LineReporter
) -> Iterator[tuple[Path, str, Images]]:
    """The faces of photographs, and what they would be called after their files."""
    for path in paths:
        try:
            pictures = align_file(path, size, settings)
        except REPORTED_ERRORS as error:
            report(_line(path, error))
            continue
        for i, picture in enumerate(pictures):
            yield path, path.stem if len(pictures) == 1 else f"{path.stem}-{i + 1}", picture


def _line(path: Path, error: BaseException) -> str:
    said = "there isn't enough memory for it" if isinstance(error, MemoryError) else " ".join(str(error).split())
    return said if str(path) in said else f"{path}: {said}"


def align_file(path: Path, size: int, settings: InversionConfig) -> list[Images]:
    """The aligned faces of a file, the largest first, each (1, 3, size, size); or the picture itself."""
    photo = read_picture(path, settings.most_pixels)
    if not settings.aligned:
        return [face.picture for face in align(photo, size, settings.most)]
    height, width = photo.shape[2:]
    if height != width:
        raise GanvasError(
            f"{path} has {width}×{height} pixels, and an aligned picture is a square: leave out --aligned."
        )
    return [photo]


def align_files(paths: Sequence[Path], out: Path, size: int, settings: InversionConfig, report: LineReporter) -> int:
    """Write the faces of photographs as PNG files without metadata, and say how many there were."""
    found, names = 0, FileNames(out, paths, ALIGNED)
    for path, stem, face in each_face(paths, size, settings, report):
        try:
            content = encode_png(to_bytes(face)[0])
            with atomic_write(out / f"{names.of(stem, content=content)}.png") as temporary:
                temporary.write_bytes(content)
            found += 1
        except REPORTED_ERRORS as error:
            report(_line(path, error))
    return found
