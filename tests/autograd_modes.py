"""The autograd modes and float dtypes that every public call takes, for the contract suites."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MODES = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad, "autograd": torch.enable_grad}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_any_float(call: Callable[[Tensor], Tensor], given: Tensor, returns: torch.dtype | None) -> None:
    """A call says the same of ``given`` (float32) in any dtype and mode, in the dtype ``returns`` (None: the given one).

    Codes made in inference mode are as good as others, and gradients, where there are any, are finite.
    """
    for dtype in DTYPES:
        rounded = given.to(dtype)
        expected = call(rounded.float())
        results = []
        for mode in MODES.values():
            with mode():
                made = rounded.clone()
                results.append(call(made))
            if made.is_inference():
                results.append(call(made))
        leaf = rounded.clone().requires_grad_()
        results.append(call(leaf))
        for found in results:
            assert found.dtype == (returns or dtype)
            tolerance = max(torch.finfo(found.dtype).eps, 1e-5)
            torch.testing.assert_close(found.detach().double(), expected.double(), rtol=tolerance, atol=tolerance)
        if found.requires_grad:
            found.float().mean().backward()
            assert leaf.grad is not None
            assert leaf.grad.dtype == dtype
            assert leaf.grad.isfinite().all()
