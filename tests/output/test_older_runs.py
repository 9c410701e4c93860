"""What an older run has left: it is replaced with `overwrite`, and nothing else is touched."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from forms import jsonl, make_rows
from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.writer import Output
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Summary, Tally
from reading import names_in, read_folder, read_outputs
from runs import cpu_engine, make_run

ROWS = make_rows(9)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def score(
    source: Path, out: Path, engine: Engine, existing: str = "refuse", **more: Any
) -> Summary:
    return score_files(make_run(source, out, existing=existing, **more), engine)


def kill_at_the_start(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, engine: Engine, **more: Any
) -> None:
    """Start a run that overwrites, and end it before its first result as `kill -9` does."""

    def die(_: Tally) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(Output, "keep", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            score_files(make_run(source, out, existing="overwrite", **more), engine, die)


def test_only_what_the_record_tells_of_is_removed(
    source: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    out, rejects = source.parent / "o.jsonl", source.parent / "o.rejects.jsonl"
    score(source, out, engine)
    rows = source.with_name("rows.jsonl")
    rows.write_bytes(jsonl(ROWS))
    rejects.write_text("edited")
    score(rows, out, engine, "overwrite")
    assert rejects.read_text() == "edited"
    assert f"{rejects} is of an older run, and was changed" in caplog.text
    rejects.unlink()
    score(source, out, engine, "overwrite")
    assert rejects.exists()
    score(rows, out, engine, "overwrite")
    assert not rejects.exists()
    # Nothing tells what a file is that no record tells of.
    rejects.write_text("foreign")
    OutputPaths(out).record.unlink()
    score(rows, out, engine, "overwrite")
    assert rejects.read_text() == "foreign"


def test_the_output_of_another_run_is_not_taken_for_rejects(source: Path, engine: Engine) -> None:
    other, out = source.parent / "x.rejects.jsonl", source.parent / "x.jsonl"
    score(source, other, engine)
    whole = other.read_bytes()
    with pytest.raises(OutputError, match=r"x\.rejects\.jsonl is the output of another run"):
        score(source, out, engine, "overwrite")
    assert other.read_bytes() == whole
    assert not out.exists()
    assert score(source, other, engine, "resume").is_old


def test_a_copied_record_removes_nothing_beside_it(source: Path, engine: Engine) -> None:
    out, copy = source.parent / "o.jsonl", source.parent / "c.jsonl"
    score(source, out, engine)
    before = read_outputs(out)
    copy.write_bytes(out.read_bytes())
    OutputPaths(copy).record.write_bytes(OutputPaths(out).record.read_bytes())
    score(source, copy, engine, "overwrite")
    assert read_outputs(out) == read_outputs(copy) == before


def test_a_folder_that_was_overwritten_is_resumed(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, expected = tmp_path / "old", tmp_path / "new", tmp_path / "expected"
    for path in (old / "a.jsonl", old / "b.jsonl", new / "c.jsonl"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jsonl(ROWS))
    score(new, expected, engine, is_folder=True)
    out = tmp_path / "out"
    score(old, out, engine, is_folder=True)
    kill_at_the_start(monkeypatch, new, out, engine, is_folder=True)
    score(new, out, engine, "resume", is_folder=True)
    assert read_folder(out) == read_folder(expected)
    assert score(new, out, engine, "resume", is_folder=True).is_old


@pytest.mark.usefixtures("cache")
def test_an_object_that_was_overwritten_is_resumed(
    source: Path, engine: Engine, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = source.parent / "cache/harmless-scorer/outputs/1/o.jsonl"
    url = "memory://out/o.jsonl"
    score(source, staged, engine, url=url)
    source.write_bytes(jsonl(ROWS))
    kill_at_the_start(monkeypatch, source, staged, engine, url=url)
    assert not score(source, staged, engine, "resume", url=url).is_old
    assert sorted(store.find("/out")) == ["/out/o.jsonl", "/out/o.jsonl.run.json"]


@pytest.mark.parametrize("step", ["made", "making"])
@pytest.mark.parametrize("existing", ["resume", "overwrite"])
def test_a_join_that_was_killed_leaves_nothing_to_a_run_without(
    step: str, existing: str, source: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = source.parent / "whole/o.jsonl", source.parent / "out/o.jsonl"
    score(source, whole, engine)

    def die(*_: Any, **__: Any) -> None:
        made = out.with_name("o.jsonl.made")
        made.write_bytes(made.read_bytes() if made.exists() else b"half")
        raise KeyboardInterrupt

    name = "writer.write_record" if step == "made" else "finish.make_results"
    with monkeypatch.context() as patches:
        patches.setattr(f"harmless_runtime.output.{name}", die)
        patches.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            score(source, out, engine, join="s")
    assert "o.jsonl.made" in names_in(out.parent)
    for lock in out.parent.glob("*.lock"):
        lock.unlink()
    score(source, out, engine, existing)
    assert names_in(out.parent) == names_in(whole.parent)
    assert read_folder(out.parent) == read_folder(whole.parent)


def test_an_edited_record_removes_nothing_elsewhere(tmp_path: Path, engine: Engine) -> None:
    rows, out, elsewhere = tmp_path / "in", tmp_path / "out", tmp_path / "elsewhere"
    for path in (rows / "a.jsonl", rows / "sub/b.jsonl"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(jsonl(ROWS))
    score(rows, out, engine, is_folder=True)
    (rows / "sub/b.jsonl").unlink()
    # A folder of the output has become a link.
    (out / "sub").rename(elsewhere)
    (out / "sub").symlink_to(elsewhere)
    score(rows, out, engine, "overwrite", is_folder=True)
    assert (elsewhere / "b.jsonl").exists()
    record = out / "_run.json"
    text = json.loads(record.read_bytes())
    for name in (str(elsewhere / "b.jsonl"), "../elsewhere/b.jsonl"):
        text["files"][-1]["name"] = name
        record.write_text(json.dumps(text))
        with pytest.raises(OutputError, match="is not the name of a file below its folder"):
            score(rows, out, engine, "overwrite", is_folder=True)
    assert (elsewhere / "b.jsonl").exists()


@pytest.mark.parametrize("name", ["o.jsonl.run.json", "o.jsonl.run.json.tmp"])
def test_what_appears_under_the_name_of_the_record_is_left_alone(
    name: str, source: Path, engine: Engine
) -> None:
    out, mine = source.parent / "o.jsonl", source.parent / "mine"
    mine.write_text("mine")

    def appear(tally: Tally) -> None:
        if tally.rows and not os.path.lexists(out.with_name(name)):
            out.with_name(name).symlink_to(mine)

    with pytest.raises(OutputError):
        score_files(make_run(source, out), engine, appear)
    assert mine.read_text() == "mine"
    assert out.with_name(name).is_symlink()
    out.with_name(name).unlink()
    if not name.endswith(".tmp"):
        out.with_name(name).write_text("foreign")
        with pytest.raises(OutputError, match="is not the record of a run"):
            score(source, out, engine, "resume")
        assert out.with_name(name).read_text() == "foreign"
        out.with_name(name).unlink()
    assert score(source, out, engine, "resume").tally.rows == 30
