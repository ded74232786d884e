"""P, the space of codes before the last activation of a mapping network, and edits that don't leave it.

The mapping network of a StyleGAN ends with a leaky ReLU. Undone, the codes of samples are nearly Gaussian, and whitened principal
components tell how typical a code is. A straight edit of W leaves P: it makes negative numbers more negative than an activation
of a sample ever is, and components that hardly vary among samples become large. In W nothing shows it, but pictures come apart.

Sources: Zhu et al., *Improved StyleGAN Embedding: Where are the Good Latents?*, 2020, https://arxiv.org/abs/2012.09036 (P and its
whitened components); Menon et al., *PULSE*, 2020, https://arxiv.org/abs/2003.03808 (the activation undone).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.pca import fit_pca
from ganvas.types import W, WPlus

MIN_VARIANCE_SHARE = 1 / 1500
"""The least share of the first component's variance that a component has: truncated samples are far off along smaller ones."""
MAX_DISTANCE = 2.5
"""The largest distance that a straight edit of a typical code reaches: pictures beyond it stay broken (found by eye)."""
TYPICAL_DISTANCE = 1.0
"""The distance that an edit is mended to, or to that of the code before: that of the median sample."""
SEARCH_STEPS, DESCENT_STEPS = 20, 30
"""The steps of the search for the longest edit, and the most steps that mend it."""


@dataclass(frozen=True, eq=False)
class PSpace:
    """The whitened principal components of P.

    ``mean`` (w_dim,); ``whitening`` (components, w_dim), orthogonal rows, each divided by its standard deviation; ``slope``: that
    of the leaky ReLU, 1 for a generator whose W is no output of one: P is W then.
    """

    mean: Tensor
    whitening: Tensor
    slope: float

    @classmethod
    def fit(cls, w: W, slope: float) -> PSpace:
        """Fit the components on the codes of samples. Raises GanvasError for codes that don't vary."""
        p = undo_activation(w, slope)
        variances = fit_pca(p, 1).variances
        components = int((variances >= MIN_VARIANCE_SHARE * variances[0]).sum())
        pca = fit_pca(p, components)
        return cls(pca.mean, pca.components / variances[:components, None].sqrt(), slope)

    def measure_distance(self, w: Float[Tensor, "*batch w_dim"]) -> Float[Tensor, "*batch"]:
        """Measure how far codes lie from the mean of P: the root mean square of whitened components, about 1 for samples."""
        return self._whiten(undo_activation(w, self.slope) - self.mean.to(w)).square().mean(-1).sqrt()

    def keep_typical(self, ws: WPlus, shift: Float[Tensor, "n rows w_dim"]) -> Float[Tensor, "n num_ws w_dim"]:
        """Return a shift whose codes are nearly as typical as those before, or as the median sample, with little change.

        A shift that goes too far is shortened first. A shift whose codes are typical is returned as it is, and so is 0.
        """
        whole = ws
        if _has_equal_rows(ws) and _has_equal_rows(shift):  # one of them is enough
            ws, shift = ws[:, :1], shift[:, :1]
        return self._mend(ws, self.limit_distance(ws, shift)).expand_as(whole)

    def limit_distance(self, ws: WPlus, shift: Float[Tensor, "n rows w_dim"]) -> Float[Tensor, "n num_ws w_dim"]:
        """Shorten the shifts of codes of which a row goes too far, all rows alike."""
        shift, before = shift.expand_as(ws), self.measure_distance(ws)
        limits = (before.clamp(min=TYPICAL_DISTANCE).square() + MAX_DISTANCE**2 - TYPICAL_DISTANCE**2).sqrt()

        def fits(share: Tensor) -> Tensor:
            return (self.measure_distance(ws + share[:, None, None] * shift) <= limits).all(1)

        whole = torch.ones_like(before[:, 0])
        low, high, is_short = torch.zeros_like(whole), whole, fits(whole)
        if is_short.all():
            return shift
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            inside = fits(middle)
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        return torch.where(is_short, whole, low)[:, None, None] * shift

    def _mend(self, ws: WPlus, shift: WPlus) -> WPlus:
        """Descend from the shifted codes until they are typical.

        The gradient is that of the squared length of the change in P, not of the code's: what is unusual in a code stays. Steep
        directions are those of small components, so that they are mended first, and little is taken from the edit itself.
        """
        limits, start = self.measure_distance(ws).clamp(min=TYPICAL_DISTANCE), undo_activation(ws, self.slope)
        rate = self.slope**2 / self.whitening.square().sum(1).max().to(ws)
        distance = self.measure_distance(ws + shift)
        for _ in range(DESCENT_STEPS):
            too_far = distance > limits
            if not too_far.any():
                break
            moved = ws + shift
            change = self._whiten(undo_activation(moved, self.slope) - start) @ self.whitening.to(ws)
            step = rate * torch.where(moved < 0, 1 / self.slope, 1.0) * change
            after = self.measure_distance(moved - step)
            # The last step goes as far as the limit alone, so that a slider doesn't jump.
            share = ((distance - limits) / (distance - after).clamp(min=1e-6)).clamp(0, 1)
            share = torch.where(too_far, torch.where(after < limits, share, 1.0), 0.0)
            shift = shift - share[..., None] * step
            distance = self.measure_distance(ws + shift)
        return shift

    def _whiten(self, p: Float[Tensor, "*batch w_dim"]) -> Float[Tensor, "*batch components"]:
        return p @ self.whitening.to(p).T


def _has_equal_rows(codes: WPlus) -> bool:
    return torch.equal(codes, codes[:, :1].expand_as(codes))


def undo_activation(w: Float[Tensor, "*batch w_dim"], slope: float) -> Float[Tensor, "*batch w_dim"]:
    """Undo a leaky ReLU."""
    return torch.where(w < 0, w / slope, w)
