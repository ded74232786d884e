"""Any classifier in ONNX, with a small card beside it that names its outputs and describes its input.

The card is CLASSIFIER.toml or .json: ``names`` (one for each output; "" or "-" leaves one out) and ``size`` (pixels) are needed;
``mean`` and ``std`` (one number for each colour, of pixels from 0 to ``range``, 1 by default), ``order`` ("rgb" or "bgr"),
``layout`` ("nchw" or "nhwc"), ``gives`` ("logits", "sigmoid", "softmax" or "values") and ``output`` (its name) may follow.
It runs in onnxruntime, on the CPU, without gradients, after the checks of ``_onnx_guard``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import read_card as read_card_file
from ganvas.io.images import downscale
from ganvas.scorers import _onnx_guard
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores
from ganvas.validation import Real, parse, validated

MAX_FILE_BYTES = 1 << 30
CARD_SUFFIXES = (".toml", ".json")


@validated
class ClassifierCard:
    """The content of a classifier's card."""

    names: tuple[str, ...]
    size: Annotated[int, Field(strict=True, ge=8, le=2048)]
    """The side of its pictures in pixels."""
    mean: tuple[Real, Real, Real] = (0.0, 0.0, 0.0)
    std: tuple[Real, Real, Real] = (1.0, 1.0, 1.0)
    range: Real = 1.0
    order: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    gives: Literal["logits", "sigmoid", "softmax", "values"] = "logits"
    output: str = ""

    def __post_init__(self) -> None:
        names = [name for name in self.names if name not in ("", "-")]
        if not names or len(set(names)) != len(names):
            raise GanvasError("A classifier's card needs at least one name, and no name twice.")
        if min(self.std) <= 0 or self.range <= 0:
            raise GanvasError("A classifier's card needs a positive std and a positive range.")


def read_card(path: Path) -> ClassifierCard:
    """Read the card in a TOML or JSON file. Raises GanvasError for anything else."""
    return parse(ClassifierCard, read_card_file(path), path)


def read(path: str | Path) -> OnnxClassifier:
    """Read the classifier in an ONNX file with a card beside it. Raises GanvasError without either, or without onnxruntime."""
    path = Path(path)
    card = next((place for suffix in CARD_SUFFIXES if (place := path.with_suffix(suffix)).is_file()), None)
    if not path.is_file():
        raise GanvasError(f"There is no file {path}.")
    if card is None:
        raise GanvasError(f"{path} has no card: write {path.stem}.toml with its names and size.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise GanvasError(f"{path} is too large: a classifier may have {MAX_FILE_BYTES >> 20} MiB at most.")
    return OnnxClassifier(path.read_bytes(), read_card(card), path)


@final
class OnnxClassifier(Scorer):
    """A classifier whose columns are the card's names. Probabilities become logits; "values" stay as they are."""

    def __init__(self, model: bytes, card: ClassifierCard, path: Path) -> None:
        super().__init__()
        self.card, self.name = card, path.stem
        self.session, self.errors = _create_session(model, path)
        self.columns = [k for k, name in enumerate(card.names) if name not in ("", "-")]
        self.attributes = tuple(card.names[k] for k in self.columns)
        self.kinds = ("value" if card.gives == "values" else "probability",) * len(self.columns)
        self.fingerprint = hashlib.sha256(model + repr(card).encode()).hexdigest()
        outputs = [output.name for output in self.session.get_outputs()]
        if card.output and card.output not in outputs:
            raise unknown("output", card.output, outputs)
        self.output = card.output or outputs[0]
        shape = self._run(torch.zeros(1, 3, card.size, card.size)).shape
        if shape != (1, len(card.names)):
            raise GanvasError(
                f"{path} gives {tuple(shape[1:])} numbers for each picture, but its card has {len(card.names)} names."
            )

    def forward(self, images: Images) -> Scores:
        """Score pictures, (n, attributes), one at a time: many models take no other batch."""
        x = downscale(images.detach().float().cpu(), self.card.size).clamp(-1, 1)
        scores = torch.cat([self._run(one[None]) for one in x]).to(images.device)
        if self.card.gives in ("softmax", "sigmoid"):  # of a softmax, the logit of one class against all others
            scores = scores.clamp(1e-6, 1 - 1e-6).logit()
        return scores[:, self.columns]

    def _run(self, x: Tensor) -> Tensor:
        card = self.card
        x = (x + 1) / 2 * card.range
        x = (x - torch.tensor(card.mean)[:, None, None]) / torch.tensor(card.std)[:, None, None]
        x = x.flip(1) if card.order == "bgr" else x
        x = x.permute(0, 2, 3, 1) if card.layout == "nhwc" else x
        try:
            output = self.session.run([self.output], {self.session.get_inputs()[0].name: x.contiguous().numpy()})[0]
        except self.errors as error:
            raise GanvasError(
                f"{self.name} fails on pictures of its card's size: {str(error).splitlines()[0]}."
            ) from None
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub" or output.ndim < 2:
            raise GanvasError(f"The output {self.output!r} of {self.name} isn't a row of numbers for each picture.")
        return torch.from_numpy(output).float().reshape(len(output), -1)


def _create_session(model: bytes, path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """Create the session that runs a model, and list what it may raise: onnxruntime's errors share no base class."""
    _onnx_guard.check(model, path)
    try:
        import onnxruntime
        import onnxruntime.capi.onnxruntime_pybind11_state as state
    except ImportError:
        raise GanvasError("A classifier in ONNX needs a package: pip install onnxruntime.") from None
    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    errors = (*own, RuntimeError, ValueError, IndexError)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        # From bytes, so that the file can't refer to other files.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), errors
    except errors as error:
        raise GanvasError(f"{path} can't be run: {str(error).splitlines()[0]}.") from None
