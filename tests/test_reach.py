"""How much of a change an edit reaches: 1 for short moves, less where an editor shortens them, and one line that says so."""

from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch
from fitted_editors import NAMES, TOY, compact, labels
from planted_truth import PlantedEditor, disentangled

from ganvas import editors, sample
from ganvas.cli import main
from ganvas.editors.masked import mask_editor
from ganvas.recipe import EditStep, FromSeed, NamedTool, Recipe, Tools, render
from ganvas.recipe.departures import describe_shortfall

WS = sample(TOY, 6, 0.7)
BIG = NAMES.index("Big")


class ShorteningEditor(PlantedEditor):
    """Moves the reading by tanh of the change: the longer, the smaller the share that is reached."""

    may_fall_short = True

    def shift(self, w, changes):
        return super().shift(w, changes.tanh())


SHORTENING = ShorteningEditor(disentangled().directions)


def halved():
    """A compact editor that moves Big by half of what is asked."""
    editor = deepcopy(compact())
    editor.get_buffer("moves")[BIG] *= 0.5
    return editor


def run(*arguments) -> str | int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


def test_the_reach_is_the_planted_one_and_falls_with_the_strength():
    strengths = torch.tensor([0.01, 0.5, 1.0, 2.0, 4.0])
    reached = torch.stack([SHORTENING.compute_reach(WS, {"Big": s})[:, BIG] for s in strengths])
    torch.testing.assert_close(
        reached, (strengths.tanh() / strengths)[:, None].expand_as(reached), atol=1e-3, rtol=1e-3
    )
    assert (reached.diff(dim=0) < 0).all()
    torch.testing.assert_close(
        SHORTENING.compute_reach(WS, {"Big": -strengths[[4]]}), SHORTENING.compute_reach(WS, {"Big": 4})
    )


def test_each_code_has_its_own_change_and_nothing_asked_is_reached():
    changes = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.0, -3.0])
    reached = SHORTENING.compute_reach(WS, {"Big": changes})
    expected = torch.where(changes == 0, 1, changes.tanh() / changes)
    torch.testing.assert_close(reached[:, BIG], expected, atol=1e-3, rtol=1e-3)
    assert (reached[:, [k for k in range(len(NAMES)) if k != BIG]] == 1).all()
    assert (SHORTENING.compute_reach(WS, {}) == 1).all()


@pytest.mark.parametrize("make", [disentangled, lambda: editors.fit("mean_difference", labels(), TOY)])
def test_linear_editors_reach_everything(make):
    editor = make()
    for change in (0.3, -2.0, 6.0):
        assert editor.compute_reach(WS, {"Big": change}).min() > 0.999


def test_the_compact_editor_reaches_short_changes_and_half_where_its_move_is_halved():
    assert compact().compute_reach(WS, {"Big": 0.5}).min() > 0.9
    assert halved().compute_reach(WS, {"Big": 0.5})[:, BIG].max() < 0.6
    masked = mask_editor(halved(), (0, 1), TOY)
    assert masked.compute_reach(WS, {"Big": 0.5})[:, BIG].max() < 0.6


@pytest.mark.parametrize("make", [lambda: SHORTENING, lambda: mask_editor(SHORTENING, (0, 1), TOY), halved])
def test_an_edit_that_falls_short_warns_once_and_moves_codes_as_before(make):
    editor = make()
    with pytest.warns(
        UserWarning, match=r"Big \+3 was shortened to \d\d % \(\+[0-9.]+\), as the editor reads it: ask for less\.$"
    ) as caught:
        edited = editor.edit(WS, {"Big": 3})
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(edited, editor.edit_quietly(WS, {"Big": 3}))
        editor.edit(WS, {"Big": 0.05})
        editor.edit(WS, {"Big": 3, "Red": 0.1})
        editor.edit(WS, {})
        disentangled().edit(WS, {"Big": 9})


def test_a_warning_leaves_gradients_as_they_are():
    ws = WS.clone().requires_grad_()
    with pytest.warns(UserWarning, match="shortened"):
        SHORTENING.edit(ws, {"Big": 3.0}).sum().backward()
    assert ws.grad is not None
    assert torch.equal(ws.grad, torch.ones_like(WS))


def test_the_command_line_says_so_in_one_line(tmp_path, capsys):
    path = tmp_path / "halved.safetensors"
    editors.save(halved(), path)
    edit = ("edit", "toy", "--editor", path, "--out", tmp_path / "face.png")

    def collect_lines(*arguments):
        assert run(*edit, *arguments) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "shortened" in line]

    (line,) = collect_lines("--shift", "Big=2", "--shift", "Red=0.2")
    assert line.startswith("Warning: Big +2 was shortened to ")
    assert line.endswith("ask for less, or for fewer changes at once.")
    assert collect_lines("--set", "Big=3") != []
    assert collect_lines("--shift", "Bright=0.5") == collect_lines() == []
    assert run("grid", "toy", "--editor", path, "--attributes", "Bright,Big", "--out", tmp_path / "grid.png") == 0
    assert capsys.readouterr().err.count("shortened") == 1


def test_recipes_are_drawn_without_a_warning_and_the_shortest_of_all_is_named():
    tools = Tools(TOY, "float32", SHORTENING, NamedTool("short", "0"))

    def make_recipe(*edits):
        return Recipe(tools.generator_name, FromSeed(3), editor=NamedTool("short", "0"), edits=edits)

    recipes = [make_recipe(EditStep(shift={"Big": s}), EditStep(shift={"Red": 0.2})) for s in (1.0, 4.0, -2.0)]
    assert describe_shortfall(recipes, tools).startswith("Big +4 was shortened to 25 %")
    assert describe_shortfall([make_recipe(EditStep(shift={"Big": 4.0}, amount=0.1))], tools) == ""
    assert describe_shortfall([make_recipe()], tools) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render(recipes[1], tools)
