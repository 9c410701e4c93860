"""A finished run leaves a record, by which the same command knows that there is nothing to do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import InputError, OutputError, ShapeError
from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.cut import Wanted
from harmless_runtime.scores.select import Selection, select_rows
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
    with pytest.raises(InputError, match="an earlier run had 1 rejects"):
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


EDITS = [
    {"counts": {"foo": 1}},
    {"counts": {"rows": -1}},
    {"files": []},
    {"line_bytes": 10**30},
    {"line_bytes": 0},
    *({"name": name} for name in ("x" * 5000, "", ".", "..", "a/../b", "/etc/passwd", "a\0b")),
    *({"output": field} for field in (None, "", "\0", 'a"b')),
    {"id": ""},
    {"id": "\0"},
]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edited_record_is_told_in_a_sentence(
    edit: dict[str, Any], source: Path, engine: Engine
) -> None:
    again(source, engine)
    path = source.parent / "o.jsonl.run.json"
    record = json.loads(path.read_bytes())
    ((key, value),) = edit.items()
    how = record["how_read"]
    where = {"line_bytes": how, "name": record["files"][0]}
    where |= {"output": how["shape"], "id": how["shape"]}
    where.get(key, record)[key] = value
    path.write_text(json.dumps(record))
    for existing in ("resume", "overwrite"):
        with pytest.raises(OutputError, match="is not the record of a run"):
            again(source, engine, existing=existing)
    selection = Selection((str(source),), source.parent / "k", Wanted(0), source.parent / "o.jsonl")
    with pytest.raises(OutputError, match="is not the record of a run"):
        select_rows(selection)


def test_a_record_of_fewer_inputs(source: Path, engine: Engine) -> None:
    again(source, engine, join="s")
    path = source.parent / "o.jsonl.run.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"inputs": []}))
    with pytest.raises(OutputError, match="the record tells of other inputs"):
        again(source, engine, join="s")


@pytest.mark.parametrize("name", [b"caf\xe9.jsonl", b"\\xff.jsonl", b"\\\xff\\.jsonl", b"/"])
def test_names_that_are_not_valid_text(name: bytes, source: Path, engine: Engine) -> None:
    is_folder = name == b"/"
    if is_folder:
        source = source.rename(source.with_name(os.fsdecode(b"bad\xff.jsonl")))
    out = source.parent / "out" / os.fsdecode(name).strip("/")
    for existing, is_old in (("refuse", False), ("resume", True), ("overwrite", False)):
        run = make_run(source, out, existing=existing, is_folder=is_folder)
        assert score_files(run, engine).is_old == is_old
    selection = Selection((str(source),), source.parent / "kept", Wanted(-99), out)
    assert select_rows(selection).kept == 30
    source.write_bytes(source.read_bytes().removesuffix(b"oops\n"))
    before = len(list(out.parent.rglob("*")))
    run = make_run(source, out, existing="overwrite", is_folder=is_folder)
    score_files(run, engine)
    assert len(list(out.parent.rglob("*"))) == before - 1, "the rejects are gone"
