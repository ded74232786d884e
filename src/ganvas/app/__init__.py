"""The web editor: a page on this machine where faces are edited with sliders. ``ganvas app`` serves it.

What is shown: ``scene`` (a face and its edits as a value), ``session`` (one visitor's scene and history, and the queue of work).
Work: ``resources`` (the generator in memory, editors, caches), ``rendering``, ``compare``, ``sharing`` (links, commands and
Python lines of a picture).
Handlers that Gradio calls: ``edit_handlers`` (sliders and buttons), ``scene_handlers`` (links, files, photographs),
``tab_handlers``; ``request_checks`` checks what requests send.
Page: ``layout``, ``page_script``, ``attribute_groups``, ``attribute_words``, and ``event_wiring``, which connects components and
handlers. Server: ``server``.
"""
