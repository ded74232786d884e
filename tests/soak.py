"""Long commands that are killed at any moment (kill -9) and started again come to the bytes of an unbroken run.

    python tests/soak.py                            20 kills of each command
    python tests/soak.py --command label --kills 3
    python tests/soak.py --command label --seed 7   the seventh again

A kill comes at a random moment after a run's first file appears. What a run that failed left stays under out/soak.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

CONTEXT = multiprocessing.get_context("forkserver")
"""Processes that have imported torch when they start, and share nothing else."""
COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "label": lambda inputs: ["toy", "-n", 3000, "--keep-images", "--dtype", "float32"],
    "train-gan": lambda inputs: [
        *(inputs / "pictures", "--preset", 16, "--images", 600, "--checkpoint", 60, "--flip"),
        *(
            f"--option={key}"
            for key in ("widths=[8,8,4]", "discriminator_widths=[8,8,4]", "batch=4", "w_dim=8", "z_dim=8")
        ),
    ],
    "evaluate": lambda inputs: [
        *("toy", "--quick", "--methods", "compact,mean_difference", "--attributes", "Bright,Striped"),
        *("--labels", inputs / "labels", "--dtype", "float32"),
    ],
    "invert": lambda inputs: [
        *(inputs / "photos", "--generator", "toy", "--aligned", "--method", "optimize", "--steps", 20),
        *("--dtype", "float32", "--editor", inputs / "editor.safetensors", "--shift", "Bright=1"),
    ],
}
"""The arguments of each, without --out."""
CLOCKS = {"images_per_second", "seconds", "command"}
TIMED = {"timings.json", "report.md", "index.html"}
"""Keys of JSON files, and files, that say how long something took or what was typed: they differ from run to run."""


def run(command: str, arguments: list[object], out: Path, log: Path) -> None:
    """What a process runs."""
    for number, mode in ((1, "ab"), (2, "ab")):
        with log.open(mode) as file:
            os.dup2(file.fileno(), number)
    import torch

    from ganvas.cli import main

    torch.set_num_threads(1)
    main([command, *map(str, arguments), "--out", str(out)])


def start(command: str, inputs: Path, out: Path) -> multiprocessing.process.BaseProcess:
    """A command in a process of its own."""
    process = CONTEXT.Process(target=run, args=(command, COMMANDS[command](inputs), out, out.with_suffix(".log")))
    process.start()
    return process


def wait_for_files(process: multiprocessing.process.BaseProcess, out: Path) -> float:
    """Wait until the first file appears; when that was."""
    while process.is_alive() and not (out.exists() and any(out.iterdir())):
        time.sleep(0.001)
    return time.monotonic()


def killed(process: multiprocessing.process.BaseProcess, out: Path, moment: float) -> bool:
    """Kill a run so many seconds after its first file appeared; False where it ended before."""
    wait_for_files(process, out)
    process.join(moment)
    process.kill()
    process.join()
    return process.exitcode == -9


def finish(process: multiprocessing.process.BaseProcess, out: Path) -> None:
    """Raises SystemExit where a command fails."""
    process.join()
    if process.exitcode:
        raise SystemExit(f"{out} failed:\n{out.with_suffix('.log').read_text()[-2000:]}")


def contents(out: Path) -> dict[str, bytes]:
    """What a folder holds, without the times and what a kill in the middle of a write left, which begins with a dot."""
    names = [path for path in sorted(out.rglob("[!.]*")) if path.is_file() and path.name not in TIMED]
    return {str(path.relative_to(out)): _plain(path) for path in names}


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(data))).encode()
    if path.suffix == ".jsonl":
        return json.dumps([_timeless(json.loads(line)) for line in data.splitlines()]).encode()
    return data


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCKS}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def make_inputs(inputs: Path) -> None:
    """Labels of the toy, an editor, and folders of pictures."""
    import torch

    from ganvas import editors, label, load_generator, load_scorer, sample
    from ganvas.io.images import encode_png, to_bytes

    toy = load_generator("toy")
    data = label(toy, load_scorer("toy"), 600, out=inputs / "labels")
    editors.save(editors.fit("mean_difference", data, toy), inputs / "editor.safetensors")
    pictures = to_bytes(toy.synthesis(sample(toy, 24)))
    for folder, some in (("photos", pictures[:6]), ("pictures", pictures[:, ::2, ::2])):
        (inputs / folder).mkdir()
        for i, picture in enumerate(some):
            (inputs / folder / f"{i}.png").write_bytes(encode_png(torch.as_tensor(picture).contiguous()))


def soak(command: str, seeds: range, folder: Path) -> int:
    """Kill a command once for each seed, let it end, and compare; how many ended otherwise than an unbroken run."""
    inputs, alone = folder / "inputs", folder / command
    began = time.monotonic()
    process = start(command, inputs, alone)
    first = wait_for_files(process, alone)
    finish(process, alone)
    lasted, expected = time.monotonic() - first, contents(alone)
    print(
        f"{command}: {lasted:.1f} s from its first file on, {first - began:.1f} s before; {len(expected)} files",
        flush=True,
    )
    failed = 0
    for seed in seeds:
        out, moment = folder / f"{command}-{seed}", Random(f"{command} {seed}").random() * lasted
        while not killed(start(command, inputs, out), out, moment):  # it had ended before
            shutil.rmtree(out)
            moment /= 2
        there = sum(path.is_file() for path in out.rglob("*"))
        finish(start(command, inputs, out), out)
        found = contents(out)
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        ended = ", ".join(wrong) or "equal"
        print(f"--command {command} --seed {seed}: killed after {moment:.2f} s with {there} files; {ended}", flush=True)
        failed += bool(wrong)
        if not wrong:
            shutil.rmtree(out)
    return failed


def main() -> None:
    """Soak commands; exit with 1 where one came to other bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only this command; repeatable")
    parser.add_argument("--kills", type=int, default=20, help="how often each is killed")
    parser.add_argument("--seed", type=int, help="only the kill of this seed")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="a folder to work in, emptied first")
    told = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(
        ["ganvas.cli", "ganvas.data.label", "ganvas.training.gan.loop", "ganvas.evaluation.report"]
    )
    shutil.rmtree(told.out, ignore_errors=True)
    told.out.mkdir(parents=True)
    make_inputs(told.out / "inputs")
    seeds = range(told.kills) if told.seed is None else range(told.seed, told.seed + 1)
    failed = sum(soak(command, seeds, told.out) for command in told.command or COMMANDS)
    print(f"{failed} runs came to other bytes")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
