"""Files that are not what their names say: refused before a row is scored, and mended by hints."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from interrupted import score
from pyarrow import feather, ipc, orc, parquet
from pyarrow.parquet import encryption

from forms import FORMS, jsonl, make_rows, read
from harmless_runtime.errors import InputError
from harmless_runtime.rows import expand
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Pair
from processes import COMMAND, Harmless, in_a_shell
from runs import cpu_engine
from servers import WebServer, serving

ROWS = make_rows(40)
TABLE = pa.Table.from_pylist(ROWS)
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
PAGE = b'\n<!DOCTYPE html>\n<html lang="en"><head><title>Log in</title></head></html>\n'


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("rows.jsonl")
        content = jsonl(ROWS)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, jsonl(ROWS))
    return file.getvalue()


def in_memory(write: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def written(write: Callable[[pa.Table, Any], Any]) -> bytes:
    return in_memory(lambda file: write(TABLE, file))


def old_feather() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return in_memory(lambda file: feather.write_feather(TABLE.select(["id"]), file, version=1))


class Keys(encryption.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Keeps keys as they are."""

    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return key

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return key


def encrypted() -> bytes:
    keys = encryption.CryptoFactory(Keys)
    how = encryption.EncryptionConfiguration(footer_key="k", uniform_encryption=True)
    with_keys = keys.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    return in_memory(lambda f: parquet.write_table(TABLE, f, encryption_properties=with_keys))


def arrow_stream() -> bytes:
    def write(file: Any) -> None:
        with ipc.new_stream(file, TABLE.schema) as writer:
            writer.write_table(TABLE)

    return in_memory(write)


REFUSED = {
    "pointer.parquet": (POINTER.encode(), "is a pointer of Git LFS"),
    "pointer.jsonl": (POINTER.encode(), "is a pointer of Git LFS"),
    "annex.arrow": (b"/annex/objects/SHA256E-s9--4d.arrow\n", "is a pointer of git-annex"),
    "page.jsonl": (PAGE, "is an HTML page"),
    "page.csv": (b"<HTML><body>Moved</body></HTML>", "is an HTML page"),
    "page.jsonl.gz": (gzip.compress(PAGE), "is an HTML page"),
    "denied.parquet": (b'<?xml version="1.0"?>\n<Error><Code>Denied</Code></Error>', "is XML"),
    "rows.tar": (tar(), "is a tar archive"),
    "rows.tar.gz": (gzip.compress(tar()), "is a tar archive"),
    "rows.tar.bz2": (bz2.compress(tar()), "is a tar archive"),
    "rows.tar.xz": (lzma.compress(tar()), "is a tar archive"),
    "rows.tar.zst": (zstandard.compress(tar()), "is a tar archive"),
    "webdataset.parquet": (tar(), "is a tar archive"),
    "rows.zip": (zipped("rows.jsonl"), "is a zip archive"),
    "book.csv": (zipped("[Content_Types].xml"), "is a workbook"),
    "rows.7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive"),
    "rows.rar": (b"Rar!\x1a\x07\x01\x00", "is a rar archive"),
    "rows.lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7", "is compressed with lz4"),
    "twice.gz": (gzip.compress(gzip.compress(jsonl(ROWS))), "is compressed twice"),
    "rows.parquet.gz": (gzip.compress(written(parquet.write_table)), "is Parquet in a compressed"),
    "empty.parquet": (b"", "is empty"),
    "empty.arrow": (b"", "is empty"),
    "empty.feather": (b"", "is empty"),
    "empty.jsonl.gz": (b"", "is empty"),
    "empty.csv.zst": (b"", "is empty"),
    "empty.json": (b"", "is empty"),
    "zeros.jsonl": (bytes(4096), "is zeros where it begins"),
    "rows.parquet": (jsonl(ROWS), "is JSON, and not Parquet as its name says"),
    "text.parquet": (b"id,instruction,output\n", "is text, and not Parquet"),
    "other.parquet": ("Grüße\n".encode("cp1252"), "is text in another encoding, and not Parquet"),
    "noise.arrow": (bytes(range(7, 256)), "is of an unknown form, and not Arrow"),
    "noise.jsonl.gz": (bytes(range(7, 256)), "is of an unknown form, and not gzip"),
    "encrypted.parquet": (encrypted(), "is encrypted Parquet"),
    "old.feather": (old_feather(), "is Feather of version 1"),
    "rows.avro": (b"Obj\x01\x04\x14avro.codec", "is Avro"),
    "orc.parquet": (written(orc.write_table), "is ORC"),
    "rows.h5": (b"\x89HDF\r\n\x1a\n\0\0", "is HDF5"),
    "rows.npy": (in_memory(lambda file: np.save(file, np.arange(9))), "is an array of NumPy"),
    "rows.npz": (in_memory(lambda file: np.savez(file, a=np.arange(9))), "is an array of NumPy"),
    "rows.pkl": (pickle.dumps(ROWS), "is a pickle of Python"),
    "paper.jsonl": (b"%PDF-1.7\n%\xc2\xb5\n", "is a PDF document"),
    "marked.csv": ("id,output\n1,b\n".encode("utf-16"), "is in UTF-16"),
    "little.csv": ("id,output\n1,b\n".encode("utf-16-le"), "is in UTF-16"),
    "big.jsonl": ('{"id": 1}\n'.encode("utf-16-be"), "is in UTF-16"),
    "wide.csv": ("id,output\n1,b\n".encode("utf-32"), "is in UTF-32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_holds_no_rows_is_refused_when_it_is_found(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    FORMS["rows.jsonl"](ROWS, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / name} {message}")) as caught:
        open_inputs([str(tmp_path / "rows.jsonl"), str(tmp_path / name)])
    assert caught.value.hint


@pytest.mark.parametrize("name", ["page.jsonl.gz", "rows.tar.gz", "rows.avro", "pointer.jsonl"])
def test_one_that_comes_by_standard_input_is_refused_too(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    command: list[str | Path] = [COMMAND, "score", "-", "-o", tmp_path / "o.jsonl"]
    done = subprocess.run(
        [*command, "--model", "demo"], input=content, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert f"error: - {message}" in done.stderr.decode()


READ = {
    "stream.parquet": arrow_stream(),
    "file.parquet": written(feather.write_feather),
    "rows.feather": written(feather.write_feather),
    "parquet.jsonl": written(parquet.write_table),
    "lines.csv": jsonl(ROWS),
    "array.tsv": json.dumps(ROWS).encode(),
    "unpacked.jsonl.gz": jsonl(ROWS),
    "packed.jsonl": gzip.compress(jsonl(ROWS)),
    "other.jsonl.gz": bz2.compress(jsonl(ROWS)),
    "packed": lzma.compress(jsonl(ROWS)),
    "blank.jsonl": b"\n \n" + jsonl(ROWS),
}


@pytest.mark.parametrize("name", READ)
def test_forms_that_show_are_read_whatever_the_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(READ[name])
    items = read(tmp_path / name)
    assert [json.loads(item.id) for item in items if isinstance(item, Pair)] == [
        row["id"] for row in ROWS
    ]


@pytest.mark.parametrize("first", ["ORCID", "PARENT", "FEA1", "Obj", "version", "zip", "PK"])
def test_words_that_begin_like_a_file_are_words(first: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"{first},instruction,output\n1,a,b\n")
    assert [type(item) for item in read(tmp_path / "rows.csv")] == [Pair]


def test_hints_mend_the_file(tmp_path: Path) -> None:
    for name, content, made in (
        ("a tar.gz", gzip.compress(tar()), None),
        ("rows.orc", written(orc.write_table), "NEW.parquet"),
        ("with a space.feather", old_feather(), "NEW.parquet"),
        ("text.csv", jsonl(ROWS).decode().encode("utf-16"), "NEW_FILE"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            open_inputs([str(tmp_path / name)])
        _, _, command = str(caught.value.hint).partition(": ")
        command = command.replace("harmless score - …", '"$0" score - -o NEW.jsonl --model demo')
        command = command.replace("python -c", f"{sys.executable} -W ignore -c")
        done = in_a_shell(command, tmp_path)
        assert done.returncode == 0, done.stderr
        if made is not None:
            count = len((tmp_path / made).read_bytes().splitlines())
            if made.endswith("parquet"):
                count = parquet.read_table(tmp_path / made).num_rows
            assert count == len(ROWS)
    assert len((tmp_path / "NEW.jsonl").read_bytes().splitlines()) == len(ROWS)


def test_a_database(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE rows (id, instruction, output)")
    database.commit()
    database.close()
    with pytest.raises(InputError, match="is a database of SQLite"):
        open_inputs([str(path)])


def test_nothing_is_scored_before_all_files_are_looked_at(
    tmp_path: Path, harmless: Harmless
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    parquet.write_table(TABLE, folder / "part-0.parquet")
    (folder / "part-1.parquet").write_text(POINTER)
    good = folder / "part-0.parquet"
    for command in (
        ["score", folder, "-o", "o.jsonl", "--model", "demo"],
        ["score", folder, "--dry-run", "--model", "demo"],
        ["eval", folder, "--model", "demo"],
        ["select", folder, "-o", "s.jsonl", "--top", "1"],
    ):
        done = harmless(*command, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert f"error: {folder}/part-1.parquet is a pointer of Git LFS" in done.stderr
        assert "hint: fetch the file: git lfs pull" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    harmless("score", good, "-o", "o.jsonl", "--model", "demo", cwd=tmp_path)
    done = harmless("report", "o.jsonl", folder, "-o", "r.html", cwd=tmp_path)
    assert "part-1.parquet is a pointer of Git LFS" in done.stderr


def test_a_link_to_a_file_that_git_annex_has_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").symlink_to(".git/annex/objects/aa/bb/SHA256E-s9--4d/x.parquet")
    with pytest.raises(InputError, match="No such file") as caught:
        open_inputs([str(tmp_path / "rows.parquet")])
    assert caught.value.hint == f"fetch it: git annex get {tmp_path}/rows.parquet"


def test_remote_files_are_looked_at_too(store: Any) -> None:
    store.pipe("/a/0.jsonl", jsonl(ROWS))
    for name, content, message in (
        ("1.parquet", POINTER.encode(), "is a pointer of Git LFS"),
        ("1.parquet", b"", "is empty"),
        ("1.jsonl.gz", b"", "is empty"),
        ("1.jsonl", PAGE, "is an HTML page"),
        ("1.tar.gz", gzip.compress(tar()), "is a tar archive"),
    ):
        store.pipe(f"/a/{name}", content)
        with pytest.raises(InputError, match=rf"memory://a/{name} {message}"):
            open_inputs(["memory://a/0.jsonl", f"memory://a/{name}"])
        store.rm(f"/a/{name}")
    store.pipe("/a/1.jsonl", b"")
    assert len(list(open_inputs(["memory://a"]).rows())) == len(ROWS)


@pytest.mark.parametrize("parts", [True, False], ids=["sends parts", "sends whole files"])
def test_pages_of_a_web_server(parts: bool, tmp_path: Path) -> None:
    for name, content in (("blob", PAGE), ("raw", POINTER.encode()), ("resolve", jsonl(ROWS))):
        (tmp_path / "team" / name / "main").mkdir(parents=True)
        (tmp_path / "team" / name / "main" / "rows.jsonl").write_bytes(content)
    with serving(partial(WebServer, folder=tmp_path, parts=parts)) as url:
        for name, message in (("blob", "is an HTML page"), ("raw", "is a pointer of Git LFS")):
            with pytest.raises(InputError, match=message) as caught:
                open_inputs([f"{url}/team/{name}/main/rows.jsonl"])
            assert caught.value.hint is not None
            itself = caught.value.hint.removeprefix("name the file itself: ")
            assert len(list(open_inputs([itself]).rows())) == len(ROWS)


def test_remote_files_beyond_the_first_ones_are_looked_at_in_their_turn(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expand, "_LOOKED_INTO", 1)
    store.pipe("/a/0.jsonl", jsonl(make_rows(200)))  # more than decide the shape
    store.pipe("/a/1.parquet", PAGE)
    out = tmp_path / "o.jsonl"
    with pytest.raises(InputError, match=r"/a/1\.parquet is an HTML page"):
        score(["memory://a"], out, cpu_engine(window_rows=20))
    assert len(Path(f"{out}.partial").read_bytes().splitlines()) >= 100, "what was scored is kept"
    assert not out.exists()
