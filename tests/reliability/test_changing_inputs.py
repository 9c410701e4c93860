"""Inputs that change in the middle of a run: each row counts once, or the run says so and ends."""

import os
import random
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from changes import CHANGES, append
from interrupted import score

from forms import FORMS, jsonl, make_rows
from harmless_runtime.errors import ChangedError, InputError, OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.scores.cut import Wanted, find_cut
from harmless_runtime.scores.select import Selection, select_rows
from harmless_runtime.tally import Tally
from processes import COMMAND, wait_for
from runs import cpu_engine
from servers import WebServer, serving

COUNT = 240


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine(window_rows=24, piece_bytes=2048)


NAMES = sorted(FORMS)


def sources_of(path: Path) -> set[Path]:
    return {Path(source.where) for source in open_inputs([str(path)]).sources}


def check_a_change(number: int, engine: Engine, folder: Path) -> str:
    """Change an input of a run at a random moment; return what came of the run."""
    rng = random.Random(number)
    write = FORMS[NAMES[number % len(NAMES)]]
    (folder / "in").mkdir()
    path = write(make_rows(COUNT), folder / "in")
    options: dict[str, Any] = {"reading": Reading("alpaca")}
    if rng.random() < 0.3:
        options["join"] = "score"
    score(path, folder / "expected.jsonl", engine, **options)
    expected = (folder / "expected.jsonl").read_bytes()
    kept = folder / "kept"
    shutil.copytree(folder / "in", kept, copy_function=shutil.copy2)
    victim = rng.choice(sorted(sources_of(path)))
    change, moment = rng.choice(CHANGES), rng.randrange(COUNT + 12)
    changed = False

    def progress(tally: Tally) -> None:
        nonlocal changed
        if tally.rows >= moment and not changed:
            changed = True
            change(victim, rng)

    out = folder / "out.jsonl"
    if moment > COUNT:  # the last report of a run comes before that
        score(path, out, engine, progress, **options)
        outcome = "scored"
    else:
        with pytest.raises(InputError, match=r"has changed since the run began|No such file"):
            score(path, out, engine, progress, **options)
        assert not out.exists()
        shutil.copytree(kept, folder / "in", copy_function=shutil.copy2, dirs_exist_ok=True)
        outcome = "resumed"
        try:
            score(path, out, engine, existing="resume", **options)
        except OutputError:  # rows of the changed input were scored, and are kept
            outcome = "refused"
            assert not out.exists()
            score(path, out, engine, existing="overwrite", **options)
    assert out.read_bytes() == expected
    return outcome


@pytest.mark.parametrize("number", range(3 * len(NAMES)))
def test_a_change_at_any_moment_is_noticed(number: int, engine: Engine, tmp_path: Path) -> None:
    check_a_change(number, engine, tmp_path)


def test_a_file_that_is_cut_while_the_command_runs(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(jsonl(make_rows(20_000)))
    command: list[str | Path] = [COMMAND, "score", rows, "-o", out, "--model", "demo"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "out.jsonl.state")
    os.truncate(rows, rows.stat().st_size // 3)
    _, stderr = run.communicate()
    assert run.returncode == 1
    assert "rows.jsonl has changed since the run began" in stderr
    assert "continue with the input as it was, and" in stderr
    assert "start again with the input as it is now: --overwrite" in stderr
    assert not out.exists()
    assert (tmp_path / "out.jsonl.state").exists()
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "the size of" in again.stderr


def test_a_file_that_comes_by_standard_input(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(jsonl(make_rows(20_000)))
    command: list[str | Path] = [COMMAND, "score", "-", "-o", out, "--model", "demo"]
    with rows.open("rb") as stdin:
        run = subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE, text=True)
        wait_for(tmp_path / "out.jsonl.state")
        append(rows, random.Random(0))
        _, stderr = run.communicate()
    assert run.returncode == 1
    assert "standard input has changed since the run began" in stderr
    assert not out.exists()


def test_an_object_that_is_replaced_during_the_run(store: Any, tmp_path: Path) -> None:
    rows = make_rows(COUNT)
    store.pipe("/rows.jsonl", jsonl(rows))
    out = tmp_path / "out.jsonl"

    def replace(tally: Tally) -> None:
        if 0 < tally.rows < 100:
            store.pipe("/rows.jsonl", jsonl(rows))

    with pytest.raises(InputError, match=r"memory://rows\.jsonl has changed since the run began"):
        score(["memory://rows.jsonl"], out, cpu_engine(window_rows=24), replace)
    assert not out.exists()


def test_a_file_of_a_web_server_that_is_replaced_during_the_run(tmp_path: Path) -> None:
    folder, out = tmp_path / "web", tmp_path / "out.jsonl"
    folder.mkdir()
    rows = make_rows(COUNT)
    (folder / "rows.jsonl").write_bytes(jsonl(rows))

    def replace(tally: Tally) -> None:
        if tally.rows:
            (folder / "rows.jsonl").write_bytes(jsonl(rows[::-1]))

    with serving(partial(WebServer, folder=folder)) as url:
        with pytest.raises(InputError, match=r"/rows\.jsonl has changed since the run began"):
            score([f"{url}/rows.jsonl"], out, cpu_engine(window_rows=24), replace)
        score([f"{url}/rows.jsonl"], out, cpu_engine(), existing="overwrite")
    assert len(out.read_bytes().splitlines()) == COUNT


def test_rows_that_grow_while_they_are_selected(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(jsonl([{"id": n, "score": n} for n in range(1000)]))
    selection = Selection((str(rows),), tmp_path / "kept.jsonl", Wanted(-1, None))
    with pytest.MonkeyPatch.context() as patches:

        def grown(*arguments: Any) -> Any:
            append(rows, random.Random(1))
            return find_cut(*arguments)

        patches.setattr("harmless_runtime.scores.select.find_cut", grown)
        with pytest.raises(ChangedError, match=r"rows\.jsonl has changed since the run began"):
            select_rows(selection)
    assert not (tmp_path / "kept.jsonl").exists()


@pytest.mark.slow
def test_two_hundred_changes(engine: Engine, tmp_path: Path) -> None:
    seen = []
    for number in range(1000, 1200):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen.append(check_a_change(number, engine, folder))
        shutil.rmtree(folder)
    assert {"scored", "resumed"} <= set(seen)
