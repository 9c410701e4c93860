"""`harmless score` on a real Ray: the bytes of one machine, whatever dies."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from changes import CHANGES
from pyarrow import parquet
from shards import CONFIG, files_in, run_over, worker_processes, write_shards

from harmless_runtime.cluster import driver
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.record import read_record
from harmless_runtime.tally import Tally
from processes import COMMAND
from runs import cpu_engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of Ray itself
]


def listening() -> set[str]:
    """Return the addresses in hexadecimal that any process of this machine listens at."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {fields[1].split(":")[0] for fields in lines if fields[3] == "0A"}


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "lines": ("out.jsonl", {"details": True}),
    "table": ("out.parquet", {}),
    "joined": ("out.csv", {"join": "harmless_score"}),
    "joined lines": ("out.jsonl.gz", {"join": "harmless_score"}),
    "folder": ("out", {"details": True, "is_folder": True}),
    "joined folder": ("out", {"join": "harmless_score", "is_folder": True}),
}


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("form", FORMS)
def test_the_output_is_that_of_one_machine(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_shards(tmp_path / "rows", 5, 300)
    # Pieces of several inputs, spans of an input, and tables.
    paths[3].write_bytes(paths[3].read_bytes()[:9000])
    paths[2].write_bytes(b"")
    table = tmp_path / "rows/table.parquet"
    rows = [json.loads(line) for line in paths[4].read_bytes().splitlines() if line != b"{oops"]
    parquet.write_table(pa.Table.from_pylist(rows), table, row_group_size=40)
    name, options = FORMS[form]
    if "folder" in form:
        paths.insert(1, table)
    own = tmp_path / "one", tmp_path / "many"
    for folder in own:
        folder.mkdir()
    one = score_files(run_over(paths, own[0] / name, 6, **options), cpu_engine())
    caplog.clear()
    many = driver.score_on_ray(
        run_over(paths, own[1] / name, 6, **options), CONFIG, Resources(workers=2)
    )
    assert files_in(own[1]) == files_in(own[0])
    is_folder = "folder" in form
    records = [read_record(OutputPaths(folder / name, is_folder).record) for folder in own]
    counts = [[facts.rows for facts in record.inputs] for record in records if record]
    assert counts[1] == counts[0]
    assert sum(rows or 0 for rows in counts[1]) == one.tally.rows + one.tally.rejected
    assert caplog.text.count(f"these inputs hold no rows: {paths[2 + is_folder]}\n") == 1
    assert many.tally == one.tally
    assert many.reasons == one.reasons
    assert np.array_equal(many.scores, one.scores)
    # It is complete for either of them.
    again = run_over(paths, own[1] / name, 6, existing="resume", **options)
    assert driver.score_on_ray(again, CONFIG, Resources(workers=1)).is_old


@pytest.mark.usefixtures("ray")
def test_a_worker_that_dies_costs_nothing_but_time(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 6, 1500)
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    killed: list[int] = []

    def kill(_: Any) -> None:
        if len(killed) < 2:
            killed.append(pid := worker_processes()[0])
            os.kill(pid, signal.SIGKILL)

    driver.score_on_ray(run_over(paths, many), CONFIG, Resources(workers=2), kill)
    assert len(killed) == 2
    assert many.read_bytes() == one.read_bytes()
    assert not OutputPaths(many).pieces.exists()


@pytest.mark.usefixtures("ray")
def test_a_piece_that_always_fails_is_named_and_tried_again_later(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 4, 200)
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    run = run_over(paths, many)
    content, times = paths[2].read_bytes(), paths[2].stat()
    planned = threading.Event()

    def change(_: Any) -> None:  # called when the run is planned, and after each piece
        if not planned.is_set():
            planned.set()
            paths[2].write_bytes(content + b"{}\n")

    with pytest.raises(InputError, match=r"part2\.jsonl has changed since the run began"):
        driver.score_on_ray(run, CONFIG, Resources(workers=2), change)
    assert not many.exists()
    with pytest.raises(OutputError, match="holds the pieces of an interrupted run"):
        driver.score_on_ray(run_over(paths, many), CONFIG, Resources(workers=2))
    paths[2].write_bytes(content)
    os.utime(paths[2], ns=(times.st_atime_ns, times.st_mtime_ns))
    done = driver.score_on_ray(
        run_over(paths, many, existing="resume"), CONFIG, Resources(workers=2)
    )
    assert many.read_bytes() == one.read_bytes()
    assert done.resumed.rows > 400, "six pieces were kept"


def test_the_driver_is_killed_and_goes_on(tmp_path: Path) -> None:
    """In processes and a Ray of their own, with files that are large enough to be pieces."""
    pytest.importorskip("ray")
    paths = write_shards(tmp_path / "rows", 3, 2500)
    filler = b" " * (2**20 - 1) + b"\n"  # a blank line cuts each file into pieces
    for path in paths:
        path.write_bytes(path.read_bytes() + filler)
    one = tmp_path / "one.jsonl"
    score_files(run_over(paths, one), cpu_engine())
    many = tmp_path / "many.jsonl"
    options: list[str | Path] = ["-o", many, "--model", "demo", "--workers", "2"]
    command: list[str | Path] = [COMMAND, "score", *paths, *options]
    before = listening()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = OutputPaths(many).pieces / "manifest.jsonl"
    deadline = time.monotonic() + 120
    while not manifest.exists() or manifest.read_bytes().count(b'"piece"') < 1:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.05)
    assert {address[-8:] for address in listening() - before} == {"0100007F"}, "127.0.0.1 alone"
    running.kill()
    running.wait()
    assert not many.exists()
    done = subprocess.run(
        [*command, "--resume"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 3, done.stderr
    assert "rows done by an earlier run" in done.stderr
    assert many.read_bytes() == one.read_bytes()


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", ["lines", "joined folder"])
def test_a_change_at_any_moment_is_noticed(
    change: Callable[[Path, random.Random], None], form: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{form} {change.__name__}")
    name, options = FORMS[form]
    paths = write_shards(tmp_path / "rows", 3, 300)
    one, many = tmp_path / f"one {name}", tmp_path / f"many {name}"
    score_files(run_over(paths, one, **options), cpu_engine())
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "rows", kept)
    moment, changed = rng.randrange(850), False

    def progress(tally: Tally) -> None:
        nonlocal changed
        if tally.rows >= moment and not changed:
            changed = True
            change(rng.choice(paths), rng)

    run = run_over(paths, many, **options)
    with pytest.raises(InputError, match=r"has changed since the run began|No such file"):
        driver.score_on_ray(run, CONFIG, Resources(workers=2), progress)
    assert changed
    assert not any(path.is_file() for path in (many, *many.glob("part*")))
    shutil.copytree(kept, tmp_path / "rows", dirs_exist_ok=True)
    driver.score_on_ray(
        run_over(paths, many, existing="resume", **options), CONFIG, Resources(workers=2)
    )
    assert files_in(many) == files_in(one)
