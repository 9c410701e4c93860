"""Every option that is a number refuses what it cannot take, in a sentence, before it loads."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from harmless_runtime.cli import verbosity
from harmless_runtime.cli.commands import app

VALUES = ("0", "-1", "inf", "nan", "1e300", "")
# What numbers are called beside a word, in options that take either.
METAVARS = {"ROWS|auto", "NUMBER|all", "N|P%"}
# The options that take even such a number: scores and their differences have no bounds.
TAKEN = {"inf": {"--above", "--below"}, "1e300": {"--above", "--below", "--parity-limit"}}
# What ends a command, once its numbers are taken: files and models that are missing.
ENDS = {
    "score": ["missing.jsonl", "-o", "s.jsonl", "--model", "missing"],
    "eval": ["missing.jsonl", "--model", "missing"],
    "select": ["missing.jsonl", "-o", "s.jsonl"],
    "export": ["missing", "-o", "artifact"],
    "verify": ["missing"],
    "serve": ["--model", "missing", "--port", "0"],
}


def number_options() -> Iterator[tuple[str, str]]:
    """Yield each command with each of its options that are numbers."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    callbacks = {info.name: info.callback for info in app.registered_commands}
    for name, command in group.commands.items():
        types = get_type_hints(callbacks[name])
        for parameter in command.params:
            kind = types.get(str(parameter.name))
            is_number = {int, float} & {kind, *get_args(kind)}
            if is_number or parameter.metavar in METAVARS:
                yield name, parameter.opts[0]


OPTIONS = list(number_options())


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and leave the log and the console as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verbosity, "quiet", False)
    loggers = [logging.getLogger(name) for name in ("harmless_runtime", "harmless_export")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    yield
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


def test_all_are_found() -> None:
    assert len(OPTIONS) > 25
    assert {("serve", "--timeout"), ("score", "--batch-size"), ("select", "--top")} < {*OPTIONS}
    assert {name for name, _ in OPTIONS} == set(ENDS)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_a_number_is_taken_or_refused_in_a_sentence(
    command: str, option: str, value: str, tmp_path: Path
) -> None:
    done: Any = CliRunner().invoke(app, [command, *ENDS[command], f"{option}={value}"])
    assert isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (1, 2)
    told = done.stderr
    assert "Traceback" not in told
    assert len([line for line in told.lower().splitlines() if line.startswith("error: ")]) == 1, (
        told
    )
    # By the option's name, the setting's, or the value.
    names = (option, option[2:].replace("-", "_"), repr(value))
    is_refused = any(name in told for name in names)
    if value not in ("0", "-1") and option not in TAKEN.get(value, ()):
        assert is_refused, told
    assert is_refused or "missing" in told, "it ends for want of a file"
    assert list(tmp_path.iterdir()) == []
