"""A run that dies between any two steps of writing, by a kill or a power cut, and is resumed.

A simulated disk knows what was synchronised. At a power cut the rest is lost, either all of it or
what chance decides, because a disk may write anything early. Chance decides for each new, changed
or removed name, and for how many of the appended bytes are kept.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.state import read_state
from harmless_runtime.output.writer import open_output
from harmless_runtime.rows.records import Reject
from reading import read_folder
from runs import make_run

STEPS = ("append", "sync", "sync_folder", "rename", "remove", "truncate")
LINES = [Reject("rows", n, "", b"row %d" % n) for n in range(1, 12)]
WINDOWS = [LINES[:3], LINES[3:4], LINES[4:8], LINES[8:]]


class DeadError(BaseException):
    """The process is gone, and nothing after this reaches the disk."""


@dataclass
class Disk:
    """Stands between the code and the disk, and lets the process die before a given step."""

    folder: Path
    die_at: int
    steps: int = 0
    synced: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    committed: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin with the files that exist, and count them as synchronised."""
        self.names = self.seen = self.listing()
        for path in self.folder.iterdir():
            self.synced[path.stat().st_ino] = path.read_bytes()
        for step in STEPS:
            monkeypatch.setattr(disk, step, self.watch(step, getattr(disk, step)))

    def listing(self) -> dict[str, int]:
        for path in self.folder.iterdir():
            self.held.append(os.open(path, os.O_RDONLY))  # so that no inode is used again
        return {path.name: path.stat().st_ino for path in self.folder.iterdir()}

    def watch(self, name: str, step: Callable[..., None]) -> Callable[..., None]:
        def watched(*arguments: Any) -> None:
            self.notice()
            self.steps += 1
            if self.steps > self.die_at:
                raise DeadError
            step(*arguments)
            if name == "sync":
                self.sync(arguments[0])
            elif name == "sync_folder":
                self.names, self.changes = self.listing(), []
            elif name in ("rename", "remove"):
                self.changes.append((name, *(path.name for path in arguments)))
            self.seen = self.listing()

        return watched

    def note_commit(self, lines: int) -> None:
        """Note that so many lines are on the disk."""
        self.committed = lines

    def notice(self) -> None:
        """Note the files that were created since the last step."""
        now = self.listing()
        made = sorted(now.keys() - self.seen.keys())
        self.changes += [("make", name, now[name]) for name in made]
        self.seen = now

    def sync(self, file: BinaryIO) -> None:
        number = file.fileno()
        self.synced[os.fstat(number).st_ino] = Path(f"/proc/self/fd/{number}").read_bytes()

    def cut_power(self, chance: random.Random | None) -> None:
        """Keep what was synchronised, and of the rest nothing or what chance decides."""
        now = {path.stat().st_ino: path.read_bytes() for path in self.folder.iterdir()}
        names = dict(self.names)
        for change, *about in self.changes:
            if chance is None or chance.random() < 0.5:
                continue
            match change, about:
                case "make", [name, number]:
                    names[name] = number
                case "remove", [name]:
                    names.pop(name, None)
                case "rename", [source, target] if source in names:
                    names[target] = names.pop(source)
        image = {}
        for name, number in names.items():
            kept = self.synced.get(number, b"")
            current = now.get(number, kept)
            if chance is not None and len(current) > len(kept):
                kept = current[: chance.randint(len(kept), len(current))]
            image[name] = kept
        for path in self.folder.iterdir():
            path.unlink()
        for name, content in image.items():
            (self.folder / name).write_bytes(content)

    def close(self) -> None:
        for number in self.held:
            os.close(number)


def score(out: Path, existing: str, on_commit: Callable[[int], None] = lambda _: None) -> None:
    """Write as the pipeline does, with a commit after each window. Every third row is a reject."""
    run = make_run([], out, existing=existing, commit_seconds=0)
    with open_output(run, {"the input": "rows"}) as output:
        if output.is_complete:
            return
        left = iter(LINES)
        if output.resumed is not None:
            output.done.skip(left, output.resumed)
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
    if is_done(folder):
        with pytest.raises(OutputError, match="there is nothing to resume"):
            score(folder / "s.jsonl", "resume")
    else:
        score(folder / "s.jsonl", "resume")


def losses() -> Iterator[Callable[[Disk], None]]:
    yield lambda _: None  # a kill: the operating system still has everything that was written
    yield lambda watched: watched.cut_power(None)
    for seed in range(8):
        yield partial(Disk.cut_power, chance=random.Random(seed))


@pytest.mark.parametrize("older", [False, True], ids=["new output", "older output replaced"])
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
                assert read_folder(folder)["s.jsonl"] == b"an older run's\n"
                assert read_folder(folder)["s.rejects.jsonl"] == b"an older run's\n"
                continue
            if not survived:
                resume(folder)
            assert read_folder(folder) == expected, (die_at, number)
        die_at += 1
    assert die_at > 40


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
