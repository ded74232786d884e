"""How many faces a second scorers read: face_attributes and celeba40 on pictures of 256 pixels, in one run.

python benchmarks/scorers.py [-n 64] [--threads 2]
"""

from __future__ import annotations

import argparse
import time

import torch

import ganvas

SIDE = 256


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    pictures = torch.rand((told.n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) * 2 - 1
    rates = {}
    for name in ("face_attributes", "celeba40"):
        scorer = ganvas.load_scorer(name)
        scorer(pictures[:8])
        start = time.perf_counter()
        for part in pictures.split(8):
            scorer(part)
        rates[name] = told.n / (time.perf_counter() - start)
        print(f"{name}: {rates[name]:.1f} faces a second, {told.threads} threads")
    print(f"face_attributes is {rates['face_attributes'] / rates['celeba40']:.2f} times as fast as celeba40")


if __name__ == "__main__":
    main()
