"""What a training shows in TensorBoard, where that is installed and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.errors import GanvasError


class TensorBoardLog:
    """Losses, rates, distances and sheets of samples by pictures seen; nothing where it isn't ``balance.score_ranges``."""

    def __init__(self, folder: Path, wanted: bool) -> None:
        """Raises GanvasError where TensorBoard is wanted and not installed."""
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise GanvasError("--tensorboard needs a package: pip install tensorboard.") from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def numbers(self, values: Mapping[str, float], seen: int) -> None:
        """One point on each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, seen)
            self._writer.flush()

    def picture(self, pixels: Tensor, seen: int) -> None:
        """A sheet (height, width, 3) uint8."""
        if self._writer is not None:
            self._writer.add_image("samples", pixels, seen, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
