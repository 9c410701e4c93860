"""The command and its files: full disks, odd names, inputs and locks that are left alone."""

from pathlib import Path

import pytest

from processes import Harmless, in_a_shell
from reading import names_in

LONG = "x" * 300


ROW = '{"instruction": "a", "output": "b"}\n'


def test_an_input_is_never_written_over(tmp_path: Path, harmless: Harmless) -> None:
    rows = tmp_path / "rows.rejects.jsonl"
    rows.write_text(ROW)
    (tmp_path / "link").symlink_to(rows)
    for source, out in ((rows, rows), ("link", rows), (rows, "rows.jsonl")):
        done = harmless("score", source, "-o", out, "--model", "demo", "--overwrite", cwd=tmp_path)
        assert done.returncode == 1
        assert "is an input, and would be overwritten" in done.stderr
    assert rows.read_text() == ROW


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(ROW * 2000)
    done = in_a_shell('ulimit -f 8; exec "$0" score rows -o s.jsonl --model demo', tmp_path)
    assert done.returncode == 1
    assert "error: cannot write s.jsonl: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.jsonl").exists()


def test_closed_standard_input_is_refused(tmp_path: Path) -> None:
    done = in_a_shell('exec "$0" score - -o s.jsonl --model demo <&-', tmp_path)
    assert done.returncode == 1
    assert "standard input is closed" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["rows", "-o", LONG], [LONG, "-o", "s"], ["rows", "-o", "s", "--model", LONG]]
)
def test_names_too_long_for_the_system_are_one_sentence(
    arguments: list[str], tmp_path: Path, harmless: Harmless
) -> None:
    (tmp_path / "rows").write_text(ROW)
    done = harmless("score", "--model", "demo", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_with_the_name_of_the_lock_is_left_alone(tmp_path: Path, harmless: Harmless) -> None:
    lock = tmp_path / "o.jsonl.lock"
    rows = tmp_path / "rows"
    for content, source in (("precious", rows), (ROW, lock), ("", lock)):
        rows.write_text(ROW)
        lock.write_text(content)
        done = harmless("score", source, "-o", tmp_path / "o.jsonl", "--model", "demo")
        assert done.returncode == 1
        assert "the run needs this name for its lock" in done.stderr
        assert lock.read_text() == content
    # An empty file that is not an input is a lock that a crash left.
    assert harmless("score", rows, "-o", tmp_path / "o.jsonl", "--model", "demo").returncode == 0
    assert names_in(tmp_path) == ["o.jsonl", "o.jsonl.run.json", "rows"]


def test_the_current_folder_is_an_output(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "rows.jsonl").write_text(ROW)
    (tmp_path / "out").mkdir()
    done = harmless("score", "../rows.jsonl", "-o", ".", "--model", "demo", cwd=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "out") == ["_run.json", "rows.jsonl"]


def test_the_current_folder_may_be_gone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "a", "output": "b"}\n')
    script = f'mkdir gone && cd gone && rmdir ../gone && "$0" score {rows} -o o.jsonl --model demo'
    done = in_a_shell(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: the current folder was removed\n"
