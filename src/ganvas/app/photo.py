"""A photograph becomes a face of the generator: aligned, inverted with progress, then a code like any other.

It runs beside the worker, one photograph at a time: others go on editing meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ganvas.app import drawing
from ganvas.app.desk import Desk
from ganvas.app.hands import Hands, message
from ganvas.app.turns import Superseded
from ganvas.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.generator import Generator
from ganvas.types import Images, WPlus

OFTEN = 0.5
"""Seconds between two words of progress."""
STEPS = 100
"""Of optimisation at most."""


def read(path: Path, generator: Generator) -> Images:
    """The largest face of a photograph, aligned. Raises GanvasError for a file that is no picture, or shows no face."""
    from ganvas.inversion import align, read_photo

    return align(read_photo(path), generator.resolution, most=1)[0].picture


def invert(face: Images, generator: Generator, within: Distribution, watch: Callable[[int, int], Any]) -> WPlus:
    """The code whose picture looks like the face, (1, num_ws, w_dim)."""
    from ganvas.inversion import Options
    from ganvas.inversion import invert as search

    return search(face, generator, options=Options(steps=STEPS), distribution=within, watch=watch).ws


class Photos:
    """Handlers of uploads."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self._one = asyncio.Semaphore(1)

    async def upload(self, path: str | None, desk: Desk | None) -> AsyncIterator[list[Any]]:
        """Values for the upload, the words of progress, then what ``Hands.pickers`` and ``show`` give."""
        rest = [gr.skip()] * (6 + 7 + len(self.hands.names))
        if not path:
            return
        try:
            mine = self.hands.desk(desk)
            yield [gr.skip(), _words("Waiting for its turn …"), *rest]
            async with self._one:
                network, within = await self.hands.ask(mine, lambda: self._tools(mine))
                yield [gr.skip(), _words("Looking for a face …"), *rest]
                face = await asyncio.to_thread(_read_once, Path(path), network)
                steps = [0, STEPS]
                found = asyncio.create_task(asyncio.to_thread(invert, face, network, within, _watch(steps)))
                while not (await asyncio.wait([found], timeout=OFTEN))[0]:
                    yield [gr.skip(), _words(f"Searching for its code: step {steps[0]} of {steps[1]} at most"), *rest]
            scene = await self.hands.ask(
                mine, lambda: drawing.of_codes(self.hands.shop, mine.scene, found.result(), self.hands.files_of(mine))
            )
            mine.keep()
            stale = mine.look(scene)
            shown = [*self.hands.pickers(mine), *await self.hands.show(mine, stale)]
            yield [
                None,
                _words("Here it is, with its code: edit it like any other face. The photo is deleted."),
                *shown,
            ]
        except Superseded:
            yield [None, _words("Another face was chosen meanwhile; the photo is deleted."), *rest]
        except GanvasError as error:
            raise message(error) from None
        finally:
            Path(path).unlink(missing_ok=True)

    def _tools(self, desk: Desk) -> tuple[Generator, Distribution]:
        bench = self.hands.shop.bench(desk.scene)
        return bench.generator, bench.within


def _watch(steps: list[int]) -> Callable[[int, int], Any]:
    def watch(done: int, total: int) -> None:
        steps[:] = [done, total]

    return watch


def _read_once(path: Path, generator: Generator) -> Images:
    """The face; the file is deleted whatever is in it."""
    try:
        return read(path, generator)
    except GanvasError as error:
        raise GanvasError(str(error).replace(str(path), path.name)) from None
    finally:
        path.unlink(missing_ok=True)


def _words(text: str) -> str:
    return f"<p role='status'>{escape(text)}</p>"
