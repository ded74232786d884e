"""First guesses that learn, shares of a report, and the main table's words."""

from __future__ import annotations

import pytest
import torch
from planted_truth import TOY

from ganvas.cli import loading
from ganvas.errors import GanvasError
from ganvas.evaluation.config import FULL
from ganvas.evaluation.headline import format_comparisons, format_difference
from ganvas.evaluation.published_directions import measure_agreement, read_published
from ganvas.evaluation.strength_search import ResponseLine
from ganvas.evaluation.summaries import measure_random_pairs
from ganvas.evaluation.verdicts import select_representatives
from ganvas.metrics import Trial


def test_the_response_line_learns_strengths():
    said = torch.linspace(0, 4, 40, dtype=torch.float64)
    assert torch.equal(ResponseLine()(said), said)
    took = 0.5 + 1.5 * said
    took[3] = torch.nan  # a face that was never brought there
    line = ResponseLine().extend(said, took)
    assert len(line.pairs) == 39
    assert (line(said) - (0.5 + 1.5 * said)).abs().max() < 0.15
    # Few faces move it little.
    assert torch.equal(ResponseLine().extend(said[:3], took[:3])(said), said)


def test_a_share_has_the_first_faces_and_never_too_few():
    half, least = FULL.scale(0.5), FULL.scale(1e-6)
    assert (half.first, half.rest, half.share) == (128, 32, 0.5)
    assert (least.first, least.rest, least.matched) == (16, 8, 16)
    assert FULL.scale(1.0) == FULL
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(GanvasError, match="above 0 and at most 1"):
            FULL.scale(wrong)


def test_random_pairs_are_of_faces_that_are_no_neighbours():
    # Neighbours are equal, two by two; strangers are at right angles.
    faces = torch.eye(64).repeat_interleave(2, 0)
    found = measure_random_pairs(faces)
    assert found is not None and found["identity"].mean < 0.1 and found["identity"].n == 128
    assert found["identity_distance"].mean == pytest.approx(2**0.5, abs=0.1)


def test_verdicts_say_who_is_ahead_and_why():
    assert [format_difference(0.1, 0.2), format_difference(-0.1, 0.2), format_difference(-0.2, -0.1)] == [
        "ahead",
        "even",
        "behind",
    ]
    rows = [
        {"attribute": "Male", "measure": "identity", "verdict": "behind", "why": "longer moves"},
        {"attribute": "Smiling", "measure": "identity", "verdict": "ahead", "why": "shorter moves"},
    ]
    (line,) = format_comparisons(rows)
    assert line == (
        "Identity, compact against InterfaceGAN: ahead on Smiling; behind on Male. The paper's: behind on Male, Smiling."
        " Behind on Male: longer moves."
    )
    assert format_comparisons([]) == []


def test_published_directions_are_compared_with_linear_editors(tmp_path):
    from fitted_editors import labels

    from ganvas import editors

    editor = editors.fit("mean_difference", labels(), TOY)
    name = editor.attributes[0]
    direction = editor.directions[0]
    assert measure_agreement(editor, {name: -2 * direction, "Absent": direction}) == {name: 1.0}
    for file in ("smile.pt", "age.pt"):
        torch.save(torch.ones(1, 7), tmp_path / file)
    with pytest.raises(GanvasError, match="has 7 numbers"):
        read_published(tmp_path, TOY.w_dim)


def test_labels_include_attributes_that_options_name():
    assert loading.select_attributes(None, {"conditional": "Male"}) is None
    assert loading.select_attributes(["Young"], {}) == ["Young"]
    assert loading.select_attributes(["Young"], {"conditional": "Male, Young", "c": 1}) == ["Young", "Male"]
    assert loading.select_attributes(["Young"], {"against": "all"}) is None
    assert loading.select_attributes(["Young"], {"against": ["Male"]}) is None
    assert loading.select_attributes(["Young"], {"conditional": {"Young": "all"}}) is None
    assert loading.select_attributes(["Young"], {"against": None, "conditional": ""}) == ["Young"]


def test_an_editor_that_rarely_arrives_represents_no_family():
    def arriving(*share: bool) -> Trial:
        n = len(share)
        codes, scores = torch.zeros(n, 1, 2), torch.zeros(n, 1)
        kinds = ("probability",)
        return Trial("a", ("a",), kinds, codes, codes, scores, scores, torch.tensor(share), torch.ones(n))

    often, once, never = arriving(True, True, False), arriving(True, False, False), arriving(False, False, False)
    assert list(select_representatives({"often": often, "once": once})) == ["often"]
    assert list(select_representatives({"once": once, "never": never})) == ["once", "never"]
