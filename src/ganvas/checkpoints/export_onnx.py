"""Write generators as ONNX, which other programs run without PyTorch: https://onnx.ai.

``mapping.onnx`` takes z (n, z_dim), the truncation psi, and the labels of a conditional generator (n, num_labels), and gives ws
(n, num_ws, w_dim); ``synthesis.onnx`` takes ws and gives images (n, 3, height, width), -1 to 1. Noise is constant.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, assign_labels, draw_z
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.io.files import atomic_write
from ganvas.types import Images, Labels, W, WPlus, Z

MAX_ERROR = 1e-3
"""The largest difference of a number that onnxruntime computes, in standard deviations of ganvas's."""
PSI = 0.7
"""The truncation that is compared."""
INSTALL_HINT = "ONNX files need three packages: pip install 'ganvas[onnx]'."


class _Mapping(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Z, psi: Tensor, labels: Labels | None = None) -> WPlus:
        w: W = self.generator.mapping(z, labels)
        # At psi 0 a generator gives its centre of truncation; psi 1 leaves codes as they are.
        return self.generator.expand(torch.lerp(self.generator.truncate(w, 0.0), w, psi))


class _Synthesis(nn.Module):
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, ws: WPlus) -> Images:
        return self.generator.synthesis(ws)


def export_generator(generator: Generator, folder: str | Path) -> list[str]:
    """Write ``mapping.onnx`` and ``synthesis.onnx`` to a folder, and describe them in lines of text.

    Raises GanvasError without the packages for it, where PyTorch can't export it, and where onnxruntime computes other numbers.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise GanvasError(INSTALL_HINT) from None
    folder, count = Path(folder), 1 if isinstance(generator, MobileStyleGAN) else 2
    inputs = {"z": draw_z(generator, range(count)), "psi": torch.tensor(PSI)}
    if (labels := assign_labels(generator, range(count))) is not None:
        inputs["labels"] = labels
    with torch.no_grad():
        ws = _Mapping(generator)(**inputs).contiguous()
        images = generator.synthesis(ws)
    about = {"generator": generator.name, "fingerprint": generator.fingerprint}
    lines, contents = [], {}
    parts: dict[str, tuple[nn.Module, dict[str, Tensor], str, Tensor]] = {
        "mapping": (_Mapping(generator), inputs, "ws", ws),
        "synthesis": (_Synthesis(generator), {"ws": ws}, "images", images),
    }
    for name, (module, given, output, expected) in parts.items():
        contents[name] = _export(module, given, output, about)
        sizes, error = _compare(contents[name], given, expected)
        given_sizes = ", ".join(f"{key} {sizes[key]}" for key in given)
        lines.append(
            f"{folder / name}.onnx: {given_sizes} -> {output} {sizes[output]}; onnxruntime differs by {error:.1e} σ"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with atomic_write(folder / f"{name}.onnx") as temporary:
            temporary.write_bytes(content)
    return lines


@torch.enable_grad()
def _export(module: nn.Module, inputs: Mapping[str, Tensor], output: str, about: Mapping[str, str]) -> bytes:
    """Export a network whose inputs have n rows each, except for single numbers; one row is exported as one alone."""
    axes = {name: {0: "n"} if value.ndim and len(value) > 1 else None for name, value in inputs.items()}
    # Layers take the ways that gradients need, without buffers that are written in place; tables that are cached are made now.
    values = [value.clone().requires_grad_(value.ndim == 3) for value in inputs.values()]
    module.eval()(*values)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                tuple(values),
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes=axes,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise GanvasError(f"PyTorch can't export this generator: {str(error).splitlines()[0]}") from None
    finally:
        logger.setLevel(level)
    for node in program.model.graph.all_nodes():  # they name the files of this machine
        node.metadata_props.clear()
    program.model.metadata_props["ganvas"] = json.dumps(about)
    return program.model_proto.SerializeToString()


def _compare(content: bytes, inputs: Mapping[str, Tensor], expected: Tensor) -> tuple[dict[str, str], float]:
    """Return the sizes of inputs and outputs, and how far onnxruntime's output is from the expected one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (computed,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    error = float((torch.from_numpy(computed) - expected).abs().max() / expected.std())
    if not error <= MAX_ERROR:
        raise GanvasError(f"onnxruntime computes other numbers than ganvas, by {error:.1e} σ: nothing is written.")
    values = (*session.get_inputs(), *session.get_outputs())
    return {value.name: f"({', '.join(map(str, value.shape))})" for value in values}, error
