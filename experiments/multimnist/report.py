"""The report on counts: Doubinsky et al.'s tables and figures for a generator whose scorer counts, and what goes beyond them.

    python -m experiments.multimnist.report multimnist --folder m64 --out DIR

Writes report.json, report.md, index.html and pictures. What a stopped report had done is in DIR/work: it goes on from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

import ganvas
from experiments.multimnist.config import FULL, QUICK, CountReportConfig
from experiments.multimnist.context import CountContext
from experiments.multimnist.labelled_codes import label_samples
from experiments.multimnist.runner import ReportResult, run_sections
from experiments.multimnist.section import ReportSection, encode_picture
from ganvas import generators
from ganvas.cli.options import Device, Dtype, GeneratorName
from ganvas.errors import GanvasError
from ganvas.evaluation import pages
from ganvas.evaluation.faces import get_dtype_name
from ganvas.evaluation.pages import format_estimate, format_number, format_verdict
from ganvas.evaluation.report import PACKAGES
from ganvas.io.files import atomic_write, write_json, write_text
from ganvas.recipe.files import check_output
from ganvas.recipe.rendering import load_tools
from ganvas.scorers import load_scorer
from ganvas.scorers.base import Scorer


@dataclass(frozen=True)
class CountReportRequest:
    """What to report on. ``folder``: a MultiMNIST folder, for the sections on real images."""

    generator: str
    scorer: str | None = None
    folder: Path | None = None
    config: CountReportConfig = FULL
    device: str = "cpu"
    dtype: str = "float32"


def counts_objects(scorer: Scorer) -> bool:
    """Return whether a scorer has a count called "count"."""
    return dict(zip(scorer.attributes, scorer.kinds, strict=True)).get("count") == "count"


def make_report(
    request: CountReportRequest,
    out: str | Path,
    command: str = "",
    log: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Run all sections and write the report into the folder ``out``; started again it goes on. Returns what report.json holds.

    Raises GanvasError for unknown names, a scorer that counts nothing, a folder that is not MultiMNIST's or can't be
    written. A section that fails is listed in the report.
    """
    out = Path(out)
    check_output(out / "report.json", (".json",))
    if request.folder is not None and not (request.folder / "train.parquet").is_file():
        raise GanvasError(f"{request.folder} isn't a MultiMNIST folder: `ganvas make-multimnist` writes one.")
    counter_name = request.scorer or generators.find_card(request.generator).scorer
    if not counter_name:
        raise GanvasError(f"Generator {request.generator!r} has no scorer of its own: name one with --scorer.")
    counter = load_scorer(counter_name)
    if not counts_objects(counter):
        raise GanvasError(f"Scorer {counter.name!r} doesn't count objects: it has no count called 'count'.")
    generator = load_tools(request.generator, request.dtype, request.device).generator
    counter = counter.to(generator.device)
    log(f"Labelling {request.config.labels:,} sampled codes …")
    labels = label_samples(generator, counter, request.config.labels, out / "work" / "labels")
    context = CountContext(generator, counter, labels, request.folder, out / "work", request.config, log=log)
    return write_report(context, run_sections(context), out, command or read_command())


def write_report(context: CountContext, result: ReportResult, out: Path, command: str) -> dict[str, Any]:
    """Write the JSON, the pages and the pictures of a finished run. Returns what the JSON holds."""
    run = describe_run(context, command)
    aims = [aim for section in result.sections for aim in section.data.get("aims", ())]
    results = {
        "made": run,
        "aims": aims,
        "gaps": result.gaps,
        "sections": {section.name: dict(section.data) for section in result.sections},
    }
    for section in result.sections:
        for name, picture in section.pictures.items():
            with atomic_write(out / f"{name}.png") as file:
                file.write_bytes(encode_picture(picture))
    write_json(out / "report.json", results)
    title = f"Counting objects in what {context.generator.name} draws"
    about = (
        "Doubinsky et al., Contrôle de la cardinalité par navigation dans l'espace latent des GANs (RFIAP 2022), rebuilt and"
        f" taken further. {run['labels']['n']:,} sampled codes were labelled by the counter {context.counter.name!r}, which"
        " looks at pictures; whatever is moved is drawn again and judged by it, on fresh codes (seeds from"
        f" {context.seed:,} on). Brackets: 95 % intervals, Wilson's for shares, else by a bootstrap."
    )
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    end = f"Made by `{command}`. {versions}; {run['dtype']}; seeds from {context.seed:,}; report.json has all of it."
    sections = [part for section in result.sections for part in to_page_sections(section)]
    page = [*make_aim_sections(aims), *sections, *make_gap_sections(result.gaps)]
    write_text(out / "report.md", pages.render_markdown(title, about, page, end))
    write_text(out / "index.html", pages.render_page(title, about, page, end))
    return results


def describe_run(context: CountContext, command: str) -> dict[str, Any]:
    """Return the command, versions, fingerprints and seeds, as JSON."""
    versions = {"ganvas": ganvas.__version__, "python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    generator, labels = context.generator, context.labels
    return {
        "command": command,
        "versions": versions,
        "generator": f"{generator.name}:{generator.fingerprint}",
        "dtype": get_dtype_name(generator),
        "scorer": f"{context.counter.name}:{context.counter.fingerprint}",
        "labels": {"n": len(labels), "seed": labels.source.seed, "psi": labels.source.psi},
        "seed": context.seed,
        "size": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(context.config).items()},
        "folder": None if context.folder is None else context.folder.name,
    }


def read_command() -> str:
    """Return the command as it was typed, without this machine's folders."""
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return " ".join(["python -m experiments.multimnist.report", *words])


def to_page_sections(section: ReportSection) -> list[pages.PageSection]:
    """Return a section as the page shows it: its text, then its tables, then its pictures."""
    parts = [pages.PageSection(section.title, section.intro)]
    parts += [pages.PageSection(table.title, table.note, table=[table.head, *table.rows]) for table in section.tables]
    for name in section.pictures:
        caption = section.captions.get(name, "")
        parts.append(pages.PageSection(f"{section.title}: {name}", caption, f"{name}.png"))
    return parts


def make_aim_sections(aims: Sequence[Mapping[str, Any]]) -> list[pages.PageSection]:
    """Return a table of aims and results; each aim is {"what", "aim", "found" (an estimate), "holds"}."""
    if not aims:
        return []
    rows = [
        (aim["what"], format_number(aim["aim"]), format_estimate(aim["found"], 3), format_verdict(aim["holds"]))
        for aim in aims
    ]
    return [pages.PageSection("What was aimed at", "", table=[("what", "at least", "found", "holds"), *rows])]


def make_gap_sections(gaps: Mapping[str, str]) -> list[pages.PageSection]:
    """Return a table of the sections that failed, and why."""
    rows = [("section", "why"), *gaps.items()]
    return [pages.PageSection("What is missing", "", table=rows)] if gaps else []


def main(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The folder for the report; a run that was stopped goes on there.")],
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A MultiMNIST folder, for the sections on real images.")
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The counter; by default the one that the generator's card names."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="All sections, small.")] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Report on ways to move the count of objects in what a generator draws."""
    request = CountReportRequest(generator, scorer, folder, QUICK if quick else FULL, device, dtype)
    try:
        make_report(request, out, log=lambda line: print(line, flush=True))
    except GanvasError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(out / "index.html")


if __name__ == "__main__":
    typer.run(main)
