"""A disk that knows what was synchronised, and lets the process die between two steps.

At a power cut the rest is lost, either all of it or what chance decides, because a disk may write
anything early. Chance decides for each new, changed or removed name, and for how many of the
appended bytes are kept.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from harmless_runtime.output import disk

STEPS = ("append", "sync", "sync_folder", "rename", "remove", "truncate")


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


def losses(seeds: int = 8) -> Iterator[Callable[[Disk], None]]:
    """Yield what may be lost when the process dies."""
    yield lambda _: None  # a kill: the operating system still has everything that was written
    yield lambda watched: watched.cut_power(None)
    for seed in range(seeds):
        yield partial(Disk.cut_power, chance=random.Random(seed))
