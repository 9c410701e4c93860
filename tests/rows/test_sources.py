"""Inputs that are found readable or refused, and the lines that are read from them."""

import os
import threading
import time
from pathlib import Path

import pytest

from harmless_runtime.errors import InputError
from harmless_runtime.rows import sources
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Reject
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.rows.sources import Source, files_of, find_source, is_one_of


def rejects_of(*paths: Path, line_bytes: int = 1000) -> list[Reject]:
    """Read lines none of which is a row: rejects keep their text."""
    inputs = open_inputs(map(str, paths), Reading("alpaca", line_bytes=line_bytes))
    return [item for item in inputs.rows() if isinstance(item, Reject)]


def test_lines_keep_their_text_and_number(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(b"\xef\xbb\xbf1\n\n  \r\n2\xe2\x80\xa8\xc2\x852\r\n3\x0c3")
    second.write_bytes(b"4\n")
    lines = rejects_of(first, second)
    assert [(line.number, line.raw) for line in lines] == [
        (1, b"1"), (4, b"2\xe2\x80\xa8\xc2\x852\r"), (5, b"3\x0c3"), (1, b"4"),
    ]  # fmt: skip
    assert [line.source for line in lines] == [str(first)] * 3 + [str(second)]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "after a byte order mark"])
@pytest.mark.parametrize("more", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nnext"])
def test_a_line_about_as_long_as_may_be(mark: bytes, more: int, end: bytes, tmp_path: Path) -> None:
    first = b"x" * (20 + more)
    (tmp_path / "rows").write_bytes(mark + first + end)
    lines = rejects_of(tmp_path / "rows", line_bytes=20)
    first += b"\r" * end.startswith(b"\r")
    assert lines[0].number == 1
    if len(first) > 20:
        assert first.startswith(lines[0].raw)
        assert lines[0].length == len(first)
    else:
        assert (lines[0].raw, lines[0].length) == (first, None)
    assert [line.raw for line in lines[1:]] == [b"next"] * end.endswith(b"next")


def test_an_input_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing: No such file"):
        find_source(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="directory"):
        find_source(str(tmp_path))


def test_an_input_that_is_gone_when_it_is_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"1\n")
    inputs = open_inputs([str(path)], Reading("alpaca"))
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        list(inputs.rows())


def test_kinds_and_sizes(tmp_path: Path) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"12345")
    os.mkfifo(pipe)
    assert find_source(str(file)) == Source(str(file), "file", 5)
    assert find_source(str(pipe)) == Source(str(pipe), "stream")
    assert find_source("/dev/null") == Source("/dev/null", "stream")
    assert find_source("-") == Source("-", "stdin")


def test_a_name_that_is_not_utf8_is_shown_in_utf8() -> None:
    where = os.fsdecode(b"caf\xe9.jsonl")
    assert Source(where, "file").name == "caf\\xe9.jsonl"


def test_an_input_is_recognised_under_another_name(tmp_path: Path) -> None:
    file, link, other = tmp_path / "file", tmp_path / "link", tmp_path / "other"
    file.touch()
    other.touch()
    link.symlink_to(file)
    files = files_of([find_source(str(link))])
    assert is_one_of(file, files)
    assert not is_one_of(other, files)


def test_special_files_of_a_folder_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'{"instruction": "a", "output": "b"}\n')
    os.mkfifo(tmp_path / "a.jsonl")
    for name in (tmp_path, tmp_path / "*.jsonl"):
        caplog.clear()
        inputs = open_inputs([str(name)])
        assert [Path(source.where).name for source in inputs.sources] == ["b.jsonl"]
        assert len(list(inputs.rows())) == 1
        assert "are passed over" in caplog.text
        assert "a.jsonl" in caplog.text


def test_a_pipe_that_nobody_writes_to_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PIPE_SECONDS", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        deadline = time.monotonic() + 60
        while "nobody writes to" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        pipe.write_bytes(b'{"instruction": "a", "output": "b"}\n')

    writer = threading.Thread(target=write)
    writer.start()
    assert len(list(open_inputs([str(pipe)]).rows())) == 1
    writer.join()
    assert f"{pipe} is a pipe that nobody writes to yet" in caplog.text
