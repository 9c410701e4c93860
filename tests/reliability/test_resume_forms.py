"""Runs over every form of input are resumed by position, and only if rows are read the same way."""

import json
import shutil
from pathlib import Path

import pytest
from interrupted import resume, score, stop_after, write_rows

from forms import FORMS, make_rows
from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.rows.shapes import Reading
from reading import read_outputs
from runs import cpu_engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundled model with windows of 60 rows."""
    return cpu_engine(window_rows=60)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_resumed_by_position(form: str, tmp_path: Path, engine: Engine) -> None:
    rows = make_rows(300)
    rows[100]["id"] = rows[0]["id"]
    data = tmp_path / "data"
    data.mkdir()
    source = FORMS[form](rows, data)
    score(source, tmp_path / "whole", engine)
    stop_after(150, source, tmp_path / "o", engine)
    summary = resume(source, tmp_path / "o", engine)
    assert summary.resumed.rows >= 60
    assert read_outputs(tmp_path / "o") == read_outputs(tmp_path / "whole")
    stop_after(150, source, tmp_path / "p", engine)
    rows[3]["output"] = rows[3]["output"][::-1] + "?"
    shutil.rmtree(data)
    data.mkdir()
    with pytest.raises(OutputError, match="cannot resume"):
        resume(FORMS[form](rows, data), tmp_path / "p", engine)


def test_how_rows_are_read_has_to_be_the_same(tmp_path: Path, engine: Engine) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]
    chat.append({"role": "assistant", "content": "b"})
    row = {"messages": chat, "prompt": "a", "response": "b", "instruction": "c", "output": "d"}
    source = tmp_path / "rows.jsonl"
    source.write_text(f"{json.dumps(row)}\n" * 300)
    stop_after(150, source, tmp_path / "o", engine)
    for reading, name in (
        (Reading("messages"), "the shape of the rows was 'alpaca"),
        (Reading(columns={"id": "uuid"}), "the shape of the rows"),
        (Reading(system="prepend"), "system was 'drop' and is 'prepend'"),
        (Reading(line_bytes=100), "the longest line"),
    ):
        with pytest.raises(OutputError, match=name):
            resume(source, tmp_path / "o", engine, reading=reading)
    # An explicit name of the same shape changes nothing.
    resume(source, tmp_path / "o", engine, reading=Reading("alpaca"))


def test_a_resumed_run_does_not_refuse_the_shape(tmp_path: Path, engine: Engine) -> None:
    source = tmp_path / "rows.jsonl"
    write_rows(source)
    stop_after(150, source, tmp_path / "o", engine)
    source.write_bytes(b"x" * source.stat().st_size)
    with pytest.raises(OutputError, match="are not those that were scored"):
        resume(source, tmp_path / "o", engine)
