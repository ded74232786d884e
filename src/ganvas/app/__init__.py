"""The web editor: a page on this machine where faces are edited with sliders. ``ganvas app`` serves it.

scene.py    what is looked at, as a value        desk.py    one visitor's place: history, what is newest
turns.py    one worker, visitors take turns      workshop.py    the one generator in memory, the editors
drawing.py, compare.py, photo.py    what the worker does     hands.py, doors.py, looks.py    what visitors do
components.py, page.py, style.py, charts.py    Gradio's components in their places     wires.py    which calls what
server.py   the page served, and what is kept out
"""
