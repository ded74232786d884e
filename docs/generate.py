"""Write the pages that say what there is, from the code, its cards and its reports, so that none is written by hand.

``python docs/generate.py [FOLDER]``; ``make docs`` runs it by way of ``conf.py``.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from ganvas import checkpoints, editors, scorers
from ganvas.cli import app
from ganvas.data import label_files
from ganvas.io import hub, images

DOCS = Path(__file__).parent
PACKAGE = Path(inspect.getfile(checkpoints)).parents[1]
ASSETS = PACKAGE / "assets"
REPORT = DOCS / "results" / "ffhq" / "report.json"

ORIGINAL, SAME = "the original code's pictures", "the same network in another format"
GENERATOR_FORMATS = {
    "checkpoints.nvidia": (("stylegan2", "stylegan3"), ORIGINAL, "test_cases", ""),
    "checkpoints.nvidia_stylegan3": (("stylegan3",), ORIGINAL, "test_stylegan3", ""),
    "checkpoints.nvidia_state_dict": (("stylegan2",), ORIGINAL, "test_cases", "ganvas export --format nvidia"),
    "checkpoints.tensorflow": (("stylegan1", "stylegan2"), ORIGINAL, "test_cases_tensorflow", ""),
    "checkpoints.rosinality": (("stylegan2",), ORIGINAL, "test_cases", "ganvas export --format rosinality"),
    "checkpoints.genforce": (("stylegan2",), ORIGINAL, "test_cases", ""),
    "checkpoints.stylegan1": (("stylegan1",), ORIGINAL, "test_cases_tensorflow", ""),
    "checkpoints.stylegan1_ports": (("stylegan1",), SAME, "test_stylegan1_checkpoints", ""),
    "checkpoints.biggan": (("biggan",), ORIGINAL, "test_cases_biggan", ""),
    "checkpoints.pggan": (("pggan",), f"{ORIGINAL} (TensorFlow's: {SAME})", "test_cases_biggan", ""),
    "checkpoints.carded": (("dcgan",), "PyTorch's modules", "test_checkpoints", ""),
    "checkpoints.gan_face_generate": (("dcgan",), "PyTorch's modules", "test_faces64", ""),
    "generators.openvino_ir": (("mobilestylegan",), "OpenVINO's pictures", "test_mobilestylegan", ""),
    "checkpoints.checkpoint": (tuple(checkpoints.FAMILIES), "bit for bit", "test_checkpoints", "ganvas convert"),
    "checkpoints.export_onnx": ((), "onnxruntime's pictures", "test_export_onnx", "ganvas export-onnx"),
}
"""Module -> the families that it reads, what its pictures are compared with, in which test, and what writes the format."""
READ_FORMATS = {
    "Generators": (*(name for name, row in GENERATOR_FORMATS.items() if row[0]), "generators.dcgan"),
    "How checkpoints are read": (
        "checkpoints",
        *(
            f"checkpoints.{name}"
            for name in ("_pickle", "_torch", "_numpy", "_objects", "_archives", "file_kinds", "unsupported")
        ),
    ),
    "Directions, codes and labels of others": ("editors.published", "inversion.imported_codes", "data.label_csv"),
    "Classifiers": ("scorers._classifier", "scorers._onnx_guard"),
    "Data sets": ("data.mnist", "data.multimnist_files"),
}
"""Title -> the modules whose documentation describes a format that is read."""
WRITTEN_FORMATS = ("data.label", "editors.editor_files", "recipe.files", "recipe.model")
MEASURES = {
    "success": "success",
    "identity": "identity",
    "identity_distance": "dlib's distance",
    "strength": "change (σ)",
    "mahalanobis": "Mahalanobis",
}
"""A key of the report's rows -> the title of its column."""


def write_pages(folder: Path) -> None:
    """Write all generated pages to a folder; files that are equal already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (title, write) in PAGES.items():
        text = f"# {title}\n\n{write().strip()}\n"
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def write_commands() -> str:
    """Describe each command with its arguments and options, from typer's own help."""
    group = typer.main.get_command(app)
    sections: dict[str, list[str]] = {}
    for name, command in group.commands.items():
        sections.setdefault(command.rich_help_panel, []).append(_describe_command(name, command))
    index = [
        f"**{panel}**: " + ", ".join(f"[`{name}`](#{name})" for name in _names_of(group, panel)) + "."
        for panel in sections
    ]
    parts = ["Bad input ends in one line and exit status 1, wrong usage in 2, Ctrl-C in 130.", *index]
    for panel, texts in sections.items():
        parts += [f"## {panel}", *texts]
    return "\n\n".join(parts)


def _names_of(group: Any, panel: str) -> list[str]:
    return [name for name, command in group.commands.items() if command.rich_help_panel == panel]


def _describe_command(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    rows, usage = [], ["ganvas", name, "[OPTIONS]"]
    for parameter in command.params:
        head, text = parameter.get_help_record(context)
        is_argument = not parameter.opts[0].startswith("-")
        if is_argument:
            head = parameter.metavar or parameter.name.upper()
            usage.append(head)
        rows.append([_code(head), _escape(text)])
    table = _table(["argument or option", "what"], rows) if rows else ""
    return f"### {name}\n\n{_escape(command.help)}\n\n```text\n{' '.join(usage)}\n```\n\n{table}"


def write_editors() -> str:
    """List the methods, and what the report measured of each at the paper's protocol."""
    methods = [(name, importlib.import_module(f"ganvas.editors.{name}")) for name in editors.list_methods()]
    rows = [[_code(name), _escape(_summary(module)), _link_papers(module), module.NEEDS] for name, module in methods]
    shipped = [[_code(name), editors.describe_editor(name)] for name in editors.list_editors()]
    return "\n\n".join(
        [
            "`ganvas.fit(NAME, labels, generator)` and `ganvas fit NAME LABELS --out FILE` fit each of these.",
            _table(["method", "what it does", "paper", "learns from"], rows),
            "## Editors that ship",
            _table(["name", "what"], shipped),
            *[_include(path) for path in sorted((ASSETS / "editors").glob("*/*.md"))],
            "## Options of the methods",
            *[_describe_method(name, module) for name, module in methods],
            "## Measured on faces",
            _write_measures(json.loads(REPORT.read_text(encoding="utf-8"))),
        ]
    )


def _write_measures(report: dict[str, Any]) -> str:
    """Make one table for each attribute of what the report measured at the paper's protocol."""
    parts = [
        f"From `docs/results/ffhq/report.json` (`{report['made']['command']}`): methods × measures on the same fresh faces, "
        "by the protocol of Lesné et al., section 4.3. Brackets: 95 % intervals. "
        "[How we measure](../explanations/measuring.md) defines the columns."
    ]
    for attribute, by_method in report["paper"].items():
        judges = list(next(iter(by_method.values()))["drift"])
        titles = ["method", "n", *MEASURES.values(), *[f"drift ({judge})" for judge in judges]]
        rows = [
            [
                name,
                str(row["n"]),
                *[_format_estimate(row.get(key)) for key in MEASURES],
                *[_format_estimate(row["drift"].get(judge)) for judge in judges],
            ]
            for name, row in by_method.items()
        ]
        parts += [f"### {attribute}", _table(titles, rows)]
    return "\n\n".join(parts)


def _describe_method(name: str, module: ModuleType) -> str:
    parameters = inspect.signature(module.fit).parameters.values()
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    options = ", ".join(f"`{p.name}={p.default!r}`" if p.default is not p.empty else f"`{p.name}`" for p in named)
    more = " Further options are listed in the text above." if any(p.kind is p.VAR_KEYWORD for p in parameters) else ""
    return f"### {name}\n\n{_convert_docstring(module.__doc__)}\n\n`fit`: {options or 'no options.'}{more}"


def write_formats() -> str:
    """Describe the files that are read and written, from the modules that read and write them."""
    parts = [
        f"`ganvas.load_generator(PATH)` and `ganvas info PATH` tell formats apart by their content: {checkpoints.FORMATS}. "
        f"At most {checkpoints.MAX_FILE_BYTES >> 30} GiB of a checkpoint are read. "
        "[What is promised of files](../security.md) is a page of its own.",
        f"**Pictures** are read from {', '.join(f'`{suffix}`' for suffix in images.PICTURE_SUFFIXES)}, of at most "
        f"{images.MAX_PIXELS:,} pixels and {images.MAX_FILE_BYTES >> 20} MiB. "
        f"Downloads have at most {hub.MAX_FILE_BYTES >> 20} MiB and are verified by sha256.",
        "## Generators",
        "Errors are the largest of a pixel, over the standard deviation of the expected picture, that the test allows. Tests of "
        "the original code's pictures read the folder that `GANVAS_CASES` names.",
        _table(["format", "where from", "read", "exact to", "written by"], map(_list_format, GENERATOR_FORMATS)),
        "## Read",
    ]
    for title, names in READ_FORMATS.items():
        parts += [f"### {title}", *[_describe_format(name) for name in names]]
    parts += ["## Written", *[_describe_format(name) for name in WRITTEN_FORMATS]]
    return "\n\n".join(parts)


def _list_format(name: str) -> list[str]:
    """Return the row of a format of generators."""
    families, compared, test, command = GENERATOR_FORMATS[name]
    module = importlib.import_module(f"ganvas.{name}")
    text = (DOCS.parent / "tests" / f"{test}.py").read_text(encoding="utf-8")
    allowed = re.search(r"(?m)^TOLERANCE = (\S+)$", text) if compared.startswith(ORIGINAL) else None
    tolerance = allowed[1] if allowed else getattr(module, "MAX_ERROR", None)
    exact = f"{compared}, to {tolerance}" if tolerance else compared
    read = ", ".join(families) or "–"
    return [
        _summary(module),
        _link_papers(module),
        read,
        f"{exact} (`tests/{test}.py`)",
        _code(command) if command else "–",
    ]


def _describe_format(name: str) -> str:
    module = importlib.import_module(f"ganvas.{name}")
    return f"`ganvas.{name}`: {_convert_docstring(module.__doc__)}"


def write_generators() -> str:
    """List the generators that load by name, with their licences, and the labels and encoders that ship for them."""
    cards = tomllib.loads((PACKAGE / "generators" / "cards.toml").read_text(encoding="utf-8"))
    rows = [
        [
            _code(name),
            _escape(card["about"]),
            _escape(card["licence"]),
            _link(card["source"]),
            card.get("fingerprint", "")[:12],
        ]
        for name, card in cards.items()
    ]
    labels = [[_code(name)] for name in label_files.list_labels()]
    return "\n\n".join(
        [
            "`ganvas.load_generator(NAME)` loads these; it also opens [other people's checkpoints](formats.md), and those that "
            "`ganvas train-gan` makes.",
            _table(["name", "what", "licence", "source", "fingerprint"], rows),
            *[_include(path) for path in sorted((ASSETS / "generators").glob("*.md"))],
            "## Labels that ship",
            _table(["name"], labels),
            *[_include(path) for path in sorted((ASSETS / "labels").glob("*.md"))],
            "## Encoders that ship",
            *[_include(path) for path in sorted((ASSETS / "encoders").glob("*.md"))],
        ]
    )


def write_scorers() -> str:
    """List the scorers, their licences, and the cards of those that ship, with what was measured of them."""
    cards, rows = scorers.read_cards(), []
    modules = {name: importlib.import_module(f"ganvas.scorers.{name}") for name in scorers.list_scorers()}
    for name, module in modules.items():
        card = ASSETS / "scorers" / f"{name}.md"
        licence = re.search(r"\*\*Licence\*\*: (.*)", card.read_text(encoding="utf-8")) if card.exists() else None
        text = cards[name].licence if name in cards else licence[1] if licence else "Apache-2.0"
        rows.append([_code(name), _escape(_summary(module)), _escape(text)])
    return "\n\n".join(
        [
            "`ganvas.load_scorer(NAME)` loads these, files of `ganvas train-scorer`, and classifiers in ONNX with a card.",
            _table(["name", "what", "licence"], rows),
            *[_include(path) for path in sorted((ASSETS / "scorers").glob("*.md"))],
            *[
                f"## {name}\n\n{_convert_docstring(module.__doc__)}"
                for name, module in modules.items()
                if not (ASSETS / "scorers" / f"{name}.md").exists()
            ],
        ]
    )


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "commands": ("The command line", write_commands),
    "editors": ("Editors and what was measured", write_editors),
    "formats": ("Formats", write_formats),
    "generators": ("Generators and licences", write_generators),
    "scorers": ("Scorers and their quality", write_scorers),
}
"""The name of a page -> its title and what writes it."""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _format_estimate(value: Any) -> str:
    """Format a mean with its interval, with as many digits as the report's own tables."""
    if not isinstance(value, dict) or value.get("mean") is None:
        return "–"
    digits = 1 if abs(value["mean"]) >= 10 else 3 if abs(value["mean"]) <= 1 else 2
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _summary(module: ModuleType) -> str:
    """Return the first paragraph of a module's documentation on one line."""
    return " ".join((module.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def _link_papers(module: ModuleType) -> str:
    """Link the addresses that a module's documentation names."""
    addresses = dict.fromkeys(re.findall(r"https?://[^\s,)]*[^\s,).:]", module.__doc__ or ""))
    return ", ".join(map(_link, addresses)) or "–"


def _link(address: str) -> str:
    """Link an address under a short name; a path stays as it is."""
    if not address.startswith("http"):
        return _code(address)
    parts = address.split("/")
    name = "/".join(parts[3:5]) if parts[2] == "github.com" else parts[2].removeprefix("www.")
    return f"[{address.replace('https://arxiv.org/abs/', 'arXiv ') if name == 'arxiv.org' else name}]({address})"


def _convert_docstring(text: str | None) -> str:
    """Convert a docstring to Markdown: indented formulas to blocks, double backticks to single ones, addresses to links."""
    text = re.sub(r"(?<![<(])(https?://[^\s,)]*[^\s,).:])", r"<\1>", inspect.cleandoc(text or "").replace("``", "`"))
    return re.sub(r"(?m)^    .*(\n    .*)*", lambda block: f"```text\n{inspect.cleandoc(block[0])}\n```", text)


def _include(path: Path) -> str:
    """Include a card that lies beside the weights, one level of headings lower."""
    relative = Path("..") / ".." / path.relative_to(DOCS.parent)
    return f"```{{include}} {relative.as_posix()}\n:heading-offset: 1\n```"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _escape(text: str | None) -> str:
    """Escape what tables and HTML would take as their own."""
    return re.sub(r"([|<>*])", r"\\\1", text or "")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "generated")
