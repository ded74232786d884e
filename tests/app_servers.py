"""The web editor served in a process of its own: the toy, an editor of it, and squares that are counted.

    python tests/app_servers.py EDITOR [LOG]

Prints the address. ``LOG`` gets a line for each connection to another machine and each file opened for writing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

HERE = Path(__file__).parent


@contextmanager
def served(editor: Path, log: Path | None = None) -> Iterator[tuple[str, Popen]]:
    """The address, and the process."""
    command = [sys.executable, str(Path(__file__)), str(editor), *([str(log)] if log else [])]
    sources = os.pathsep.join([str(HERE.parent / "src"), str(HERE), os.environ.get("PYTHONPATH", "")])
    with Popen(command, stdout=PIPE, text=True, env={**os.environ, "PYTHONPATH": sources}) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http"), address
            yield address, process
        finally:
            process.terminate()


def _listen(log: str) -> None:
    """Write down who is connected to, and what is written."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, given: tuple) -> None:
        line = ""
        if event == "socket.connect" and isinstance(given[1], tuple):
            line = f"connect {given[1][0]}"
        elif event == "socket.getaddrinfo":
            line = f"look up {given[0]}"
        elif (
            event == "open" and isinstance(given[0], str) and isinstance(given[1], str) and set(given[1]) & set("wax+")
        ):
            line = f"write {given[0]}"
        if line:
            os.write(out, f"{line}\n".encode())

    sys.addaudithook(note)


def write_editor(path: Path) -> Path:
    """A file with an editor of the toy whose directions are the planted ones."""
    from dataclasses import replace

    from planted_truth import disentangled

    from ganvas import editors
    from ganvas.editors.base import LinearEditor, metadata_of

    truth = disentangled()
    about = replace(metadata_of(truth), method="mean_difference", generator_name="toy", kinds=("value",) * 5)
    editors.save(LinearEditor(about, truth.directions), path)
    return path


def counting() -> Any:
    """An editor of the squares that adds them one by one, as they are planted."""
    import planted_counts
    import torch

    from ganvas.app.resources import EditorChoice
    from ganvas.data import gaussianize
    from ganvas.data.probe import Probe
    from ganvas.editors.base import EditorMetadata, LinearEditor, fingerprint
    from ganvas.generators.base import sample
    from ganvas.recipe.model import NamedTool

    squares = planted_counts.SQUARES
    along = squares.along[:, None]
    probe = Probe(along, planted_counts.MOST / 2 + 0.5 - squares.w_avg @ along)
    scores = planted_counts.counts(sample(squares, 200, 1.0, 1_000_000))[:, :1]
    normal = gaussianize.fit(scores + 1e-3 * torch.arange(200)[:, None], ("count",))
    about = EditorMetadata("planted", ("count",), ("count",), squares.fingerprint, "squares", "?", "w", normal, probe)
    editor = LinearEditor(about, along.T.contiguous())
    return EditorChoice(editor, NamedTool("squares/counts", fingerprint(editor)), "planted counts")


def main() -> None:
    """Serve until terminated."""
    if len(sys.argv) > 2:
        _listen(sys.argv[2])
    import planted_counts
    import torch

    from ganvas.app import server
    from ganvas.app.resources import AppResources, ToolSources
    from ganvas.checkpoints.load import load_generator
    from ganvas.scorers import load_scorer

    abouts = {"toy": "planted directions", "squares": "planted counts"}
    makers = {
        "toy": lambda dtype: load_generator("toy", "cpu", getattr(torch, dtype)),
        "squares": lambda dtype: planted_counts.SQUARES,
    }
    judges = {"toy": lambda: load_scorer("toy"), "squares": lambda: planted_counts.JUDGE}
    place = ToolSources(abouts, lambda name, dtype: makers[name](dtype), lambda name: judges[name]())
    shop = AppResources(place, [sys.argv[1]], [counting()])
    # As `ganvas app` does: however it is ended, it cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server.serve(shop, "toy") as address:
        print(address, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
