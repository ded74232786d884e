"""The page's theme: Gradio's own with this machine's fonts, and a little CSS."""

from __future__ import annotations

import gradio as gr

FONTS = ["system-ui", "sans-serif"]
MONO_FONTS = ["ui-monospace", "monospace"]


def make_theme() -> gr.themes.Base:
    """Make the theme, whose fonts are the system's: none is downloaded."""
    return gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS)


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
