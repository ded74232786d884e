"""Photographs, from file to file."""
