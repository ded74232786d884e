"""Changes refined by pictures, by planted responses and on the toy."""

import pytest
import torch
from fitted_editors import QUICK, SCORER, TOY, compact, labels

from ganvas import editors, sample
from ganvas.control.refinement import MAX_HELD_CHANGE, find_held, refine_changes, solve_by_broyden
from ganvas.errors import GanvasError

ONE = torch.ones(3, dtype=torch.float64)
RESPONSE = torch.tensor([[0.6, 0.3, 0.0], [-0.2, 1.4, 0.1], [0.5, 0.4, 1.0]], dtype=torch.float64)
TARGETS = torch.tensor([1.2, -1.0, 0.0], dtype=torch.float64)


def solve(measure, steps, limits=4 * ONE, weights=ONE):
    return solve_by_broyden(measure, TARGETS, weights, limits, steps)


def test_a_linear_response_is_solved_and_what_is_held_stays():
    changes, reached = solve(lambda x: RESPONSE @ x, 12)
    torch.testing.assert_close(reached, TARGETS, atol=0.05, rtol=0)
    torch.testing.assert_close(RESPONSE @ changes, reached)


def test_more_corrections_are_never_worse():
    def measure(x):
        return torch.tanh(RESPONSE @ x)  # targets of more than 1 can't be reached

    errors = [float((solve(measure, steps)[1] - TARGETS).norm()) for steps in range(8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_changes_end_at_their_limits():
    limits = torch.tensor([1.5, 1.5, 0.25], dtype=torch.float64)
    changes, _ = solve(lambda x: 0.1 * x, 12, limits)
    assert (changes.abs() <= limits).all()
    assert changes[:2].abs().tolist() == [1.5, 1.5]


def test_no_correction_is_the_change_as_asked():
    assert torch.equal(solve(lambda x: RESPONSE @ x, 0)[0], TARGETS)


WS = sample(TOY, 6, 1.0, 77)


def read(ws):
    return compact().gaussianize(SCORER(TOY.synthesis(ws))[:, [SCORER.column(name) for name in compact().attributes]])


def test_pictures_read_nearer_to_what_was_asked():
    editor, column, gaps = compact(), compact().attributes.index("Red"), []
    for ws in WS.split(1):
        refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Red": 0.8}, steps=4)
        for changes in ({"Red": 0.8}, refined.changes):
            gaps.append(float((read(editor.edit(ws, changes)) - read(ws))[0, column]) - 0.8)
        assert refined.read["Red"] == pytest.approx(gaps[-1] + 0.8, abs=1e-4)
    plain, corrected = torch.tensor(gaps).abs().view(-1, 2).mean(0)
    assert corrected < 0.3 * plain


def test_a_value_is_reached_whatever_the_code_has():
    editor, column = compact(), compact().attributes.index("Big")
    for ws in WS.split(1):
        refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {}, {"Big": 0.3}, steps=5)
        assert float(read(editor.edit(ws, refined.changes))[0, column]) == pytest.approx(0.3, abs=0.15)


def test_protected_attributes_are_held_unless_they_are_entailed():
    editor = editors.fit(
        "compact", labels(), TOY, protected=("Bright", "Striped"), entailed={"Red": ("Striped",)}, **QUICK
    )
    assert find_held(editor, SCORER, ["Red"]) == ["Bright"]
    assert find_held(editor, SCORER, ["Bright"]) == ["Striped"]
    refined = refine_changes(editor, TOY.synthesis, SCORER, WS[:1], {"Red": 1.0}, steps=3)
    assert set(refined.changes) <= {"Red", "Bright"}
    assert set(refined.asked) == set(refined.read) == {"Red"}
    assert abs(refined.changes.get("Bright", 0.0)) <= MAX_HELD_CHANGE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"shifts": {}}, "at least one change"),
        ({"shifts": {"Nose": 1.0}}, "'Nose'"),
        ({"shifts": {"Red": 1.0}, "steps": 99}, "0 to 20, not 99"),
        ({"shifts": {"Red": 1.0}, "ws": WS}, "not 6 and 1"),
    ],
)
def test_what_cannot_be_refined_is_said(arguments, says):
    with pytest.raises(GanvasError, match=says):
        refine_changes(**{"editor": compact(), "draw": TOY.synthesis, "scorer": SCORER, "ws": WS[:1]} | arguments)
