"""How much a foreign file may ask for, and what is said of one that asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from ganvas.errors import GanvasError

MAX_STEPS = 2_000_000
"""Opcodes in one file, those of the pickles inside it included (StyleGAN2-FFHQ takes 20,000)."""
TOO_MANY = "has more steps or values than a checkpoint has"


@dataclass
class ReadBudget:
    """Steps left, shared by a pickle and those inside it; ``origin`` is what messages call the file."""

    origin: str
    steps: int = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Count what takes as long as so many steps. Raises GanvasError where none are left."""
        self.steps -= steps
        if self.steps < 0:
            raise self.refused(TOO_MANY)

    def damaged(self, why: str) -> GanvasError:
        """The error of a file that can't be read."""
        return GanvasError(f"{self.origin} isn't a whole checkpoint: {why}.")

    def refused(self, what: str) -> GanvasError:
        """The error of a file that asks for more than checkpoints need."""
        return GanvasError(f"{self.origin} isn't read: it {what}. Nothing of it was run.")


def printable(value: object) -> str:
    """A foreign text or number in a message: short, and without control characters."""
    if not isinstance(value, str | int | float | Exception | None):
        return f"a {type(value).__name__}"  # a nest of lists could be as long as it likes
    line = ascii(str(value))[1:-1]
    return line if len(line) <= 80 else line[:77] + "..."
