"""The paper's protocol on the toy: perfect, idle and stopped editors get the numbers that they deserve."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from planted_truth import SCORER, TOY, VIEW, PlantedEditor, disentangled

from ganvas.control.search import CodeScorer
from ganvas.errors import GanvasError
from ganvas.evaluation.faces import EditGoal, FacePool, grow_pool
from ganvas.evaluation.success import SuccessProtocol, run_success, run_trials
from ganvas.generators.base import sample
from ganvas.io.files import load_tensors, save_tensors
from ganvas.metrics.effects import variation
from ganvas.seeds import EVALUATION_SEED

QUICK = SuccessProtocol(n=12, measured=300)
PAIR = ("Bright", "Striped")


def test_a_disentangled_editor_has_a_diagonal_matrix():
    outcome = run_trials(TOY, SCORER, disentangled(), PAIR, QUICK, None)
    for trial in outcome.trials:
        assert trial.arrived.all()
        assert torch.equal(VIEW(trial.after)[:, trial.column] > 0, torch.ones(12, dtype=torch.bool))
        row = variation(trial).mean(0)
        assert row[trial.column] > 0.4
        others = [k for k in range(5) if k != trial.column]
        # Rounding to tanh and back, and the blob's margins.
        assert row[others].abs().max() < 0.02


def test_an_editor_that_moves_nothing_has_success_0(tmp_path):
    results = run_success(TOY, SCORER, PlantedEditor(torch.zeros(5, 64)), tmp_path, PAIR, QUICK)
    for row in results["attributes"].values():
        assert row["success"]["mean"] == 0
        assert (row["failed"], row["failed_at_bound"]) == (12, 0)
        assert row["variation"]["Bright"] is None


def test_faces_are_fresh_negatives_in_order_of_their_seeds():
    (trial,) = run_trials(TOY, SCORER, disentangled(), ("Bright",), QUICK, None).trials
    scores = VIEW(sample(TOY, 64, 1.0, EVALUATION_SEED))
    negative = (scores[:, 0] < 0).nonzero()[:12, 0]
    torch.testing.assert_close(trial.before, sample(TOY, 64, 1.0, EVALUATION_SEED)[negative])
    assert (trial.scores_before[:, 0] < 0).all()


def test_downwards_goals_start_above_and_end_below():
    goal = EditGoal("Bright", up=False)
    assert goal.mask_lacking(torch.tensor([0.4, 0.6])).tolist() == [False, True]
    assert goal.get_target(0.9) == pytest.approx(0.1)


def test_a_stopped_run_continues(tmp_path):
    first = run_success(TOY, SCORER, disentangled(), tmp_path, PAIR, QUICK)
    whole = (tmp_path / "success.json").read_text()
    for path in (tmp_path / "trials").glob("Striped-*"):
        path.unlink()

    class Blind(type(SCORER)):
        """A scorer that may look at no more than a few pictures."""

        left = 100

        def forward(self, images):
            self.left -= len(images)
            assert self.left > 0, "the pool and the finished trial are not scored again"
            return super().forward(images)

    again = run_success(TOY, Blind(), disentangled(), tmp_path, PAIR, QUICK)
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert json.loads(whole)["attributes"] == json.loads((tmp_path / "success.json").read_text())["attributes"]
    table = (tmp_path / "success.md").read_text()
    assert "| Bright | 1.000 [0.758, 1.000] |" in table


def test_another_editor_is_tried_anew(tmp_path):
    run_success(TOY, SCORER, disentangled(), tmp_path, ("Bright",), QUICK)
    idle = run_success(TOY, SCORER, PlantedEditor(torch.zeros(5, 64)), tmp_path, ("Bright",), QUICK)
    assert idle["attributes"]["Bright"]["success"]["mean"] == 0


def test_another_dtype_is_another_trial(tmp_path):
    run_success(TOY, SCORER, disentangled(), tmp_path, ("Bright",), QUICK)
    half = copy.copy(TOY)
    half.dtype = torch.bfloat16  # a name is enough: pictures of one dtype are not taken for another's
    results = run_success(half, SCORER, disentangled(), tmp_path, ("Bright",), QUICK)
    assert results["dtype"] == "bfloat16"
    for name in ("pool-*.safetensors", "trials/Bright-*.safetensors"):
        about = [load_tensors(path)[1] for path in tmp_path.glob(name)]
        assert {each["dtype"] for each in about} == {"float32", "bfloat16"}
        assert {each["batch"] for each in about} == {QUICK.batch}


@pytest.mark.parametrize("name", ["pool-*.safetensors", "trials/Bright-*.safetensors"])
def test_damaged_and_foreign_files_are_made_anew(tmp_path, name):
    first = run_success(TOY, SCORER, disentangled(), tmp_path, ("Bright",), QUICK)
    path = min(tmp_path.glob(name))
    whole, (tensors, about) = path.read_bytes(), load_tensors(path)
    broken = [
        lambda: path.write_bytes(whole[:-9]),
        lambda: save_tensors(path, {}, about),
        lambda: save_tensors(path, tensors, {}),
        lambda: save_tensors(path, {**tensors, "rows": tensors["rows"][:, :2]}, about),
        lambda: save_tensors(path, {**tensors, "rows": tensors["rows"] * float("nan")}, about),
    ]
    for damage in broken:
        damage()
        again = run_success(TOY, SCORER, disentangled(), tmp_path, ("Bright",), QUICK)
        assert {**first, "seconds": 0} == {**again, "seconds": 0}
        assert path.read_bytes() == whole


def test_a_one_sided_attribute_is_an_error():
    class Sure(type(SCORER)):
        def forward(self, images):
            return super().forward(images).index_fill(1, torch.tensor([0]), 9.0)

    code_scorer = replace(VIEW, scorer=Sure())
    assert len(grow_pool(code_scorer, [EditGoal("Bright")], 2, FacePool(torch.zeros(0, 5)), 8, 100).scores) == 100
    with pytest.raises(GanvasError, match=r"Only 0 of 144 pictures can be tried on 'Bright', not 2"):
        run_trials(TOY, Sure(), disentangled(), ("Bright",), replace(QUICK, n=2), None)


@pytest.mark.parametrize(
    ("attributes", "message"), [(("smle",), "Unknown attribute 'smle'"), (("Right",), "'Right' is a value")]
)
def test_refuses_what_the_protocol_cannot_try(tmp_path, attributes, message):
    with pytest.raises(GanvasError, match=message):
        run_success(TOY, SCORER, disentangled(), tmp_path, attributes, QUICK)
    assert not list(tmp_path.glob("*.json"))


def test_refuses_no_faces():
    with pytest.raises(GanvasError, match="at least 1, not 0"):
        SuccessProtocol(n=0)


def test_view_batches_change_nothing():
    ws = sample(TOY, 7, 1.0)
    torch.testing.assert_close(CodeScorer(TOY, SCORER, batch=2)(ws), VIEW(ws))
