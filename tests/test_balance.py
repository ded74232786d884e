"""Balanced sets: all pictures are as asked, what was discarded is told, recipes give them back, a stopped run goes on."""

import json

import pytest
import torch
from planted_counts import JUDGE, SQUARES, counter_editor, labels
from pyarrow import parquet

from ganvas import GanvasError, editors
from ganvas.balance.generated import _plan_edits, balance
from ganvas.balance.sets import BalanceRequest, format_report_lines
from ganvas.control.conditions import compute_score_ranges, parse_condition
from ganvas.io.images import read_picture, read_png_texts, to_bytes
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import NamedTool, Recipe
from ganvas.recipe.rendering import Tools, render


def tools(editor=None):
    named = None if editor is None else NamedTool("counter", editors.fingerprint(editor))
    return Tools(SQUARES, "float32", editor, named)


def order(*texts, n=6, **settings):
    return BalanceRequest(tuple(parse_condition(text) for text in texts), n, **settings)


def rows_of(folder):
    return parquet.read_table(folder / "labels.parquet").to_pylist()


@pytest.mark.parametrize("way", ["edit", "draw"])
def test_every_picture_is_as_asked_and_its_recipe_gives_it_back(way, tmp_path):
    kit = tools(counter_editor())
    report = balance(kit, JUDGE, order("count=4", n=6, way=way), tmp_path)
    rows = rows_of(tmp_path)
    assert report["kept"] == len(rows) == 6 and {row["count"] for row in rows} == {4.0}
    discarded = sum(report["discarded"].get("count", {}).values())
    assert report["tried"] == 6 + discarded and "4" not in report["discarded"].get("count", {})
    for row in rows:
        recipe, _ = load_recipe(tmp_path / row["file"])
        assert torch.equal(to_bytes(render(recipe, kit)), to_bytes(read_picture(tmp_path / row["file"])))
        assert JUDGE(read_picture(tmp_path / row["file"]))[0, 0] == 4
    assert json.loads((tmp_path / "balance.json").read_text()) == report
    assert format_report_lines(report)[0] == f"6 kept of {report['tried']} candidates"


def test_no_more_candidates_are_tried_than_asked(tmp_path):
    with pytest.raises(GanvasError, match="0 of 10 candidates"):
        balance(tools(), JUDGE, order("red>=9", n=1, max_candidates=10), tmp_path)


def test_editing_discards_less_than_drawing(tmp_path):
    tried = {
        way: balance(tools(counter_editor()), JUDGE, order("count=1", n=12, way=way), tmp_path / way)["tried"]
        for way in ("edit", "draw")
    }
    assert tried["edit"] < tried["draw"]


def test_without_an_editor_pictures_are_drawn_and_several_conditions_are_met(tmp_path):
    report = balance(tools(), JUDGE, order("count>=2", "red>=1", "blue=1..2", n=5), tmp_path)
    assert report["asked"]["way"] == "draw"
    for row in rows_of(tmp_path):
        assert row["count"] >= 2 and row["red"] >= 1 and 1 <= row["blue"] <= 2
    assert read_png_texts(tmp_path / rows_of(tmp_path)[0]["file"])


def test_a_run_that_was_stopped_goes_on_and_more_may_be_asked(tmp_path):
    kit = tools(counter_editor())

    def stop(kept, n):
        if kept == 3:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    balance(kit, JUDGE, order("count=2", n=40), whole)
    with pytest.raises(KeyboardInterrupt):
        balance(kit, JUDGE, order("count=2", n=40), parts, stop)
    balance(kit, JUDGE, order("count=2", n=20), parts)
    balance(kit, JUDGE, order("count=2", n=40), parts)
    assert rows_of(parts) == rows_of(whole)
    assert {p.name for p in parts.iterdir()} == {p.name for p in whole.iterdir()}
    assert (parts / "balance.json").read_bytes() == (whole / "balance.json").read_bytes()
    with pytest.raises(GanvasError, match="other conditions"):
        balance(kit, JUDGE, order("count=3", n=40), parts)


def test_what_cannot_be_met_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("ganvas.balance.generated.MIN_CANDIDATES", 64)
    monkeypatch.setattr("ganvas.balance.generated.CANDIDATES_PER_PICTURE", 10)
    kit = tools(counter_editor())

    def refused(words, *texts, n=2, tools=kit, **settings):
        with pytest.raises(GanvasError, match=words) as caught:
            balance(tools, JUDGE, order(*texts, n=n, **settings), tmp_path / "out")
        assert "\n" not in str(caught.value)

    refused("conditions must have at least 1")
    refused("n must be a whole number of at least 1", "count=2", n=0)
    refused("way 'guess'", "count=2", way="guess")
    refused("attribute 'green'", "green=1")
    refused("whole number", "count=1.2..1.8")
    refused("exclude each other", "count>3", "count<2")
    refused("no probability", "p(count)>0.5")
    refused("needs an editor", "bright>1")
    refused("use 'draw'", "red=1", way="edit")
    refused("use 'edit'", "count=1", way="conditions")
    assert not (tmp_path / "out").exists()
    refused("Only 0 of 64", "count=6", way="draw")


def test_conditions_are_in_the_units_of_the_scorer():
    from fitted_editors import SCORER, compact

    editor = compact()
    found = compute_score_ranges([parse_condition(t) for t in ("p(Bright)>0.9", "Red>1", "Big=0")], SCORER, editor)
    assert found["Bright"] == (pytest.approx(2.197, abs=1e-3), float("inf"))
    knots = editor.gaussianize.select([1])
    assert float(knots(torch.tensor([[found["Red"][0]]], dtype=torch.float64))) == pytest.approx(1, abs=1e-6)
    assert found["Big"][0] < found["Big"][1]


@pytest.mark.parametrize(
    ("reading", "side", "goal"),
    [(0.0, (1.0, None), 1.25), (3.0, (None, 1.0), 0.75), (0.0, (1.0, 1.2), 1.1), (0.0, (1.0, 1.0), 1.0)],
)
def test_edits_aim_inside_a_range_not_at_its_border(reading, side, goal):
    # Scores scatter around what an editor reads: at the border half of the pictures miss the range.
    editor = editors.fit("mean_difference", labels(), SQUARES)
    readings = torch.full((len(editor.attributes),), reading)
    (step,) = _plan_edits({editor.attributes[0]: side}, editor, readings)
    assert step.set == {editor.attributes[0]: pytest.approx(goal)}
    inside = torch.full_like(readings, goal)
    assert _plan_edits({editor.attributes[0]: side}, editor, inside) == ()


def test_editors_that_read_normal_scores_are_told_counts_in_them(tmp_path):
    editor = editors.fit("mean_difference", labels(), SQUARES)
    report = balance(tools(editor), JUDGE, order("count=3", n=4), tmp_path)
    assert report["asked"]["way"] == "edit" and {row["count"] for row in rows_of(tmp_path)} == {3.0}
    recipe, _ = load_recipe(tmp_path / rows_of(tmp_path)[0]["file"])
    assert isinstance(recipe, Recipe) and recipe.edits[0].set["count"] == pytest.approx(0.32, abs=0.1)
