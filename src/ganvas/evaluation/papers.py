"""Numbers of papers, beside which reports put ours; each stands here alone."""

from __future__ import annotations

from collections.abc import Mapping

SUCCESS: Mapping[str, tuple[float, float]] = {
    "Eyeglasses": (0.999, 0.990),
    "Male": (0.970, 0.978),
    "Smiling": (0.999, 0.999),
    "Young": (0.950, 0.968),
}
"""Success in Lesné et al., section 4.3: their method's and InterfaceGAN's (their scorer, generator, and no stated bound)."""
IDENTITY: Mapping[str, tuple[float, float]] = {
    "Eyeglasses": (0.947, 0.939),
    "Male": (0.930, 0.944),
    "Smiling": (0.967, 0.973),
    "Young": (0.895, 0.906),
}
"""Cosines of faces before and after, in the same order, from the same paper."""
ATTRIBUTES = tuple(SUCCESS)
"""Lesné et al.'s four attributes: glasses, gender, smile and age."""
COUNT_CLASSIFIERS = {
    ("w+", "mse"): (1.0, 1.0),
    ("w+", "ce"): (1.0, 1.0),
    ("w", "mse"): (0.89, 0.69),
    ("w", "ce"): (0.91, 0.83),
}
"""Train and test accuracy by space and loss in Doubinsky et al., table 1b, where W+ has 12 rows of 512."""
AGREEMENT = {"Smiling": 0.59, "Young": 0.47}
"""|cos| of directions that were published independently of each other."""
