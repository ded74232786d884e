"""The web editor served in a process of its own: the toy, an editor of it, and squares that are counted.

    python tests/app_servers.py EDITOR [LOG]

Prints the address. ``LOG`` gets a line for each connection to another machine and each file opened for writing.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class AppSite:
    """A server: its address, its own folder, its editor's file, and the log of what it connects to and writes."""

    address: str
    folder: Path
    editor: Path
    log: Path


@contextmanager
def serve_site(folder: Path) -> Iterator[AppSite]:
    """Serve a toy editor in a process; ``folder`` gets the editor's file, labels, and the log."""
    from planted_truth import TOY

    from ganvas import label
    from ganvas.scorers import load_scorer

    label(TOY, load_scorer("toy"), 400, out=folder / "labels")
    editor, log = write_editor(folder / "mean.safetensors"), folder / "audit.txt"
    with serve_app(editor, log) as (address, process):
        (own,) = Path(tempfile.gettempdir()).glob(f"ganvas-app-{process.pid}-*")
        yield AppSite(address, own, editor, log)


@contextmanager
def serve_app(editor: Path, log: Path | None = None) -> Iterator[tuple[str, Popen]]:
    """Serve the editor in a process; yields the address and the process."""
    command = [sys.executable, str(Path(__file__)), str(editor), *([str(log)] if log else [])]
    sources = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS), os.environ.get("PYTHONPATH", "")])
    with Popen(command, stdout=PIPE, text=True, env={**os.environ, "PYTHONPATH": sources}) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http"), address
            yield address, process
        finally:
            process.terminate()


def _log_events(log: str) -> None:
    """Log whom the process connects to, and what it writes."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def log_event(event: str, args: tuple) -> None:
        line = ""
        if event == "socket.connect" and isinstance(args[1], tuple):
            line = f"connect {args[1][0]}"
        elif event == "socket.getaddrinfo":
            line = f"look up {args[0]}"
        elif event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            line = f"write {args[0]}"
        if line:
            os.write(out, f"{line}\n".encode())

    sys.addaudithook(log_event)


def write_editor(path: Path) -> Path:
    """Write a file with an editor of the toy whose directions are the planted ones."""
    from dataclasses import replace

    from planted_truth import disentangled

    from ganvas import editors
    from ganvas.editors.base import LinearEditor, collect_metadata

    truth = disentangled()
    metadata = replace(collect_metadata(truth), method="mean_difference", generator_name="toy", kinds=("value",) * 5)
    editors.save(LinearEditor(metadata, truth.directions), path)
    return path


def make_counting_editor() -> Any:
    """Return an editor of the squares that adds them one by one, as they are planted."""
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
    metadata = EditorMetadata(
        "planted", ("count",), ("count",), squares.fingerprint, "squares", "?", "w", normal, probe
    )
    editor = LinearEditor(metadata, along.T.contiguous())
    return EditorChoice(editor, NamedTool("squares/counts", fingerprint(editor)), "planted counts")


def main() -> None:
    """Serve until terminated."""
    if len(sys.argv) > 2:
        _log_events(sys.argv[2])
    import planted_counts
    import torch
    from app_photos import find_planted_faces

    from ganvas.app import compare, photographs, server
    from ganvas.app.resources import AppResources, ToolSources
    from ganvas.checkpoints.load import load_generator
    from ganvas.scorers import load_scorer

    photographs.find_faces = find_planted_faces
    labels = Path(sys.argv[1]).with_name("labels")
    compare.find_shipped_labels = lambda generator, scorer: labels if generator == "toy" else labels / "none"
    descriptions = {"toy": "planted directions", "squares": "planted counts"}
    makers = {
        "toy": lambda dtype: load_generator("toy", "cpu", getattr(torch, dtype)),
        "squares": lambda dtype: planted_counts.SQUARES,
    }
    judges = {"toy": lambda: load_scorer("toy"), "squares": lambda: planted_counts.JUDGE}
    sources = ToolSources(descriptions, lambda name, dtype: makers[name](dtype), lambda name: judges[name]())
    resources = AppResources(sources, [sys.argv[1]], [make_counting_editor()])
    # As `ganvas app` does: however it is ended, it cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    storage = Path(sys.argv[1]).with_name("storage")
    with server.serve(resources, "toy", config=server.ServerConfig(storage=storage)) as address:
        print(address, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    # The folder is deleted: the interpreter's own end would take seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
