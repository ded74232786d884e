"""First guesses that learn, shares of a report, and what is compared with what."""

from __future__ import annotations

import pytest
import torch
from planted_truth import TOY

from ganvas.cli import loading
from ganvas.errors import GanvasError
from ganvas.evaluation.analysis import RowAnalysis
from ganvas.evaluation.claims import _compare_best, describe_difference
from ganvas.evaluation.config import FULL
from ganvas.evaluation.methods import MethodEntry
from ganvas.evaluation.protocols import ResponseLine
from ganvas.evaluation.published_directions import measure_agreement, read_published
from ganvas.evaluation.rows import RowBlocks, save_cell, to_frame
from ganvas.evaluation.runner import STRANGERS_METHOD, EvaluationResult, _compare_strangers
from ganvas.stats import Estimate


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


def test_strangers_are_faces_that_are_no_neighbours():
    # Neighbours are equal, two by two; strangers are at right angles.
    blocks = RowBlocks(STRANGERS_METHOD, "")
    _compare_strangers(torch.eye(64).repeat_interleave(2, 0), blocks)
    rows = to_frame(blocks.to_table())
    assert len(rows) == 256
    means = rows.groupby("metric", observed=True)["value"].mean()
    assert means["identity"] < 0.1 and means["identity_distance"] == pytest.approx(2**0.5, abs=0.1)


def test_a_difference_is_ahead_by_its_interval():
    found = [describe_difference(Estimate(0.1, low, high, 9)) for low, high in ((0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1))]
    assert found == ["ahead", "even", "behind"]


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


class Rows(EvaluationResult):
    """The rows of methods with a value for each code; nan where a code didn't arrive."""

    def __init__(self, protocol: str = "equal", metric: str = "drift", /, **values: list[float]) -> None:
        self.cells = []
        self.entries = [MethodEntry(name, family=name) for name in values]
        for method, numbers in values.items():
            blocks, found = RowBlocks(method, "a"), torch.tensor(numbers)
            reached = ~found.isnan()
            blocks.add(protocol, metric, torch.arange(len(found)), found, change=1.0, judge="j", reached=reached)
            self.cells.append(save_cell(None, blocks, {}))


def test_an_editor_that_rarely_arrives_represents_no_family():
    nan = float("nan")
    tables = RowAnalysis(Rows(often=[2.0, 2, nan, 2], once=[1.0, 1, nan, nan, nan, nan], never=[nan] * 4))
    equal = {"attribute": "a", "change": 1.0, "judge": "j"}
    assert tables.choose_best("equal", "drift", ["once", "often"], False, **equal) == "often"
    assert tables.choose_best("equal", "drift", ["once", "never"], False, **equal) == "once"
    assert tables.choose_best("equal", "drift", ["never"], False, **equal) is None


def test_what_is_chosen_on_some_codes_is_reported_on_others():
    # On even codes one is better, on odd ones the other.
    tables = RowAnalysis(Rows(lucky=[1.0, 9, 1, 9, 1, 9], steady=[2.0, 2, 2, 2, 2, 2]))
    equal = {"attribute": "a", "change": 1.0, "judge": "j"}
    assert tables.choose_best("equal", "drift", ["lucky", "steady"], False, **equal) == "lucky"
    a, b, codes = tables.pair("equal", "drift", "lucky", "steady", **equal)
    assert (a.tolist(), b.tolist(), codes.tolist()) == ([9] * 3, [2] * 3, [1, 3, 5])


def test_two_methods_that_always_succeed_differ_by_an_interval():
    tables = RowAnalysis(Rows("paper", "success", compact=[1.0] * 256, interfacegan=[1.0] * 256))
    names, difference, verdict = _compare_best(tables, "success", "a")
    assert (names, verdict, difference.n) == ("compact / interfacegan", "even", 128)
    assert difference.mean == 0 and difference.low < -0.02 and difference.high > 0.02
