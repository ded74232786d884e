"""``python -m ganvas``: the same as the command ``ganvas``."""

from ganvas.cli import main

main()
