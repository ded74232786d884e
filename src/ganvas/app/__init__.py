"""The web editor: a page on this machine where faces are edited with sliders. ``ganvas app`` serves it.

scene.py    what is looked at, as a value        desk.py, desks.py    one visitor's place: history, what is newest; all of them
turns.py    one worker, visitors take turns      workshop.py    the one generator in memory, the editors
drawing.py, compare.py, photo.py    what the worker does     hands.py, doors.py, looks.py    what visitors do
given.py, values.py    what requests give, what pages get    page.py, style.py, charts.py, groups.py    Gradio's components
wires.py    which calls what                     links.py    taking a picture along
server.py   the page served                      guard.py, folder.py    what is kept out, what is written
"""
