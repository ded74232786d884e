"""A DCGAN trained on MultiMNIST, written as other people's are: a state dict and a card. ``ganvas learn`` takes it from there.

Radford et al., https://arxiv.org/abs/1511.06434, at 64×64 and a quarter of its widths. Its discriminator has R1 (Mescheder et
al., https://arxiv.org/abs/1801.04406) in place of batch norms, with which it overpowered the generator. What is edited
are its first layer's activations (--space z: its z). The sheet in docs/images is the last command's.

    ganvas make-multimnist --mnist MNIST --out out/mm64
    python -m experiments.multimnist.dcgan out/mm64 --out out/dcgan.pt
    ganvas info out/dcgan.pt
    ganvas learn out/dcgan.pt --scorer count -n 20000 --out out/dcgan
    python -m experiments.multimnist.dcgan --out out/dcgan.pt --judge out/dcgan/editor.safetensors   # what edits do in pictures
    ganvas grid out/dcgan.pt --editor out/dcgan/editor.safetensors --attributes count,place_x,place_y,stroke --seeds 1,2 \
        --strengths=-1.5,-0.75,0,0.75,1.5 --out dcgan.png
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas import load_editor, load_generator, load_scorer, sample
from ganvas.generators import has_bfloat16_instructions
from ganvas.io.files import write_text
from ganvas.training.gan.images import read_training_images
from ganvas.training_loop import train

Z_DIM, WIDTH = 64, 32
GAMMA, R1_EVERY = 5.0, 8
JUDGE_SEED = 3_000_000
"""The first seed of the codes to judge: `learn` labels those from 1,000,000 on, and its report takes those from 2,000,000 on."""


def main() -> None:
    """Train the DCGAN and write its weights and card, or judge an editor of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "pictures", type=Path, nargs="?", default=Path("out/mm64"), help="a folder of `ganvas make-multimnist`, 64×64"
    )
    parser.add_argument("--out", type=Path, default=Path("out/dcgan.pt"))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--space", choices=("z", "first"), default="first")
    parser.add_argument("--judge", type=Path, help="train nothing: print what this editor of the DCGAN changes")
    options = parser.parse_args()
    if options.judge is not None:
        judge(options.out, options.judge)
        return
    torch.manual_seed(0)
    data = read_training_images(options.pictures, 64, "")
    generator, discriminator = make_networks()
    optimizers = [torch.optim.Adam(net.parameters(), 5e-4, betas=(0.0, 0.99)) for net in (generator, discriminator)]
    start = time.process_time()

    def train_step(step: int) -> None:
        real = data.pixels[torch.randint(len(data.pixels), (options.batch,))].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16_instructions("cpu")):
            fake = generator(torch.randn(options.batch, Z_DIM, 1, 1))
            # Each network's loss is the other's with the sides changed (the non-saturating loss).
            logits = discriminator(real.requires_grad_(step % R1_EVERY == 0))
            loss = F.softplus(-logits).mean() + F.softplus(discriminator(fake.detach())).mean()
        if step % R1_EVERY == 0:
            (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            loss = loss + GAMMA / 2 * R1_EVERY * gradient.square().sum((1, 2, 3)).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16_instructions("cpu")):
            generator_loss = F.softplus(-discriminator(fake)).mean()
        optimizers[0].zero_grad()
        generator_loss.backward()
        optimizers[0].step()
        if step % 100 == 0:
            print(f"step {step:5}  discriminator {loss.item():.3f}  generator {generator_loss.item():.3f}", flush=True)

    def save(done: int) -> None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        torch.save(generator.state_dict(), options.out)
        write_text(options.out.with_suffix(".toml"), format_card(generator, options.space))

    train(train_step, options.steps, save=save, is_due=lambda done: done % 1000 == 0)
    print(f"{options.out} and its card {options.out.with_suffix('.toml')}: {time.process_time() - start:.0f} s of CPU")


@torch.no_grad()
def judge(
    path: Path, editor: Path, n: int = 1000, attributes: Sequence[str] = ("count", "place_x", "place_y", "stroke")
) -> None:
    """Print what changes by -1 and 1 of each attribute change in the pictures of ``n`` fresh codes, as the counter reads them."""
    generator, counter = load_generator(path), load_scorer("count")
    ws, edits = sample(generator, n, 1.0, JUDGE_SEED), load_editor(editor, generator)
    columns = [counter.attributes.index(name) for name in attributes]

    def read(codes: Tensor) -> Tensor:
        return torch.cat([counter(generator.synthesis(part))[:, columns] for part in codes.split(100)])

    before = read(ws)
    spread = before.std(0)
    sure = counter(generator.synthesis(ws))[:, counter.attributes.index("sure")].sigmoid() >= 0.9
    print(f"{n} codes; the counter is sure (p >= 0.9) of {sure.float().mean():.3f}, and sees")
    print(f"  counts 0, 1, ...: {(before[:, 0].long().bincount() / n).tolist()}")
    print("mean change in standard deviations of fresh pictures, of: " + ", ".join(attributes))
    for name in attributes:
        for change in (-1.0, 1.0):
            moved = ((read(edits.edit(ws, {name: change})) - before) / spread).mean(0)
            print(f"  {name} {change:+g}: " + ", ".join(f"{value:+.2f}" for value in moved.tolist()))


def make_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Return the generator, z (n, Z_DIM, 1, 1) to grey pictures, and the discriminator, pictures to one number."""
    widths = [8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH]
    generator, discriminator = nn.Sequential(), nn.Sequential()
    for i, (wide, before) in enumerate(zip(widths, [Z_DIM, *widths], strict=False)):
        generator.extend([nn.ConvTranspose2d(before, wide, 4, 2 if i else 1, 1 if i else 0, bias=False)])
        generator.extend([nn.BatchNorm2d(wide), nn.ReLU(inplace=True)])
    generator.extend([nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1), nn.Tanh()])
    for wide, before in zip(widths[::-1], [1, *widths[::-1]], strict=False):
        discriminator.extend([nn.Conv2d(before, wide, 4, 2, 1), nn.LeakyReLU(0.2)])
    discriminator.extend([nn.Conv2d(widths[0], 1, 4), nn.Flatten()])
    for layer in generator:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)  # pyright: ignore
    return generator, discriminator


def format_card(generator: nn.Sequential, space: str) -> str:
    """Return the generator's card, which lists its layers, in TOML."""
    lines = [f"z_dim = {Z_DIM}", f'space = "{space}"']
    for i, layer in enumerate(generator):
        row = {"kind": '"tanh"' if isinstance(layer, nn.Tanh) else '"relu"'}
        if isinstance(layer, nn.ConvTranspose2d):
            row = {"kind": '"deconvolution"', "name": f'"{i}"', "stride": layer.stride[0], "padding": layer.padding[0]}
        elif isinstance(layer, nn.BatchNorm2d):
            row = {"kind": '"norm"', "name": f'"{i}"'}
        lines += ["", "[[layers]]", *(f"{key} = {value}" for key, value in row.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
