"""Local moves: learned from composites they change one region, and editors keep them apart from moves of compact codes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from fitted_editors import compact
from planted_truth import TOY

from ganvas import load_editor, load_scorer, sample
from ganvas.editors import save
from ganvas.editors.base import collect_metadata
from ganvas.editors.compact import CompactEditor, from_tensors
from ganvas.editors.picture_calibration import calibrate_moves_in_pictures
from ganvas.errors import GanvasError
from ganvas.generators import regions
from ganvas.generators.regions import Region
from ganvas.training.local_moves import LocalMoveRun, add_local_moves

SCORER = load_scorer("toy")
LOWER_HALF = Region((0.5, 0.9, 0.8, 0.45))


@pytest.fixture
def lower_half(monkeypatch) -> None:
    """Stripes show in the lower half, which is where the toy draws them."""
    known = {"lower": (LOWER_HALF, ("Striped",))}
    monkeypatch.setattr(regions, "load_regions", lambda name: known if name == TOY.name else {})


def spoil(editor: CompactEditor) -> CompactEditor:
    """Return a copy whose move for stripes brightens the upper half, too."""
    spoiled = copy.deepcopy(editor)
    moves, names = spoiled.get_buffer("moves"), spoiled.attributes
    moves[names.index("Striped")] += moves[names.index("Bright")]
    return spoiled


def measure(editor: CompactEditor, name: str, other: str) -> tuple[float, float]:
    """The mean change of two attributes, which the toy knows, when the first is changed by 1."""
    ws = sample(TOY, 200, 1.0, 5)
    scores = [SCORER(TOY.synthesis(each)) for each in (ws, editor.edit_quietly(ws, {name: 1.0}))]
    before, after = (editor.gaussianize(each).mean(0) for each in scores)
    changed = after - before
    return tuple(float(changed[editor.attributes.index(each)]) for each in (name, other))


@pytest.fixture
def localized(lower_half, tmp_path) -> tuple[CompactEditor, CompactEditor]:
    spoiled = spoil(compact())
    run = LocalMoveRun(spoiled, TOY, SCORER, "Striped", 12, tmp_path / "work", change=3.0)
    run.make_missing()
    return spoiled, add_local_moves(spoiled, [run])


def test_what_shows_elsewhere_no_longer_changes(localized):
    spoiled, local = localized
    own, other = measure(spoiled, "Striped", "Bright")
    local_own, local_other = measure(local, "Striped", "Bright")
    assert other > 0.5 * own
    assert local_own > 0.5
    assert abs(local_other / local_own) < 0.5 * other / own
    assert local.options["local"] == ["Striped"] and "local" not in spoiled.options


def test_local_moves_are_added_to_those_of_codes(localized):
    _, local = localized
    ws, moves = sample(TOY, 6, 1.0, 3), local.local_moves
    assert moves is not None
    torch.testing.assert_close(local.edit_quietly(ws, {"Striped": 0.5}), ws + 0.5 * moves[0])
    both = local.edit_quietly(ws, {"Striped": 0.5, "Red": 1.0})
    torch.testing.assert_close(both, local.edit_quietly(ws, {"Red": 1.0}) + 0.5 * moves[0])
    mixed = local.edit_quietly(ws, {"Striped": torch.tensor([0.5, 0, 0, 0, 0, 0]), "Red": 1.0})
    torch.testing.assert_close(mixed[1:], local.edit_quietly(ws[1:], {"Red": 1.0}))
    reached = local.measure_change(ws, local.edit_quietly(ws, {"Striped": 0.5}))
    torch.testing.assert_close(reached[:, local.attributes.index("Striped")], torch.full((6,), 0.5), atol=1e-3, rtol=0)
    with pytest.raises(GanvasError, match="4 rows, not of 3"):
        local.edit_quietly(ws[:, :3], {"Striped": 0.5})


def test_a_local_move_is_no_longer_than_other_moves(localized):
    _, local = localized
    short = load_with(local, {**local.options, "max_move_length": 2.0, "local_limit": 100.0})
    ws = sample(TOY, 4, 1.0, 3)
    far, farther = (short.edit_quietly(ws, {"Striped": change}) for change in (50.0, 90.0))
    torch.testing.assert_close(far, farther)
    torch.testing.assert_close(short.edit_quietly(ws, {"Striped": 1e-3}), local.edit_quietly(ws, {"Striped": 1e-3}))


def test_beyond_their_limit_compact_codes_move(localized):
    spoiled, local = localized
    ws, moves = sample(TOY, 4, 1.0, 3), local.local_moves
    for change, part in ((1.5, 1.5), (2.0, 2.0), (2.5, 1.5), (-2.5, -1.5), (3.0, 1.0), (-5.0, -1.0)):
        beyond = spoiled.edit_quietly(ws, {"Striped": change - part}) - ws
        torch.testing.assert_close(local.edit_quietly(ws, {"Striped": change}), ws + part * moves[0] + beyond)


def load_with(editor: CompactEditor, options: dict) -> CompactEditor:
    metadata = replace(collect_metadata(editor), options=options)
    return from_tensors(editor.state_dict(), metadata)


def test_files_keep_local_moves_and_damaged_ones_are_refused(localized, tmp_path):
    _, local = localized
    save(local, tmp_path / "local.safetensors")
    again, ws = load_editor(tmp_path / "local.safetensors", TOY), sample(TOY, 3, 1.0, 1)
    assert torch.equal(again.edit(ws, {"Striped": 0.3}), local.edit(ws, {"Striped": 0.3}))
    for names in ([], ["Striped", "Red"]):
        with pytest.raises(GanvasError, match="Local moves"):
            load_with(local, {**local.options, "local": names})
    for limit in (None, "2", 0, float("inf")):
        with pytest.raises(GanvasError, match="limit of local moves"):
            load_with(local, {**local.options, "local_limit": limit})


def test_a_run_that_stopped_goes_on_and_refuses_what_is_missing(lower_half, tmp_path):
    editor = spoil(compact())
    whole, part = (LocalMoveRun(editor, TOY, SCORER, "Striped", 8, tmp_path / name, 5) for name in ("whole", "part"))
    whole.make_missing()
    part.make_shard(3, lambda _: None)
    with pytest.raises(GanvasError, match="local-Striped-00000"):
        part.load()
    done = []
    part.make_missing(lambda faces, _: done.append(faces))
    assert done[0] == 1
    assert torch.equal(part.load(), whole.load())


def test_what_cannot_be_local_is_one_line(lower_half, localized, tmp_path):
    spoiled, local = localized
    with pytest.raises(GanvasError, match="at least 8"):
        LocalMoveRun(spoiled, TOY, SCORER, "Striped", 4, tmp_path)
    for options in ({"steps": 0}, {"change": float("nan")}, {"beside": {"Red": float("inf")}}):
        with pytest.raises(GanvasError, match="at least 1 step"):
            LocalMoveRun(spoiled, TOY, SCORER, "Striped", 8, tmp_path, **options)
    with pytest.raises(GanvasError, match="above 0"):
        LocalMoveRun(spoiled, TOY, SCORER, "Striped", 8, tmp_path, change=-1.0)
    with pytest.raises(GanvasError, match="is a number"):
        LocalMoveRun(spoiled, TOY, SCORER, "Right", 8, tmp_path)
    with pytest.raises(GanvasError, match="whole picture"):
        LocalMoveRun(spoiled, TOY, SCORER, "Red", 8, tmp_path)
    with pytest.raises(GanvasError, match="Nothing"):
        LocalMoveRun(spoiled, TOY, SCORER, "Nothing", 8, tmp_path)
    with pytest.raises(GanvasError, match="Nothing"):
        LocalMoveRun(spoiled, TOY, SCORER, "Striped", 8, tmp_path, beside={"Nothing": 1.0})
    with pytest.raises(GanvasError, match="beside itself"):
        LocalMoveRun(spoiled, TOY, SCORER, "Striped", 8, tmp_path, beside={"Striped": 1.0})
    with pytest.raises(GanvasError, match="once"):
        add_local_moves(spoiled, [])
    with pytest.raises(GanvasError, match="calibrate it without"):
        calibrate_moves_in_pictures(local, TOY, torch.zeros(8, 5, 5), 1.0)


def test_faces_without_the_attribute_after_the_edit_are_left_out(lower_half, tmp_path, monkeypatch):
    run = LocalMoveRun(spoil(compact()), TOY, SCORER, "Striped", 16, tmp_path, 20, 3.0)
    run.make_missing()
    moves = run.load()
    flat = torch.zeros_like(moves[:1])
    monkeypatch.setattr(LocalMoveRun, "load", lambda self: torch.cat((moves[:13], flat, flat, flat)))
    mean, shown = run.average_moves()
    assert 8 <= shown <= 13
    shares = [float((mean * move).sum() / mean.square().sum()) for move in (*moves[:13], flat[0])]
    assert shares[-1] == 0 and sum(shares[:-1]) / 13 > 0.5
    monkeypatch.setattr(LocalMoveRun, "load", lambda self: flat.expand_as(moves))
    with pytest.raises(GanvasError, match="Only 0 of 16 faces have Striped"):
        add_local_moves(run.editor, [run])
