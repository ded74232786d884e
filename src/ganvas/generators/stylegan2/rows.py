"""The rows of a StyleGAN2's W+ codes, which others publish codes and directions for."""

from __future__ import annotations

FEWEST, MOST = 4, 24
"""Rows of a StyleGAN2, of 8 pixels and of more than there are."""


def is_stylegan2(rows: int) -> bool:
    """Whether a StyleGAN2 can have so many rows: two for each resolution from 8 on, two more."""
    return rows % 2 == 0 and FEWEST <= rows <= MOST


def stylegan2_rows(rows: int) -> tuple[int, ...]:
    """The resolution that each of so many rows of a StyleGAN2 acts at; the last one only colours the picture."""
    return (4, *(8 << (i // 2) for i in range(rows - 2)), 4 << ((rows - 2) // 2))
