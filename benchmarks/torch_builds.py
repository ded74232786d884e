"""Milliseconds per picture of a generator in several builds of PyTorch, taking turns on one machine.

A build is an interpreter that can import torch and ganvas' dependencies; ganvas itself is this checkout's. Each round
measures every build in a process of its own. Printed is the least of all pictures, in wall and in processor time, so
that other work on the machine counts little, and the least mean of page faults.

    python benchmarks/torch_builds.py .venv/bin/python cuda/bin/python
    python benchmarks/torch_builds.py .venv/bin/python cuda/bin/python --operators --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
WARM_UP = 3


def main() -> None:
    """Measure every build, or be one that is measured."""
    parser = argparse.ArgumentParser(description="Time builds of PyTorch in turns.")
    parser.add_argument("pythons", nargs="*", default=[sys.executable], help="interpreters, one a build")
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=12, help="pictures timed in a round")
    parser.add_argument("--operators", action="store_true", help="the time of each operator instead")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.generator, options.threads, options.pictures, options.operators)))
        return
    least: dict[str, list[float]] = {}
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    for _ in range(options.rounds):
        for python in options.pythons:
            command = [python, __file__, "--child", *(word for word in sys.argv[1:] if word not in options.pythons)]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows: dict[str, list[float]] = json.loads(done.stdout)
            for name, row in rows.items():
                least[name] = [min(pair) for pair in zip(least.get(name, row), row, strict=True)]
    width = max(map(len, least))
    print(f"{'':{width}}   wall ms   processor ms   page faults")
    for name, (wall, processor, faults) in sorted(least.items()):
        print(f"{name:{width}} {wall:9.1f} {processor:14.1f} {faults:13.0f}")


def measure(generator: str, threads: list[int], pictures: int, operators: bool) -> dict[str, list[float]]:
    """Measure this interpreter's build by type and threads, or also by operator."""
    import torch

    from ganvas.checkpoints.load import load_generator
    from ganvas.generators.base import sample

    torch.set_grad_enabled(False)
    rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = load_generator(generator, dtype=dtype)
        codes = sample(network, WARM_UP + pictures)
        for count in threads:
            torch.set_num_threads(count)
            name = f"{str(dtype).removeprefix('torch.')}, {count} threads"
            for ws in codes[:WARM_UP]:
                network.synthesis(ws[None])
            if operators:
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                    network.synthesis(codes[WARM_UP:])
                for event in profile.key_averages():
                    spent = event.self_cpu_time_total / 1000 / pictures
                    rows[f"{name}, {event.key}, torch {torch.__version__}"] = [spent, spent, 0]
                continue
            spent, faults = [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for ws in codes[WARM_UP:]:
                start = time.perf_counter(), time.process_time()
                network.synthesis(ws[None])
                spent.append((1000 * (time.perf_counter() - start[0]), 1000 * (time.process_time() - start[1])))
            faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / pictures
            rows[f"{name}, torch {torch.__version__}"] = [*map(min, zip(*spent, strict=True)), faults]
    return rows


if __name__ == "__main__":
    main()
