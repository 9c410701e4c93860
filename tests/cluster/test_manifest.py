"""The manifest of pieces survives crashes, and counts only what is whole."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harmless_runtime.cluster.manifest import (
    Attempt,
    Manifest,
    discard,
    make_plan,
    read_plan,
    versions_of,
)
from harmless_runtime.cluster.results import Result
from harmless_runtime.cluster.storage import Storage, attempt_name
from harmless_runtime.errors import OutputError
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import EMPTY, Claim
from harmless_runtime.rows.file_version import FileVersion
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.rows.sources import Source, Span
from harmless_runtime.scores.record import hash_of
from harmless_runtime.tally import Tally

WHOLE = Source("a", "file", 9, seen=FileVersion(9, 1, None))
SPAN = Source("b", "file", 90, span=Span("bytes", 30, 90, 60), seen=FileVersion(90, 2, None))
PIECES: list[Piece] = [(WHOLE,), (SPAN,)]
PLAN = make_plan({"precision": "fp32"}, PIECES)


def open_manifest(folder: Path, plan: Any = PLAN, pieces: Any = PIECES) -> Manifest:
    return Manifest(folder, Storage(str(folder)), plan, pieces)


def attempt(folder: Path, number: int, text: str) -> Attempt:
    name = attempt_name(number)
    own = folder.parent / "made"
    own.write_text(text)
    Storage(str(folder)).put(own, name, "scores.jsonl")
    scores = Claim(own.stat().st_size, hash_of(own))
    versions, digest = versions_of(PIECES[number]), "0" * 64
    return Attempt(number, name, versions, 3, digest, 3, scores, EMPTY, Tally(3), "node", 1)


def test_an_attempt_counts_once_and_survives(tmp_path: Path) -> None:
    folder = OutputPaths(tmp_path / "out.jsonl").pieces
    assert folder.name == "out.jsonl.pieces"
    manifest = open_manifest(folder)
    first, second = attempt(folder, 1, "first"), attempt(folder, 1, "second")
    manifest.add(first)
    manifest.add(second)
    again = open_manifest(folder)
    assert again.done == {1: first}
    assert again.tally.rows == 3
    assert read_plan(folder) == PLAN


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_crash_has_cut_is_no_attempt(cut: int, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    manifest = open_manifest(folder)
    manifest.add(first := attempt(folder, 0, "first"))
    manifest.add(attempt(folder, 1, "second"))
    path = folder / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_manifest(folder)
    assert again.done == {0: first} or cut == 1
    again.add(third := attempt(folder, 1, "third"))
    assert open_manifest(folder).done[1] in (third, manifest.done[1])


def test_attempts_that_a_crash_has_left_without_a_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    left = attempt(folder, 0, "first")
    (folder / "manifest.jsonl.tmp").write_text("{")
    assert read_plan(folder) is None
    assert open_manifest(folder).done == {}
    assert not (folder / left.name).exists()
    (folder / "manifest.jsonl").unlink()
    (folder / "manifest.jsonl.tmp").write_text("{")
    discard(folder, Storage(str(folder)))
    assert not folder.exists()


@pytest.mark.parametrize(
    "edit",
    [
        {"piece": 2},
        {"piece": -1},
        {"name": "../000001-aaaaaaaaaaaa"},
        {"digest": "0"},
        {"tally": {"rows": "many"}},
        {"scores": None},
    ],
    ids=str,
)
def test_a_line_that_was_edited_is_no_attempt(edit: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "p"
    manifest = open_manifest(folder)
    manifest.add(first := attempt(folder, 0, "first"))
    fields = msgspec.to_builtins(attempt(folder, 1, "second")) | edit
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(fields) + b"\n\xff\n")
    assert open_manifest(folder).done == {0: first}


def test_results_have_as_many_lines_as_rows(tmp_path: Path) -> None:
    written = attempt(tmp_path / "p", 0, "one\ntwo\nthree\n")
    storage = Storage(str(tmp_path / "p"))
    whole = Result(written, storage, 0)
    assert b"".join(b"".join(block) for block in whole.scores(details=False)) == (
        b"one\ntwo\nthree\n"
    )
    for edit in ({"scores": EMPTY}, {"tally": Tally(2)}, {"tally": Tally(3, 1)}):
        edited = Result(msgspec.structs.replace(written, **edit), storage, 0)
        with pytest.raises(OutputError, match="was changed since it was written"):
            list(chain(edited.scores(details=False), edited.rejects()))


def test_results_that_are_gone(tmp_path: Path) -> None:
    manifest = open_manifest(tmp_path / "p")
    manifest.add(first := attempt(tmp_path / "p", 0, "first"))
    (tmp_path / "p" / first.name / "scores.jsonl").unlink()
    assert open_manifest(tmp_path / "p").done == {}


@pytest.mark.parametrize("change", [{"changed": 3}, {"size": 8}, {"version": "v"}])
def test_what_was_scored_of_another_version_counts_no_more(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    manifest = open_manifest(folder)
    first, second = attempt(folder, 0, "first"), attempt(folder, 1, "second")
    old = msgspec.structs.replace(first.versions[0], **change)
    manifest.add(msgspec.structs.replace(first, versions=[old]))
    manifest.add(second)
    assert open_manifest(folder).done == {1: second}


def test_another_run_does_not_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    open_manifest(folder)
    with pytest.raises(OutputError, match="precision was 'fp32' and is 'int8'"):
        open_manifest(folder, make_plan({"precision": "int8"}, PIECES))
    other: list[Piece] = [(WHOLE,), (replace(SPAN, span=None),)]
    with pytest.raises(OutputError, match="other pieces"):
        open_manifest(folder, make_plan(PLAN.fingerprint, other), other)
    (folder / "manifest.jsonl").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        open_manifest(folder)


def test_only_what_a_run_has_written_is_removed(tmp_path: Path) -> None:
    def remove(folder: Path) -> None:
        discard(folder, Storage(str(folder)))

    (tmp_path / "own.txt").touch()
    for act in (remove, open_manifest):
        with pytest.raises(OutputError, match="is not a folder of pieces"):
            act(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(OutputError, match="is damaged"):
        remove(tmp_path)
    folder = tmp_path / "p"
    open_manifest(folder)
    attempt(folder, 0, "first")
    (folder / "own.txt").touch()
    remove(folder)
    assert [path.name for path in folder.iterdir()] == ["own.txt"]
    (folder / "own.txt").unlink()
    remove(folder)
    remove(folder)
    (tmp_path / "made").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.jsonl", "own.txt"]
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is not a folder of pieces"):
        open_manifest(tmp_path / "link")
