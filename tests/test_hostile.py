"""Input that nobody means well with: it ends in a score, a reject, or one clear sentence."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from conftest import Run
from harmless_runtime import bundled
from harmless_runtime.config import load_config, make_config
from harmless_runtime.errors import ArtifactError, ConfigError, HarmlessError, OutputError
from harmless_runtime.model.artifact import MANIFEST, open_artifact, sha256_of
from harmless_runtime.model.engine import Engine, load_engine
from harmless_runtime.output import disk
from harmless_runtime.output import writer as commit
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.writer import OutputFiles
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.records import Line, read_lines

GOOD = b'{"id": "good", "instruction": "a", "output": "b"}'

LINES = {
    "a byte order mark in the middle": b"\xef\xbb\xbf" + GOOD,
    "NUL bytes": b"\0" * 50,
    "a NUL in a string": b'{"instruction": "a\0", "output": "b"}',
    "an escaped NUL": b'{"instruction": "a\\u0000", "output": "b"}',
    "a lone surrogate": b'{"instruction": "\\ud800", "output": "b"}',
    "two halves of a surrogate pair": b'{"instruction": "\\ud83d\\ude00", "output": "b"}',
    "other line separators": '{"instruction": "a\u2028\u2029\x85", "output": "\x0b"}'.encode(),
    "a carriage return": GOOD + b"\r",
    "many carriage returns": b"\r\r\r",
    "duplicate keys": b'{"id": 1, "id": 2, "instruction": "a", "instruction": "b", "output": "c"}',
    "an id beyond 64 bits": b'{"id": 36893488147419103232, "instruction": "a", "output": "b"}',
    "an id that is an object": b'{"id": {"a": [1, null]}, "instruction": "a", "output": "b"}',
    "an id with a line break": b'{"id": [1,\r2], "instruction": "a", "output": "b"}',
    "an array": b"[" + GOOD + b"]",
    "a number": b"1e999999",
    "brackets": b"[" * 10**6,
    "braces": b'{"instruction":' * 10**6,
    "a deep id": b'{"id": ' + b"[" * 10**6 + b"]" * 10**6 + b', "instruction": "a", "output": "b"}',
    "a megabyte of one letter": b'{"instruction": "' + b"a" * 10**6 + b'", "output": "b"}',
    "a megabyte of spaces": b'{"instruction": "a", "output": "' + b" " * 10**6 + b'"}',
    "private and unassigned characters": '{"instruction": "\ue000\U0010ffff", "output": "\ufffe"}'
    .encode(),
    "control characters": b'{"instruction": "\x1b[31m", "output": "b"}',
    "escaped control characters": b'{"instruction": "\\u001b[31m\\u0007", "output": "b"}',
    "UTF-16": GOOD.decode().encode("utf-16-le"),
    "the end of text, spelled out": b'{"instruction": "<|endoftext|>", "output": "<|endoftext|>"}',
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(make_config({"model": "demo", "provider": "cpu"}))


@pytest.mark.parametrize("raw", LINES.values(), ids=LINES.keys())
def test_every_line_has_one_line_of_result(raw: bytes, engine: Engine, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_bytes(b"\n".join([GOOD, raw, GOOD]))
    score_files([str(rows)], out, engine)
    scores = [json.loads(line) for line in out.read_bytes().splitlines()]
    rejects_path = OutputPaths(out).rejects
    rejects = rejects_path.read_bytes().splitlines() if rejects_path.exists() else []
    blank = not raw.strip()
    assert len(scores) + len(rejects) == 3 - blank
    assert [scores[0]["id"], scores[-1]["id"]] == ["good", "good"]
    assert scores[0]["score"] == scores[-1]["score"]
    assert all(json.loads(line)["line"] == 2 for line in rejects)


# A process between, because a child starts as large as its parent is.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    with rows.open("wb") as file:
        file.write(GOOD + b"\n")
        file.write(b'{"instruction": "')
        for _ in range(300):
            file.write(b"x" * 10**6)
        file.write(b'", "output": "b"}\n' + GOOD)
    command = Path(sys.executable).with_name("harmless")
    arguments: list[str | Path] = [command, "score", rows, "-o", out, "--model", "demo"]
    launched: list[str | Path] = [sys.executable, "-S", "-c", LAUNCHER, *arguments]
    done = subprocess.run(launched, capture_output=True, text=True, check=True)
    code, peak = map(int, done.stdout.split())
    assert code == 3, done.stderr
    assert 50_000 < peak < 200_000, "kilobytes"
    (reject,) = OutputPaths(out).rejects.read_bytes().splitlines()
    told = json.loads(reject)
    assert told["line"] == 2
    assert told["reason"].startswith("the line has 300,000,034 bytes, more than max_line_bytes")
    assert len(told["raw"]) == 1000
    assert len(out.read_bytes().splitlines()) == 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "after a byte order mark"])
@pytest.mark.parametrize("more", [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nnext"])
def test_a_line_about_as_long_as_may_be(mark: bytes, more: int, end: bytes, tmp_path: Path) -> None:
    first = b"x" * (20 + more)
    (tmp_path / "rows").write_bytes(mark + first + end)
    lines = list(read_lines([str(tmp_path / "rows")], 20))
    first += b"\r" * end.startswith(b"\r")
    assert lines[0].number == 1
    if len(first) > 20:
        assert first.startswith(lines[0].raw)
        assert lines[0].length == len(first)
    else:
        assert (lines[0].raw, lines[0].length) == (first, None)
    assert [line.raw for line in lines[1:]] == [b"next"] * end.endswith(b"next")


def test_standard_input_is_not_written_over(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(GOOD)
    command = Path(sys.executable).with_name("harmless")
    arguments = ["score", "-", "-o", str(rows), "--overwrite", "--model", "demo"]
    with rows.open() as stdin:
        done = subprocess.run(
            [command, *arguments], stdin=stdin, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "is an input, and would be written over" in done.stderr
    assert rows.read_bytes() == GOOD


def test_the_longest_line_is_an_option(tmp_path: Path, harmless: Run) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_bytes(GOOD + b"\n" + GOOD + b" \n" + GOOD)
    size = str(len(GOOD))
    done = harmless("score", rows, "-o", out, "--model", "demo", "--max-line-bytes", size)
    assert done.returncode == 3, done.stderr
    assert len(out.read_bytes().splitlines()) == 2
    (reject,) = OutputPaths(out).rejects.read_bytes().splitlines()
    assert json.loads(reject)["line"] == 2


def test_sources_that_are_no_rows(tmp_path: Path, harmless: Run) -> None:
    (tmp_path / "utf16").write_text("abc", encoding="utf-16")
    (tmp_path / "array").write_bytes(b"[\n" + GOOD + b",\n" + GOOD + b"\n]\n")
    out = ("-o", tmp_path / "o", "--model", "demo")
    for source, sentence in (
        (tmp_path, "Is a directory"),
        ("/dev/zero", "is a device, and has to be a file"),
        (tmp_path / "utf16", "is in UTF-16: iconv -f UTF-16 -t UTF-8"),
    ):
        done = harmless("score", source, *out)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    done = harmless("score", tmp_path / "array", *out)
    assert done.returncode == 3
    assert "begins with [: if it is one JSON array, jq -c '.[]' makes lines of it" in done.stderr
    assert len((tmp_path / "o").read_bytes().splitlines()) == 1, "its last row is a line of its own"


def test_a_named_pipe(tmp_path: Path, harmless: Run) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[GOOD + b"\n" + GOOD])
    writer.start()
    done = harmless("score", tmp_path / "pipe", "-o", tmp_path / "o", "--model", "demo")
    writer.join()
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o").read_bytes().splitlines()) == 2


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, harmless: Run) -> None:
    evil = tmp_path / "\x1b[31mrows\x07"
    evil.write_bytes(b'{"\x1b[2J": 1}\n')
    done = harmless("score", evil, "-o", tmp_path / "o", "--model", "demo", "--strict")
    assert done.returncode == 1
    assert "\\x1b[31mrows\\x07" in done.stderr
    assert not set("\x1b\x07") & set(done.stderr)
    done = harmless(
        "score", tmp_path / "\x1b[31m\nnone:x:", "-o", tmp_path / "o", "--model", "demo"
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "\\nnone:x:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_yaml_bomb_is_one_short_sentence(tmp_path: Path) -> None:
    levels = "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh",
                     "bcdefghi", strict=True))  # fmt: skip
    (tmp_path / "c.yaml").write_text(f"a: &a [x]\n{levels}model: *i\n")
    with pytest.raises(ConfigError, match="model is") as caught:
        load_config(tmp_path / "c.yaml", {})
    assert len(str(caught.value)) < 2000


def rewrite(name: str, content: bytes) -> Callable[[Path], None]:
    """Alter a file of an artifact, and make the manifest agree."""

    def alter(folder: Path) -> None:
        (folder / name).write_bytes(content)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["files"][name] = sha256_of(folder / name)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        rewrite("tokenizer.json", b""),
        rewrite("tokenizer.json", b"garbage"),
        rewrite("tokenizer.json", b"{}"),
        rewrite("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}'),
        rewrite("tokenizer.json", b"[" * 10**6),
        rewrite("model.onnx", b""),
        rewrite("model.onnx", b"garbage"),
        rewrite("model.onnx", os.urandom(10**5)),
        rewrite("model.onnx", bundled.MODEL.joinpath("model.onnx").read_bytes()[:-1000]),
        rewrite("model.onnx.data", b"too short"),
    ],
    ids=lambda _: "",
)
def test_artifacts_that_lie(alter: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    alter(folder)
    with pytest.raises(HarmlessError):
        load_engine(make_config({"model": str(folder), "provider": "cpu"}))


def test_weights_come_from_the_artifacts_own_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.data"
    shutil.copyfile(bundled.MODEL / "model.onnx.data", outside)
    places = ("../outside.data", str(outside), "sub/../../outside.data", "link.data")
    for location in ("model.onnx.data", *places):
        folder = tmp_path / location.replace("/", "_")
        shutil.copytree(bundled.MODEL, folder)
        (folder / "link.data").symlink_to(outside)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        rewrite("model.onnx", model.SerializeToString())(folder)
        config = make_config({"model": str(folder), "provider": "cpu"})
        if location == "model.onnx.data":
            load_engine(config)  # what is refused below is the place alone
        else:
            with pytest.raises(HarmlessError, match=r"external|outside|directory|symbolic|link"):
                load_engine(config)


def test_hard_links_and_symbolic_links_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    weights = folder / "model.onnx.data"
    os.link(weights, tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="2 hard links"):
        open_artifact(folder)
    weights.unlink()
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a plain file"):
        open_artifact(folder)


def test_checks_can_be_skipped(tmp_path: Path, harmless: Run) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    (folder / "training.json").write_text("edited")
    (tmp_path / "rows").write_bytes(GOOD)
    arguments = ("score", tmp_path / "rows", "-o", tmp_path / "o", "--model", folder)
    done = harmless(*arguments)
    if done.returncode == 0:  # the manifest does not list it
        (folder / "config.json").write_text("{}")
        done = harmless(*arguments, "--overwrite")
    assert done.returncode == 1
    assert "is not the file that was exported (its SHA-256 differs)" in done.stderr
    done = harmless(*arguments, "--no-check-files", "--overwrite")
    assert done.returncode == 0, done.stderr


FAILING_READ = """
import os, sys
from harmless_runtime.rows import records
real = records._open
class Broken:
    def __init__(self, file): self.file, self.lines = file, 0
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def readline(self, size):
        self.lines += 1
        if self.lines > 900: raise OSError(5, "Input/output error")
        return self.file.readline(size)
records._open = lambda source: Broken(real(source))
from harmless_runtime.cli.app import main; main()
"""


def test_a_read_error_can_be_resumed_from(tmp_path: Path, harmless: Run) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_bytes((GOOD + b"\n") * 1000)
    arguments: list[str | Path] = ["score", rows, "-o", out, "--model", "demo"]
    broken = subprocess.run(
        [sys.executable, "-c", FAILING_READ, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.returncode == 1
    assert f"error: cannot read {rows}: Input/output error" in broken.stderr
    assert "Traceback" not in broken.stderr
    done = harmless(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(out.read_bytes().splitlines()) == 1000


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    files = OutputFiles(folder / "o", [], {})
    files.write([b"1\n"], [], [Line("f", 1, b"x")], {})
    shutil.rmtree(folder)
    with pytest.raises(OutputError, match="was removed or replaced during the run"):
        files.__exit__(None, None, None)


class Failing:
    """A step of writing that fails at its so-many-th call, and perhaps at all after it."""

    def __init__(self, step: Callable[..., None], call: int, number: int, once: bool) -> None:
        self._step, self._left, self._number, self._once = step, call, number, once
        self.called_since = 0

    def __call__(self, *arguments: object) -> None:
        self._left -= 1
        if self._left == 0 or (self._left < 0 and not self._once):
            raise OSError(self._number, os.strerror(self._number))
        self.called_since += self._left < 0
        self._step(*arguments)


@pytest.mark.parametrize("step", ["append", "sync", "rename", "sync_folder"])
@pytest.mark.parametrize("once", [True, False], ids=["once", "for good"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_disk_that_fails_can_be_resumed_from(
    step: str,
    number: int,
    once: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
) -> None:
    monkeypatch.setattr(commit, "_COMMIT_SECONDS", 0)
    small = replace(engine, limits=replace(engine.limits, window_rows=20))
    rows, whole = tmp_path / "rows", tmp_path / "whole"
    rows.write_bytes((GOOD + b"\n") * 100)
    score_files([str(rows)], whole, small)
    failures = 0
    while True:
        out = tmp_path / f"o{failures}"
        with monkeypatch.context() as patches:
            failing = Failing(getattr(disk, step), failures + 1, number, once)
            patches.setattr(disk, step, failing)
            try:
                score_files([str(rows)], out, small)
            except OutputError as error:
                sentence = str(error)
            else:
                break
        assert os.strerror(number) in sentence
        # The second fsync after a failed one succeeds, and says nothing of what was lost.
        assert step != "sync" or failing.called_since == 0
        failures += 1
        if not out.exists() or OutputPaths(out).state.exists():
            score_files([str(rows)], out, small, resume=True)
        assert out.read_bytes() == whole.read_bytes()
    assert failures > 4
