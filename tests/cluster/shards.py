"""Make inputs of several files, and runs over them in small pieces."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

from harmless_runtime.cluster.connection import Resources
from harmless_runtime.cluster.driver import score_on_ray
from harmless_runtime.config import make_config
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run
from harmless_runtime.tally import Summary, Tally

CONFIG = make_config({"model": "demo", "provider": "cpu"})


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


def run_over(paths: list[Path], output: Path, parts: int = 2, **options: Any) -> Run:
    """Return a run in which the largest file is cut into some parts."""
    size = 1 + max(path.stat().st_size for path in paths) // parts
    return Run(open_inputs(map(str, paths)), output, piece_bytes=size, **options)


def score(paths: list[Path], out: Path, *, until: int | None = None, **options: Any) -> Summary:
    """Score on Ray; end after so many pieces as Ctrl-C does."""
    folder = OutputPaths(out, options.get("is_folder", False)).pieces

    def on_progress(_: Tally) -> None:
        manifest = folder / "manifest.jsonl"
        if until is not None and manifest.read_bytes().count(b'"piece":') >= until:
            raise KeyboardInterrupt

    return score_on_ray(run_over(paths, out, **options), CONFIG, Resources(workers=2), on_progress)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder except records, which tell the time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("run.json")
    }


def worker_processes() -> list[int]:
    """Return the processes of the workers that score."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if path.read_bytes().startswith(b"ray::Worker"):
                found.append(int(path.parent.name))
    return found


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have started."""
    own = [
        int(child)
        for path in Path("/proc", str(pid), "task").glob("*/children")
        for child in path.read_text().split()
    ]
    return own + [grandchild for child in own for grandchild in children(child)]
