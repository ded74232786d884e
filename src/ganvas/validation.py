"""Dataclasses whose values are validated by pydantic: types, ranges and names, with errors of one line.

Numbers are taken as they are: neither texts nor ``True`` count as numbers, and none may be infinite or NaN.
"""

from __future__ import annotations

import gc
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, fields
from functools import cache
from typing import Annotated, Any, TypeVar, dataclass_transform

from ganvas.errors import GanvasError, unknown


@contextmanager
def _pause_collection() -> Iterator[None]:
    """Keep many new objects from setting off a collection of all of PyTorch's, which takes longer than making them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


with _pause_collection():
    from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator, model_validator
    from pydantic.dataclasses import dataclass
    from pydantic_core import ArgsKwargs, ErrorDetails

T = TypeVar("T")
Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Natural = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
PositiveInt = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(strict=True, gt=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]

_TYPES = {
    "int_type": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "dataclass_type": "an object",
}
_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def validated(kind: type[T]) -> type[T]:
    """Make ``kind`` a frozen dataclass whose values are validated when it is made; GanvasError says what is invalid.

    ``__post_init__`` checks what no single field shows, and raises GanvasError, too.
    """
    check: Any = model_validator(mode="before")
    setattr(kind, "_check_names", check(classmethod(_check_names)))  # noqa: B010 (no such field)
    with _pause_collection():
        made: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(kind)
    construct = made.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            raise GanvasError(_describe(error.errors(include_url=False)[0], made)) from None

    made.__init__ = __init__
    return made


def _keep(value: Any, check: Any) -> Any:
    check(value)
    return value


Real = Annotated[float, Field(strict=True), WrapValidator(_keep)]
"""A number as it is written, so that 1 stays 1: for files whose fingerprint depends on it."""
PositiveReal = Annotated[float, Field(strict=True, gt=0), WrapValidator(_keep)]


def parse(kind: type[T], value: object, origin: object = None, complete: bool = False) -> T:
    """Build a validated dataclass from the JSON object ``value``.

    ``complete``: no key may be missing but those of the class's ``WRITTEN_IF_SET``, so that no default changes what a file
    means. Raises GanvasError with ``origin`` and the path of what is invalid.
    """
    try:
        return _make_adapter(kind).validate_python(value, context={"complete": complete})
    except ValidationError as error:
        message = _describe(error.errors(include_url=False)[0], kind)
        raise GanvasError(message if origin is None else f"{origin}: {message}") from None


@cache
def _make_adapter(kind: type) -> Any:
    return TypeAdapter(kind)


def _check_names(cls: Any, value: Any, info: Any) -> Any:
    """Raise GanvasError for a name that isn't a field's, and for one that is missing in what must be complete."""
    arguments = isinstance(value, ArgsKwargs)
    values = value.kwargs if arguments else value
    names = [each.name for each in fields(cls)]
    for name in values or () if isinstance(values, Mapping) else ():
        if name not in names:
            raise unknown("option" if arguments else "key", name, names)
    if info.context and info.context["complete"] and isinstance(value, Mapping):
        for name in names:
            if name not in value and name not in getattr(cls, "WRITTEN_IF_SET", ()):
                raise GanvasError(f"{name} is missing.")
    return value


def _describe(error: ErrorDetails, kind: Any) -> str:
    """Describe an error in one line: the path of the field, what it must be, and its value."""
    code, context, path = error["type"], error.get("ctx", {}), list(error["loc"])
    if path and isinstance(path[0], int):  # an argument by its position
        path[0] = fields(kind)[path[0]].name
    at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    bound = next((key for key in _BOUNDS if key in context), "")
    if code == "value_error":
        message = str(context["error"])
        return f"{at}: {message}" if at and not message.startswith(at) else message
    if code == "missing":
        return f"{at} is missing."
    if code == "literal_error" and path[-1] == "version":
        version = reprlib.repr(error["input"])
        return f"it has version {version}, and this version of ganvas reads {context['expected']}."
    if code == "literal_error":
        return str(unknown(at, error["input"], [each.strip("'") for each in re.split(", | or ", context["expected"])]))
    if code in ("too_short", "too_long"):
        limit = f"at least {context['min_length']}" if code == "too_short" else f"at most {context['max_length']}"
        return f"{at} must have {limit} values, not {context['actual_length']}."
    if bound:
        number = "whole number" if isinstance(context[bound], int) else "number"
        expected = f"a {number} {_BOUNDS[bound]} {context[bound]:g}"
    else:
        expected = _TYPES.get(code, "something else")
    return f"{at or 'this'} must be {expected}, not {reprlib.repr(error['input'])}."
