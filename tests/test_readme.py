"""The README's quickstart does what it says."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
MAX_WORDS = 900


def test_the_quickstart_runs(ffhq, tmp_path, monkeypatch) -> None:
    source = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    if source is None:
        pytest.fail("README.md has no Python quickstart")
    found: dict = {}
    monkeypatch.chdir(tmp_path)
    with torch.no_grad():
        exec(compile(source[1], str(README), "exec"), found)
    assert found["image"].shape == (1, 3, 1024, 1024)
    assert found["scores"].shape == (1, 46)
    assert [picture.suffix for picture in tmp_path.iterdir()] == [".png"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MAX_WORDS
