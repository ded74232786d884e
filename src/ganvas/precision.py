"""Wrappers that let generators, scorers and editors take any float dtype, in any autograd mode.

Codes come back in the dtype that they were given in; images, scores and readings are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def leave_inference_mode() -> Iterator[None]:
    """Run a block, or a function that this decorates, outside of ``torch.inference_mode``; gradients stay off where they are.

    A tensor that is created in inference mode can never take part in autograd, weights and cached tables included.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


def convert_to_normal(tensor: Tensor) -> Tensor:
    """Copy a tensor that was created in inference mode, so that it can take part in autograd; return any other as it is."""
    with leave_inference_mode():
        return tensor.clone() if tensor.is_inference() else tensor


def accept_any_float(returns: torch.dtype | None = None) -> Callable[[F], F]:
    """Wrap a method so that it computes in ``self.input_dtype``, outside of inference mode, whatever floats it is given.

    Its result has the dtype ``returns``, or (None) that of the first float tensor given.
    """

    def wrap(method: F) -> F:
        @wraps(method)
        def call(self: Any, *values: Any, **named: Any) -> Any:
            floats = [value for value in (*values, *named.values()) if _is_float(value)]
            with leave_inference_mode():
                converted = [_convert(value, self.input_dtype) for value in values]
                options = {key: _convert(value, self.input_dtype) for key, value in named.items()}
                result = method(self, *converted, **options)
                return result.to(returns or floats[0].dtype) if floats else result

        return call  # type: ignore[return-value]

    return wrap


def accept_any_floats_in(kind: type, returns: dict[str, torch.dtype | None]) -> None:
    """Wrap the methods of ``returns`` that the class ``kind`` itself defines; for ``__init_subclass__`` of a base class."""
    for name, dtype in returns.items():
        if name in vars(kind):
            setattr(kind, name, accept_any_float(dtype)(vars(kind)[name]))


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _convert(value: Any, dtype: torch.dtype) -> Any:
    if not _is_float(value):
        return value
    value = convert_to_normal(value.to(dtype))
    # Where nothing is recorded, code that asks for requires_grad takes its fast way.
    return value if torch.is_grad_enabled() else value.detach()
