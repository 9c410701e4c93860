"""URLs as outputs: which are refused, and the commands with a store that speaks S3."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.run import output_named
from processes import Harmless
from servers import s3_store

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("https://example.com/o.jsonl", OutputError, "is not in an object store"),
        ("file:///tmp/o.jsonl", OutputError, "is not in an object store"),
        ("s3://bucket", OutputError, "names no object"),
        ("sftp://host/o.jsonl", OutputError, "is not in an object store"),
        ("oss://bucket/o.jsonl", ConfigError, "needs a package that is missing"),
    ],
)
def test_urls_that_are_no_outputs(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        output_named(url)


@pytest.mark.slow
def test_the_command_with_s3(
    source: Path, harmless: Harmless, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_store() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        url = "s3://bucket/scored/o.parquet"
        command = ("score", source, "-o", url, "--join", "--model", "demo")
        done = harmless(*command, env=os.environ)
        assert done.returncode == 3, done.stderr
        assert f"rows that could not be scored: 1, see {url}.rejects.jsonl" in done.stderr
        done = harmless(*command, "--resume", env=os.environ)
        assert done.returncode == 0, done.stderr
        assert f"already complete: 30 rows scored, 1 rejected, in {url}" in done.stderr
        done = harmless(*command, env=os.environ)
        assert done.returncode == 1
        assert f"error: {url} already exists\nhint: --resume continues" in done.stderr
        kept = "s3://bucket/kept.jsonl"
        done = harmless("select", url, "-o", kept, "--top", "10", env=os.environ)
        assert done.returncode == 0, done.stderr
        assert f"kept 10 of 30 rows in {kept}" in done.stderr
        fs.invalidate_cache()
        rows = [json.loads(line) for line in fs.cat_file(kept).splitlines()]
        assert len(rows) == 10
        done = harmless("select", url, "-o", kept, "--top", "10", env=os.environ)
        assert f"error: {kept} already exists\nhint: --overwrite" in done.stderr
