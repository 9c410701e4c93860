"""The engine: order restored, equal rows computed once, and what happens if a batch fails."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harmless_runtime.config import make_config
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import Fp32Fallback, build_engine
from harmless_runtime.model.session import Session, cuda_options, is_out_of_memory
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer
from harmless_runtime.model.work import ScoredBatch
from runners import ChangedRunner, CrampedRunner, Ids, Rewards
from runs import cpu_engine

# The texts of onnxruntime's arena, its limit, CUDA and cuBLAS when memory runs out.
OUT_OF_MEMORY = [
    "Failed to allocate memory for requested buffer of size 939524096",
    "Available memory of 0 is smaller than requested bytes of 5120",
    "CUDA failure 2: out of memory ; GPU=0",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
]


def make_engine(artifact: Artifact, limits: Limits) -> Engine:
    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    return Engine(artifact, tokenizer, Session(artifact, Target("cpu"), 4096), limits)


def random_rows(count: int, longest: int = 90) -> list[Encoded]:
    rng = np.random.default_rng(2)
    return [
        Encoded(rng.integers(1, 600, n).astype(np.int32), False)
        for n in rng.integers(1, longest, count)
    ]


def one_by_one(engine: Engine, rows: list[Encoded]) -> list[np.float32]:
    alone = [engine.runner.submit(row.ids[None].astype(np.int64)) for row in rows]
    return [rewards.result()[0] for rewards in alone]


@pytest.mark.parametrize("multiple", [1, 8])
def test_order_is_restored(artifact: Artifact, multiple: int) -> None:
    engine = make_engine(artifact, Limits(256, 10**6, length_multiple=multiple, max_length=1024))
    rows = random_rows(40)
    done: list[ScoredBatch] = []
    scores = engine.score(rows, done.append)
    np.testing.assert_allclose(scores, one_by_one(engine, rows), atol=2e-4)
    assert sorted(i for batch in done for i in batch.rows) == list(range(40))
    real = sum(batch.tokens - batch.padding for batch in done)
    assert real == sum(len(row.ids) for row in rows)
    assert len(engine.score([])) == 0


def test_duplicates_are_computed_once(artifact: Artifact) -> None:
    engine = cpu_engine(artifact.folder)
    rows = [Encoded(np.array(ids, np.int32), False) for ids in ([5, 6], [7], [5, 6], [7], [5, 6])]
    batches: list[ScoredBatch] = []
    scores = engine.score(rows, batches.append)
    assert len(batches) == 1
    assert (sorted(batches[0].rows), batches[0].tokens, batches[0].padding) == (
        [0, 1, 2, 3, 4],
        4,
        1,
    )
    alone = [engine.score([row])[0] for row in rows]
    np.testing.assert_allclose(scores, alone, atol=2e-4)
    assert scores[0] == scores[2] == scores[4] != scores[1]


def test_a_set_of_rows_begins_while_the_one_before_is_run(artifact: Artifact) -> None:
    free = make_engine(artifact, Limits(256, 10**6))
    assert isinstance(free.runner, Session)
    events: list[str] = []

    def note(_ids: Ids, rewards: Rewards) -> Rewards:
        events.append("run")
        return rewards

    engine = replace(free, runner=ChangedRunner(free.runner, note))
    rows = random_rows(40)
    sets = [rows[:1], [], rows[1:20], rows[20:]]
    waited: list[bool] = []
    left = iter(sets)

    def more(wait: bool) -> list[Encoded] | None:
        waited.append(wait)
        events.append("more")
        return next(left, None)

    scores = list(engine.score_in_turn(more))
    assert [len(each) for each in scores] == [len(each) for each in sets]
    np.testing.assert_allclose(np.concatenate(scores), free.score(rows), atol=2e-4)
    assert waited[:3] == [True, False, False]
    assert events[:4] == ["more", "run", "more", "more"], "the first set is not waited for"


def test_no_set_is_waited_for_while_another_can_be_finished(artifact: Artifact) -> None:
    engine = make_engine(artifact, Limits(256, 10**6))
    rows = random_rows(9)
    left = iter([rows[:3], None, rows[3:], None, None])
    waited: list[bool] = []

    def more(wait: bool) -> list[Encoded] | None:
        waited.append(wait)
        return next(left)

    scores = engine.score_in_turn(more)
    assert len(next(scores)) == 3
    assert waited == [True, False], "the first set is given without the second"
    assert len(next(scores)) == 6
    assert waited == [True, False, True, False]
    assert list(scores) == []
    assert waited[-1], "the end is known only after waiting"


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_errors_of_memory_are_recognised(error: str) -> None:
    assert is_out_of_memory(RuntimeError(error))
    assert not is_out_of_memory(RuntimeError("CUDA failure 700: an illegal memory access"))


def cramp(engine: Engine, room: int) -> Engine:
    """Return an engine whose runner has room for so many ids."""
    assert isinstance(engine.runner, Session)
    return replace(engine, runner=CrampedRunner(engine.runner, room))


def test_a_batch_without_room_is_halved_until_it_fits(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    rows = random_rows(300)
    free = make_engine(artifact, Limits(4096, 10**6))
    expected = one_by_one(free, rows)
    engine = cramp(free, 700)
    done: list[ScoredBatch] = []
    scores = engine.score(rows, done.append)
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    assert sorted(i for batch in done for i in batch.rows) == list(range(300))
    assert max(batch.tokens for batch in done) <= 700
    assert "memory has no room for a batch of" in caplog.text
    # The engine learns: only batches that were submitted before memory ran out fail.
    assert len(caplog.records) <= 6
    caplog.clear()
    assert engine.score(rows).tolist() == scores.tolist()
    assert not caplog.records


def test_a_row_without_room_is_an_error_that_says_so(artifact: Artifact) -> None:
    engine = cramp(make_engine(artifact, Limits(4096, 10**6)), 50)
    with pytest.raises(SessionError, match=r"no room for a single row of \d+ tokens\nhint: lower"):
        engine.score(random_rows(20))


def test_another_failure_is_not_taken_for_a_lack_of_memory(artifact: Artifact) -> None:
    free = make_engine(artifact, Limits(4096, 10**6))
    assert isinstance(free.runner, Session)

    def fail(ids: Ids, _rewards: Rewards) -> Rewards:
        raise SessionError(f"onnxruntime failed on {ids.shape}: an illegal memory access")

    engine = replace(free, runner=ChangedRunner(free.runner, fail))
    with pytest.raises(SessionError, match=r"onnxruntime failed on .*illegal memory access"):
        engine.score(random_rows(300))


def test_a_session_that_runs_out_of_memory_says_so_and_goes_on(artifact: Artifact) -> None:
    program = f"""
import pathlib, resource, numpy as np
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.errors import OutOfMemoryError
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target

session = Session(open_artifact(pathlib.Path({str(artifact.folder)!r})), Target("cpu"), 2**17)
few = np.full((2, 512), 7)
expected = session.submit(few).result()
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, limits[1]))
try:
    session.submit(np.full((256, 512), 7)).result()
except OutOfMemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
assert session.capacity == 2**16, session.capacity
assert (session.submit(few).result() == expected).all()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime failed on (256, 512)" in done.stdout


def test_rows_that_overflow_are_scored_in_fp32(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    rows = random_rows(30)
    fp32 = build_engine(artifact, Target("cpu"))
    expected = fp32.score(rows)
    assert isinstance(fp32.runner, Session)

    def overflow(ids: Ids, rewards: Rewards) -> Rewards:
        rewards[ids.max(1) > 590] = np.nan
        return rewards

    broken = replace(fp32, runner=ChangedRunner(fp32.runner, overflow))
    affected = sum(row.ids.max() > 590 for row in rows)
    assert 0 < affected < 30
    assert np.isnan(broken.score(rows)).sum() == affected
    assert not caplog.text
    fallback = Fp32Fallback(make_config({"model": str(artifact.folder), "provider": "cpu"}))
    mended = replace(broken, fp32_fallback=fallback.engine)
    np.testing.assert_allclose(mended.score(rows), expected, atol=2e-4)
    assert f"scoring {affected} rows in fp32" in caplog.text
    assert fallback.engine() is fallback.engine(), "it is loaded once"


def test_a_fallback_that_cannot_be_loaded_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fallback = Fp32Fallback(make_config({"model": str(tmp_path), "provider": "cpu"}))
    assert fallback.engine() is None
    assert "cannot score in fp32: " in caplog.text


def test_limits_of_memory(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"the weights of .* alone take 0.00 GB"):
        cuda_options(artifact, Target("cuda", gpu_memory=1e-6))
    options = cuda_options(artifact, Target("cuda", device=1, gpu_memory=1.5))
    assert options["use_tf32"] == "0", "fp32 is held to PyTorch's"
    assert options["gpu_mem_limit"] == "1500000000", "the arena counts the weights as well"
    assert options["device_id"] == "1"
