"""Changes refined by pictures, by planted responses and on the toy."""

import pytest
import torch
from fitted_editors import QUICK, SCORER, TOY, compact, labels

from ganvas import editors, sample
from ganvas.control import refinement
from ganvas.control.refinement import (
    DEFAULT_CORRECTIONS,
    MAX_READING,
    MAX_TOTAL_CORRECTION,
    PRIOR_WEIGHT,
    find_held,
    limit_targets,
    refine_changes,
    solve_by_broyden,
)
from ganvas.errors import GanvasError
from ganvas.recipe.model import EditStep
from ganvas.recipe.refinement import choose_corrections

ONE = torch.ones(3, dtype=torch.float64)
RESPONSE = torch.tensor([[0.6, 0.3, 0.0], [-0.2, 1.4, 0.1], [0.5, 0.4, 1.0]], dtype=torch.float64)
TARGETS = torch.tensor([1.2, -1.0, 0.0], dtype=torch.float64)


def solve(measure, steps):
    return solve_by_broyden(measure, TARGETS.repeat(2, 1), ONE, steps, TARGETS)


def test_a_linear_response_is_solved_and_what_is_held_stays():
    changes, reached = solve(lambda x: RESPONSE @ x, 12)
    torch.testing.assert_close(reached, TARGETS, atol=0.15, rtol=0)
    torch.testing.assert_close(RESPONSE @ changes, reached)


def test_more_corrections_are_never_worse():
    costs = []
    for steps in range(8):
        changes, reached = solve(lambda x: torch.tanh(RESPONSE @ x), steps)  # targets of more than 1 can't be reached
        corrections = PRIOR_WEIGHT * (changes - TARGETS)
        costs.append(float((reached - TARGETS).square().sum() + corrections.square().sum()))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.5 * costs[0]


@pytest.mark.parametrize("response", [0.05, -0.5])
def test_a_weak_or_contrary_response_costs_no_more_than_the_change_as_asked(response):
    for steps in (1, 4):
        changes, readings = solve(lambda x: response * x, steps)
        assert (readings - TARGETS).norm() <= (response * TARGETS - TARGETS).norm()
        assert ((changes - TARGETS).abs() <= MAX_TOTAL_CORRECTION + 1e-9).all()


def test_what_is_reached_is_not_corrected_any_more():
    calls = []
    solve(lambda x: calls.append(1) or x, 9)
    assert len(calls) == 1


def test_what_cannot_be_reached_is_not_chased():
    changes, _ = solve(lambda x: 0.2 * torch.tanh(x), 12)
    assert ((changes - TARGETS).abs() <= MAX_TOTAL_CORRECTION + 1e-9).all()
    assert (changes - TARGETS).abs().max() < 1.0


def test_readings_that_no_face_has_are_not_asked_for():
    before = torch.tensor([0.0, 1.5, 3.0, 3.0, -1.7])
    asked = torch.tensor([1.2, 1.2, 1.0, -1.0, -0.5])
    limited = limit_targets(asked, before)
    torch.testing.assert_close(limited, torch.tensor([1.2, MAX_READING - 1.5, 0.0, -1.0, 1.7 - MAX_READING]))
    assert (limited * asked >= 0).all()


def test_no_correction_is_the_change_as_asked():
    assert torch.equal(solve(lambda x: RESPONSE @ x, 0)[0], TARGETS)


WS = sample(TOY, 6, 1.0, 77)


def read(ws):
    return compact().gaussianize(SCORER(TOY.synthesis(ws))[:, [SCORER.column(name) for name in compact().attributes]])


def test_pictures_read_nearer_to_what_was_asked():
    editor, column, gaps = compact(), compact().attributes.index("Red"), []
    for ws in WS.split(1):
        change = 1.6 if float(read(ws)[0, column]) < 0 else -1.6  # to where faces are
        refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Red": change}, corrections=4)
        for changes in ({"Red": change}, refined.changes):
            gaps.append(float((read(editor.edit(ws, changes)) - read(ws))[0, column]) - change)
        assert refined.measured["Red"] == pytest.approx(gaps[-1] + change, abs=1e-4)
    plain, corrected = torch.tensor(gaps).abs().view(-1, 2).mean(0)
    assert corrected < 0.3 * plain


def test_a_value_is_reached_whatever_the_code_has():
    editor, column = compact(), compact().attributes.index("Big")
    for ws in WS.split(1):
        refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {}, {"Big": 0.3}, corrections=5)
        assert float(read(editor.edit(ws, refined.changes))[0, column]) == pytest.approx(0.3, abs=0.15)


def test_protected_attributes_are_held_unless_they_are_entailed(monkeypatch):
    editor = editors.fit(
        "compact", labels(), TOY, protected=("Bright", "Striped"), entailed={"Red": ("Striped",)}, **QUICK
    )
    assert find_held(editor, SCORER, ["Red"]) == ["Bright"]
    assert find_held(editor, SCORER, ["Bright"]) == ["Striped"]
    off = {}
    for held in (True, False):
        editor.options = {**editor.options, "protected": ["Bright"] if held else []}
        off[held] = 0.0
        for ws in WS.split(1):
            refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Red": 1.0}, corrections=4)
            assert set(refined.asked) == set(refined.measured) == {"Red"}
            assert set(refined.changes) == {"Red"}  # what is held changed by less than is corrected
            with monkeypatch.context() as patch:
                patch.setattr(refinement, "HELD_TOLERANCE", 0.0)
                patch.setattr(refinement, "FARTHER_TOLERANCE", 0.0)
                refined = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Red": 1.0}, corrections=4)
            moved = editor.edit(ws, refined.changes)
            off[held] += float((read(moved) - read(ws))[0, editor.attributes.index("Bright")].abs())
    assert off[True] < off[False]


def test_what_is_absent_may_be_read_as_still_less_there(monkeypatch):
    """Holding it there would draw half of it; a value, such as an age, has no side."""
    scores = torch.tensor([-2.0, 2.0])
    monkeypatch.setattr(SCORER, "kinds", ("probability", *SCORER.kinds[1:]))
    falls, rises = refinement.find_tolerances(SCORER, [0, 0], scores).tolist()
    assert falls[0] == rises[1] == refinement.FARTHER_TOLERANCE
    assert falls[1] == rises[0] == refinement.HELD_TOLERANCE
    monkeypatch.setattr(SCORER, "kinds", ("value", *SCORER.kinds[1:]))
    assert (refinement.find_tolerances(SCORER, [0, 0], scores) == refinement.HELD_TOLERANCE).all()


def test_what_lies_within_what_is_accepted_is_no_error():
    calls, accepted = [], torch.stack((TARGETS - 0.5, TARGETS + 0.5))
    changes, reached = solve_by_broyden(lambda x: calls.append(1) or x + 0.4, accepted, ONE, 9, TARGETS)
    assert len(calls) == 1 and torch.equal(changes, TARGETS) and torch.equal(reached, TARGETS + 0.4)
    _, reached = solve_by_broyden(lambda x: x + 1.0, accepted, ONE, 9, TARGETS)
    torch.testing.assert_close(reached, TARGETS + 0.5, atol=0.15, rtol=0)


SURE = torch.tensor([-0.5, 1.3])


@pytest.mark.parametrize(
    ("target", "before", "least"),
    [
        (1.0, -0.8, 2.1),  # it appears
        (0.2, -0.8, 0.2),  # a little more of it was meant
        (1.0, 1.4, 1.0),  # it is there
        (-1.0, 1.5, -2.0),  # it vanishes
        (-1.0, -0.8, -1.0),  # it isn't there
        (3.0, -0.8, 2.1),
    ],
)
def test_what_a_face_has_or_has_not_appears_and_vanishes_altogether(target, before, least):
    bounds = refinement.find_accepted_range(target, SURE - before).tolist()
    is_free = least != pytest.approx(target)  # any change beyond it is accepted, that which was asked for among them
    low, high = (bounds[0], bounds[1]) if target > 0 else (-bounds[1], -bounds[0])
    assert low == pytest.approx(abs(least))
    assert high > max(low, abs(target)) if is_free else high == pytest.approx(low)


def test_glasses_end_where_the_scorer_is_sure(monkeypatch):
    """Asked for 0.6 σ, a face gets all of it; as a plain attribute it gets 0.6 σ."""
    editor, column = compact(), compact().attributes.index("Striped")
    kinds = ["value" for _ in SCORER.kinds]
    kinds[SCORER.column("Striped")] = "probability"
    monkeypatch.setattr(SCORER, "kinds", tuple(kinds))
    scale = editor.gaussianize.select([column])
    monkeypatch.setattr(refinement, "SURE_LOGIT", float(scale.inverse(torch.ones(1, 1))))
    ws = next(ws for ws in WS.split(1) if -1.0 < float(read(ws)[0, column]) < 0.2)
    before = float(read(ws)[0, column])
    plain = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Striped": 0.6}, corrections=6)
    monkeypatch.setattr(refinement, "BINARY_ATTRIBUTES", frozenset({"Striped"}))
    whole = refine_changes(editor, TOY.synthesis, SCORER, ws, {"Striped": 0.6}, corrections=6)
    assert plain.measured["Striped"] == pytest.approx(0.6, abs=0.2)
    assert before + whole.measured["Striped"] > 0.9 and whole.asked["Striped"] == 0.6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"shifts": {}}, "at least one change"),
        ({"shifts": {"Nose": 1.0}}, "'Nose'"),
        ({"shifts": {"Red": 1.0}, "corrections": 99}, "0 to 20, not 99"),
        ({"shifts": {"Red": 1.0}, "ws": WS}, "not of 6"),
        ({"shifts": {"Red": 1.0}, "values": {"Red": 0.0}}, "both a change and a value"),
    ],
)
def test_what_cannot_be_refined_is_said(arguments, says):
    with pytest.raises(GanvasError, match=says):
        refine_changes(**{"editor": compact(), "draw": TOY.synthesis, "scorer": SCORER, "ws": WS[:1]} | arguments)


def test_glasses_values_in_units_and_photographs_are_corrected_unasked():
    """An edit that a scorer can't correct, or that says how often, is left alone."""
    red, whole, half = EditStep({}, {"Red": 1.0}), EditStep({}, {"Big": 1.0}), EditStep({}, {"Red": 1.0}, amount=0.5)
    for steps, refine, refine_all, expected in (
        ([red], None, False, 0),
        ([red], None, True, DEFAULT_CORRECTIONS),
        ([red], 0, True, 0),
        ([red], 7, False, 7),
        ([red, whole], None, True, 0),
        ([half], None, True, 0),
        ([], None, True, 0),
    ):
        assert choose_corrections(refine, steps, compact(), refine_all) == expected
    assert choose_corrections(None, [red], None, refine_all=True) == 0


def test_what_a_face_has_or_hasnt_is_corrected_unasked(monkeypatch):
    monkeypatch.setattr("ganvas.recipe.refinement.BINARY_ATTRIBUTES", {"Red"})
    both = [EditStep({"Red": 1.0}, {"Big": 0.5}), EditStep({}, {"Red": -1.0})]
    assert [choose_corrections(None, [step], compact(), refine_all=False) for step in both] == [DEFAULT_CORRECTIONS] * 2
    assert choose_corrections(None, [EditStep({}, {"Big": 1.0})], compact(), refine_all=False) == 0
