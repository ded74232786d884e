"""The page's layout: Gradio's components in their places; ``event_wiring`` connects them to handlers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import gradio as gr

from ganvas.app.attribute_groups import OPEN_GROUPS, format_attribute, group_attributes
from ganvas.app.server_folder import PHOTO_SUFFIXES, RECIPE_SUFFIXES

SLIDER_LIMIT = 4.0
"""σ at the ends of a slider."""
SLIDER_STEP = 0.05
TITLE = "ganvas"


@dataclass(frozen=True)
class TopBar:
    """The pickers of the generator and the editor."""

    generator: gr.Dropdown
    editor: gr.Dropdown


@dataclass(frozen=True)
class PictureArea:
    """The picture, and the buttons for the whole of it."""

    picture: gr.Image
    wipe: gr.ImageSlider
    strip: gr.Gallery
    tabs: tuple[gr.Tab, ...]
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    surprise: gr.Button
    status: gr.HTML


@dataclass(frozen=True)
class SliderPanel:
    """One slider an attribute, the search for sliders, and what resets them."""

    tab: gr.Tab
    search: gr.Textbox
    changed: gr.Dropdown
    no_editor: gr.Markdown
    sliders: dict[str, gr.Slider]
    groups: dict[str, gr.Accordion]
    counting: gr.Group
    counted: gr.Dropdown
    minus: gr.Button
    plus: gr.Button
    count: gr.HTML
    sample: gr.Button


@dataclass(frozen=True)
class FacePicker:
    """Galleries of faces to choose from."""

    tab: gr.Tab
    psi: gr.Slider
    seed: gr.Number
    earlier: gr.Button
    later: gr.Button
    similar: gr.Button
    gallery: gr.Gallery
    visited: gr.Gallery


@dataclass(frozen=True)
class DetailTabs:
    """The tabs of the edit's effect, of methods compared, of photographs and of what can be downloaded."""

    moved_tab: gr.Tab
    chart: gr.HTML
    compare_tab: gr.Tab
    attribute: gr.Dropdown
    change: gr.Slider
    methods: gr.CheckboxGroup
    compare: gr.Button
    compared: gr.Gallery
    photo_tab: gr.Tab
    photo: gr.File
    inverted: gr.HTML
    take_tab: gr.Tab
    png: gr.DownloadButton
    json: gr.DownloadButton
    link: gr.Textbox
    command: gr.Code
    python: gr.Code
    load: gr.UploadButton


@dataclass(frozen=True)
class Page:
    """All components of the page."""

    top_bar: TopBar
    tabs: gr.Tabs
    picture_area: PictureArea
    slider_panel: SliderPanel
    face_picker: FacePicker
    details: DetailTabs


def build_page(generators: Sequence[tuple[str, str]], attributes: Sequence[str]) -> Page:
    """Lay out the page inside the current ``gr.Blocks``. ``generators``: (description, name) of each."""
    with gr.Row(elem_classes="gv-top", equal_height=True):
        gr.Markdown(f"# {TITLE}", elem_classes="gv-title")
        generator = gr.Dropdown(list(generators), label="Generator", value=None, min_width=220, scale=2)
        editor = gr.Dropdown([], label="Editor", value=None, min_width=220, scale=2)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="gv-picture"):
            picture_area = _build_picture_area()
        with gr.Column(scale=6, min_width=320), gr.Tabs(overflow_behavior="wrap") as tabs:
            slider_panel = _build_slider_panel(attributes)
            face_picker = _build_face_picker()
            details = _build_details()
    return Page(TopBar(generator, editor), tabs, picture_area, slider_panel, face_picker, details)


def _build_picture_area() -> PictureArea:
    with gr.Tabs():
        with gr.Tab("Picture") as first:
            picture = gr.Image(
                show_label=False, interactive=False, buttons=["fullscreen"], elem_id="picture", container=False
            )
        with gr.Tab("Before / after") as second:
            wipe = gr.ImageSlider(
                label="Before and after", interactive=False, buttons=[], elem_id="wipe", max_height=1024
            )
        with gr.Tab("Strip") as third:
            strip = gr.Gallery(
                label="The edit at five strengths",
                columns=5,
                rows=1,
                height="auto",
                allow_preview=True,
                buttons=[],
                elem_id="strip",
                object_fit="contain",
            )
    status = gr.HTML(elem_id="status")
    with gr.Row(elem_classes="gv-buttons"):
        undo = gr.Button("Undo", size="sm", interactive=False, elem_id="undo", min_width=60)
        redo = gr.Button("Redo", size="sm", interactive=False, elem_id="redo", min_width=60)
        reset = gr.Button("Reset all", size="sm", interactive=False, elem_id="reset", min_width=80)
        surprise = gr.Button("Surprise me", size="sm", variant="primary", elem_id="surprise", min_width=100)
    return PictureArea(picture, wipe, strip, (first, second, third), undo, redo, reset, surprise, status)


def _build_slider_panel(attributes: Sequence[str]) -> SliderPanel:
    with gr.Tab("Edit") as tab:
        no_editor = gr.Markdown(
            "There is no editor for this generator: its faces can be drawn, but not edited.", visible=False
        )
        with gr.Group(visible=False) as counting:
            with gr.Row():
                counted = gr.Dropdown([], label="What is counted", min_width=120)
                minus = gr.Button("− one", elem_id="minus", min_width=60)
                plus = gr.Button("+ one", elem_id="plus", min_width=60)
            count = gr.HTML(elem_id="count", padding=True)
        with gr.Row():
            search = gr.Textbox(
                label="Find a slider", placeholder="smile, hair, age …", elem_id="search", min_width=140
            )
            changed = gr.Dropdown(
                [(format_attribute(name), name) for name in attributes],
                multiselect=True,
                value=[],
                label="Changed: take one out to reset it",
                elem_id="changed",
                min_width=180,
            )
        sliders: dict[str, gr.Slider] = {}
        groups: dict[str, gr.Accordion] = {}
        for group, names in group_attributes(attributes).items():
            with gr.Accordion(group, open=group in OPEN_GROUPS, visible=False, elem_classes="gv-group") as groups[
                group
            ]:
                for name in names:
                    sliders[name] = gr.Slider(
                        -SLIDER_LIMIT,
                        SLIDER_LIMIT,
                        0,
                        step=SLIDER_STEP,
                        label=format_attribute(name),
                        visible=False,
                        buttons=[],
                        elem_id=f"slider-{name}",
                        elem_classes="gv-slider",
                    )
        sample = gr.Button("Sample sixteen such faces", elem_id="sample")
    return SliderPanel(tab, search, changed, no_editor, sliders, groups, counting, counted, minus, plus, count, sample)


def _build_face_picker() -> FacePicker:
    with gr.Tab("Faces", id="faces") as tab:
        with gr.Row():
            psi = gr.Slider(
                0, 1.2, 0.7, step=0.05, label="psi: the lower, the more usual", buttons=[], elem_id="psi", min_width=160
            )
            seed = gr.Number(
                0, label="First seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed", min_width=100
            )
        with gr.Row(elem_classes="gv-buttons"):
            earlier = gr.Button("Earlier seeds", size="sm", min_width=80)
            later = gr.Button("More seeds", size="sm", min_width=80, elem_id="more")
            similar = gr.Button("More like this", size="sm", min_width=100, elem_id="alike")
        gallery = _build_gallery("Faces to choose from", 4, "gallery")
        visited = _build_gallery("Where you have been", 6, "visited")
    return FacePicker(tab, psi, seed, earlier, later, similar, gallery, visited)


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


def _build_details() -> DetailTabs:
    with gr.Tab("What moved") as moved_tab:
        chart = gr.HTML("<p>Comparing both pictures …</p>", elem_id="chart")
    with gr.Tab("Compare") as compare_tab:
        gr.Markdown(
            "The same face edited by several methods, each at the strength at which the scorer reads the same change."
        )
        with gr.Row():
            attribute = gr.Dropdown([], label="Attribute", min_width=140, elem_id="compare-attribute")
            change = gr.Slider(-3, 3, 1, step=0.25, label="Change in σ", buttons=[], min_width=140)
        methods = gr.CheckboxGroup([], label="Methods", elem_id="methods")
        compare = gr.Button("Compare", elem_id="compare")
        compared = _build_gallery("Unedited, then by each method", 3, "compared", enlarged=True)
    with gr.Tab("Photo") as photo_tab:
        gr.Markdown(
            "Your photo is processed on this machine and deleted at once; you then edit a generated face like it."
        )
        photo = gr.File(
            label="A photo with one face (PNG, JPEG or WebP)",
            file_types=list(PHOTO_SUFFIXES),
            elem_id="photo",
            height=120,
        )
        inverted = gr.HTML(elem_id="inverted")
    with gr.Tab("Take along") as take_tab:
        with gr.Row(elem_classes="gv-buttons"):
            png = gr.DownloadButton("Picture (PNG)", size="sm", elem_id="png", min_width=100)
            json = gr.DownloadButton("Recipe (JSON)", size="sm", elem_id="json", min_width=100)
            load = gr.UploadButton(
                "Load a recipe …", size="sm", file_types=list(RECIPE_SUFFIXES), elem_id="load", min_width=100
            )
        link = gr.Textbox(
            label="A link to this picture", buttons=["copy"], interactive=False, max_lines=2, elem_id="link"
        )
        command = _build_code("On the command line", "shell", "command")
        python = _build_code("In Python", "python", "python")
    return DetailTabs(
        moved_tab,
        chart,
        compare_tab,
        attribute,
        change,
        methods,
        compare,
        compared,
        photo_tab,
        photo,
        inverted,
        take_tab,
        png,
        json,
        link,
        command,
        python,
        load,
    )
