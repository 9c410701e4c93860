"""The manifest of pieces survives crashes, and counts only what is whole."""

from pathlib import Path

import pytest

from harmless_runtime.cluster.manifest import (
    Attempt,
    Manifest,
    attempt_name,
    discard,
    make_plan,
    pieces_folder,
)
from harmless_runtime.errors import OutputError
from harmless_runtime.output.state import Claim
from harmless_runtime.scores.record import hash_of

PLAN = make_plan({"precision": "fp32"}, [["a"], ["b", "c"]])


def attempt(folder: Path, piece: int, name: str) -> Attempt:
    own = folder / name
    own.mkdir()
    (own / "scores.jsonl").write_text(name)
    (own / "rejects.jsonl").touch()
    scores, rejects = (
        Claim((own / file).stat().st_size, hash_of(own / file))
        for file in ("scores.jsonl", "rejects.jsonl")
    )
    return Attempt(piece, name, 3, "", scores, rejects, {"rows": 3}, "node", 1.0)


def test_an_attempt_counts_once_and_survives(tmp_path: Path) -> None:
    folder = pieces_folder(tmp_path / "out.jsonl")
    assert folder.name == "out.jsonl.pieces"
    manifest = Manifest(folder, PLAN)
    first, second = attempt(folder, 1, "first"), attempt(folder, 1, "second")
    manifest.add(first)
    manifest.add(second)
    again = Manifest(folder, PLAN)
    assert again.done == {1: first}
    again.check(first)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_crash_has_cut_is_no_attempt(cut: int, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    manifest = Manifest(folder, PLAN)
    manifest.add(first := attempt(folder, 0, "first"))
    manifest.add(attempt(folder, 1, "second"))
    path = folder / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Manifest(folder, PLAN)
    assert again.done == {0: first} or cut == 1
    again.add(third := attempt(folder, 1, "third"))
    assert Manifest(folder, PLAN).done[1] in (third, manifest.done[1])


def test_results_that_are_gone_or_changed(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "p", PLAN)
    manifest.add(first := attempt(manifest.folder, 0, "first"))
    scores = manifest.folder / "first" / "scores.jsonl"
    scores.write_text("FIRST")
    with pytest.raises(OutputError, match="was changed since it was written"):
        manifest.check(first)
    scores.unlink()
    assert Manifest(manifest.folder, PLAN).done == {}


def test_another_run_does_not_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    Manifest(folder, PLAN)
    with pytest.raises(OutputError, match="precision was 'fp32' and is 'int8'"):
        Manifest(folder, make_plan({"precision": "int8"}, PLAN.pieces))
    with pytest.raises(OutputError, match="other pieces"):
        Manifest(folder, make_plan(PLAN.fingerprint, [["a"]]))
    (folder / "manifest.jsonl").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        Manifest(folder, PLAN)


def test_only_what_a_run_has_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "own.txt").touch()
    for act in (discard, lambda folder: Manifest(folder, PLAN)):
        with pytest.raises(OutputError, match="is not a folder of pieces"):
            act(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(OutputError, match="is damaged"):
        discard(tmp_path)
    folder = Manifest(tmp_path / "p", PLAN).folder
    attempt(folder, 0, attempt_name(0))
    (folder / "own.txt").touch()
    discard(folder)
    assert [path.name for path in folder.iterdir()] == ["own.txt"]
    (folder / "own.txt").unlink()
    discard(folder)
    discard(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.jsonl", "own.txt"]
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is not a folder of pieces"):
        Manifest(tmp_path / "link", PLAN)
