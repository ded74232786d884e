"""What CONTRIBUTING prints works as printed."""

import re
import shlex

import pytest
from printed_examples import METHOD, ROOT, add_printed_method, read_block, read_page

from ganvas import cli

TEXT = read_page("CONTRIBUTING.md")


def test_make_has_the_targets_and_the_tools_come_first():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"dev", *re.findall(r"^    make ([a-z]+)", TEXT, re.MULTILINE)} <= targets
    assert TEXT.index("make dev") < TEXT.index("pytest")


def test_the_printed_commands_try_the_printed_method_beside_another_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    with add_printed_method("CONTRIBUTING.md", tmp_path / "methods"):
        for line in read_block(TEXT, "```sh\n").splitlines():
            program, *arguments = shlex.split(line)
            few = ["400" if word == "2000" else word for word in arguments]
            with pytest.raises(SystemExit) as stop:
                cli.main(few)
            assert program == "ganvas" and not stop.value.code, capsys.readouterr().err
    page = (tmp_path / "out" / "try" / "report.md").read_text(encoding="utf-8")
    costs = page.partition("ms an edit")[2]
    assert costs.count(f"| {METHOD} |") == 1 and costs.count("| interfacegan |") == 1
    assert f"fit {METHOD}" not in page  # among what could not be measured
