"""A checkpoint and its fp32 artifact, made once, and a way to run the command."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from checkpoints import make_model, save_checkpoint
from forms import jsonl, make_rows
from harmless_export import export_checkpoint
from harmless_export.reference import pytorch_scores
from harmless_runtime import bundled
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.providers import choose_provider
from harmless_runtime.rows.prompt import question_and_answer
from processes import Harmless
from reading import read_rows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU if CUDA does not work here, and say why."""
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if needy:
        try:
            choose_provider("cuda", "fp32")
        except SessionError as error:
            for item in needy:
                item.add_marker(pytest.mark.skip(reason=f"not run: {error}"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), make_model())


@pytest.fixture(scope="session")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("artifact") / "fp32"
    return export_checkpoint(str(checkpoint), out, verify=False)


@pytest.fixture(scope="session")
def demo_truth(checkpoint: Path) -> list[float]:
    """PyTorch's scores of the bundled rows in fp32, with the Hugging Face tokenizer."""
    pairs = [
        question_and_answer(row["instruction"], row.get("input", ""), row["output"])
        for row in read_rows(bundled.ROWS)
    ]
    scores: list[float] = pytorch_scores(checkpoint, pairs, 1024).tolist()
    return scores


@pytest.fixture
def harmless() -> Harmless:
    """Runs `harmless` with arguments in a process of its own."""

    def run(*args: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-m", "harmless_runtime", *args],
            capture_output=True,
            text=True,
            check=False,
            **kwargs,
        )

    return run


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two cores for the tests of a module, which are skipped if there is none here."""
    module = pytest.importorskip("ray")
    how = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    module.init("local", num_cpus=2, **how)
    yield module
    module.shutdown()


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store in memory, which is empty."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is on its way to a store in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/harmless-scorer/outputs"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of 30 rows and a line that is none."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(jsonl(make_rows(30)) + b"oops\n")
    return path
