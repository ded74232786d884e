"""Does an encoder whose rows differ less make better codes to learn counts from in W+? A hypothesis of the paper.

    ganvas make-multimnist --mnist MNIST --size 64 --out m64
    python -m experiments.multimnist.smaller_offsets m64 --work DIR

Doubinsky et al., RFIAP 2022, https://cea.hal.science/cea-04852483, invert images to learn H in W+, and suppose that codes whose
rows lie nearer to one w would serve better. For each weight of the squared offsets, an encoder that never saw a count is trained,
training images are inverted, and the paper's H is learned from their codes with the images' own counts. Prints the offsets, the
error of inverted test images, and for fresh codes, asked for one digit more and one fewer, how many are right by the counter and
how many left W. Encoders are kept in ``--work``: a stopped run goes on there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from experiments.multimnist.keeping import PAPER_OPTIONS, JudgedCodes, MoveJudges
from experiments.multimnist.trials import MAX_COUNT, MIN_COUNT
from ganvas import editors
from ganvas.checkpoints.load import load_generator
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.data.distribution import fit_distribution
from ganvas.data.multimnist_files import read_multimnist
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import format_estimate
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import Encoder, read_encoder
from ganvas.progress import show_count
from ganvas.scorers import load_scorer
from ganvas.scorers.count import Counter
from ganvas.seeds import EVALUATION_SEED
from ganvas.stats import estimate_proportion
from ganvas.training.count_encoder import train_count_encoder
from ganvas.training.count_encoder_data import CountEncoderConfig, read_count_images
from ganvas.types import Images, WPlus

BATCH_SIZE = 64
TEST_IMAGES = 500
VARIANTS = {"the paper's": {}, "100 components, rows tied": {"pca": 100, "rows": "resolution"}}
"""How H moves codes of W+."""


@torch.no_grad()
def invert_images(encoder: Encoder, images: Images) -> WPlus:
    """Return codes (n, num_ws, w_dim) of pictures in W+."""
    return torch.cat([encoder(part, "w+").contiguous() for part in images.split(BATCH_SIZE)]).float()


def make_counted_codes(generator: Generator, counter: Counter, ws: WPlus, counts: Tensor) -> LatentDataset:
    """Label inverted codes with the number of digits in their images."""
    scorer = f"{counter.name}:{counter.fingerprint}"
    scores = counts[:, None].float()
    return make_dataset(ws, scores, ("count",), ("count",), Source(None), generator.fingerprint, scorer)


def print_moves(data: LatentDataset, options: dict[str, object], judges: MoveJudges, cases: JudgedCodes) -> None:
    """Learn the paper's H, move fresh codes by one digit up and down, and print how many are right and left W."""
    editor = editors.fit("cardinality", data, judges.generator, **(PAPER_OPTIONS | {"space": "w+"}), **options)
    distribution, count = fit_distribution(judges.generator), cases.scores[:, 0]
    right, left, codes = [], [], []
    for alpha in (1.0, -1.0):
        rows = ((count + alpha >= MIN_COUNT) & (count + alpha <= MAX_COUNT)).nonzero()[:, 0]
        moved = editor.edit_quietly(cases.ws[rows], {"count": alpha})
        right.append((judges.judge(moved).scores[:, 0] == count[rows] + alpha).float())
        left.append((~distribution.contains(moved)).float())
        codes.append(rows)
    for name, parts in (("right by the counter", right), ("left W", left)):
        estimate = estimate_proportion(torch.cat(parts), torch.cat(codes))
        print(f"    {name:22} {format_estimate(vars(estimate), 3)}", flush=True)


def main(
    folder: Annotated[Path, typer.Argument(help="A MultiMNIST folder, 64×64.")],
    work: Annotated[Path, typer.Option(help="The folder that keeps the encoders.")],
    offsets: Annotated[str, typer.Option(help="Weights of the squared offsets, joined by commas.")] = "1,10,100",
    images: Annotated[int, typer.Option(help="Training images that are inverted.")] = 8000,
    first: Annotated[int, typer.Option(help="Steps on generated pictures.")] = 450,
    steps: Annotated[int, typer.Option(help="Steps on real ones.")] = 250,
    n: Annotated[int, typer.Option("-n", help="Fresh codes.")] = 400,
    seed: Annotated[int, typer.Option(help="The first seed.")] = EVALUATION_SEED,
) -> None:
    """Learn the paper's H from codes whose rows differ less."""
    generator, counter = load_generator("multimnist"), load_scorer("count")
    if not isinstance(counter, Counter):
        raise GanvasError("The scorer 'count' isn't a counter of digits.")
    work.mkdir(parents=True, exist_ok=True)
    judges, distribution = MoveJudges(generator, counter, {}), fit_distribution(generator)
    cases = judges.sample_sure(n, seed)
    train, test = (read_multimnist(folder, part, k) for part, k in (("train", images), ("test", TEST_IMAGES)))
    pictures, held_out = (read_count_images(data, generator).decode(slice(None)) for data in (train, test))
    for offset in map(float, offsets.split(",")):
        path = work / f"offset-{offset:g}-{first}-{steps}.safetensors"
        if not path.exists():
            config = CountEncoderConfig("w+", first=first, steps=steps, features=0.0, offset=offset, seed=0)
            with show_count("Steps") as progress:
                train_count_encoder(folder, generator, counter, path, config, progress)
        encoder = read_encoder(path, generator)
        ws, tested = invert_images(encoder, pictures), invert_images(encoder, held_out)
        whitened = (ws - ws.mean(1, keepdim=True)) @ distribution.whitening
        drawn = torch.cat([generator.synthesis(part) for part in tested.split(BATCH_SIZE)])
        print(f"\noffsets weigh {offset:g}: {float(whitened.norm(dim=2).mean()):.2f} of whitened length;", end=" ")
        print(f"squared error of test images {float((drawn - held_out).square().mean()):.3f}", flush=True)
        data = make_counted_codes(generator, counter, ws, train.counts)
        for name, options in VARIANTS.items():
            print(f"  H: {name}", flush=True)
            print_moves(data, options, judges, cases)


if __name__ == "__main__":
    try:
        typer.run(main)
    except GanvasError as error:
        sys.exit(f"Error: {error}")
