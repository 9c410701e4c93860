"""A run leaves complete results, or partial ones that can be resumed, and no other run's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harmless_runtime.errors import OutputError
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.writer import Output
from harmless_runtime.rows.records import Reject
from harmless_runtime.run import Run
from reading import names_in
from runs import make_run


def write(output: Output, *numbers: int) -> None:
    """Write one window for each number, with one line."""
    for n in numbers:
        output.write(b"%d\n" % n, b"", [Reject("f", n, "", b"row %d" % n)], {"rows": n})


def write_all(run: Run, *numbers: int, then: Callable[[], object] = lambda: None) -> None:
    """Write an output, and do something at the end of the block."""
    with open_output(run, {}) as output:
        write(output, *numbers)
        then()


def test_an_output_that_appears_during_the_run_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with pytest.raises(OutputError, match="has appeared during the run"):
        write_all(make_run([], out), 1, then=lambda: out.write_text("precious"))
    assert out.read_text() == "precious"
    assert (tmp_path / "s.jsonl.partial").read_bytes() == b"1\n"


def test_two_runs_cannot_write_the_same_output(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with open_output(make_run([], out, existing="overwrite"), {}) as output:
        write(output, 1)
        for existing in ("overwrite", "resume"):
            with pytest.raises(OutputError, match="another run is writing this output"):
                write_all(make_run([], out, existing=existing))
        write(output, 2)
    assert out.read_bytes() == b"1\n2\n"
    assert names_in(tmp_path) == ["s.jsonl", "s.jsonl.run.json"]


def test_a_failed_run_keeps_what_it_has(tmp_path: Path) -> None:
    run = make_run([], tmp_path / "s.jsonl", existing="overwrite")
    for numbers, left in (((), []), ((1,), ["s.jsonl.partial", "s.jsonl.state"])):
        with pytest.raises(ZeroDivisionError):
            write_all(run, *numbers, then=lambda: 1 // 0)
        assert [n for n in names_in(tmp_path) if "rejects" not in n] == left


def test_the_rejects_of_one_run_are_not_the_scores_of_another(tmp_path: Path) -> None:
    other = make_run([], tmp_path / "x.rejects.jsonl", existing="overwrite")
    with (
        open_output(make_run([], tmp_path / "x.jsonl"), {}),
        pytest.raises(OutputError, match="another run is writing this output"),
    ):
        write_all(other)


def test_errors_of_the_block_are_not_taken_for_errors_of_the_output(tmp_path: Path) -> None:
    run = make_run([], tmp_path / "s.jsonl")
    with pytest.raises(FileNotFoundError):
        write_all(run, 1, then=(tmp_path / "missing").read_bytes)
    assert "s.jsonl.state" in names_in(tmp_path)
