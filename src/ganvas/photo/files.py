"""Edit a photograph or a clip in one call, from file to file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ganvas.control.conditions import find_attribute
from ganvas.control.target_values import convert_to_sigma
from ganvas.inversion.optimization import OptimizationConfig
from ganvas.inversion.tuning import TuningConfig
from ganvas.photo.batch import InversionConfig
from ganvas.photo.clip import ClipEdit, is_clip
from ganvas.photo.edit import SUFFIXES, PhotoEdit
from ganvas.progress import Progress
from ganvas.recipe.files import check_output
from ganvas.recipe.model import EditStep
from ganvas.recipe.refinement import choose_corrections
from ganvas.recipe.rendering import choose_editor, load_tools


def edit_photo(
    photo: str | Path,
    out: str | Path,
    shift: Mapping[str, float] | None = None,
    set: Mapping[str, float | str] | None = None,
    *,
    generator: str = "ffhq",
    editor: str | Path | None = None,
    face: int | Literal["all"] | None = None,
    whole: bool = False,
    region: str | Path = "auto",
    method: str = "both",
    steps: int = 100,
    budget: float = 0.0,
    tune: int = 0,
    refine: int | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Edit a face in a photograph, and put it back: outside of the edit's region pixels stay as they are.

    Args:
        photo: The photograph. Its orientation in EXIF is applied, and its EXIF is kept without the thumbnail. Or a clip of
            some seconds: MP4, MOV, WebM or MKV.
        out: The file to write, PNG or JPEG (of quality 95, 4:4:4); of a clip, an MP4.
        shift: Attribute -> change, in standard deviations.
        set: Attribute -> value, in standard deviations or a text in its own unit, such as "60y".
        generator: A generator of faces.
        editor: An editor's name or file; by default the generator's own.
        face: Which face, counted from left to right from 1, or "all"; by default the largest.
        whole: Paste the generated face, not only what the edit changed.
        region: "auto" (where the attributes show), "off" (the head), or a picture of the photograph's size, white where it may
            change.
        method: How the face is inverted: "encoder", "optimize" or "both".
        steps: Of optimisation, at most.
        budget: Seconds of optimisation; 0: ``steps``.
        tune: Steps in which the generator's own weights are fitted to the face; what they change is written beside a
            photograph, but not beside a clip.
        refine: How often the changes are corrected by what the editor's scorer reads, until the face reads as asked; by default
            4 times, if the scorer is at hand.
        device: Where to compute.
        dtype: What networks compute in; "auto": bfloat16 where the device has instructions for it.
        progress: Called with the steps done and those of a face's inversion.

    Returns:
        The path of the edited photograph.

    Raises:
        GanvasError: A file can't be read or written, an attribute is unknown, the photograph has no such face, or the face
            is too small or can't be rebuilt by the generator.
    """
    photo = Path(photo)
    out = check_edited_output(photo, out)
    shift, values = dict(shift or {}), dict(set or {})
    name = choose_editor(generator, editor) if shift or values else None
    tools = load_tools(generator, dtype, device, name)
    for attribute in shift:
        find_attribute(tools.required_editor, attribute)
    step = EditStep({key: convert_to_sigma(tools.required_editor, key, value) for key, value in values.items()}, shift)
    settings = InversionConfig(method=method, options=OptimizationConfig(steps=steps, seconds=budget))
    edits = (step,) if shift or values else ()
    corrections = choose_corrections(refine, edits, tools.editor, refine_all=True)
    edit = PhotoEdit(
        tools,
        edits,
        settings,
        face=face,
        whole=whole,
        region=region,
        tuning=TuningConfig(tune),
        corrections=corrections,
    )
    edit_file(edit, photo, out, progress)
    return out


def check_edited_output(photo: Path, out: str | Path) -> Path:
    """Return ``out`` if the edit of a photograph or a clip can be written there. Raises GanvasError if not."""
    return check_output(out, (".mp4",) if is_clip(photo) else SUFFIXES, [photo])


def edit_file(edit: PhotoEdit, photo: Path, out: Path, progress: Progress | None = None) -> str:
    """Edit a photograph, or a clip, and write it; return a line about it. Raises GanvasError as ``edit_photo`` does."""
    return (ClipEdit(edit) if is_clip(photo) else edit).edit_file(photo, out, progress)
