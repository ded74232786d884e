"""First guesses that learn, shares of a report, and the main table's words."""

from __future__ import annotations

import pytest
import torch
from planted import TOY

from ganvas.bench.headline import lines, told
from ganvas.bench.numbers import random_pairs
from ganvas.bench.plan import FULL
from ganvas.bench.published import agreement, read
from ganvas.bench.track import Line
from ganvas.bench.verdicts import standing
from ganvas.cli import starting
from ganvas.errors import GanvasError
from ganvas.metrics import Trial


def test_a_line_learns_what_targets_take():
    said = torch.linspace(0, 4, 40, dtype=torch.float64)
    assert torch.equal(Line()(said), said)
    took = 0.5 + 1.5 * said
    took[3] = torch.nan  # a face that was never brought there
    line = Line().more(said, took)
    assert len(line.seen) == 39
    assert (line(said) - (0.5 + 1.5 * said)).abs().max() < 0.15
    # Few faces move it little.
    assert torch.equal(Line().more(said[:3], took[:3])(said), said)


def test_a_share_has_the_first_faces_and_never_too_few():
    half, least = FULL.shared(0.5), FULL.shared(1e-6)
    assert (half.first, half.rest, half.share) == (128, 32, 0.5)
    assert (least.first, least.rest, least.matched) == (16, 8, 16)
    assert FULL.shared(1.0) == FULL
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(GanvasError, match="above 0 and at most 1"):
            FULL.shared(wrong)


def test_random_pairs_are_of_faces_that_are_no_neighbours():
    # Neighbours are equal, two by two; strangers are at right angles.
    faces = torch.eye(64).repeat_interleave(2, 0)
    found = random_pairs(faces)
    assert found is not None and found["identity"].mean < 0.1 and found["identity"].n == 128
    assert found["identity_distance"].mean == pytest.approx(2**0.5, abs=0.1)


def test_verdicts_say_who_is_ahead_and_why():
    assert [told(0.1, 0.2), told(-0.1, 0.2), told(-0.2, -0.1)] == ["ahead", "even", "behind"]
    rows = [
        {"attribute": "Male", "measure": "identity", "verdict": "behind", "why": "longer moves"},
        {"attribute": "Smiling", "measure": "identity", "verdict": "ahead", "why": "shorter moves"},
    ]
    (line,) = lines(rows)
    assert line == (
        "Identity, compact against InterfaceGAN: ahead on Smiling; behind on Male. The paper's: behind on Male, Smiling."
        " Behind on Male: longer moves."
    )
    assert lines([]) == []


def test_published_directions_are_compared_with_linear_editors(tmp_path):
    from learned import labels

    from ganvas import editors

    editor = editors.fit("mean_difference", labels(), TOY)
    name = editor.attributes[0]
    direction = editor.directions[0]
    assert agreement(editor, {name: -2 * direction, "Absent": direction}) == {name: 1.0}
    for file in ("smile.pt", "age.pt"):
        torch.save(torch.ones(1, 7), tmp_path / file)
    with pytest.raises(GanvasError, match="has 7 numbers"):
        read(tmp_path, TOY.w_dim)


def test_labels_are_read_of_what_settings_name_too():
    assert starting.learned_from(None, {"conditional": "Male"}) is None
    assert starting.learned_from(["Young"], {}) == ["Young"]
    assert starting.learned_from(["Young"], {"conditional": "Male, Young", "c": 1}) == ["Young", "Male"]
    assert starting.learned_from(["Young"], {"against": "all"}) is None
    assert starting.learned_from(["Young"], {"against": ["Male"]}) is None
    assert starting.learned_from(["Young"], {"conditional": {"Young": "all"}}) is None
    assert starting.learned_from(["Young"], {"against": None, "conditional": ""}) == ["Young"]


def test_who_hardly_ever_arrives_stands_for_no_family():
    def arriving(*share: bool) -> Trial:
        n = len(share)
        codes, scores = torch.zeros(n, 1, 2), torch.zeros(n, 1)
        kinds = ("probability",)
        return Trial("a", ("a",), kinds, codes, codes, scores, scores, torch.tensor(share), torch.ones(n))

    often, once, never = arriving(True, True, False), arriving(True, False, False), arriving(False, False, False)
    assert list(standing({"often": often, "once": once})) == ["often"]
    assert list(standing({"once": once, "never": never})) == ["once", "never"]
