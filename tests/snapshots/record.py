"""Record snapshots anew, after a change of behaviour that is meant.

python tests/snapshots/record.py NAME...    like cli/edit or 'fits/*'; without a name, --all
python tests/snapshots/record.py --list     their names
python tests/snapshots/record.py --saved    also write saved/ anew: files of the code as it is now, which later code must read
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from snapshots import cases, harness


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if not argument.startswith("--")]
    if "--list" in arguments:
        print(*harness.CASES, sep="\n")
        return
    if "--saved" in arguments:
        cases.save_files(harness.SAVED)
    if not names and "--all" not in arguments:
        sys.exit(__doc__ if "--saved" not in arguments else 0)
    failed = 0
    for case in harness.chosen(names):
        began, before = time.process_time(), Path.cwd()
        with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:
            os.chdir(folder)
            try:
                values = cases.run(case, Path(folder))
            except Exception as error:
                failed += 1
                print(f"{case.name}: {type(error).__name__}: {error}", flush=True)
                continue
            finally:
                os.chdir(before)
        changed = harness.compare(case, values)
        harness.record(case, values)
        told = "as before" if not changed else "; ".join(line.splitlines()[0][:200] for line in changed[:3])
        print(f"{case.name}: {time.process_time() - began:.1f} s of the processor, {told}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
