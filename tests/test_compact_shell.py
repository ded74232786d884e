"""Long moves of the compact editor are drawn in: what they name stays, the rest never leaves the shell."""

import pytest
import torch

from ganvas.editors._compact_shell import KEPT, LEAST, Shell, drawn_in

RNG = torch.Generator().manual_seed(0)
SHELL = Shell(torch.linspace(3, 0.5, 12), torch.randn(12, 4, generator=RNG), 0.1)
X = torch.randn(40, 12, generator=RNG) * SHELL.deviations
MOVE = torch.randn(40, 12, generator=RNG) * SHELL.deviations
CHANGED = torch.tensor([True, False, True, False]).expand(40, -1).clone()
CHANGED[20:] = torch.tensor([False, True, False, False])


def test_what_is_not_moved_stays():
    torch.testing.assert_close(drawn_in(X, X, torch.zeros_like(CHANGED), SHELL), X)
    torch.testing.assert_close(drawn_in(X, X, CHANGED, SHELL), X)


def test_without_truncation_nothing_is_drawn():
    shell = Shell(SHELL.deviations, SHELL.readings, 0.0)
    assert torch.equal(drawn_in(X, X + 9 * MOVE, CHANGED, shell), X + 9 * MOVE)


@pytest.mark.parametrize("strength", [0.5, 2.0, 8.0])
def test_readings_of_what_changed_stay(strength):
    y = X + strength * MOVE
    found = drawn_in(X, y, CHANGED, SHELL)
    torch.testing.assert_close((found @ SHELL.readings)[CHANGED], (y @ SHELL.readings)[CHANGED], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("strength", [2.0, 8.0, 20.0])
def test_the_rest_is_inside_the_shell(strength):
    y = X + strength * MOVE
    white, start = (z / SHELL.deviations for z in (drawn_in(X, y, CHANGED, SHELL), X))
    moved = (strength * MOVE / SHELL.deviations).norm(dim=1)
    radius = (1 - 0.1 * moved).clamp(min=LEAST) * start.square().sum(1).clamp(min=12)
    for row in range(len(X)):
        basis = torch.linalg.qr(SHELL.deviations[:, None] * SHELL.readings[:, CHANGED[row]]).Q
        kept = white[row] @ basis
        rest = white[row].square().sum() - kept.square().sum()
        assert rest <= torch.maximum(radius[row] - kept.square().sum(), KEPT * radius[row]) * 1.01


def test_truncated_codes_have_room():
    x, y = 0.3 * X, 0.3 * X + 0.3 * MOVE
    torch.testing.assert_close(drawn_in(x, y, CHANGED, SHELL), y)
