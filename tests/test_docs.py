"""The commands in the documents work as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

from reading import read_rows

DOCS = Path(__file__).parents[1] / "docs"


def test_every_command_of_the_page_about_inputs_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / "inputs.md").read_text(), re.S | re.M)
    assert len(blocks) >= 8
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "PATH": path_with_our_own()}
    script = "set -euo pipefail\n" + "".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = {path.name: read_rows(path) for path in tmp_path.glob("*.jsonl")}
    expected = scores["scores.jsonl"]
    for name in ("from-gzip", "from-array", "from-parquet", "from-saved", "pipe"):
        assert scores[f"{name}.jsonl"] == expected
    assert scores["folder.jsonl"] == scores["pattern.jsonl"] == expected * 2
    assert len(scores["both.jsonl"]) == 3
    assert scores["other-scores.jsonl"][0]["id"] == "x1"
    assert scores["chat-scores.jsonl"] != scores["with-system.jsonl"]
    assert "| Human: How do I boil an egg?" in done.stderr


def path_with_our_own() -> str:
    """Return a PATH on which `harmless` and `python` are those that run the tests."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
