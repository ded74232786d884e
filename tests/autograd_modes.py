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
        for mode in MODES.values():
            with mode():
                made = rounded.clone()
                found = call(made)
            for one in (found, call(made)):
                assert one.dtype == (returns or dtype)
                tolerance = max(torch.finfo(one.dtype).eps, 1e-5)
                torch.testing.assert_close(one.double(), expected.double(), rtol=tolerance, atol=tolerance)
        leaf = rounded.clone().requires_grad_()
        found = call(leaf)
        if found.requires_grad:
            found.float().mean().backward()
            assert leaf.grad is not None
            assert leaf.grad.dtype == dtype
            assert leaf.grad.isfinite().all()
