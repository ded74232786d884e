"""Measures without pictures, with planted truths."""

import numpy as np
import pytest
import torch
from evaluation_runs import PAIR
from fitted_editors import compact, labels
from planted_truth import TOY, PlantedEditor, disentangled

from ganvas.data.distribution import fit_distribution
from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.dci import compute_codes, measure_dci, score_importance
from ganvas.evaluation.protocols import run_codes, run_order, take_first_labels
from ganvas.evaluation.rows import RowBlocks, to_frame
from ganvas.generators.base import sample
from ganvas.generators.toy import PLANTED
from ganvas.seeds import LATENT_SEED

WITHIN = fit_distribution(TOY, 300)


def test_a_perfectly_disentangled_code_has_a_dci_of_1():
    factors = torch.randn(600, 6, generator=torch.Generator().manual_seed(0))
    found = measure_dci(factors[:, [3, 1, 0, 2, 5, 4]] * torch.arange(1, 7), factors, draws=5)
    for estimate in vars(found).values():
        assert estimate.mean > 0.98 and estimate.low > 0.98


def test_a_mixed_code_is_informative_but_not_disentangled():
    draw = torch.Generator().manual_seed(1)
    factors = torch.randn(600, 6, generator=draw)
    mixed, _ = torch.linalg.qr(torch.randn(6, 6, generator=draw))
    found = measure_dci(factors @ mixed, factors, draws=5)
    assert found.informativeness.mean > 0.98
    assert found.disentanglement.mean < 0.5 and found.completeness.mean < 0.5


def test_a_code_of_noise_is_uninformative():
    draw = torch.Generator().manual_seed(2)
    found = measure_dci(torch.randn(400, 5, generator=draw), torch.randn(400, 3, generator=draw), draws=5)
    assert found.informativeness.mean < 0.05


def test_an_interval_holds_its_point():
    draw = torch.Generator().manual_seed(3)
    factors = torch.randn(160, 4, generator=draw)
    codes = torch.cat((factors + 0.5 * torch.randn(160, 4, generator=draw), torch.randn(160, 20, generator=draw)), 1)
    for estimate in vars(measure_dci(codes, factors, draws=10)).values():
        assert estimate.low < estimate.mean < estimate.high
        assert estimate.high - estimate.mean == pytest.approx(estimate.mean - estimate.low)


def test_score_importance_at_its_ends():
    assert score_importance(np.eye(4)) == pytest.approx((1, 1))
    assert score_importance(np.ones((4, 4))) == pytest.approx((0, 0), abs=1e-9)
    assert score_importance(np.zeros((2, 2))) == (0, 0)
    # Two numbers tell the first attribute: each tells nothing else, but neither tells it alone.
    disentangled_, complete = score_importance(np.array([[1.0, 0], [1, 0], [0, 1]]))
    assert disentangled_ == pytest.approx(1) and complete < 1


def test_codes_are_an_editors_own():
    w = sample(TOY, 4, 1.0, LATENT_SEED)[:, 0]
    assert compute_codes(compact(), w).shape == (4, 60)
    with pytest.raises(GanvasError, match="none of its own"):
        compute_codes(disentangled(), w)
    with pytest.raises(GanvasError, match="at least 100"):
        measure_dci(torch.zeros(50, 2), torch.zeros(50, 2), 2)


class Shared(EvaluationContext):
    """What reading codes needs of an evaluation."""

    def __init__(self) -> None:
        vars(self).update(data=labels(), typical_set=WITHIN)


def measure(run, *arguments) -> dict[str, float]:
    """The mean of each metric."""
    blocks = RowBlocks("planted", "")
    run(*arguments, blocks)
    return to_frame(blocks.to_table()).groupby("metric", observed=True)["value"].mean().to_dict()


def test_readings_of_the_planted_directions():
    ws, shared = sample(TOY, 64, 1.0, LATENT_SEED), Shared()
    found = measure(run_codes, shared, disentangled(), "Big", ws)
    assert found["target_change"] == pytest.approx(1, abs=0.1)
    assert found["drift"] < 0.06
    assert found["distance"] == pytest.approx(1, abs=0.15)
    leaky = torch.stack(list(TOY.planted.values()))
    leaky[list(PLANTED).index("Big")] += leaky[0]
    # All of one of the four others comes along.
    assert measure(run_codes, shared, PlantedEditor(leaky), "Big", ws)["drift"] == pytest.approx(0.25, abs=0.05)
    with pytest.raises(GanvasError, match="no attribute 'smle'"):
        measure(run_codes, shared, disentangled(), "smle", ws)


def test_lines_commute_and_go_back_and_curves_need_not():
    ws = sample(TOY, 8, 1.0, LATENT_SEED)
    found = measure(run_order, disentangled(), PAIR, ws)
    assert found.keys() == {"order", "together", "undo", "undo_all"} and max(found.values()) < 1e-5

    class Curved(PlantedEditor):
        def shift(self, w, changes):
            return super().shift(w, changes) * (1 + (w - TOY.w_avg).norm(dim=1, keepdim=True))

    found = measure(run_order, Curved(torch.stack(list(TOY.planted.values()))), PAIR, ws)
    assert found["order"] > 0.01 and found["undo"] > 0.01
    with pytest.raises(GanvasError, match="two are needed"):
        measure(run_order, disentangled(), ("Bright",), ws)


def test_fewer_labels_do_not_depend_on_the_others():
    few = take_first_labels(labels(), 200, PAIR)
    assert len(few) == 200 and few.attributes == labels().attributes
    assert not torch.equal(few.probe.weight, labels().probe.weight)
    assert not torch.equal(few.gaussianize.scores, labels().gaussianize.scores)
