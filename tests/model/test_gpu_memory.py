"""The memory that batches take on a GPU is known beforehand, and large batches come first."""

from dataclasses import replace
from pathlib import Path

import pytest

from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.errors import ArtifactError, ConfigError, OutOfMemoryError
from harmless_runtime.model import on_cuda
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.gpu_memory import MOST_TOKENS, GpuMemory, gpu_memory_of
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.trial import reserve_memory
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Tally
from runners import ChangedRunner, CrampedRunner, Ids, Rewards
from runs import cpu_engine, make_run

LARGE = GpuMemory(weights=1_548_000_000, token=34.25 * 1280)  # GPT-2-large in fp16


def test_the_largest_batches_that_memory_has_room_for() -> None:
    assert LARGE.activations(8192) == pytest.approx(0.359e9, rel=0.01)
    for gigabytes, tokens in ((80, MOST_TOKENS), (3, 31744), (2, 9216), (1, 1024)):
        found = LARGE.most_tokens(round(gigabytes * 1e9), 1024)
        assert found == tokens, gigabytes
        assert found % 1024 == 0
    assert LARGE.most_tokens(80 * 10**9, 1000) == 65000


def test_the_size_of_a_model_is_in_its_artifact(artifact: Artifact, tmp_path: Path) -> None:
    memory = gpu_memory_of(open_artifact(bundled.MODEL))
    weights = (bundled.MODEL / "model.onnx.data").stat().st_size
    assert memory == GpuMemory(weights, 68.5 * 96 + 3 * 2500)
    for content in (None, "{", '{"n_embd": 0, "n_head": 1}', '{"n_embd": 1e30, "n_head": 1}'):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(ArtifactError, match=r"cannot read .*config\.json"):
            gpu_memory_of(replace(artifact, folder=tmp_path))


def test_the_largest_batches_run_first(artifact: Artifact) -> None:
    session = Session(artifact, Target("cpu"), 8192)
    shapes: list[tuple[int, ...]] = []

    def note(ids: Ids, rewards: Rewards) -> Rewards:
        shapes.append(ids.shape)
        return rewards

    assert reserve_memory(ChangedRunner(session, note), artifact, 4096, 1024) == 4096
    assert shapes == [(4, 1024), (16, 248)]
    assert reserve_memory(ChangedRunner(session, note), artifact, 100, 100) == 100
    assert shapes[2:] == [(1, 100), (1, 100)]
    cramped = CrampedRunner(session, 1500)
    assert reserve_memory(cramped, artifact, 4096, 1024) == 1024
    with pytest.raises(OutOfMemoryError, match="memory has no room for a few rows"):
        reserve_memory(CrampedRunner(session, 500), artifact, 4096, 1024)


def test_auto_follows_free_memory_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = open_artifact(bundled.MODEL)
    config = make_config({"batch_size": "auto"})
    assert build_engine(artifact, Target("cpu"), config).limits == cpu_engine().limits
    monkeypatch.setattr(on_cuda, "free_gpu_memory", lambda _: 1_100_000_000)
    for gpu_memory, tokens in ((None, 6144), (0.05, 3072), (8, 6144)):
        limits = on_cuda.limits_of(artifact, Target("cuda", gpu_memory=gpu_memory), config, 1024)
        assert limits.is_derived
        assert limits.batch_tokens == tokens
    with pytest.raises(ConfigError, match="batch_size"):
        make_config({"batch_size": "most"})


def test_a_resumed_run_has_the_batches_of_the_interrupted_one(tmp_path: Path) -> None:
    """Although memory has room for other ones now, or the output is complete."""

    def derived(tokens: int) -> Engine:
        engine = cpu_engine()
        return replace(engine, limits=replace(engine.limits, batch_tokens=tokens, is_derived=True))

    rows = tmp_path / "rows.jsonl"
    texts = ["b " * (n % 90) for n in range(3000)]
    rows.write_text("".join(f'{{"instruction": "a", "output": "{text}"}}\n' for text in texts))

    def interrupt(tally: Tally) -> None:
        if tally.rows > 900:
            raise KeyboardInterrupt

    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    score_files(make_run([rows], one), derived(4096))
    with pytest.raises(KeyboardInterrupt):
        score_files(make_run([rows], two), derived(4096), interrupt)
    resumed = make_run([rows], two, existing="resume")
    done = score_files(resumed, derived(300))
    assert done.resumed.rows > 0
    assert two.read_bytes() == one.read_bytes()
    again = score_files(make_run([rows], one, existing="resume"), derived(500))
    assert again.is_old
