"""Bring codes to chosen attribute values: strength search, conditions, conditional sampling."""
