"""The web editor: a page on this machine where faces are edited with sliders. ``ganvas app`` serves it.

What is shown: ``scene`` (a face and its edits as a value), ``session`` (one visitor's scene and history), ``session_store``.
Work: ``work_queue`` (one thread), ``resources`` (the generator in memory, editors, caches), ``rendering``, ``compare``.
Handlers that Gradio calls: ``edit_handlers``, ``navigation_handlers``, ``tab_handlers``, ``photo_handlers``; ``validation`` of
what requests send, ``component_values`` for what pages get, ``sharing`` (links, commands and Python lines of a picture).
Page: ``layout``, ``theme``, ``charts``, ``attribute_groups``, and ``event_wiring``, which connects components and handlers.
Server: ``server``, ``request_filter``, ``event_stream``, ``server_folder``.
"""
