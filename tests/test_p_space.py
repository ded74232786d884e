"""P: samples are typical in it, and edits that keep to it leave codes as typical as they were."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fitted_editors import compact, labels
from planted_truth import TOY

from ganvas import load_editor, sample
from ganvas.data.p_space import MAX_DISTANCE, PSpace, undo_activation
from ganvas.editors import fit, save
from ganvas.editors.compact import from_tensors
from ganvas.editors.editor_files import read_editor
from ganvas.errors import GanvasError

DIM, SLOPE = 48, 0.2


def draw_codes(n: int, seed: int = 0) -> torch.Tensor:
    """Draw codes as a mapping network does whose last layer has singular values that fall twentyfold."""
    generator = torch.Generator().manual_seed(seed)
    planted = torch.Generator().manual_seed(99)
    rotations = [torch.linalg.qr(torch.randn(DIM, DIM, generator=planted))[0] for _ in range(2)]
    layer = rotations[0] @ torch.diag(torch.logspace(0, -1.3, DIM)) @ rotations[1]
    return F.leaky_relu(torch.randn(n, DIM, generator=generator) @ layer.T + 0.1, SLOPE)


@pytest.fixture(scope="module")
def space() -> PSpace:
    return PSpace.fit(draw_codes(4000), SLOPE)


def test_the_activation_is_undone():
    p = torch.linspace(-3, 3, 100)
    torch.testing.assert_close(undo_activation(F.leaky_relu(p, SLOPE), SLOPE), p)
    assert torch.equal(undo_activation(p, 1.0), p)


def test_samples_lie_at_a_distance_of_about_one(space):
    distances = space.measure_distance(draw_codes(2000, seed=1))
    assert float(distances.median()) == pytest.approx(1, abs=0.05)
    assert float(distances.quantile(0.99)) < 1.5


def test_a_straight_edit_is_mended(space):
    """Of the same length in W, the code that stays typical has far less of what no sample has."""
    ws, direction = draw_codes(64, seed=2)[:, None], draw_codes(2, seed=3)
    shift = (direction[0] - direction[1]).expand_as(ws)
    limits, straight = space.measure_distance(ws).clamp(min=1), space.measure_distance(ws + shift)
    assert float((straight / limits).median()) > 1.5
    for size in (1, 1000):
        kept = space.keep_typical(ws, size * shift)
        assert kept.isfinite().all()
        assert float((space.measure_distance(ws + kept) / limits).quantile(0.9)) < 1.25
        along = (kept * shift).sum(2) / shift.square().sum(2)
        assert float(along.median()) > 0.2  # much of the edit is left


def test_what_is_typical_and_nothing_at_all_stay_as_they_are(space):
    ws = draw_codes(16, seed=4)[:, None].expand(-1, 3, -1)
    assert torch.equal(space.keep_typical(ws, torch.zeros(16, 1, DIM)), torch.zeros(16, 3, DIM))
    p = undo_activation(ws, SLOPE)
    nearer_mean = F.leaky_relu(p + 0.3 * (space.mean - p), SLOPE) - ws
    assert torch.equal(space.keep_typical(ws, nearer_mean), nearer_mean)


def test_each_code_of_a_batch_is_kept_as_if_it_were_alone(space):
    ws, shift = draw_codes(6, seed=5)[:, None], 3 * (draw_codes(6, seed=6) - draw_codes(6, seed=7))[:, None]
    alone = torch.cat([space.keep_typical(w, s) for w, s in zip(ws.split(1), shift.split(1), strict=True)])
    torch.testing.assert_close(space.keep_typical(ws, shift), alone, atol=1e-4, rtol=1e-4)


def test_equal_rows_are_computed_once_and_others_by_themselves(space):
    ws, shift = draw_codes(5, seed=5)[:, None], 3 * (draw_codes(5, seed=6) - draw_codes(5, seed=7))[:, None]
    kept = space.keep_typical(ws, shift)
    assert torch.equal(space.keep_typical(ws.expand(-1, 4, -1), shift), kept.expand(-1, 4, -1))
    rows = torch.cat((ws, ws), 1)
    apart = space.keep_typical(rows, torch.cat((shift, torch.zeros_like(shift)), 1))
    torch.testing.assert_close(apart, torch.cat((kept, torch.zeros_like(kept)), 1), atol=1e-4, rtol=1e-4)


def test_p_is_that_of_the_generator_however_few_labels_there_are():
    few = fit("compact", labels(50), TOY, epochs=1)
    assert few.p_space is not None
    median = float(few.p_space.measure_distance(sample(TOY, 500, 1.0, 1)[:, 0]).median())
    assert median == pytest.approx(1, abs=0.1)


def test_what_is_unusual_in_a_code_stays(space):
    """An inverted photograph is less typical than any sample: an edit of it isn't vetoed, and doesn't make it one."""
    usual, shift = draw_codes(8, seed=8)[:, None], 0.5 * (draw_codes(8, seed=9) - draw_codes(8, seed=10))[:, None]
    unusual = usual + 0.3 * torch.randn(8, 1, DIM, generator=torch.Generator().manual_seed(1))
    assert float(space.measure_distance(unusual).min()) > MAX_DISTANCE
    kept = space.keep_typical(unusual, shift)
    assert float(((kept * shift).sum(2) / shift.square().sum(2)).median()) > 0.5
    assert (space.measure_distance(unusual + kept) <= space.measure_distance(unusual) + 0.1).all()


@pytest.mark.parametrize("change", [0.0, 1.5, 8.0])
def test_compact_edits_stay_typical(change):
    editor, ws = compact(), sample(TOY, 16, 1.0, 3)
    assert editor.p_space is not None
    edited = editor.edit_quietly(ws, {"Red": change, "Big": change})
    before, after = (editor.p_space.measure_distance(each) for each in (ws, edited))
    limits, given = before.clamp(min=1), editor.parse_changes({"Red": change, "Big": change}, ws)
    far = editor.p_space.measure_distance(ws + editor._shift_straight(ws, given))
    # The toy's W is hardly bent: its straight edits are nearly typical.
    assert float(far.mean()) < 2 and float((after - limits).mean()) <= max(float((far - limits).mean()), 0)
    if change == 0:
        assert torch.equal(edited, ws)


def test_files_of_editors_that_keep_typical(tmp_path):
    editor, path = compact(), tmp_path / "editor.safetensors"
    save(editor, path)
    ws = sample(TOY, 4, 1.0, 3)
    loaded = load_editor(path)
    torch.testing.assert_close(loaded.edit_quietly(ws, {"Red": 4.0}), editor.edit_quietly(ws, {"Red": 4.0}))
    own, metadata = read_editor(path)
    for broken in (
        {name: tensor for name, tensor in own.items() if name != "p_slope"},
        own | {"p_whitening": own["p_whitening"][:, 1:]},
        own | {"p_whitening": own["p_whitening"][:0]},
        own | {"p_whitening": torch.tensor(1.0)},
        own | {"p_slope": torch.tensor([0.0])},
        own | {"p_slope": torch.tensor([float("nan")])},
    ):
        with pytest.raises(GanvasError):
            from_tensors(broken, metadata)


def test_editors_without_it_are_straight():
    straight = fit("compact", labels(), TOY, keep_typical=False, epochs=1)
    assert straight.p_space is None and "p_mean" not in straight.state_dict()
    with pytest.raises(GanvasError, match="keep_typical needs residual"):
        fit("compact", labels(), TOY, keep_typical=True, residual=False, epochs=1, truncation=0.0, max_move_length=None)
