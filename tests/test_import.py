"""Imports stay light: what is heavy is imported where it's used."""

import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ganvas
from ganvas.errors import GanvasError
from ganvas.io.files import METADATA_KEY, load_tensors

ROOT = Path(__file__).parents[1]

IMPORT = """
import sys
import torch
before = set(sys.modules)
import ganvas
{}
packages = {{name.split(".")[0] for name in sys.modules.keys() - before}}
print(*sorted(name for name in packages - set(sys.stdlib_module_names) if name[0] != "_"))
"""
LIGHT = {"annotated_types", "jaxtyping", "numpy", "pydantic", "pydantic_core", "safetensors", "typing_inspection"}


@pytest.mark.parametrize(
    ("used", "needed"),
    [("", set()), ("ganvas.load_generator, ganvas.sample, ganvas.GanvasError", LIGHT)],
)
def test_import_loads_nothing_heavy_beside_torch(used, needed):
    run = subprocess.run([sys.executable, "-c", IMPORT.format(used)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) <= {"ganvas", "lazy_loader"} | needed


@pytest.mark.parametrize("name", ganvas.__all__)
def test_public_names(name):
    assert name in dir(ganvas)
    assert callable(getattr(ganvas, name))


def sections(item: object) -> set[str]:
    return set(re.findall(r"^ *(Args|Returns|Raises|References):$", item.__doc__ or "", re.MULTILINE))


@pytest.mark.parametrize("name", ganvas.__all__)
def test_public_names_are_documented_in_googles_style(name):
    item = getattr(ganvas, name)
    first = (item.__doc__ or "").split("\n\n")[0].strip()
    assert first.endswith(".") and len(first.splitlines()) == 1
    if inspect.isfunction(item):
        assert {"Args", "Returns"} <= sections(item)
        assert all(
            re.search(rf"^ +\**{parameter}: ", item.__doc__, re.MULTILINE) for parameter in public_parameters(item)
        )


@pytest.mark.parametrize("name", [name for name in ganvas.__all__ if inspect.isclass(getattr(ganvas, name))])
def test_methods_of_public_classes_are_documented(name):
    for key, method in vars(getattr(ganvas, name)).items():
        if inspect.isfunction(method) and not key.startswith("_"):
            needed = {"Args"} if public_parameters(method) else set()
            assert method.__doc__ and needed <= sections(method), f"{name}.{key}"


def public_parameters(function) -> list[str]:
    names = inspect.signature(function).parameters
    return [parameter for parameter in names if parameter != "self" and not parameter.startswith("_")]


def test_a_name_that_is_not_there():
    assert ganvas.GanvasError is GanvasError
    with pytest.raises(AttributeError, match="paint"):
        ganvas.paint  # noqa: B018


def test_what_make_installs_never_moves_torch():
    makefile, constraints = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "constraints.txt"))
    installs = [line for line in makefile.splitlines() if re.search(r"pip install|PIP_INSTALL\)", line)]
    assert len(installs) >= 4
    assert all("-c constraints.txt" in line or line.startswith("\t$(PIP_INSTALL) ") for line in installs)
    assert re.search(r"^torch==[\d.]+$", constraints, re.MULTILINE)


def test_pip_is_a_dependency_since_weights_come_through_it():
    # Environments that uv makes have none.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(re.match(r"pip\b", name) for name in project["dependencies"])


@pytest.mark.slow
def test_the_wheel_holds_cards_and_assets(tmp_path):
    if find_spec("hatchling") is None or find_spec("pip") is None:
        pytest.skip("building the wheel needs pip and hatchling here (pip install hatchling)")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    run = subprocess.run(build, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "ganvas/py.typed",
        "ganvas/__init__.pyi",
        "ganvas/generators/cards.toml",
        "ganvas/assets/labels/ffhq-celeba40.safetensors",
        "ganvas/assets/editors/ffhq/compact.safetensors",
        "ganvas/assets/scorers/celeba40.safetensors",
    } <= names


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', "{", "[]"])
def test_a_description_that_is_no_json_object_is_one_line(tmp_path, text):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(1)}, path, {METADATA_KEY: text})
    with pytest.raises(GanvasError, match=r"a\.safetensors") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)
