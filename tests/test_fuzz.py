"""Damaged files of every kind that ganvas reads, some of them; ``fuzz.py`` tries thousands."""

import fuzz
import pytest


@pytest.mark.parametrize("name", fuzz.KINDS)
def test_damaged_files_end_in_a_result_or_in_one_line(name, tmp_path):
    files = fuzz.KINDS[name].files()
    assert [fuzz.try_one(name, content, tmp_path) for content in files] == ["read"] * len(files)
    for seed in range(20):
        ended = fuzz.try_one(name, fuzz.damaged(name, files, seed), tmp_path)
        assert ended in fuzz.FINE, f"{name} {seed}: {ended}"
