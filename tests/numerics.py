"""Run the tests marked ``numerics`` as other processors would: with narrower vectors, without AMX, on one thread and on two.

    python tests/numerics.py [PYTEST ARGUMENTS]

The variables are oneDNN's (convolutions), ATen's (everything that torch vectorises itself) and MKL's (products of matrices).
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import torch

VECTORS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "AVX512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512"},
}
"""Settings by the narrowest vectors of a processor that can have them, as ``torch.backends.cpu`` calls these."""


def marked_files() -> list[str]:
    """Return the files with marked tests; collecting the others takes longer than running these."""
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    return [str(path) for path in files if "mark.numerics" in path.read_text(encoding="utf-8")]


def run_tests(name: str, variables: dict[str, str], threads: int) -> bool:
    """Run the marked tests with these settings, print what pytest says when they have ended, return whether all passed."""
    command = [sys.executable, "-m", "pytest", "-m", "numerics and not slow", *sys.argv[1:], *marked_files()]
    # Threads that wait sleep, as other settings run meanwhile.
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    result = run(command, env=environment, stdout=PIPE, stderr=STDOUT, text=True)
    print(f"{name} with {threads} thread{'s' * (threads > 1)}\n{result.stdout}", flush=True)
    return result.returncode == 0


def main() -> int:
    """Return how many settings failed."""
    here = torch.backends.cpu.get_cpu_capability()
    count = list(VECTORS).index(here) + 1 if here in VECTORS else 0
    # A processor without x86's vectors has its own way only.
    settings = dict(list(VECTORS.items())[:count]) or {here: {}}
    for name in VECTORS.keys() - settings.keys():
        print(f"Left out: {name}, which this processor doesn't have.", flush=True)
    # Its own vectors on one thread are nearly what `make test` has; with AVX-512 there may be AMX, too.
    known = () if here == "AVX512" else ((here, 1),)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        passed = {
            f"{name} with {threads}": pool.submit(run_tests, name, variables, threads)
            for threads in (1, 2)
            for name, variables in settings.items()
            if (name, threads) not in known
        }
    failed = [name for name, future in passed.items() if not future.result()]
    print(f"Failed: {', '.join(failed)}." if failed else "All passed.", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
