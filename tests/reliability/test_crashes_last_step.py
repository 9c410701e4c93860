"""A run that dies while its outputs are made of the scores, for each form, and is resumed."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from simulated_disk import DeadError, Disk, losses

from harmless_runtime.output.fingerprint import skip_finished
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.record import finished_before
from harmless_runtime.output.state import read_state
from harmless_runtime.rows.output_lines import reject_line, score_line
from harmless_runtime.rows.records import Pair
from reading import read_folder
from runs import make_run

COUNT = 9


@dataclass(frozen=True)
class Asked:
    """What is asked for: the name of the output, and whether rows are joined."""

    name: str
    join: bool


SLOW = pytest.mark.slow
ASKED = [
    Asked("s.jsonl", join=True),
    Asked("s.jsonl.gz", join=False),
    Asked("s.jsonl.zst", join=True),
    Asked("s.csv.gz", join=True),
    Asked("s.parquet", join=False),
    Asked("s.parquet", join=True),
    Asked("", join=False),
    Asked("", join=True),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two inputs with the same fields. Every third row cannot be scored."""
    folder = tmp_path_factory.mktemp("rows")
    for part in "ab":
        rows = [
            {"id": f"{part}{n}", "instruction": f"Add {n}.", "output": "done" if n % 3 else None}
            for n in range(COUNT)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "a.jsonl", folder / "b.jsonl"]


def score(sources: list[Path], folder: Path, asked: Asked, existing: str) -> None:
    """Write as the pipeline does, in windows of five rows."""
    run = make_run(
        sources,
        folder / asked.name,
        existing=existing,
        is_folder=not asked.name,
        join="score" if asked.join else None,
        commit_seconds=0,
    )
    fingerprint = {"the input": "rows"}
    if finished_before(run, fingerprint):
        return
    with open_output(run, fingerprint) as output:
        if output.is_complete:
            return
        rows = run.inputs.rows()
        if output.resumed is not None:
            skip_finished(output.done, rows, output.resumed)
        left = list(rows)
        for start in range(0, len(left), 5):
            window = left[start : start + 5]
            scores = [
                score_line(row.id, np.float32(row.number / 7))
                for row in window
                if isinstance(row, Pair)
            ]
            rejects = [reject_line(row) for row in window if not isinstance(row, Pair)]
            output.write(b"".join(scores), b"".join(rejects), window, {})


def die(sources: list[Path], folder: Path, asked: Asked, die_at: int) -> tuple[Disk, bool]:
    """Run until the given step; return whether the run got past it."""
    with pytest.MonkeyPatch.context() as patches:
        watched = Disk(folder, die_at)
        watched.install(patches)
        try:
            score(sources, folder, asked, "refuse")
        except DeadError:
            return watched, False
    return watched, True


def steps_before_the_last(sources: list[Path], folder: Path, asked: Asked) -> int:
    """Return the number of steps until all scores are on the disk."""
    die_at = 0
    while True:
        die_at += 1
        beside = folder / str(die_at)
        beside.mkdir(parents=True)
        watched, _ = die(sources, beside, asked, die_at)
        watched.close()
        base = beside / (asked.name or "_scores")
        state = read_state(base.with_name(base.name + ".state"))
        if state is not None and state.complete:
            return die_at


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(a, id=f"{a.name or 'folder'}-{a.join}", marks=[] if a.join else SLOW)
        for a in ASKED
    ],
)
def test_a_crash_before_any_step_of_the_last(
    tmp_path: Path, sources: list[Path], asked: Asked
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    score(sources, whole, asked, "refuse")
    expected = read_folder(whole)
    assert not [name for name in expected if name.endswith((".partial", ".made", ".state"))]
    survived, die_at = False, steps_before_the_last(sources, tmp_path / "first", asked)
    while not survived:
        for number, lose in enumerate(losses(2)):
            folder = tmp_path / f"{die_at}-{number}"
            folder.mkdir()
            watched, survived = die(sources, folder, asked, die_at)
            if not survived:
                lose(watched)
            watched.close()
            score(sources, folder, asked, "resume")
            assert read_folder(folder) == expected, (die_at, number)
        die_at += 1
    assert die_at > 20
    if asked.name == "s.parquet" and asked.join:
        scores = parquet.read_table(whole / asked.name)["score"].to_pylist()
        assert scores == [None if n % 3 == 0 else np.float32((n + 1) / 7) for n in range(9)] * 2
