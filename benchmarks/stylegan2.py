"""Seconds per picture of StyleGAN2, beside a plain rival written as NVIDIA's CPU path computes, and beside bare convolutions.

Config-f with random weights at 256 and 1024, batch 1 and 4. Contenders take turns, batch by batch, so that a busy machine
slows all of them; medians are printed. By default processor time is counted, which neighbours change less than the
clock; with several threads it counts all of them.

    python benchmarks/stylegan2.py                                   # all of it: minutes
    python benchmarks/stylegan2.py --resolutions 256 --batches 1
    python benchmarks/stylegan2.py --data DIR                        # the rival against DIR/*.expected.npz, too
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.generators.stylegan2 import StyleGAN2, layers
from ganvas.generators.stylegan2.architecture import StyledLayer, StyleGAN2Architecture

Draw = Callable[[Tensor], Tensor]
FILTER = torch.tensor([1.0, 3, 3, 1])[:, None] * torch.tensor([1.0, 3, 3, 1]) / 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", type=int, nargs="*", default=[256, 1024])
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("process", "wall"), default="process")
    parser.add_argument("--data", type=Path, help="the folder of checkpoints with their expected.npz")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.data is not None:
        compare(options.data)
    clock = time.process_time if options.clock == "process" else time.perf_counter
    for resolution in options.resolutions:
        shape = StyleGAN2Architecture(
            resolution, tuple(min(512, 32768 // r) for r in (4 << i for i in range(resolution.bit_length() - 2)))
        )
        state = weights(shape)
        exact, half = (StyleGAN2(state, shape, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
        for batch in options.batches:
            ws = exact.mapping(torch.randn(batch, 512, generator=torch.Generator().manual_seed(1)))
            draws: dict[str, Draw] = {
                "rival, float32": lambda ws, state=state, shape=shape: rival(state, shape, ws),
                "ganvas float32": exact.synthesis,
                "ganvas bfloat16": half.synthesis,
                "bare convolutions, float32": bare(shape, torch.float32),
                "bare convolutions, bfloat16": bare(shape, torch.bfloat16),
            }
            report(draws, exact.expand(ws), options.repeats, clock, f"{resolution}×{resolution}, batch {batch}")


def weights(shape: StyleGAN2Architecture) -> dict[str, Tensor]:
    """Random weights, with noise and biases that are not 0."""
    random = torch.Generator().manual_seed(0)
    state = layers.initialize_weights(shape, random)
    for name, value in state.items():
        if name.endswith(("bias", "noise_strength")):
            value.add_(torch.randn(value.shape, generator=random) / 10)
    return state


# The rival: nothing folded, one kernel a picture, filters by themselves.


def rival(state: dict[str, Tensor], shape: StyleGAN2Architecture, ws: Tensor) -> Tensor:
    """Pictures (n, 3, resolution, resolution) as NVIDIA's code makes them where its own kernels can't be compiled."""
    x, image = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1), None
    outputs = {layer.resolution: layer for layer in shape.iterate_outputs()}
    for layer in shape.iterate_layers():
        x = modulated(state, layer, x, ws[:, layer.row], shape)
        if not layer.up and layer.resolution in outputs:
            output = outputs[layer.resolution]
            y = modulated(state, output, x, ws[:, output.row], shape)
            image = y if image is None else filtered(zeros_between(image), (2, 1)) + y
    return x if image is None else image


def modulated(
    state: dict[str, Tensor], layer: StyledLayer, x: Tensor, w: Tensor, shape: StyleGAN2Architecture
) -> Tensor:
    """A modulated convolution of any kind with what follows it."""
    name, n, draws = layer.name, len(x), layer.name.endswith("torgb")
    style = F.linear(w, state[f"{name}.affine.weight"] / shape.w_dim**0.5, state[f"{name}.affine.bias"])
    weight, size = state[f"{name}.weight"], state[f"{name}.weight"].shape[-1]
    kernel = weight[None] * (style / layer.incoming**0.5 if draws else style)[:, None, :, None, None]
    if not draws:
        kernel = kernel * (kernel.square().sum((2, 3, 4)) + 1e-8).rsqrt()[:, :, None, None, None]
    x = x.reshape(1, -1, *x.shape[2:])
    if layer.up:
        kernel = kernel.transpose(1, 2).reshape(-1, layer.outgoing, size, size)
        x = filtered(F.conv_transpose2d(x, kernel, stride=2, groups=n), (1, 1))
    else:
        x = F.conv2d(x, kernel.reshape(-1, layer.incoming, size, size), padding=size // 2, groups=n)
    x = x.reshape(n, layer.outgoing, *x.shape[2:])
    if not draws:
        x = x.add_(state[f"{name}.noise_const"] * state[f"{name}.noise_strength"])
    x = x + state[f"{name}.bias"][:, None, None]
    x = x if draws else F.leaky_relu(x, 0.2) * 2**0.5
    return x if shape.clamp is None else x.clamp(-shape.clamp, shape.clamp)


def filtered(x: Tensor, edges: tuple[int, int]) -> Tensor:
    """The filter 1-3-3-1 by four, each channel by itself."""
    channels = x.shape[1]
    kernel = (4 * FILTER).expand(channels, 1, 4, 4).contiguous()
    return F.conv2d(F.pad(x, edges * 2), kernel, groups=channels)


def zeros_between(x: Tensor) -> Tensor:
    """Pictures of twice the size with zeros between the pixels."""
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def bare(shape: StyleGAN2Architecture, dtype: torch.dtype) -> Draw:
    """The 3×3 convolutions of the network and nothing else, in the order of memory that is fast: stride 2 where it doubles."""
    jobs = []
    for layer in shape.iterate_layers():
        side = layer.resolution // 2 if layer.up else layer.resolution
        sizes = (layer.incoming, layer.outgoing) if layer.up else (layer.outgoing, layer.incoming)
        kernel = torch.randn(*sizes, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        jobs.append((layer, kernel, torch.randn(1, layer.incoming, side, side).to(dtype)))

    def draw(ws: Tensor) -> Tensor:
        for layer, kernel, x in jobs:
            x = x.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            y = F.conv_transpose2d(x, kernel, stride=2) if layer.up else F.conv2d(x, kernel, padding=1)
        return y

    return draw


def compare(folder: Path) -> None:
    """The rival against what the original code computed."""
    from ganvas.checkpoints import read

    for path in sorted(folder.glob("*.expected.npz")):
        source = next(p for p in folder.glob(path.name.replace(".expected.npz", ".*")) if p.suffix in (".pkl", ".pt"))
        expected, found, generator = np.load(path), read(source), load_generator(source)
        w = generator.mapping(*(torch.from_numpy(expected[key]) for key in ("z", "c") if key in expected))
        image = rival(dict(found.state), found.metadata["shape"], generator.expand(w))
        print(f"{source.name}: max |rival - original| {float(abs(image.numpy() - expected['image']).max()):.1e}")


def report(draws: dict[str, Draw], ws: Tensor, repeats: int, clock: Callable[[], float], title: str) -> None:
    """Print the table; differences are relative to the rival's picture."""
    seconds: dict[str, list[float]] = {name: [] for name in draws}
    pictures: dict[str, Tensor] = {}
    for _ in range(repeats + 1):
        for name, draw in draws.items():
            start = clock()
            pictures[name] = draw(ws)
            seconds[name].append((clock() - start) / len(ws))
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    truth = pictures["rival, float32"]
    table = Table(title=f"{title}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for column in ("", "s a picture", "times the rival's speed", "of the bare convolutions", "relative error"):
        table.add_column(column, justify="right" if column else "left")
    for name, median in medians.items():
        dtype = "bfloat16" if "bfloat16" in name else "float32"
        same = pictures[name].shape == truth.shape
        error = f"{float((pictures[name] - truth).norm() / truth.norm()):.1e}" if same else ""
        share = median / medians[f"bare convolutions, {dtype}"]
        table.add_row(name, f"{median:.3f}", f"{medians['rival, float32'] / median:.2f}", f"{share:.2f}", error)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
