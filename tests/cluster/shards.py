"""Make inputs of several files, and runs over them in small pieces."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run


@contextmanager
def own_ray(cpus: int) -> Iterator[Any]:
    """Start a Ray for as long as the block runs, and skip the test if there is no Ray here."""
    ray = pytest.importorskip("ray")
    ray.init(
        "local",
        num_cpus=cpus,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()


def write_shards(folder: Path, files: int, rows: int) -> list[Path]:
    """Write files of rows of mixed length, of which some cannot be read."""
    rng = random.Random(1)
    paths = []
    folder.mkdir(exist_ok=True)
    for number in range(files):
        lines = [
            json.dumps({"id": i, "instruction": f"ask {i}", "output": "word " * rng.randrange(60)})
            if rng.random() > 0.02
            else "{oops"
            for i in range(number * rows, (number + 1) * rows)
        ]
        paths.append(folder / f"part{number}.jsonl")
        paths[-1].write_text("".join(line + "\n" for line in lines))
    return paths


def run_over(paths: list[Path], output: Path, **options: Any) -> Run:
    """Return a run in which each file is a piece."""
    return Run(open_inputs(map(str, paths)), output, piece_bytes=1, **options)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder except records, which tell the time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("run.json")
    }
