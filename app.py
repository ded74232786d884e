"""The web editor as a Hugging Face Space runs it: a Space of the Gradio kind with this repository in it starts this file.

Its requirements.txt needs one line: ``.[app]``.
"""

from ganvas.cli import main

if __name__ == "__main__":
    main(["app", "--host", "0.0.0.0", "--port", "7860"])
