"""Read what a run wrote."""

import json
from pathlib import Path
from typing import Any

from harmless_runtime.output.paths import OutputPaths


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file with one object on each line."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def read_outputs(out: Path) -> tuple[bytes, bytes]:
    """Read the scores of an output and its rejects, which are empty if there is no such file."""
    rejects = OutputPaths(out).rejects.final
    return out.read_bytes(), rejects.read_bytes() if rejects.exists() else b""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder by its name, except what differs from run to run.

    These are locks, which a killed run leaves behind, and records, which tell the time.
    """
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    different = (".lock", ".run.json", "_run.json")
    return {name: content for name, content in found.items() if not name.endswith(different)}


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())
