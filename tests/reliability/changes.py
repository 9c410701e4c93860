"""Change files as other programs do while a run reads them."""

import os
import random
from collections.abc import Callable
from pathlib import Path


def append(path: Path, rng: random.Random) -> None:
    """Add a row, or only a line end."""
    with path.open("ab") as file:
        file.write(rng.choice([b'{"id": "more", "instruction": "a", "output": "b"}\n', b"\n"]))


def truncate(path: Path, rng: random.Random) -> None:
    """Cut the file anywhere."""
    os.truncate(path, rng.randrange(path.stat().st_size))


def write_other_bytes(path: Path, rng: random.Random) -> None:
    """Write in place, so that the size stays."""
    content = bytearray(path.read_bytes())
    for _ in range(20):
        place = rng.randrange(len(content))
        content[place : place + 1] = rng.choice([b"x", b"7", b" "])
    with path.open("r+b") as file:
        file.write(content)


def rename_another_over_it(path: Path, rng: random.Random) -> None:
    """Do what programs do that replace a file in a single step."""
    other = path.with_name(".other")
    content = path.read_bytes()
    keeps_size = rng.random() < 0.5
    other.write_bytes(content[::-1] if keeps_size else content[: len(content) // 2])
    if keeps_size:  # then only the file itself is another one
        times = path.stat()
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def remove(path: Path, _: random.Random) -> None:
    """Remove the file."""
    path.unlink()


CHANGES: list[Callable[[Path, random.Random], None]] = [
    append, truncate, write_other_bytes, rename_another_over_it, remove,
]  # fmt: skip
