"""GradCtrl: follow the gradient of a small classifier of codes, in the channels that matter least to other attributes.

Zikun Chen, Ruowei Jiang, Brendan Duke, Han Zhao and Parham Aarabi, *Exploring Gradient-based Multi-directional Controls in
GANs*, ECCV 2022, https://arxiv.org/abs/2209.00698. With C_k a small network that predicts attribute k from a code:

    w_{t+1} = w_t + Δ_k/T·g_k·d/|d|        d = m ⊙ ∇C_k(w_t), T steps; those of several attributes are added

The mask m is 0 in the channels of w in which the gradients of other attributes are largest, which are found anew at each step.

Differences from the paper: its networks are trained apart and classify; here one with a shared hidden layer of tanh predicts
normal scores, taught by the latent classifier, with noise on its input, so that its gradient is small along directions in
which codes hardly vary and nothing was learned. Channels are standardised. How many channels each other attribute excludes
was chosen by hand for each pair of four attributes, and so were the rows that move; here the share ``excluded`` of the channels
is left out, those of the largest (1 - γ_ik)·|∇C_i|/‖∇C_i‖ of any other attribute i, with γ the labels' |correlation|, and all
rows move; m rises to 1 within a narrow range. Without some of its channels a direction leads out of W sooner: "length" in the
report, and ``excluded=0``, show by how much. g_k is the gain that makes a change of 1 move the probe's mean reading by 1.
"""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganvas.editors._fit import (
    Components,
    FitConfig,
    FitData,
    LatentEditor,
    NetworkMethod,
    WhitenedSpace,
)
from ganvas.editors._networks import SmoothClassifier, compute_correlation, draw_rows
from ganvas.editors.base import EditorMetadata
from ganvas.training_loop import LossFunction
from ganvas.types import Scores
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""

MASK_RAMP = 0.1
"""The share of the threshold below it over which the mask rises from 0 to 1: without, rounding would switch channels."""


@validated
class GradCtrlConfig(FitConfig):
    """Options of ``gradctrl.fit``.

    ``excluded``: the share of the channels that the mask leaves out; ``noise``: the standard deviation of the noise on
    channels in training; ``edit_steps``: T. ``components`` is the number of channels, whatever is given. ``width``, ``steps``,
    ``batch`` and ``rate``: of the network C and its training.
    """

    width: PositiveInt = 64
    rate: Positive = 1e-3
    excluded: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.25
    noise: NonNegative = 0.3
    edit_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 9


@final
class GradCtrl(LatentEditor):
    """A fitted GradCtrl editor; its ``frame`` holds W's channels.

    ``weights`` (attributes, attributes): 1 - γ, 0 on the diagonal.
    """

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace, settings: GradCtrlConfig) -> None:
        super().__init__(metadata, frame)
        k = len(metadata.attributes)
        self.network, self.settings = SmoothClassifier(settings.components, k, settings.width), settings
        self.weights = nn.Buffer(torch.zeros(k, k))

    def compute_direction(self, x: Components, k: int) -> Components:
        """Compute d/|d| of attribute ``k`` at coordinates."""
        gradients = F.normalize(self.network.compute_gradients(x), dim=2)
        others = (gradients.abs() * self.weights[k, :, None]).amax(1)
        count = int(self.settings.excluded * x.shape[1]) if len(self.attributes) > 1 else 0
        if not count:
            return gradients[:, k]
        threshold = others.topk(count, 1).values[:, -1:]
        mask = (threshold - others) / (MASK_RAMP * threshold).clamp(min=1e-12)
        return F.normalize(gradients[:, k] * mask.clamp(0, 1), dim=1)

    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return the sum of all steps; those of several attributes are added."""
        selected = changes.ne(0).any(0).nonzero()[:, 0].tolist()
        done = torch.zeros_like(x)
        for _ in range(self.settings.edit_steps):
            here = x + done
            for k in selected:
                done = done + changes[:, k, None] / self.settings.edit_steps * self.compute_direction(here, k)
        return done


def _create_loss(editor: GradCtrl, fit_data: FitData, settings: GradCtrlConfig) -> LossFunction:
    """Return the loss of C; sets the weights of other attributes, which aren't trained."""
    x, network = fit_data.x, editor.network
    random = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        network.start_from(fit_data.classifier)
        targets = fit_data.classifier(x)
        weights = 1 - compute_correlation(fit_data.a).abs()
        editor.weights.copy_(weights.clamp(min=0).fill_diagonal_(0))

    def loss(step: int) -> Tensor:
        rows = draw_rows(len(x), settings.batch, random, x.device)
        noise = settings.noise * torch.randn(len(rows), x.shape[1], generator=random).to(x)
        return (network(x[rows] + noise) - targets[rows]).square().mean()

    return loss


METHOD = NetworkMethod("gradctrl", GradCtrlConfig, GradCtrl, _create_loss, standardize_only=True)
"""How the method is fitted and read."""
fit, from_tensors = METHOD.fit, METHOD.from_tensors
