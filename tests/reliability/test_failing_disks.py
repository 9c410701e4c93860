"""Disks that are full or fail: one sentence, and a run that can be resumed."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interrupted import resume, score

from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output import disk
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.rows.records import Reject
from processes import Harmless
from runs import cpu_engine, make_run

GOOD = b'{"id": "good", "instruction": "a", "output": "b"}'


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine(window_rows=20)


FAILING_READ = """
import os, sys
from harmless_runtime.rows.sources import Source
real = Source.open
class Broken:
    def __init__(self, file): self.file, self.bytes = file, 0
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def readinto(self, buffer):
        if self.bytes > 40_000: raise OSError(5, "Input/output error")
        count = self.file.readinto(memoryview(buffer)[:1000])
        self.bytes += count
        return count
Source.open = lambda source: Broken(real(source))
from harmless_runtime.cli.app import main; main()
"""


def test_a_read_error_can_be_resumed_from(tmp_path: Path, harmless: Harmless) -> None:
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

    def write_and_remove() -> None:
        with open_output(make_run([], folder / "o"), {}) as output:
            output.write(b"1\n", b"", [Reject("f", 1, "", b"x")], {})
            shutil.rmtree(folder)

    with pytest.raises(OutputError, match="was removed or replaced during the run"):
        write_and_remove()


class Failing:
    """A step of writing that fails at call number `call`, and at all later ones unless `once`."""

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
    rows, whole = tmp_path / "rows", tmp_path / "whole"
    rows.write_bytes((GOOD + b"\n") * 100)
    score(rows, whole, engine)
    failures = 0
    while True:
        out = tmp_path / f"o{failures}"
        with monkeypatch.context() as patches:
            failing = Failing(getattr(disk, step), failures + 1, number, once)
            patches.setattr(disk, step, failing)
            try:
                score(rows, out, engine)
            except OutputError as error:
                sentence = str(error)
            else:
                break
        assert os.strerror(number) in sentence
        # A second fsync after a failed one would succeed, although data was lost.
        assert step != "sync" or failing.called_since == 0
        failures += 1
        if not out.exists() or OutputPaths(out).state.exists():
            resume(rows, out, engine)
        assert out.read_bytes() == whole.read_bytes()
    assert failures > 4
