"""Outputs in object stores: made here, and put there as whole objects, the results last."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from forms import jsonl, make_rows
from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.run import output_named
from harmless_runtime.tally import Summary, Tally
from reading import read_folder
from runs import cpu_engine, make_run

ROWS = make_rows(30)

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def score(source: Path, url: str, engine: Engine, **options: Any) -> Summary:
    named = output_named(url)
    place: dict[str, Any] = {"is_folder": named.is_folder, "url": named.url}
    return score_files(make_run(source, named.output, **place, **options), engine)


def objects(store: Any) -> dict[str, bytes]:
    """Return the objects below the folder `out`, without the record, which tells the time."""
    paths = [path for path in store.find("/out") if not path.endswith("run.json")]
    return {path.removeprefix("/out/"): store.cat_file(path) for path in paths}


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv.gz", "o.parquet", "o.jsonl.zst"])
@pytest.mark.parametrize("join", [None, "harmless_score"])
def test_objects_are_what_local_files_would_be(
    name: str, join: str | None, source: Path, engine: Engine, store: Any, cache: Path
) -> None:
    local = source.parent / "local"
    local.mkdir()
    score_files(make_run(source, local / name, join=join), engine)
    summary = score(source, f"memory://out/{name}", engine, join=join)
    assert objects(store) == read_folder(local)
    assert summary.output == f"memory://out/{name}"
    assert store.exists(f"/out/{name}.run.json")
    assert summary.rejects.startswith("memory://out/o.")
    assert store.exists(summary.rejects)
    assert summary.reasons[0][1] == 1
    assert not list(cache.iterdir()), "nothing is left here"


def test_a_folder(source: Path, engine: Engine, store: Any, tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    for name in ("data/a.jsonl", "data/sub/b.jsonl"):
        (tmp_path / name).write_bytes(source.read_bytes())
    assert score(tmp_path / "data", "memory://out/", engine, join="s").tally.rows == 60
    assert sorted(objects(store)) == ["_rejects.jsonl", "a.jsonl", "sub/b.jsonl"]
    assert store.exists("/out/_run.json")
    assert score(tmp_path / "data", "memory://out/", engine, join="s", existing="resume").is_old


def test_what_is_there_is_left_alone_or_replaced(
    source: Path, engine: Engine, store: Any, cache: Path
) -> None:
    url = "memory://out/o.jsonl"
    score(source, url, engine)
    before = objects(store)
    with pytest.raises(OutputError, match=f"{url} already exists"):
        score(source, url, engine)
    assert score(source, url, engine, existing="resume").is_old
    assert not cache.exists() or not list(cache.iterdir())
    source.write_bytes(jsonl(ROWS[:20]))
    with pytest.raises(OutputError, match=f"{url} is complete, but not by this command: the size"):
        score(source, url, engine, existing="resume")
    assert objects(store) == before
    assert score(source, url, engine, existing="overwrite").tally.rows == 20
    assert list(objects(store)) == ["o.jsonl"], "the older rejects are gone"
    store.pipe_file("/out/o.jsonl", b"short")
    with pytest.raises(OutputError, match=r"o\.jsonl was changed since"):
        score(source, url, engine, existing="resume")
    store.rm("/out/o.jsonl.run.json")
    with pytest.raises(OutputError, match="is complete, so there is nothing to resume"):
        score(source, url, engine, existing="resume")
    store.pipe_file("/out/o.jsonl", jsonl(ROWS))
    with pytest.raises(OutputError, match="is an input, and would be overwritten"):
        score_files(
            make_run([url], output_named(url).output, url=url, existing="overwrite"), engine
        )


@pytest.mark.parametrize("puts", [0, 1, 2])
def test_an_upload_that_ends_early_is_done_again_without_scoring(
    puts: int, source: Path, engine: Engine, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://out/o.parquet"
    put = store.put_file
    done: list[str] = []

    def dying(path: str, name: str, **options: Any) -> None:
        if len(done) == puts:
            raise KeyboardInterrupt
        put(path, name, **options)
        done.append(name)

    monkeypatch.setattr(type(store), "put_file", lambda _, *args, **kw: dying(*args, **kw))
    with pytest.raises(KeyboardInterrupt):
        score(source, url, engine)
    assert not store.exists("/out/o.parquet"), "the results come last"
    with pytest.raises(OutputError, match=r"o\.parquet already exists(.|\n)*`resume`"):
        score(source, url, engine)
    monkeypatch.setattr(type(store), "put_file", put.__func__)
    runs = engine.runner.times.shapes
    engine.runner.times.clear()
    assert score(source, url, engine, existing="resume").is_old
    assert engine.runner.times.shapes == 0 < runs
    assert sorted(objects(store)) == ["o.parquet", "o.parquet.rejects.jsonl"]
    with store.open("/out/o.parquet") as file:
        assert parquet.read_table(file).num_rows == 30


@pytest.mark.parametrize("step", ["shutil.rmtree", "harmless_runtime.output.publish.remove_staged"])
def test_a_run_that_ends_while_it_removes_its_own_files(
    step: str, source: Path, engine: Engine, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            score(source, "memory://out/o.jsonl", engine)
    before = objects(store)
    assert "o.jsonl" in before
    assert score(source, "memory://out/o.jsonl", engine, existing="resume").is_old
    assert objects(store) == before


@pytest.mark.parametrize("name", ["o.rejects.jsonl", "o.jsonl.run.json"])
def test_what_has_the_name_of_rejects_or_a_record_is_left_alone(
    name: str, source: Path, engine: Engine, store: Any
) -> None:
    store.pipe_file(f"/out/{name}", jsonl(ROWS))
    for existing in ("refuse", "resume"):
        with pytest.raises(OutputError, match=f"out/{name} ((already )?exists|is not the record)"):
            score(source, "memory://out/o.jsonl", engine, existing=existing)
    assert store.cat_file(f"/out/{name}") == jsonl(ROWS)
    named = output_named("memory://out/o.jsonl")
    run = make_run([f"memory://out/{name}"], named.output, url=named.url, existing="overwrite")
    with pytest.raises(OutputError, match="is an input, and would be overwritten"):
        score_files(run, engine)


def test_overwritten_folder_in_a_store_holds_the_new_run_alone(engine: Engine, store: Any) -> None:
    for name in ("in/a.jsonl", "in/sub/b.jsonl"):
        store.pipe_file(f"/{name}", jsonl(ROWS))

    def run(existing: str) -> None:
        named = output_named("memory://out/")
        place: dict[str, Any] = {"is_folder": True, "url": named.url, "existing": existing}
        score_files(make_run(["memory://in/"], named.output, **place), engine)

    run("refuse")
    assert sorted(objects(store)) == ["a.jsonl", "sub/b.jsonl"]
    store.pipe_file("/out/mine.txt", b"mine")
    store.rm("/in/sub/b.jsonl")
    run("overwrite")
    assert sorted(objects(store)) == ["a.jsonl", "mine.txt"]


def test_an_object_that_appears_during_a_run_is_left_alone(
    source: Path, engine: Engine, store: Any, cache: Path
) -> None:
    def appear(tally: Tally) -> None:
        if tally.rows:
            store.pipe_file("/out/o.jsonl", b"of another")

    named = output_named("memory://out/o.jsonl")
    run = make_run(source, named.output, url=named.url)
    with pytest.raises(OutputError, match="has appeared during the run, and is left alone"):
        score_files(run, engine, appear)
    assert objects(store) == {"o.jsonl": b"of another"}
    (staged,) = cache.rglob("o.jsonl")
    store.pipe_file("/out/o.jsonl", b"?" * staged.stat().st_size)  # as long as the results
    with pytest.raises(OutputError, match="has appeared during the run, and is left alone"):
        score(source, "memory://out/o.jsonl", engine, existing="resume")
    store.rm("/out/o.jsonl")
    assert score(source, "memory://out/o.jsonl", engine, existing="resume").is_old
    assert len(objects(store)["o.jsonl"].splitlines()) == 30


def test_a_store_that_fails_is_told_with_what_to_do(
    source: Path, engine: Engine, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fail(*arguments: Any, **_: Any) -> None:
        tries.append(arguments[-1])
        raise PermissionError(13, "no access")

    monkeypatch.setattr(type(store), "put_file", fail)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(OutputError, match=r"cannot write memory://out/o.*no access") as caught:
        score(source, "memory://out/o.jsonl", engine)
    assert len(tries) == 5
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the results are whole in ")
