"""Edits of chosen rows, editors on fine-tuned generators, and labels of every face: options of commands, kept in recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fitted_editors import TOY, labels

from ganvas import GanvasError, editors
from ganvas.cli import main
from ganvas.editors.base import LinearEditor, collect_metadata
from ganvas.editors.masked import MaskedEditor, mask_editor
from ganvas.generators.toy import Toy
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import EditStep, FromSeed, NamedTool, Recipe
from ganvas.recipe.rendering import Tools, compute_code


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def editor_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("editor") / "editor.safetensors"
    editors.save(editors.fit("interfacegan", labels(), TOY), path)
    return path


def test_an_edit_of_rows_moves_these_and_is_as_large_as_asked(editor_file: Path) -> None:
    editor = editors.load_editor(editor_file, TOY)
    tools = Tools(TOY, "float32", editor, NamedTool("e", editors.fingerprint(editor)))
    start = compute_code(Recipe(tools.generator_name, FromSeed(3, 1.0)), tools)
    for step in (EditStep(shift={"Red": 1.0}, rows=(1, 2)), EditStep(set={"Red": 2.0}, rows=(1, 2))):
        ws = compute_code(
            Recipe(tools.generator_name, FromSeed(3, 1.0), editor=tools.editor_name, edits=(step,)), tools
        )
        assert torch.equal(ws[:, [0, 3]], start[:, [0, 3]]) and not torch.equal(ws[:, 1], start[:, 1])
        masked = mask_editor(editor, (1, 2), TOY)
        column = editor.attributes.index("Red")
        goal = 2.0 if step.set else masked.read(start)[0, column] + 1
        assert masked.read(ws)[0, column] == pytest.approx(float(goal), abs=0.02)


@pytest.mark.parametrize("rows", [(0,), (1, 2), (0, 1, 2, 3)])
def test_in_w_an_edit_of_rows_moves_by_what_the_mean_of_all_rows_does(rows: tuple[int, ...], editor_file: Path) -> None:
    masked = mask_editor(editors.load_editor(editor_file, TOY), rows, TOY)
    w = TOY.mapping(torch.randn(5, TOY.z_dim, generator=torch.Generator().manual_seed(0)))
    changes = torch.randn(5, len(masked.attributes), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(masked.shift(w, changes), masked.shift_rows(TOY.expand(w), changes).mean(1))


@pytest.mark.parametrize("rows", [(2, 1), (1, 1), ()])
def test_rows_of_an_edit_rise(rows) -> None:
    with pytest.raises(GanvasError):
        EditStep(shift={"Red": 1.0}, rows=rows)


@pytest.mark.parametrize("option", ["--edit-rows", "--rows"])
def test_rows_are_kept_in_recipes(option: str, editor_file: Path, tmp_path: Path) -> None:
    common = ["toy", "--editor", editor_file, option, "1-2", "--out", tmp_path / "a.png"]
    assert run("edit", *common, "--shift", "Red=1") == 0
    recipe, _ = load_recipe(tmp_path / "a.png")
    assert isinstance(recipe, Recipe) and recipe.edits[0].rows == (1, 2)
    assert run("render", tmp_path / "a.png", "--editor", editor_file) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a-again.png").read_bytes()
    assert run("grid", *common, "--attributes", "Red", "--strengths", "-1,1") == 0
    assert run("edit", *common) == 1
    assert run("mix", "toy", "--with", 3, "--rows", 0, "--edit-rows", "3", "--editor", editor_file, "--shift", "Red=1",
               "--out", tmp_path / "m.png") == 0  # fmt: skip
    mixed, _ = load_recipe(tmp_path / "m.png")
    assert mixed.edits[0].rows == (3,) and mixed.mix.rows == (0,)


def foreign_editor(path: Path, rows: tuple[int, ...] = (0, 1, 2, 3), num_ws: int = 4) -> Path:
    """Write the editor of a generator that TOY would be fine-tuned from."""
    editor = editors.fit("interfacegan", labels(), TOY)
    editor = MaskedEditor(editor, rows, num_ws)
    editor.generator = "f" * 64
    editors.save(editor, path)
    return path


def test_an_editor_on_a_fine_tuned_generator_is_allowed_and_kept(tmp_path: Path, capsys) -> None:
    file = foreign_editor(tmp_path / "e.safetensors")
    with pytest.raises(GanvasError, match="is for generator"):
        editors.load_editor(file, TOY)
    common = ["toy", "--editor", file, "--shift", "Red=1", "--out", tmp_path / "a.png"]
    assert run("edit", *common) == 1
    capsys.readouterr()
    assert run("edit", *common, "--allow-other-generator") == 0
    assert "fitted for another generator" in capsys.readouterr().err
    assert json.loads((tmp_path / "a.json").read_text())["other_generator"] is True
    assert run("render", tmp_path / "a.png", "--editor", file) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a-again.png").read_bytes()


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    file = foreign_editor(tmp_path / "e.safetensors", (1, 2))
    assert editors.load_editor(file, TOY, allow_other_generator=True).rows == (1, 2)
    foreign_editor(file, (1, 2), 6)
    with pytest.raises(GanvasError, match="codes of 6 rows"):
        editors.load_editor(file, TOY, allow_other_generator=True)


class Taller(Toy):
    """The toy generator, with one row more."""

    @property
    def num_ws(self) -> int:
        return super().num_ws + 1


@pytest.mark.parametrize("masked", ["all", "inside"])
def test_an_editor_with_moves_for_each_row_is_refused_where_there_are_others(tmp_path: Path, masked: str) -> None:
    other = Taller()
    fitted = editors.fit("mean_difference", labels(), TOY)
    editor = LinearEditor(collect_metadata(fitted), fitted.get_buffer("directions")[:, None].repeat(1, TOY.num_ws, 1))
    if masked == "inside":
        # All rows of the other generator are the number that these directions have.
        editor = MaskedEditor(editor, tuple(range(TOY.num_ws)), other.num_ws)
    editor.generator = "f" * 64
    editors.save(editor, tmp_path / "e.safetensors")
    with pytest.raises(GanvasError, match=f"codes of {TOY.num_ws} rows"):
        editors.load_editor(tmp_path / "e.safetensors", other, allow_other_generator=True)


@pytest.mark.parametrize("rows", ["1-2", [1, 2], [[1, 2], TOY.num_ws]])
def test_a_fit_takes_rows_as_edits_do(rows: object) -> None:
    assert editors.fit("mean_difference", labels(), TOY, masked=rows).rows == (1, 2)


def test_a_choice_of_rows_of_another_generator_is_refused() -> None:
    with pytest.raises(GanvasError, match="is of 6 rows"):
        editors.fit("mean_difference", labels(), TOY, masked=[[1, 2], 6])
