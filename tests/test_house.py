"""The source tree keeps to its own rules: plain names, one class of a name, private names inside their package, no circles."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "ganvas"
MAX_TOP_MODULES = 14
COME_WITH_OTHERS = frozenset("dlib pydantic-core fastapi httpx starlette uvicorn".split())
"""Modules that dlib-bin, pydantic and gradio bring."""
FROM_ELSEWHERE = frozenset({"lpips"})
"""What a user installs by hand, as its message says: of no extra, since it brings torchvision."""
BANNED_NAMES = frozenset(
    "told look looks see said found made known about kept ask hand hands watch doors lesson knowledge doubt wanted given desk "
    "desks visitor turns wires".split()
)
BANNED_CONSTANTS = frozenset("AIMS BATCH DECAY GAIN PADDING RANDOM RATE".split())
"""They say neither a unit nor a role."""
BANNED_WORDS = frozenset("MOST LEAST FEWEST CLOSE MANY FEW TRIES".split())
"""Words that no constant has: MAX, MIN and a noun say it."""
VERBS = frozenset(
    "accept add advance aim align append apply assign augment average balance blend blur bootstrap build cache calibrate "
    "call check choose claim clamp classify clip close collect combine commit compare complete compute connect convert "
    "convolve copy correct correlate count create crop cut damage decode delete descend describe discard discover download "
    "downscale draw edit embed encode enter estimate evaluate expand export extend extract fail fetch find fingerprint "
    "finish fit flatten fold follow fork format frame freeze get group grow hash import initialize integrate interpolate "
    "invert iterate join judge keep label learn leave limit linearize list load localize locate make map mark mask match measure "
    "minimize move name normalize open optimize order orthogonalize pack pair parse paste permute persist pivot plan plot "
    "predict prepare process project reach read rebuild recall recolour record redo refine remember remove render replace "
    "report require resample reset resize restore resume run sample save scale score seed select serve set shift show "
    "shrink smooth solve spend split standardise start submit sum take time toggle track train transform truncate undo "
    "unpack unproject unwhiten unwrap update upsample use validate view vote wait whiten write".split()
)
"""What a public function or method begins with: another verb may be added, a noun not."""
PREPOSITIONS = frozenset("from to with without".split())
"""Conversions, and copies with something changed."""
PREDICATES = frozenset("contains counts has is matches".split())
TERMS = frozenset(
    "column constant fid forward inverse mahalanobis mapping metric normals one_cycle psnr ssim style_weights subset synthesis "
    "unknown validated warmup_cosine ws atomic_write".split()
)
"""Names of PyTorch and of the field, decorators, and methods that the documentation names."""
OPCODES = frozenset("long octets protocol text tuple_ refusal".split())
"""Names in the reader of pickles."""
READINGS = frozenset("age_logits gender_logits age_gender age_map expressions expression_map".split())
"""The outputs of networks that were published so."""
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


def public_functions(body: list[ast.stmt]) -> Iterator[str]:
    """The public functions and methods of a module, without properties and metrics, which are nouns."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
            if decorators.isdisjoint({"property", "cached_property", "metric"}):
                yield node.name


@pytest.mark.parametrize("name", sorted(name for name in PATHS if not name.startswith("ganvas.cli")))
def test_functions_begin_with_a_verb(name: str) -> None:
    """Those of ``cli`` are commands, whose names are users'."""
    first_words = VERBS | PREPOSITIONS | PREDICATES
    nouns = {each for each in public_functions(modules()[name].body) if each.split("_")[0] not in first_words}
    assert sorted(nouns - TERMS - OPCODES - READINGS) == []


@pytest.mark.parametrize("name", sorted(PATHS))
def test_constants_say_their_unit_or_role(name: str) -> None:
    targets = [
        target
        for node in modules()[name].body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    vague = {
        each for each in names if each in BANNED_CONSTANTS or each.isupper() and BANNED_WORDS & set(each.split("_"))
    }
    assert sorted(vague) == []


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


def test_whatever_is_imported_is_installed_by_some_extra() -> None:
    """What tests and benchmarks need, too: a command that works only where a package happens to be is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    named = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines} | COME_WITH_OTHERS
    folders = [ROOT / name for name in ("src", "tests", "experiments", "benchmarks")]
    files = {path for folder in folders for path in folder.rglob("*.py")}
    own = {path.stem for path in files} | {folder.name for folder in folders} | {"ganvas", "snapshots"}
    of_modules, missing = packages_distributions(), set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_bytes()))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names:
            # Of what isn't installed here the module is taken to have the distribution's name.
            if not named & {each.lower().replace("_", "-") for each in (name, *of_modules.get(name, ()))}:
                missing.add(name)
    assert missing <= FROM_ELSEWHERE


def test_library_code_asserts_nothing() -> None:
    places = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert places == []
