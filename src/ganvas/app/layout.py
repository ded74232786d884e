"""The page's components in their places, and its style; ``event_wiring`` connects them to handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gradio as gr

from ganvas.app.attribute_groups import OPEN_GROUPS, group_attributes
from ganvas.app.attribute_words import format_attribute
from ganvas.app.request_checks import PHOTO_SUFFIXES, RECIPE_SUFFIXES
from ganvas.app.slider_scale import SliderScale

TITLE = "ganvas"
SESSION_SECONDS = 12 * 3600.0
"""Seconds without a new picture after which a session ends."""


class Page:
    """The page's components, laid out inside the current ``gr.Blocks``.

    Args:
        generators: (description, name) of each.
        scales: The scale of each attribute with a slider.
        delete_session: Called with a session that has ended.
    """

    def __init__(
        self,
        generators: Sequence[tuple[str, str]],
        scales: Mapping[str, SliderScale],
        delete_session: Callable[[Any], None] = lambda session: None,
    ) -> None:
        self.session = gr.State(None, time_to_live=SESSION_SECONDS, delete_callback=delete_session)
        with gr.Row(elem_classes="gv-top", equal_height=True):
            gr.Markdown(f"# {TITLE}", elem_classes="gv-title")
            self.generator = gr.Dropdown(
                list(generators), label="Generator", info="What draws the pictures.", value=None, min_width=220, scale=2
            )
            self.editor = gr.Dropdown(
                [],
                label="Editor",
                info="What changes them: each has its own sliders.",
                value=None,
                min_width=220,
                scale=2,
            )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_classes="gv-picture"):
                self._build_picture_area()
            with gr.Column(scale=6, min_width=320), gr.Tabs(overflow_behavior="wrap") as self.tabs:
                with gr.Tab("Edit") as edit_tab:
                    self._build_sliders(scales)
                with gr.Tab("Faces", id="faces") as faces_tab:
                    self._build_face_picker()
                with gr.Tab("What moved") as moved_tab:
                    self.chart = gr.HTML("<p>Comparing both pictures …</p>", elem_id="chart")
                with gr.Tab("Compare") as compare_tab:
                    self._build_comparison()
                with gr.Tab("Photo") as photo_tab:
                    self._build_photo()
                with gr.Tab("Save and share") as take_tab:
                    self._build_downloads()
        self.detail_tabs = (edit_tab, faces_tab, moved_tab, compare_tab, photo_tab, take_tab)

    def _build_picture_area(self) -> None:
        with gr.Tabs():
            with gr.Tab("Picture") as picture_tab:
                self.picture = gr.Image(
                    show_label=False, interactive=False, buttons=["fullscreen"], elem_id="picture", container=False
                )
            with gr.Tab("Before / after") as wipe_tab:
                self.wipe = gr.ImageSlider(
                    label="Before and after", interactive=False, buttons=[], elem_id="wipe", max_height=1024
                )
            with gr.Tab("Strip") as strip_tab:
                self.strip = gr.Gallery(
                    label="The edit at five strengths",
                    columns=5,
                    rows=1,
                    height="auto",
                    allow_preview=True,
                    buttons=[],
                    elem_id="strip",
                    object_fit="contain",
                )
        self.picture_tabs = (picture_tab, wipe_tab, strip_tab)
        self.status = gr.HTML(elem_id="status")
        with gr.Row(elem_classes="gv-buttons"):
            self.undo = gr.Button("Undo", size="sm", interactive=False, elem_id="undo", min_width=60)
            self.redo = gr.Button("Redo", size="sm", interactive=False, elem_id="redo", min_width=60)
            self.reset = gr.Button("Reset all", size="sm", interactive=False, elem_id="reset", min_width=80)
            self.surprise = gr.Button("Surprise me", size="sm", variant="primary", elem_id="surprise", min_width=100)

    def _build_sliders(self, scales: Mapping[str, SliderScale]) -> None:
        """Build one slider an attribute, the search for sliders, and what resets them."""
        self.no_editor = gr.Markdown(
            "There is no editor for this generator: its faces can be drawn, but not edited.", visible=False
        )
        with gr.Group(visible=False) as self.counting:
            with gr.Row():
                self.counted = gr.Dropdown(
                    [], label="What is counted", info="What the two buttons add to or take away.", min_width=120
                )
                self.minus = gr.Button("− one", elem_id="minus", min_width=60)
                self.plus = gr.Button("+ one", elem_id="plus", min_width=60)
            self.count = gr.HTML(elem_id="count", padding=True)
        with gr.Row():
            self.search = gr.Textbox(
                label="Find a slider",
                info="By its name, a word like it, or its group.",
                elem_id="search",
                min_width=140,
            )
            self.changed = gr.Dropdown(
                [(format_attribute(name), name) for name in scales],
                multiselect=True,
                value=[],
                label="What is changed",
                info="Take one out to reset it.",
                elem_id="changed",
                min_width=180,
            )
        self.regional = gr.Checkbox(
            True,
            label="Change only where it shows",
            info="A smile then leaves hair and background as they were.",
            visible=False,
            elem_id="regional",
            container=False,
        )
        self.groups: dict[str, gr.Accordion] = {}
        self.sliders: dict[str, gr.Slider] = {}
        for group, names in group_attributes(scales).items():
            self.groups[group] = gr.Accordion(group, open=group in OPEN_GROUPS, visible=False, elem_classes="gv-group")
            with self.groups[group]:
                for name in names:
                    low, high, step = scales[name].ticks
                    self.sliders[name] = gr.Slider(
                        low,
                        high,
                        scales[name].convert_to_slider(0),
                        step=step,
                        label=scales[name].label,
                        info=scales[name].help,
                        visible=False,
                        buttons=[],
                        elem_id=f"slider-{name}",
                        elem_classes="gv-slider",
                    )
        self.sample = gr.Button("Draw such pictures", visible=False, elem_id="sample")

    def _build_face_picker(self) -> None:
        with gr.Row():
            self.psi = gr.Slider(
                0,
                1.2,
                0.7,
                step=0.05,
                label="Variety",
                info="Less: usual faces with fewer flaws. More: rarer faces.",
                buttons=[],
                elem_id="psi",
                min_width=160,
            )
            self.seed = gr.Number(
                0,
                label="First seed",
                info="Each seed is the number of one face.",
                precision=0,
                minimum=0,
                maximum=2**32 - 1,
                elem_id="seed",
                min_width=100,
            )
        with gr.Row(elem_classes="gv-buttons"):
            self.earlier = gr.Button("Earlier seeds", size="sm", min_width=80)
            self.later = gr.Button("More seeds", size="sm", min_width=80, elem_id="more")
            self.similar = gr.Button("More like this", size="sm", min_width=100, elem_id="alike")
        self.gallery = _build_gallery("Faces to choose from", 4, "gallery")
        self.visited = _build_gallery("Where you have been", 6, "visited")

    def _build_comparison(self) -> None:
        gr.Markdown(
            "The same face edited by several methods, each at the strength at which the scorer reads the same change."
        )
        with gr.Row():
            self.attribute = gr.Dropdown(
                [], label="Attribute", info="What each method changes.", min_width=140, elem_id="compare-attribute"
            )
            self.change = gr.Slider(
                -3,
                3,
                1,
                step=0.25,
                label="Change",
                info="1 is a usual difference between two faces.",
                buttons=[],
                min_width=140,
            )
        self.methods = gr.CheckboxGroup([], label="Methods", info="Each gets a picture of its own.", elem_id="methods")
        self.compare = gr.Button("Compare", elem_id="compare")
        self.compared = _build_gallery("Unedited, then by each method", 3, "compared", enlarged=True)

    def _build_photo(self) -> None:
        gr.Markdown(
            "Your photo is processed on this machine and deleted at once; you then edit a generated face like it."
        )
        self.photo = gr.File(
            label="A photo with one face (PNG, JPEG or WebP)",
            file_types=list(PHOTO_SUFFIXES),
            elem_id="photo",
            height=120,
        )
        self.inverted = gr.HTML(elem_id="inverted")

    def _build_downloads(self) -> None:
        with gr.Row(elem_classes="gv-buttons"):
            self.png = gr.DownloadButton("Picture (PNG)", size="sm", elem_id="png", min_width=100)
            self.json = gr.DownloadButton("Recipe (JSON)", size="sm", elem_id="json", min_width=100)
            self.load = gr.UploadButton(
                "Load a recipe …", size="sm", file_types=list(RECIPE_SUFFIXES), elem_id="load", min_width=100
            )
        self.link = gr.Textbox(
            label="A link to this picture",
            info="Whoever runs this page opens the picture with it.",
            buttons=["copy"],
            interactive=False,
            max_lines=2,
            elem_id="link",
        )
        self.command = _build_code("On the command line", "shell", "command")
        self.python = _build_code("In Python", "python", "python")


def _build_gallery(label: str, columns: int, name: str, enlarged: bool = False) -> gr.Gallery:
    """Build a gallery to choose from; with ``enlarged``, a click enlarges a picture instead."""
    return gr.Gallery(
        label=label,
        columns=columns,
        height="auto",
        allow_preview=enlarged,
        buttons=[],
        elem_id=name,
        fit_columns=False,
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
    return gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=mono_fonts)


CSS = """
/* Gradio's "hidden" makes the page a box that scrolls, in which nothing sticks. */
.gradio-container { overflow: clip !important; }
.gv-title { flex: 0 1 auto; align-self: center; min-width: 120px; }
.gv-title h1 { margin: 0; }
#picture { border-width: 0 !important; padding: 0; }
#picture button, #picture .image-frame, #picture .image-container { width: 100%; }
#picture .image-frame img { width: 100%; height: auto; aspect-ratio: 1; object-fit: contain; }
.gv-top input { text-overflow: ellipsis; }
.gv-picture { position: sticky; top: 8px; align-self: flex-start; }
.gv-buttons { gap: 8px; }
.gv-slider { padding-block: 6px; }
.gv-status { margin: 0; min-height: 1.4em; }
.gv-warning { margin: 4px 0 0; padding: 6px 10px; border-left: 4px solid #d97706; background: var(--block-background-fill); }
.gv-notice { position: fixed; left: 50%; bottom: 16px; z-index: 1000; transform: translateX(-50%); margin: 0; max-width: 92vw;
  padding: 8px 14px; border-radius: 6px; border-left: 4px solid #d97706; color: var(--body-text-color);
  background: var(--block-background-fill); box-shadow: 0 2px 12px rgb(0 0 0 / 30%); }
.gv-count { font-size: 1.2em; margin: 0; }
.gv-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.gv-moved table, .gv-moved tr { border: none !important; }
.gv-moved table { width: 100%; border-collapse: collapse; table-layout: fixed; font-size: 0.9em; }
.gv-moved th, .gv-moved td { text-align: left; font-weight: normal; padding: 2px 4px;
  border: none !important; overflow-wrap: anywhere; }
.gv-moved thead th, .gv-target th { font-weight: 600; }
.gv-moved th:nth-child(1) { width: 34%; }
.gv-moved td:nth-child(2), .gv-moved td:nth-child(3), .gv-moved th:nth-child(2), .gv-moved th:nth-child(3) {
  width: 13%; text-align: right; font-variant-numeric: tabular-nums; }
.gv-bars { position: relative; height: 14px; background:
  linear-gradient(var(--border-color-primary), var(--border-color-primary)) 50% 0 / 1px 100% no-repeat,
  var(--background-fill-secondary); }
.gv-bars i { position: absolute; height: 6px; }
.gv-bars .gv-before, .gv-key.gv-before { background: #64748b; }
.gv-bars .gv-after, .gv-key.gv-after { background: #6366f1; }
.gv-bars .gv-before { top: 1px; }
.gv-bars .gv-after { top: 7px; }
.gv-key { display: inline-block; width: 12px; height: 8px; }
@media (max-width: 767px) {
  /* The picture stays in sight while sliders below it are moved. */
  .gv-picture { top: 0; z-index: 100; padding-bottom: 6px; gap: 4px; background: var(--body-background-fill); }
  #picture .image-frame img { max-height: 38vh; }
}
"""
