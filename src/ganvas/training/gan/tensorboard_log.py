"""The TensorBoard log of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ganvas.errors import GanvasError


class TensorBoardLog:
    """Losses, rates, distances and sheets of samples by pictures seen; nothing unless ``enabled``."""

    def __init__(self, folder: Path, enabled: bool) -> None:
        """Open the log. Raises GanvasError where it is ``enabled`` and TensorBoard isn't installed."""
        self._writer: Any = None
        if not enabled:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise GanvasError("--tensorboard needs a package: pip install tensorboard.") from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add_scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Add one point to each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, images_seen)
            self._writer.flush()

    def add_image(self, pixels: Tensor, images_seen: int) -> None:
        """Add a sheet of samples (height, width, 3) uint8."""
        if self._writer is not None:
            self._writer.add_image("samples", pixels, images_seen, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered, and close the log."""
        if self._writer is not None:
            self._writer.close()
