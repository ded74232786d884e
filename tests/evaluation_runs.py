"""An evaluation of the toy: two judges that look through its own scorer's eyes, and faces that are where their codes are."""

from __future__ import annotations

import torch
from fitted_editors import QUICK as SHORT
from fitted_editors import labels
from planted_truth import SCORER, TOY

from ganvas.evaluation.config import EvaluationConfig, StrengthGrid
from ganvas.evaluation.judges import FaceRecognizer, JudgePanel
from ganvas.evaluation.methods import MethodEntry
from ganvas.evaluation.runner import EvaluationResult, run_evaluation
from ganvas.scorers.base import Scorer

TINY = EvaluationConfig(
    first=8,
    rest=8,
    ablations=2,
    matched=8,
    matched_rest=4,
    other_attribute_faces=2,
    joint_edit_faces=2,
    random_moves=4,
    pictures=1,
    targets=(1.0, 1.5),
    curve=(0.5, 1.0),
    search=StrengthGrid(maximum=4.0),
    pool=112,
    pool_limit=112,
    measured=300,
    latent=64,
    labels=(100, 1000),
    dci=3,
)
PAIR = ("Bright", "Striped")
METHODS = (
    MethodEntry("compact", "compact", SHORT, "first", "compact", tries_all_attributes=True),
    MethodEntry("mean_difference", "mean_difference", group="first", family="interfacegan"),
    MethodEntry("absent", "absent"),
    MethodEntry("mean_difference of many", "mean_difference", {"share": 0.3}, "ablation"),
)


class Judge(Scorer):
    """The toy's scorer under another name; it made no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = "judge", SCORER.attributes, SCORER.kinds
        self.fingerprint = "a judge's"

    def forward(self, images):
        return 2 * SCORER(images) + 1


def embed(images):
    """The picture, in a few numbers; the darkest pictures show no face."""
    small = torch.nn.functional.avg_pool2d(images, 8).flatten(1)
    return torch.where(small.mean(1, keepdim=True) < -0.2, torch.nan, small)


def panel() -> JudgePanel:
    """The toy's scorer, one judge, and who is in a picture."""
    return JudgePanel(SCORER, [Judge()], FaceRecognizer(embed, "the toy's", 3 * 16))


def outcome(out=None, **more) -> EvaluationResult:
    """A tiny run."""
    arguments = {"entries": METHODS, "attributes": PAIR, "config": TINY} | more
    return run_evaluation(
        TOY, panel(), labels(), arguments["entries"], arguments["attributes"], arguments["config"], out
    )
