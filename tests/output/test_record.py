"""A finished run leaves a record, by which the same command knows that there is nothing to do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import InputError, OutputError, ShapeError
from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Summary
from runs import cpu_engine, make_run


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def again(source: Path, engine: Engine, name: str = "o.jsonl", **options: Any) -> Summary:
    options = {"existing": "resume"} | options
    return score_files(make_run(source, source.parent / name, **options), engine)


def test_what_a_record_tells(source: Path, engine: Engine) -> None:
    again(source, engine)
    record = json.loads((source.parent / "o.jsonl.run.json").read_bytes())
    assert record["counts"]["rows"] == 30
    assert record["counts"]["rejected"] == 1
    assert [file["name"] for file in record["files"]] == ["o.rejects.jsonl", "o.jsonl"]
    assert record["inputs"][0]["size"] == source.stat().st_size
    assert record["about"]["parity"][0]["pearson"] > 0.999
    assert record["about"]["versions"]["onnxruntime"]
    assert record["how_read"]["shape"]["name"] == "alpaca"


def test_the_same_command_has_nothing_to_do(source: Path, engine: Engine) -> None:
    first = again(source, engine)
    assert not first.is_old
    before = {path: path.stat().st_mtime_ns for path in source.parent.iterdir()}
    second = again(source, engine)
    assert second.is_old
    assert second.tally == first.tally
    # The file was touched, but has the same rows: they are read and compared.
    os.utime(source, ns=(1, 1))
    assert again(source, engine).is_old
    before[source] = 1
    assert {path: path.stat().st_mtime_ns for path in source.parent.iterdir()} == before


def test_what_has_changed_is_told(source: Path, engine: Engine) -> None:
    again(source, engine)
    text = source.read_bytes()
    out = source.parent / "o.jsonl"
    for content, message in (
        (text.replace(b"Say\\t7.", b"Say\\t8."), "the rows of the input are not those"),
        (text + b"\n", "the size of .* was"),
    ):
        source.write_bytes(content)
        os.utime(source)
        with pytest.raises(OutputError, match=f"complete, but not by this command: {message}"):
            again(source, engine)
    source.write_bytes(text)
    with pytest.raises(OutputError, match="details was False and is True"):
        again(source, engine, details=True)
    with pytest.raises(InputError, match="an earlier run rejected 1 lines"):
        again(source, engine, strict=True)
    with pytest.raises(OutputError, match="it has ids and scores without the rows"):
        again(source, engine, join="s")
    whole = out.read_bytes()
    out.write_bytes(whole[:-9])
    with pytest.raises(OutputError, match=r"o\.jsonl was changed since it was written"):
        again(source, engine)
    out.write_bytes(whole.replace(b'"score": ', b'"score":\t', 1))
    with pytest.raises(OutputError, match=r"o\.jsonl was changed since it was written"):
        again(source, engine)
    (source.parent / "o.rejects.jsonl").unlink()
    out.write_bytes(whole)
    with pytest.raises(OutputError, match=r"o\.rejects\.jsonl is missing"):
        again(source, engine)
    again(source, engine, existing="overwrite")
    assert again(source, engine).is_old
    # Whoever moved the output away wants a new one, and its record is no obstacle.
    out.unlink()
    (source.parent / "o.rejects.jsonl").unlink()
    source.write_text("none\n" * 9)
    with pytest.raises(ShapeError):
        again(source, engine)
    source.write_bytes(text)
    assert not again(source, engine, existing="refuse").is_old


def test_all_bytes_of_the_input_matter_to_a_join(source: Path, engine: Engine) -> None:
    again(source, engine, join="s")
    os.utime(source, ns=(1, 1))
    assert again(source, engine, join="s").is_old
    text = source.read_bytes()
    source.write_bytes(text.replace(b'"id"', b'"Id"', 1))
    with pytest.raises(OutputError, match=r"not by this command: .*r\.jsonl has changed"):
        again(source, engine, join="s")
    source.write_bytes(text)
    assert again(source, engine, join="s").is_old


def test_a_file_that_is_no_record_is_left_alone(source: Path, engine: Engine) -> None:
    (source.parent / "o.jsonl.run.json").write_text("{}")
    with pytest.raises(OutputError, match="is not the record of a run"):
        again(source, engine, existing="overwrite")
    assert (source.parent / "o.jsonl.run.json").read_text() == "{}"
