"""A device is tried before it is trusted, and what happens if the trial fails."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harmless_export import verify_artifact
from harmless_runtime.config import ScorerConfig, make_config
from harmless_runtime.errors import ArtifactError, OutOfMemoryError, SessionError
from harmless_runtime.model import load
from harmless_runtime.model.artifact import Artifact, open_artifact, write_manifest
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import build_engine, load_engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.trial import try_runner
from runners import ChangedRunner, Ids, Rewards

# The error of onnxruntime-gpu 1.31.1 on a B200.
NO_KERNELS = (
    "Non-zero status code returned while running Gather node. Status Message: CUDA error "
    "cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device"
)


@pytest.fixture
def verified(artifact: Artifact, checkpoint: Path, tmp_path: Path) -> Artifact:
    """A copy of the artifact that was verified, and so has a reference text."""
    folder = tmp_path / "verified"
    folder.mkdir()
    for file in artifact.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return verify_artifact(folder, checkpoint=str(checkpoint), provider="cpu")


def raising(error: SessionError) -> Callable[[Ids, Rewards], Rewards]:
    def change(_ids: Ids, _rewards: Rewards) -> Rewards:
        raise error from RuntimeError(NO_KERNELS)

    return change


def test_the_reference_is_pytorchs_score_of_a_bundled_text(
    verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    reference = verified.manifest.reference
    assert reference is not None
    parity = verified.manifest.parity[0]
    assert reference.tolerance == pytest.approx(parity.limit * parity.score_std)
    session = Session(verified, Target("cpu"), 1024)
    try_runner(session, verified, 0)
    assert not caplog.records
    assert session.times.shapes == 0, "it is not counted as a run"
    (score,) = session.submit(np.array([reference.ids])).result()
    assert abs(score - reference.score) <= reference.tolerance
    assert open_artifact(verified.folder).manifest == verified.manifest


def test_a_device_that_computes_nonsense_is_reported(
    verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(verified, Target("cpu"), 1024)
    try_runner(ChangedRunner(session, lambda _, rewards: rewards + 1), verified, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CUDA device 3 scores the reference text" in caplog.text
    assert f"run harmless verify {verified.folder}" in caplog.text
    broken = ChangedRunner(session, lambda _, rewards: rewards * np.float32(np.nan))
    with pytest.raises(SessionError, match=r"scores of a few rows are \[nan, nan, nan\]"):
        try_runner(broken, verified, 0)


def test_a_trial_takes_no_more_rows_than_there_is_room_for(
    artifact: Artifact, verified: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    reference = verified.manifest.reference
    assert reference is not None
    shapes: list[tuple[int, ...]] = []
    for room in (1, 5, len(reference.ids), 2 * len(reference.ids)):
        session = Session(verified, Target("cpu"), room)

        def note(ids: Ids, rewards: Rewards) -> Rewards:
            shapes.append(ids.shape)
            return rewards

        try_runner(ChangedRunner(session, note), verified, 0)
    longest = len(reference.ids)
    assert shapes == [(1, 1), (1, 5), (1, longest), (2, longest)]
    assert artifact.manifest.reference is None
    try_runner(Session(artifact, Target("cpu"), 1024), artifact, 0)  # it has no reference text
    assert not caplog.records, "a text that was cut is not compared"


def test_a_trial_that_fails_says_what_to_do(artifact: Artifact) -> None:
    session = Session(artifact, Target("cpu"), 1024)
    with pytest.raises(SessionError, match=r"CUDA device 1 cannot run .*has no code for this GPU"):
        try_runner(ChangedRunner(session, raising(SessionError("failed"))), artifact, 1)
    with pytest.raises(OutOfMemoryError, match=r"no room for a few rows\nhint: raise `gpu_memory`"):
        try_runner(ChangedRunner(session, raising(OutOfMemoryError("failed"))), artifact, 1)


@pytest.mark.parametrize(
    ("kind", "requested"),
    [(SessionError, "auto"), (SessionError, "cuda"), (OutOfMemoryError, "auto")],
)
def test_only_auto_falls_back_to_the_cpu(
    kind: type[SessionError],
    requested: str,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(
        load, "choose_provider", lambda name, *_: "cpu" if name == "cpu" else "cuda"
    )

    def build(artifact: Artifact, target: Target, config: ScorerConfig) -> Engine:
        if target.provider == "cuda":
            raise kind("CUDA device 0 cannot run it")
        return build_engine(artifact, target, config)

    monkeypatch.setattr(load, "build_engine", build)
    config = make_config({"model": str(artifact.folder), "provider": requested})
    if kind is SessionError and requested == "auto":
        assert load_engine(config).runner.target.provider == "cpu"
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
