"""The page's components in their places; ``event_wiring`` connects them to handlers, ``static`` has style and scripts.

A bar at the top; the picture, always whole in view, in the middle; the controls in a column of their own that scrolls; a
drawer for experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal

import gradio as gr

from ganvas.app.counting import MAX_BATCH
from ganvas.app.rendering import ALL_ROWS, MIXED_PARTS
from ganvas.app.request_checks import RECIPE_SUFFIXES

TITLE = "ganvas"
SESSION_SECONDS = 12 * 3600.0
"""Seconds without a new picture after which a session ends."""
STATE_KEY = "ganvas"
"""The key of the page's state in the browser's storage."""


def read_static(name: str) -> str:
    """Read a file of the page."""
    return files("ganvas.app").joinpath("static", name).read_text(encoding="utf-8")


class Page:
    """The page's components, laid out inside the current ``gr.Blocks``.

    Args:
        generators: (description, name) of each.
        secret: With which the browser's state is encrypted.
        delete_session: Called with a session that has ended.
    """

    def __init__(
        self,
        generators: Sequence[tuple[str, str]],
        secret: str,
        delete_session: Callable[[Any], None] = lambda session: None,
    ) -> None:
        self.session = gr.State(None, time_to_live=SESSION_SECONDS, delete_callback=delete_session)
        self.remembered = gr.BrowserState(None, storage_key=STATE_KEY, secret=secret)
        with gr.Sidebar(open=False, label="For experts", width=400, elem_id="drawer") as self.drawer:
            self._build_drawer(generators)
        with gr.Row(elem_id="bar"):
            gr.HTML(f"<h1 class='gv-title'>{TITLE}</h1>", padding=False)
            self.new = _build_button("New", "new")
            self.surprise = _build_button("Surprise me", "surprise")
            self.undo = _build_button("Undo", "undo", interactive=False)
            self.redo = _build_button("Redo", "redo", interactive=False)
            self.reset = _build_button("Reset", "reset", interactive=False)
            self.hold = _build_button("Hold for the original", "hold")
            self.pin = _build_button("Pin", "pin")
            self.save = _build_button("Save …", "save", variant="primary")
        with gr.Row(elem_id="work"):
            with gr.Column(elem_id="canvas"):
                self._build_start()
                with gr.Column(visible=False, elem_id="shown") as self.shown:
                    self._build_picture()
            with gr.Column(elem_id="controls"), gr.Tabs(selected="faces", overflow_behavior="wrap") as self.tabs:
                with gr.Tab("Edit", id="edit") as edit_tab:
                    self._build_controls()
                with gr.Tab("Gallery", id="faces") as faces_tab:
                    self._build_face_picker()
                with gr.Tab("History", id="history") as history_tab:
                    self.steps = _build_choices("Your steps, the first one first", "steps")
                    self.pinned = _build_gallery("Pinned, side by side", 2, "pinned", visible=False)
                with gr.Tab("Save and share", id="take") as take_tab:
                    self._build_downloads()
        self.control_tabs = (edit_tab, faces_tab, history_tab, take_tab)

    def _build_start(self) -> None:
        with gr.Column(elem_id="start") as self.start:
            self.drop = gr.Image(
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                label="A photograph with a face",
                show_label=False,
                placeholder="# Drop a photograph here\nor click to choose one.",
                elem_id="drop",
                buttons=[],
            )
            self.samples = _build_choices("None at hand? Try this, or a face of the list", "samples")
            gr.HTML(
                "Photographs stay on the machine that serves this page, for a day, so that a reload loses nothing.",
                padding=False,
            )
        with gr.Column(visible=False, elem_id="chooser") as self.chooser:
            self.outlined = _build_choices("Whose face? Click it.", "faces-in-photo")
        with gr.Column(elem_id="refining"):
            self.progress = gr.HTML(elem_id="progress", padding=False)
            self.stop = _build_button("Stop: it is near enough", "stop", visible=False)

    def _build_picture(self) -> None:
        with gr.Tabs():
            with gr.Tab("Picture") as picture_tab:
                self.picture = gr.Image(
                    show_label=False, interactive=False, buttons=["fullscreen"], elem_id="picture", container=False
                )
                self.original = gr.HTML(elem_id="original", padding=False)
                self.painter = gr.HTML(
                    None,
                    html_template=read_static("painter.html"),
                    js_on_load=read_static("painter.js"),
                    apply_default_css=False,
                    padding=False,
                    elem_id="painter",
                )
            with gr.Tab("Before / after") as wipe_tab:
                self.wipe = gr.ImageSlider(
                    label="Before and after", interactive=False, buttons=[], elem_id="wipe", max_height=1024
                )
            with gr.Tab("Strip") as strip_tab:
                self.strip = _build_gallery("The edit at five strengths", 3, "strip")
        self.picture_tabs = (picture_tab, wipe_tab, strip_tab)
        with gr.Row(elem_id="under"):
            with gr.Column():
                self.likeness = gr.HTML(elem_id="likeness", padding=False)
                self.status = gr.HTML(elem_id="status", padding=False)
            with gr.Column():
                self.lock = gr.Checkbox(
                    False,
                    label="Keep the same person",
                    info="Edits get no stronger than that.",
                    visible=False,
                    elem_id="lock",
                    container=False,
                )

    def _build_controls(self) -> None:
        """Build the presets, the region, counting, and the panel of sliders."""
        self.no_editor = gr.Markdown(
            "There is no editor for this generator: its faces can be drawn, but not edited.", visible=False
        )
        self.presets = _build_choices("One tap", "presets")
        with gr.Group(visible=False) as self.counting:
            self.counted = gr.Dropdown(
                [], label="What is counted", info="What the two buttons add to or take away.", min_width=120
            )
            with gr.Row(elem_classes="gv-buttons"):
                self.minus = _build_button("− one", "minus")
                self.plus = _build_button("+ one", "plus")
            self.count = gr.HTML(elem_id="count", padding=True)
            with gr.Row(elem_id="batching"):
                self.batch_size = gr.Number(
                    16,
                    label="How many such pictures",
                    info="From this seed on, changed as this one is, with what is counted in each.",
                    precision=0,
                    minimum=1,
                    maximum=MAX_BATCH,
                    elem_id="batch-size",
                )
                self.make_batch = _build_button("Make them", "make-batch")
                self.batch = gr.DownloadButton(
                    "Pictures (ZIP)", size="sm", visible=False, elem_id="batch", min_width=100
                )
        with gr.Row(elem_id="where"):
            self.region = gr.Dropdown(
                [],
                label="Change only here",
                info="Or click it in the picture. All else stays.",
                value=None,
                visible=False,
                elem_id="region",
                min_width=160,
            )
            # The painter's own script begins when it is clicked.
            self.paint = _build_button("Paint …", "paint")
        self.panel = gr.HTML(
            None,
            html_template=read_static("sliders.html"),
            js_on_load=read_static("sliders.js"),
            apply_default_css=False,
            padding=False,
            elem_id="panel",
        )
        with gr.Column(elem_id="exactness"):
            self.exact = _build_button("Make it exact", "exact")
            gr.HTML(
                "Corrects the edit by its picture, until what it shows is read as the sliders ask: some seconds.",
                padding=False,
                elem_classes="gv-help",
            )
        with gr.Accordion("Save this look", open=False, elem_id="saving"):
            self.preset_name = gr.Textbox(
                label="Its name",
                info="It joins the pictures of *One tap*, in this browser.",
                max_length=40,
                elem_id="preset-name",
            )
            with gr.Row(elem_classes="gv-buttons"):
                self.save_preset = _build_button("Save the look", "save-preset")
                self.delete_preset = _build_button("Delete the look of that name", "delete-preset")
        with gr.Accordion("A slider of your own", open=False, visible=False, elem_id="own") as self.own:
            self.examples = gr.HTML(
                None,
                html_template=read_static("own.html"),
                js_on_load=read_static("own.js"),
                apply_default_css=False,
                padding=False,
                elem_id="examples",
            )
            self.more_examples = _build_button("More faces", "more-examples")
            self.learned = gr.HTML(elem_id="learned", padding=False)
        with gr.Accordion("Explore", open=False, elem_id="explore") as self.explore:
            self.method = gr.Radio(
                [("SeFa", "sefa"), ("GANSpace", "ganspace")],
                value="sefa",
                label="What varies most, found by",
                info="SeFa reads the generator's weights, GANSpace its codes. A slider with a name joins the others.",
                elem_id="method",
            )
            self.components = gr.HTML(
                None,
                html_template=read_static("sliders.html"),
                js_on_load=read_static("sliders.js"),
                apply_default_css=False,
                padding=False,
                elem_id="components",
            )
            self.next_components = _build_button("Next six", "next-components")
        self.sample = gr.Button("Draw such pictures", visible=False, elem_id="sample")

    def _build_face_picker(self) -> None:
        self.gallery = _build_choices("Pictures to choose from", "gallery")
        with gr.Row(elem_classes="gv-buttons"):
            self.earlier = _build_button("Earlier ones", "earlier")
            self.later = _build_button("More", "more")
            self.similar = _build_button("More like this", "alike")
        with gr.Accordion("Mix with another picture", open=False, elem_id="mixing"):
            self.other_seed = gr.Number(
                1,
                label="The other picture",
                info="Its seed, which is the number below a picture.",
                precision=0,
                elem_id="other-seed",
            )
            self.parts = gr.CheckboxGroup(
                list(MIXED_PARTS),
                value=["Colours"],
                label="What comes from it",
                info="All else stays.",
                elem_id="parts",
            )
            self.mix = _build_button("Mix", "mix")
        self.visited = _build_choices("Where you have been", "visited")

    def _build_downloads(self) -> None:
        with gr.Row(elem_classes="gv-buttons"):
            self.photo_file = gr.DownloadButton(
                "The whole photograph", size="sm", variant="primary", visible=False, elem_id="photo-file", min_width=100
            )
            self.png = gr.DownloadButton("Picture (PNG)", size="sm", elem_id="png", min_width=100)
            self.json = gr.DownloadButton("Recipe (JSON)", size="sm", elem_id="json", min_width=100)
            self.archive = gr.DownloadButton("All of it (ZIP)", size="sm", elem_id="archive", min_width=100)
            self.editor_file = gr.DownloadButton(
                "The editor with your slider", size="sm", visible=False, elem_id="editor-file", min_width=100
            )
            self.make_film = _build_button("Make a film of the edit", "make-film")
            self.film = gr.DownloadButton("Film (MP4)", size="sm", visible=False, elem_id="film", min_width=100)
            self.load = gr.UploadButton(
                "Open a recipe …", size="sm", file_types=list(RECIPE_SUFFIXES), elem_id="load", min_width=100
            )
        self.link = gr.Textbox(
            label="A link to this picture",
            info="Whoever runs this page opens the picture with it.",
            buttons=["copy"],
            interactive=False,
            max_lines=2,
            elem_id="link",
        )
        with gr.Accordion("For programmers", open=False, elem_id="programs"):
            self.command = _build_code("On the command line", "shell", "command")
            self.python = _build_code("In Python", "python", "python")

    def _build_drawer(self, generators: Sequence[tuple[str, str]]) -> None:
        with gr.Tabs():
            with gr.Tab("Setup") as setup_tab:
                self.generator = gr.Dropdown(
                    list(generators),
                    label="Generator",
                    info="What draws the pictures.",
                    value=None,
                    elem_id="generator",
                )
                self.editor = gr.Dropdown(
                    [],
                    label="Editor",
                    info="What changes them: each has its own sliders.",
                    value=None,
                    elem_id="editor",
                )
                self.psi = gr.Slider(
                    0,
                    1.2,
                    0.7,
                    step=0.05,
                    label="Variety",
                    info="Of the pictures to choose from. Less: usual ones with fewer flaws. More: rarer ones.",
                    buttons=[],
                    elem_id="psi",
                )
                self.seed = gr.Number(
                    0,
                    label="First seed",
                    info="Each seed is the number of one picture.",
                    precision=0,
                    minimum=0,
                    maximum=2**32 - 1,
                    elem_id="seed",
                )
                self.rows = gr.Dropdown(
                    [("All", ALL_ROWS), *((name, name) for name in MIXED_PARTS)],
                    label="What sliders change",
                    info="All of the picture's code, or the rows of it that draw one part.",
                    value=ALL_ROWS,
                    elem_id="rows",
                )
            with gr.Tab("What moved") as moved_tab:
                self.chart = gr.HTML("<p>Comparing both pictures …</p>", elem_id="chart", padding=False)
            with gr.Tab("Compare") as compare_tab:
                self._build_comparison()
        self.drawer_tabs = (setup_tab, moved_tab, compare_tab)

    def _build_comparison(self) -> None:
        gr.Markdown(
            "The same face edited by several methods, each at the strength at which the scorer reads the same change."
        )
        self.attribute = gr.Dropdown(
            [], label="Attribute", info="What each method changes.", elem_id="compare-attribute"
        )
        self.change = gr.Slider(
            -3,
            3,
            1,
            step=0.25,
            label="Change",
            info="1 is a usual difference between two faces.",
            buttons=[],
        )
        self.methods = gr.CheckboxGroup([], label="Methods", info="Each gets a picture of its own.", elem_id="methods")
        self.compare = gr.Button("Compare", elem_id="compare")
        self.compared = _build_gallery("Unedited, then by each method", 2, "compared")


def _build_button(
    label: str, name: str, variant: Literal["primary", "secondary"] = "secondary", **options: Any
) -> gr.Button:
    """Build a small button."""
    return gr.Button(label, size="sm", variant=variant, elem_id=name, min_width=60, **options)


def _build_choices(label: str, name: str) -> gr.HTML:
    """Build a row of pictures to choose from: buttons, whose number comes with the event ``select``."""
    return gr.HTML(
        "<i></i>",  # with nothing in it, its place would be nobody's
        html_template=f"<h3>{label}</h3><div class='gv-choices'>${{value}}</div>",
        js_on_load="element.addEventListener('click', (event) => { const chosen = event.target.closest('[data-index]');"
        " if (chosen) trigger('select', { index: +chosen.dataset.index }); });",
        apply_default_css=False,
        padding=False,
        elem_id=name,
        elem_classes="gv-chooser",
    )


def _build_gallery(label: str, columns: int, name: str, **options: Any) -> gr.Gallery:
    """Build a gallery of pictures that a click enlarges."""
    return gr.Gallery(
        label=label,
        columns=columns,
        height="auto",
        buttons=[],
        elem_id=name,
        fit_columns=False,
        object_fit="contain",
        **options,
    )


def _build_code(label: str, language: Literal["shell", "python"], name: str) -> gr.Code:
    """Build a box of lines to copy."""
    return gr.Code(
        label=label,
        language=language,
        interactive=False,
        wrap_lines=True,
        lines=1,
        show_line_numbers=False,
        elem_id=name,
        buttons=["copy"],
    )


def make_theme() -> gr.themes.Base:
    """Make the theme, whose fonts are the system's: none is downloaded."""
    fonts, mono_fonts = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=mono_fonts)
    # Darker than Gradio's own, so that small text stands out from what is behind it.
    return theme.set(
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
    )
