"""Inputs with a URL: in memory, or on servers of this machine for HTTP, S3 and the hub."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from forms import FORMS, jsonl, make_rows
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Pair
from processes import COMMAND
from reading import read_rows
from runs import cpu_engine
from servers import Hub, WebServer, s3_store, serving

ROWS = make_rows(250)


def ids(name: str) -> list[str]:
    return [json.loads(i.id) for i in open_inputs([name]).rows() if isinstance(i, Pair)]


ALL = [row["id"] for row in ROWS]


def test_files_folders_and_patterns(store: Any, tmp_path: Path) -> None:
    for name in ("rows.jsonl.gz", "rows.parquet", "rows.csv"):
        store.pipe(f"/data/{name}", FORMS[name](ROWS, tmp_path).read_bytes())
        assert ids(f"memory://data/{name}") == ALL
    store.pipe("/data/_SUCCESS", b"")
    assert ids("memory://data") == ALL * 3
    assert ids("memory://data/rows.[cp]*") == ALL * 2
    with pytest.raises(InputError, match="there is no such file"):
        ids("memory://data/none.jsonl")


def test_the_version_of_a_file_belongs_to_a_run(store: Any, tmp_path: Path) -> None:
    store.pipe("/rows.jsonl", jsonl(ROWS))
    first = remote.look_at("memory://rows.jsonl")
    assert first.size == len(jsonl(ROWS))
    store.pipe("/rows.jsonl", jsonl(ROWS))
    assert remote.look_at("memory://rows.jsonl").version != first.version
    from interrupted import resume, stop_after

    engine = cpu_engine(window_rows=60)
    stop_after(150, ["memory://rows.jsonl"], tmp_path / "o", engine)
    store.pipe("/rows.jsonl", jsonl(ROWS))
    with pytest.raises(OutputError, match=r"the version of memory://rows\.jsonl was"):
        resume(["memory://rows.jsonl"], tmp_path / "o", engine)
    stop_after(150, ["memory://rows.jsonl"], tmp_path / "p", engine)
    assert resume(["memory://rows.jsonl"], tmp_path / "p", engine).tally.rows == 250


@pytest.mark.parametrize("parts", [True, False], ids=["sends parts", "sends whole files"])
def test_a_web_server(parts: bool, tmp_path: Path) -> None:
    rows = make_rows(4000)  # more than one block
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        FORMS[name](rows, tmp_path)
    with serving(partial(WebServer, folder=tmp_path, parts=parts)) as url:
        expected = [row["id"] for row in rows]
        assert ids(f"{url}/rows.jsonl") == expected
        assert ids(f"{url}/rows.jsonl.gz?download=1") == expected
        with pytest.raises(InputError, match="there is no such file"):
            ids(f"{url}/nothing.jsonl")
        facts = remote.look_at(f"{url}/rows.jsonl")
        assert facts.size == (tmp_path / "rows.jsonl").stat().st_size
        assert facts.version is not None


def test_parquet_needs_a_server_that_sends_parts(tmp_path: Path) -> None:
    FORMS["rows.parquet"](ROWS, tmp_path)
    with serving(partial(WebServer, folder=tmp_path, parts=True)) as url:
        assert ids(f"{url}/rows.parquet") == ALL
    with (
        serving(partial(WebServer, folder=tmp_path, parts=False)) as url,
        pytest.raises(InputError, match="a server that sends only whole files"),
    ):
        ids(f"{url}/rows.parquet")


def test_a_read_that_fails_is_repeated(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/rows.jsonl", jsonl(ROWS))
    real = type(store.open("/rows.jsonl")).read
    failures = iter([ConnectionError("reset"), None, TimeoutError("slow"), None])

    def failing(self: Any, *args: Any) -> bytes:
        if (error := next(failures, None)) is not None:
            raise error
        return bytes(real(self, *args))

    monkeypatch.setattr(type(store.open("/rows.jsonl")), "read", failing)
    assert ids("memory://rows.jsonl") == ALL


def test_a_server_that_stays_away(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/rows.jsonl", jsonl(ROWS))
    monkeypatch.setattr(remote, "_ATTEMPTS", 2)

    def failing(*_: Any) -> bytes:
        raise ConnectionError("connection reset by peer")

    monkeypatch.setattr(type(store.open("/rows.jsonl")), "read", failing)
    with pytest.raises(InputError, match=r"cannot read memory://rows.jsonl: connection reset"):
        ids("memory://rows.jsonl")


def test_the_hub(tmp_path: Path) -> None:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    FORMS["rows.parquet"](ROWS, tmp_path / "hub" / "data")
    FORMS["rows.jsonl.gz"](ROWS, tmp_path / "hub" / "data")
    name, out = "hf://datasets/team/rows", tmp_path / "o.jsonl"
    with serving(partial(Hub, folder=tmp_path / "hub")) as url:
        environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
        for source, count in ((f"{name}/data/rows.parquet", 1), (name, 2)):
            done = subprocess.run(
                [COMMAND, "score", source, "-o", out, "--model", "demo", "--overwrite"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert [row["id"] for row in read_rows(out)] == ALL * count


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_store() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        for name in ("rows.parquet", "rows.jsonl.zst"):
            fs.pipe(f"bucket/data/{name}", FORMS[name](ROWS, tmp_path).read_bytes())
        assert ids("s3://bucket/data/rows.parquet") == ALL
        assert ids("s3://bucket/data") == ALL * 2
        with pytest.raises(InputError, match=r"cannot read s3://bucket/data/none\.jsonl"):
            ids("s3://bucket/data/none.jsonl")


def test_kinds_of_urls_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is of an unknown kind"):
        ids("nonsense://rows.jsonl")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match="needs a package that is missing") as caught:
        ids("s3://bucket/rows.jsonl")
    assert caught.value.hint is not None
    assert "[remote]" in caught.value.hint
