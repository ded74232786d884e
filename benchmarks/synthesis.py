"""Seconds per 1024×1024 picture of ``ffhq``, beside OpenVINO's runtime on the same codes, in one run.

Contenders take turns, picture by picture, so that a busy machine slows all of them; medians are printed. Needs the
package openvino, and the network (or --wheel) for the original files.

    python benchmarks/synthesis.py                      # float32, bfloat16, OpenVINO
    python benchmarks/synthesis.py --variants           # and what didn't pay: NCHW, scaled activations, whole layers
    python benchmarks/synthesis.py --compile            # and torch.compile (needs a C++ compiler, takes minutes)
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.generators import describe_torch, find_card, mobilestylegan
from ganvas.generators.base import sample
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.io import hub

Draw = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15, help="pictures timed for each contender")
    parser.add_argument("--faces", type=int, default=8, help="pictures compared")
    parser.add_argument("--wheel", help="random-face's wheel, where it's on disk")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)

    exact, half = (load("ffhq", dtype) for dtype in (torch.float32, torch.bfloat16))
    draws: dict[str, Draw] = {"OpenVINO f32": openvino(options.threads, options.wheel)}
    draws |= {"ganvas float32": exact.synthesis, "ganvas bfloat16": half.synthesis}
    for network in (exact, half):
        dtype = str(network.dtype).removeprefix("torch.")
        if options.variants:
            draws |= {f"{dtype}, {name}": draw for name, draw in variants(network).items()}
        if options.compile:
            draws[f"{dtype}, torch.compile"] = compiled(network)

    codes = sample(exact, max(options.faces, options.repeats), psi=1)
    seconds = times(draws, codes, options.repeats)
    report(draws, seconds, codes[: options.faces])


def load(name: str, dtype: torch.dtype) -> MobileStyleGAN:
    """A generator of this family."""
    network = load_generator(name, dtype=dtype)
    if not isinstance(network, MobileStyleGAN):
        raise SystemExit(f"{name} is no MobileStyleGAN.")
    return network


def openvino(threads: int, wheel: str | None) -> Draw:
    """OpenVINO's runtime on the original files, in float32."""
    import openvino as ov

    _, _, xml, data = hub.unpack_wheel(find_card("ffhq"), wheel)
    core = ov.Core()
    # Not bound to cores: on a busy machine a bound thread waits for its own core while another is free.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    model = core.compile_model(core.read_model(xml, data), "CPU", options)
    return lambda ws: torch.from_numpy(model([np.ascontiguousarray(ws[:, 0].numpy())])[0].copy())


def variants(network: MobileStyleGAN) -> dict[str, Draw]:
    """The same pictures in ways that were tried and left."""

    def whole(ws: Tensor) -> Tensor:
        with patch.object(mobilestylegan, "MIN_STRIP_RESOLUTION", 1 << 30):
            return network.synthesis(ws)

    return {
        "whole layers": whole,
        "scaled activations": lambda ws: plain(network, ws[0], torch.channels_last),
        "scaled, NCHW": lambda ws: plain(network, ws[0], torch.contiguous_format),
    }


def plain(network: MobileStyleGAN, code: Tensor, layout: torch.memory_format) -> Tensor:
    """Whole layers with the styles on the activations, as the paper draws it, instead of on the weights."""

    def weight(key: str) -> Tensor:
        value = network.weights[key.replace(".", "/")]
        return value.contiguous(memory_format=layout) if value.ndim == 4 else value

    def styled(x: Tensor, row: int) -> Tensor:
        style = F.linear(code[row], weight(f"affine.{row}.weight"), weight(f"affine.{row}.bias"))
        return x * style.to(x.dtype)[:, None, None]

    def convolved(x: Tensor, prefix: str, kernel: str, padding: int = 0) -> Tensor:
        x = F.conv2d(x, weight(f"{prefix}.{kernel}"), weight(f"{prefix}.bias"), padding=padding)
        return F.leaky_relu_(x.add_(weight(f"{prefix}.noise")), 0.2)

    haar = mobilestylegan.invert_haar if layout == torch.channels_last else planar_haar
    x = convolved(styled(weight("const"), 0), "conv", "weight", padding=1)
    for i in range(len(network.widths)):
        x = haar(styled(x, 1 + 3 * i) / 2)
        for j in (0, 1):
            x = styled(x, 2 + 3 * i + j)
            x = F.conv2d(x, weight(f"blocks.{i}.{j}.depthwise"), padding=1, groups=x.shape[1])
            x = convolved(x, f"blocks.{i}.{j}", "pointwise")
    x = F.conv2d(styled(x, network.num_ws - 1), weight("to_img.weight"), weight("to_img.bias"))
    return haar(x / 2).float()


def planar_haar(bands: Tensor) -> Tensor:
    """The inverse Haar transform for NCHW: the pixels of each 2×2 block as planes, then shuffled."""
    low, vertical, horizontal, diagonal = bands.chunk(4, 1)
    pixels = [low + a * vertical + b * horizontal + a * b * diagonal for a in (1, -1) for b in (1, -1)]
    return F.pixel_shuffle(torch.stack(pixels, 2).flatten(1, 2), 2)


def compiled(network: MobileStyleGAN) -> Draw:
    """Torch's own compiler on the whole layers (it fuses what strips keep in the cache)."""
    draw = torch.compile(network._picture, dynamic=False)

    def one(ws: Tensor) -> Tensor:
        with patch.object(mobilestylegan, "MIN_STRIP_RESOLUTION", 1 << 30):
            return draw(ws[0])

    return one


def times(draws: dict[str, Draw], codes: Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of each after two pictures of warming up, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in draws}
    for i in range(repeats + 2):
        ws = codes[i % len(codes)][None]
        for name, draw in draws.items():
            start = time.perf_counter()
            draw(ws)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured[2:]) for name, measured in seconds.items()}


def report(draws: dict[str, Draw], seconds: dict[str, float], codes: Tensor) -> None:
    """Print the table; differences are over all of ``codes``, PSNR (pictures span 2) is against ganvas' float32."""
    truth = torch.cat([draws["OpenVINO f32"](ws[None]) for ws in codes])
    exact = torch.cat([draws["ganvas float32"](ws[None]) for ws in codes])
    table = Table(title=f"{truth.shape[-1]}×{truth.shape[-2]}, batch 1, {describe_torch()}")
    for column in ("", "s a picture", "of OpenVINO's", "max |difference| to OpenVINO", "PSNR to float32"):
        table.add_column(column, justify="right" if column else "left")
    for name, draw in draws.items():
        pictures = torch.cat([draw(ws[None]) for ws in codes])
        error = (pictures - exact).double().square().mean().item()
        psnr = f"{10 * np.log10(4 / error):.1f} dB" if error else "the same"
        ratio = seconds[name] / seconds["OpenVINO f32"]
        difference = (pictures - truth).abs().max().item()
        table.add_row(name, f"{seconds[name]:.3f}", f"{ratio:.2f}", f"{difference:.1e}", psnr)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
