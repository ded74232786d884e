"""Calibration in pictures: what edits change there is measured, stopped and resumed, and held by the moves that follow."""

from __future__ import annotations

import copy

import pytest
import torch
from fitted_editors import compact
from planted_truth import TOY

from ganvas import load_editor, load_scorer, sample
from ganvas.control.target_values import solve_changes
from ganvas.editors import save
from ganvas.editors.compact import CompactEditor
from ganvas.editors.picture_calibration import ResponseRun, calibrate_moves_in_pictures, correct_readings
from ganvas.errors import GanvasError

SCORER = load_scorer("toy")


def spoil(editor: CompactEditor) -> CompactEditor:
    """Mix the moves, so that each changes other attributes, too."""
    editor = copy.deepcopy(editor)  # other tests have the same one
    moves = editor.get_buffer("moves")
    moves.copy_((torch.eye(len(moves)) + 0.6 * torch.ones(len(moves), len(moves)).tril(-1)) @ moves)
    return editor


def measure_others(editor: CompactEditor, folder, n: int = 24) -> float:
    """The mean |change| of attributes that weren't asked for, for a mean change of 1 of what was."""
    run = ResponseRun(editor, TOY, SCORER, n, folder)
    run.make_missing()
    mean = run.load().mean(0)
    mean = mean / mean.diagonal()[:, None]
    return float((mean - torch.eye(len(mean))).abs().sum() / (len(mean) * (len(mean) - 1)))


@pytest.fixture(scope="module")
def spoiled() -> CompactEditor:
    editor = spoil(compact())
    assert isinstance(editor, CompactEditor)
    return editor


def test_moves_that_change_other_attributes_no_longer_do(spoiled, tmp_path):
    run = ResponseRun(spoiled, TOY, SCORER, 24, tmp_path / "before")
    run.make_missing()
    before = spoiled.get_buffer("moves").clone()
    calibrated = calibrate_moves_in_pictures(spoiled, TOY, run.load(), hold=8.0)
    assert torch.equal(spoiled.get_buffer("moves"), before)
    assert measure_others(calibrated, tmp_path / "after") < 0.5 * measure_others(spoiled, tmp_path / "before")
    assert calibrated.report["calibrated_on"] == 24


def test_a_run_that_stopped_goes_on_and_refuses_what_is_missing(spoiled, tmp_path):
    whole = ResponseRun(spoiled, TOY, SCORER, 8, tmp_path / "whole")
    whole.make_missing()
    part = ResponseRun(spoiled, TOY, SCORER, 8, tmp_path / "part")
    for k in (3, 5):
        part.make_shard(k, lambda _: None)
    with pytest.raises(GanvasError, match="responses-00000"):
        part.load()
    done = []
    part.make_missing(lambda faces, _: done.append(faces))
    assert done[0] == 2
    assert torch.equal(part.load(), whole.load())


def test_readings_agree_with_sure_responses_and_ignore_noise():
    random = torch.Generator().manual_seed(0)
    dim, k = 12, 5
    readings, moves = (torch.randn(*shape, generator=random).double() for shape in ((dim, k), (k, dim)))
    length, truth = torch.eye(dim).double(), moves @ torch.randn(dim, k, generator=random).double()
    sure = truth.expand(64, k, k)
    torch.testing.assert_close(moves @ correct_readings(readings, moves, length, sure), truth)
    noise = 100 * torch.randn(64, k, k, generator=random).double()
    unsure = moves @ readings + noise - noise.mean(0)
    torch.testing.assert_close(correct_readings(readings, moves, length, unsure), readings)


def test_what_cannot_be_calibrated_is_one_line(spoiled, tmp_path):
    with pytest.raises(GanvasError, match="at least 8"):
        ResponseRun(spoiled, TOY, SCORER, 4, tmp_path)
    with pytest.raises(GanvasError, match="don't calibrate"):
        calibrate_moves_in_pictures(spoiled, TOY, torch.zeros(8, 2, 2), 1.0)


def test_a_calibrated_editor_measures_changes_in_its_own_units_and_keeps_them_in_its_file(spoiled, tmp_path):
    run = ResponseRun(spoiled, TOY, SCORER, 16, tmp_path / "responses")
    run.make_missing()
    calibrated = calibrate_moves_in_pictures(spoiled, TOY, run.load(), hold=2.0)
    save(calibrated, tmp_path / "calibrated.safetensors")
    again, ws = load_editor(tmp_path / "calibrated.safetensors", TOY), sample(TOY, 200, 1.0, 5)
    for k, name in enumerate(again.attributes):
        edited = again.edit(ws, {name: 0.5})
        assert torch.equal(edited, calibrated.edit(ws, {name: 0.5}))
        assert abs(float(again.measure_change(ws, edited)[:, k].mean()) - 0.5) < 0.1
    values = {"Big": 0.5, "Red": -0.5}
    target = again.edit(ws, solve_changes(again, ws, values))
    reached = again.read(ws) + again.measure_change(ws, target)
    for name, value in values.items():
        assert (reached[:, again.attributes.index(name)] - value).abs().median() < 0.05
