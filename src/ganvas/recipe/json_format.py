"""Recipes as JSON, read strictly: every key is there and no other, numbers are finite, the version is known."""

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
    """The recipe as a JSON object; ``from_json`` undoes it. Equal recipes give equal text: 1 is written as 1.0."""
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
            {"set": _floats(step.set), "shift": _floats(step.shift), "amount": float(step.amount)}
            for step in recipe.edits
        ],
        # Written only where there is one: recipes of older versions stay as they are.
        **({} if recipe.photo is None else {"photo": recipe.photo}),
    }


def _start_to_json(start: Start) -> dict[str, Any]:
    value = {"from": _KINDS[type(start)], **asdict(start)}
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


def _floats(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


_KINDS: dict[type, str] = {FromSeed: "seed", FromConditions: "conditions", FromCodes: "codes"}


# From JSON. ``at`` says which value an error is about.


def from_json(value: Any, origin: object) -> Recipe | Sheet:
    """The recipe in a JSON object that came from ``origin``. Raises GanvasError for whatever isn't as it must be."""
    try:
        if not isinstance(value, dict):
            raise GanvasError("a recipe is a JSON object.")
        for key in ("version", "kind"):
            if key not in value:
                raise GanvasError(f"key {key!r} is missing.")
        if type(value["version"]) is not int or value["version"] != VERSION:
            raise GanvasError(f"unknown version {reprlib.repr(value['version'])}: this ganvas reads version {VERSION}.")
        kind = value["kind"]
        rest = {key: item for key, item in value.items() if key not in ("version", "kind")}
        return _recipe(rest, "") if kind == "picture" else _sheet(_text(kind, "kind"), rest)
    except GanvasError as error:
        raise GanvasError(f"Recipe {origin}: {error}") from None


def _sheet(kind: str, value: dict[str, Any]) -> Sheet:
    _keys(value, "", ("pictures", "rows", "columns", "size", "rate"))
    return Sheet(
        kind,
        _list(value["pictures"], "pictures", _recipe),
        _list(value["rows"], "rows", _text),
        _list(value["columns"], "columns", _text),
        _whole(value["size"], "size"),
        _number(value["rate"], "rate"),
    )


def _recipe(value: Any, at: str) -> Recipe:
    keys = ("generator", "start", "dtype", "mix", "editor", "edits")
    photo = value.get("photo") if isinstance(value, dict) else None
    value = _keys(value, at, keys if photo is None else (*keys, "photo"))
    at = f"{at}." if at else ""
    return Recipe(
        _named(value["generator"], f"{at}generator"),
        _start(value["start"], f"{at}start"),
        _text(value["dtype"], f"{at}dtype"),
        None if value["mix"] is None else _mix(value["mix"], f"{at}mix"),
        None if value["editor"] is None else _named(value["editor"], f"{at}editor"),
        _list(value["edits"], f"{at}edits", _step),
        None if photo is None else _text(photo, f"{at}photo"),
    )


def _named(value: Any, at: str) -> NamedTool:
    value = _keys(value, at, ("name", "fingerprint"))
    return NamedTool(_text(value["name"], f"{at}.name"), _text(value["fingerprint"], f"{at}.fingerprint"))


def _start(value: Any, at: str) -> Start:
    kind = value.get("from") if isinstance(value, dict) else None
    if kind == "seed":
        _keys(value, at, ("from", "seed", "psi", "labels"))
        return FromSeed(*_drawn(value, at))
    if kind == "conditions":
        _keys(value, at, ("from", "where", "seed", "psi", *(("labels",) if "labels" in value else ())))
        return FromConditions(_mapping(value["where"], f"{at}.where", _range), *_drawn(value, at))
    if kind == "codes":
        _keys(value, at, ("from", "codes", "row"))
        return FromCodes(_text(value["codes"], f"{at}.codes"), _whole(value["row"], f"{at}.row"))
    raise GanvasError(f"{at} must be an object whose 'from' is one of {', '.join(_KINDS.values())}.")


def _drawn(value: dict[str, Any], at: str) -> tuple[int, float, tuple[float, ...] | None]:
    """Seed, psi and labels."""
    found = value.get("labels")
    labels = None if found is None else _list(found, f"{at}.labels", _number)
    return _whole(value["seed"], f"{at}.seed"), _number(value["psi"], f"{at}.psi"), labels


def _mix(value: Any, at: str) -> Mix:
    value = _keys(value, at, ("start", "rows", "amount"))
    rows = _list(value["rows"], f"{at}.rows", _whole)
    return Mix(_start(value["start"], f"{at}.start"), rows, _number(value["amount"], f"{at}.amount"))


def _step(value: Any, at: str) -> EditStep:
    value = _keys(value, at, ("set", "shift", "amount"))
    changes = [_mapping(value[key], f"{at}.{key}", _number) for key in ("set", "shift")]
    return EditStep(changes[0], changes[1], _number(value["amount"], f"{at}.amount"))


def _range(value: Any, at: str) -> Range:
    sides = _list(value, at, lambda side, place: None if side is None else _number(side, place))
    if len(sides) != 2:
        raise GanvasError(f"{at} must be a lowest and a highest value (null where open), not {len(sides)} values.")
    return sides[0], sides[1]


def _keys(value: Any, at: str, keys: tuple[str, ...]) -> dict[str, Any]:
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


def _list(value: Any, at: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise GanvasError(f"{at} must be a list, not {reprlib.repr(value)}.")
    return tuple(read(item, f"{at}[{i}]") for i, item in enumerate(value))


def _mapping(value: Any, at: str, read: Callable[[Any, str], T]) -> dict[str, T]:
    if not isinstance(value, dict):
        raise GanvasError(f"{at} must be an object, not {reprlib.repr(value)}.")
    return {key: read(item, f"{at}.{key}") for key, item in value.items()}


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise GanvasError(f"{at} must be a text, not {reprlib.repr(value)}.")
    return value


def _whole(value: Any, at: str) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise GanvasError(f"{at} must be a whole number, not {reprlib.repr(value)}.")
    return value


def _number(value: Any, at: str) -> float:
    # A whole number too large for a float counts as infinite.
    if type(value) not in (int, float) or not abs(value) < 1e300:
        raise GanvasError(f"{at} must be a finite number, not {reprlib.repr(value)}.")
    return float(value)
