"""Run the tests marked ``numerics`` as other processors would: with narrower vectors, without AMX, on one thread and on two.

    python tests/numerics.py [PYTEST ARGUMENTS]

The variables are oneDNN's (convolutions), ATen's (everything that torch vectorises itself) and MKL's (products of matrices).
"""

from __future__ import annotations

import os
import subprocess
import sys

import torch

VECTORS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "AVX512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512"},
}
"""Settings by the narrowest vectors of a processor that can have them, as ``torch.backends.cpu`` calls these."""


def main() -> int:
    """How many settings failed."""
    here, failed = torch.backends.cpu.get_cpu_capability(), []
    reach = list(VECTORS).index(here) + 1 if here in VECTORS else 0
    # A processor without x86's vectors has its own way only.
    settings = dict(list(VECTORS.items())[:reach]) or {here: {}}
    for name in VECTORS.keys() - settings.keys():
        print(f"Left out: {name}, which this processor doesn't have.", flush=True)
    for name, variables in settings.items():
        for threads in (1, 2):
            print(f"{name} with {threads} {'thread' if threads == 1 else 'threads'}", flush=True)
            command = [sys.executable, "-m", "pytest", "-m", "numerics and not slow", *sys.argv[1:]]
            if subprocess.run(command, env={**os.environ, **variables, "OMP_NUM_THREADS": str(threads)}).returncode:
                failed.append(f"{name} with {threads}")
    print(f"Failed: {', '.join(failed)}." if failed else "All passed.", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
