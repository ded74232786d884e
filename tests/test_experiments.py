"""The runner of experiments, and the steps of those that are here: each is a command that exists, with options that it has."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from experiments import run
from ganvas import GanvasError
from ganvas.cli import app

EXPERIMENTS = sorted(Path(run.__file__).parent.glob("*/*.toml"))


def read_experiment(path: Path) -> list[run.ExperimentStep]:
    needed = tomllib.loads(path.read_text(encoding="utf-8")).get("inputs", {})
    return run.read_steps(path, Path("out"), {name: name for name in needed})


def parse_command(words: tuple[str, ...]) -> int:
    """Parse a step's command without running it; return the exit code: 0, or 2 for what the command doesn't take."""
    if words[0] == "ganvas":
        command, rest = typer.main.get_command(app), words[1:]
        commands = list(vars(command)["commands"].values())
    else:
        assert words[:2] == (sys.executable, "-m") and words[2].startswith("experiments.")
        script, rest = typer.Typer(), words[3:]
        script.command()(import_module(words[2]).main)
        command = typer.main.get_command(script)
        commands = [command]
    for one in commands:
        one.callback = lambda **options: None
    with pytest.raises(SystemExit) as end:
        command.main(list(rest))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_there_are_experiments_for_both_generators():
    assert {f"{path.parent.name}/{path.name}" for path in EXPERIMENTS} >= {
        *("ffhq/ships.toml", "ffhq/paper.toml", "multimnist/ships.toml", "multimnist/paper.toml")
    }


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_step_is_a_command_that_exists(path):
    steps = read_experiment(path)
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        if step.run[1] == "-c":
            compile(step.run[2], step.name, "exec")
        else:
            assert parse_command(step.run) == 0, step.name
        assert all(not Path(name).is_absolute() for name in step.writes)


@pytest.mark.parametrize(
    "words", [["ganvas", "fit", "compact", "labels", "--out", "x", "--epochs", "3"], ["ganvas", "fit"]]
)
def test_a_step_with_an_option_that_no_command_has_is_found(words):
    assert parse_command(tuple(words)) == 2


STEPS = """
[inputs]
numbers = "a file"

[[step]]
name = "copy"
run = ["{python}", "-c", '''
import sys
open("{out}/runs", "a").write("copy ")
open("{out}/a", "w").write(open(sys.argv[1]).read())
''', "{numbers}"]
writes = ["a"]
minutes = 1

[[step]]
name = "go on"
run = ["{python}", "-c", '''
import os, sys
open("{out}/runs", "a").write("on ")
open("{out}/a", "a").write("!")
sys.exit(os.path.exists("{out}/stop"))
''']
writes = ["a"]
minutes = 1
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "tiny.toml").write_text(STEPS)
    (tmp_path / "numbers").write_text("1 2")
    return tmp_path / "tiny.toml"


def read_tiny(experiment, out):
    return run.read_steps(experiment, out, {"numbers": str(experiment.with_name("numbers"))})


def test_a_stopped_experiment_goes_on_with_the_step_that_was_stopped(experiment, tmp_path, capsys):
    """Also where a step's files were there before it, since it continues those of another."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "stop").touch()
    with pytest.raises(GanvasError, match="'go on' ended with exit code 1"):
        run.run_steps(read_tiny(experiment, out), out)
    (out / "stop").unlink()
    for _ in range(2):
        run.run_steps(read_tiny(experiment, out), out)
    assert (out / "runs").read_text() == "copy on on " and (out / "a").read_text() == "1 2!!"
    assert capsys.readouterr().out.count("done before") == 1 + 2
    # A step whose files are gone runs again, and so does one whose command is another now.
    experiment.write_text(STEPS.replace('write("!")', 'write("?")'))
    run.run_steps(read_tiny(experiment, out), out)
    assert (out / "a").read_text() == "1 2!!?"
    (out / "a").unlink()
    run.run_steps(read_tiny(experiment, out), out)
    assert (out / "a").read_text() == "1 2?"


def test_a_step_that_leaves_no_files_is_an_error(experiment, tmp_path):
    experiment.write_text(STEPS.replace('writes = ["a"]', 'writes = ["a", "b"]'))
    with pytest.raises(GanvasError, match="'copy' did not write b"):
        run.run_steps(read_tiny(experiment, tmp_path / "out"), tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs --input numbers=PATH: a file"),
        (["--input", "numbers"], "--input takes NAME=PATH, not 'numbers'"),
        (["--input", "numbers=x", "--input", "y=z"], "has no input 'y'; it takes numbers"),
    ],
)
def test_inputs_that_are_missing_or_unknown_are_said_in_one_line(words, message, experiment, tmp_path):
    script = typer.Typer()
    script.command()(run.main)
    result = CliRunner().invoke(script, [str(experiment), "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_steps_are_listed_and_nothing_runs(experiment, tmp_path):
    script = typer.Typer()
    script.command()(run.main)
    words = [str(experiment), "--out", str(tmp_path / "out"), "--input", "numbers=x", "--list"]
    result = CliRunner().invoke(script, words)
    assert result.exit_code == 0 and "writes a; 1 minutes" in result.stdout and not (tmp_path / "out").exists()


def test_what_is_no_experiment_is_said(tmp_path):
    (tmp_path / "x.toml").write_text("[step]\nname")
    with pytest.raises(GanvasError, match="is not an experiment"):
        run.read_steps(tmp_path / "x.toml", tmp_path, {})
