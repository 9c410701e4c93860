"""A run that dies between any two steps of writing, by a kill or a power cut, and is resumed."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_disk import DeadError, Disk, losses

from harmless_runtime.output.fingerprint import skip_finished
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.state import read_state
from harmless_runtime.rows.records import Reject
from reading import read_folder
from runs import make_run

LINES = [Reject("rows", n, "", b"row %d" % n) for n in range(1, 12)]
WINDOWS = [LINES[:3], LINES[3:4], LINES[4:8], LINES[8:]]


def score(out: Path, existing: str, on_commit: Callable[[int], None] = lambda _: None) -> None:
    """Write as the pipeline does, with a commit after each window. Every third row is a reject."""
    run = make_run([], out, existing=existing, commit_seconds=0)
    with open_output(run, {"the input": "rows"}) as output:
        if output.is_complete:
            return
        left = iter(LINES)
        if output.resumed is not None:
            skip_finished(output.done, left, output.resumed)
        done = len(LINES) - len(list(left))
        for window in WINDOWS:
            if window[0].number <= done:
                continue
            scores = [b"score %d\n" % line.number for line in window if line.number % 3]
            rejects = [b"reject %d\n" % line.number for line in window if line.number % 3 == 0]
            counts = {"rows": window[-1].number}
            output.write(b"".join(scores), b"".join(rejects), window, counts)
            on_commit(window[-1].number)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    score(folder / "s.jsonl", "refuse")
    done = read_folder(folder)
    assert sorted(done) == ["s.jsonl", "s.rejects.jsonl"]
    assert len(done["s.jsonl"].splitlines()) + len(done["s.rejects.jsonl"].splitlines()) == 11
    return done


def die(folder: Path, die_at: int, existing: str) -> tuple[Disk, bool]:
    """Run until the given step; return whether the run got past it."""
    with pytest.MonkeyPatch.context() as patches:
        watched = Disk(folder, die_at)
        watched.install(patches)
        try:
            score(folder / "s.jsonl", existing, watched.note_commit)
        except DeadError:
            return watched, False
    return watched, True


def is_done(folder: Path) -> bool:
    """Return whether the run was finished, down to the removal of its state."""
    there = {path.name for path in folder.iterdir()}
    return "s.jsonl" in there and "s.jsonl.state" not in there


def check_nothing_is_lost(folder: Path, watched: Disk) -> None:
    """Check that whatever was committed is still there."""
    state = read_state(folder / "s.jsonl.state")
    if watched.committed and not (state is None and is_done(folder)):
        assert state is not None
        assert state.lines >= watched.committed


def resume(folder: Path) -> None:
    if not is_done(folder):
        score(folder / "s.jsonl", "resume")


@pytest.mark.parametrize(
    "older",
    [
        pytest.param(False, id="new output"),
        pytest.param(True, id="older output replaced", marks=pytest.mark.slow),
    ],
)
def test_a_crash_before_any_step(tmp_path: Path, older: bool, expected: dict[str, bytes]) -> None:
    survived, die_at = False, 0
    while not survived:
        for number, lose in enumerate(losses()):
            folder = tmp_path / f"{die_at}-{number}"
            folder.mkdir()
            if older:
                (folder / "s.jsonl").write_bytes(b"an older run's\n")
                (folder / "s.rejects.jsonl").write_bytes(b"an older run's\n")
            watched, survived = die(folder, die_at, "overwrite" if older else "refuse")
            if not survived:
                lose(watched)
            watched.close()
            check_nothing_is_lost(folder, watched)
            if older and not survived and watched.committed < len(LINES) and is_done(folder):
                # Nothing of this run is on the disk, and everything of the older one.
                assert watched.committed == 0
                assert not list(folder.glob("*.partial"))
                assert read_folder(folder)["s.jsonl"] == b"an older run's\n"
                assert read_folder(folder)["s.rejects.jsonl"] == b"an older run's\n"
                continue
            if not survived:
                resume(folder)
            assert read_folder(folder) == expected, (die_at, number)
        die_at += 1
    assert die_at > 40


@pytest.mark.slow
def test_crash_after_crash(tmp_path: Path, expected: dict[str, bytes]) -> None:
    for seed in range(200):
        chance = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        for _ in range(20):
            if is_done(folder):
                break
            watched, survived = die(folder, chance.randint(0, 25), "resume")
            if not survived and chance.random() < 0.7:
                watched.cut_power(chance if chance.random() < 0.7 else None)
            watched.close()
            check_nothing_is_lost(folder, watched)
        resume(folder)
        assert read_folder(folder) == expected, seed
