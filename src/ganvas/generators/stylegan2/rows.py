"""The rows of a StyleGAN2's W+ codes, for published codes and directions."""

from __future__ import annotations

MIN_ROWS, MAX_ROWS = 4, 24
"""Rows of a StyleGAN2 of 8 pixels, and more than any has."""


def is_stylegan2(rows: int) -> bool:
    """Return whether a StyleGAN2 can have this number of rows: two for each resolution from 8 on, and two more."""
    return rows % 2 == 0 and MIN_ROWS <= rows <= MAX_ROWS


def list_row_resolutions(rows: int) -> tuple[int, ...]:
    """List the resolution that each row of a StyleGAN2 with ``rows`` rows acts at; the last one only colours the picture."""
    return (4, *(8 << (i // 2) for i in range(rows - 2)), 4 << ((rows - 2) // 2))
