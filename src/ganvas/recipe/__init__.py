"""Recipes: everything about a picture as a value, its JSON and PNG forms, and the picture drawn from it."""

from ganvas.recipe.files import load_recipe, load_recipe_tools, save_picture
from ganvas.recipe.model import (
    EditStep,
    FromCodes,
    FromConditions,
    FromSeed,
    InputTransform,
    Mix,
    NamedTool,
    Recipe,
    Sheet,
    from_json,
    to_json,
)
from ganvas.recipe.rendering import Photo, Tools, load_tools, render

__all__ = [
    "EditStep",
    "FromCodes",
    "FromConditions",
    "FromSeed",
    "InputTransform",
    "Mix",
    "NamedTool",
    "Photo",
    "Recipe",
    "Sheet",
    "Tools",
    "from_json",
    "load_recipe",
    "load_recipe_tools",
    "load_tools",
    "render",
    "save_picture",
    "to_json",
]
