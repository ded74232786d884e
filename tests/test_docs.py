"""What README and documentation mention exists: commands, options, Python names, scripts and make targets."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from ganvas import editors, generators, scorers
from ganvas.checkpoints.checkpoint import FAMILIES
from ganvas.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "experiments/README.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if not {"generated", "results"} & set(path.relative_to(ROOT).parts)
)
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands
FENCE = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read_blocks(path: Path, *kinds: str) -> Iterator[str]:
    for kind, text in FENCE.findall(path.read_text(encoding="utf-8")):
        if kind.strip("{}") in kinds:
            yield text


def read_commands(text: str) -> Iterator[list[str]]:
    """The words after ``ganvas`` of each line, with its continuations, up to a comment."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("ganvas "):
            yield shlex.split(line, comments=True)[1:]


def check_command(words: list[str]) -> list[str]:
    """What is wrong with a command, one text each."""
    name, *rest = words
    if name not in COMMANDS:
        return [f"there is no command {name!r}"]
    options = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = [word.partition("=")[0] for word in rest if re.match(r"--?[A-Za-z]", word)]
    wrong = [f"{name} has no option {option}" for option in used if option not in options | {"--help", "-h"}]
    arguments = [p for p in COMMANDS[name].params if not p.opts[0].startswith("-")]
    if any(p.required for p in arguments) and (not rest or rest[0].startswith("-")):
        wrong.append(f"{name} needs its argument first")
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = [
        complaint
        for block in read_blocks(path, "sh", "text")
        for words in read_commands(block)
        for complaint in check_command(words)
    ]
    mentioned = re.findall(r"`ganvas ([a-z][a-z-]*)", re.sub(FENCE, "", text))
    assert wrong + [f"there is no command {name!r}" for name in mentioned if name not in COMMANDS] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_compiles_and_its_names_exist(path: Path) -> None:
    for block in read_blocks(path, "python", "code-cell"):
        tree = ast.parse(re.sub(r"^%%\w+.*\n", "", block), str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ganvas"):
                for alias in node.names:
                    assert find_name(f"{node.module}.{alias.name}") is not None
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("ganvas"):
                        import_module(alias.name)
            elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ganvas."):
                assert find_name(ast.unparse(node)) is not None, ast.unparse(node)


def find_name(dotted: str) -> Any:
    """The module or attribute of a dotted name, None where there is none."""
    owner, _, name = dotted.rpartition(".")
    if not owner:
        return import_module(name)
    found = getattr(find_name(owner), name, None)
    if found is None and find_spec(dotted) is not None:
        found = import_module(dotted)
    return found


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_and_targets_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    modules = re.findall(r"python -m (experiments[\w.]*\w)", text)
    scripts = re.findall(r"python ((?:benchmarks|docs|tests)/[\w/]+\.py)", text)
    makes = re.findall(r"(?:^|`|^    )(?:GANVAS_DOCS=small )?make ([a-z]+)", text, re.MULTILINE)
    assert [name for name in modules if find_spec(name) is None] == []
    assert [name for name in scripts if not (ROOT / name).is_file()] == []
    assert [name for name in makes if name not in targets] == []


def test_wrong_commands_are_found() -> None:
    text = "ganvas edit ffhq --shift Smiling=-1 --smile 2  # --nothing\nganvas paint ffhq\nganvas label --out x\n"
    found = [complaint for words in read_commands(text) for complaint in check_command(words)]
    assert found == ["edit has no option --smile", "there is no command 'paint'", "label needs its argument first"]


def test_generated_pages_name_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import_module("generate").write_pages(tmp_path)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    named = {
        "commands": COMMANDS.keys(),
        "editors": editors.list_methods(),
        "generators": generators.list_generators(),
        "scorers": scorers.list_scorers(),
        "formats": ["nvidia", "rosinality", "dcgan"],
    }
    assert pages.keys() == named.keys()
    read = {family for families, *_ in import_module("generate").GENERATOR_FORMATS.values() for family in families}
    assert read == FAMILIES.keys() and "ganvas export-onnx" in pages["formats"]
    assert [(page, name) for page, names in named.items() for name in names if name not in pages[page]] == []
    options = {option for command in COMMANDS.values() for p in command.params for option in p.opts if option[0] == "-"}
    assert [option for option in sorted(options) if option not in pages["commands"]] == []


def test_the_version_is_one() -> None:
    version = re.search(r'__version__ = "(.*)"', (ROOT / "src/ganvas/__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
