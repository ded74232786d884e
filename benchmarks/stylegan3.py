"""Seconds per picture of StyleGAN3, beside a plain rival written as NVIDIA's CPU path computes.

Config-t or config-r with random weights. The rival inserts zeros, filters the whole enlarged picture axis by axis, and leaves out
what it doesn't need afterwards; one kernel a picture. Contenders take turns, so that a busy machine slows both; medians of
processor time are printed. ``design`` and ``rival`` serve as the plain reference of tests, too.

    python benchmarks/stylegan3.py                                   # 256 pixels, all channels
    python benchmarks/stylegan3.py --width 0.125 --resolutions 64    # seconds
    python benchmarks/stylegan3.py --configs t r --batches 1 4
    python benchmarks/stylegan3.py --data DIR --resolutions          # the rival against DIR/*.expected.npz
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import scipy.signal
import scipy.special
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ganvas import checkpoints
from ganvas.generators.stylegan3 import StyleGAN3
from ganvas.generators.stylegan3.architecture import (
    FilteredLayer,
    FilteredLayerArchitecture,
    StyleGAN3Architecture,
)

WIDTHS = {"t": (32768, 512), "r": (65536, 1024)}
"""Channels times twice the cutoff, and the most channels."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", choices=tuple(WIDTHS), default=["t"])
    parser.add_argument("--resolutions", type=int, nargs="*", default=[256])
    parser.add_argument("--batches", type=int, nargs="*", default=[1])
    parser.add_argument("--width", type=float, default=1.0, help="the share of the published channels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="the folder of checkpoints with their expected.npz")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    for path in sorted(options.data.glob("*.expected.npz")) if options.data is not None else ():
        found = checkpoints.read(path.with_name(path.name.replace(".expected.npz", ".pkl")))
        ws, image = (torch.from_numpy(np.load(path)[key]) for key in ("ws", "image"))
        error = (rival(dict(found.state), found.metadata["shape"], ws) - image).abs().max() / image.std()
        print(f"{path.name}: the rival's largest error is {float(error):.1e} of the standard deviation")
    table = Table(title=f"{options.threads} threads, torch {torch.__version__}, {options.width:g} of the channels")
    for column in (
        "",
        "rival, s a picture",
        "ganvas float32",
        "times",
        "bfloat16",
        "times",
        "largest error in std, float32",
    ):
        table.add_column(column, justify="right" if column else "left")
    for config in options.configs:
        for resolution in options.resolutions:
            shape, state = design(resolution, config, width=options.width)
            for batch in options.batches:
                label = f"config-{config}, {resolution}×{resolution}, batch {batch}"
                table.add_row(label, *compare(shape, state, batch, options.repeats))
    if table.rows:
        Console(width=140).print(table)


def compare(shape: StyleGAN3Architecture, state: dict[str, Tensor], batch: int, repeats: int) -> list[str]:
    """Return a row of the table."""
    exact, half = (StyleGAN3(state, shape, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    z = torch.randn(batch, shape.z_dim, generator=torch.Generator().manual_seed(1))
    ws = exact.expand(exact.mapping(z))
    draws = {"rival": lambda: rival(state, shape, ws), "float32": lambda: exact.synthesis(ws)}
    draws["bfloat16"] = lambda: half.synthesis(ws)
    seconds: dict[str, list[float]] = {name: [] for name in draws}
    pictures: dict[str, Tensor] = {}
    for _ in range(repeats + 1):
        for name, draw in draws.items():
            start = time.process_time()
            pictures[name] = draw()
            seconds[name].append((time.process_time() - start) / batch)
    medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    row = [f"{medians['rival']:.3f}"]
    for name in ("float32", "bfloat16"):
        row += [f"{medians[name]:.3f}", f"{medians['rival'] / medians[name]:.2f}"]
    return [*row, f"{float((pictures['float32'] - pictures['rival']).abs().max() / pictures['rival'].std()):.1e}"]


# A network of any size with random weights, designed as the paper's appendix C and NVIDIA's defaults say.


def design(
    resolution: int, config: str = "t", layers: int = 14, width: float = 1.0, seed: int = 0, **sizes: int
) -> tuple[StyleGAN3Architecture, dict[str, Tensor]]:
    """Design the filters of a network and draw its weights; ``sizes``: of codes and labels."""
    shape, filters = design_filters(resolution, config, layers, width, **sizes)
    return shape, draw_weights(shape, seed) | filters


def design_filters(
    resolution: int, config: str = "t", layers: int = 14, width: float = 1.0, **sizes: int
) -> tuple[StyleGAN3Architecture, dict[str, Tensor]]:
    """Design the layers of a network and their filters."""
    critical, margin, taps, colours = 2, 10, 6, 3
    exponents = np.minimum(np.arange(layers + 1) / (layers - critical), 1)
    cutoffs = 2 * (resolution / 4) ** exponents
    stopbands = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** exponents
    rates = [int(2 ** np.ceil(np.log2(min(2 * stopband, resolution)))) for stopband in stopbands]
    halves = np.maximum(stopbands, np.array(rates) / 2) - cutoffs
    sides = [rate + 2 * margin for rate in rates[:-2]] + [resolution] * 2
    base, most = WIDTHS[config]
    channels = [max(1, round(width * min(base / 2 / cutoff, most))) for cutoff in cutoffs[:-1]] + [colours]
    own, filters = [], {}
    for i in range(layers + 1):
        before, last = max(i - 1, 0), i == layers
        inner = max(rates[before], rates[i]) * (1 if last else 2)
        up, down, radial = inner // rates[before], inner // rates[i], config == "r" and i < layers - critical
        kernel = 1 if last or config == "r" else 3
        counts = (1, 1) if last else (taps * up, taps * down)
        own.append(FilteredLayerArchitecture(channels[i], sides[i], kernel, up, down, *counts, radial))
        if not last:
            name = f"synthesis.L{i}_{sides[i]}_{channels[i]}"
            filters[f"{name}.up_filter"] = low_pass(counts[0], cutoffs[before], 2 * halves[before], inner, False)
            filters[f"{name}.down_filter"] = low_pass(counts[1], cutoffs[i], 2 * halves[i], inner, radial)
    shape = StyleGAN3Architecture(resolution, tuple(own), channels[0], sides[0], rates[0], float(cutoffs[0]), **sizes)
    return shape, filters


def low_pass(taps: int, cutoff: float, width: float, rate: int, radial: bool) -> Tensor:
    """Design a filter by Kaiser's window; a radial one is the transform of a disc of frequencies, Bessel's function by radius."""
    if not radial:
        return torch.from_numpy(scipy.signal.firwin(taps, cutoff, width=width, fs=rate)).float()
    places = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.pi * np.hypot(places[:, None], places)
    window = np.kaiser(taps, scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * width / rate)))
    values = scipy.special.j1(2 * cutoff * radius) / radius * window[:, None] * window
    return torch.from_numpy(values / values.sum()).float()


def draw_weights(shape: StyleGAN3Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Draw random weights that use everything: nothing is 0."""
    random, state = torch.Generator().manual_seed(seed), {}
    for name, size in shape.list_weight_shapes().items():
        value = torch.randn(size, generator=random)
        if name == "synthesis.input.transform":
            value = torch.eye(3)
        elif name == "synthesis.input.affine.bias":
            value = torch.tensor([1.0, 0, 0, 0]) + value / 20
        elif name == "synthesis.input.affine.weight":
            value = value / 10
        elif name.endswith("freqs"):
            value = F.normalize(value) * torch.rand(len(value), 1, generator=random).sqrt() * shape.bandwidth
        elif name.endswith("magnitude_ema"):
            value = 2 ** (value / 4)
        elif name.startswith("mapping.fc"):
            value = value / shape.learning_rate_multiplier * (0.1 if name.endswith("bias") else 1)
        elif name.endswith("bias"):
            value = value / 10 + name.endswith("affine.bias")
        state[name] = value
    return state


# The rival: nothing folded, zeros between pixels, every pixel filtered.


def rival(
    state: dict[str, Tensor], shape: StyleGAN3Architecture, ws: Tensor, transform: Tensor | None = None
) -> Tensor:
    """Pictures (n, colours, resolution, resolution) as NVIDIA's code makes them where its own kernels can't be compiled."""
    x = features(state, shape, ws[:, 0], state["synthesis.input.transform"] if transform is None else transform)
    for layer in shape.iterate_layers():
        x = filtered_layer(state, shape, layer, x, ws[:, layer.row])
    return x * shape.output_scale


def features(state: dict[str, Tensor], shape: StyleGAN3Architecture, w: Tensor, transform: Tensor) -> Tensor:
    """Fourier features, pixel by pixel: sin(2π (f · p + φ)) for the places p of pixels, turned and moved by the code."""
    name, side = "synthesis.input", shape.input_side
    code = F.linear(w, state[f"{name}.affine.weight"] / shape.w_dim**0.5, state[f"{name}.affine.bias"])
    code = code / code[:, :2].norm(dim=1, keepdim=True)
    pictures = []
    for cosine, sine, x, y in code:
        turn, move = torch.eye(3).to(w), torch.eye(3).to(w)
        turn[0, 0] = turn[1, 1] = cosine
        turn[1, 0], turn[0, 1], move[0, 2], move[1, 2] = sine, -sine, -x, -y
        matrix = turn @ move @ transform
        phases = state[f"{name}.phases"] + state[f"{name}.freqs"] @ matrix[:2, 2]
        waves = state[f"{name}.freqs"] @ matrix[:2, :2]
        places = (torch.arange(side).to(w) + 0.5 - side / 2) / shape.input_rate
        grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), 2)
        fade = 1 - (waves.norm(dim=1) - shape.bandwidth) / (shape.input_rate / 2 - shape.bandwidth)
        values = torch.sin(2 * torch.pi * (grid @ waves.T + phases)) * fade.clamp(0, 1)
        pictures.append((values @ (state[f"{name}.weight"] / shape.input_channels**0.5).T).permute(2, 0, 1))
    return torch.stack(pictures).contiguous()


def filtered_layer(
    state: dict[str, Tensor], shape: StyleGAN3Architecture, layer: FilteredLayer, x: Tensor, w: Tensor
) -> Tensor:
    """A modulated convolution and its filtered leaky ReLU."""
    name, n = layer.name, len(x)
    style = F.linear(w, state[f"{name}.affine.weight"] / shape.w_dim**0.5, state[f"{name}.affine.bias"])
    weight = state[f"{name}.weight"]
    if layer.is_output:
        kernel = weight * (style / layer.incoming**0.5)[:, None, :, None, None]
    else:
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        kernel = weight * (style * style.square().mean().rsqrt())[:, None, :, None, None]
        kernel = kernel * (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    kernel = (kernel * state[f"{name}.magnitude_ema"].rsqrt()).flatten(0, 1)
    x = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernel, padding=layer.kernel - 1, groups=n)
    x = x.reshape(n, layer.outgoing, *x.shape[2:]) + state[f"{name}.bias"][:, None, None]
    before, after = layer.padding
    x = F.pad(zeros_between(x, layer.up), (before, after, before, after))
    x = filtered(x, state.get(f"{name}.up_filter"), layer.up**2)
    x = x if layer.is_output else F.leaky_relu(x, 0.2) * 2**0.5
    x = x if shape.clamp is None else x.clamp(-shape.clamp, shape.clamp)
    return filtered(x, state.get(f"{name}.down_filter"))[:, :, :: layer.down, :: layer.down]


def zeros_between(x: Tensor, factor: int) -> Tensor:
    """Pictures of ``factor`` times the size with zeros between the pixels, and after the last."""
    y = x.new_zeros(*x.shape[:2], x.shape[2], factor, x.shape[3], factor)
    y[:, :, :, 0, :, 0] = x
    return y.flatten(4).flatten(2, 3)


def filtered(x: Tensor, taps: Tensor | None, gain: float = 1.0) -> Tensor:
    """Convolve each channel with a filter, where all of it lies on the picture."""
    if taps is None:
        return x
    channels = x.shape[1]
    if taps.ndim == 2:
        return F.conv2d(x, (taps.flip(0, 1) * gain).repeat(channels, 1, 1, 1), groups=channels)
    kernel = (taps.flip(0) * gain**0.5).repeat(channels, 1, 1)
    x = F.conv2d(x, kernel[:, :, None], groups=channels)
    return F.conv2d(x, kernel[:, :, :, None], groups=channels)


if __name__ == "__main__":
    main()
