"""What is told of long work where no terminal is."""

from ganvas import progress


def test_what_nobody_watches_tells_of_itself_in_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL_SECONDS", 0.0)
    assert list(progress.track([1, 2, 3], "Drawing")) == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Drawing: {i} of 3" for i in range(4)]
    assert lines[0].endswith(" 0 a second")


def test_quick_work_and_a_single_item_say_nothing(capsys):
    assert list(progress.track([1, 2, 3], "Drawing")) == [1, 2, 3]
    assert list(progress.track([1], "Drawing")) == [1]
    assert capsys.readouterr().err == ""
