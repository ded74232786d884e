"""How much of the generator's own speed labelling keeps: faces a second, labelled and only rendered, in one run.

    python benchmarks/labelling.py [-n 32] [--dtype float32] [--threads 2]

Both render the same faces of ffhq one by one; labelling also shrinks, scores, encodes kept pictures and writes shards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import ganvas
from ganvas.seeds import EVALUATION_SEED


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    generator = ganvas.load_generator("ffhq", dtype=told.dtype)
    scorer = ganvas.load_scorer("celeba40")
    ws = ganvas.sample(generator, told.n, psi=1, seed=EVALUATION_SEED)
    generator.synthesis(ws[:2])
    start = time.perf_counter()
    for code in ws.split(1):
        generator.synthesis(code)
    rendered = told.n / (time.perf_counter() - start)
    for keep in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            ganvas.label(generator, scorer, told.n, seed=EVALUATION_SEED, out=Path(folder) / "labels", keep_images=keep)
            labelled = told.n / (time.perf_counter() - start)
        kept = "pictures kept" if keep else "scores only"
        print(f"{kept}: {labelled:.2f} faces a second, {labelled / rendered:.2f} of the generator's {rendered:.2f}")


if __name__ == "__main__":
    main()
