"""The README's quickstart does what it says."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_quickstart_runs(ffhq) -> None:
    source = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    if source is None:
        pytest.fail("README.md has no Python quickstart")
    found: dict = {}
    with torch.no_grad():
        exec(compile(source[1], str(README), "exec"), found)
    assert found["image"].shape == (1, 3, 1024, 1024)
    assert found["scores"].shape == (1, 46)
