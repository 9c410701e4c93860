"""Runs on Ray that are interrupted, and what may have happened until they go on."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from shards import CONFIG, files_in, run_over, worker_processes, write_shards

from harmless_runtime.cluster import driver, pool, schedule
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.cluster.manifest import pieces_folder
from harmless_runtime.errors import OutputError
from harmless_runtime.output.locks import held_lock
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Summary, Tally
from processes import Harmless
from runs import cpu_engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray"),
    pytest.mark.filterwarnings("ignore"),  # those of Ray itself
]


def score(paths: list[Path], out: Path, *, until: int | None = None, **options: Any) -> Summary:
    """Score on Ray; end after so many pieces as Ctrl-C does."""
    folder = pieces_folder(out)

    def on_progress(_: Tally) -> None:
        manifest = folder / "manifest.jsonl"
        if until is not None and manifest.read_bytes().count(b'"piece":') >= until:
            raise KeyboardInterrupt

    return driver.score_on_ray(
        run_over(paths, out, **options), CONFIG, Resources(workers=2), on_progress
    )


def test_rows_that_changed_after_their_piece_was_scored_are_scored_again(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 4, 100)
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(paths, out, until=2)
    for path in paths:  # the size stays
        path.write_text(path.read_text().replace("word word", "fool fool"))
    done = score(paths, out, existing="resume")
    assert done.resumed.rows == 0
    one = tmp_path / "one.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    assert out.read_bytes() == one.read_bytes()


def test_rows_that_change_during_the_run_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_shards(tmp_path / "rows", 3, 100)
    out = tmp_path / "out.jsonl"

    def change_at_the_end(*arguments: Any) -> Any:
        failures = schedule.score_pieces(*arguments)
        paths[0].touch()
        return failures

    with monkeypatch.context() as patches:
        patches.setattr(driver, "score_pieces", change_at_the_end)
        with pytest.raises(OutputError, match=r"part0\.jsonl changed after it was scored"):
            score(paths, out)
    assert not out.exists()
    done = score(paths, out, existing="resume")
    assert 0 < done.resumed.rows < done.tally.rows


def test_a_run_that_replaces_an_older_output_goes_on(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 4, 100)
    out, one = tmp_path / "out.jsonl", tmp_path / "one.jsonl"
    score_files(run_over(paths, out), cpu_engine())
    paths[3].write_text(paths[3].read_text() + '{"id": 1, "instruction": "x", "output": "y"}\n')
    score_files(run_over(paths, one), cpu_engine())
    with pytest.raises(KeyboardInterrupt):
        score(paths, out, until=2, existing="overwrite")
    assert score(paths, out, existing="resume").resumed.rows > 0
    assert out.read_bytes() == one.read_bytes()
    assert not pieces_folder(out).exists()


def test_what_is_not_of_the_run_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    paths = write_shards(pieces_folder(out), 2, 10)
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(OutputError, match="for its pieces"):
            score(paths, out, existing=existing)
    other = write_shards(tmp_path / "rows", 2, 10)
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(OutputError, match="is not a folder of pieces"):
            score(other, out, existing=existing)
    assert all(path.exists() for path in paths)


def test_two_runs_do_not_write_one_output(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 2, 10)
    out = tmp_path / "out.jsonl"
    with held_lock(tmp_path / "out.jsonl.pieces.lock"):
        for existing in ("refuse", "resume", "overwrite"):
            with pytest.raises(OutputError, match="another run is writing this output"):
                score(paths, out, existing=existing)
    score(paths, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl", "out.jsonl.run.json", "rows",
    ]  # fmt: skip


def test_a_field_that_only_a_later_row_has(tmp_path: Path) -> None:
    """The workers that make the files of a folder find it, and the scores are kept."""
    paths = write_shards(tmp_path / "rows", 2, 100)
    row = '{"id": 1, "instruction": "a", "output": "b", "s": 0}'
    paths[1].write_text(paths[1].read_text() + row + "\n")
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="line 101, has a field s already"):
        score(paths, out, is_folder=True, join="s")
    assert not list(out.glob("*.jsonl"))
    again = score(paths, out, is_folder=True, join="t", existing="resume")
    assert again.resumed.rows == again.tally.rows
    score_files(run_over(paths, tmp_path / "one", is_folder=True, join="t"), cpu_engine())
    assert files_in(out) == files_in(tmp_path / "one")
    assert not pieces_folder(out).exists()


def test_a_worker_that_dies_while_it_makes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_shards(tmp_path / "rows", 3, 100)
    killed: list[int] = []
    start = pool.Pool.start

    def start_and_kill(self: pool.Pool, work: pool.Work) -> None:
        start(self, work)
        if work.method == "make" and not killed:
            killed.append(pid := worker_processes()[0])
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(pool.Pool, "start", start_and_kill)
    score(paths, tmp_path / "out", is_folder=True, join="t")
    assert killed
    score_files(run_over(paths, tmp_path / "one", is_folder=True, join="t"), cpu_engine())
    assert files_in(tmp_path / "out") == files_in(tmp_path / "one")


def test_without_ray_the_pieces_are_not_forgotten(tmp_path: Path, harmless: Harmless) -> None:
    paths = write_shards(tmp_path / "rows", 2, 100)
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(paths, out, until=1)
    command = ("score", *paths, "-o", out, "--model", "demo")
    for more, hint in (
        ((), "--resume continues it, --overwrite starts again"),
        (("--resume",), "--engine ray and --resume continue it, --overwrite starts again"),
    ):
        done = harmless(*command, *more)
        assert done.returncode == 1
        assert hint in done.stderr
    assert harmless(*command, "--overwrite").returncode == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl", "out.jsonl.run.json", "out.rejects.jsonl", "rows",
    ]  # fmt: skip
