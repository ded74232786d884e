"""The web editor: a page on this machine where faces are edited with sliders. ``ganvas app`` serves it.

What is shown: ``scene`` (a face and its edits as a value), ``photographs``, ``session`` (one visitor's scene and history, and the
queue of work), ``storage`` (what outlasts a reload).
Work: ``resources`` (the generator in memory, editors, caches), ``rendering``, ``presets``, ``likeness``, ``compare``, ``sharing``
(links, commands and Python lines of a picture).
Handlers that Gradio calls: ``edit_handlers`` (sliders and buttons), ``photo_handlers``, ``scene_handlers`` (links, files,
generators), ``tab_handlers``, ``own_slider``; ``request_checks`` checks what requests send.
Page: ``layout``, ``static`` (style and scripts), ``slider_panel``, ``attribute_groups``, ``attribute_words``, and
``event_wiring``, which connects components and handlers. Server: ``server``.
"""
