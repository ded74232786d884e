"""Local moves: learned from composites they change one region, and editors keep them apart from moves of compact codes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from fitted_editors import compact, labels
from planted_truth import TOY
from typer.testing import CliRunner

from ganvas import load_editor, load_scorer, sample
from ganvas.cli import app
from ganvas.editors import fit, save
from ganvas.editors._compact_moves import solve_split_changes, split_changes
from ganvas.editors.base import collect_metadata
from ganvas.editors.compact import CompactEditor, from_tensors
from ganvas.editors.masked import mask_editor
from ganvas.editors.picture_calibration import ResponseRun
from ganvas.errors import GanvasError
from ganvas.generators import regions
from ganvas.generators.regions import Region
from ganvas.io.store import Store
from ganvas.training.local_moves import LocalMoveRun, add_local_moves

SCORER = load_scorer("toy")
LOWER_HALF = Region((0.5, 0.9, 0.8, 0.45))


@pytest.fixture
def lower_half(monkeypatch) -> None:
    """Stripes show in the lower half, which is where the toy draws them."""
    known = {"lower": (LOWER_HALF, ("Striped",))}
    monkeypatch.setattr(regions, "load_regions", lambda name: known if name == TOY.name else {})


def spoil(editor: CompactEditor) -> CompactEditor:
    """Return a copy whose edits are straight, and whose move for stripes brightens the upper half, too."""
    spoiled = copy.deepcopy(editor)
    spoiled.p_mean = spoiled.p_whitening = spoiled.p_slope = None
    spoiled.options = {**spoiled.options, "keep_typical": False}
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
    run = LocalMoveRun(spoiled, TOY, SCORER, 12, tmp_path / "work", "Striped", change=3.0)
    run.make_missing()
    local = add_local_moves(spoiled, [run])
    assert local.encoder is not spoiled.encoder
    return spoiled, local


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
    with pytest.raises(GanvasError, match="4 rows, not of 3"):
        local.edit_quietly(ws[:, :3], {"Striped": 0.5})


def test_no_move_is_longer_than_the_longest(localized):
    """Neither a local one, nor one with what compact codes move, nor one of several attributes."""
    _, local = localized
    short, ws = load_with(local, {**local.options, "max_move_length": 2.0}), sample(TOY, 4, 1.0, 3)
    for changes in (
        {"Striped": 1.9},
        {"Striped": 50.0},
        {"Striped": -40.0, "Red": 40.0},
        {"Red": 40.0, "Striped": 0.1},
        {"Red": 40.0, "Big": -6.0},
    ):
        shift = short.edit_quietly(ws, changes) - ws
        whitened = (shift @ short.pca.components.T / short.shell.deviations).norm(dim=2).mean(1)
        assert (whitened <= 2.0 + 1e-4).all(), changes
    torch.testing.assert_close(short.edit_quietly(ws, {"Striped": 1e-3}), local.edit_quietly(ws, {"Striped": 1e-3}))


def test_a_code_moves_the_same_beside_one_that_moves_locally(localized):
    _, local = localized
    short, ws = load_with(local, {**local.options, "max_move_length": 2.0}), sample(TOY, 3, 1.0, 3)
    mixed = short.edit_quietly(ws, {"Red": 6.0, "Big": -6.0, "Striped": torch.tensor([1.0, 0.0, 0.0])})
    torch.testing.assert_close(mixed[1:], short.edit_quietly(ws[1:], {"Red": 6.0, "Big": -6.0}))


@pytest.mark.parametrize("change", [0.5, -1.5, 2.0, 2.4, 4.0])
def test_changes_are_measured_in_their_own_units(localized, change):
    """At and beyond the limit, too, where two kinds of moves make up a change, and also where the attribute is a detail."""
    _, local = localized
    k, ws = local.attributes.index("Striped"), sample(TOY, 64, 1.0, 3)
    for options in ({}, {"details": ["Striped"], "coarse_rows": 2}):
        editor = load_with(local, {**local.options, "max_move_length": None, **options})
        measured = editor.measure_change(ws, editor.edit_quietly(ws, {"Striped": change}))[:, k].mean()
        assert abs(float(measured) / change - 1) < (0.01 if abs(change) <= 2 else 0.3)


def test_splitting_changes_is_undone():
    changes = torch.linspace(-9, 9, 91)[:, None].double()
    local, rest = split_changes(changes, 2.0)
    torch.testing.assert_close(local + rest, changes)
    assert (rest[changes.abs() <= 2] == 0).all() and (local[changes.abs() >= 3].abs() == 1).all()
    for own, codes in ((0.6, 0.45), (0.9, 0.8), (0.3, 1.2)):
        readings = own * local + codes * rest
        solved = solve_split_changes(readings, 2.0, torch.tensor([own]).double(), torch.tensor([codes]).double())
        torch.testing.assert_close(solved, changes)


def test_editors_around_local_moves_move_as_they_do(localized):
    _, local = localized
    ws, w = sample(TOY, 4, 1.0, 3), sample(TOY, 4, 1.0, 3)[:, 0]
    masked = mask_editor(local, "0-1", TOY)
    shift = masked.edit_quietly(ws, {"Striped": 1.0}) - ws
    torch.testing.assert_close(shift[:, :2], local.local_moves[:, :2].expand(4, -1, -1))
    assert not shift[:, 2:].any()
    changes = torch.zeros(4, 5)
    changes[:, local.attributes.index("Striped")] = 1.0
    assert local.shift(w, changes).shape == w.shape


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
    for names in (["Nothing"], ["Striped", "Striped"], "Striped", [["Striped"]], None):
        with pytest.raises(GanvasError, match="names of local moves"):
            load_with(local, {**local.options, "local": names})
    for limit in (None, "2", 0, float("inf"), True):
        with pytest.raises(GanvasError, match="limit of local moves"):
            load_with(local, {**local.options, "local_limit": limit})


def test_a_run_that_stopped_goes_on_and_refuses_what_is_missing(lower_half, tmp_path):
    editor = spoil(compact())
    whole, part = (LocalMoveRun(editor, TOY, SCORER, 8, tmp_path / name, "Striped", 5) for name in ("whole", "part"))
    whole.make_missing()
    part.make_shard(3, lambda _: None)
    with pytest.raises(GanvasError, match="local-Striped-00000"):
        part.load_tensors()
    done = []
    part.make_missing(lambda faces, _: done.append(faces))
    assert done[0] == 1
    learned, again = whole.load_tensors(), part.load_tensors()
    assert all(torch.equal(again[name], tensor) for name, tensor in learned.items())
    # A shard of another version, without the codes, is made again.
    Store(part.out).save(part.name_shard(2), {"moves": learned["moves"][2:3]}, part.describe())
    with pytest.raises(GanvasError, match="local-Striped-00002"):
        part.load_tensors()
    part.make_missing()
    assert torch.equal(part.load_tensors()["codes"], learned["codes"])


def test_the_command_learns_goes_on_and_says_from_how_many_faces(lower_half, tmp_path):
    save(spoil(compact()), tmp_path / "editor.safetensors")
    words = ["localize", str(tmp_path / "editor.safetensors"), "--generator", "toy", "--scorer", "toy", "-n", "8"]
    words += [
        "--change",
        "3",
        "--steps",
        "10",
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path / "local.safetensors"),
    ]
    result = CliRunner().invoke(app, [*words, "--attribute", "Striped"])
    assert result.exit_code == 0, result.output
    assert "of 8 faces" in result.output and len([*(tmp_path / "work").iterdir()]) == 8
    made = (tmp_path / "local.safetensors").read_bytes()
    assert CliRunner().invoke(app, [*words, "--attribute", "Striped"]).exit_code == 0
    assert (tmp_path / "local.safetensors").read_bytes() == made
    twice = CliRunner().invoke(app, [*words, "--attribute", "Striped", "--attribute", "Striped"])
    assert isinstance(twice.exception, GanvasError) and "once" in str(twice.exception)
    save(fit("mean_difference", labels(), TOY), tmp_path / "editor.safetensors")
    other = CliRunner().invoke(app, [*words, "--attribute", "Striped"])
    assert isinstance(other.exception, GanvasError) and "ganvas fit compact" in str(other.exception)


def test_what_cannot_be_local_is_one_line(lower_half, localized, tmp_path):
    spoiled, local = localized
    with pytest.raises(GanvasError, match="at least 8"):
        LocalMoveRun(spoiled, TOY, SCORER, 4, tmp_path, "Striped")
    for options in ({"steps": 0}, {"change": float("nan")}, {"beside": {"Red": float("inf")}}):
        with pytest.raises(GanvasError, match="at least 1 step"):
            LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Striped", **options)
    with pytest.raises(GanvasError, match="above 0"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Striped", change=-1.0)
    with pytest.raises(GanvasError, match="is a number"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Right")
    with pytest.raises(GanvasError, match="no ellipse"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Red")
    with pytest.raises(GanvasError, match="Nothing"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Nothing")
    with pytest.raises(GanvasError, match="Nothing"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Striped", beside={"Nothing": 1.0})
    with pytest.raises(GanvasError, match="beside itself"):
        LocalMoveRun(spoiled, TOY, SCORER, 8, tmp_path, "Striped", beside={"Striped": 1.0})
    with pytest.raises(GanvasError, match="once"):
        add_local_moves(spoiled, [])
    with pytest.raises(GanvasError, match="calibrate it first"):
        ResponseRun(local, TOY, SCORER, 8, tmp_path)


def test_faces_without_the_attribute_after_the_edit_are_left_out(lower_half, tmp_path, monkeypatch):
    run = LocalMoveRun(spoil(compact()), TOY, SCORER, 16, tmp_path, "Striped", 20, 3.0)
    run.make_missing()
    loaded = run.load_tensors()
    moves = loaded["moves"]
    flat = torch.zeros_like(moves[:1])
    monkeypatch.setattr(
        LocalMoveRun, "load_tensors", lambda self: loaded | {"moves": torch.cat((moves[:13], flat, flat, flat))}
    )
    mean, shown, _ = run.average_moves()
    assert 8 <= shown <= 13
    shares = [float((mean * move).sum() / mean.square().sum()) for move in (*moves[:13], flat[0])]
    assert shares[-1] == 0 and sum(shares[:-1]) / 13 > 0.5
    monkeypatch.setattr(LocalMoveRun, "load_tensors", lambda self: loaded | {"moves": flat.expand_as(moves)})
    with pytest.raises(GanvasError, match="Only 0 of 16 faces have Striped"):
        add_local_moves(run.editor, [run])
