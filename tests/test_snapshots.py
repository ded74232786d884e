"""What the code did when the snapshots were recorded, it does now; ``snapshots/record.py NAME`` says that a change is meant."""

import pytest
from snapshots import cases, harness

PARAMETERS = [
    pytest.param(case, id=case.name, marks=[pytest.mark.snapshots] if case.slow else [])
    for case in harness.CASES.values()
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_as_recorded(case, tmp_path, monkeypatch, request):
    if case.slow and not any(path.exists() for path in harness.files_of(case.name)):
        pytest.skip(f"never recorded: python tests/snapshots/record.py {case.name}")
    for need in case.needs:
        if need == "ffhq":
            request.getfixturevalue("ffhq")
        else:
            pytest.importorskip(need)
    monkeypatch.chdir(tmp_path)
    different = harness.compare(case, cases.run(case, tmp_path))
    assert not different, "\n".join([f"{case.name} isn't as recorded:", *different])


def test_every_snapshot_has_a_case():
    recorded = {path.relative_to(harness.DATA).with_suffix("").as_posix() for path in harness.DATA.rglob("*.*")}
    assert recorded - harness.CASES.keys() == set()


def test_snapshots_are_small():
    folders = (harness.DATA, harness.SAVED)
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) < 4e6


@pytest.mark.parametrize(
    ("found", "recorded", "same"),
    [
        ("12 faces, 0.5012 in 3.2 s", "12 faces, 0.5010 in 9.9 s", True),
        ("13 faces, 0.5012 in 3.2 s", "12 faces, 0.5010 in 3.2 s", False),
        ("drift 0.52", "drift 0.50", False),
        ("913e344fc3f4 at 64×64", "913e344fc3f5 at 64×64", False),
        ("/tmp/a-1/x.png", "/tmp/b/c/x.png", True),
        ("1,024 faces", "1024 faces", True),
    ],
)
def test_texts_are_compared_by_words_and_numbers(found, recorded, same):
    assert (not list(harness.Text(found).differences(recorded))) is same
