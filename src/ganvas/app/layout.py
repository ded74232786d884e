"""The page: Gradio's components in their places, without what they do (``event_wiring``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import gradio as gr

from ganvas.app.attribute_groups import OPEN_GROUPS, group_attributes, label_of
from ganvas.app.server_folder import PHOTOS, RECIPES

SPAN = 4.0
"""σ at the ends of a slider."""
STEP = 0.05
TITLE = "ganvas"


@dataclass(frozen=True)
class TopBar:
    """What is looked at, and with what."""

    generator: gr.Dropdown
    editor: gr.Dropdown


@dataclass(frozen=True)
class PictureArea:
    """The picture and what is done with it as a whole."""

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
    """One slider an attribute, and what finds and resets them."""

    tab: gr.Tab
    search: gr.Textbox
    changed: gr.Dropdown
    nothing: gr.Markdown
    sliders: dict[str, gr.Slider]
    groups: dict[str, gr.Accordion]
    counting: gr.Group
    what: gr.Dropdown
    minus: gr.Button
    plus: gr.Button
    count: gr.HTML
    asked: gr.Button


@dataclass(frozen=True)
class FacePicker:
    """Faces to choose from."""

    tab: gr.Tab
    psi: gr.Slider
    seed: gr.Number
    back: gr.Button
    more: gr.Button
    alike: gr.Button
    gallery: gr.Gallery
    visited: gr.Gallery


@dataclass(frozen=True)
class DetailTabs:
    """What moved, methods compared, photographs, taking along."""

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
    """All of it."""

    top: TopBar
    tabs: gr.Tabs
    stage: PictureArea
    sliders: SliderPanel
    choose: FacePicker
    further: DetailTabs


def build_page(generators: Sequence[tuple[str, str]], attributes: Sequence[str]) -> Page:
    """Lay out the page inside the current ``gr.Blocks``. ``generators`` are lines about them and their names."""
    with gr.Row(elem_classes="gv-top", equal_height=True):
        gr.Markdown(f"# {TITLE}", elem_classes="gv-title")
        generator = gr.Dropdown(list(generators), label="Generator", value=None, min_width=220, scale=2)
        editor = gr.Dropdown([], label="Editor", value=None, min_width=220, scale=2)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_classes="gv-stage"):
            stage = _stage()
        with gr.Column(scale=6, min_width=320), gr.Tabs(overflow_behavior="wrap") as tabs:
            sliders = _sliders(attributes)
            choose = _choose()
            further = _further()
    return Page(TopBar(generator, editor), tabs, stage, sliders, choose, further)


def _stage() -> PictureArea:
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


def _sliders(attributes: Sequence[str]) -> SliderPanel:
    with gr.Tab("Edit") as tab:
        nothing = gr.Markdown(
            "No editor for this generator is here: its faces can be drawn, but not edited.", visible=False
        )
        with gr.Group(visible=False) as counting:
            with gr.Row():
                what = gr.Dropdown([], label="What is counted", min_width=120)
                minus = gr.Button("− one", elem_id="minus", min_width=60)
                plus = gr.Button("+ one", elem_id="plus", min_width=60)
            count = gr.HTML(elem_id="count", padding=True)
        with gr.Row():
            search = gr.Textbox(
                label="Find a slider", placeholder="smile, hair, age …", elem_id="search", min_width=140
            )
            changed = gr.Dropdown(
                [(label_of(name), name) for name in attributes],
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
                        -SPAN,
                        SPAN,
                        0,
                        step=STEP,
                        label=label_of(name),
                        visible=False,
                        buttons=[],
                        elem_id=f"slider-{name}",
                        elem_classes="gv-slider",
                    )
        asked = gr.Button("Give me sixteen such faces", elem_id="asked")
    return SliderPanel(tab, search, changed, nothing, sliders, groups, counting, what, minus, plus, count, asked)


def _choose() -> FacePicker:
    with gr.Tab("Faces", id="faces") as tab:
        with gr.Row():
            psi = gr.Slider(
                0, 1.2, 0.7, step=0.05, label="psi: the lower, the more usual", buttons=[], elem_id="psi", min_width=160
            )
            seed = gr.Number(
                0, label="First seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed", min_width=100
            )
        with gr.Row(elem_classes="gv-buttons"):
            back = gr.Button("Earlier seeds", size="sm", min_width=80)
            more = gr.Button("More seeds", size="sm", min_width=80, elem_id="more")
            alike = gr.Button("More like this", size="sm", min_width=100, elem_id="alike")
        gallery = _gallery("Faces to choose from", 4, "gallery")
        visited = _gallery("Where you have been", 6, "visited")
    return FacePicker(tab, psi, seed, back, more, alike, gallery, visited)


def _gallery(label: str, columns: int, name: str, enlarged: bool = False) -> gr.Gallery:
    """Pictures to choose from, or, ``enlarged``, to look at."""
    return gr.Gallery(
        label=label,
        columns=columns,
        height="auto",
        allow_preview=enlarged,
        buttons=[],
        elem_id=name,
        fit_columns=False,
    )


def _code(label: str, language: Literal["shell", "python"], name: str) -> gr.Code:
    """Lines to copy."""
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


def _further() -> DetailTabs:
    with gr.Tab("What moved") as moved_tab:
        chart = gr.HTML("<p>Looking at both pictures …</p>", elem_id="chart")
    with gr.Tab("Compare") as compare_tab:
        gr.Markdown("The same face under several methods, each driven until the scorer sees the same change.")
        with gr.Row():
            attribute = gr.Dropdown([], label="Attribute", min_width=140, elem_id="compare-attribute")
            change = gr.Slider(-3, 3, 1, step=0.25, label="Change in σ", buttons=[], min_width=140)
        methods = gr.CheckboxGroup([], label="Methods", elem_id="methods")
        compare = gr.Button("Compare", elem_id="compare")
        compared = _gallery("As drawn, then each method", 3, "compared", enlarged=True)
    with gr.Tab("Photo") as photo_tab:
        gr.Markdown(
            "Your photo is looked at on this machine and deleted at once; a face like it is then yours to edit."
        )
        photo = gr.File(
            label="A photo with one face (PNG, JPEG or WebP)",
            file_types=list(PHOTOS),
            elem_id="photo",
            height=120,
        )
        inverted = gr.HTML(elem_id="inverted")
    with gr.Tab("Take along") as take_tab:
        with gr.Row(elem_classes="gv-buttons"):
            png = gr.DownloadButton("Picture (PNG)", size="sm", elem_id="png", min_width=100)
            json = gr.DownloadButton("Recipe (JSON)", size="sm", elem_id="json", min_width=100)
            load = gr.UploadButton(
                "Load a recipe …", size="sm", file_types=list(RECIPES), elem_id="load", min_width=100
            )
        link = gr.Textbox(
            label="A link to this picture", buttons=["copy"], interactive=False, max_lines=2, elem_id="link"
        )
        command = _code("On the command line", "shell", "command")
        python = _code("In Python", "python", "python")
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
