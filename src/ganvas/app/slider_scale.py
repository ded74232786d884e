"""The scale of a slider: σ, or the attribute's own unit where the editor has one. Scenes and recipes hold σ of the editor."""

from __future__ import annotations

from dataclasses import dataclass

from ganvas.app.attribute_words import UNIT_NAMES, format_attribute, get_sign
from ganvas.control.conditions import convert_to_normal_score
from ganvas.control.target_values import convert_to_unit, find_unit_range
from ganvas.editors.base import Editor

SLIDER_LIMIT_SIGMA = 4.0
"""σ at the ends of a slider."""
SLIDER_STEP_SIGMA = 0.05


@dataclass(frozen=True)
class SliderScale:
    """The scale of the slider for the attribute ``name``; ``editor`` is None where none is picked."""

    editor: Editor | None
    name: str

    @property
    def unit(self) -> str:
        """The symbol of the unit; "" for σ."""
        return "" if self.editor is None else self.editor.units.get(self.name, "")

    @property
    def unit_name(self) -> str:
        """The unit in words; "" for σ."""
        return UNIT_NAMES.get(self.unit, self.unit)

    @property
    def label(self) -> str:
        """The slider's label."""
        return format_attribute(self.name) + (f" ({self.unit_name})" if self.unit else "")

    @property
    def ticks(self) -> tuple[float, float, float]:
        """The slider's lowest and highest value, and its step."""
        if self.editor is None or not self.unit:
            return -SLIDER_LIMIT_SIGMA, SLIDER_LIMIT_SIGMA, SLIDER_STEP_SIGMA
        return find_unit_range(self.editor, self.name)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value that is accepted."""
        return self.ticks[:2]

    def convert_to_slider(self, sigma: float) -> float:
        """Convert σ to the slider's position, at one of its ticks."""
        low, high, step = self.ticks
        value = (
            convert_to_unit(self.editor, self.name, sigma) if self.editor and self.unit else sigma * get_sign(self.name)
        )
        # Without the sign of -0.0.
        return round(max(low, min(high, round(value / step) * step)), 9 if self.unit else 2) + 0.0

    def convert_to_sigma(self, value: float) -> float:
        """Convert the slider's position to σ."""
        if self.editor is None or not self.unit:
            return value * get_sign(self.name)
        return convert_to_normal_score(self.editor, self.editor.attributes.index(self.name), value)

    def format_value(self, sigma: float, digits: str = "+.2f") -> str:
        """Format σ as the slider shows it: ``+0.50`` or ``60 years``."""
        if self.unit:
            return f"{self.convert_to_slider(sigma):g} {self.unit_name}"
        return f"{sigma * get_sign(self.name) + 0.0:{digits}}"
