"""What is in an object store already: inputs, and objects of others. Names that none can have."""

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from forms import jsonl, make_rows
from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output.checks import check_output
from harmless_runtime.pipeline import score_files
from harmless_runtime.run import Run, output_named
from harmless_runtime.tally import Tally
from runs import cpu_engine, make_run
from servers import s3_store

ROWS = make_rows(9)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def run_into(source: str | Path, url: str, **options: Any) -> Run:
    named = output_named(url)
    return make_run([source], named.output, is_folder=named.is_folder, url=named.url, **options)


def test_an_input_is_known_by_any_url(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pytest.raises(OutputError, match="is an input, and would be overwritten")
    store.pipe_file("/d/a.jsonl", jsonl(ROWS))
    for url in ("memory://d/", "memory:///d/"):
        with refused:
            check_output(run_into("memory://d", url, existing="overwrite"))
    with s3_store() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        fs.pipe_file("bucket/d/a.jsonl", jsonl(ROWS))
        for source, url in (
            ("s3a://bucket/d", "s3a://bucket/d/"),
            ("s3a://bucket/d/a.jsonl", "s3://bucket/d/a.jsonl"),
            ("s3://bucket/d/a.jsonl", "s3a://bucket/d/a.jsonl"),
        ):
            with refused:
                check_output(run_into(source, url, existing="overwrite"))


def test_names_at_the_top_of_a_store(source: Path, engine: Engine, store: Any) -> None:
    score_files(run_into(source, "memory://x"), engine)
    assert sorted(store.find("/")) == ["/x", "/x.rejects", "/x.run.json"]
    for url in ("memory://", "memory:///"):
        with pytest.raises(OutputError, match="names no object"):
            output_named(url)


def test_names_that_no_object_can_have(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"caf\\xe9.jsonl is not valid UTF-8"):
        output_named(os.fsdecode(b"s3://bucket/caf\xe9.jsonl"))
    bad = tmp_path / os.fsdecode(b"bad\xff.jsonl")
    bad.write_bytes(jsonl(ROWS))
    with pytest.raises(OutputError, match=r"out/bad\\xff.jsonl is not valid UTF-8"):
        check_output(run_into(bad, "memory://out/"))


def test_objects_of_others_that_appear_are_left_alone(
    tmp_path: Path, engine: Engine, store: Any
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(jsonl(ROWS))
    others = {"/out/x.rejects.jsonl": b"mine", "/out/x.jsonl.run.json": b"mine too"}

    def appear(tally: Tally) -> None:
        if tally.rows:
            for name, content in others.items():
                store.pipe_file(name, content)

    with pytest.raises(OutputError, match=r"x\.jsonl\.run\.json has appeared during the run"):
        score_files(run_into(source, "memory://out/x.jsonl"), engine, appear)
    assert {name: store.cat_file(name) for name in store.find("/out")} == others
    store.rm("/out/x.jsonl.run.json")
    assert score_files(run_into(source, "memory://out/x.jsonl", existing="resume"), engine).is_old
    assert store.cat_file("/out/x.rejects.jsonl") == b"mine"


def test_only_unchanged_objects_of_the_older_run_are_removed(
    source: Path, engine: Engine, store: Any
) -> None:
    score_files(run_into(source, "memory://out/x.jsonl"), engine)
    size = store.size("/out/x.rejects.jsonl")
    store.pipe_file("/out/x.rejects.jsonl", b"?" * size)
    source.write_bytes(jsonl(ROWS))
    score_files(run_into(source, "memory://out/x.jsonl", existing="overwrite"), engine)
    assert store.cat_file("/out/x.rejects.jsonl") == b"?" * size
    score_files(run_into(source, "memory://out/y.rejects.jsonl"), engine)
    with pytest.raises(OutputError, match=r"y\.rejects\.jsonl is the output of another run"):
        check_output(run_into(source, "memory://out/y.jsonl", existing="overwrite"))
