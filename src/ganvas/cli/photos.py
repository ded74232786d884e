"""Commands about photographs: align, invert, edit-photo, import-codes, train-encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from ganvas.cli import options
from ganvas.cli.options import Device, Dtype, EditorName, SetValues, ShiftValues
from ganvas.errors import GanvasError
from ganvas.progress import show_count

if TYPE_CHECKING:
    from ganvas.inversion import OptimizationConfig
    from ganvas.photo.batch import InvertedFace

PANEL = "Photographs"
INVERSION_STEPS = 100
"""The default of --steps, which isn't one where --budget is given."""

Photos = Annotated[
    list[Path], Argument(metavar="PHOTO...", help="Pictures, or folders: JPEG, PNG, WebP, TIFF, BMP, AVIF, HEIC.")
]
MaxFaces = Annotated[int | None, Option("--most", metavar="N", help="The N largest faces of a photograph only.")]
MaxPixels = Annotated[int, Option("--max-pixels", help="Photographs of more pixels are refused.")]
InversionMethod = Annotated[Literal["encoder", "optimize", "both"], Option(help="optimize: from the mean of W.")]
AnyInversionMethod = Annotated[
    Literal["encoder", "optimize", "both", "objects"],
    Option(
        help="optimize: from the mean of W; objects: for digits, from samples with the same digits in the same places."
    ),
]
InversionSteps = Annotated[
    int | None, Option("--steps", help="Of optimisation, at most.", show_default=str(INVERSION_STEPS))
]
Budget = Annotated[
    str | None,
    Option("--budget", metavar="SECONDS", help="Instead of --steps: as many as end in this time, such as 15s."),
]
GeneratorOption = Annotated[str, Option(help="A generator, as `ganvas list` names them.")]


def align(
    photos: Photos,
    out: Annotated[Path, Option(help="The folder for the faces.")] = Path("aligned"),
    size: Annotated[int, Option(help="The side of each face in pixels.")] = 1024,
    max_faces: MaxFaces = None,
    max_pixels: MaxPixels = 64_000_000,
) -> None:
    """Find the faces in photographs and cut them as FFHQ's are: a PNG a face.

    The landmarks are dlib's, learned from iBUG 300-W: for non-commercial use.
    """
    from ganvas import inversion
    from ganvas.photo import batch
    from ganvas.recipe.files import check_output

    check_output(out / "face.png", (".png",))
    config = batch.InversionConfig(max_faces=max_faces, max_pixels=max_pixels)
    options.print_passed_over(photos)
    refused = options.RefusalLog()
    count = batch.align_files(inversion.find_pictures(photos), out, size, config, refused)
    options.print_line(f"{count} {'face' if count == 1 else 'faces'} in {out}")
    refused.exit()


def invert(
    photos: Photos,
    generator: GeneratorOption = "ffhq",
    out: Annotated[Path, Option(help="The folder for codes and pictures; a stopped run goes on there.")] = Path(
        "inverted"
    ),
    space: Annotated[Literal["w", "w+"], Option(help="One w, or a row for each layer: nearer, less editable.")] = "w+",
    method: AnyInversionMethod = "both",
    steps: InversionSteps = None,
    budget: Budget = None,
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    recipe: Annotated[Path | None, Option(metavar="FILE", help="Edit as this recipe (JSON or PNG).")] = None,
    residual: Annotated[bool, Option(help="Put back what the inversion missed outside of the edit.")] = True,
    edit_rows: options.EditRows = None,
    region: options.Region = "auto",
    editor: EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    aligned: Annotated[bool, Option("--aligned", help="The pictures are aligned already.")] = False,
    encoder: Annotated[
        Path | None, Option(metavar="FILE", help="An encoder that `ganvas train-encoder` wrote.")
    ] = None,
    max_faces: MaxFaces = None,
    max_pixels: MaxPixels = 64_000_000,
    device: Device = "cpu",
    dtype: Dtype = "auto",
) -> None:
    """Find the codes of photographs: a picture and a codes file a face, with --set, --shift or --recipe edited, too.

    For a generator of other things than faces give pictures framed as its own are, squares, with --aligned.
    Nothing leaves this machine, and no metadata of a photograph is written. Faces are found by landmarks that are for
    non-commercial use.
    """
    from ganvas import generators, identity, inversion
    from ganvas.cli import loading, recipe_options
    from ganvas.photo import batch
    from ganvas.recipe.files import check_output

    check_output(out / batch.SUMMARY_FILE, (".json",))
    optimization = _parse_optimization(steps, budget)
    if method == "objects":
        if not (steps is None and budget is None and encoder is None):
            raise GanvasError("--steps, --budget and --encoder are of other methods than 'objects': leave them out.")
        editor = str(loading.choose_editor(generator, editor))
    paths = inversion.find_pictures(photos)
    options.print_passed_over(photos)
    if not aligned:
        loading.check_draws_faces(generator)
    edits = recipe_options.parse_edits(set_values, shift_values, generator, editor, recipe)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=recipe_options.collect_attributes(edits),
        codes=None,
        allow_other_generator=allow_other_generator,
    )
    if method == "objects":
        inversion.check_composing(tools.editor, tools.generator, space)
    edits = recipe_options.limit_rows(edits, edit_rows, tools)
    limit, tools = recipe_options.parse_region(region, tools)
    own_encoder = None if encoder is None else inversion.read_encoder(encoder, tools.generator)
    config = batch.InversionConfig(space, method, optimization, aligned, max_faces, max_pixels)
    refused = options.RefusalLog()
    with show_count("Inverting") as progress:
        faces = batch.PhotoBatch(tools, out, config, edits, residual, own_encoder, limit).run(paths, refused, progress)
    if faces:
        options.print_table(
            ("", "PSNR", "SSIM", "LPIPS", *identity.JUDGES, "distance from W"),
            [_format_quality(face) for face in faces],
        )
        if generators.has_faces(generator):
            options.print_line("In brackets: the share of strangers whose faces are as near.")
    if refused.count and not faces and not aligned and Path(generator).is_file():
        options.print_warning(
            "if this generator draws other things than faces, give squares framed as its own, --aligned."
        )
    noun = "face" if generators.has_faces(generator) else "picture"
    options.print_line(f"{len(faces)} {noun}{'s' * (len(faces) != 1)} in {out}")
    refused.exit()


def edit_photo(
    photos: Photos,
    out: Annotated[
        Path,
        Option(help="The photograph, PNG or JPEG; of several photographs or a folder, the folder; of a clip, an MP4."),
    ] = Path("edited.png"),
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    face: Annotated[
        str | None, Option(metavar="N|all", help="Which face, counted from left to right; by default the largest.")
    ] = None,
    whole: Annotated[bool, Option("--whole", help="Paste the generated face, not only what the edit changed.")] = False,
    region: Annotated[
        str,
        Option(
            metavar="off|auto|FILE",
            help="Change pixels where the attributes show (auto), of the head, or in the white of a picture (FILE).",
        ),
    ] = "auto",
    generator: GeneratorOption = "ffhq",
    editor: EditorName = None,
    method: InversionMethod = "both",
    steps: InversionSteps = None,
    budget: Budget = None,
    tune: Annotated[
        int,
        Option(metavar="N", help="Fit the generator's own weights to the face in N steps; kept beside a photograph."),
    ] = 0,
    refine: options.Refinements = None,
    max_pixels: Annotated[
        int, Option(help="Photographs, and frames of clips, of more pixels are refused.")
    ] = 64_000_000,
    device: Device = "cpu",
    dtype: Dtype = "auto",
) -> None:
    """Edit a face in a photograph, and put it back: outside of the edit's region pixels stay as they are.

    EXIF data are kept, turned and without a thumbnail. Nothing leaves this machine. Faces are found by landmarks that are
    for non-commercial use. A clip of some seconds (MP4, MOV, WebM, MKV) can be given, too, with --out NEW.mp4.
    """
    from ganvas import inversion
    from ganvas.cli import loading, recipe_options
    from ganvas.photo import batch, files
    from ganvas.photo.edit import SUFFIXES, PhotoEdit
    from ganvas.recipe import refinement
    from ganvas.recipe.files import check_output

    paths = inversion.find_pictures(photos)
    is_single = len(photos) == 1 and paths == photos
    if is_single:
        files.check_edited_output(paths[0], out)
    else:
        check_output(out / "face.png", SUFFIXES, paths)
    options.print_passed_over(photos)
    loading.check_draws_faces(generator)
    number, optimization = options.parse_face(face), _parse_optimization(steps, budget)
    edits = recipe_options.parse_step(set_values, shift_values, generator, editor)
    attributes = recipe_options.collect_attributes(edits)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=attributes, codes=None)
    config = batch.InversionConfig(method=method, options=optimization, max_pixels=max_pixels)
    corrections = refinement.choose_corrections(refine, edits, tools.editor, refine_all=True)
    edit = PhotoEdit(
        tools,
        edits,
        config,
        face=number,
        whole=whole,
        region=region,
        tuning=inversion.TuningConfig(tune),
        corrections=corrections,
    )
    refused = options.RefusalLog()
    with show_count("Inverting") as progress:
        if is_single:
            lines = [files.edit_file(edit, paths[0], out, progress)]
        else:
            lines = edit.edit_files(paths, out, refused, progress)
    for line in lines:
        options.print_line(line)
    refused.exit()


def import_codes(
    file: Annotated[
        Path,
        Argument(metavar="FILE", help="Codes in W or W+: .npy, .npz, .pt or .safetensors, as projectors write them."),
    ],
    out: Annotated[Path, Option(help="The codes file (safetensors), for --codes.")],
    generator: GeneratorOption = "ffhq",
    read_as: Annotated[
        Literal["w", "w+"] | None,
        Option("--read-as", help="Where an array could be both: many codes of W, or one of W+."),
    ] = None,
    spread: Annotated[
        float | None,
        Option(help="The share of the differences between rows that is kept; by default 0.15 of foreign rows, else 1."),
    ] = None,
    reach: Annotated[
        float | None,
        Option(help="How far from the mean of W codes may lie, in σ; by default 15 of foreign rows, else any."),
    ] = None,
) -> None:
    """Take over codes that others found: exactly where the rows are the generator's own, else mapped by their resolution."""
    from ganvas import inversion
    from ganvas.cli import loading
    from ganvas.data.codes import save_codes
    from ganvas.recipe import files

    files.check_output(out, (".safetensors",), [file])
    network = loading.load_generator_only(generator, "cpu")
    imported = inversion.import_codes(file, network, read_as=read_as, spread=spread, reach=reach)
    save_codes(out, imported.ws, network)
    for note in imported.notes:
        options.print_line(f"{file.name}: {note}.")
    options.print_line(f"{out}: {len(imported.ws)} codes for {network.name}")


def train_encoder(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Labels made with --keep-images, or a MultiMNIST folder.")],
    out: Annotated[Path, Option(help="The encoder (safetensors); a checkpoint lies beside it while it trains.")],
    generator: GeneratorOption = "ffhq",
    epochs: Annotated[int, Option(help="Labels: how often each face is seen.")] = 8,
    space: Annotated[Literal["w", "w+"], Option(help="MultiMNIST: one w, or with offsets of its rows.")] = "w+",
    keep_count: Annotated[float, Option(help="MultiMNIST: the weight of a loss of the number of digits.")] = 0.0,
    steps: Annotated[int | None, Option(help="MultiMNIST: steps; about one a second on one core.")] = None,
    dtype: Dtype = "float32",
    seed: options.Seed = 0,
) -> None:
    """Train an encoder: a picture to a code in one pass. Stopped and started again, it goes on.

    From labels with pictures it learns from drawn faces; from MultiMNIST, from real and drawn digits, as e4e does.
    """
    from ganvas.cli import loading
    from ganvas.generators import choose_dtype
    from ganvas.recipe import files
    from ganvas.training import encoder

    files.check_output(out, (".safetensors",))
    precision = choose_dtype(dtype, "cpu")
    if (folder / "train.parquet").exists():
        _train_count_encoder(
            folder, generator, out, steps, space=space, keep_count=keep_count, dtype=precision, seed=seed
        )
    else:
        network = loading.load_generator_only(generator, "cpu")
        encoder.train_encoder(
            folder, network, out, encoder.EncoderConfig(epochs=epochs, dtype=precision, seed=seed), options.print_line
        )
    options.print_line(out)


COMMANDS = (align, invert, edit_photo, import_codes, train_encoder)


def _parse_optimization(steps: int | None, budget: str | None) -> OptimizationConfig:
    """Parse --steps and --budget. Raises GanvasError where both are given."""
    from ganvas.inversion import OptimizationConfig

    if budget is not None and steps is not None:
        raise GanvasError("--budget replaces --steps: give one of them.")
    return OptimizationConfig(INVERSION_STEPS if steps is None else steps, options.parse_seconds(budget))


def _format_quality(face: InvertedFace) -> tuple[str, ...]:
    """Format the quality of a face's inversion as a row of a table."""
    from ganvas import identity

    quality = face.measures
    lpips = "-" if quality.lpips is None else f"{quality.lpips:.2f}"
    distances = dict(zip(identity.JUDGES, (quality.identity, quality.fr_feature), strict=True))
    judges = (identity.format_distance(name, value) for name, value in distances.items())
    distance = f"{quality.mahalanobis:.1f} of {quality.bound:.1f}"
    return face.name, f"{quality.psnr:.1f}", f"{quality.ssim:.3f}", lpips, *judges, distance


def _train_count_encoder(folder: Path, generator: str, out: Path, steps: int | None, **settings: Any) -> None:
    """Train an encoder on a MultiMNIST folder; ``steps`` None: the default. ``settings``: those of ``CountEncoderConfig``."""
    from ganvas.cli import loading
    from ganvas.scorers.count import Counter
    from ganvas.training import count_encoder

    config = count_encoder.CountEncoderConfig(**settings)
    network = loading.load_generator_only(generator, "cpu", config.dtype)
    counter = loading.load_scorer_for(generator, None, "cpu")
    if not isinstance(counter, Counter):
        raise GanvasError(
            f"Scorer {counter.name!r} of generator {generator!r} doesn't count digits: choose another --generator."
        )
    if steps is not None:
        config = replace(config, first=2 * steps, steps=steps)
    with show_count("Training") as progress:
        count_encoder.train_count_encoder(folder, network, counter, out, config, progress)
