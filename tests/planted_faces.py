"""Landmarks of faces at chosen places, as dlib would find them."""

from __future__ import annotations

import torch


def plant_landmarks(place: tuple[float, float], width: float = 80.0) -> torch.Tensor:
    """Return landmarks of a face at a place: what its square depends on, and its jaw."""
    points = torch.zeros(68, 2)
    points[:17, 0] = torch.linspace(-0.5, 0.5, 17)
    points[:17, 1] = 0.5 - 4 * points[:17, 0].square()
    points[17:27, 0], points[17:27, 1] = torch.linspace(-0.4, 0.4, 10), -0.4
    points[36:42, 0], points[42:48, 0], points[36:48, 1] = -0.2, 0.2, -0.2
    points[48:68, 1] = 0.25
    points[48, 0], points[54, 0] = -0.15, 0.15
    return points * width + torch.tensor(place)
