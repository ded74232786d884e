"""``ganvas bench`` of a generator whose scorer counts: runs the sections, writes their tables, figures and page into a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ganvas
from experiments.multimnist.config import FULL, CountReportConfig
from experiments.multimnist.context import CountContext
from experiments.multimnist.labelled_codes import label_samples
from experiments.multimnist.runner import SECTIONS, ReportResult, run_sections
from experiments.multimnist.section import ReportSection, encode_picture
from ganvas import generators
from ganvas.errors import GanvasError
from ganvas.evaluation import html_page
from ganvas.evaluation.report import PACKAGES, default_command
from ganvas.evaluation.sections import to_markdown
from ganvas.evaluation.table_cells import format_number, format_verdict
from ganvas.evaluation.tables import format_estimate
from ganvas.evaluation.trials import dtype_name
from ganvas.io.files import atomic_write, write_json, write_text
from ganvas.recipe.files import check_output
from ganvas.recipe.model import load_tools
from ganvas.scorers import load_scorer
from ganvas.scorers.base import Scorer

Reporter = Callable[[str], object]


@dataclass(frozen=True)
class CountReportRequest:
    """What a count report is asked for. ``folder``: a MultiMNIST folder, for the sections on real images."""

    generator: str
    scorer: str | None = None
    folder: Path | None = None
    size: CountReportConfig = FULL
    sections: Sequence[str] = SECTIONS
    device: str = "cpu"
    dtype: str = "float32"


def counts_objects(scorer: Scorer) -> bool:
    """Whether the report of a scorer is the count report."""
    return dict(zip(scorer.attributes, scorer.kinds, strict=True)).get("count") == "count"


def make_report(
    wanted: CountReportRequest, out: str | Path, command: str = "", say: Reporter = lambda line: None
) -> dict[str, Any]:
    """Run it and write ``out``/report.json, report.md, index.html and pictures; started again it goes on.

    Returns what the JSON holds. Raises GanvasError for unknown names, a scorer that doesn't count, a folder that isn't
    MultiMNIST's or can't be written; what fails in a section is marked in the report.
    """
    out = Path(out)
    check_output(out / "report.json", (".json",))
    if wanted.folder is not None and not (wanted.folder / "train.parquet").is_file():
        raise GanvasError(f"{wanted.folder} isn't a MultiMNIST folder: `ganvas make-multimnist` writes one.")
    generator = load_tools(wanted.generator, wanted.dtype, wanted.device).generator
    counter = load_scorer(wanted.scorer or generators.card(wanted.generator).scorer).to(generator.device)
    if not counts_objects(counter):
        raise GanvasError(f"Scorer {counter.name!r} doesn't count objects: it has no count called 'count'.")
    say(f"Labelling {wanted.size.labels:,} sampled codes …")
    labels = label_samples(generator, counter, wanted.size.labels, out / "work" / "labels")
    context = CountContext(generator, counter, labels, wanted.folder, out / "work", wanted.size, watch=say)
    return write_report(context, run_sections(context, wanted.sections, say), out, command or default_command())


def write_report(context: CountContext, found: ReportResult, out: Path, command: str) -> dict[str, Any]:
    """Everything that people read, from a finished run."""
    made = describe_versions(context, command)
    aims = [aim for section in found.sections for aim in section.data.get("aims", ())]
    results = {
        "made": made,
        "aims": aims,
        "gaps": found.gaps,
        "sections": {section.name: dict(section.data) for section in found.sections},
    }
    for section in found.sections:
        for name, picture in section.pictures.items():
            with atomic_write(out / f"{name}.png") as file:
                file.write_bytes(encode_picture(picture))
    write_json(out / "report.json", results)
    title = f"Counting objects in what {context.generator.name} draws"
    about = (
        "Doubinsky et al., Contrôle de la cardinalité par navigation dans l'espace latent des GANs (RFIAP 2022), rebuilt and"
        f" taken further. {made['labels']['n']:,} sampled codes were labelled by the counter {context.counter.name!r}, which looks"
        f" at pictures; whatever is moved is drawn again and judged by it, on fresh codes (seeds from {context.seed:,} on)."
        " Brackets: 95 % bootstrap intervals."
    )
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    end = f"Made by `{command}`. {versions}; {made['dtype']}; seeds from {context.seed:,}; report.json has all of it."
    shown = [*_aims(aims), *(part for section in found.sections for part in page_sections(section)), *_gaps(found.gaps)]
    write_text(out / "report.md", to_markdown(title, about, shown, end))
    write_text(out / "index.html", html_page.render_page(title, about, shown, end))
    return results


def describe_versions(context: CountContext, command: str) -> dict[str, Any]:
    """The command, versions and seeds."""
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
        "dtype": dtype_name(generator),
        "scorer": f"{context.counter.name}:{context.counter.fingerprint}",
        "labels": {"n": len(labels), "seed": labels.source.seed, "psi": labels.source.psi},
        "seed": context.seed,
        "size": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(context.config).items()},
        "folder": None if context.folder is None else context.folder.name,
    }


def page_sections(section: ReportSection) -> list[html_page.PageSection]:
    """A section as the page has it: its text, then its tables, then its pictures."""
    tables = [(table, [table.head, *table.rows]) for table in section.tables]
    made = [html_page.PageSection(section.title, section.intro)]
    made += [html_page.PageSection(table.title, table.note, table=rows) for table, rows in tables]
    for name in section.pictures:
        caption = section.captions.get(name, "")
        made.append(html_page.PageSection(f"{section.title}: {name}", caption, f"{name}.png"))
    return made


def _aims(aims: Sequence[dict[str, Any]]) -> list[html_page.PageSection]:
    """What was aimed at, and what came of it; each is {"what", "aim", "found" (an estimate), "holds"}."""
    if not aims:
        return []
    rows = [
        (aim["what"], format_number(aim["aim"]), format_estimate(aim["found"], 3), format_verdict(aim["holds"]))
        for aim in aims
    ]
    return [html_page.PageSection("What was aimed at", "", table=[("what", "at least", "found", "holds"), *rows])]


def _gaps(gaps: dict[str, str]) -> list[html_page.PageSection]:
    rows = [("section", "why"), *gaps.items()]
    return [html_page.PageSection("What is missing", "", table=rows)] if gaps else []
