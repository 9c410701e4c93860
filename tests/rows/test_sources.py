"""Inputs that are found readable or refused, and the lines that are read from them."""

import os
from pathlib import Path

import pytest

from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import InputError
from harmless_runtime.rows.sources import Line, Source, find_source, read_lines


def lines_of(*paths: Path) -> list[Line]:
    return list(read_lines([find_source(str(path)) for path in paths], LINE_BYTES))


def test_lines_keep_their_text_and_number(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(b"\xef\xbb\xbf1\n\n  \r\n2\xe2\x80\xa8\x852\r\n3\x0c3")
    second.write_bytes(b"4\n")
    lines = lines_of(first, second)
    assert [(line.number, line.raw) for line in lines] == [
        (1, b"1"), (4, b"2\xe2\x80\xa8\x852\r"), (5, b"3\x0c3"), (1, b"4"),
    ]  # fmt: skip
    assert [line.source for line in lines] == [str(first)] * 3 + [str(second)]


def test_an_input_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nothing: No such file"):
        find_source(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="directory"):
        find_source(str(tmp_path))


def test_an_input_that_is_gone_when_it_is_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"1\n")
    source = find_source(str(path))
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        list(read_lines([source], LINE_BYTES))


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
    source = find_source(str(link))
    assert source.is_same_file(file)
    assert not source.is_same_file(other)
