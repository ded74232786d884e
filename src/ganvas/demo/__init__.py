"""The demo: edited faces and counted digits from shipped labels in some minutes, on an HTML page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ganvas import __version__, editors
from ganvas.data.dataset import LatentDataset
from ganvas.data.label_files import find_shipped_labels, load_labels
from ganvas.data.pca import PCA, fit_pca
from ganvas.demo import counts, plots
from ganvas.demo.counts import CountStripConfig
from ganvas.editors import compact
from ganvas.editors.compact import CompactEditor
from ganvas.evaluation.pages import PageSection, render_page
from ganvas.evaluation.papers import ATTRIBUTES
from ganvas.evaluation.success import LEADING_COMPONENTS, SuccessProtocol, build_success_table, run_success
from ganvas.generators import find_card
from ganvas.io.files import atomic_write, write_text
from ganvas.io.images import encode_png
from ganvas.progress import show_count, track
from ganvas.recipe.files import check_output, draw_sheet
from ganvas.recipe.model import EditStep, FromConditions, FromSeed, NamedTool, Range, Recipe, Start
from ganvas.recipe.refinement import refine_recipe
from ganvas.recipe.rendering import Tools, limit_to_regions, load_editor_for, load_tools
from ganvas.recipe.sheet import Sheet
from ganvas.scorers import find_scorer, load_scorer
from ganvas.types import DtypeChoice

QUICK = SuccessProtocol(n=32)
"""The evaluation's protocol on fewer faces."""
EDITOR_FILE = "compact.safetensors"
TITLE = "ganvas: named, independent controls"
PAPER_NAME = "Lesné, Gousseau, Ladjal and Newson, a compact semantic latent space for disentangled editing, 2023"


@dataclass(frozen=True)
class DemoConfig:
    """What the demo draws; the defaults are for ``ffhq``."""

    people: tuple[int, ...] = (28, 75, 0, 79, 35, 37, 1)
    """The seeds of the first picture: several ages and skin colours."""
    edits: tuple[Mapping[str, float], ...] = (
        {"Smiling": 1.5},
        {"Eyeglasses": 1.5},
        {"Age": 1.2},
        {"Hair_Lightness": 1.5},
        {"Bangs": 1.5},
        {"Wearing_Hat": 1.5},
    )
    """The changes of the first picture, one a column."""
    corrections: int = 3
    """How often the changes of the first picture are corrected by what the scorer reads; see ``refine_changes``."""
    attributes: tuple[str, ...] = ATTRIBUTES
    values: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    """The values that the grid sets each attribute to, in standard deviations."""
    seeds: tuple[int, ...] = (7, 21)
    """The faces of the grid."""
    several: tuple[Mapping[str, float], ...] = (
        {},
        {"Eyeglasses": 0.7},
        {"Smiling": 1.2},
        {"Young": -1.2},
        {"Eyeglasses": 0.7, "Smiling": 1.2},
        {"Eyeglasses": 0.7, "Young": -1.2},
        {"Eyeglasses": 0.7, "Smiling": 1.2, "Young": -1.2},
    )
    """Values that the first face is set to, one edit a picture."""
    conditions: tuple[Mapping[str, Range], ...] = (
        {"Eyeglasses": (0.7, None)},
        {"Smiling": (0.5, None), "Young": (None, -0.7)},
        {"Male": (None, -0.5), "Smiling": (None, -0.5)},
        {"Male": (0.2, None), "Eyeglasses": (0.7, None)},
    )
    samples: int = 8
    """The number of faces for each condition."""
    protocol: SuccessProtocol = QUICK
    fit: Mapping[str, Any] = field(default_factory=dict)
    """Options of the compact method."""
    size: int = 256
    psi: float = 0.7
    counting: CountStripConfig | None = field(default_factory=CountStripConfig)
    """The strip of counts, with its own generator; None leaves it out."""


SMALL = DemoConfig(
    people=(28,),
    edits=({"Smiling": 1.5}, {"Age": 1.2}),
    corrections=1,
    values=(-1.0, 0.0, 1.0),
    seeds=(7,),
    several=({}, {"Eyeglasses": 0.7}, {"Eyeglasses": 0.7, "Smiling": 1.2}),
    conditions=({"Smiling": (0.5, None)},),
    samples=2,
    protocol=SuccessProtocol(n=2),
    fit={"width": 32, "epochs": 2},
    counting=CountStripConfig(editor="multimnist/cardinality", rows=1),
)
"""All parts of the demo with as few pictures as show that it works, and an editor that is hardly trained."""


def run_demo(
    out: str | Path,
    generator: str = "ffhq",
    device: str = "cpu",
    dtype: DtypeChoice = "auto",
    labels: str | Path | None = None,
    config: DemoConfig = DemoConfig(),
) -> Path:
    """Fit the compact editor on the shipped labels (or ``labels``), draw everything into ``out``, and return its index.html.

    The page is written once the labels are loaded, and again after each stage. A second run overwrites the files of the first,
    but continues its success measurement where it stopped.
    Raises GanvasError where ``out`` can't be written, and for labels that don't exist or are another generator's.
    """
    out = Path(out)
    check_output(out / "index.html", (".html",))
    page = _DemoPage(out / "index.html", n_stages=8 + (config.counting is not None))
    with page.run_stage("Loading the generator, its scorer and the labels"):
        tools = load_tools(generator, dtype, device)
        scorer = load_scorer(find_card(generator).scorer).to(tools.generator.device)
        data = load_labels(labels or find_shipped_labels(generator, scorer.name), tools.generator)
        page.about, page.made_by = _describe_run(data, generator), f"labels by {data.scorer.split(':')[0]}"
    with page.run_stage(f"Fitting the compact editor on {len(data):,} labelled faces, and measuring it"):
        with show_count("  steps") as progress:
            editor = compact.fit(data, tools.generator, progress=progress, **config.fit)
        editors.save(editor, out / EDITOR_FILE)
    named = NamedTool(EDITOR_FILE, editors.fingerprint(editor))
    drawer = _SectionDrawer(out, Tools(tools.generator, tools.dtype, editor, named), config)
    with page.run_stage("Editing people"):
        page.sections.append(replace(drawer, tools=_load_shipped_tools(drawer.tools)).draw_people())
    with page.run_stage("Editing one attribute at a time"):
        page.sections.append(drawer.draw_grid())
    with page.run_stage("Editing several attributes at once"):
        page.sections.append(drawer.draw_several())
    with page.run_stage("Drawing faces by conditions"):
        page.sections.append(drawer.draw_samples())
    with page.run_stage(f"Measuring success on {config.protocol.n} faces an attribute"):
        results = run_success(tools.generator, scorer, editor, out / "success", config.attributes, config.protocol)
        page.sections += [_success_section(results), drawer.draw_variation(results)]
        page.sections.append(_fit_section(editor, config.attributes))
    with page.run_stage("Showing the space that the editor works in"):
        pca = fit_pca(data.w, min(LEADING_COMPONENTS, data.w.shape[1]))
        page.sections += [drawer.draw_projection(pca), drawer.draw_elbow(pca)]
    if config.counting is not None:
        with page.run_stage("Adding and removing objects"):
            page.sections.append(
                counts.draw_count_strip(out, config.counting, lambda items: track(items, "  pictures"))
            )
    page.console.print(f"Done in {page.seconds:.0f} s: open {page.path}")
    return page.path


def _load_shipped_tools(tools: Tools) -> Tools:
    """Load the editor of the generator's card, the best there is; the same tools where it has none."""
    name = find_card(tools.generator.name).editor
    if not name:
        return tools
    editor, named = load_editor_for(tools.generator, name)
    return replace(tools, editor=editor, editor_name=named)


def _describe_run(data: LatentDataset, generator: str) -> str:
    return (
        f"{generator}: the people below were edited by the editor that ships, all other faces by the compact editor that was"
        f" fitted a moment ago on {len(data):,} faces that ganvas itself drew and scored ({PAPER_NAME}). Numbers count"
        " standard deviations (σ) of an attribute over random faces. Each picture carries its recipe:"
        f" `ganvas render grid.png --editor {EDITOR_FILE} --out again.png`, in this page's folder, draws it again."
    )


@dataclass
class _DemoPage:
    """The page at ``path``, which is written after each of ``n_stages`` stages with the sections that there are."""

    path: Path
    n_stages: int
    about: str = ""
    made_by: str = ""
    sections: list[PageSection] = field(default_factory=list)
    stages: list[tuple[str, float]] = field(default_factory=list)
    """Titles of the finished stages, and the seconds that they took."""
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.stages)

    @contextmanager
    def run_stage(self, title: str) -> Iterator[None]:
        """Print the stage's number and title, measure how long it takes, and write the page."""
        start = time.monotonic()
        self.console.print(f"{len(self.stages) + 1} of {self.n_stages}: {title} …", soft_wrap=True)
        yield
        self.stages.append((title, time.monotonic() - start))
        write_text(self.path, render_page(TITLE, self.about, self.sections, self._format_end()))
        if len(self.stages) == 1:
            self.console.print(f"The pictures appear one after another in {self.path}", soft_wrap=True)

    def _format_end(self) -> str:
        """Format the page's last lines."""
        times = "; ".join(f"{title}: {seconds:.0f} s" for title, seconds in self.stages)
        left = self.n_stages - len(self.stages)
        more = (
            f" Not finished: {left} of {self.n_stages} stages are still to come. Load the page again." if left else ""
        )
        return f"ganvas {__version__}, {self.made_by}. {times}; {self.seconds:.0f} s in all.{more}"


@dataclass(frozen=True)
class _SectionDrawer:
    """Draws the demo's pictures into ``out``, each with its section of the page."""

    out: Path
    tools: Tools
    config: DemoConfig

    def draw_people(self) -> PageSection:
        """Draw people × edits."""
        edits = ((), *((EditStep(shift=changes),) for changes in self.config.edits))
        people = [FromSeed(seed, self.config.psi) for seed in self.config.people]
        pictures = [self._make_recipe(person, edit) for person in people for edit in edits]
        if scorer := find_scorer(self.tools.required_editor.scorer):
            scorer = scorer.to(self.tools.generator.device)
            corrections = self.config.corrections
            pictures = [
                refine_recipe(picture, self.tools, scorer, corrections)[0] if picture.edits else picture
                for picture in track(pictures, "  refining")
            ]
        titles = [
            "\n".join(f"{name} {change:+g} σ" for name, change in changes.items()) for changes in self.config.edits
        ]
        text = (
            "A row is a person (the seed beside it), a column an edit. Only what the column names should change: edits are kept"
            " to where their attributes show, and changes are corrected so that the scorer reads what was asked for."
        )
        rows = [str(seed) for seed in self.config.people]
        return self._draw_sheet("People, edited", text, "people.png", pictures, rows, ["as drawn", *titles])

    def draw_grid(self) -> PageSection:
        """Draw faces × values, attribute by attribute (figure 3 of the paper)."""
        rows, pictures = [], []
        for name in self.config.attributes:
            for seed in self.config.seeds:
                rows.append(f"{name}, {seed}")
                plain = self._seed_recipe(seed)
                pictures += [plain, *(self._seed_recipe(seed, {name: value}) for value in self.config.values)]
        columns = ("as drawn", *(f"set to {value:g} σ" for value in self.config.values))
        text = (
            "Each row is one face (its seed beside it). The first column is the face as the generator draws it; in the"
            " others one attribute is set to a value, from rare to rare (0 σ is the median face's), and everything else should"
            " stay."
        )
        return self._draw_sheet("One attribute at a time", text, "grid.png", pictures, rows, columns)

    def draw_several(self) -> PageSection:
        """Draw one face, with several attributes in one edit."""
        seed, edits = self.config.seeds[0], self.config.several
        columns = ["\n".join(f"{a} = {v:g}" for a, v in values.items()) or "as drawn" for values in edits]
        text = (
            "One face. The editor moves any number of attributes in a single step, so that none undoes another;"
            " each is set to the value above, in σ."
        )
        return self._draw_sheet(
            "Several at once", text, "several.png", [self._seed_recipe(seed, v) for v in edits], [str(seed)], columns
        )

    def draw_samples(self) -> PageSection:
        """Draw faces whose codes meet conditions."""
        count = self.config.samples
        rows = ["\n".join(_format_condition(a, r) for a, r in where.items()) for where in self.config.conditions]
        pictures = [
            self._make_recipe(FromConditions(where, seed)) for where in self.config.conditions for seed in range(count)
        ]
        text = (
            "New faces that meet the conditions at the left (in σ): what the conditions leave open is drawn from its own"
            " distribution given them, so the faces differ in all else."
        )
        return self._draw_sheet(
            "Faces drawn by conditions", text, "samples.png", pictures, rows, [str(seed) for seed in range(count)]
        )

    def draw_variation(self, results: dict[str, Any]) -> PageSection:
        """Draw equation (7) as a heat map."""
        text = (
            "Each row edits one attribute until the scorer is sure of it; colours say how much the probability of every"
            " attribute changed on average over the edits that succeeded (equation 7). The ideal is one coloured cell a"
            " row: the attribute's own."
        )
        return self._save_picture("What else changes", text, "variation.png", plots.plot_variation(results))

    def draw_projection(self, pca: PCA) -> PageSection:
        """Draw figure 1: faces beside their projections."""
        faces = partial(track, title="  faces")
        pixels = plots.draw_projection(self.tools.generator, pca, self.config.seeds, self.config.size, faces)
        n_components = len(pca.components)
        text = (
            f"Figure 1 of the paper: faces (psi 1) beside the same faces with only the first {n_components} principal components"
            " of their codes. The editor works in these, and carries the rest of the code along unchanged."
        )
        title = f"{n_components} of {len(pca.variances)} dimensions are nearly enough"
        return self._save_picture(title, text, "projection.png", encode_png(pixels))

    def draw_elbow(self, pca: PCA) -> PageSection:
        """Plot the variance held by the first components."""
        n_components = len(pca.components)
        share = f"{pca.share[n_components - 1]:.0%}"
        text = (
            f"The first {n_components} principal components hold {share} of the variance of W (the paper: almost 80 %)."
        )
        return self._save_picture("The elbow", text, "elbow.png", plots.plot_elbow(pca))

    def _save_picture(self, title: str, text: str, name: str, data: bytes) -> PageSection:
        with atomic_write(self.out / name) as file:
            file.write_bytes(data)
        return PageSection(title, text, name)

    def _seed_recipe(self, seed: int, values: Mapping[str, float] | None = None) -> Recipe:
        return self._make_recipe(FromSeed(seed, self.config.psi), (EditStep(set=values),) if values else ())

    def _make_recipe(self, start: Start, edits: tuple[EditStep, ...] = ()) -> Recipe:
        return limit_to_regions(
            Recipe(self.tools.generator_name, start, self.tools.dtype, None, self.tools.editor_name, edits)
        )

    def _draw_sheet(
        self, title: str, text: str, name: str, pictures: Sequence[Recipe], rows: Sequence[str], columns: Sequence[str]
    ) -> PageSection:
        sheet = Sheet("grid", tuple(pictures), tuple(rows), tuple(columns), self.config.size)
        draw_sheet(sheet, self.out / name, self.tools, track=lambda faces: track(faces, "  faces"))
        return PageSection(title, text, name)


def _format_condition(name: str, interval: Range) -> str:
    low, high = interval
    if low is not None and high is not None:
        return f"{low:g} < {name} < {high:g}" if low < high else f"{name} = {low:g}"
    return f"{name} > {low:g}" if low is not None else f"{name} < {high:g}"


def _success_section(results: dict[str, Any]) -> PageSection:
    protocol = results["protocol"]
    text = (
        f"The paper's protocol on {protocol['n']} fresh faces for each attribute: a face with p < 0.5 is edited with"
        f" growing strength until the scorer gives p > {protocol['target']:g}; Young goes from p > 0.5 to"
        " p < 0.1, towards old."
        " Strength stops where the code would leave the distribution of W, measured by its Mahalanobis distance; what has"
        " not arrived by then is a failure. Brackets are 95 % intervals. `ganvas success` does the same on 256."
    )
    return PageSection("How often it works", text, table=build_success_table(results))


def _fit_section(editor: CompactEditor, attributes: Sequence[str]) -> PageSection:
    """Return the section with the fit's measures on codes that it wasn't fitted on."""
    report = editor.report
    rows = [
        (name, f"{report['correlation'][name]:.2f}", f"{report['response'][name]:.2f}")
        for name in attributes
        if name in report["correlation"]
    ]
    text = (
        f"On {report['held_out']:,} codes that the fit didn't train on: the auto-encoder reconstructs"
        f" {report['reconstructed']:.1%} of the variance of the components; the mean |correlation| between different"
        f" attributes' codes is {report['codes_off_diagonal']:.3f}, that of the labels {report['labels_off_diagonal']:.3f}."
        " The table has the correlation of each attribute's code with its label, and how far a change of 1 moves the"
        " attribute, as read by the labels' probe."
    )
    return PageSection("What the editor learned", text, table=[("attribute", "correlation", "response"), *rows])
