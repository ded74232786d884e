"""The source tree keeps to its own rules: plain names, one class of a name, private names inside their package, no circles."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "ganvas"
MAX_TOP_MODULES = 14
BANNED_NAMES = frozenset(
    "told look looks see said found made known about kept ask hand hands watch doors lesson knowledge doubt wanted given desk "
    "desks visitor turns wires".split()
)
VAGUE_CLASSES = frozenset("Options Stage Search Batch Model Data State".split())


PATHS = {
    ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCES.rglob("*.py"))
}
"""Every module of the library by its dotted name."""


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax trees of all modules."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}


def imports_of(name: str) -> Iterator[tuple[str, str, bool]]:
    """(module imported from, name, whether only for type checking) of every import from the library, wherever it stands."""
    tree = modules()[name]
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ganvas":
            for alias in node.names:
                yield node.module or "", alias.name, id(node) in typing_only


def public_classes() -> dict[str, list[str]]:
    found = defaultdict(list)
    for name, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def test_few_modules_stand_at_the_top() -> None:
    assert len(list(SOURCES.glob("*.py"))) <= MAX_TOP_MODULES


def test_a_public_class_name_exists_once() -> None:
    assert {name: places for name, places in public_classes().items() if len(places) > 1} == {}


def test_class_names_say_what_they_hold() -> None:
    assert sorted(VAGUE_CLASSES & public_classes().keys()) == []


@pytest.mark.parametrize("name", sorted(PATHS))
def test_modules_and_functions_have_the_fields_names(name: str) -> None:
    functions = [node.name for node in modules()[name].body if isinstance(node, ast.FunctionDef)]
    assert BANNED_NAMES.isdisjoint([name.rpartition(".")[2], *functions])


@pytest.mark.parametrize("name", sorted(PATHS))
def test_private_names_stay_in_their_package(name: str) -> None:
    package = name.split(".")[:2]
    foreign = [
        f"{module}.{item}"
        for module, item, _ in imports_of(name)
        if any(part.startswith("_") and not part.startswith("__") for part in [*module.split("."), item])
        and module.split(".")[:2] != package
    ]
    assert foreign == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count, too: they hide a circle, they don't open it."""
    known = modules()
    graph = {
        name: {
            full if (full := f"{module}.{item}") in known else module
            for module, item, typing_only in imports_of(name)
            if not typing_only
        }
        - {name}
        for name in known
    }
    state: dict[str, int] = {}

    def find_circle(name: str, way: list[str]) -> list[str] | None:
        state[name] = 1
        for other in sorted(graph[name] & known.keys()):
            if state.get(other) == 1:
                return [*way[way.index(other) :], other] if other in way else [name, other]
            if other not in state and (circle := find_circle(other, [*way, other])):
                return circle
        state[name] = 2
        return None

    circles = [circle for name in known if name not in state and (circle := find_circle(name, [name]))]
    assert circles == []


def test_library_code_asserts_nothing() -> None:
    places = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert places == []
