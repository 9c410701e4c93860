"""A checkpoint and its fp32 artifact, made once a run, and a way to run the command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import make_model, save_checkpoint
from harmless_export import export_checkpoint
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.providers import select_provider

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where CUDA does not work, and say why."""
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if needy:
        try:
            select_provider("cuda", 0)
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


@pytest.fixture
def harmless() -> Run:
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
