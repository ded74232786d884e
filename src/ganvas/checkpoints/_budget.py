"""Limits on the work that a checkpoint file may cause, and the errors for files that exceed them or are damaged."""

from __future__ import annotations

from dataclasses import dataclass

from ganvas.errors import GanvasError

MAX_STEPS = 2_000_000
"""The most opcodes in one file, including pickles inside it (StyleGAN2-FFHQ takes 20,000)."""
STEP_LIMIT_REASON = "has more steps or values than a checkpoint has"


@dataclass
class ReadBudget:
    """Steps left, shared by a pickle and those inside it; ``origin`` names the file in messages."""

    origin: str
    steps: int = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Subtract ``steps`` from those left. Raises GanvasError where too few are left."""
        self.steps -= steps
        if self.steps < 0:
            raise self.refusal(STEP_LIMIT_REASON)

    def damage(self, reason: str) -> GanvasError:
        """Return the error for a file that can't be read."""
        return GanvasError(f"{self.origin} isn't a whole checkpoint: {reason}.")

    def refusal(self, reason: str) -> GanvasError:
        """Return the error for a file that does what no checkpoint needs."""
        return GanvasError(f"{self.origin} isn't read: it {reason}. Nothing in it was run.")


def format_printable(value: object) -> str:
    """Format a text or number of a file for a message: short, and without control characters."""
    if not isinstance(value, str | int | float | Exception | None):
        return f"a {type(value).__name__}"  # nested lists could be very long
    line = ascii(str(value))[1:-1]
    return line if len(line) <= 80 else line[:77] + "..."
