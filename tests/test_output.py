"""What is written, what is never written over, and what two runs do to each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from harmless_runtime.errors import OutputError
from harmless_runtime.output.paths import check_free, rejects_path
from harmless_runtime.output.writer import OutputFiles
from harmless_runtime.rows.lines import score_line
from harmless_runtime.rows.records import Line, Reject

LONG = "x" * 300
ROW = '{"instruction": "a", "output": "b"}\n'


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_score_reads_back_as_the_same_float32(value: float) -> None:
    line = json.loads(score_line(b"1", np.float32(value)))
    assert np.float32(line["score"]) == np.float32(value)
    assert line["id"] == 1


def test_a_line_of_output_is_one_line() -> None:
    line = score_line(b'{"a":\r1}', np.float32(0.1), tokens=3, truncated=True)
    assert line == b'{"id": {"a": 1}, "score": 0.1, "tokens": 3, "truncated": true}\n'


def test_rejects_of_two_outputs_never_share_a_name() -> None:
    names = ["a", "a.jsonl", "a.txt", "a.jsonl.gz", "b.c.jsonl"]
    paths = {rejects_path(Path("folder", name)) for name in names}
    assert len(paths) == len(names)
    assert rejects_path(Path("folder/a.jsonl")) == Path("folder/a.rejects.jsonl")


def test_rejects_of_a_file_whose_name_is_not_utf8() -> None:
    source = os.fsdecode(b"caf\xe9.jsonl")
    entry = json.loads(Reject(Line(source, 1, b"{"), "why").to_json())
    assert entry["source"] == "caf\\xe9.jsonl"


TAKEN = ["s.jsonl", "s.rejects.jsonl", "s.jsonl.partial", "s.jsonl.state"]


@pytest.mark.parametrize("name", TAKEN)
def test_what_exists_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=r"exists: pass --resume .*, --overwrite to start again"):
        OutputFiles(tmp_path / "s.jsonl", [], {})
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="is an input"):
            OutputFiles(tmp_path / "s.jsonl", ["-", "no", str(tmp_path / name)], {}, **options)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "precious")]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "partial.jsonl.partial").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("link", "dangling", "partial", "fifo", "folder"):
        with pytest.raises(OutputError, match="is not a regular file"):
            check_free(tmp_path / f"{name}.jsonl", [], overwrite=True, resume=False)
    for name in ("", ".", "/"):
        with pytest.raises(OutputError, match="is not the name of a file"):
            check_free(Path(name), [], overwrite=True, resume=False)
    assert (tmp_path / "target").read_text() == "precious"


def write(files: OutputFiles, *numbers: int) -> None:
    """Write windows of one line each."""
    for n in numbers:
        files.write([b"%d\n" % n], [], [Line("f", n, b"row %d" % n)], {"rows": n})


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_an_output_that_appears_during_the_run_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    files = OutputFiles(out, [], {})
    write(files, 1)
    out.write_text("precious")
    with pytest.raises(OutputError, match="has appeared during the run"):
        files.__exit__(None, None, None)
    assert out.read_text() == "precious"
    assert (tmp_path / "s.jsonl.partial").read_bytes() == b"1\n"


def test_two_runs_cannot_write_the_same_output(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    with OutputFiles(out, [], {}, overwrite=True) as files:
        write(files, 1)
        for options in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(OutputError, match="another run is writing this output"):
                OutputFiles(out, [], {}, **options)
        write(files, 2)
    assert out.read_bytes() == b"1\n2\n"
    assert names(tmp_path) == ["s.jsonl"]


def test_a_failed_run_keeps_what_it_has(tmp_path: Path) -> None:
    for numbers, left in (((), []), ((1,), ["s.jsonl.partial", "s.jsonl.state"])):
        files = OutputFiles(tmp_path / "s.jsonl", [], {}, overwrite=True)
        write(files, *numbers)
        files.__exit__(ValueError, ValueError("stop"), None)
        assert [n for n in names(tmp_path) if "rejects" not in n] == left


def test_an_input_is_never_written_over(tmp_path: Path, harmless: Run) -> None:
    rows = tmp_path / "rows.rejects.jsonl"
    rows.write_text(ROW)
    (tmp_path / "link").symlink_to(rows)
    for source, out in ((rows, rows), ("link", rows), (rows, "rows.jsonl")):
        done = harmless("score", source, "-o", out, "--model", "demo", "--overwrite", cwd=tmp_path)
        assert done.returncode == 1
        assert "is an input, and would be written over" in done.stderr
    assert rows.read_text() == ROW


def in_a_shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script whose `$0` is the command."""
    command = Path(sys.executable).with_name("harmless")
    return subprocess.run(
        ["bash", "-c", script, command], capture_output=True, text=True, check=False, cwd=folder
    )


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(ROW * 2000)
    done = in_a_shell('ulimit -f 8; exec "$0" score rows -o s.jsonl --model demo', tmp_path)
    assert done.returncode == 1
    assert "error: cannot write s.jsonl: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.jsonl").exists()


def test_closed_standard_input_is_not_an_empty_one(tmp_path: Path) -> None:
    done = in_a_shell('exec "$0" score - -o s.jsonl --model demo <&-', tmp_path)
    assert done.returncode == 1
    assert "standard input is closed" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["rows", "-o", LONG], [LONG, "-o", "s"], ["rows", "-o", "s", "--model", LONG]]
)
def test_names_too_long_for_the_system_are_one_sentence(
    arguments: list[str], tmp_path: Path, harmless: Run
) -> None:
    (tmp_path / "rows").write_text(ROW)
    done = harmless("score", "--model", "demo", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_files_called_as_a_lock_is_are_left_alone(tmp_path: Path, harmless: Run) -> None:
    lock = tmp_path / "o.jsonl.lock"
    rows = tmp_path / "rows"
    for content, source in (("precious", rows), (ROW, lock), ("", lock)):
        rows.write_text(ROW)
        lock.write_text(content)
        done = harmless("score", source, "-o", tmp_path / "o.jsonl", "--model", "demo")
        assert done.returncode == 1
        assert "a run would lock a file of that name" in done.stderr
        assert lock.read_text() == content
    # An empty one that is nobody's input is what a crash leaves.
    assert harmless("score", rows, "-o", tmp_path / "o.jsonl", "--model", "demo").returncode == 0
    assert names(tmp_path) == ["o.jsonl", "rows"]


def test_one_runs_rejects_are_not_anothers_scores(tmp_path: Path) -> None:
    with (
        OutputFiles(tmp_path / "x.jsonl", [], {}),
        pytest.raises(OutputError, match="another run is writing this output"),
    ):
        OutputFiles(tmp_path / "x.rejects.jsonl", [], {}, overwrite=True)
    for suffix in ("partial", "state", "lock"):
        with pytest.raises(OutputError, match="is called as runs call"):
            OutputFiles(tmp_path / f"x.jsonl.{suffix}", [], {}, overwrite=True)
