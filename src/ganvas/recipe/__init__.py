"""Recipes: everything about a picture as a value, its JSON and PNG forms, and the picture drawn from it."""
