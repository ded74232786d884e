"""Commands that label, fit and measure: label, fit, calibrate, localize, import-direction, score, success."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganvas.cli import options
from ganvas.cli.options import CodesFile, Device, Dtype, EditorName, GeneratorName
from ganvas.errors import GanvasError
from ganvas.progress import show_count
from ganvas.seeds import EVALUATION_SEED, LABEL_SEED

PANEL = "Learning and measuring"
MAX_POOR_SHOWN = 8
"""Attributes that a warning names."""

ScorerName = Annotated[
    str | None,
    typer.Option("--scorer", metavar="NAME", help="A scorer; by default the one that the generator's card names."),
]


def label(
    generator: GeneratorName,
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|URL",
            help="Where the labels go; a run that was stopped goes on there. A URL, such as s3://…, needs fsspec.",
        ),
    ],
    scorer: ScorerName = None,
    n: Annotated[int, typer.Option("-n", help="How many pictures.")] = 30_000,
    psi: options.Psi = 1.0,
    seed: options.Seed = LABEL_SEED,
    condition: options.Label = None,
    keep_images: Annotated[
        bool,
        typer.Option(
            "--keep-images",
            help="Keep the pictures at 256 pixels: another scorer takes minutes then, and its scores replace these.",
        ),
    ] = False,
    early: Annotated[
        bool, typer.Option("--early", help="Score early pictures of 512 pixels: half the time, hardly other scores.")
    ] = False,
    pack: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Then write the scores as one small file, too (safetensors).")
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of a score in --pack: 8 or 16.")] = 16,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="PACK",
            help="Go on after a pack's labels, made with the same options, in a folder of their own: -n counts both, --pack joins"
            " them.",
        ),
    ] = None,
    gradients: Annotated[
        int,
        typer.Option(metavar="N", help="Then compute the gradients of all scores for the first N pictures, too: slow."),
    ] = 0,
    engine: Annotated[
        Literal["local", "processes", "ray"], typer.Option(help="One process, several of this machine, or Ray's.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(help="How many processes or Ray actors; by default one a GPU, or a core.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; by default 1, of local all.")] = None,
    shard_size: Annotated[int, typer.Option(help="Pictures a file.")] = 256,
    part: Annotated[
        str, typer.Option(metavar="K/M", help="Only the K-th of M ranges of seeds; other machines take the others.")
    ] = "1/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many shards, bytes and hours it takes.")] = (
        False
    ),
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Draw pictures and score them, as labels that editors are fitted on."""
    from ganvas.cli import loading, recipe_options
    from ganvas.data.gradients import COMPONENTS, GradientRun
    from ganvas.data.label import LabelRun
    from ganvas.data.label_files import join_labels, load_labels, pack_labels
    from ganvas.engines import count_workers
    from ganvas.recipe import files as recipe_files

    if condition is not None and gradients:
        raise GanvasError("--gradients are of pictures with any label: leave out --label.")
    range_of_seeds = options.parse_part(part)
    if pack is not None:
        recipe_files.check_output(pack, (".safetensors",))
        if range_of_seeds != (1, 1):
            raise GanvasError("--pack needs all labels: leave out --part, once all parts are made.")
    judge, network = (
        loading.load_scorer_for(generator, scorer, device),
        loading.load_generator_only(generator, device, dtype),
    )
    label_number = recipe_options.parse_label(network, condition)
    run, first = LabelRun(network, judge, n, psi, seed, out, keep_images, shard_size, early, label_number), None
    if after is not None:
        if seed != LABEL_SEED:
            raise GanvasError("--after says which seeds follow: leave out --seed.")
        # Read before hours of labelling: they may not be whole.
        run, first = run.follow(after), load_labels(after, network)
    run = run.resume()
    if dry_run:
        count = count_workers(engine, workers, threads, network.device.type == "cuda")
        estimate = run.estimate(run.find_missing(range_of_seeds), count, threads if engine == "local" else threads or 1)
        options.print_line(f"{estimate} with {count} worker{'s' * (count != 1)} (an estimate)")
        return
    with show_count("Pictures") as progress:
        run.make_missing(range_of_seeds, progress=progress, engine=engine, workers=workers, threads=threads)
    pictures = sum(run.count_rows(range_of_seeds).values())
    options.print_line(f"{pictures} pictures with {len(judge.attributes)} attributes in {out}")
    if pack is not None:
        data = load_labels(out, network)
        data = data if first is None else join_labels(first, data)
        options.print_line(pack_labels(data, pack, bits=bits, generator=network.name))
    if gradients:
        sloped = GradientRun(network, judge, gradients, out, run.seed, min(COMPONENTS, network.w_dim))
        with show_count("Gradients") as progress:
            sloped.make_missing(progress, engine=engine, workers=workers, threads=threads)
        place = sloped.compute_summary().save(out)
        options.print_line(f"{place}: gradients of {len(judge.attributes)} attributes, from {gradients} pictures")


def fit(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method, as `ganvas list` names them.")],
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS|GENERATOR",
            help="A label folder, a label pack, or the name of one that ships; for sefa and ganspace a generator will do.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The editor (safetensors).")],
    generator: Annotated[
        str | None, typer.Option(help="The generator that was labelled, a name or a file; by default the labels' own.")
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(help="Only these: Eyeglasses,Male; by default all. Options like conditional may name others."),
    ] = None,
    option: options.MethodSettings = None,
    seed: Annotated[int | None, typer.Option(help="The random seed, for methods that take one.")] = None,
    codes: CodesFile = None,
    device: Device = "cpu",
) -> None:
    """Fit an editor on labels. --codes is for labels of a codes file.

    Without labels, sefa and ganspace number their directions: component0, component1, …
    """
    from ganvas import editors
    from ganvas.cli import loading
    from ganvas.data.label_files import find_labels, load_labels
    from ganvas.recipe import files as recipe_files

    settings = options.parse_options(option) | ({} if seed is None else {"seed": seed})
    loading.check_method(method)
    if loading.is_generator(labels) and method in editors.list_unlabelled_methods():
        recipe_files.check_output(out, (".safetensors",), [Path(labels)])
        if attributes is not None or codes is not None:
            raise GanvasError("--attributes and --codes are for labels: a generator alone has neither.")
        network = loading.load_generator_only(labels, device)
        editor = editors.fit_unlabelled(method, network, **options.parse_options(option))
        editors.save(editor, out)
        options.print_line(
            f"{out}: {len(editor.attributes)} directions, component0 to {editor.attributes[-1]}, without labels"
        )
        return
    path = find_labels(labels)
    recipe_files.check_output(out, (".safetensors",), [Path(path)])
    network = loading.load_generator_only(loading.choose_generator(generator, path), device)
    names = None if attributes is None else options.parse_names(attributes)
    data = load_labels(path, network, codes=codes, attributes=loading.select_attributes(names, settings))
    editor = loading.fit_with_progress(method, data, network, settings, names)
    editors.save(editor, out)
    for line in editors.format_report_lines(editor):
        options.print_line(line)
    if poor := editors.list_poorly_learned(editor):
        shown = ", ".join(poor[:MAX_POOR_SHOWN]) + (", …" if len(poor) > MAX_POOR_SHOWN else "")
        options.print_warning(
            f"{len(poor)} of {len(editor.attributes)} attributes were hardly learned from {len(data)} pictures ({shown}):"
            " label more."
        )
    options.print_line(f"{out}: {method} of {len(editor.attributes)} attributes, learned from {len(data)} pictures")


def calibrate(
    editor: Annotated[str, typer.Argument(metavar="EDITOR", help="A compact editor: a name or a file.")],
    out: Annotated[Path, typer.Option(help="The calibrated editor (safetensors).")],
    work: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where measurements go; a run that was stopped goes on there.")
    ],
    generator: Annotated[str, typer.Option(help="Its generator, a name or a file.")] = "ffhq",
    scorer: ScorerName = None,
    n: Annotated[int, typer.Option("-n", help="How many faces; each is drawn once for every attribute.")] = 48,
    hold: Annotated[
        float, typer.Option(help="The weight of other attributes' changes against the length of a move.")
    ] = 8.0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Calibrate a compact editor in pictures: what its edits shouldn't change there is held by its moves."""
    from ganvas import editors
    from ganvas.cli import loading
    from ganvas.editors.picture_calibration import ResponseRun, calibrate_moves_in_pictures
    from ganvas.recipe import files as recipe_files

    recipe_files.check_output(out, (".safetensors",))
    loaded, network, judge = loading.load_compact_editor(editor, generator, scorer, device, dtype)
    run = ResponseRun(loaded, network, judge, n, work)
    with show_count("Faces") as progress:
        run.make_missing(progress)
    editors.save(calibrate_moves_in_pictures(loaded, network, run.load(), hold), out)
    options.print_line(f"{out}: calibrated on {n} faces, each edited {len(loaded.attributes)} times")


def localize(
    editor: Annotated[str, typer.Argument(metavar="EDITOR", help="A compact editor: a name or a file.")],
    attribute: Annotated[
        list[str], typer.Option("--attribute", metavar="NAME", help="An attribute that shows in a region. Repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="The editor with local moves (safetensors).")],
    work: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where moves of faces go; a run that was stopped goes on there.")
    ],
    generator: Annotated[str, typer.Option(help="Its generator, a name or a file.")] = "ffhq",
    scorer: ScorerName = None,
    n: Annotated[int, typer.Option("-n", help="How many faces for each attribute.")] = 64,
    change: Annotated[float, typer.Option(help="The change in σ that refining begins with.")] = 1.5,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=σ",
            help="Change this, too, under each --attribute, as sunglasses need glasses: Eyeglasses=2. Repeatable.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of optimisation for each face.")] = 40,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Learn moves of a compact editor that change an attribute's region alone, such as glasses."""
    from ganvas import editors
    from ganvas.cli import loading
    from ganvas.recipe import files as recipe_files
    from ganvas.training import local_moves

    recipe_files.check_output(out, (".safetensors",))
    loaded, network, judge = loading.load_compact_editor(editor, generator, scorer, device, dtype)
    others = options.parse_values(beside)
    runs = [
        local_moves.LocalMoveRun(loaded, network, judge, n, work, name, steps, change, others) for name in attribute
    ]
    local_moves.check_runs(loaded, runs)
    for run in runs:
        with show_count(f"Faces, {run.attribute}") as progress:
            run.make_missing(progress)
    localized = local_moves.add_local_moves(loaded, runs)
    editors.save(localized, out)
    learned = ", ".join(f"{name} from {localized.report['local_faces'][name]} of {n} faces" for name in attribute)
    options.print_line(f"{out}: local moves, learned for {learned}")


def import_direction(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Directions: .npy, .npz, .pt or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="The editor (safetensors).")],
    generator: Annotated[
        str | None, typer.Option(help="The generator that they are for; by default that of --labels, else ffhq.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="What to call each, in their order; by default as its file.")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ATTRIBUTE",
            help="Scale a direction by the labels' reading of an attribute, as fits do. Repeatable.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="A label folder or pack; by default the one that ships.")
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(metavar="N", help="Of GANSpace's or SeFa's file: these components, 0-9 or 0,3; by default 0-9."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Make an editor of published directions, or of GANSpace's or SeFa's components.

    Directions without --like are in standard deviations of W along the direction.
    """
    from ganvas import editors
    from ganvas.cli import loading
    from ganvas.editors.published import import_directions
    from ganvas.recipe import files as recipe_files

    recipe_files.check_output(out, (".safetensors",))
    files, components = loading.choose_components(files, None if component is None else options.parse_seeds(component))
    directions = loading.name_directions(files, name or loading.name_components(components))
    aliases = options.parse_aliases(like, list(directions))
    network = loading.load_generator_only(loading.choose_generator(generator, labels), device)
    numbers = dict(zip(directions, components, strict=True)) if components else None
    editor = import_directions(directions, network, loading.load_labels_for(network, labels), aliases, numbers)
    editors.save(editor, out)
    for line in editor.report["units"]:
        options.print_line(line)
    options.print_line(
        f"{out}: {', '.join(editor.attributes)} for {network.name}, in {'W' if editor.space == 'w' else 'W+'}"
    )


def score(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Pictures, or folders: PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC."),
    ],
    scorer: Annotated[
        str | None,
        typer.Option(help="A scorer, as `ganvas list` names them; by default the one of the pictures' generator."),
    ] = None,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The pictures are aligned already: no faces are searched.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    device: Device = "cpu",
) -> None:
    """Read the attributes of pictures: probabilities, or whatever the scorer gives.

    Scorers of faces find and align the faces of photographs first; what a generator drew is taken as it is.
    """
    from ganvas.cli import loading

    refused = options.RefusalLog()
    judge, rows = loading.score_pictures(images, scorer, device, refused, aligned)
    options.print_passed_over(images)
    if as_json:
        options.print_json(rows)
    elif rows:
        titles = [f"read by {judge.name}", "as", *(Path(name).name for name in rows)]
        meanings = judge.describe_scores()
        options.print_table(
            titles,
            [[each, meaning, *(f"{row[each]:.3f}" for row in rows.values())] for each, meaning in meanings.items()],
        )
    refused.exit()


def success(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The folder for the table; a run that was stopped goes on there.")],
    editor: EditorName = None,
    scorer: ScorerName = None,
    attributes: Annotated[str, typer.Option(help="The attributes to try.")] = "Eyeglasses,Male,Smiling,Young",
    n: Annotated[int, typer.Option("-n", help="Pictures an attribute.")] = 256,
    psi: options.Psi = 1.0,
    seed: options.Seed = EVALUATION_SEED,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Measure how often an editor succeeds, as Lesné et al. define it, on pictures that it was not fitted on."""
    from ganvas.cli import loading
    from ganvas.evaluation import success as evaluation
    from ganvas.recipe.rendering import load_editor_for

    protocol = evaluation.SuccessProtocol(n=n, seed=seed, psi=psi)
    judge, network = (
        loading.load_scorer_for(generator, scorer, device),
        loading.load_generator_only(generator, device, dtype),
    )
    loaded_editor, _ = load_editor_for(network, loading.choose_editor(generator, editor))
    evaluation.run_success(network, judge, loaded_editor, out, options.parse_names(attributes), protocol)
    options.print_line((out / "success.md").read_text(encoding="utf-8"))


COMMANDS = (label, fit, calibrate, localize, import_direction, score, success)
