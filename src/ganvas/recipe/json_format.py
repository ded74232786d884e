"""Recipes as JSON, read strictly: no key missing or unknown, numbers finite, a supported version."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from ganvas.errors import GanvasError
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Mix, NamedTool, Range, Recipe, Start
from ganvas.recipe.sheet import Sheet

VERSION = 1
T = TypeVar("T")


def to_json(recipe: Recipe | Sheet) -> dict[str, Any]:
    """Return the recipe as a JSON object, the inverse of ``from_json``. Equal recipes give equal text: 1 is written as 1.0."""
    if isinstance(recipe, Sheet):
        pictures = [_recipe_to_json(picture) for picture in recipe.pictures]
        texts = {"rows": list(recipe.rows), "columns": list(recipe.columns)}
        numbers = {"size": recipe.size, "rate": float(recipe.rate)}
        return {"version": VERSION, "kind": recipe.kind, "pictures": pictures, **texts, **numbers}
    return {"version": VERSION, "kind": "picture", **_recipe_to_json(recipe)}


def _recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    mix = recipe.mix
    return {
        "generator": asdict(recipe.generator),
        "start": _start_to_json(recipe.start),
        "dtype": recipe.dtype,
        "mix": mix and {"start": _start_to_json(mix.start), "rows": list(mix.rows), "amount": float(mix.amount)},
        "editor": recipe.editor and asdict(recipe.editor),
        "edits": [
            {"set": _to_floats(step.set), "shift": _to_floats(step.shift), "amount": float(step.amount)}
            for step in recipe.edits
        ],
        # Written only if set, so that the JSON of older recipes stays the same.
        **({} if recipe.photo is None else {"photo": recipe.photo}),
    }


def _start_to_json(start: Start) -> dict[str, Any]:
    value = {"from": _START_KINDS[type(start)], **asdict(start)}
    if not isinstance(start, FromCodes):
        value["psi"] = float(start.psi)
        if start.labels is not None:
            value["labels"] = [float(label) for label in start.labels]
    if isinstance(start, FromConditions):
        if start.labels is None:  # older recipes have no such key
            del value["labels"]
        value["where"] = {
            name: [None if side is None else float(side) for side in sides] for name, sides in start.where.items()
        }
    return value


def _to_floats(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


_START_KINDS: dict[type, str] = {FromSeed: "seed", FromConditions: "conditions", FromCodes: "codes"}


# From JSON. ``at`` is the path of the value, for errors.


def from_json(value: Any, origin: object) -> Recipe | Sheet:
    """Parse the recipe in a JSON object that came from ``origin``. Raises GanvasError for anything invalid, with its path."""
    try:
        if not isinstance(value, dict):
            raise GanvasError("a recipe is a JSON object.")
        for key in ("version", "kind"):
            if key not in value:
                raise GanvasError(f"key {key!r} is missing.")
        if type(value["version"]) is not int or value["version"] != VERSION:
            raise GanvasError(
                f"unknown version {reprlib.repr(value['version'])}: this version of ganvas reads {VERSION}."
            )
        kind = value["kind"]
        rest = {key: item for key, item in value.items() if key not in ("version", "kind")}
        return _parse_recipe(rest, "") if kind == "picture" else _parse_sheet(_parse_text(kind, "kind"), rest)
    except GanvasError as error:
        raise GanvasError(f"Recipe {origin}: {error}") from None


def _parse_sheet(kind: str, value: dict[str, Any]) -> Sheet:
    _check_keys(value, "", ("pictures", "rows", "columns", "size", "rate"))
    return Sheet(
        kind,
        _parse_list(value["pictures"], "pictures", _parse_recipe),
        _parse_list(value["rows"], "rows", _parse_text),
        _parse_list(value["columns"], "columns", _parse_text),
        _parse_integer(value["size"], "size"),
        _parse_number(value["rate"], "rate"),
    )


def _parse_recipe(value: Any, at: str) -> Recipe:
    keys = ("generator", "start", "dtype", "mix", "editor", "edits")
    photo = value.get("photo") if isinstance(value, dict) else None
    value = _check_keys(value, at, keys if photo is None else (*keys, "photo"))
    at = f"{at}." if at else ""
    return Recipe(
        _parse_tool(value["generator"], f"{at}generator"),
        _parse_start(value["start"], f"{at}start"),
        _parse_text(value["dtype"], f"{at}dtype"),
        None if value["mix"] is None else _parse_mix(value["mix"], f"{at}mix"),
        None if value["editor"] is None else _parse_tool(value["editor"], f"{at}editor"),
        _parse_list(value["edits"], f"{at}edits", _parse_step),
        None if photo is None else _parse_text(photo, f"{at}photo"),
    )


def _parse_tool(value: Any, at: str) -> NamedTool:
    value = _check_keys(value, at, ("name", "fingerprint"))
    return NamedTool(_parse_text(value["name"], f"{at}.name"), _parse_text(value["fingerprint"], f"{at}.fingerprint"))


def _parse_start(value: Any, at: str) -> Start:
    kind = value.get("from") if isinstance(value, dict) else None
    if kind == "seed":
        _check_keys(value, at, ("from", "seed", "psi", "labels"))
        return FromSeed(*_parse_draw(value, at))
    if kind == "conditions":
        _check_keys(value, at, ("from", "where", "seed", "psi", *(("labels",) if "labels" in value else ())))
        return FromConditions(_parse_mapping(value["where"], f"{at}.where", _parse_range), *_parse_draw(value, at))
    if kind == "codes":
        _check_keys(value, at, ("from", "codes", "row"))
        return FromCodes(_parse_text(value["codes"], f"{at}.codes"), _parse_integer(value["row"], f"{at}.row"))
    raise GanvasError(f"{at} must be an object whose 'from' is one of {', '.join(_START_KINDS.values())}.")


def _parse_draw(value: dict[str, Any], at: str) -> tuple[int, float, tuple[float, ...] | None]:
    """Parse seed, psi and labels."""
    given = value.get("labels")
    labels = None if given is None else _parse_list(given, f"{at}.labels", _parse_number)
    return _parse_integer(value["seed"], f"{at}.seed"), _parse_number(value["psi"], f"{at}.psi"), labels


def _parse_mix(value: Any, at: str) -> Mix:
    value = _check_keys(value, at, ("start", "rows", "amount"))
    rows = _parse_list(value["rows"], f"{at}.rows", _parse_integer)
    return Mix(_parse_start(value["start"], f"{at}.start"), rows, _parse_number(value["amount"], f"{at}.amount"))


def _parse_step(value: Any, at: str) -> EditStep:
    value = _check_keys(value, at, ("set", "shift", "amount"))
    changes = [_parse_mapping(value[key], f"{at}.{key}", _parse_number) for key in ("set", "shift")]
    return EditStep(changes[0], changes[1], _parse_number(value["amount"], f"{at}.amount"))


def _parse_range(value: Any, at: str) -> Range:
    sides = _parse_list(value, at, lambda side, place: None if side is None else _parse_number(side, place))
    if len(sides) != 2:
        raise GanvasError(f"{at} must be a lowest and a highest value (null where open), not {len(sides)} values.")
    return sides[0], sides[1]


def _check_keys(value: Any, at: str, keys: tuple[str, ...]) -> dict[str, Any]:
    where = f" in {at}" if at else ""
    if not isinstance(value, dict):
        raise GanvasError(f"{at} must be an object with the keys {', '.join(keys)}.")
    for key in keys:
        if key not in value:
            raise GanvasError(f"key {key!r} is missing{where}.")
    for key in value:
        if key not in keys:
            raise GanvasError(f"unknown key {key!r}{where}: there are {', '.join(keys)}.")
    return value


def _parse_list(value: Any, at: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise GanvasError(f"{at} must be a list, not {reprlib.repr(value)}.")
    return tuple(read(item, f"{at}[{i}]") for i, item in enumerate(value))


def _parse_mapping(value: Any, at: str, read: Callable[[Any, str], T]) -> dict[str, T]:
    if not isinstance(value, dict):
        raise GanvasError(f"{at} must be an object, not {reprlib.repr(value)}.")
    return {key: read(item, f"{at}.{key}") for key, item in value.items()}


def _parse_text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise GanvasError(f"{at} must be a text, not {reprlib.repr(value)}.")
    return value


def _parse_integer(value: Any, at: str) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise GanvasError(f"{at} must be a whole number, not {reprlib.repr(value)}.")
    return value


def _parse_number(value: Any, at: str) -> float:
    # A whole number too large for a float counts as infinite.
    if type(value) not in (int, float) or not abs(value) < 1e300:
        raise GanvasError(f"{at} must be a finite number, not {reprlib.repr(value)}.")
    return float(value)
