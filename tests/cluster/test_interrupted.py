"""Runs on Ray that are interrupted, and what may have happened until they go on."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from shards import CONFIG, files_in, run_over, score, worker_processes, write_shards

from harmless_runtime.cluster import driver, pool, schedule
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.output.locks import held_lock
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Tally
from runs import cpu_engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray"),
    pytest.mark.filterwarnings("ignore"),  # those of Ray itself
]


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
        with pytest.raises(InputError, match=r"part0\.jsonl has changed since the run began"):
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
    assert not OutputPaths(out).pieces.exists()


def test_what_is_not_of_the_run_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    paths = write_shards(OutputPaths(out).pieces, 2, 10)
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(OutputError, match="for its pieces"):
            score(paths, out, existing=existing)
    other = write_shards(tmp_path / "rows", 2, 10)
    (tmp_path / "out.jsonl.pieces.lock").touch()
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(OutputError, match="is not a folder of pieces"):
            score(other, out, existing=existing)
    assert all(path.exists() for path in paths)
    assert (tmp_path / "out.jsonl.pieces.lock").exists()


def test_two_runs_do_not_write_one_output(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 2, 10)
    out = tmp_path / "out.jsonl"
    with held_lock(tmp_path / "out.jsonl.lock"):
        for existing in ("refuse", "resume", "overwrite"):
            with pytest.raises(OutputError, match="another run is writing this output"):
                score(paths, out, existing=existing)
    score(paths, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl", "out.jsonl.run.json", "rows",
    ]  # fmt: skip


def test_a_run_that_was_killed_before_its_pieces_were_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Any) -> None:
        raise KeyboardInterrupt

    for existing in ("refuse", "overwrite"):
        paths = write_shards(tmp_path / "rows", 2, 10 if existing == "refuse" else 20)
        out = tmp_path / "out.jsonl"
        with monkeypatch.context() as patches:
            patches.setattr(driver, "discard_pieces", killed)
            with pytest.raises(KeyboardInterrupt):
                score(paths, out, existing=existing)
        assert out.exists()
        assert OutputPaths(out).pieces.exists()
        assert score(paths, out, existing="resume").is_old
        assert not OutputPaths(out).pieces.exists()


def test_an_input_that_has_grown(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 3, 100)
    out = tmp_path / "out.jsonl"

    def grow(_: Tally) -> None:
        with paths[2].open("a") as file:
            file.write("{}\n")

    with pytest.raises(InputError, match=r"part2\.jsonl has changed") as raised:
        driver.score_on_ray(run_over(paths, out), CONFIG, Resources(workers=2), grow)
    assert raised.value.hint == "use a copy of an input that others write to"
    with pytest.raises(OutputError, match=r"the size of .*part2\.jsonl was"):
        score(paths, out, existing="resume")


def test_how_many_rows_were_truncated_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(('{"instruction": "a", "output": "' + "word " * 200 + '"}\n') * 9)
    config = CONFIG.model_copy(update={"max_length": 64})
    driver.score_on_ray(run_over([path], tmp_path / "o.jsonl"), config, Resources(workers=2))
    assert "9 rows were truncated in all" in caplog.text


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
    assert not OutputPaths(out, is_folder=True).pieces.exists()


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
