"""What a device has to show before it is trusted, and what becomes of a run when it fails."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from harmless_export import verify_artifact
from harmless_runtime.config import make_config
from harmless_runtime.errors import ArtifactError, OutOfMemoryError, SessionError
from harmless_runtime.model import engine as engine_module
from harmless_runtime.model.artifact import Artifact, open_artifact, write_manifest
from harmless_runtime.model.engine import Engine, build_engine, load_engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.trial import try_session

# What onnxruntime-gpu 1.31.1 says on a B200.
NO_KERNELS = (
    "Non-zero status code returned while running Gather node. Status Message: CUDA error "
    "cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device"
)


@pytest.fixture
def verified(artifact: Artifact, checkpoint: Path, tmp_path: Path) -> Artifact:
    """The artifact with a reference, in a folder of its own."""
    folder = tmp_path / "verified"
    folder.mkdir()
    for file in artifact.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return verify_artifact(folder, checkpoint=str(checkpoint), provider="cpu")


def rewire(session: Session, run: Any) -> Session:
    session._run = run  # type: ignore[method-assign]
    return session


def raising(message: str, kind: type[SessionError] = SessionError) -> Any:
    def run(_: NDArray[np.int64]) -> NDArray[np.float32]:
        raise kind("onnxruntime failed on (3, 64)") from RuntimeError(message)

    return run


def test_the_reference_is_pytorchs_score_of_a_bundled_text(
    verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    reference = verified.manifest.reference
    assert reference is not None
    parity = verified.manifest.parity[0]
    assert reference.tolerance == pytest.approx(parity.limit * parity.score_std)
    session = Session(verified, "cpu", 0, 1024)
    try_session(session, verified, 0)
    assert not caplog.records
    assert session.times.shapes == 0, "it is not counted as a run"
    (score,) = session.submit(np.array([reference.ids])).result()
    assert abs(score - reference.score) <= reference.tolerance
    assert open_artifact(verified.folder).manifest == verified.manifest


def test_a_device_that_computes_nonsense_is_noticed(
    verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(verified, "cpu", 0, 1024)
    run = session._run
    try_session(rewire(session, lambda ids: run(ids) + 1), verified, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CUDA device 3 scores the reference text" in caplog.text
    assert f"run harmless verify {verified.folder}" in caplog.text
    with pytest.raises(SessionError, match=r"scores of a few rows are \[nan, nan, nan\]"):
        try_session(rewire(session, lambda ids: run(ids) * np.nan), verified, 0)


def test_a_trial_takes_no_more_than_there_is_room_for(
    artifact: Artifact, verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    reference = verified.manifest.reference
    assert reference is not None
    shapes: list[tuple[int, ...]] = []
    for room in (1, 5, len(reference.ids), 2 * len(reference.ids)):
        session = Session(verified, "cpu", 0, room)

        def noted(ids: NDArray[np.int64], run: Any = session._run) -> NDArray[np.float32]:
            shapes.append(ids.shape)
            rewards: NDArray[np.float32] = run(ids)
            return rewards

        try_session(rewire(session, noted), verified, 0)
    longest = len(reference.ids)
    assert shapes == [(1, 1), (1, 5), (1, longest), (2, longest)]
    assert artifact.manifest.reference is None
    try_session(Session(artifact, "cpu", 0, 1024), artifact, 0)  # which has no text to compare
    assert not caplog.records, "a text that was cut is not compared"


def test_a_trial_that_fails_says_what_to_do(artifact: Artifact) -> None:
    session = Session(artifact, "cpu", 0, 1024)
    with pytest.raises(SessionError, match=r"CUDA device 1 cannot run .*has no code for this GPU"):
        try_session(rewire(session, raising(NO_KERNELS)), artifact, 1)
    with pytest.raises(OutOfMemoryError, match="no room for a few rows: use a higher"):
        try_session(rewire(session, raising("", OutOfMemoryError)), artifact, 1)


@pytest.mark.parametrize(
    ("kind", "requested"),
    [(SessionError, "auto"), (SessionError, "cuda"), (OutOfMemoryError, "auto")],
)
def test_only_auto_takes_the_cpu_instead(
    kind: type[SessionError],
    requested: str,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(
        engine_module, "select_provider", lambda name, _: "cpu" if name == "cpu" else "cuda"
    )

    def build(artifact: Artifact, provider: str, **settings: Any) -> Engine:
        if provider == "cuda":
            raise kind("CUDA device 0 cannot run it")
        return build_engine(artifact, "cpu", **settings)

    monkeypatch.setattr(engine_module, "build_engine", build)
    config = make_config({"model": str(artifact.folder), "provider": requested})
    if kind is SessionError and requested == "auto":
        assert load_engine(config).session.provider == "cpu"
        assert "running on the CPU, because CUDA device 0 cannot run it" in caplog.text
    else:
        with pytest.raises(kind, match="CUDA device 0 cannot run it"):
            load_engine(config)


def test_a_reference_outside_the_vocabulary_is_refused(verified: Artifact) -> None:
    manifest = verified.manifest
    assert manifest.reference is not None
    for ids in ([], [-1], [manifest.vocab_size]):
        broken = msgspec.structs.replace(manifest.reference, ids=ids)
        write_manifest(verified.folder, msgspec.structs.replace(manifest, reference=broken))
        with pytest.raises(ArtifactError, match=r"reference\.ids are"):
            open_artifact(verified.folder)
