"""Long moves of the compact editor are truncated: named readings stay, the rest never leaves the shell."""

import itertools
from copy import deepcopy

import pytest
import torch
from fitted_editors import QUICK, labels
from planted_truth import TOY

from ganvas import editors, sample
from ganvas.editors._compact_moves import (
    MIN_REST_SHARE,
    MIN_SQUARED_RADIUS_SHARE,
    LinearizedCodes,
    TypicalShell,
    shrink_to_shell,
    solve_cheapest,
    solve_within,
)
from ganvas.editors.compact import CompactEditor

RNG = torch.Generator().manual_seed(0)
SHELL = TypicalShell(torch.linspace(3, 0.5, 12), torch.randn(12, 4, generator=RNG), 0.1)
X = torch.randn(40, 12, generator=RNG) * SHELL.deviations
MOVE = torch.randn(40, 12, generator=RNG) * SHELL.deviations
NAMED = torch.tensor([2.0, 0.0, 1.0, 0.0]).expand(40, -1).clone()
NAMED[20:] = torch.tensor([0.0, 3.0, 0.0, 0.0])


def test_what_is_not_moved_stays():
    torch.testing.assert_close(shrink_to_shell(X, X, torch.zeros_like(NAMED), SHELL), X)
    torch.testing.assert_close(shrink_to_shell(X, X, NAMED, SHELL), X)


def test_without_truncation_nothing_changes():
    shell = TypicalShell(SHELL.deviations, SHELL.readings, 0.0)
    assert torch.equal(shrink_to_shell(X, X + 9 * MOVE, NAMED, shell), X + 9 * MOVE)


@pytest.mark.parametrize("strength", [0.5, 2.0, 8.0])
def test_readings_of_what_changed_stay(strength):
    y = X + strength * MOVE
    found = shrink_to_shell(X, y, NAMED, SHELL)
    named = NAMED > 0
    off = ((found - y) @ SHELL.readings)[named].abs()
    assert off.max() < 0.02 * (y @ SHELL.readings)[named].abs().max()


def test_next_to_no_change_keeps_next_to_nothing():
    # An edit must not jump where an attribute's change goes from 0 to nearly 0.
    y, nearly = X + 6 * MOVE, NAMED.clone()
    nearly[:, 3] = 1e-4
    torch.testing.assert_close(
        shrink_to_shell(X, y, nearly, SHELL), shrink_to_shell(X, y, NAMED, SHELL), atol=1e-3, rtol=1e-3
    )
    steps = [
        shrink_to_shell(X, y, NAMED * (NAMED > 0) + size * (NAMED == 0), SHELL) for size in torch.linspace(0, 0.5, 51)
    ]
    jumps = torch.stack([(b - a).norm(dim=1).max() for a, b in itertools.pairwise(steps)])
    assert jumps.max() < 0.2 * (steps[-1] - steps[0]).norm(dim=1).max()


def test_an_attribute_that_nothing_reads_keeps_nothing():
    readings = SHELL.readings.clone()
    readings[:, 0] = 0
    shell = TypicalShell(SHELL.deviations, readings, 0.1)
    without = NAMED * torch.tensor([0.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(
        shrink_to_shell(X, X + 6 * MOVE, NAMED, shell), shrink_to_shell(X, X + 6 * MOVE, without, shell)
    )


@pytest.mark.parametrize("strength", [2.0, 8.0, 20.0])
def test_the_rest_is_inside_the_shell(strength):
    y = X + strength * MOVE
    white, start = (z / SHELL.deviations for z in (shrink_to_shell(X, y, NAMED, SHELL), X))
    moved = (strength * MOVE / SHELL.deviations).norm(dim=1)
    radius = (1 - 0.1 * moved).clamp(min=MIN_SQUARED_RADIUS_SHARE) * start.square().sum(1).clamp(min=12)
    for row in range(len(X)):
        basis = torch.linalg.qr(SHELL.deviations[:, None] * SHELL.readings[:, NAMED[row] > 0]).Q
        kept = white[row] @ basis
        rest = white[row].square().sum() - kept.square().sum()
        assert rest <= torch.maximum(radius[row] - kept.square().sum(), MIN_REST_SHARE * radius[row]) * 1.03


def test_truncated_codes_have_room():
    x, y = 0.3 * X, 0.3 * X + 0.3 * MOVE
    torch.testing.assert_close(shrink_to_shell(x, y, NAMED, SHELL), y)


def test_protected_readings_are_kept_as_much_as_the_largest_change():
    shell = TypicalShell(SHELL.deviations, SHELL.readings, 0.1, [False, True, False, False])
    named = torch.tensor([[0.0, 0.0, 0.5, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    kept = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(shell.add_protected(named), kept)
    assert torch.equal(SHELL.add_protected(named), named)


def test_no_move_is_longer_than_asked_and_short_ones_are_as_before():
    free, bounded = (
        editors.fit("compact", labels(), TOY, **{**QUICK, "truncation": 0.0, "max_move_length": max_move_length})
        for max_move_length in (None, 2.0)
    )
    assert isinstance(free, CompactEditor)
    assert isinstance(bounded, CompactEditor)
    ws, name = sample(TOY, 50, 1.0, 3), free.attributes[0]
    older = deepcopy(bounded)
    older.options = {"longest" if key == "max_move_length" else key: value for key, value in bounded.options.items()}
    assert torch.equal(older.edit_quietly(ws, {name: 9.0}), bounded.edit_quietly(ws, {name: 9.0}))
    deviations = bounded.shell.deviations

    def measure_length(editor: CompactEditor, change: float) -> torch.Tensor:
        moved = editor.edit_quietly(ws, {name: change}).mean(1)
        return ((editor.pca.project(moved) - editor.pca.project(ws.mean(1))) / deviations).norm(dim=1)

    assert torch.equal(free.edit_quietly(ws, {name: 0.5}), bounded.edit_quietly(ws, {name: 0.5}))
    assert measure_length(free, 20.0).min() > 4.0
    assert measure_length(bounded, 20.0).max() < 2.4


def test_moves_that_would_be_too_long_hold_others_less():
    """The bound is kept, short moves stay as they are, and what was asked for is reached all the same."""
    random = torch.Generator().manual_seed(3)
    readings = 2.0 + torch.randn(6, 3, generator=random).double()  # alike, so that holding is long
    weights = 50 * (1 - torch.eye(3)).double()
    linearized = LinearizedCodes(torch.eye(6).double(), torch.eye(6).double())
    free = solve_cheapest(linearized, readings, readings, weights)
    unheld = solve_cheapest(linearized, readings, readings, 0 * weights).norm(dim=1)
    bound = float(free.norm(dim=1).max() + unheld.max()) / 2
    solved = solve_within(linearized, readings, readings, weights, bound)
    assert (solved.norm(dim=1) <= bound * (1 + 1e-4)).all()
    short = free.norm(dim=1) <= bound
    assert torch.equal(solved[short], free[short]) and not short.all()
    torch.testing.assert_close((solved @ readings).diagonal(), torch.ones(3).double())
    assert torch.equal(solve_within(linearized, readings, readings, weights, None), free)


def test_details_leave_the_coarse_rows():
    editor = editors.fit("compact", labels(), TOY, **{**QUICK, "details": ("Red", "Unknown")})
    plain = editors.fit("compact", labels(), TOY, **QUICK)
    coarse = editor.options["coarse_rows"]
    assert 0 < coarse < TOY.num_ws and plain.options["coarse_rows"] == 0
    ws = sample(TOY, 20, 1.0, 5)
    moved = editor.edit_quietly(ws, {"Red": 1.0})
    assert torch.equal(moved[:, :coarse], ws[:, :coarse])
    assert torch.equal(moved[:, coarse:], plain.edit_quietly(ws, {"Red": 1.0})[:, coarse:])
    both = editor.edit_quietly(ws, {"Red": 1.0, "Big": -1.0})
    assert torch.equal(both[:, :coarse], plain.edit_quietly(ws, {"Big": -1.0})[:, :coarse])
    assert torch.equal(both[:, coarse:], plain.edit_quietly(ws, {"Red": 1.0, "Big": -1.0})[:, coarse:])
    reached = editor.compute_reach(ws, {"Red": 1.0})[:, editor.attributes.index("Red")]
    expected = plain.compute_reach(ws, {"Red": 1.0})[:, editor.attributes.index("Red")]
    torch.testing.assert_close(reached, expected, atol=1e-3, rtol=1e-3)
