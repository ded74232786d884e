"""The type checker of the test run: beartype, with 1 as good a float as 1.0, and jaxtyping where shapes are named."""

from __future__ import annotations

from functools import wraps
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

ALWAYS_CHECKED, CHECK_EVERY = 100, 20
"""The first calls of each function are all checked; of later ones, as in a training's steps, one in ``CHECK_EVERY``."""
_check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
_check_shapes = jaxtyping.jaxtyped


def install_checks(package: str) -> None:
    """Check all calls in a package that is imported from now on."""
    jaxtyping.jaxtyped = _jaxtyped
    jaxtyping.install_import_hook(package, "type_checker.check")


def check(checked: Any) -> Any:
    """Check what jaxtyping asks for: a call's arguments, then its result.

    With the result it asks for the arguments once more, of which nothing new is learned: these are left out.
    """
    returns = getattr(checked, "__annotations__", {}).get("return", Any)
    if isinstance(checked, FunctionType) and returns is not Any:
        checked.__annotations__ = {"return": returns}
    return _check_types(checked)


def _jaxtyped(*, typechecker: Any) -> Any:
    """Decorate as ``jaxtyping.jaxtyped``, but leave functions that name no shapes to beartype, which is far quicker.

    A function's own checks are made when it is called first: many, above all those inside of others, never are.
    """

    def decorate(decorated: Any) -> Any:
        if not isinstance(decorated, FunctionType):
            return _check_shapes(decorated, typechecker=typechecker)
        checked, calls = None, 0

        @wraps(decorated)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal checked, calls
            calls += 1
            if calls > ALWAYS_CHECKED and calls % CHECK_EVERY:
                return decorated(*args, **kwargs)
            if checked is None:
                shapes = _names_shapes(decorated)
                checked = _check_shapes(decorated, typechecker=typechecker) if shapes else _check_types(decorated)
            return checked(*args, **kwargs)

        return call

    return decorate


def _names_shapes(function: FunctionType) -> bool:
    try:
        hints = list(get_type_hints(function).values())
    except Exception:  # a name that is imported for type checking only: jaxtyping knows what to do
        return True
    for hint in hints:
        hints += hint if isinstance(hint, list) else get_args(hint)
    return any(isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray) for hint in hints)
