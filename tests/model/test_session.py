"""Batches that a session refuses, what it reports to nobody, and what it times."""

from pathlib import Path

import numpy as np
import pytest

from harmless_export import export_checkpoint
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.runner import ShapeTimes
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from processes import Harmless


def test_sessions(artifact: Artifact, checkpoint: Path, tmp_path: Path) -> None:
    session = Session(artifact, Target("cpu"), 16)
    with pytest.raises(SessionError, match="a batch has 17 ids, but the session's buffers hold 16"):
        session.submit(np.ones((1, 17), np.int64)).result()
    with pytest.raises(SessionError, match="failed on"):
        session.submit(np.full((1, 2), 10**6)).result()
    bf16 = export_checkpoint(str(checkpoint), tmp_path / "b", precision="bf16", verify=False)
    with pytest.raises(SessionError, match=r"cannot load .*model\.onnx"):
        Session(bf16, Target("cpu"), 16)


def test_nothing_is_reported_to_anybody(tmp_path: Path, harmless: Harmless) -> None:
    done = harmless("demo", env={"PATH": "", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == [], "telemetry keeps a database at home, before it sends"


def test_planning_is_the_extra_time_of_early_runs() -> None:
    times = ShapeTimes()
    assert (times.shapes, times.planning_seconds) == (0, 0.0)
    times.add((2, 50), 1.1)
    times.add((2, 50), 0.3)
    assert times.planning_seconds == 0.0, "there is no pace to compare with yet"
    for _ in range(4):
        times.add((2, 50), 0.1)
    times.add((4, 50), 0.5)
    assert times.shapes == 2
    # At 1 ms a token: 1.1 - 0.1, and 0.3 - 0.1, and 0.5 - 0.2.
    assert times.planning_seconds == pytest.approx(1.5)
